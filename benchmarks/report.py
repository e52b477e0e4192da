"""What rendering many runs costs: CPU seconds and the largest picture against their number.

    python benchmarks/report.py | tee benchmarks/report.txt

Each workspace is a temporary one of digits, with linear models of one epoch that differ in an
option of theirs or in size. Counted are the seconds of `aebench report` alone, in this process.
"""

import contextlib
import io
import tempfile
import time
from pathlib import Path
from typing import Any

from _machine import arguments, note, show
from PIL import Image
from ruamel.yaml import YAML

from aebench.cli import run

RUNS = 10, 50, 200
PARAMS = Path(__file__).parent.parent / "params.yaml"
PLUGINS = Path(__file__).parent.parent / "plugins"
LINEAR = """\
from aebench import hookimpl

def build(shape, latent, beta=1.0):
    from torch import nn
    return (
        nn.Sequential(nn.Flatten(), nn.Linear(64, latent)),
        nn.Sequential(nn.Linear(latent, 64), nn.Unflatten(1, shape)),
    )

@hookimpl
def register_models(register):
    register("linear", build)
"""


def runs(count: int) -> dict[str, dict[str, Any]]:
    """Two references; of the others a third with sizes, the rest with options of their own."""
    found: dict[str, dict[str, Any]] = {"pca": {"model": "pca"}, "pixels": {"model": "pixels"}}
    for number in range(count - len(found)):
        own = {"latent": 1 + number % 60} if number % 3 == 0 else {}
        found[f"r{number}"] = {"model": "linear", "beta": number / 4, **own}
    return found


def make(count: int) -> None:
    """Everything but the report, in the current folder."""
    Path("plugins").mkdir()
    Path("plugins/linear.py").write_text(LINEAR)
    for name in ("digits", "pca", "pixels"):
        Path(f"plugins/{name}.py").write_text((PLUGINS / f"{name}.py").read_text())
    yaml = YAML()
    params = yaml.load(PARAMS)
    params["train"]["epochs"] = 1
    params["runs"] = runs(count)
    yaml.dump(params, Path("params.yaml"))
    run(["plan"])
    run(["prepare"])
    for name in params["runs"]:
        for stage in ("train", "encode", "knn"):
            run([stage, name, "0"])


def main() -> None:
    asked = arguments(__doc__)
    found = []
    for count in RUNS:
        note(f"{count} runs")
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            quiet = io.StringIO()
            with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
                make(count)
            begun = time.process_time()
            run(["report"])
            seconds = time.process_time() - begun
            pictures = [Image.open(path).size for path in Path("reports/figures").glob("*.png")]
            row = {"runs": count, "CPU, s": seconds, "largest side, px": max(map(max, pictures))}
            sizes = {name: Path(f"reports/report.{name}").stat().st_size for name in ("md", "html")}
            kilobytes = {f"report.{name}, kB": size / 1000 for name, size in sizes.items()}
            found.append(row | kilobytes)
    show(asked.json, {"aebench report": found})


if __name__ == "__main__":
    main()
