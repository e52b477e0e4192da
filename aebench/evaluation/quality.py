"""How well images are reconstructed: figures from each image's squared error."""

import numpy as np

PSNR_CAP = 100.0  # dB, for an image reconstructed exactly


def mse(errors: np.ndarray) -> float:
    """The mean squared error over all elements, from each image's float32 (N,)."""
    return float(errors.mean(dtype=np.float64))


def mse_of_rounded(errors: np.ndarray) -> float:
    """The MSE from each image's error float32 (N,), decoded from rounded codes.

    An image that is then not finite any more has the largest error there is.
    """
    return mse(np.nan_to_num(errors, nan=1.0, posinf=1.0))


def mean_psnr(errors: np.ndarray) -> float:
    """dB, the mean over images, from each image's mean squared error float32 (N,)."""
    return float(psnr(errors).mean())


def psnr(errors: np.ndarray) -> np.ndarray:
    """dB of each image's mean squared error, pixels in [0, 1]: float64 (...), 100 at most."""
    floor = 10 ** (-PSNR_CAP / 10)
    return -10 * np.log10(np.maximum(errors.astype(np.float64), floor))
