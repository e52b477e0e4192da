"""Which test images have a near-duplicate among the training images."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from aebench.evaluation.blocks import Rows, steps
from aebench.evaluation.cifair import LISTED, TRAINING
from aebench.progress import bar
from aebench.records.prepare import NearDuplicates

SIDE = 8  # pixels of the images that are compared
ALIKE = 0.97  # the correlation above which two images are near-duplicates
# Test images times training images: beyond, nobody looks. These take 6 minutes of one core
# (benchmarks/near_duplicates.txt).
PAIRS = 10**10
ROUNDING = 1e-4  # more than a product in float32 is off
BLOCK = 4096  # images a side of the products that are held at a time, 64 MB


class Images(Protocol):
    """Those of a split."""

    @property
    def shape(self) -> tuple[int, ...]:
        """C, H, W."""
        ...

    def __len__(self) -> int:
        """N."""
        ...

    def blocks(self) -> Iterator[np.ndarray]:
        """All of them, some at a time: uint8 (n, C, H, W)."""
        ...


class Store(Protocol):
    """Where small images wait: 192 bytes each in colour."""

    def put(self, place: int, image: np.ndarray) -> None:
        """Keep an image uint8 (C, SIDE, SIDE)."""
        ...

    def read(self, places: np.ndarray) -> np.ndarray:
        """uint8 (n, C, SIDE, SIDE) of the places, int64 (n,)."""
        ...


@dataclass
class Patterns:
    """The patterns of small images that lie in a store from `first` on, computed when asked for."""

    store: Store
    first: int
    shape: tuple[int, int]  # N, d

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        return patterns(self.store.read(self.first + np.arange(rows.start, rows.stop)))


def near_duplicates(
    splits: Mapping[str, Images], hashes: Mapping[str, np.ndarray], store: Store
) -> tuple[NearDuplicates, np.ndarray]:
    """What is said of them, and which test images they are: bool (N_test,).

    `hashes`: of each split's images S32 (N,), the SHA-256 of their pixels. CIFAR-10, recognised by
    all of its training images and all listed test images, has a list that people judged; of other
    images see `alike`.
    """
    train, test = splits["train"], splits["test"]
    names = np.array([bytes.fromhex(name) for name in LISTED.split()], "S8")
    recognised = np.isin(names, hashes["test"].astype("S8"))
    rule, found = None, np.zeros(len(test), bool)
    if recognised.all() and content(hashes["train"]) == TRAINING:
        rule, found = "list", np.isin(hashes["test"].astype("S8"), names)
    elif len(train) * len(test) <= PAIRS:
        bank, queries = shrunk(train, store, 0), shrunk(test, store, len(train))
        rule, found = "distance", alike(bank, queries)
    count = int(found.sum())
    return NearDuplicates(rule=rule, count=count, recognised=int(recognised.sum())), found


def content(hashes: np.ndarray) -> str:
    """SHA-256 over those of all images S32 (N,), in any order."""
    return hashlib.sha256(np.sort(hashes).tobytes()).hexdigest()


def shrunk(images: Images, store: Store, first: int) -> Patterns:
    """The patterns of the images at SIDE x SIDE pixels, which the store keeps from `first` on."""
    place = first
    for block in bar(images.blocks(), "shrink"):
        for image in small(block):
            store.put(place, image)
            place += 1
    return Patterns(store, first, (len(images), images.shape[0] * SIDE**2))


def small(images: np.ndarray) -> np.ndarray:
    """Means over SIDE x SIDE rectangles of images uint8 (n, C, H, W), rounded: uint8."""
    high, wide = images.shape[2:]
    rows, columns = (np.arange(SIDE) * length // SIDE for length in (high, wide))
    sums = np.add.reduceat(images, rows, axis=2, dtype=np.uint32)
    sums = np.add.reduceat(sums, columns, axis=3, dtype=np.uint32)
    areas = np.outer(np.diff(rows, append=high), np.diff(columns, append=wide))
    return np.rint(sums / areas).astype(np.uint8)


def patterns(images: np.ndarray) -> np.ndarray:
    """float64 (n, d), of mean 0 and length 1, of images uint8 (n, C, H, W); 0 of a flat one."""
    found = images.reshape(len(images), -1).astype(np.float64)
    found -= found.mean(axis=1, keepdims=True)
    lengths = np.sqrt((found**2).sum(axis=1, keepdims=True))
    return found / np.where(lengths > 0, lengths, 1)


def alike(bank: Rows, queries: Rows) -> np.ndarray:
    """Which of the queries (N, d) correlate with any of the bank by more than ALIKE: bool (N,).

    Both are `patterns`: their product is Pearson's correlation, whatever the images' brightness and
    contrast. Flat images are alike among themselves, and like no others. Products in float32
    propose, float64 decides.
    """
    found = np.zeros(len(queries), bool)
    for rows in bar([*steps(len(queries), 1, BLOCK)], "near-duplicates"):
        asked, near = queries[rows], found[rows]
        for part in steps(len(bank), 1, BLOCK):
            known = bank[part]
            if not known.any(axis=1).all():
                near |= ~asked.any(axis=1)
            products = asked.astype(np.float32) @ known.astype(np.float32).T
            best = products.max(axis=1)
            near |= best > ALIKE + ROUNDING
            for row in np.flatnonzero(~near & (best > ALIKE - ROUNDING)):
                doubtful = known[products[row] > ALIKE - ROUNDING]
                near[row] = ((doubtful * asked[row]).sum(axis=1) > ALIKE).any()
    return found
