"""How well images are reconstructed: figures from each image's squared error."""

import numpy as np

PSNR_CAP = 100.0  # dB, for an image reconstructed exactly


def mse(errors: np.ndarray) -> float:
    """The mean squared error over all elements, from each image's float32 (N,)."""
    return float(errors.mean(dtype=np.float64))


def mean_psnr(errors: np.ndarray) -> float:
    """dB, the mean over images, from each image's mean squared error float32 (N,)."""
    return float(psnr(errors).mean())


def psnr(errors: np.ndarray) -> np.ndarray:
    """dB of each image's mean squared error, pixels in [0, 1]: float64 (...), 100 at most."""
    floor = 10 ** (-PSNR_CAP / 10)
    return -10 * np.log10(np.maximum(errors.astype(np.float64), floor))
