"""Which versions a worker must have, to compute what would be computed here."""

import ast
import importlib.metadata
import platform
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from aebench.plugins import find_plugin
from aebench.records.plan import ReportPlan, TrainPlan
from aebench.workspace import Workspace

# What aebench computes by: named in each result.
COMPUTING = "aebench", "torch", "numpy", "faiss-cpu", "scikit-learn"


def versions(copies: Iterable[Workspace]) -> dict[str, str]:
    """Package -> its version here: of Python, COMPUTING and what the plans' plug-ins import."""
    providers = importlib.metadata.packages_distributions()
    imported = {name for copy in copies for path in sources(copy) for name in imports(path)}
    packages = {
        package
        for name in imported - sys.stdlib_module_names - {"aebench"}
        for package in providers.get(name, [])
    }
    found = {name: importlib.metadata.version(name) for name in sorted({*COMPUTING, *packages})}
    return {"python": ".".join(platform.python_version_tuple()[:2])} | found


def sources(copy: Workspace) -> set[Path]:
    """The files of the plug-ins whose models the plan has."""
    runs = ReportPlan.read(copy.plan / "report.json", "aebench plan").runs
    plans = [TrainPlan.read(copy.plan_path(run, "train"), "aebench plan") for run in runs]
    found: set[Path] = set()
    for name in {plan.plugin for plan in plans}:
        found |= find_plugin(copy, name).sources()[0]
    return {path for path in found if path.suffix == ".py"}


def imports(path: Path) -> Iterator[str]:
    """The top-level names that the file imports, also deep inside."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]
