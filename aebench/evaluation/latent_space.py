"""How codes lie in their space: the metrics of the search, and the health of the latent space."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from aebench.evaluation.blocks import Rows, in_threads, steps

if TYPE_CHECKING:
    from aebench.schema import Metric

LARGEST = 4096  # rows and columns of a matrix whose eigenvectors are sought: 20 s, 400 MB
ROWS = 4096  # codes multiplied at a time: the last bits of the products depend on it
FLOATS = 2**22  # of them, where they have more than `LARGEST` floats: 32 MB
BLOCK = 2**17  # floats of rows looked at one by one, 1 MB of float64: they stay in the cache
NEGLIGIBLE = 1e-6  # of the largest variance


@dataclass(frozen=True)
class BankStatistics:
    """Mean and covariance of a bank (N, d) in float64: `centre` (d,), `spread` (d,) per dimension.

    `norms` (N,): lengths of the centred codes. `variances` (d,): those of the principal directions,
    the smallest first; `whiten` (d, directions kept): centred codes times it have the identity as
    covariance. With more floats than codes the `bank` is kept, the variances (N,) are those of its
    Gram matrix / N, and its products with the centred codes are times `whiten` (N, directions
    kept). None where N and d exceed 4,096.
    """

    centre: np.ndarray
    spread: np.ndarray
    norms: np.ndarray
    variances: np.ndarray | None = None
    whiten: np.ndarray | None = None
    bank: np.ndarray | None = None


def bank_statistics(bank: np.ndarray) -> BankStatistics:
    """That of the codes (N, d), float32 or pixels uint8."""
    centre = bank.mean(axis=0, dtype=np.float64)
    norms = lengths(bank, centre)
    count, floats = bank.shape
    if min(count, floats) > LARGEST:
        squares = np.zeros(floats)
        for rows in steps(count, floats, FLOATS):
            squares += np.square(bank[rows] - centre).sum(axis=0)
        return BankStatistics(centre, squares / count, norms)
    if count < floats:
        spread = [np.square(columns).mean(axis=0) for columns in centred_columns(bank, centre)]
        gram = products(bank, bank, centre)
        gram /= count
        variances, whiten = principal(gram)
        whiten /= np.sqrt(count) * variances[-whiten.shape[1] or count :]
        return BankStatistics(centre, np.concatenate(spread), norms, variances, whiten, bank)
    covariance = np.zeros((floats, floats))
    for start in range(0, count, ROWS):
        difference = bank[start : start + ROWS] - centre
        covariance += difference.T @ difference
        del difference  # before the next one
    covariance /= count
    spread = np.diag(covariance).copy()
    variances, whiten = principal(covariance)
    whiten /= np.sqrt(variances[-whiten.shape[1] or floats :])
    return BankStatistics(centre, spread, norms, variances, whiten)


def principal(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All eigenvalues (n,) of the lower triangle of a matrix (n, n), which is overwritten.

    And the eigenvectors (n, directions kept), the smallest first: those with at most 1e-6 of the
    largest variance are dropped. SciPy's can be put in the matrix's place: 400 MB for 4,096 rows,
    where NumPy's take 670; the bits are the same.
    """
    from scipy.linalg import eigh

    for row in range(1, len(matrix)):
        matrix[:row, row] = matrix[row, :row]
    variances, directions = eigh(matrix.T, overwrite_a=True, check_finite=False, driver="evd")
    dropped = np.count_nonzero(variances <= NEGLIGIBLE * variances[-1])
    return variances, np.ascontiguousarray(directions[:, dropped:])


def lengths(bank: Rows, centre: np.ndarray) -> np.ndarray:
    """float64 (N,) of the codes (N, d) minus the centre."""
    found = np.empty(len(bank))

    def measure(rows: slice) -> None:
        found[rows] = np.linalg.norm(bank[rows] - centre, axis=1)

    in_threads(measure, steps(len(bank), len(centre), BLOCK))
    return found


def left_out(bank: np.ndarray, found: BankStatistics) -> str | None:
    """Why there are no whitened codes, probe and rank; None where there are."""
    if found.variances is not None:
        return None
    count, floats = bank.shape
    return (
        f"{count:,} training codes of {floats:,} floats are too many of both for whitening, probes "
        f"and effective rank, which need at most {LARGEST:,} of one"
    )


