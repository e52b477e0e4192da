"""Where the files of a workspace lie, and writing them whole or not at all."""

import argparse
import contextlib
import glob
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import platformdirs

from aebench.errors import AebenchError, is_machine_failure

STAGES = ("plan", "prepare", "train", "encode", "knn", "report")
OLD = 24 * 3600.0  # seconds without a further byte after which nobody writes a file any more
PER_RUN = ("train", "encode", "knn")  # those of each run and seed


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
    relative path is one in the workspace, where every stage runs.
    """
    path = os.environ.get("AEBENCH_DATA") or platformdirs.user_cache_dir("aebench")
    return Path(os.path.expanduser(path)).absolute()


class Outs:
    """The files a stage writes: they appear under their names together, at the end, or never.

    with Outs() as outs:
        outs.open(path).write(...)
    """

    def __init__(self) -> None:
        self._files: dict[Path, BinaryIO] = {}

    def __enter__(self) -> "Outs":
        return self

    def open(self, path: Path) -> BinaryIO:
        """A binary file for the coming content of `path`."""
        if path in self._files:  # begun anew: what the old handle still buffers must not follow
            self._files[path].close()
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_old_parts(path)
        self._files[path] = part_path(path).open("wb")
        return self._files[path]

    def write(self, path: Path, content: bytes) -> None:
        """The whole content of `path` at once."""
        self.open(path).write(content)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        try:
            for file in self._files.values():
                file.close()  # flushes: a full disk shows here at the latest
            if error is None:
                for path in self._files:
                    os.replace(part_path(path), path)
        except OSError as late:
            error = late
            raise
        finally:
            for path in self._files:
                part_path(path).unlink(missing_ok=True)
            say_where(error, self._files)


def say_where(error: BaseException | None, files: Iterable[Path]) -> None:
    """Let the error of a full disk name the folders: that of an open file names nothing."""
    if isinstance(error, OSError) and error.filename is None and is_machine_failure(error):
        folders = ", ".join(sorted({str(path.parent) for path in files}))
        if error.errno:
            error.filename = folders
        else:  # numpy's
            error.args = (f"{error}: {folders}",)


def part_path(path: Path) -> Path:
    """Where the content of `path` grows until it is whole: a file of this process alone."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def remove_old_parts(path: Path) -> None:
    """Remove what processes that were killed have left; what others write now is younger."""
    for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > OLD:
                shutil.rmtree(part) if part.is_dir() else part.unlink()


def json_bytes(content: Any) -> bytes:
    """Readable JSON with a final newline. ValueError for NaN and infinity."""
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


def read_memory(workspace: Workspace, name: str) -> dict[str, Any]:
    """What .aebench/<name>.json remembers; nothing where it is not what aebench writes."""
    try:
        known = json.loads((workspace.root / ".aebench" / f"{name}.json").read_bytes())
    except (OSError, ValueError):
        return {}
    found = known.items() if isinstance(known, dict) else ()
    return {key: about for key, about in found if isinstance(about, dict)}


def write_memory(workspace: Workspace, name: str, content: dict[str, Any]) -> None:
    """Remember it in .aebench/<name>.json, where the folder can be written."""
    with contextlib.suppress(OSError), Outs() as outs:
        outs.write(workspace.root / ".aebench" / f"{name}.json", json_bytes(content))


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


def check_unchanged(path: Path, content_hash: str) -> None:
    """AebenchError if the plan is not the one that a stage has computed by: before it writes."""
    if not path.is_file() or file_hash(path) != content_hash:
        raise AebenchError(f"{path}: changed while this stage ran; run `dvc repro` again")


def needed(path: Path, made_by: str) -> None:
    """AebenchError that names the command which makes the file where it is not there."""
    if not path.is_file():
        raise AebenchError(f"{path}: not there; run `{made_by}` first")


def file_hash(path: Path) -> str:
    """SHA-256 of the file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
