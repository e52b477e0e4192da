"""Render reports/ from the results."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from aebench.errors import AebenchError
from aebench.outs import Outs
from aebench.workspace import Workspace

if TYPE_CHECKING:
    from aebench.report.results import Results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`--results`."""
    words = "render what these folders hold (workspaces or their results/), not this workspace's"
    parser.add_argument("--results", type=Path, nargs="+", metavar="DIR", help=words)


def imports_slowly(workspace: Workspace) -> bool:
    """No: 1 s of what a server has is not worth starting one."""
    return False


def report(workspace: Workspace, results: list[Path] | None = None) -> None:
    """Write reports/: report.md, report.html, figures/*.png, results.csv, and what DVC shows.

    AebenchError, after everything is written, when every trained run failed.
    """
    from aebench.job import alone, working
    from aebench.records.plan import ReportPlan
    from aebench.report.gather import gather
    from aebench.report.results import read_results

    if results and (workspace.root / "dvc.yaml").is_file():
        raise AebenchError(
            f"{workspace.reports}: would be replaced, and is this workspace's own; write the "
            "common report in another folder: mkdir common && cd common && aebench report "
            "--results ..."
        )
    if results:
        found = gather(results)
        with alone(workspace, "report") as locked, Outs(alone=locked) as outs:
            write(workspace, found, outs)
    else:
        with working(workspace, ReportPlan) as job:
            job.loaded()
            folders = [workspace.results / run for run in job.plan.runs]
            files = [path for folder in folders for path in folder.glob("*/[!.]*")]
            job.inputs.note([*workspace.results.glob("[!.]*.*"), *files])
            found = read_results(workspace, job.plan)
            write(workspace, found, job.outs)
    if results:
        print(f"wrote {workspace.reports / 'report.md'}, results.csv, *.json, figures/ and plots/")
    page = (workspace.reports / "report.html").absolute()
    if ".dvc" not in page.parts:  # where DVC runs an experiment of its queue, and removes it
        print(f"open {page.as_uri()}", flush=True)  # which a terminal makes a link
    for words in found.hidden:
        print(f"aebench: warning: not shown: {words}", file=sys.stderr)
    failed = [result for result in found.results if not result.ok]
    if failed:
        print(f"aebench: {len(failed)} of {len(found.results)} runs failed", file=sys.stderr)
    trained = [result for result in found.results if result.settings.get("train.epochs")]
    if trained and not any(result.ok for result in trained):
        path = workspace.reports / "report.md"
        raise AebenchError(f"all trained runs failed; the reasons are in {path}")


def write(workspace: Workspace, results: "Results", outs: Outs) -> None:
    """Render them."""
    from aebench.report.render import files

    contents = files(results, os.environ.get("DVC_EXP_NAME"))
    for name, content in contents.items():
        outs.write(workspace.reports / name, content)
    # DVC expects the folder, which is empty where there is nothing to draw.
    figures = workspace.reports / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    for old in [*figures.glob("*.png"), *(workspace.reports / "plots").glob("search.csv")]:
        if f"{old.parent.name}/{old.name}" not in contents:
            outs.remove(old)
