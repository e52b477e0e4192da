"""The probes: how much of the class a linear layer reads from the codes, and a small network."""

import math
import warnings

import numpy as np

from aebench.evaluation.blocks import Rows, steps

ITERATIONS = 1000
HIDDEN = 200  # of the MLP, as Deep InfoMax's (arXiv 1808.06670) has them
BATCH = 200  # MLPClassifier's own
# Chosen on a tenth of CIFAR-10's training images, PCA-32: 10 epochs at 0.001, 0.003 and 0.01 give
# 50.8, 50.7 and 49.3 %, 20 epochs 50.8, 50.0 and 48.5; 2 s of one core.
EPOCHS, RATE = 10, 0.003
FEWEST = 250  # steps, where 10 epochs have fewer: 32 epochs of digits
FAR = 1e6  # of a query's coordinate, in standard deviations of the bank: no product overflows
BLOCK = 2**20  # floats of the queries' hidden layer held at a time


def probe(bank: np.ndarray, labels: np.ndarray, queries: np.ndarray) -> np.ndarray | None:
    """The labels int64 (N_queries,) that logistic regression on the bank predicts.

    scikit-learn's LogisticRegression with its defaults (multinomial, L2 penalty, C = 1) on codes
    (N, d) that are whitened: the probe does not depend on their basis or scale, and takes 15 steps
    where 100 were not enough for standardised ones (cnn with latent 1000, CIFAR-10). None where the
    bank has one class.
    """
    from sklearn.linear_model import LogisticRegression  # 1.4 s to import

    if len(np.unique(labels)) < 2:
        return None
    return LogisticRegression(max_iter=ITERATIONS).fit(bank, labels).predict(queries)


def mlp_probe(bank: Rows, labels: np.ndarray, queries: Rows) -> np.ndarray | None:
    """As `probe`, of a network with one hidden layer of 200 rectified units: int64 (N_queries,).

    scikit-learn's MLPClassifier with its defaults (Adam, cross-entropy, L2 penalty 1e-4) on the
    whitened codes float32 (N, d), in batches of 200, for 10 epochs, or 250 steps where these are
    more. The same bits each time with the same threads.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    if len(np.unique(labels)) < 2:
        return None
    epochs = max(EPOCHS, math.ceil(FEWEST / math.ceil(len(bank) / BATCH)))
    net = MLPClassifier(
        HIDDEN,
        learning_rate_init=RATE,
        max_iter=epochs,
        n_iter_no_change=epochs,  # else it may stop before
        random_state=0,
    )
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        net.fit(bank, labels)
    parts = steps(len(queries), HIDDEN + bank.shape[1], BLOCK)
    found = [np.asarray(net.predict(queries[part].clip(-FAR, FAR))) for part in parts]
    return np.concatenate(found)
