"""What a `dvc repro` and its stages cost beyond their work.

    python benchmarks/startup.py | tee benchmarks/startup.txt

In a new workspace (`aebench init`) with its embedded digits. Stages are timed alone, not as forks
of a process that has imported torch, which is how `dvc repro` runs them on Linux. The untrained run
trains 0 epochs, so all of its train stage is start-up; encode and the others have 1797 images.
"""

import compileall
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _machine import arguments, median, note, show

import aebench

REPEATS = 5
COMMANDS = {
    "python": [sys.executable, "-c", ""],
    "import torch": [sys.executable, "-c", "import torch"],
    "aebench plan": ["aebench", "plan"],
    "aebench prepare": ["aebench", "prepare"],
    "aebench train cnn-untrained 0": ["aebench", "train", "cnn-untrained", "0"],
    "aebench encode cnn-untrained 0": ["aebench", "encode", "cnn-untrained", "0"],
    "aebench knn cnn-untrained 0": ["aebench", "knn", "cnn-untrained", "0"],
    "aebench report": ["aebench", "report"],
}


def main() -> None:
    asked = arguments(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["aebench", "init", folder], check=True, stdout=subprocess.DEVNULL)
        environment = os.environ | {"AEBENCH_DATA": f"{folder}/none"}
        # As pip leaves it; without, each stage compiles all that it imports.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        compileall.compile_dir(Path(aebench.__file__).parent, quiet=1)

        def seconds(command: list[str]) -> float:
            start = time.perf_counter()
            subprocess.run(
                command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL
            )
            return time.perf_counter() - start

        whole = seconds(["dvc", "repro"])
        note(f"digits: {whole:.1f} s")
        found: dict[str, list[float]] = {name: [] for name in COMMANDS}
        # Before the stages are run by hand: DVC would find their results changed.
        found["dvc repro, nothing to do"] = [seconds(["dvc", "repro"]) for _ in range(REPEATS)]
        for _ in range(REPEATS):
            for name, command in COMMANDS.items():
                found[name].append(seconds(command))
    base = median(found["import torch"])
    rows = [
        {
            "command": name,
            "seconds": median(times),
            "beyond import torch": median(times) - base,
        }
        for name, times in found.items()
    ]
    show(asked.json, {f"Medians of {REPEATS}": rows}, digits_repro_seconds=whole)


if __name__ == "__main__":
    main()
