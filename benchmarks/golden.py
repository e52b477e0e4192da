"""Reference numbers on the full CIFAR-10 that need no training.

They check data, split, scaling, metric, search and vote in one go:

    dvc exp run -S dataset=cifar10    # or, of its runs, only pca, pca-latent10/100 and pixels
    python benchmarks/golden.py | tee benchmarks/golden.txt

Run in a workspace whose data set is cifar10. Exit status 1 if a number is off.
"""

import sys

import numpy as np
from _machine import need_cifar10

from aebench.files import PREPARED, read_json, result_path, run_path
from aebench.knn import pixels, search, vote

# Expected, and one unit in its last digit. Raw pixels: cs231n.github.io, classification notes,
# 35.4 % for 1-NN with L2; PCA by an independent computation on the same images.
GOLDEN = {
    "raw pixels, 1-NN L2, %": (35.39, 0.01),
    "PCA-10 MSE": (0.02134, 0.00001),
    "PCA-32 MSE": (0.01236, 0.00001),
    "PCA-100 MSE": (0.00609, 0.00001),
    "PCA-32 MSE, not clipped": (0.01244, 0.00001),
    "PCA-32, k = 10 L2, %": (42.4, 0.1),
    "mean image MSE": (0.0618, 0.0001),
}


def mse(run: str) -> float:
    return read_json(result_path(run, 0, "encode.json"), "dvc repro")["mse"]


def unclipped_mse(run: str) -> float:
    import torch

    import aebench

    images = np.load(PREPARED / "test_images.npy").astype(np.float32) / 255
    codes = torch.from_numpy(np.load(run_path(run, 0, "test_codes.npy")))
    decoded = aebench.load(run).decoder(codes).numpy()
    return float(np.square(decoded - images, dtype=np.float64).mean())


def one_nearest() -> float:
    bank, queries = pixels("train"), pixels("test")
    labels = {s: np.load(PREPARED / f"{s}_labels.npy") for s in ("train", "test")}
    found = vote(labels["train"][search(bank, queries, 1, "faiss")])
    return 100 * float(np.mean(found == labels["test"]))


def mean_image() -> float:
    train, test = (np.load(PREPARED / f"{s}_images.npy") for s in ("train", "test"))
    return float(np.square(test / 255 - train.mean(axis=0, dtype=np.float64) / 255).mean())


def main() -> int:
    need_cifar10()
    found = {
        "raw pixels, 1-NN L2, %": one_nearest(),
        "PCA-10 MSE": mse("pca-latent10"),
        "PCA-32 MSE": mse("pca"),
        "PCA-100 MSE": mse("pca-latent100"),
        "PCA-32 MSE, not clipped": unclipped_mse("pca"),
        "PCA-32, k = 10 L2, %": 100
        * read_json(result_path("pca", 0, "knn.json"), "dvc repro")["accuracy"],
        "mean image MSE": mean_image(),
    }
    wrong = 0
    for name, (expected, tolerance) in GOLDEN.items():
        right = abs(found[name] - expected) <= tolerance
        wrong += not right
        print(f"{'ok   ' if right else 'WRONG'} {name}: {found[name]:.5f}, expected {expected}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
