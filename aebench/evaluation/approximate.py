"""Approximate search: what an index of FAISS finds of the exact neighbours, and how fast."""

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from aebench.errors import Failure, first_line, is_machine_failure
from aebench.evaluation.blocks import as_float32, spread, steps
from aebench.evaluation.faiss_loading import load_faiss
from aebench.evaluation.search import pair_distances, search, squared_distances
from aebench.evaluation.vote import vote
from aebench.records.index import Searched
from aebench.timing import Stopwatch, Usage, facts

if TYPE_CHECKING:
    import faiss

Search = Callable[[np.ndarray], np.ndarray]  # float32 (Q, d) -> int64 (Q, k), -1: none was found

TRAINING = 2**27  # floats of the codes that train an index, 512 MB; FAISS takes fewer of most
ADDED = 2**25  # floats added at a time, 128 MB
BLOCK = 2**22  # floats compared at a time, 16 MB
# The queries that are timed, spread over all: so many that the exact search multiplies that often,
# and no fewer than the second. A single one costs a pass over the bank, which is 5 times as slow.
BATCH, FEWEST = 2e11, 500
SINGLE, FEWEST_SINGLE, MOST_SINGLE = 2e10, 100, 1000
# Repeats of a batch, whose median counts: more of a small one, as the system counts in ticks of 10
# ms who else had the cores.
REPEATS, MOST_REPEATS, WORK = 3, 51, 2e9
ENOUGH = 0.999  # of recall: further settings are only slower
REFINED = 10  # times k candidates are ranked again, by an index that ends in Refine


def measured(
    bank: np.ndarray,
    labels: np.ndarray,
    queries: np.ndarray,
    truth: np.ndarray,
    factory: str,
    k: int,
) -> dict[str, Any]:
    """The figures of an IndexRecord for codes (N, d) and queries (N_test, d), float32 or uint8.

    `labels` int64 (N,), `truth` int64 (N_test,); k at most N. The index and the exact search get
    the same float32 codes, with all their duplicates, and search by L2. Memory: the index, or the
    bank as float32 where that is more, and 1 GB. Failure: what FAISS refuses.
    """
    load_faiss()
    import faiss

    trial = Trial(bank, labels, queries, truth, k)
    exact = trial.searched({}, exact_search(as_float32(bank), k))
    try:
        made, building = built(factory, bank)
        found = []
        for setting in settings(made):
            for name, value in setting.items():
                faiss.ParameterSpace().set_index_parameter(made, name, value)
            found.append(trial.searched(setting, lambda asked: made.search(asked, k)[1]))
            if found[-1].recall >= ENOUGH:
                break
        size = written(made)
    except RuntimeError as error:
        if is_machine_failure(error):
            raise
        raise Failure(f"FAISS: {first_line(error).rpartition('failed: ')[2]}") from None
    return building | {
        "exact": exact,
        "searched": found,
        "bank_bytes": bank.size * 4,
        "index_bytes": size,
        "queries": len(trial.batch),
        "single_queries": len(trial.single),
        "timing": facts(trial.used),
    }


