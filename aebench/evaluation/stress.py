"""How codes are searched with few labels, and with changed images: fixed draws and changes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aebench.errors import Failure
from aebench.evaluation.blocks import Rows, evenly
from aebench.evaluation.latent_space import Units, bank_statistics, left_out, whitened
from aebench.evaluation.search import search
from aebench.evaluation.vote import vote

if TYPE_CHECKING:
    from aebench.schema import Backend, Metric

LABELS = 10, 100, 1000  # a class
DRAWS = 5
# Products of a search: its test images are as many as that allows, spread over all. 5 s instead of
# 25 for the pixels of CIFAR-10, of which a run needs one search, and the pixels themselves seven.
PRODUCTS = 3e11
FEWEST = 500  # test images all the same
SHIFT = 2  # pixels to the right
SIGMA = 1.0  # pixels of the blur
NOISE = 0.1  # standard deviation
BLOCK = 500  # images changed at a time


def contrast(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Half of each value's distance from mid-grey."""
    return 0.5 + 0.5 * (images - 0.5)


def brightness(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """0.2 more."""
    return images + 0.2


def shift(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Two pixels to the right; the two columns that leave come in on the left."""
    return np.roll(images, SHIFT, axis=3)


def blur(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A Gaussian of one pixel's deviation; the border's pixels are repeated."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(images, (0, 0, SIGMA, SIGMA), mode="nearest")


def noise(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Gaussian, of deviation 0.1, of each value by itself."""
    return images + NOISE * random.standard_normal(images.shape, np.float32)


Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]
CHANGES: dict[str, Change] = {
    change.__name__: change for change in (contrast, brightness, shift, blur, noise)
}


def changed(images: np.ndarray, places: np.ndarray, change: Change) -> Iterator[np.ndarray]:
    """The images uint8 (N, C, H, W) at these places, changed: uint8 (n, C, H, W) at a time.

    As float32 in [0, 1], clipped, and rounded to 8 bits again: as a file of them would be. The
    same each time: random numbers are of one fixed seed, in the order of the images.
    """
    random = np.random.default_rng(0)
    for start in range(0, len(places), BLOCK):
        block = images[places[start : start + BLOCK]].astype(np.float32) / 255
        yield as_pixels(change(block, random))


def as_pixels(images: np.ndarray) -> np.ndarray:
    """float32 -> uint8: clipped to [0, 1], and rounded."""
    return np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)


def asked(bank: Rows, tests: int) -> np.ndarray:
    """Which of so many test images are asked: places int64 (n,), evenly over all."""
    count, floats = bank.shape
    return evenly(tests, max(FEWEST, int(PRODUCTS / (count * floats))))


class Space:
    """A bank of codes (N, d), float32 or uint8, in which neighbours by L2 are those by the metric.

    `labels` int64 (N,). The bank's centre and whitening are those of all its codes: they need no
    label. Failure where it cannot be whitened. `folder`: see `whitened`.
    """

    def __init__(
        self,
        bank: np.ndarray,
        labels: np.ndarray,
        metric: "Metric" = "l2",
        backend: "Backend" = "faiss",
        folder: Path | None = None,
    ) -> None:
        self.labels = labels
        self.backend: Backend = backend
        self.near: Rows = bank
        self.of_queries: Callable[[np.ndarray], Rows] = lambda queries: queries
        if metric == "cosine":
            centre = bank.mean(axis=0, dtype=np.float64)
            self.near = Units(bank, False, centre)
            self.of_queries = lambda queries: Units(queries, True, centre)
        elif metric != "l2":
            found = bank_statistics(bank)
            if note := left_out(bank, found):
                raise Failure(note)
            self.near = whitened(bank, False, found, folder).units
            self.of_queries = lambda queries: whitened(queries, True, found, folder).units

    def accuracy(
        self, queries: np.ndarray, truth: np.ndarray, k: int, which: np.ndarray | None = None
    ) -> float:
        """The share of the queries (n, d) whose class the vote of k neighbours gets right.

        `which`: the numbers of the codes that have a label; all of them.
        """
        near = self.near if which is None else Picked(self.near, which)
        labels = self.labels if which is None else self.labels[which]
        if k > len(labels):
            raise Failure(f"k = {k} is above the {len(labels)} training images with a label")
        indices = search(near, self.of_queries(queries), k, self.backend)
        return float(np.mean(vote(labels[indices]) == truth))

    def with_few(
        self, queries: np.ndarray, truth: np.ndarray, k: int, number: int
    ) -> tuple[float, float]:
        """Mean and sample standard deviation of `accuracy` over the draws of so many a class."""
        counts = np.bincount(self.labels)
        least = counts[counts > 0].min()
        if least < number:
            raise Failure(f"a class has {least:,} training images")
        found = [
            self.accuracy(queries, truth, k, drawn(self.labels, number, draw))
            for draw in range(DRAWS)
        ]
        return float(np.mean(found)), float(np.std(found, ddof=1))


def drawn(labels: np.ndarray, number: int, seed: int) -> np.ndarray:
    """The places int64 (classes * number,), sorted, of so many of each class.

    With one seed the fewer are among the more.
    """
    random = np.random.default_rng(seed)
    classes = [random.permutation(np.flatnonzero(labels == c)) for c in np.unique(labels)]
    return np.sort(np.concatenate([places[:number] for places in classes]))


class Picked:
    """Some of the rows, in their order."""

    def __init__(self, codes: Rows, which: np.ndarray) -> None:
        self.codes, self.which = codes, which
        self.shape = len(which), codes.shape[1]

    def __len__(self) -> int:
        return len(self.which)

    def __getitem__(self, which: Any, /) -> np.ndarray:
        return self.codes[self.which[which]]
