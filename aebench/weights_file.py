"""The file that a run begins with (`weights: FILE`): where it lies, what is wrong, its hash."""

import contextlib
import os
import posixpath
import re
import stat
from pathlib import Path, PurePosixPath

from aebench.errors import AebenchError, nearest
from aebench.memory import read_memory, settled, state, write_memory
from aebench.records.plan import WeightsFile
from aebench.workspace import Workspace, file_hash

SUFFIXES = (".safetensors", ".pt", ".pth")
MADE = ("plan", "data/prepared", "runs", "results", "reports")  # what stages write


def weights_fault(workspace: Workspace, file: str) -> str | None:
    """What is wrong with the value of a run's key `weights`, or with the file; else None."""
    return path_fault(file) or file_fault(workspace, normal(file))


def path_fault(file: str) -> str | None:
    """What is wrong with the path as it is written."""
    if not file.strip() or not file.isprintable():
        return f"got {file!r}; allowed: the path of a file in the workspace"
    if "\\" in file:
        return f"got {file!r}; allowed: forward slashes; write {file.replace(chr(92), '/')}"
    path = normal(file)
    outside = path.startswith(("/", "../", "~")) or path == ".."
    if outside or "://" in file or re.match("[A-Za-z]:", path):
        own = f"weights/{PurePosixPath(path).name}"
        return (
            f"got {file!r}; allowed: a path in the workspace, which others have elsewhere; copy "
            f"or link the file into it (ln -s) and write its name there, as {own}"
        )
    if made := next((m for m in MADE if f"{path}/".startswith(f"{m}/")), None):
        return f"got {file!r}, which `dvc repro` writes; copy it out of {made}/"
    return None


def file_fault(workspace: Workspace, file: str) -> str | None:
    """What is wrong with what lies there."""
    path = workspace.root / file
    try:
        found = os.stat(path)
    except OSError as error:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            return f"{file}: not readable ({error.strerror}); mend that"
        if path.is_symlink():
            return f"{file}: a broken link (to {os.readlink(path)}); mend it"
        return f"{file}: not there{instead(workspace.root, file)}"
    if stat.S_ISDIR(found.st_mode):
        inside = named_so(path)
        which = f", as {', '.join(f'{file}/{name}' for name in inside[:3])}" if inside else ""
        return f"{file}: a folder; allowed: a file{which}"
    if not file.lower().endswith(SUFFIXES):
        return (
            f"{file}: allowed: names that end in {', '.join(SUFFIXES)}; "
            "torch.save(model.state_dict(), 'FILE.pt') writes one"
        )
    if not stat.S_ISREG(found.st_mode):
        return f"{file}: neither a file nor a folder; allowed: a file"
    if found.st_size == 0:
        return f"{file}: an empty file; replace it"
    if not os.access(path, os.R_OK):
        return f"{file}: not readable (Permission denied); mend that"
    return None


def instead(root: Path, file: str) -> str:
    """The nearest name where the path leads to nothing, or how to get a file that DVC has."""
    parts = PurePosixPath(file).parts
    for end in range(1, len(parts) + 1):
        place = posixpath.join(*parts[:end])
        if (root / f"{place}.dvc").is_file():
            return f"; DVC has it: dvc checkout {place}.dvc (or dvc pull)"
        if not os.path.lexists(root / place):
            above = root.joinpath(*parts[: end - 1])
            known = named_so(above) if end == len(parts) else folders(above)
            there = f"; there are {', '.join(known[:5])}" if known else ""
            return nearest(parts[end - 1], known) or there
    return ""


def named_so(folder: Path) -> list[str]:
    """The names in the folder that a weights file can have."""
    with contextlib.suppress(OSError):
        return sorted(name for name in os.listdir(folder) if name.lower().endswith(SUFFIXES))
    return []


def folders(folder: Path) -> list[str]:
    """The names of its folders, without hidden ones and those of the stages."""
    with contextlib.suppress(OSError):
        found = [entry.name for entry in os.scandir(folder) if entry.is_dir()]
        return sorted(name for name in found if not name.startswith(".") and name not in MADE)
    return []


def normal(file: str) -> str:
    """One spelling of the path: `./a//b.pt` is `a/b.pt`."""
    return posixpath.normpath(file)


def weights_file(workspace: Workspace, file: str, remembering: bool) -> WeightsFile:
    """The file, without a `weights_fault`, and its hash. AebenchError where it cannot be read.

    `remembering`: whether to write the hash down.
    """
    name = normal(file)
    before = state(workspace.root / name)
    found = WeightsFile(file=name, hash=current_hash(workspace, name))
    if remembering:
        remember(workspace, found, before)
    return found


def check_weights_file(workspace: Workspace, planned: WeightsFile) -> Path:
    """Where it lies. AebenchError unless it has the content that was planned."""
    fault = file_fault(workspace, planned.file)
    if fault or current_hash(workspace, planned.file) != planned.hash:
        raise AebenchError(f"{planned.file}: changed since `aebench plan`; run `dvc repro` again")
    return workspace.root / planned.file


def current_hash(workspace: Workspace, file: str) -> str:
    """SHA-256 of its bytes, which is remembered until its size or times change.

    `plan` runs at every `dvc repro`, and reading a gigabyte takes seconds.
    """
    path = workspace.root / file
    known = read_memory(workspace, "weights").get(file, {})
    if known.get("state") == state(path) and isinstance(known.get("hash"), str):
        return known["hash"]
    try:
        return file_hash(path)
    except OSError as error:
        raise AebenchError(f"{file}: not readable ({error.strerror}); mend that") from None


def remember(workspace: Workspace, found: WeightsFile, before: list[int]) -> None:
    """Keep the hash, if the file stayed in the state `before`, with those of files still there."""
    path, known = workspace.root / found.file, read_memory(workspace, "weights")
    about = {"state": before, "hash": found.hash}
    if known.get(found.file) == about or not settled(path) or state(path) != before:
        return
    kept = {f: old for f, old in known.items() if (workspace.root / f).is_file()}
    write_memory(workspace, "weights", kept | {found.file: about})
