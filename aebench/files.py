"""Where the files of a workspace lie, and writing them whole or not at all."""

import hashlib
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import platformdirs

from aebench.errors import AebenchError

PLAN = Path("plan")
PREPARED = Path("data/prepared")
RUNS = Path("runs")  # weights and codes: large, no times
RESULTS = Path("results")  # what the report reads
REPORTS = Path("reports")


def data_root() -> Path:
    """`$AEBENCH_DATA`, else `aebench` in the user's cache folder."""
    return Path(os.environ.get("AEBENCH_DATA") or platformdirs.user_cache_dir("aebench"))


def plan_path(run: str, stage: str) -> Path:
    """The resolved settings of one stage of one run."""
    return PLAN / run / f"{stage}.json"


def run_path(run: str, seed: int, name: str) -> Path:
    """A file that later stages compute with: weights, codes, errors."""
    return RUNS / run / str(seed) / name


def result_path(run: str, seed: int, name: str) -> Path:
    """A file that the report reads."""
    return RESULTS / run / str(seed) / name


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
        self._files[path] = part_path(path).open("wb")
        return self._files[path]

    def write(self, path: Path, content: bytes) -> None:
        """The whole content of `path` at once."""
        self.open(path).write(content)

    def write_json(self, path: Path, content: Any) -> None:
        """`content` as JSON; NaN and infinity are refused."""
        self.write(path, json_bytes(content))

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
        finally:
            for path in self._files:
                part_path(path).unlink(missing_ok=True)


def part_path(path: Path) -> Path:
    """Where the content of `path` grows until it is whole."""
    return path.with_name(f".{path.name}.part")


def json_bytes(content: Any) -> bytes:
    """Readable JSON with a final newline. ValueError for NaN and infinity."""
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


def read_json(path: Path, made_by: str) -> Any:
    """The JSON file; AebenchError that names the command which makes it where it is not there."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise AebenchError(f"{path}: not there; run `{made_by}` first") from None
    except ValueError as error:
        raise AebenchError(f"{path}: not JSON ({error}); run `{made_by}` again") from None


def needed(path: Path, made_by: str) -> None:
    """AebenchError that names the command which makes the file where it is not there."""
    if not path.is_file():
        raise AebenchError(f"{path}: not there; run `{made_by}` first")


def file_hash(path: Path) -> str:
    """SHA-256 of the file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
