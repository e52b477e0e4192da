"""What the farm costs for N chains, before anything is computed: seconds, bytes, files.

usage: python benchmarks/farm.py [CHAINS ...]

Digits, runs of pca with ten seeds each: which model is trained does not matter here. What a chain
brings back is counted for the runs of a finished suite: python benchmarks/farm.py --suite FOLDER
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

import cloudpickle
from ruamel.yaml import YAML

from aebench.farm import sent, suites
from aebench.farm.snapshot import laid_out
from aebench.workspace import Workspace

ROOT = Path(__file__).parent.parent


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("chains", type=int, nargs="*", default=[10, 100, 1000])
    parser.add_argument("--suite", type=Path)
    arguments = parser.parse_args()
    if arguments.suite:
        brought(arguments.suite)
        return
    print("chains  asking, s  snapshot, bytes  copy, s  order, bytes  dvc.lock, bytes")
    for number in arguments.chains:
        with tempfile.TemporaryDirectory() as folder:
            asked(number, Path(folder) / "bench")


def asked(number: int, folder: Path) -> None:
    """A line of the table."""
    subprocess.run(["git", "clone", "-q", ROOT, folder], check=True)
    yaml = YAML()
    params = yaml.load(folder / "params.yaml")
    params["seeds"] = list(range(10))
    params["runs"] = {f"pca{i}": {"model": "pca"} for i in range(number // 10)}
    yaml.dump(params, folder / "params.yaml")
    with contextlib.chdir(folder):
        workspace = Workspace()
        store = suites.store(workspace, None)
        with suites.copies(workspace) as place:
            suites.dvc(workspace, "repro", "prepare")
            start = time.perf_counter()
            (suite,) = suites.found(workspace, place, store)
            asking = time.perf_counter() - start
            assert len(suite.chains) == number
            start = time.perf_counter()
            store.bind(laid_out(suite.snapshot, place / "copy"), cache=True)
            copying = time.perf_counter() - start
            chain = suite.chains[-1]
            order = sent.Order(chain.key, "x" * 20, "", chain.given, chain.targets, False, False)
            request = sent.Request("x" * 20, {}, [], asdict(store), "x" * 80, {}, 1, False)
            cloudpickle.register_pickle_by_value(sent)
            size = len(cloudpickle.dumps((sent.chain, order, request)))
            lock = os.path.getsize(suite.copy.root / "dvc.lock")
    row = number, asking, len(suite.snapshot.pack), copying, size, lock
    print("{:6}  {:9.1f}  {:15,}  {:7.1f}  {:12,}  {:15,}".format(*row))
    sys.stdout.flush()


def brought(folder: Path) -> None:
    """What each run's first seed has written, and all chains in dvc.lock."""
    lock = YAML(typ="safe").load(folder / "dvc.lock")["stages"]
    sizes: dict[str, int] = defaultdict(int)
    for stage, entry in lock.items():
        sizes[stage.partition("@")[2] or stage] += sum(out["size"] for out in entry["outs"])
    for name, size in sizes.items():
        print(f"{name:20} {size:13,} bytes")
    text = len((folder / "dvc.lock").read_bytes())
    print(f"dvc.lock: {text:,} bytes for {len(lock)} stages")


if __name__ == "__main__":
    main()
