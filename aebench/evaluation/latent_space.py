"""How codes lie in their space: the metrics of the search, and the health of the latent space."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from aebench.schema import Metric

ROWS = 4096  # codes held in float64 at a time
NEGLIGIBLE = 1e-6  # of the largest variance


@dataclass(frozen=True)
class BankStatistics:
    """Mean and covariance of a bank in float64: `centre` (d,), `spread` (d,) per dimension.

    `variances` (d,) along the columns of `directions` (d, d), the smallest first.
    """

    centre: np.ndarray
    spread: np.ndarray
    variances: np.ndarray
    directions: np.ndarray


def bank_statistics(bank: np.ndarray) -> BankStatistics:
    """That of the codes float32 (N, d)."""
    centre = bank.mean(axis=0, dtype=np.float64)
    covariance = np.zeros((bank.shape[1], bank.shape[1]))
    for start in range(0, len(bank), ROWS):
        difference = bank[start : start + ROWS] - centre
        covariance += difference.T @ difference
    covariance /= len(bank)
    variances, directions = np.linalg.eigh(covariance)
    return BankStatistics(centre, np.diag(covariance), variances, directions)


def latent_health(bank: np.ndarray, found: BankStatistics) -> dict[str, Any]:
    """What can explain a bad search.

    - effective_rank: exp of the entropy of the singular values of the centred codes, as shares of
      their sum (O. Roy and M. Vetterli, "The effective rank", EUSIPCO 2007); 1 to d, 0 for equal
      codes.
    - collapsed_dimensions: those with at most 1e-6 of the variance of the largest.
    - norm_coefficient_of_variation: standard deviation / mean of the lengths of the centred codes.
    """
    singular = np.sqrt(np.maximum(found.variances, 0))
    shares = singular[singular > 0] / max(singular.sum(), np.finfo(float).tiny)
    norms = np.concatenate(
        [np.linalg.norm(rows - found.centre, axis=1) for rows in blocks(bank)], dtype=np.float64
    )
    mean = norms.mean()
    return {
        "effective_rank": float(np.exp(-(shares * np.log(shares)).sum())) if len(shares) else 0.0,
        "collapsed_dimensions": int((found.spread <= NEGLIGIBLE * found.spread.max()).sum()),
        "norm_coefficient_of_variation": float(norms.std() / mean) if mean > 0 else 0.0,
    }


def blocks(codes: np.ndarray) -> list[np.ndarray]:
    """Views of the codes that are small enough for float64."""
    return [codes[start : start + ROWS] for start in range(0, len(codes), ROWS)]


def l2(codes: np.ndarray, is_query: bool, found: BankStatistics) -> np.ndarray:
    """The codes as they are."""
    return codes


def cosine(codes: np.ndarray, is_query: bool, found: BankStatistics) -> np.ndarray:
    """float32 (N, d + 2) whose squared L2 distance is 2 - 2 cos, after centring on the bank.

    The two further columns put a zero code at distance^2 2 (similarity 0) from every code; they
    differ for the bank and the queries.
    """
    return np.concatenate([unit(rows - found.centre, is_query) for rows in blocks(codes)])


def whitened_cosine(codes: np.ndarray, is_query: bool, found: BankStatistics) -> np.ndarray:
    """As `cosine`, in the coordinates in which the bank's covariance is the identity."""
    whiten = whitening(found)
    return np.concatenate(
        [unit((rows - found.centre) @ whiten, is_query) for rows in blocks(codes)]
    )


def whitened(codes: np.ndarray, found: BankStatistics) -> np.ndarray:
    """float32 (N, directions kept): the coordinates in which the bank's covariance is the identity.

    Codes that are all equal keep one column of zeros.
    """
    whiten = whitening(found)
    rows = [((rows - found.centre) @ whiten).astype(np.float32) for rows in blocks(codes)]
    return np.concatenate(rows) if whiten.size else np.zeros((len(codes), 1), np.float32)


def whitening(found: BankStatistics) -> np.ndarray:
    """float64 (d, directions kept): those below 1e-6 of the largest variance are dropped."""
    kept = found.variances > NEGLIGIBLE * found.variances[-1]
    return found.directions[:, kept] / np.sqrt(found.variances[kept])


def unit(codes: np.ndarray, is_query: bool) -> np.ndarray:
    """Rows of length 1 as float32, with the two columns of `cosine`."""
    norms = np.linalg.norm(codes, axis=1, keepdims=True)
    zero = np.zeros((len(codes), 2))
    zero[:, int(is_query)] = norms[:, 0] == 0
    return np.hstack([codes / np.where(norms == 0, 1, norms), zero]).astype(np.float32)


METRICS: "dict[Metric, Callable[[np.ndarray, bool, BankStatistics], np.ndarray]]" = {
    "l2": l2,
    "cosine": cosine,
    "whitened-cosine": whitened_cosine,
}
