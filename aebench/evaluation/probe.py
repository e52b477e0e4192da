"""The probes: how much of the class a linear layer reads from the codes, and a small network."""

import math

import numpy as np

from aebench.evaluation.blocks import Rows, steps

ITERATIONS = 1000
HIDDEN = 200  # of the MLP, as Deep InfoMax's (arXiv 1808.06670) has them
BATCH = 256
# Chosen on a tenth of CIFAR-10's training images, PCA-32: 10 epochs at 0.001, 0.003 and 0.01 give
# 49.8, 52.3 and 52.3 %, 20 epochs 51.1, 52.2 and 52.6.
EPOCHS, RATE = 10, 0.003
FEWEST = 250  # steps, where 10 epochs have fewer: 42 epochs of digits
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

    Trained on the whitened codes float32 (N, d) for 10 epochs, or 250 steps where these are more,
    in batches of 256: cross-entropy, Adam (Kingma and Ba, 2015) whose rate falls linearly from
    0.003 to 0. The same bits each time with the same threads.

    In NumPy: 0.8 s of one core for 50,000 x 32, where torch takes 1.7 and scikit-learn's
    MLPClassifier 2.1; for the 2,216 directions of CIFAR-10's pixels about 18, as torch does.
    """
    count, floats = bank.shape
    classes = int(labels.max()) + 1
    if len(np.unique(labels)) < 2:
        return None
    random = np.random.default_rng(0)
    net = Network(floats, classes, random)
    batches = math.ceil(count / BATCH)
    epochs = max(EPOCHS, math.ceil(FEWEST / batches))
    for epoch in range(epochs):
        order = random.permutation(count)
        for number in range(batches):
            picked = order[number * BATCH : (number + 1) * BATCH]
            left = 1 - (epoch * batches + number) / (epochs * batches)
            net.step(bank[picked], labels[picked], RATE * left)
    parts = steps(len(queries), HIDDEN + floats, BLOCK)
    return np.concatenate([net.predicted(queries[part].clip(-FAR, FAR)) for part in parts])


class Network:
    """Weights and biases float32 of the two layers, as torch starts them, and Adam's moments."""

    def __init__(self, floats: int, classes: int, random: np.random.Generator) -> None:
        self.parameters: list[np.ndarray] = []
        for rows, columns in ((floats, HIDDEN), (HIDDEN, classes)):
            for shape in ((rows, columns), (columns,)):
                start = random.uniform(-1, 1, shape) / math.sqrt(rows)
                self.parameters.append(start.astype(np.float32))
        self.means = [np.zeros_like(values) for values in self.parameters]
        self.squares = [np.zeros_like(values) for values in self.parameters]
        self.steps = 0

    def forward(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Hidden units float32 (n, HIDDEN) and outputs (n, classes) for codes (n, d)."""
        weights, biases, out, out_biases = self.parameters
        hidden = np.maximum(codes @ weights + biases, 0)
        return hidden, hidden @ out + out_biases

    def predicted(self, codes: np.ndarray) -> np.ndarray:
        """The labels int64 (n,)."""
        return self.forward(codes)[1].argmax(axis=1)

    def step(self, codes: np.ndarray, labels: np.ndarray, rate: float) -> None:
        """One of Adam, down the gradient of the mean cross-entropy."""
        hidden, outputs = self.forward(codes)
        slope = np.exp(outputs - outputs.max(axis=1, keepdims=True))  # by the outputs
        slope /= slope.sum(axis=1, keepdims=True)
        slope[np.arange(len(labels)), labels] -= 1
        slope /= len(labels)
        below = (slope @ self.parameters[2].T) * (hidden > 0)
        gradients = codes.T @ below, below.sum(axis=0), hidden.T @ slope, slope.sum(axis=0)
        self.steps += 1
        unbiased = math.sqrt(1 - 0.999**self.steps) / (1 - 0.9**self.steps)
        moments = zip(self.parameters, self.means, self.squares, gradients, strict=True)
        for values, mean, square, gradient in moments:
            mean += 0.1 * (gradient - mean)
            square += 0.001 * (np.square(gradient) - square)
            values -= rate * unbiased * mean / (np.sqrt(square) + 1e-8)
