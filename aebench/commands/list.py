"""Show models, data sets, metrics and runs, and what failed to load."""

from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

from aebench.errors import AebenchError
from aebench.params import read_params
from aebench.plugins import Registry, built_in_metrics, load_plugins
from aebench.workspace import Workspace, data_root

Rows = list[list[str]]  # before the verb below takes the name


def list(workspace: Workspace) -> None:
    """Print models, data sets, metrics, runs, where each comes from, and what failed to load."""
    registry = load_plugins(workspace)
    section("Models", ["model", "plug-in", "uses"], models(registry))
    section("Data sets", ["data set", "from"], datasets(registry))
    section("Metrics", ["metric", "from", "better"], metrics(registry))
    try:
        params, errors = read_params(workspace)
        runs = [
            [name, run.model, pins(run.model_dump(exclude_unset=True))]
            for name, run in (params.runs if params else {}).items()
        ]
        section("Runs (params.yaml)", ["run", "model", "pins"], runs)
        if errors:
            section("Errors", ["error"], [[text] for text in errors])
    except AebenchError as error:
        section("Runs", ["error"], [[text] for text in str(error).splitlines()])
    doubled = [*registry.duplicates.values(), *registry.duplicate_datasets.values()]
    doubled += registry.duplicate_metrics.values()
    if doubled:
        section("Of one name", ["reason"], [[reason] for reason in doubled])
    if faults := [*registry.broken.values(), *registry.ignored]:
        section("Not loaded", ["reason"], [[reason] for reason in faults])


def models(registry: Registry) -> Rows:
    """A row per architecture."""
    rows = []
    for name, model in sorted(registry.choices.items()):
        uses = [k if v is ... else f"{k}={v}" for k, v in model.arguments.items()]
        rows.append([name, model.plugin.name, ", ".join(uses)])
    return rows


def datasets(registry: Registry) -> Rows:
    """A row per data set: the registered ones and the folders below the data root."""
    root = data_root()
    rows = [[name, d.plugin.name] for name, d in sorted(registry.datasets.items())]
    folders = sorted(path.parent for path in root.glob("*/train") if path.is_dir())
    found = {folder.name: folder for folder in folders}
    rows = [[name, where] for name, where in rows if name not in found]  # the folder wins
    return rows + [[name, str(folder)] for name, folder in found.items()]


def metrics(registry: Registry) -> Rows:
    """A row per metric of reconstructions: the built-in ones and those of plug-ins."""
    found = [*built_in_metrics().values(), *registry.metrics.values()]
    return [[metric.name, metric.plugin.name, metric.better] for metric in found]


def pins(run: dict[str, Any]) -> str:
    """`latent=10` for each key that alters its results, but the model."""
    said = ("model", "trials")
    return ", ".join(f"{key}={value}" for key, value in run.items() if key not in said)


def section(title: str, headers: Sequence[str], rows: Rows) -> None:
    """A titled table on standard output."""
    print(f"{title}\n{tabulate(rows, headers) if rows else 'none'}\n")