class Trial:
    """The same questions to every search of one bank. `used`: by all repeats of each batch."""

    def __init__(
        self,
        bank: np.ndarray,
        labels: np.ndarray,
        queries: np.ndarray,
        truth: np.ndarray,
        k: int,
    ) -> None:
        self.bank, self.labels, self.queries, self.truth = bank, labels, queries, truth
        self.neighbours = search(bank, queries, k, "faiss")
        self.furthest = np.concatenate(  # exact squared distance of the k-th: float64 (N_test,)
            [
                squared_distances(bank[self.neighbours[rows, -1]], queries[rows])
                for rows in steps(len(queries), bank.shape[1], BLOCK)
            ]
        )
        self.batch = spread(queries, max(FEWEST, int(BATCH / bank.size)))
        single = max(FEWEST_SINGLE, min(MOST_SINGLE, int(SINGLE / bank.size)))
        self.single = spread(queries, single)
        repeats = int(WORK / (bank.size * len(self.batch)))
        self.repeats = max(REPEATS, min(MOST_REPEATS, repeats))
        self.used: list[Usage] = []

    def searched(self, setting: dict[str, int], ask: Search) -> Searched:
        """What a search finds, and its times."""
        rows = steps(len(self.queries), self.queries.shape[1], BLOCK)
        found = np.concatenate([ask(as_float32(self.queries[part])) for part in rows])
        every = self.seconds(ask)
        with threadpool_limits(1):
            one = self.seconds(ask)
            single = [clocked(ask, self.single[i : i + 1]) for i in range(len(self.single))]
        p50, p99 = np.percentile(single, [50, 99])
        return Searched(
            setting=setting,
            recall=self.recall(found),
            accuracy=float(np.mean(votes(self.labels, found) == self.truth)),
            queries_per_second=len(self.batch) / every,
            queries_per_second_1=len(self.batch) / one,
            p50_seconds=float(p50),
            p99_seconds=float(p99),
        )

    def seconds(self, ask: Search) -> float:
        """Of a batch: the median, after some queries for nothing."""
        ask(self.batch[:32])
        stopwatch = Stopwatch()
        times = [clocked(ask, self.batch) for _ in range(self.repeats)]
        self.used.append(stopwatch.read())
        return float(np.median(times))

    def recall(self, found: np.ndarray) -> float:
        """The share of the neighbours that are no further than the k-th of the exact search.

        Not of those with the same numbers: of equally distant codes one is as right as the other.
        """
        right = (found[:, :, None] == self.neighbours[:, None, :]).any(axis=2)
        rows, columns = np.nonzero(~right & (found >= 0))
        distances = pair_distances(self.bank, found[rows, columns], self.queries, rows)
        right[rows, columns] = distances <= self.furthest[rows]
        return float(right.mean())


def votes(labels: np.ndarray, found: np.ndarray) -> np.ndarray:
    """The vote int64 (Q,) of the neighbours int64 (Q, k) that were found; -1 without any."""
    predictions = np.full(len(found), -1)
    counts = (found >= 0).sum(axis=1)  # those that are missing stand last
    for count in np.unique(counts[counts > 0]):
        rows = counts == count
        predictions[rows] = vote(labels[found[rows, :count]])
    return predictions


def exact_search(bank: np.ndarray, k: int) -> Search:
    """That of FAISS in codes float32 (N, d), without an index."""
    import faiss

    return lambda asked: faiss.knn(asked, bank, k)[1]


def built(factory: str, bank: np.ndarray) -> "tuple[faiss.Index, dict[str, Any]]":
    """The index with all codes (N, d) in it, and what that took.

    By all threads: of a graph they make another one each time, whose recall is about the same.
    """
    import faiss

    made = faiss.index_factory(bank.shape[1], factory)
    sample = spread(bank, max(1, TRAINING // bank.shape[1]))
    training = clocked(made.train, sample)
    points = len(sample)
    del sample
    adding = 0.0
    step = max(1, ADDED // bank.shape[1])
    for start in range(0, len(bank), step):
        adding += clocked(made.add, as_float32(bank[start : start + step]))
    return made, {"train_seconds": training, "add_seconds": adding, "train_points": points}


def settings(made: "faiss.Index") -> Iterator[dict[str, int]]:
    """How far it is searched, from near to far: by a fixed rule.

    1, 4, 16, ... of its cells, at most all; or 16, 32, ... 512 candidates in its graph; else once.
    """
    import faiss

    refined = {"k_factor_rf": REFINED} if takes(made, "k_factor_rf") else {}
    cells = faiss.try_extract_index_ivf(made)
    if cells:
        yield from (refined | {"nprobe": 4**n} for n in range(16) if 4**n <= cells.nlist)
    elif takes(made, "efSearch"):
        yield from (refined | {"efSearch": 2**n} for n in range(4, 10))
    else:
        yield refined


def takes(made: "faiss.Index", name: str) -> bool:
    """Whether the index has that parameter."""
    import faiss

    try:
        faiss.ParameterSpace().set_index_parameter(made, name, 1)
    except RuntimeError:
        return False
    return True


def written(made: "faiss.Index") -> int:
    """The bytes of the index in a file. None is written: that would take as much again."""
    import faiss

    size = 0

    def count(part: bytes) -> int:
        nonlocal size
        size += len(part)
        return len(part)

    writer = faiss.PyCallbackIOWriter(count, 2**20)  # pyright: ignore[reportAttributeAccessIssue]
    faiss.write_index(made, writer)
    return size


def clocked(call: Callable[[np.ndarray], object], codes: np.ndarray) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    call(codes)
    return time.perf_counter() - start
