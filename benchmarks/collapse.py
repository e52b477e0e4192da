"""What it costs to search codes that tie, beside ordinary ones.

    python benchmarks/collapse.py | tee benchmarks/collapse.txt

50,000 codes of 32 floats are the bank, 10,000 the queries, k = 50, through aebench's own search:
codes that collapsed onto one another, quantised ones, those that are equal but for float32's last
digits, and scales that leave its range when squared. Each kind in a process of its own, whose peak
of memory (ru_maxrss) is given. What a kind takes more than Gaussian codes is its ratio.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import cast

import numpy as np
from _machine import arguments, median, note, show

from aebench.evaluation.search import BACKENDS, search
from aebench.schema import Backend

BANK, QUERIES, FLOATS, K, REPEATS = 50_000, 10_000, 32, 50, 3
Random = np.random.Generator


def gaussian(random: Random, count: int) -> np.ndarray:
    return random.standard_normal((count, FLOATS))


def equal(random: Random, count: int) -> np.ndarray:
    return np.full((count, FLOATS), 0.3)


def words(number: int, noise: float = 0.0) -> Callable[[Random, int], np.ndarray]:
    """So many codewords, the elements off by `noise` of their size."""
    book = np.random.default_rng(1).standard_normal((number, FLOATS))

    def codes(random: Random, count: int) -> np.ndarray:
        found = book[random.integers(number, size=count)]
        return found * (1 + noise * random.standard_normal(found.shape))

    return codes


def half_zeros(random: Random, count: int) -> np.ndarray:
    return gaussian(random, count) * random.integers(2, size=(count, 1))


def quantised(levels: int, floats: int) -> Callable[[Random, int], np.ndarray]:
    """Whole numbers in the first `floats` elements."""

    def codes(random: Random, count: int) -> np.ndarray:
        found = np.zeros((count, FLOATS))
        found[:, :floats] = random.integers(levels, size=(count, floats))
        return found

    return codes


def mixed_dimensions(random: Random, count: int) -> np.ndarray:
    return gaussian(random, count) * np.logspace(-25, 19, FLOATS)


def mixed_rows(random: Random, count: int) -> np.ndarray:
    return gaussian(random, count) * 10.0 ** random.choice([-25, 0, 19], size=(count, 1))


KINDS: dict[str, Callable[[Random, int], np.ndarray]] = {
    "Gaussian": gaussian,
    "all equal": equal,
    "10 codewords": words(10),
    "half zeros": half_zeros,
    "binary, 16 floats": quantised(2, 16),
    "binary, 32 floats": quantised(2, 32),
    "3 levels, 12 floats": quantised(3, 12),
    "1 codeword, 1e-7 off": words(1, 1e-7),
    "10 codewords, 1e-7 off": words(10, 1e-7),
    "100 codewords, 1e-7 off": words(100, 1e-7),
    "times 1e-25": lambda random, count: gaussian(random, count) * 1e-25,
    "times 1e19": lambda random, count: gaussian(random, count) * 1e19,
    "dimensions of 1e-25 to 1e19": mixed_dimensions,
    "rows of 1e-25, 1 and 1e19": mixed_rows,
}


def main() -> None:
    asked = arguments(__doc__)
    tables = {}
    for backend in BACKENDS:
        found: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
        for repeat in range(REPEATS):
            for kind in KINDS:
                found[kind].append(worker(kind, backend))
                note(f"{backend} {repeat} {kind}: {found[kind][-1]}")
        seconds = {kind: median([run["seconds"] for run in runs]) for kind, runs in found.items()}
        tables[f"{backend}, medians of {REPEATS} alternating runs"] = [
            {
                "codes": kind,
                "seconds": seconds[kind],
                "of Gaussian, x": seconds[kind] / seconds["Gaussian"],
                "GiB": max(run["gib"] for run in runs),
            }
            for kind, runs in found.items()
        ]
    show(asked.json, tables, bank=BANK, queries=QUERIES, floats=FLOATS, k=K)


def worker(kind: str, backend: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--worker", kind, backend]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def measured(kind: str, backend: Backend) -> dict[str, float]:
    random = np.random.default_rng(0)
    bank, queries = (KINDS[kind](random, n).astype(np.float32) for n in (BANK, QUERIES))
    search(bank[:1], queries[:1], 1, backend)  # imports and starts threads
    start = time.perf_counter()
    search(bank, queries, K, backend)
    seconds = time.perf_counter() - start
    gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds": seconds, "gib": gib}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        print(json.dumps(measured(sys.argv[2], cast(Backend, sys.argv[3]))))
    else:
        main()
