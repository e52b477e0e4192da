"""Exact search: the k nearest codes, the same for every backend and at every scale."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from aebench.evaluation.blocks import Rows, in_threads, steps, threads
from aebench.evaluation.distinct import Distinct, distinct
from aebench.evaluation.faiss_loading import faiss

if TYPE_CHECKING:
    from aebench.schema import Backend

EXTRA = 16  # candidates beyond k that are ranked again in float64
BLOCK = 2**17  # float64 differences held at a time and thread, 1 MB: they stay in the cache
PAIRS = 2**22  # floats of the pairs ranked together: 16 MB a thread
BANK, QUERIES = 2**25, 2**24  # floats that a backend gets at a time, 128 and 64 MB
# Products of what is above it are normal float32 numbers: others take 50 times as long.
NOTHING = 2.0**-63
COMPARED, PRODUCTS = 256, 2**20  # queries at a time, and their float64 products with the bank


def search(bank: Rows, queries: Rows, k: int, backend: "Backend") -> np.ndarray:
    """Indices int64 (N_queries, k) of the nearest rows of `bank` (N, d) by L2, the nearest first.

    The distances are those of float64, equal ones go by lower index: the result is exact and the
    same for every backend. Of equal codes one is searched. The backend proposes k + 16 candidates
    by float32 distance, which are ranked by float64 distance. Queries for which float32 rounding
    could have hidden a neighbour are compared with the whole bank.

    Bank and queries are read in blocks: beside them, and what is found, it holds 60 bytes a row and
    at most 512 MiB.
    """
    near, asked = distinct(bank), distinct(queries)
    groups, distances = nearest(near, asked, min(k, len(near)), backend)
    return near.members(groups, distances, k)[asked.group]


def nearest(
    near: Distinct, asked: Distinct, k: int, backend: "Backend"
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers int64 and squared distances float64 (distinct queries, k) of the nearest."""
    number = min(k + EXTRA, len(near))
    frame = Frame.of(near, asked)
    candidates = proposed(near, asked, frame, number, backend)
    return ranked(near, asked, k, candidates, frame.rounding)


