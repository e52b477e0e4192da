"""Resolve params.yaml and the plug-ins into plan/."""

import argparse
import sys
from pathlib import Path

from aebench.job import alone
from aebench.outs import Outs
from aebench.planning import Plan, resolve
from aebench.plugins import all_remembered
from aebench.records.plan import Sources
from aebench.staleness import codes_in_use, why_stale
from aebench.workspace import INDEX, Workspace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`--check`."""
    words = "write nothing: say faults, and what is stale and why"
    parser.add_argument("--check", action="store_true", help=words)


def imports_slowly(workspace: Workspace) -> bool:
    """Only through plug-ins whose registrations are not remembered."""
    return not all_remembered(workspace)


def plan(workspace: Workspace, check: bool = False) -> None:
    """Write plan/: data.json, report.json, sources.json, <run>/{train,encode,knn,stress}.json.

    And <run>/index-<name>.json of each index under `search:` in params.yaml.

    Everything is checked first and AebenchError holds every fault; a file is written only when its
    text changed, and those of removed runs are deleted. `check`: nothing is written, and each stale
    stage is told with its reason.
    """
    if check:
        print("\n".join(why_stale(workspace, resolved(workspace, remembering=False))))
        return
    with alone(workspace, "plan", wait=60) as locked, Outs(alone=locked) as outs:
        write_changed(workspace, resolved(workspace, remembering=True), outs)


def resolved(workspace: Workspace, remembering: bool) -> Plan:
    """The plan; its warnings are said."""
    found = resolve(workspace, remembering)
    for warning in found.warnings:
        print(f"aebench: warning: {warning}", file=sys.stderr)
    return found


def write_changed(workspace: Workspace, found: Plan, outs: Outs) -> None:
    """Write the files whose text changed and delete what is left of removed runs and indexes."""
    sources = Sources(code=codes_in_use(workspace, found))
    files = found.files | {workspace.plan / "sources.json": sources}
    for path, record in files.items():
        if not holds(path, text := record.json_bytes()):
            outs.write(path, text)
    kept = {path.parent for path in files}
    for folder in workspace.plan.glob("*/"):
        if folder not in kept:
            outs.remove(folder)
    for path in workspace.plan.glob(f"*/{INDEX}*.json"):
        if path not in files:
            outs.remove(path)


def holds(path: Path, text: bytes) -> bool:
    """Whether that is the file's content; what cannot be read is written anew."""
    try:
        return path.read_bytes() == text
    except OSError:
        return False
