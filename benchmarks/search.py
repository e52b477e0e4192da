"""Exact search through FAISS against scikit-learn's brute force.

    dvc exp run -S dataset=cifar10    # or, of its runs, only those of pca and pixels
    python benchmarks/search.py | tee benchmarks/search.txt

50,000 codes are the bank, 10,000 the queries, k = 50, through aebench's own search: candidates of
the backend, ranked again in float64. Each backend at the faster of two settings of
OPENBLAS_CORETYPE: unset and Haswell. The neighbours must be the same.
"""

import hashlib
import json
import os
import subprocess
import sys
import time
from typing import cast

import numpy as np
from _machine import arguments, median, need_cifar10, note, show

from aebench.evaluation.panel import flattened
from aebench.evaluation.search import BACKENDS, kernels, search
from aebench.schema import Backend
from aebench.workspace import Workspace

RUNS = {"pca-latent10": 10, "pca": 32, "pca-latent100": 100, "pca-latent1000": 1000, "pixels": 3072}
K, REPEATS = 50, 3


def main() -> None:
    asked = arguments(__doc__)
    need_cifar10()
    rows = []
    for run, floats in RUNS.items():
        found: dict[tuple[str, str], list[dict]] = {}
        for repeat in range(REPEATS):
            for coretype in ("unset", "Haswell"):
                for backend in BACKENDS:
                    result = worker(run, backend, coretype)
                    found.setdefault((backend, coretype), []).append(result)
                    note(f"{run} {repeat} {backend} {coretype}: {result}")
        if len({result["neighbours"] for results in found.values() for result in results}) > 1:
            sys.exit(f"{run}: the neighbours differ")
        seconds = {key: median([r["seconds"] for r in results]) for key, results in found.items()}
        (faiss, one), (sklearn, other) = (
            min((s, setting) for (backend, setting), s in seconds.items() if backend == name)
            for name in ("faiss", "sklearn")
        )
        rows.append(
            {
                "floats": floats,
                "faiss, s": faiss,
                "coretype": one,
                "sklearn, s": sklearn,
                "coretype ": other,
                "faiss is faster, x": sklearn / faiss,
                "both unset, x": seconds["sklearn", "unset"] / seconds["faiss", "unset"],
            }
        )
    title = f"Seconds of the search, medians of {REPEATS} alternating runs; the same neighbours"
    show(asked.json, {title: rows}, kernels_unset=worker("pca", "sklearn", "unset")["kernels"])


def worker(run: str, backend: str, coretype: str) -> dict:
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE"}
    if coretype != "unset":
        environment["OPENBLAS_CORETYPE"] = coretype
    command = [sys.executable, __file__, "--worker", run, backend]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    return json.loads(done.stdout)


def measured(run: str, backend: Backend) -> dict:
    here = Workspace()
    if run == "pixels":
        paths = (here.prepared / f"{split}_images.npy" for split in ("train", "test"))
        bank, queries = (flattened(np.load(path)) for path in paths)
    else:
        paths = (here.run_path(run, 0, f"{split}_codes.npy") for split in ("train", "test"))
        bank, queries = (np.load(path) for path in paths)
    if (len(bank), len(queries)) != (50_000, 10_000):
        sys.exit(f"{run}: its codes are of other images; run `dvc repro`")
    search(bank[:1], queries[:1], 1, backend)  # imports and starts threads
    start = time.perf_counter()
    neighbours = search(bank, queries, K, backend)
    seconds = time.perf_counter() - start
    digest = hashlib.sha256(neighbours.tobytes()).hexdigest()
    return {"seconds": seconds, "neighbours": digest, "kernels": kernels()}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        print(json.dumps(measured(sys.argv[2], cast(Backend, sys.argv[3]))))
    else:
        main()
