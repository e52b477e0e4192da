"""Where a result comes from: code, versions, machine."""

import contextlib
import datetime
import importlib.metadata
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

from aebench.records.origin import PROTOCOL, Provenance
from aebench.timing import less
from aebench.waiting import policy
from aebench.workspace import Workspace

# What a run itself writes or `dvc exp run -S` edits does not make the code dirty.
IGNORED = ("plan", "reports", "dvc.lock", "params.yaml")


class Clock:
    """Starts with a stage of the workspace; at its end says where the result comes from."""

    def __init__(self, workspace: Workspace) -> None:
        self.root = workspace.root
        with contextlib.suppress(OSError):  # else what the imports took for a moment counts, too
            Path("/proc/self/clear_refs").write_text("5")
        self.memory = memory_bytes("VmRSS")
        self.cpu = cpu_seconds()
        self.start = time.perf_counter()

    def provenance(self, packages: list[str], **facts: Any) -> Provenance:
        """Versions of aebench and the packages, commit, machine, date, and what the stage adds."""
        peak = memory_bytes("VmHWM") if facts.get("processes") is None else None
        versions = {name: importlib.metadata.version(name) for name in ["aebench", *packages]}
        return Provenance(
            **facts,
            **commit(self.root),
            versions=versions | {"python": platform.python_version()},
            cpu=cpu_name(),
            cores=os.cpu_count(),
            openblas_coretype=os.environ.get("OPENBLAS_CORETYPE"),
            wait_policy=policy(),
            date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            protocol=PROTOCOL,
            stage_seconds=time.perf_counter() - self.start,
            stage_cpu_seconds=cpu_seconds() - self.cpu,
            peak_memory_bytes=less(peak, self.memory),
        )


def cpu_seconds() -> float:
    """Of this process, all its threads, and of the processes that it has waited for."""
    return sum(os.times()[:4])


def memory_bytes(row: str) -> int | None:
    """Memory of this process in RAM now (`VmRSS`) or at most (`VmHWM`); None without /proc."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{row}:"):
                return 1024 * int(line.split()[1])
    return None


def commit(root: Path) -> dict[str, Any]:
    """The workspace's git commit, and whether it has uncommitted changes; null outside git."""
    head = git(root, "rev-parse", "HEAD")
    if head is None:
        return {"commit": None, "dirty": None}
    excluded = [f":(exclude){name}" for name in IGNORED]
    return {"commit": head, "dirty": bool(git(root, "status", "--porcelain", "--", ".", *excluded))}


def git(root: Path, *arguments: str) -> str | None:
    """What git prints, or None where it fails (no git, no repository, no commit yet)."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, check=True
        )
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
