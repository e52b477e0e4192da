"""How well images are reconstructed: figures from a value of each image."""

import numpy as np


def mse(errors: np.ndarray) -> float:
    """The mean squared error over all elements, from each image's float32 (N,)."""
    return mean(errors)


def mse_of_rounded(errors: np.ndarray) -> float:
    """The MSE from each image's error float32 (N,), decoded from rounded codes.

    An image that is then not finite any more has the largest error there is.
    """
    return mse(np.nan_to_num(errors, nan=1.0, posinf=1.0))


def mean(values: np.ndarray) -> float:
    """Over images, of each one's value float32 (N,)."""
    return float(values.mean(dtype=np.float64))
