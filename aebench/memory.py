"""What .aebench/ remembers from one command to the next, and by what a file's change is known."""

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

from aebench.outs import Outs
from aebench.workspace import Workspace, json_bytes, sha256

SETTLED = 2.0  # seconds: of a younger file a later change may have the same times


def read_memory(workspace: Workspace, name: str) -> dict[str, Any]:
    """What .aebench/<name>.json remembers; nothing where it is not what `write_memory` wrote."""
    try:
        known = json.loads((workspace.root / ".aebench" / f"{name}.json").read_bytes())
        return known["content"] if known["hash"] == hash_of(known["content"]) else {}
    except (OSError, ValueError, RecursionError, LookupError, TypeError):
        return {}


def write_memory(workspace: Workspace, name: str, content: dict[str, Any]) -> None:
    """Remember it in .aebench/<name>.json, where the folder can be written."""
    known = {"content": content, "hash": hash_of(content)}
    with contextlib.suppress(OSError), Outs() as outs:
        outs.write(workspace.root / ".aebench" / f"{name}.json", json_bytes(known))


def hash_of(content: dict[str, Any]) -> str:
    """By which damage is seen."""
    return sha256(json_bytes(content))


def state(path: Path) -> list[int]:
    """What every change of the content moves: a program may set the date, but not the ctime."""
    found = os.stat(path)
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def settled(path: Path, now: float | None = None) -> bool:
    """Whether the file has not changed shortly before `now`: `state` tells a later change."""
    now = time.time() if now is None else now
    return now - os.stat(path).st_ctime > SETTLED
