"""SSIM of PCA on CIFAR-10: its values, whether it ranks images as the MSE does, and its cost.

    dvc exp run -S dataset=cifar10    # `aebench plan && aebench prepare` is enough
    python benchmarks/ssim.py | tee benchmarks/ssim.txt

Run in a workspace whose data set is cifar10. Exit status 1 if a value is off.
"""

import sys
import time

import numpy as np
import torch
from _machine import need_cifar10
from scipy import stats

from aebench.metrics import similarity, squared_errors
from aebench.workspace import Workspace

# Components -> SSIM by an independent computation, and how far off it may be.
EXPECTED = {10: 0.294, 32: 0.484, 128: 0.768, 256: 0.877}
TOLERANCE = 0.003
BLOCK = 500


def components(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and directions of uint8 (N, 3072), the largest variance first, float64."""
    mean = images.mean(axis=0, dtype=np.float64) / 255
    total = np.zeros((len(mean), len(mean)))
    for start in range(0, len(images), 5000):
        centred = (images[start : start + 5000] / 255 - mean).astype(np.float32)
        total += centred.T @ centred
    return mean, np.linalg.eigh(total)[1][:, ::-1]


def main() -> int:
    need_cifar10()
    train, test = (np.load(Workspace().prepared / f"{s}_images.npy") for s in ("train", "test"))
    mean, directions = components(train.reshape(len(train), -1))
    flat = test.reshape(len(test), -1) / 255
    images = torch.from_numpy(flat.reshape(test.shape)).float()
    wrong = 0
    for count, expected in EXPECTED.items():
        kept = directions[:, :count]
        decoded = ((flat - mean) @ kept @ kept.T + mean).clip(0, 1).reshape(test.shape)
        pairs = list(zip(images.split(BLOCK), torch.from_numpy(decoded).split(BLOCK), strict=True))
        start = time.process_time()
        found = np.concatenate([similarity(one, other.float()) for one, other in pairs])
        seconds = time.process_time() - start
        double = np.concatenate([similarity(one.double(), other) for one, other in pairs])
        errors = torch.cat([squared_errors(*pair) for pair in pairs]).numpy()
        right = abs(found.mean() - expected) < TOLERANCE
        wrong += not right
        print(
            f"{'ok   ' if right else 'WRONG'} PCA {count}: SSIM {found.mean():.4f}, expected "
            f"{expected}; MSE {errors.mean():.5f}; rank correlation with -MSE over images "
            f"{stats.spearmanr(found, -errors).statistic:.3f}; {seconds:.1f} CPU seconds; at most "
            f"{np.abs(found - double).max():.0e} off float64",
            flush=True,
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
