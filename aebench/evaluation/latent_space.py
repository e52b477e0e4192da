"""How codes lie in their space: the metrics of the search, and the health of the latent space."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from aebench.schema import Metric

LARGEST = 4096  # rows and columns of a matrix whose eigenvectors are sought: 20 s, 1 GB
ROWS = 4096  # codes held in float64 at a time
FLOATS = 2**22  # of them, where they have more than `LARGEST` floats: 32 MB
NEGLIGIBLE = 1e-6  # of the largest variance


@dataclass(frozen=True)
class BankStatistics:
    """Mean and covariance of a bank (N, d) in float64: `centre` (d,), `spread` (d,) per dimension.

    `variances` (d,) along the columns of `directions` (d, d), the smallest first. With more floats
    than codes the `bank` is kept, and they are those of its Gram matrix / N: (N,) and (N, N), in
    place of the directions their products with the centred codes. None where N and d exceed 4,096.
    """

    centre: np.ndarray
    spread: np.ndarray
    variances: np.ndarray | None
    directions: np.ndarray | None
    bank: np.ndarray | None = None


def bank_statistics(bank: np.ndarray) -> BankStatistics:
    """That of the codes (N, d), float32 or pixels uint8."""
    centre = bank.mean(axis=0, dtype=np.float64)
    count, floats = bank.shape
    if min(count, floats) > LARGEST:
        squares = sum(np.square(rows - centre).sum(axis=0) for rows in blocks(bank))
        return BankStatistics(centre, np.asarray(squares) / count, None, None)
    if count < floats:
        spread = [np.square(columns).mean(axis=0) for columns in centred_columns(bank, centre)]
        variances, directions = np.linalg.eigh(products(bank, bank, centre) / count)
        return BankStatistics(centre, np.concatenate(spread), variances, directions, bank)
    covariance = np.zeros((floats, floats))
    for rows in blocks(bank):
        difference = rows - centre
        covariance += difference.T @ difference
    covariance /= count
    variances, directions = np.linalg.eigh(covariance)
    return BankStatistics(centre, np.diag(covariance), variances, directions)


def left_out(bank: np.ndarray, found: BankStatistics) -> str | None:
    """Why there are no whitened codes, probe and rank; None where there are."""
    if found.variances is not None:
        return None
    count, floats = bank.shape
    return (
        f"{count:,} training codes of {floats:,} floats are too many of both for whitening, probe "
        f"and effective rank, which need at most {LARGEST:,} of one"
    )


def products(codes: np.ndarray, bank: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """float64 (N_codes, N_bank): those of all codes with all of the bank, centred."""
    pairs = zip(centred_columns(codes, centre), centred_columns(bank, centre), strict=True)
    return sum((one @ other.T for one, other in pairs), np.zeros((len(codes), len(bank))))


def centred_columns(codes: np.ndarray, centre: np.ndarray) -> Iterator[np.ndarray]:
    """float64 (N, columns) blocks of the codes (N, d) minus the centre; N is at most `ROWS`."""
    step = FLOATS // ROWS
    for start in range(0, len(centre), step):
        columns = slice(start, start + step)
        yield codes[:, columns] - centre[columns]


def latent_health(bank: np.ndarray, found: BankStatistics) -> dict[str, Any]:
    """What can explain a bad search.

    - effective_rank: exp of the entropy of the singular values of the centred codes, as shares of
      their sum (O. Roy and M. Vetterli, "The effective rank", EUSIPCO 2007); 1 to d, 0 for equal
      codes. None where the variances are not known.
    - collapsed_dimensions: those with at most 1e-6 of the variance of the largest.
    - norm_coefficient_of_variation: standard deviation / mean of the lengths of the centred codes.
    """
    norms = np.concatenate(
        [np.linalg.norm(rows - found.centre, axis=1) for rows in blocks(bank)], dtype=np.float64
    )
    mean = norms.mean()
    return {
        "effective_rank": None if found.variances is None else rank(found.variances),
        "collapsed_dimensions": int((found.spread <= NEGLIGIBLE * found.spread.max()).sum()),
        "norm_coefficient_of_variation": float(norms.std() / mean) if mean > 0 else 0.0,
    }


def rank(variances: np.ndarray) -> float:
    """The effective rank of `latent_health`."""
    singular = np.sqrt(np.maximum(variances, 0))
    shares = singular[singular > 0] / max(singular.sum(), np.finfo(float).tiny)
    return float(np.exp(-(shares * np.log(shares)).sum())) if len(shares) else 0.0


def blocks(codes: np.ndarray) -> list[np.ndarray]:
    """Views of the codes that are small enough for float64."""
    floats = codes.shape[1]
    step = ROWS if floats <= LARGEST else max(1, FLOATS // floats)
    return [codes[start : start + step] for start in range(0, len(codes), step)]


def l2(codes: np.ndarray, is_query: bool, found: BankStatistics) -> np.ndarray:
    """The codes as they are."""
    return codes


def cosine(codes: np.ndarray, is_query: bool, found: BankStatistics) -> np.ndarray:
    """float32 (N, d + 2) whose squared L2 distance is 2 - 2 cos, after centring on the bank.

    The two further columns put a zero code at distance^2 2 (similarity 0) from every code; they
    differ for the bank and the queries.
    """
    units = np.empty((len(codes), codes.shape[1] + 2), np.float32)
    start = 0
    for rows in blocks(codes):
        units[start : start + len(rows)] = unit(rows - found.centre, is_query)
        start += len(rows)
    return units


def whitened_cosine(codes: np.ndarray, is_query: bool, found: BankStatistics) -> np.ndarray:
    """As `cosine`, in the coordinates in which the bank's covariance is the identity."""
    return np.concatenate([unit(rows, is_query) for rows in whitening(codes, found)])


def whitened(codes: np.ndarray, found: BankStatistics) -> np.ndarray:
    """float32 (N, directions kept): the coordinates in which the bank's covariance is the identity.

    Codes that are all equal keep one column of zeros.
    """
    most = np.finfo(np.float32).max  # far from a bank that hardly varies
    blocks = [rows.clip(-most, most).astype(np.float32) for rows in whitening(codes, found)]
    rows = np.concatenate(blocks)
    return rows if rows.size else np.zeros((len(codes), 1), np.float32)


def whitening(codes: np.ndarray, found: BankStatistics) -> Iterator[np.ndarray]:
    """The whitened codes block by block, float64 (rows, directions kept).

    Directions with at most 1e-6 of the largest variance are dropped.
    """
    assert found.variances is not None and found.directions is not None
    kept = found.variances > NEGLIGIBLE * found.variances[-1]
    variances, directions = found.variances[kept], found.directions[:, kept]
    if found.bank is None:
        whiten = directions / np.sqrt(variances)
        yield from ((rows - found.centre) @ whiten for rows in blocks(codes))
        return
    whiten = directions / (np.sqrt(len(found.bank)) * variances)
    for start in range(0, len(codes), ROWS):
        yield products(codes[start : start + ROWS], found.bank, found.centre) @ whiten


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
