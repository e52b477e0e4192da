"""Render reports/ from the results."""

import argparse
import os
import sys
from pathlib import Path

from aebench.errors import AebenchError
from aebench.workspace import Outs, Workspace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`--results`."""
    words = "render what these folders hold (workspaces or their results/), not this workspace's"
    parser.add_argument("--results", type=Path, nargs="+", metavar="DIR", help=words)


def report(workspace: Workspace, results: list[Path] | None = None) -> None:
    """Write reports/: report.md, report.html, figures/*.png, results.csv, and what DVC shows.

    AebenchError, after everything is written, when every trained run failed.
    """
    from aebench.report.gather import gather
    from aebench.report.render import files
    from aebench.report.results import read_results

    if results and (workspace.root / "dvc.yaml").is_file():
        raise AebenchError(
            f"{workspace.reports}: would be replaced, and is this workspace's own; write the "
            "common report in another folder: mkdir common && cd common && aebench report "
            "--results ..."
        )
    found = gather(results) if results else read_results(workspace)
    experiment = os.environ.get("DVC_EXP_NAME")
    contents = {
        workspace.reports / name: content for name, content in files(found, experiment).items()
    }
    figures = workspace.reports / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    with Outs() as outs:
        for path, content in contents.items():
            outs.write(path, content)
    for old in set(figures.glob("*.png")) - contents.keys():
        old.unlink()
    if results:
        print(f"wrote {workspace.reports / 'report.md'}, results.csv, *.json, figures/ and plots/")
    page = (workspace.reports / "report.html").absolute()
    if ".dvc" not in page.parts:  # where DVC runs an experiment of its queue, and removes it
        print(f"open {page.as_uri()}", flush=True)  # which a terminal makes a link
    failed = [result for result in found.results if not result.ok]
    if failed:
        print(f"aebench: {len(failed)} of {len(found.results)} runs failed", file=sys.stderr)
    trained = [result for result in found.results if result.settings.get("train.epochs")]
    if trained and not any(result.ok for result in trained):
        path = workspace.reports / "report.md"
        raise AebenchError(f"all trained runs failed; the reasons are in {path}")