def ranked(
    near: Distinct,
    asked: Distinct,
    k: int,
    candidates: np.ndarray,
    rounding: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """As `nearest`, from candidates int64 (distinct queries, number).

    `rounding`: by how much a row beyond them may be nearer than it seemed, see `Frame.rounding`.
    """
    neighbours = np.empty((len(asked), k), np.int64)
    distances = np.empty((len(asked), k))
    doubtful = np.zeros(len(asked), bool)
    for rows in steps(len(asked), near.floats, QUERIES):
        order = np.sort(candidates[rows], axis=1)  # by index: the stable sort below keeps it
        codes = asked.take(rows)
        found = candidate_distances(near, codes, order)
        ranking = np.argsort(found, axis=1, kind="stable")[:, :k]
        neighbours[rows] = np.take_along_axis(order, ranking, axis=1)
        distances[rows] = np.take_along_axis(found, ranking, axis=1)
        if candidates.shape[1] < len(near):
            furthest = found.max(axis=1)
            margin = rounding(codes, furthest)
            doubtful[rows] = distances[rows, -1] >= furthest - margin
    if doubtful.any():
        which = np.flatnonzero(doubtful)
        neighbours[which], distances[which] = compared(near, asked, which, distances[which])
    return neighbours, distances


def candidate_distances(near: Distinct, queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Squared distances float64 (N_queries, number) of the candidates from each query (N, d).

    In the order of the bank: a row that several queries share is read once, and a file from its
    beginning to its end.
    """
    bank = candidates.ravel()
    order = np.argsort(bank, kind="stable")
    found = np.empty(len(bank))

    def measure(pairs: slice) -> None:
        which = order[pairs]
        rows = bank[which]
        is_new = np.concatenate([[True], rows[1:] != rows[:-1]])
        codes = near.take(rows[is_new])
        found[which] = pair_distances(
            codes, np.cumsum(is_new) - 1, queries, which // candidates.shape[1]
        )

    in_threads(measure, steps(len(bank), near.floats, PAIRS))
    return found.reshape(candidates.shape)


class Frame:
    """Where float32 is exact enough: codes minus `centre` float64 (d,), times `scale`.

    Distances do not change, but for the scale; their rounding errors shrink with the codes' norms,
    and no square leaves the range of float32. `scale` is a power of two.
    """

    def __init__(self, centre: np.ndarray, scale: float) -> None:
        self.centre = centre
        self.scale = scale

    @classmethod
    def of(cls, near: Distinct, asked: Distinct) -> "Frame":
        """That in which no element is above 1."""
        total, *bounds = extent(near.codes)
        centre = total / len(near.codes)
        bounds += extent(asked.codes)[1:]
        largest = max(np.abs(bound - centre).max() for bound in bounds)
        return cls(centre, 2.0 ** -math.frexp(largest)[1])

    def moved(self, codes: Distinct, rows: slice) -> np.ndarray:
        """Some of the distinct codes in this frame, float32 (rows, d)."""
        out = np.empty((rows.stop - rows.start, codes.floats), np.float32)

        def move(part: slice) -> None:
            found = codes.take(slice(rows.start + part.start, rows.start + part.stop))
            np.multiply(found - self.centre, self.scale, out=out[part], casting="same_kind")
            out[part][np.abs(out[part]) < NOTHING] = 0

        in_threads(move, steps(len(out), codes.floats, BLOCK))
        return out

    def rounding(self, queries: np.ndarray, furthest: np.ndarray) -> np.ndarray:
        """How much nearer than it seemed a row beyond the candidates can be: float64 (N_queries,).

        `furthest`: squared distance among the candidates of each of the `queries` (N_queries, d).
        Both as they are given, not moved. |q - b|^2 computed as |q|^2 + |b|^2 - 2 q.b in d terms is
        off by at most about (d + 2) u (|q| + |b|)^2, u = 2^-24 (Higham, Accuracy and Stability of
        Numerical Algorithms, 2nd ed., section 3.1), and moving rounds each code once. Twice, as two
        distances are compared; a row that matters is no further than the furthest candidate, so
        |b| <= |q| + sqrt(furthest). Besides, elements below `NOTHING` became 0: a difference of two
        codes is off by at most `lost` in length.
        """
        floats = len(self.centre)
        parts = steps(len(queries), floats, BLOCK)
        norms = in_threads(lambda rows: lengths(queries[rows] - self.centre), parts)
        reach = 2 * np.concatenate(norms) + np.sqrt(furthest)
        terms = (floats + 8) * 2.0**-24
        lost = 2 * NOTHING * math.sqrt(floats) / self.scale
        return 2 * (terms / (1 - terms) * (reach + lost) ** 2 + lost * (2 * reach + lost))


def extent(codes: Rows) -> list[np.ndarray]:
    """Sum, least and greatest, each float64 (d,), of the codes (N, d)."""
    count, floats = codes.shape

    def of_part(part: np.ndarray) -> list[np.ndarray]:
        start, stop = part
        total, low, high = np.zeros(floats), np.full(floats, np.inf), np.full(floats, -np.inf)
        for rows in steps(stop - start, floats, BLOCK):
            found = codes[start + rows.start : start + rows.stop]
            total += found.sum(axis=0, dtype=np.float64)
            np.minimum(low, found.min(axis=0), out=low)
            np.maximum(high, found.max(axis=0), out=high)
        return [total, low, high]

    number = threads()
    ends = np.linspace(0, count, number + 1).astype(int)
    parts = np.stack([ends[:-1], ends[1:]], 1)
    totals, lows, highs = zip(*in_threads(of_part, parts, number), strict=True)
    return [np.sum(totals, axis=0), np.min(lows, axis=0), np.max(highs, axis=0)]


def proposed(
    near: Distinct, asked: Distinct, frame: Frame, number: int, backend: "Backend"
) -> np.ndarray:
    """The nearest by the backend's distances: int64 (distinct queries, number), in any order."""
    propose = BACKENDS[backend]
    bank_parts = list(steps(len(near), near.floats, BANK))
    parts = list(steps(len(asked), near.floats, QUERIES))
    heaps = [faiss().ResultHeap(part.stop - part.start, number) for part in parts]
    for bank_part in bank_parts:
        bank = frame.moved(near, bank_part)
        for heap, part in zip(heaps, parts, strict=True):
            found = propose(bank, frame.moved(asked, part), min(number, len(bank)))
            heap.add_result(found[0], found[1] + bank_part.start)
    return np.concatenate([heap.I for heap in heaps])


def compared(
    near: Distinct, asked: Distinct, which: np.ndarray, known: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """As `nearest`, of the queries `which`, by float64 products with all of the bank.

    `known` (len(which), k): squared distances of as many rows. Products tell which rows can be as
    near as the k-th of them; these are ranked. Queries that are near one another go together:
    minus their mean they are small, and so are the rounding errors even among codes that are equal
    but for float32's last digits.

    It takes as long as the products, unless float64 cannot tell most of the bank from the k-th
    neighbour: then as the differences of all codes. Memory does not grow with the bank.
    """
    neighbours = np.empty(known.shape, np.int64)
    distances = np.empty(known.shape)
    direction = np.random.default_rng(0).standard_normal(near.floats)
    along = np.array([asked.take(slice(i, i + 1))[0] @ direction for i in which])
    order = np.argsort(along, kind="stable")

    def compare(rows: np.ndarray) -> None:
        queries = asked.take(which[rows])
        neighbours[rows], distances[rows] = among_all(near, queries, known[rows])

    number = threads()  # FAISS's BLAS counts by OpenMP, which the limit then limits, too
    most = min(COMPARED, math.ceil(len(which) / number), max(1, 2 * PRODUCTS // near.floats))
    with threadpool_limits(1, "blas"):
        in_threads(compare, np.split(order, cuts(along[order], most)), number)
    return neighbours, distances


def cuts(values: np.ndarray, most: int) -> list[int]:
    """Where to part sorted values into at most so many together: at a gap, if there is one.

    A gap is a tenth of the range of the next `most` values, and leaves a quarter of them.
    """
    found = []
    start = 0
    while start + most < len(values):
        ahead = values[start : start + most + 1]
        gaps = np.diff(ahead[most // 4 :])
        widest = int(np.argmax(gaps))
        is_gap = gaps[widest] > (ahead[-1] - ahead[0]) / 10
        start += most // 4 + widest + 1 if is_gap else most
        found.append(start)
    return found


def among_all(
    near: Distinct, queries: np.ndarray, known: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """As `compared`, of these queries (N_queries, d)."""
    count, k = known.shape
    centre = queries.mean(axis=0, dtype=np.float64)
    left = np.hstack([queries - centre, np.ones((count, 1))])
    norms = lengths(left[:, :-1])
    left[:, :-1] *= -2
    best = Best(known[:, -1], k)
    step = max(1, PRODUCTS // max(near.floats, count))
    for start in range(0, len(near), step):
        codes = near.take(slice(start, start + step))
        right = np.empty((len(codes), near.floats + 1))
        np.subtract(codes, centre, out=right[:, :-1])
        right[:, -1] = np.einsum("ij,ij->i", right[:, :-1], right[:, :-1])
        products = left @ right.T  # squared distances - norms^2
        # As in `Frame.rounding`, with u = 2^-53, and with the norms among the terms.
        margin = 4 * (near.floats + 8) * 2.0**-53 * (2 * norms + np.sqrt(best.limit)) ** 2
        close = products <= (best.limit - norms**2 + margin)[:, None]
        if k < len(codes) and np.count_nonzero(close) > 4 * k * count:  # the limit is far off
            nearer = np.partition(products, k - 1, axis=1)[:, k - 1] + 2 * margin
            close &= products <= nearer[:, None]
        rows, columns = np.divmod(np.flatnonzero(close), len(codes))
        best.add(rows, columns + start, pair_distances(codes, columns, queries, rows))
    best.merge()
    return best.indices, best.distances


class Best:
    """The k nearest of each query so far; only what is within `limit` float64 (N_queries,) counts.

    `indices` int64 and squared `distances` float64 (N_queries, k), equal ones by lower index, as of
    the last merge.
    """

    def __init__(self, limit: np.ndarray, k: int) -> None:
        self.limit = limit
        self.indices = np.zeros((len(limit), k), np.int64)
        self.distances = np.full((len(limit), k), np.inf)
        self.waiting: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, rows: np.ndarray, indices: np.ndarray, distances: np.ndarray) -> None:
        """Further pairs, sorted by row; the indices are above all those before."""
        nearer = distances < self.distances[rows, -1]
        self.waiting.append((rows[nearer], indices[nearer], distances[nearer]))
        if sum(len(rows) for rows, _, _ in self.waiting) > self.indices.size:
            self.merge()

    def merge(self) -> None:
        """Take in the pairs that wait."""
        count, k = self.indices.shape
        parts = [(np.repeat(np.arange(count), k), self.indices.ravel(), self.distances.ravel())]
        rows, indices, distances = map(np.concatenate, zip(*parts, *self.waiting, strict=True))
        order = np.lexsort((distances, rows))  # stable: equal ones stay by index
        each = np.bincount(rows)
        kept = order[(each.cumsum() - each)[:, None] + np.arange(k)]
        self.indices, self.distances = indices[kept], distances[kept]
        self.limit = np.minimum(self.limit, self.distances[:, -1])
        self.waiting.clear()


def pair_distances(
    bank: np.ndarray, near: np.ndarray, queries: np.ndarray, asked: np.ndarray
) -> np.ndarray:
    """Squared distances float64 (pairs,) of bank[near] from queries[asked]."""
    found = np.empty(len(near))
    for part in steps(len(near), bank.shape[1], BLOCK):
        found[part] = squared_distances(bank[near[part]], queries[asked[part]])
    return found


def lengths(codes: np.ndarray) -> np.ndarray:
    """float64 (N,) of codes float64 (N, d)."""
    return np.sqrt(np.einsum("ij,ij->i", codes, codes))


def kernels() -> list[str]:
    """Version and processor kernels of each OpenBLAS that is loaded by now: they move times 2x."""
    pools = [pool for pool in threadpool_info() if pool["internal_api"] == "openblas"]
    return [f"OpenBLAS {pool['version']} {pool['architecture']}" for pool in pools]


def squared_distances(bank: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """float64 squared L2 distances over the last axis, summed in one order for every shape."""
    # In one array: 170 us instead of 290 for 42 rows of 3,072 float32.
    difference = bank.astype(np.float64)
    difference -= queries
    return np.square(difference, out=difference).sum(axis=-1)


def faiss_candidates(
    bank: np.ndarray, queries: np.ndarray, number: int
) -> tuple[np.ndarray, np.ndarray]:
    """Squared distances and indices (N_queries, number) through FAISS, exact up to float32."""
    return faiss().knn(queries, bank, number)


def sklearn_candidates(
    bank: np.ndarray, queries: np.ndarray, number: int
) -> tuple[np.ndarray, np.ndarray]:
    """Squared distances and indices (N_queries, number) through scikit-learn's brute force."""
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=number, algorithm="brute", metric="sqeuclidean").fit(bank)
    return index.kneighbors(queries)


BACKENDS: "dict[Backend, Callable[..., tuple[np.ndarray, np.ndarray]]]" = {
    "faiss": faiss_candidates,
    "sklearn": sklearn_candidates,
}
