"""Exact search: the k nearest codes, the same for every backend."""

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_info

if TYPE_CHECKING:
    from aebench.schema import Backend

EXTRA = 16  # candidates beyond k that are ranked again in float64
WIDER = 16  # times as many where float32 leaves a doubt
# float64 differences held at a time, 4 MB: ranking 10,000 queries at 3072 floats takes 6 s, in
# blocks of 256 queries (400 MB) it took 37 (2-core Intel Xeon, Sapphire Rapids; one thread).
BLOCK = 2**19


def search(
    bank: np.ndarray, queries: np.ndarray, k: int, backend: "Backend", extra: int = EXTRA
) -> np.ndarray:
    """Indices int64 (N_queries, k) of the nearest rows of `bank` by L2, the nearest first.

    The backend proposes k + 16 candidates by float32 distance; these are ranked again by float64
    distance, equal distances by lower index. Queries for which float32 rounding could have hidden
    a neighbour get more candidates, in the end the whole bank, so the result is exact and the same
    for every backend.
    """
    # Distances do not change, their rounding errors shrink with the codes' norms.
    centre = bank.mean(axis=0, dtype=np.float64).astype(np.float32)
    near, asked = bank - centre, queries - centre
    number = min(k + extra, len(bank))
    candidates = BACKENDS[backend](near, asked, number)
    norms = np.linalg.norm(asked, axis=1)
    del near, asked
    neighbours = np.empty((len(queries), k), np.int64)
    doubtful = np.zeros(len(queries), bool)

    def rank(start: int) -> None:
        rows = slice(start, start + step)
        order = np.sort(candidates[rows], axis=1)  # by index: the stable sort below keeps it
        distances = squared_distances(bank[order], queries[rows, None])
        ranking = np.argsort(distances, axis=1, kind="stable")[:, :k]
        neighbours[rows] = np.take_along_axis(order, ranking, axis=1)
        if number < len(bank):
            last = np.take_along_axis(distances, ranking[:, -1:], axis=1)[:, 0]
            furthest = distances.max(axis=1)
            doubtful[rows] = last >= furthest - rounding(norms[rows], furthest, bank.shape[1])

    def compare(row: int) -> None:
        exact = squared_distances(bank, queries[row])
        neighbours[row] = np.argsort(exact, kind="stable")[:k]

    step = max(1, BLOCK // (number * bank.shape[1]))
    with ThreadPoolExecutor(threads()) as pool:  # NumPy computes outside the interpreter lock
        for _ in pool.map(rank, range(0, len(queries), step)):
            pass  # a worker's error is raised here
        if number > len(bank) // 8:
            for _ in pool.map(compare, np.flatnonzero(doubtful)):
                pass
        elif doubtful.any():
            # For 259 of 10,000 queries of 50,000 whitened pixels the bank takes 70 s, this 1.
            wider = search(bank, queries[doubtful], k, backend, extra * WIDER)
            neighbours[doubtful] = wider
    return neighbours


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


def rounding(norms: np.ndarray, furthest: np.ndarray, floats: int) -> np.ndarray:
    """How much nearer than it seemed a row beyond the candidates can be: float64 (N_queries,).

    `norms` of the queries, `furthest` squared distance among their candidates. |q - b|^2 computed
    as |q|^2 + |b|^2 - 2 q.b in d terms is off by at most about (d + 2) u (|q| + |b|)^2, u = 2^-24
    (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1), and centring
    rounds each code once. Twice, as two distances are compared; a row that matters is no further
    than the furthest candidate, so |b| <= |q| + sqrt(furthest).
    """
    return 2 * (floats + 4) * 2.0**-24 * (2 * norms + np.sqrt(furthest)) ** 2


def faiss_candidates(bank: np.ndarray, queries: np.ndarray, number: int) -> np.ndarray:
    """Indices int64 (N_queries, number) through faiss.IndexFlatL2, exact up to float32."""
    with known_kernels():
        import faiss

    # Matrix products from 20 queries on, as FAISS did until it counted queries x floats: 10,000
    # queries of 10 floats take 0.7 s instead of 1.6.
    faiss.cvar.distance_compute_blas_threshold = 20
    index = faiss.IndexFlatL2(bank.shape[1])
    index.add(bank)
    return index.search(queries, number)[1]


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


def sklearn_candidates(bank: np.ndarray, queries: np.ndarray, number: int) -> np.ndarray:
    """Indices int64 (N_queries, number) through scikit-learn's brute force."""
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=number, algorithm="brute", metric="euclidean").fit(bank)
    return index.kneighbors(queries, return_distance=False)


BACKENDS: "dict[Backend, Callable[[np.ndarray, np.ndarray, int], np.ndarray]]" = {
    "faiss": faiss_candidates,
    "sklearn": sklearn_candidates,
}
