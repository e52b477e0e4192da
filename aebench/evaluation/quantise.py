"""Codes rounded to fewer bits, as they would be kept to save space."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from aebench.evaluation.quality import mse

TOP = 255  # the last of the 256 levels that 8 bits tell apart


@dataclass(frozen=True)
class Affine:
    """8 bits a float: 256 values in equal steps from the least to the greatest training code.

    `low` and `span` float64 (d,): of each dimension the least value and what the greatest is above
    it. float64 holds the span of any two float32 numbers.
    """

    low: np.ndarray
    span: np.ndarray

    def rounded(self, codes: np.ndarray) -> np.ndarray:
        """Codes (n, d), each float as the nearest of the values low + span * level / 255: float32.

        Of two as near, that of the even level; outside the range, its end. A constant dimension
        stays.
        """
        steps = np.where(self.span > 0, self.span, 1) / TOP
        levels = np.rint((codes - self.low) / steps).clip(0, TOP)
        return (self.low + self.span * (levels / TOP)).astype(np.float32)


def mse_of_rounded(errors: np.ndarray) -> float:
    """The MSE from each image's error float32 (N,), decoded from rounded codes.

    An image that is then not finite any more has the largest error there is.
    """
    return mse(np.nan_to_num(errors, nan=1.0, posinf=1.0))


def affine(training: Iterable[np.ndarray]) -> Affine:
    """The quantiser of these training codes, given in blocks float32 (n, d)."""
    low, high = np.inf, -np.inf
    for codes in training:
        low = np.minimum(low, codes.min(axis=0))
        high = np.maximum(high, codes.max(axis=0))
    low = np.asarray(low, np.float64)
    return Affine(low, np.asarray(high, np.float64) - low)
