"""Whether a busy neighbour is noticed: times with and without one.

    dvc exp run -S dataset=cifar10    # prepared images
    python benchmarks/contention.py | tee benchmarks/contention.txt

Trains (3 epochs), encodes and searches `mlp` alone and beside a process that keeps one core busy,
alternating, in a temporary folder. Each row is the mean of 2; `contended` says how often the mark
was set.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean

from _machine import arguments, need_cifar10, note, show
from ruamel.yaml import YAML

from aebench.workspace import Workspace

STAGES = "train", "encode", "knn"
ROUNDS = 2


def main() -> None:
    asked = arguments(__doc__)
    need_cifar10()
    found: dict[tuple[str, bool], list[dict]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepared = Workspace().prepared
        (folder / prepared.parent).mkdir(parents=True)
        for path in (Path("plugins"), prepared):
            (folder / path).symlink_to(path.absolute())
        yaml = YAML()
        params = yaml.load(Path("params.yaml"))
        params["train"]["epochs"] = 3  # the first is not timed
        yaml.dump(params, folder / "params.yaml")
        call(folder, "plan")
        for turn in range(ROUNDS):
            for busy in (False, True):
                note(f"round {turn + 1} of {ROUNDS}, {'busy' if busy else 'quiet'}")
                code = "while True: pass" if busy else ""
                neighbour = subprocess.Popen([sys.executable, "-c", code])
                try:
                    for stage in STAGES:
                        call(folder, stage, "mlp", "0")
                        result = json.loads((folder / f"results/mlp/0/{stage}.json").read_text())
                        found.setdefault((stage, busy), []).append(result)
                finally:
                    neighbour.kill()
                    neighbour.wait()
    rows = [row(stage, busy, results) for (stage, busy), results in sorted(found.items())]
    show(asked.json, {"mlp": rows})


def row(stage: str, busy: bool, results: list[dict]) -> dict[str, object]:
    seconds = {
        "train": lambda r: r["epoch_seconds"],
        "encode": lambda r: 1e3 / r["encode_images_per_second"],
        "knn": lambda r: r["knn_seconds"],
    }[stage]
    timings = [result["timing"] for result in results]
    return {
        "timed": {"train": "epoch, s", "encode": "1000 images, s", "knn": "search, s"}[stage],
        "neighbour": "busy" if busy else "none",
        "seconds": mean([seconds(result) for result in results]),
        **{
            key: mean([timing[key] for timing in timings])
            for key in ("waited_share", "others_share", "involuntary_switches", "load_average")
        },
        "contended": f"{sum(t['contended'] for t in timings)} of {len(timings)}",
    }


def call(folder: Path, *arguments: str) -> None:
    subprocess.run(["aebench", *arguments], cwd=folder, check=True, capture_output=True)


if __name__ == "__main__":
    main()
