"""Where a result comes from: code, versions, machine."""

import datetime
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

# What a run itself writes or `dvc exp run -S` edits does not make the code dirty.
IGNORED = ("plan", "reports", "dvc.lock", "params.yaml")


def provenance(packages: list[str], **facts: Any) -> dict[str, Any]:
    """aebench's and the packages' versions, commit, processor, date, and the stage's own facts."""
    versions = {name: importlib.metadata.version(name) for name in ["aebench", *packages]}
    return {
        **facts,
        **commit(),
        "versions": versions | {"python": platform.python_version()},
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "openblas_coretype": os.environ.get("OPENBLAS_CORETYPE"),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def commit() -> dict[str, Any]:
    """The workspace's git commit, and whether it has uncommitted changes; null outside git."""
    head = git("rev-parse", "HEAD")
    if head is None:
        return {"commit": None, "dirty": None}
    excluded = [f":(exclude){name}" for name in IGNORED]
    return {"commit": head, "dirty": bool(git("status", "--porcelain", "--", ".", *excluded))}


def git(*arguments: str) -> str | None:
    """What git prints, or None where it fails (no git, no repository, no commit yet)."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def cpu_name() -> str:
    """The processor's name as the system knows it."""
    try:
        for row in Path("/proc/cpuinfo").read_text().splitlines():
            if row.startswith("model name"):
                return row.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
