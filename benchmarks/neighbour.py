"""What threads that spin or wait quietly cost alone, beside a neighbour and beside each other.

    dvc exp run -S dataset=cifar10    # prepared images; without them, digits
    python benchmarks/neighbour.py | tee benchmarks/neighbour.txt

Seconds of an epoch of cnn on 2,500 images, each training a process of its own (3 epochs, the first
is not timed): alone, beside a process that keeps one core busy, and two at once, of which the mean.
"spinning" is libgomp's default (GOMP_SPINCOUNT=300000), "passive" OMP_WAIT_POLICY=PASSIVE, "bound"
that and a core for each thread, "chosen" what aebench decides. They alternate, in as many rounds as
7 minutes hold; a training of more than a minute is ended. It takes a quiet machine: what else
computes is in all of them.
"""

import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import numpy as np
from _machine import arguments, median, note, show
from ruamel.yaml import YAML

from aebench.records.prepare import Prepared
from aebench.workspace import Workspace

IMAGES, EPOCHS, SECONDS, LONGEST = 2500, 3, 420, 60
HERE = Path(__file__).parent.parent
SITUATIONS = ("alone", "beside one busy loop", "two at once")
SETTINGS = {
    "spinning": {"GOMP_SPINCOUNT": "300000"},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "bound": {"OMP_WAIT_POLICY": "PASSIVE", "OMP_PROC_BIND": "TRUE"},
    "chosen": {},
}
PLUGIN = """\
import numpy as np
from aebench import hookimpl

def load(root):
    found = np.load({file!r})
    splits = {{split: (found[split], found[split + "_labels"]) for split in ("train", "test")}}
    return splits | {{"classes": [str(c) for c in found["classes"]]}}

@hookimpl
def register_datasets(register):
    register("part", load)
"""


class Training(NamedTuple):
    """Median seconds of an epoch, how its threads waited, whether it was marked contended.

    Infinite seconds where it was ended.
    """

    seconds: float
    policy: str
    contended: bool


def main() -> None:
    asked = arguments(__doc__)
    found: dict[tuple[str, str], list[list[Training]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name, part) for part in ("one", "two")]
        images = [workspace(folder) for folder in folders][0]
        left, longest, rounds = float(SECONDS), 0.0, 0
        while left > longest:
            begin = time.perf_counter()
            rounds += 1
            for situation, setting in itertools.product(SITUATIONS, SETTINGS):
                trained = trainings(folders, situation, SETTINGS[setting])
                found.setdefault((situation, setting), []).append(trained)
                seconds = ", ".join(f"{one.seconds:.2f}" for one in trained)
                note(f"round {rounds}, {situation}, {setting}: {seconds} s")
            longest = max(longest, time.perf_counter() - begin)
            left -= time.perf_counter() - begin
    rows = [row(situation, found) for situation in SITUATIONS]
    show(asked.json, {f"Seconds an epoch, medians of {rounds} rounds": rows}, images=images)


def row(situation: str, found: dict[tuple[str, str], list[list[Training]]]) -> dict[str, str]:
    """A line of the table."""
    seconds = {}
    for setting in SETTINGS:
        found_here = median([mean(t.seconds for t in one) for one in found[situation, setting]])
        too_long = f"> {LONGEST / EPOCHS:.0f}"
        seconds[f"{setting}, s"] = f"{found_here:.2f}" if math.isfinite(found_here) else too_long
    chosen = [training for one in found[situation, "chosen"] for training in one]
    policies = Counter(training.policy for training in chosen)
    return {
        "": situation,
        **seconds,
        "chose": ", ".join(f"{policy} {count}" for policy, count in sorted(policies.items())),
        "contended": f"{sum(t.contended for t in chosen)} of {len(chosen)}",
    }


def workspace(folder: Path) -> str:
    """Make one with the images of this one, or digits; what they are."""
    (folder / "plugins").mkdir(parents=True)
    for path in HERE.glob("plugins/*.py"):
        (folder / "plugins" / path.name).symlink_to(path)
    yaml = YAML()
    params = yaml.load(HERE / "params.yaml")
    params["dataset"] = "part" if write_part(folder) else "digits"
    params["train"]["epochs"] = EPOCHS
    params["runs"] = {"cnn": {"model": "cnn"}}
    yaml.dump(params, folder / "params.yaml")
    for stage in ("plan", "prepare"):
        subprocess.run([*AEBENCH, stage], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return f"{IMAGES:,} of CIFAR-10" if params["dataset"] == "part" else "digits"


def write_part(folder: Path) -> bool:
    """A plug-in with some of the CIFAR-10 images that are prepared here; False without them."""
    prepared = Workspace().prepared
    if not (prepared / "meta.json").is_file():
        return False
    meta = Prepared.read(prepared / "meta.json", "dvc repro")
    if meta.shape != (3, 32, 32) or meta.num_train < IMAGES:
        return False
    arrays: dict[str, Any] = {"classes": np.array(meta.classes)}
    for split, count in (("train", meta.num_train), ("test", meta.num_test)):
        step = slice(None, None, count // min(count, IMAGES))  # they are ordered by class
        arrays[split] = np.load(prepared / f"{split}_images.npy", mmap_mode="r")[step][:IMAGES]
        arrays[f"{split}_labels"] = np.load(prepared / f"{split}_labels.npy")[step][:IMAGES]
    np.savez(folder / "part.npz", **arrays)
    (folder / "plugins/part.py").write_text(PLUGIN.format(file=str(folder / "part.npz")))
    return True


def trainings(folders: list[Path], situation: str, setting: dict[str, str]) -> list[Training]:
    """Train once, or in two folders at once."""
    asked = ("OMP_", "GOMP_", "KMP_", "DVC_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(asked)} | setting
    code = "while True: pass" if situation == "beside one busy loop" else ""
    neighbour = subprocess.Popen([sys.executable, "-c", code])
    if not code:
        neighbour.wait()
    command = [*AEBENCH, "train", "cnn", "0"]
    running = [
        subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
        for folder in folders[: 1 + (situation == "two at once")]
    ]
    try:
        begin = time.perf_counter()
        for process in running:
            if process.wait(LONGEST - time.perf_counter() + begin):
                sys.exit(f"{' '.join(command)}: ended with status {process.returncode}")
    except subprocess.TimeoutExpired:
        return [Training(math.inf, "ended", True)] * len(running)
    finally:
        for process in (neighbour, *running):
            process.kill()
            process.wait()
    return [result(folder) for folder in folders[: len(running)]]


def result(folder: Path) -> Training:
    found = json.loads((folder / "results/cnn/0/train.json").read_text())
    if found["status"] != "ok":
        sys.exit(f"cnn: {found['status']}")
    return Training(
        found["epoch_seconds"],
        found["provenance"]["wait_policy"],
        bool(found["timing"]["contended"]),
    )


AEBENCH = [sys.executable, "-P", "-m", "aebench"]

if __name__ == "__main__":
    main()
