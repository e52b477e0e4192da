"""Seconds and memory of each stage against the number of images.

    dvc exp run -S dataset=cifar10    # the images that are tiled
    python benchmarks/scale.py > benchmarks/scale.md
    python benchmarks/scale.py 2000 10000    # other sizes

Linux. A million images take 12 GB and 1.2 million files in /var/tmp, which is on a disk where /tmp
may be memory. What a size gave is printed at its end: a run that is broken off keeps it.
"""

import argparse
import contextlib
import itertools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from _machine import machine, need_cifar10, note
from PIL import Image
from ruamel.yaml import YAML
from tabulate import tabulate

from aebench.records.prepare import Prepared
from aebench.workspace import Workspace

SIZES = 10_000, 50_000, 200_000, 1_000_000
MOST_TESTS = 10_000
RUN = "mlp"
STAGES = "plan", "prepare", "train", "encode", "knn"
SHIFT = 2  # pixels, at most
BRIGHTNESS = 0.8, 1.2
FILES = 2_000  # written by a process at a time
LOOK = 0.02  # seconds between two looks at the memory
MIB = 2**20


class Cost(NamedTuple):
    """What a stage took. Memory in MiB at its peak."""

    seconds: float
    cpu_seconds: float
    own: float  # anonymous and shared memory, the sum over its processes
    resident: float  # mapped files, too; of the largest process


class Size(NamedTuple):
    """What a number of images took."""

    images: int
    tests: int
    epoch: float  # seconds
    costs: dict[str, Cost]  # by stage


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    words = "numbers of training images"
    parser.add_argument("sizes", nargs="*", type=int, default=SIZES, metavar="N", help=words)
    sizes = sorted(parser.parse_args().sizes)
    need_cifar10()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # and tidy up
    print(introduction(), flush=True)
    print("\n| " + " | ".join(HEAD) + " |\n|" + "--:|" * len(HEAD), flush=True)
    found: list[Size] = []
    with tempfile.TemporaryDirectory(prefix="aebench-scale-", dir="/var/tmp") as folder:
        try:
            suite = Suite(Path(folder))
            for size in sizes:
                found.append(suite.measured(size))
                print("| " + " | ".join(row(found[-1])) + " |", flush=True)
        finally:  # before the files are removed, which takes minutes
            if found:
                print(f"\n{CPU}\n\n{table(map(cpu_row, found), CPU_HEAD)}")
            if found[1:]:
                print(f"\n{GROWTH}\n\n{table(growth(found), GROWTH_HEAD)}")
            sys.stdout.flush()


HEAD = "images", "test", "plan", "prepare", "train, an epoch", "encode", "knn"
CPU_HEAD = "images", "test", "plan", "prepare", "train, 2 epochs", "encode", "knn"
GROWTH_HEAD = "to images", "images", "bank x queries", "plan", "prepare", "epoch", "encode", "knn"
CPU = """\
The same: CPU seconds / peak RSS in MiB of the largest process, which counts the pages of mapped
arrays and of libraries, too. The system takes those back when it needs them."""
GROWTH = "Growth from one row to the next, of seconds / MiB of the first table:"


def introduction() -> str:
    """What was measured, where and how."""
    low, high = BRIGHTNESS
    return f"""\
# Seconds and memory against the number of images

`python benchmarks/scale.py`, {", ".join(f"{key}: {value}" for key, value in machine().items())}.

The images are not new ones: CIFAR-10's, tiled (its 50,000 training images again and again, in one
shuffled order; tests from its tests), each copy jittered: shifted by up to {SHIFT} pixels, a
random half mirrored, brightness times {low} to {high}, of a fixed seed. They are PNG files in a
folder of classes; to make them is not timed. The run is {RUN} of params.yaml, with 2 epochs, of
which the second counts.

Each stage is a process of its own: seconds / peak MiB. Seconds are wall time with the start, but of
an epoch, which is the optimizer loop alone. Files were written just before: they are read from the
system's cache, as far as it reaches. knn searches four times, for the headline and three metrics of
the panel, and fits the probe. Memory is RssAnon + RssShmem, looked at each {1000 * LOOK:.0f} ms and
summed over the processes of the stage: mapped arrays are not in it, and what forks share counts
in each."""


