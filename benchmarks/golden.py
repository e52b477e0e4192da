"""Reference numbers on the full CIFAR-10 that need no training.

They check data, split, scaling, metric, search, vote and panel in one go:

    dvc exp run -S dataset=cifar10    # or, of its runs, only pca, pca-latent10/100/1000 and pixels
    python benchmarks/golden.py | tee benchmarks/golden.txt

Run in a workspace whose data set is cifar10. Exit status 1 if a number is off.
"""

import sys

import numpy as np
from _machine import need_cifar10

from aebench.records.encode import EncodeRecord
from aebench.records.knn import KnnRecord
from aebench.workspace import Workspace

HERE = Workspace()

# Run, metric, k -> accuracy in %, to one digit. Raw pixels: 35.4 % for 1-NN with L2 is in
# cs231n.github.io, classification notes; the others by an independent computation.
ACCURACIES = {
    ("pixels", "l2", 5): 35.6,
    ("pixels", "l2", 10): 34.7,
    ("pixels", "l2", 50): 32.7,
    ("pixels", "cosine", 1): 40.8,
    ("pixels", "cosine", 10): 43.7,
    ("pixels", "cosine", 20): 44.0,
    ("pca-latent10", "l2", 10): 35.9,
    ("pca", "l2", 10): 42.4,
    ("pca", "cosine", 10): 45.4,
    ("pca", "whitened-cosine", 10): 48.5,
    ("pca", "whitened-cosine", 50): 50.3,
    ("pca-latent100", "l2", 10): 39.8,
    ("pca-latent100", "cosine", 10): 45.6,
    ("pca-latent100", "whitened-cosine", 10): 52.1,
}
MSES = {
    "pca-latent10": 0.02134,
    "pca": 0.01236,
    "pca-latent100": 0.00609,
    "pca-latent1000": 0.00024,
}


def accuracy(run: str, metric: str, k: int) -> float:
    found = KnnRecord.read(HERE.result_path(run, 0, "knn.json"), "dvc repro")
    return 100 * (found.panel[metric][str(k)] or 0)


def mse(run: str) -> float:
    found = EncodeRecord.read(HERE.result_path(run, 0, "encode.json"), "dvc repro")
    return found.mse or 0


def unclipped_mse(run: str) -> float:
    import torch

    import aebench

    images = np.load(HERE.prepared / "test_images.npy").astype(np.float32) / 255
    codes = torch.from_numpy(np.load(HERE.run_path(run, 0, "test_codes.npy")))
    decoder = aebench.load(run).decoder
    assert decoder  # those of the runs here have one
    decoded = decoder(codes).numpy()
    return float(np.square(decoded - images, dtype=np.float64).mean())


def mean_image() -> float:
    train, test = (np.load(HERE.prepared / f"{s}_images.npy") for s in ("train", "test"))
    return float(np.square(test / 255 - train.mean(axis=0, dtype=np.float64) / 255).mean())


def main() -> int:
    need_cifar10()
    # Name, found, expected, and the tolerance: the last digit that is known.
    lines = [("pixels, l2, k = 1, %", accuracy("pixels", "l2", 1), 35.39, 0.005)]
    lines += [
        (f"{run}, {metric}, k = {k}, %", accuracy(run, metric, k), expected, 0.1)
        for (run, metric, k), expected in ACCURACIES.items()
    ]
    lines += [(f"{run}, MSE", mse(run), expected, 0.00001) for run, expected in MSES.items()]
    lines.append(("pca, MSE, not clipped", unclipped_mse("pca"), 0.01244, 0.00001))
    lines.append(("mean image, MSE", mean_image(), 0.0618, 0.0001))
    wrong = 0
    for name, found, expected, tolerance in lines:
        right = abs(found - expected) <= tolerance
        wrong += not right
        print(f"{'ok   ' if right else 'WRONG'} {name}: {found:.5f}, expected {expected}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
