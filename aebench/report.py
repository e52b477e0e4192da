"""Join the results into reports/: Markdown, CSV, metrics and figures."""

import csv
import io
import sys
from typing import Any

import numpy as np

from aebench import baselines, conditions, costs, figures, studies
from aebench.errors import AebenchError
from aebench.files import PLAN, PREPARED, REPORTS, RESULTS, Outs, file_hash, read_json, result_path
from aebench.results import Point, Row, points, read_plan, read_rows, swept
from aebench.uncertainty import interval


def report() -> None:
    """Write reports/report.md, results.csv, metrics.json and figures/*.png.

    AebenchError, after everything is written, when every trained run failed.
    """
    plan = read_plan()
    data = read_json(RESULTS / "data.json", "dvc repro")
    if data["plan_hash"] != file_hash(PLAN / "data.json"):
        raise AebenchError("results/data.json is of another data set; run `dvc repro`")
    rows, hidden = read_rows(plan, data)
    found = points(rows)
    pictures = draw(plan, found, data)
    with Outs() as outs:
        outs.write(REPORTS / "results.csv", results_csv(with_figures(rows, found)))
        outs.write_json(REPORTS / "metrics.json", metrics(found))
        text = markdown(plan, data, rows, found, hidden, list(pictures))
        (REPORTS / "figures").mkdir(parents=True, exist_ok=True)
        for old in (REPORTS / "figures").glob("*.png"):
            old.unlink()
        for name, picture in pictures.items():
            outs.write(REPORTS / "figures" / f"{name}.png", picture)
        outs.write(REPORTS / "report.md", text.encode())
    failed = [row for row in rows if row["status"] != "ok"]
    if failed:
        print(f"aebench: {len(failed)} of {len(rows)} runs failed", file=sys.stderr)
    trained = [point for point in found if not point.is_reference]
    if trained and not any(point.ok for point in trained):
        raise AebenchError(f"all trained runs failed; the reasons are in {REPORTS / 'report.md'}")


def with_figures(rows: list[Row], found: list[Point]) -> list[Row]:
    """The rows, with what only the report knows: intervals over images, skill over PCA."""
    return [row | image_intervals(row) | baselines.skills(row, found) for row in rows]


def image_intervals(row: Row) -> Row:
    """Half widths of the 95 % intervals of one seed, over test images alone."""
    columns = {column: f"{column}_ci95" for column in ("mse", "psnr", "accuracy")}
    if row["status"] != "ok":
        return dict.fromkeys(columns.values())
    point = Point([row["run"]], {}, [row])
    return {name: interval(point.per_image(column)).half for column, name in columns.items()}


def results_csv(rows: list[Row]) -> bytes:
    """The rows as CSV, blank where there is no figure."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def metrics(found: list[Point]) -> dict[str, dict[str, float]]:
    """Small and flat for `dvc metrics diff`: the means over seeds, under every run's name."""
    return {
        column: {
            name: value for p in found for name in p.names if (value := p.mean(column)) is not None
        }
        for column in ("accuracy", "mse")
    }


def draw(plan: dict[str, Any], found: list[Point], data: dict[str, Any]) -> dict[str, bytes]:
    """Figure name -> PNG."""
    drawn: dict[str, bytes] = {}
    images = np.load(PREPARED / "test_images.npy", mmap_mode="r")[data["gallery"]]
    shown = []
    curves = {}
    for point in found:
        if point.ok:
            run, seed = point.names[0], point.ok[0]["seed"]
            shown.append((point.name, np.load(result_path(run, seed, "gallery.npy"))))
            if losses := read_json(result_path(run, seed, "train.json"), "dvc repro")["losses"]:
                curves[point.name] = losses
    drawn["reconstructions"] = figures.reconstructions(images, shown)
    if curves:
        drawn["loss_curves"] = figures.loss_curves(curves)
    shown = [point for point in studies.at_defaults(plan, found) if point.ok]
    if shown:
        matrices = {p.name: studies.confusion(p, len(data["classes"])) for p in shown}
        drawn["confusion"] = figures.confusion(data["classes"], matrices)
    pixels = next((p for p in found if baselines.is_pixels(p) and p.ok), None)
    for name, groups in swept(found).items():
        if all(isinstance(p.settings[name], int | float) for group in groups for p in group):
            drawn[name] = figures.sweep(name, groups, pixels)
    return drawn


def markdown(
    plan: dict[str, Any],
    data: dict[str, Any],
    rows: list[Row],
    found: list[Point],
    hidden: list[str],
    pictures: list[str],
) -> str:
    """The whole report."""
    parts = [f"# {data['dataset']}: what a representation costs, and what it keeps"]
    if data["dataset"] == "digits":
        parts.append("**SMOKE: digits, not a benchmark.**")
    times = costs.Times(rows)
    parts.append(conditions.conditions(plan, data, rows, found))
    if hidden:
        parts.append("Not shown:\n\n" + "\n".join(f"- {text}" for text in hidden))
    else:
        parts.append(baselines.missing(found, plan))
    claim = costs.claim(found, costs.SearchCost(found, times, data["num_train"]))
    parts.append(studies.summary(found, claim))
    parts.append(studies.architectures(plan, found, times))
    parts.append(
        figure("reconstructions", "The same test images, and what each run makes of them.")
    )
    if "loss_curves" in pictures:
        parts.append(figure("loss_curves", "Training loss. A model's own loss has its own scale."))
    for name, groups in swept(found).items():
        parts.append(studies.study(name, groups, found, times))
        if name in pictures:
            parts.append(figure(name, f"{studies.title(name)}: test MSE and kNN accuracy, ± 95 %."))
    parts.append(costs.search(found, times, data["num_train"]))
    parts.append(times.notes())
    parts.append(studies.panel(found))
    parts.append(studies.health(found))
    parts.append(studies.classes(plan, data["classes"], found))
    if "confusion" in pictures:
        parts.append(figure("confusion", "Rows: the class; columns: the vote, % of the row."))
    parts.append(conditions.differing(rows))
    parts.append(conditions.failures(rows))
    return "\n\n".join(part for part in parts if part) + "\n"


def figure(name: str, caption: str) -> str:
    """A picture with its caption."""
    return f"![{name}](figures/{name}.png)\n\n*{caption}*"
