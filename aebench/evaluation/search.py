"""Exact search: the k nearest codes, the same for every backend and at every scale."""

import contextlib
import math
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from aebench.evaluation.distinct import Distinct, distinct

if TYPE_CHECKING:
    from aebench.schema import Backend

EXTRA = 16  # candidates beyond k that are ranked again in float64
# float64 differences held at a time, 4 MB: ranking 10,000 queries at 3072 floats takes 6 s, in
# blocks of 256 queries (400 MB) it took 37 (2-core Intel Xeon, Sapphire Rapids; one thread).
BLOCK = 2**19
BANK, QUERIES = 2**27, 2**25  # floats that a backend gets at a time, 512 and 128 MB
# Products of what is above it are normal float32 numbers: others take 50 times as long.
NOTHING = 2.0**-63
COMPARED, PRODUCTS = 256, 2**20  # queries at a time, and their float64 products with the bank


def search(bank: np.ndarray, queries: np.ndarray, k: int, backend: "Backend") -> np.ndarray:
    """Indices int64 (N_queries, k) of the nearest rows of `bank` (N, d) by L2, the nearest first.

    The distances are those of float64, equal ones go by lower index: the result is exact and the
    same for every backend. Of equal codes one is searched. The backend proposes k + 16 candidates
    by float32 distance, which are ranked by float64 distance. Queries for which float32 rounding
    could have hidden a neighbour are compared with the whole bank.
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
    neighbours = np.empty((len(asked), k), np.int64)
    distances = np.empty((len(asked), k))
    doubtful = np.zeros(len(asked), bool)

    def rank(start: int) -> None:
        rows = slice(start, start + step)
        order = np.sort(candidates[rows], axis=1)  # by index: the stable sort below keeps it
        codes = asked.take(rows)
        found = squared_distances(near.take(order), codes[:, None])
        ranking = np.argsort(found, axis=1, kind="stable")[:, :k]
        neighbours[rows] = np.take_along_axis(order, ranking, axis=1)
        distances[rows] = np.take_along_axis(found, ranking, axis=1)
        if number < len(near):
            furthest = found.max(axis=1)
            margin = frame.rounding(codes, furthest)
            doubtful[rows] = distances[rows, -1] >= furthest - margin

    step = max(1, BLOCK // (number * near.floats))
    in_threads(rank, range(0, len(asked), step))
    if doubtful.any():
        which = np.flatnonzero(doubtful)
        neighbours[which], distances[which] = compared(near, asked, which, distances[which])
    return neighbours, distances


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
        centre = near.codes.mean(axis=0, dtype=np.float64)
        bounds = [f(codes.codes, axis=0) for codes in (near, asked) for f in (np.min, np.max)]
        largest = max(np.abs(bound - centre).max() for bound in bounds)
        return cls(centre, 2.0 ** -math.frexp(largest)[1])

    def moved(self, codes: np.ndarray) -> np.ndarray:
        """The codes (N, d) in this frame, float32."""
        out = np.empty(codes.shape, np.float32)
        step = max(1, BLOCK // codes.shape[1])
        for start in range(0, len(codes), step):
            rows = slice(start, start + step)
            np.multiply(codes[rows] - self.centre, self.scale, out=out[rows], casting="same_kind")
            out[rows][np.abs(out[rows]) < NOTHING] = 0
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
        reach = 2 * lengths(queries - self.centre) + np.sqrt(furthest)
        terms = (floats + 8) * 2.0**-24
        lost = 2 * NOTHING * math.sqrt(floats) / self.scale
        return 2 * (terms / (1 - terms) * (reach + lost) ** 2 + lost * (2 * reach + lost))


def proposed(
    near: Distinct, asked: Distinct, frame: Frame, number: int, backend: "Backend"
) -> np.ndarray:
    """The nearest by the backend's distances: int64 (distinct queries, number), in any order."""
    found = np.empty((len(asked), number), np.int64)
    bank_step, step = (max(1, floats // near.floats) for floats in (BANK, QUERIES))
    if len(near) <= bank_step:
        bank = frame.moved(near.take(slice(None)))
        for start in range(0, len(asked), step):
            rows = slice(start, start + step)
            found[rows] = BACKENDS[backend](bank, frame.moved(asked.take(rows)), number)[1]
        return found
    best = np.full((len(asked), number), np.inf, np.float32)
    for bank_start in range(0, len(near), bank_step):
        bank = frame.moved(near.take(slice(bank_start, bank_start + bank_step)))
        for start in range(0, len(asked), step):
            rows = slice(start, start + step)
            queries = frame.moved(asked.take(rows))
            distances, indices = BACKENDS[backend](bank, queries, min(number, len(bank)))
            distances = np.hstack([best[rows], distances])
            indices = np.hstack([found[rows], indices + bank_start])
            kept = np.argpartition(distances, number - 1, axis=1)[:, :number]
            best[rows] = np.take_along_axis(distances, kept, axis=1)
            found[rows] = np.take_along_axis(indices, kept, axis=1)
    return found


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

    most = min(COMPARED, math.ceil(len(which) / threads()))
    with threadpool_limits(1, "blas"):
        in_threads(compare, np.split(order, cuts(along[order], most)))
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
    step = max(64, PRODUCTS // max(near.floats, count))
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
    step = max(1, BLOCK // bank.shape[1])
    for start in range(0, len(near), step):
        part = slice(start, start + step)
        found[part] = squared_distances(bank[near[part]], queries[asked[part]])
    return found


def in_threads(work: Callable[[Any], None], parts: Iterable[Any]) -> None:
    """Do it for each part: NumPy computes outside the interpreter lock."""
    with ThreadPoolExecutor(threads()) as pool:
        for _ in pool.map(work, parts):
            pass  # a worker's error is raised here


def lengths(codes: np.ndarray) -> np.ndarray:
    """float64 (N,) of codes float64 (N, d)."""
    return np.sqrt(np.einsum("ij,ij->i", codes, codes))


def threads() -> int:
    """What the libraries that are loaded by now use at most."""
    return max((pool["num_threads"] for pool in threadpool_info()), default=1)


def kernels() -> list[str]:
    """Version and processor kernels of each OpenBLAS that is loaded by now: they move times 2x."""
    pools = [pool for pool in threadpool_info() if pool["internal_api"] == "openblas"]
    return [f"OpenBLAS {pool['version']} {pool['architecture']}" for pool in pools]


def squared_distances(bank: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """float64 squared L2 distances over the last axis, summed in one order for every shape."""
    return np.square(np.subtract(bank, queries, dtype=np.float64)).sum(axis=-1)


def faiss_candidates(
    bank: np.ndarray, queries: np.ndarray, number: int
) -> tuple[np.ndarray, np.ndarray]:
    """Squared distances and indices (N_queries, number) through FAISS, exact up to float32."""
    with known_kernels():
        import faiss

    # Matrix products from 20 queries on, as FAISS did until it counted queries x floats: 10,000
    # queries of 10 floats take 0.7 s instead of 1.6.
    faiss.cvar.distance_compute_blas_threshold = 20
    return faiss.knn(queries, bank, number)


@contextlib.contextmanager
def known_kernels() -> Iterator[None]:
    """Make the OpenBLAS that is loaded meanwhile take the kernels of NumPy's.

    FAISS's wheels bring one of 2021 that does not know later processors: it took SSE3 kernels on
    an Intel Xeon of 2023 (Sapphire Rapids), where 50,000 x 10,000 at 1000 floats then took 19.8 s
    instead of 5.7. OpenBLAS reads the variable when it is loaded; one that the user set stays.
    """
    found = [str(pool["architecture"]) for pool in threadpool_info() if "architecture" in pool]
    if not found or "OPENBLAS_CORETYPE" in os.environ:
        yield
        return
    # Those with bfloat16 differ in kernels that are not used here, and have the longer names.
    newer = {"SapphireRapids": "SkylakeX", "Cooperlake": "SkylakeX"}
    os.environ["OPENBLAS_CORETYPE"] = newer.get(found[0], found[0])
    try:
        yield
    finally:
        del os.environ["OPENBLAS_CORETYPE"]


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