def products(codes: np.ndarray, bank: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """float64 (N_codes, N_bank): those of all codes with all of the bank, centred."""
    found = np.zeros((len(codes), len(bank)))
    pairs = zip(centred_columns(codes, centre), centred_columns(bank, centre), strict=True)
    for one, other in pairs:
        found += one @ other.T
    return found


def centred_columns(codes: np.ndarray, centre: np.ndarray) -> Iterator[np.ndarray]:
    """float64 (N, columns) blocks of the codes (N, d) minus the centre; N is at most `ROWS`."""
    step = FLOATS // ROWS
    for start in range(0, len(centre), step):
        columns = slice(start, start + step)
        yield codes[:, columns] - centre[columns]


def latent_health(found: BankStatistics) -> dict[str, Any]:
    """What can explain a bad search.

    - effective_rank: exp of the entropy of the singular values of the centred codes, as shares of
      their sum (O. Roy and M. Vetterli, "The effective rank", EUSIPCO 2007); 1 to d, 0 for equal
      codes. None where the variances are not known.
    - collapsed_dimensions: those with at most 1e-6 of the variance of the largest.
    - norm_coefficient_of_variation: standard deviation / mean of the lengths of the centred codes.
    """
    mean = found.norms.mean()
    return {
        "effective_rank": None if found.variances is None else rank(found.variances),
        "collapsed_dimensions": int((found.spread <= NEGLIGIBLE * found.spread.max()).sum()),
        "norm_coefficient_of_variation": float(found.norms.std() / mean) if mean > 0 else 0.0,
    }


def rank(variances: np.ndarray) -> float:
    """The effective rank of `latent_health`."""
    singular = np.sqrt(np.maximum(variances, 0))
    shares = singular[singular > 0] / max(singular.sum(), np.finfo(float).tiny)
    return float(np.exp(-(shares * np.log(shares)).sum())) if len(shares) else 0.0


class Units:
    """Codes (N, d) as float32 (N, d + 2), row by row when they are asked for.

    Their squared L2 distance is 2 - 2 cos, after centring on the bank. The two further columns put
    a zero code at distance^2 2 (similarity 0) from every code; they differ for the bank and the
    queries.
    """

    def __init__(self, codes: Rows, is_query: bool, centre: np.ndarray) -> None:
        self.codes = codes
        self.is_query = is_query
        self.centre = centre
        self.shape = len(codes), len(centre) + 2

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, which: Any, /) -> np.ndarray:
        codes = self.codes[which]
        out = np.empty((len(codes), self.shape[1]), np.float32)
        for rows in steps(*out.shape, BLOCK):
            out[rows] = unit(codes[rows] - self.centre, self.is_query)
        return out


def unit(codes: np.ndarray, is_query: bool) -> np.ndarray:
    """Rows of length 1 as float32, with the two columns of `Units`."""
    norms = np.linalg.norm(codes, axis=1, keepdims=True)
    out = np.zeros((len(codes), codes.shape[1] + 2), np.float32)
    np.divide(codes, np.where(norms == 0, 1, norms), out=out[:, :-2], casting="same_kind")
    out[:, codes.shape[1] + is_query] = norms[:, 0] == 0
    return out


@dataclass(frozen=True)
class Whitened:
    """Codes in the coordinates in which the bank's covariance is the identity, in mapped files.

    `units` float32 (N, directions kept + 2), as of `Units`; `coordinates` float32 (N, directions
    kept); of codes that are all equal, one column of zeros.
    """

    units: np.ndarray
    coordinates: np.ndarray


def whitened(
    codes: Rows, is_query: bool, found: BankStatistics, folder: Path | None = None
) -> Whitened:
    """The codes (N, d), whitened. `folder`: where the files lie, which have no name."""
    assert found.whiten is not None
    kept = found.whiten.shape[1]
    with tempfile.TemporaryFile(dir=folder) as units, tempfile.TemporaryFile(dir=folder) as others:
        for start in range(0, len(codes), ROWS):
            for one, other in rounded(whitening(codes[start : start + ROWS], found), is_query):
                units.write(one.tobytes())
                others.write(other.tobytes())
        shape = len(codes), kept + 2
        return Whitened(mapped(units, shape), mapped(others, (len(codes), kept or 1)))


def rounded(codes: np.ndarray, is_query: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    """Units and coordinates, as of `Whitened`, of codes float64 (N, d), part by part."""
    most = np.finfo(np.float32).max  # far from a bank that hardly varies

    def of_part(rows: slice) -> tuple[np.ndarray, np.ndarray]:
        part = codes[rows]
        coordinates = part.clip(-most, most) if part.size else np.zeros((len(part), 1))
        return unit(part, is_query), coordinates.astype(np.float32)

    return in_threads(of_part, steps(len(codes), codes.shape[1] or 1, BLOCK))


def whitening(codes: np.ndarray, found: BankStatistics) -> np.ndarray:
    """float64 (rows, directions kept) of at most `ROWS` codes."""
    if found.bank is None:
        return (codes - found.centre) @ found.whiten
    return products(codes, found.bank, found.centre) @ found.whiten


def mapped(file: IO[bytes], shape: tuple[int, int]) -> np.ndarray:
    """What was written: float32, in memory as far as it is looked at."""
    file.flush()
    return np.memmap(file, np.float32, "c", shape=shape)


def moved(
    bank: np.ndarray, queries: np.ndarray, found: BankStatistics, folder: Path | None = None
) -> "tuple[dict[Metric, tuple[Rows, Rows]], tuple[np.ndarray, np.ndarray] | None]":
    """Metric -> bank and queries whose neighbours by L2 are those by the metric; whitened ones.

    None where they cannot be whitened. `folder`: see `whitened`.
    """
    metrics: dict[Metric, tuple[Rows, Rows]] = {
        metric: moved_by(metric, bank, queries, found) for metric in ("l2", "cosine")
    }
    if found.whiten is None:
        return metrics, None
    near, asked = whitened_pair(bank, queries, found, folder)
    metrics["whitened-cosine"] = near.units, asked.units
    return metrics, (near.coordinates, asked.coordinates)


def moved_by(
    metric: "Metric", bank: Rows, queries: Rows, found: BankStatistics, folder: Path | None = None
) -> tuple[Rows, Rows]:
    """As `moved`, for one metric; the whitened one needs `found.whiten`."""
    if metric == "l2":
        return bank, queries
    if metric == "cosine":
        return Units(bank, False, found.centre), Units(queries, True, found.centre)
    near, asked = whitened_pair(bank, queries, found, folder)
    return near.units, asked.units


def whitened_pair(
    bank: Rows, queries: Rows, found: BankStatistics, folder: Path | None
) -> tuple[Whitened, Whitened]:
    """Both `whitened`."""
    return whitened(bank, False, found, folder), whitened(queries, True, found, folder)
