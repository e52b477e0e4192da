"""Near-duplicates by distance, held against those that people judged.

python benchmarks/near_duplicates.py PREPARED [PICTURE] | tee benchmarks/near_duplicates.txt

PREPARED: data/prepared of a workspace with `dataset: cifar10`. PICTURE: a PNG file for the pairs
that the distance finds and the list has not, the test image above its nearest training image. Of
the 56 in it 40 show the same shot, as one person saw it; most of the others are small things in an
empty sky or on the sea.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from _machine import machine
from PIL import Image
from sklearn.datasets import load_digits

from aebench.datasets import Split, Spool
from aebench.evaluation.near_duplicates import (
    ALIKE,
    BLOCK,
    PAIRS,
    alike,
    near_duplicates,
    patterns,
    shrunk,
    small,
)

CORRELATIONS = (0.95, 0.96, ALIKE, 0.98, 0.99)


def split(images: np.ndarray) -> Split:
    labels = np.zeros(len(images), np.int64)
    return Split(images.shape[1:], labels, lambda rows: np.ascontiguousarray(images[rows]))


def at_8_pixels(images: np.ndarray) -> np.ndarray:
    """float64 (N, d): what is compared."""
    return patterns(small(images))


def nearest(
    train: np.ndarray, test: np.ndarray, of: Callable[[np.ndarray], np.ndarray] = at_8_pixels
) -> tuple[np.ndarray, np.ndarray]:
    """The highest correlation with a training image float32 (N_test,), and which that is."""
    asked = of(test).astype(np.float32)
    best, which = np.full(len(test), -1, np.float32), np.zeros(len(test), np.int64)
    for start in range(0, len(train), BLOCK):
        products = asked @ of(train[start : start + BLOCK]).astype(np.float32).T
        found = products.max(axis=1)
        which[found > best] = start + products.argmax(axis=1)[found > best]
        best = np.maximum(best, found)
    return best, which


def main() -> None:
    folder = Path(sys.argv[1])
    train, test = (np.load(folder / f"{name}_images.npy") for name in ("train", "test"))
    splits = {"train": split(train), "test": split(test)}
    hashes = {name: of_split.hashes() for name, of_split in splits.items()}
    with Spool(Path(tempfile.gettempdir())) as spool:
        about, listed = near_duplicates(splits, hashes, spool)
        assert about.rule == "list", about
        start = time.perf_counter()
        bank = shrunk(splits["train"], spool, 0)
        again = alike(bank, shrunk(splits["test"], spool, len(train)))
        seconds = time.perf_counter() - start
    best, which = nearest(train, test)
    assert ((best > ALIKE) == again).all()
    print("; ".join(f"{key}: {value}" for key, value in machine().items()))
    print(f"CIFAR-10: {len(test):,} x {len(train):,} in {seconds:.0f} s: 10^10 pairs in ", end="")
    print(f"{seconds * PAIRS / len(test) / len(train):.0f} s")
    values, labels = load_digits(return_X_y=True)
    images = np.rint(values * 255 / 16).astype(np.uint8).reshape(-1, 1, 8, 8)
    is_test = np.arange(len(images)) % 5 == 4
    of_digits, drawn = nearest(images[~is_test], images[is_test])
    same = labels[~is_test][drawn] == labels[is_test]
    equal = (images[~is_test][drawn] == images[is_test]).all(axis=(1, 2, 3))
    print(
        f"digits: {len(of_digits)} x {len(images) - len(of_digits):,}; equal pixels: {equal.sum()}"
    )
    full, _ = nearest(train, test, patterns)
    print()
    print("             CIFAR-10, at 8 x 8 pixels    CIFAR-10, all pixels         digits")
    print(
        "correlation  found  on list  of the list  found  on list  of the list  found  same digit"
    )
    for least in CORRELATIONS:
        words = f"{least:<11}"
        for found in (best > least, full > least):
            words += f"{found.sum():7}{listed[found].mean():9.0%}{found[listed].mean():13.0%}"
        print(f"{words}{(of_digits > least).sum():7}{same[of_digits > least].sum():12}")
    if sys.argv[2:]:
        extra = np.flatnonzero((best > ALIKE) & ~listed)
        extra = extra[np.argsort(-best[extra])]
        pairs = np.concatenate([test[extra], train[which[extra]]], axis=2).transpose(0, 2, 3, 1)
        pairs = np.concatenate([pairs, np.zeros((-len(pairs) % 14, *pairs.shape[1:]), np.uint8)])
        rows = pairs.reshape(-1, 14, *pairs.shape[1:]).transpose(0, 2, 1, 3, 4)
        sheet = Image.fromarray(rows.reshape(-1, 14 * pairs.shape[2], 3))
        sheet.resize((3 * sheet.width, 3 * sheet.height), Image.Resampling.NEAREST).save(
            sys.argv[2]
        )
        print(f"\n{len(extra)} that are not on the list: {sys.argv[2]}")


if __name__ == "__main__":
    main()
