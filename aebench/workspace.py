"""Where the files of a workspace lie."""

import argparse
import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from aebench.errors import AebenchError

STAGES = ("plan", "prepare", "codecs", "train", "encode", "knn", "stress", "index", "report")
PER_RUN = ("train", "encode", "knn")  # those of each run and seed
STRESS = "stress"  # of the first seed alone, as the indexes are
INDEX = "index-"  # before the name of an index: `plan/cnn/index-ivf.json`


@dataclass(frozen=True)
class Workspace:
    """A folder with params.yaml, plugins/ and what the stages make of them."""

    root: Path = Path()

    @property
    def params(self) -> Path:
        """The settings of every run."""
        return self.root / "params.yaml"

    @property
    def plugins(self) -> Path:
        """The folder of loose plug-ins."""
        return self.root / "plugins"

    @property
    def plan(self) -> Path:
        """What each stage of each run depends on."""
        return self.root / "plan"

    @property
    def prepared(self) -> Path:
        """The images as arrays."""
        return self.root / "data" / "prepared"

    @property
    def results(self) -> Path:
        """What the report reads."""
        return self.root / "results"

    @property
    def data_record(self) -> Path:
        """What is said of the images."""
        return self.results / "data.json"

    @property
    def reports(self) -> Path:
        """What people read."""
        return self.root / "reports"

    def plan_path(self, run: str, stage: str) -> Path:
        """The resolved settings of one stage of one run."""
        return self.plan / run / f"{stage}.json"

    def run_path(self, run: str, seed: int, name: str) -> Path:
        """A file that later stages compute with: weights, codes. Large, and without times."""
        return self.root / "runs" / run / str(seed) / name

    def result_path(self, run: str, seed: int, name: str) -> Path:
        """A file that the report reads."""
        return self.results / run / str(seed) / name


def add_run_and_seed(parser: argparse.ArgumentParser) -> None:
    """What a stage of each run and seed takes."""
    parser.add_argument("run", help="a name under runs: in params.yaml")
    parser.add_argument("seed", type=int, help="one of its seeds")


def data_root() -> Path:
    """`$AEBENCH_DATA`, else `aebench` in the user's cache folder: absolute, and perhaps not there.

    `~` is the home folder, as shells do not replace it in `.env` files and between quotes; a
    relative path is one in the workspace, where every stage runs. AebenchError without a home.
    """
    try:
        path = Path(os.environ.get("AEBENCH_DATA") or platformdirs.user_cache_dir("aebench"))
        return path.expanduser().absolute()
    except RuntimeError:  # a user without an entry, as in a container
        raise AebenchError(
            "there is no home folder to keep data sets in; set AEBENCH_DATA to an absolute path"
        ) from None


def json_bytes(content: Any) -> bytes:
    """Readable JSON with a final newline. ValueError for NaN and infinity."""
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


def is_json(value: Any) -> bool:
    """Whether a JSON file gives the value back, tuples as lists."""
    try:
        return json.loads(json_bytes(value)) == with_lists(value)
    except (TypeError, ValueError):
        return False


def with_lists(value: Any) -> Any:
    """The value with a list for each tuple in it."""
    if isinstance(value, dict):
        return {key: with_lists(item) for key, item in value.items()}
    return [with_lists(item) for item in value] if isinstance(value, list | tuple) else value


def sha256(content: bytes) -> str:
    """In hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def read_bytes(path: Path) -> bytes:
    """All of a file. An OSError names it."""
    with naming(path):
        return path.read_bytes()


def file_hash(path: Path) -> str:
    """SHA-256 of the file's bytes. An OSError names it."""
    with naming(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an OSError name the file, also where the reading fails and not the opening."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