class Suite:
    """A workspace in the folder, and a data set that grows."""

    def __init__(self, folder: Path) -> None:
        self.data, self.workspace = folder / "data", folder / "workspace"
        self.written = {"train": 0, "test": 0}
        self.aebench("init", str(self.workspace), cwd=folder)
        self.aebench("plan")  # imports the plug-ins and remembers what they register
        yaml = YAML()
        params = yaml.load(self.workspace / "params.yaml")
        params |= {"dataset": "tiled", "seeds": [0], "runs": {RUN: {"model": RUN}}}
        params["train"]["epochs"] = 2
        yaml.dump(params, self.workspace / "params.yaml")

    def measured(self, size: int) -> Size:
        """What the stages take with so many images, which are not fewer than before."""
        start = time.perf_counter()
        tests = min(size // 10, MOST_TESTS)
        self.write({"train": size, "test": tests})
        note(f"{size:,} images: written in {time.perf_counter() - start:.0f} s")
        costs = {}
        for stage in STAGES:
            costs[stage] = self.aebench(stage, *([] if stage in STAGES[:2] else [RUN, "0"]))
            note(f"{stage}: {costs[stage].seconds:.1f} s, {costs[stage].own:.0f} MiB")
        train = json.loads((self.workspace / f"results/{RUN}/0/train.json").read_text())
        return Size(size, tests, train["epoch_seconds"], costs)

    def write(self, counts: dict[str, int]) -> None:
        """Make the files that are not there yet, on all cores."""
        prepared = Workspace().prepared.absolute()
        parts = [
            (self.data / "tiled" / split, prepared, split, start, min(start + FILES, count))
            for split, count in counts.items()
            for start in range(self.written[split], count, FILES)
        ]
        # Not forked: forks would have the handler, and the folder to remove.
        with multiprocessing.get_context("spawn").Pool() as pool:
            pool.starmap(write_part, parts, chunksize=1)
        self.written = counts
        os.sync()  # else the disk is busy with them while stages are timed

    def aebench(self, *words: str, cwd: Path | None = None) -> Cost:
        """What a verb of it takes."""
        command = [sys.executable, "-m", "aebench", *words]
        return cost(command, cwd or self.workspace, os.environ | {"AEBENCH_DATA": str(self.data)})


def write_part(folder: Path, prepared: Path, split: str, start: int, stop: int) -> None:
    """Write images of a split: tiled, jittered, each into the folder of its class."""
    classes = Prepared.read(prepared / "meta.json", "").classes
    for name in classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
    paths = (prepared / f"{split}_{kind}.npy" for kind in ("images", "labels"))
    images, labels = (np.load(path, mmap_mode="r") for path in paths)
    order = np.random.default_rng(0).permutation(len(images))  # prepared ones are sorted by class
    random = np.random.default_rng([start, split == "test"])
    sources = order[np.arange(start, stop) % len(order)]
    side = images.shape[2]
    around = ((0, 0), (0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT))
    padded = np.pad(images[sources], around, "edge").transpose(0, 2, 3, 1)
    shifts = random.integers(0, 2 * SHIFT + 1, (len(sources), 2))
    mirrored = random.random(len(sources)) < 0.5
    factors = random.uniform(*BRIGHTNESS, len(sources))
    for i, source in enumerate(sources):
        down, right = shifts[i]
        image = padded[i, down : down + side, right : right + side]
        image = np.minimum(image[:, :: -1 if mirrored[i] else 1] * factors[i], 255)
        path = f"{folder}/{classes[labels[source]]}/{start + i:07}.png"
        Image.fromarray(image.astype(np.uint8)).save(path, compress_level=1)


def cost(command: list[str], folder: Path, environment: dict[str, str]) -> Cost:
    """Run it there and look at the memory of it and its descendants. SystemExit if it fails."""
    start, own, known = time.perf_counter(), 0, set[int]()
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    try:
        while True:
            # The process waits for its guardian, and that for the stage: it is all of them.
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            # From the second look on: what is forked to become another program has its parent's
            # pages until then, and 430 MiB were 830 where a look fell into it.
            found = set(tree(process.pid))
            own = max(own, sum(map(own_memory, found & known)))
            known = found
            time.sleep(LOOK)
    except BaseException:
        process.terminate()  # which ends what it has started
        process.wait()
        raise
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: status {process.returncode}")
    cpu_seconds = usage.ru_utime + usage.ru_stime
    return Cost(seconds, cpu_seconds, own / MIB, usage.ru_maxrss * 1024 / MIB)


def tree(pid: int) -> Iterator[int]:
    """The process and its descendants.

    psutil reads every process of the system for that, 50 times a second beside what is timed.
    """
    yield pid
    with contextlib.suppress(OSError):  # it has ended
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                for child in (thread / "children").read_text().split():
                    yield from tree(int(child))


def own_memory(pid: int) -> int:
    """Bytes of anonymous and shared memory of the process; 0 for one that has ended."""
    with contextlib.suppress(OSError):
        rows = Path(f"/proc/{pid}/status").read_text().splitlines()
        kib = [int(r.split()[1]) for r in rows if r.startswith(("RssAnon:", "RssShmem:"))]
        return 1024 * sum(kib)
    return 0


def row(size: Size) -> list[str]:
    """The first table's."""
    cells = [f"{seconds:.3g} / {mib:,.0f}" for seconds, mib in figures(size)]
    return [f"{size.images:,}", f"{size.tests:,}", *cells]


def cpu_row(size: Size) -> list[str]:
    """The second table's."""
    cells = [f"{c.cpu_seconds:.3g} / {c.resident:,.0f}" for c in size.costs.values()]
    return [f"{size.images:,}", f"{size.tests:,}", *cells]


def figures(size: Size) -> list[tuple[float, float]]:
    """Seconds and MiB by stage; of training, the seconds of an epoch."""
    seconds = {stage: cost.seconds for stage, cost in size.costs.items()} | {"train": size.epoch}
    return [(seconds[stage], cost.own) for stage, cost in size.costs.items()]


def growth(found: list[Size]) -> Iterator[list[str]]:
    """Of each row over the one before."""
    for old, new in itertools.pairwise(found):
        pairs = zip(figures(old), figures(new), strict=True)
        cells = [f"{a[0] / b[0]:.2f} / {a[1] / b[1]:.2f}" for b, a in pairs]
        images = new.images / old.images
        yield [f"{new.images:,}", f"{images:.2f}", f"{images * new.tests / old.tests:.2f}", *cells]


def table(rows: Any, head: tuple[str, ...]) -> str:
    """In Markdown."""
    return tabulate(list(rows), head, "pipe", disable_numparse=True, stralign="right")


if __name__ == "__main__":
    main()
