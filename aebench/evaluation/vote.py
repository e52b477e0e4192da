"""The vote of the nearest neighbours."""

import numpy as np


def vote(labels: np.ndarray) -> np.ndarray:
    """The winning label int64 (N,) of each row of neighbours' labels int64 (N, k), nearest first.

    Every neighbour has one vote; among classes with equally many, the nearest neighbour's wins.
    """
    counts = np.zeros((len(labels), labels.max() + 1), np.int64)
    np.add.at(counts, (np.arange(len(labels))[:, None], labels), 1)
    votes = np.take_along_axis(counts, labels, axis=1)  # of each neighbour's class
    winner = np.argmax(votes == votes.max(axis=1, keepdims=True), axis=1)
    return labels[np.arange(len(labels)), winner]
