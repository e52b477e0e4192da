"""Which DVC holds a workspace: read from the files that it locks, no lock of which is ever taken.

DVC has two. `.dvc/tmp/lock` is held while it works itself; it stays there, with the number of the
process that held it last. While a stage's command runs that lock is free, and `.dvc/tmp/rwlock`
names the process, until it removes its entries. Both outlive a DVC that is killed.
"""

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import psutil

from aebench.errors import AebenchError
from aebench.workspace import Workspace

# `dvc status` and an editor that asks for experiments hold the lock for a second, and again and
# again. As long as DVC waits for another DVC.
PATIENCE = 3.0
ROUNDING = 2.0  # seconds: the start of a process is known to one, and files' clocks lag behind
UNKNOWN = -1  # no process has this number: 0 is the parent of all on macOS


def check_not_held(workspace: Workspace, process: int | None = None) -> None:
    """AebenchError if a DVC that runs holds the workspace and did not start this process.

    A moment's holder is waited for. `process`: the one that DVC may have started, in a fork of a
    server; unless given, this one. Two DVCs may run different stages side by side. What DVC itself
    cannot see, one in another container or on another host, is not seen here either.
    """
    folder = dvc_folder(workspace.root)
    if folder is None:
        return
    end = time.monotonic() + PATIENCE
    while (found := holders(folder)) and not found.keys() & set(with_ancestors(process)):
        if time.monotonic() > end:
            raise AebenchError(refusal(folder, *found.popitem()))
        time.sleep(0.05)


def refusal(folder: Path, process: int, words: str) -> str:
    """What is held by whom, and what to do."""
    advice = "ask `aebench plan --check`, which writes nothing"
    if process == UNKNOWN:
        return (
            f"{folder / 'lock'}: a DVC holds this workspace: wait for its end, or {advice}; "
            "if none runs, remove that file"
        )
    return f"`{words}` (process {process}) holds this workspace: wait for its end, or {advice}"


def dvc_folder(root: Path) -> Path | None:
    """The folder of the locks, of the workspace or of the repository that it is a part of."""
    here = root.absolute()
    for folder in (here, *here.parents):
        if (folder / ".dvc").is_dir():
            return folder / ".dvc" / "tmp"
        if os.path.ismount(folder):  # where DVC stops, too
            break
    return None


def holders(folder: Path) -> dict[int, str]:
    """The processes that hold it -> their command.

    DVC has the lock whenever it changes rwlock. So whoever goes from the one to the other, in
    whichever direction, between two of the three looks is seen in another.
    """
    return in_rwlock(folder) | in_lock(folder) | in_rwlock(folder)


def in_rwlock(folder: Path) -> dict[int, str]:
    """Those whose stages run."""
    path = folder / "rwlock"
    try:
        entries = json.loads(path.read_bytes())
        written = path.stat().st_mtime
        parts = entries.get("write", {}).values(), *entries.get("read", {}).values()
        named = {int(entry["pid"]): str(entry["cmd"]) for entry in chain.from_iterable(parts)}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}  # none yet, or being written: then the lock is held
    return {
        process: short(words)
        for process, words in named.items()
        if (command := command_of(process, written)) and words.endswith(command[-1])
    }


def in_lock(folder: Path) -> dict[int, str]:
    """The one that works itself now."""
    path = folder / "lock"
    try:
        content, written = path.read_text(), path.stat().st_mtime
    except (OSError, ValueError):
        return {}
    if not content.strip().isdecimal():  # core.hardlink_lock: there only while it is held
        return {UNKNOWN: ""} if content.strip() else {}
    try:
        process = int(content)
    except ValueError:  # more digits than Python converts
        return {}
    command = command_of(process, written)
    return {process: short(" ".join(command))} if command and has_open(process, path) else {}


def command_of(process: int, written: float) -> list[str]:
    """The words of a process that can have written at that time; empty if it has ended.

    A later process can have its number.
    """
    with contextlib.suppress(psutil.Error, OSError, ValueError):  # of a number below 0
        found = psutil.Process(process)
        if found.create_time() <= written + ROUNDING:
            return found.cmdline()
    return []


def has_open(process: int, path: Path) -> bool:
    """Whether it has the file open, as DVC does only while it has the lock."""
    try:
        files = psutil.Process(process).open_files()
    except psutil.AccessDenied:  # another user's
        return True
    except (psutil.Error, OSError):
        return False
    return os.path.realpath(path) in (file.path for file in files)


def with_ancestors(process: int | None) -> Iterator[int]:
    """The numbers of the process (this one if None), its parent, the parent of that, ..."""
    own = os.getpid() if process is None else process
    yield own
    with contextlib.suppress(psutil.Error, OSError):
        yield from (parent.pid for parent in psutil.Process(own).parents())


def short(words: str) -> str:
    """`/venv/bin/dvc repro`, `python -m dvc repro` -> `dvc repro`."""
    return re.sub(r"^.*?\bdvc(/__main__\.py)?(?=\s|$)", "dvc", words)[:80]
