"""The report's figures: what of the results stands in each picture."""

import re
from collections.abc import Mapping, Sequence

from aebench.report.baselines import EXACT
from aebench.report.configurations import (
    Configuration,
    best_and_references,
    best_first,
    of_all,
    title,
)
from aebench.report.document import Figure
from aebench.report.pictures import Curve, FurtherCurves, LossCurves, Mosaic, Strip, Sweep
from aebench.report.results import Results
from aebench.workspace import sha256

ROWS, LOSSES, CHARTS, CURVES = 24, 30, 12, 10  # what a picture has room, or colours and lines, for
LARGEST = 1e100  # that an axis can show
# Files that no parameter may take.
OTHERS = ("reconstructions", "loss_curves", "further_curves", "confusion")


def reconstructions(results: Results, everything: Sequence[Configuration]) -> list[Figure]:
    """The shown test images, and those of each model's first seed; empty without any."""
    originals = results.originals
    drawn = [one for one in everything if one.ok and one.ok[0].examples is not None]
    shown = best_and_references(drawn, ROWS)
    rows = [Strip(one.name, found) for one in shown if (found := one.ok[0].examples) is not None]
    rows = [row for row in rows if row.images.shape == rows[0].images.shape]
    caption = f"The same test images, and what each run makes of them.{of_all(shown, drawn)}"
    above = [] if originals is None else [Strip("original", originals)]
    return [Figure("reconstructions", Mosaic([*above, *rows]), caption)] if rows else []


def loss_curves(everything: Sequence[Configuration]) -> list[Figure]:
    """Of each model's first seed; empty if nothing was trained."""
    losses = {one: drawable({"": one.ok[0].losses}) for one in everything if one.ok}
    drawn = [one for one, found in losses.items() if found]
    shown = best_and_references(drawn, LOSSES)
    curves = [(one.name, losses[one][""]) for one in shown]
    caption = f"Training loss. A model's own loss has its own scale.{of_all(shown, drawn)}"
    return [Figure("loss_curves", LossCurves(curves), caption)] if curves else []


def further_curves(everything: Sequence[Configuration]) -> list[Figure]:
    """What losses gave beside the loss, of each model's first seed, a chart a name; else empty."""
    curves = {one: drawable(one.ok[0].curves) for one in everything if one.ok}
    drawn = [one for one, found in curves.items() if found]
    shown = best_and_references(drawn, LOSSES)
    charts: dict[str, dict[int, list[float | None]]] = {}
    for place, one in enumerate(shown):
        for name, values in curves[one].items():
            charts.setdefault(name, {})[place] = values
    # Of many those that most runs have.
    most = sorted(charts, key=lambda name: -len(charts[name]))[:CHARTS]
    caption = "What losses gave beside the loss, mean over the epoch."
    if len(most) < len(charts):
        caption += f" {len(most)} of {len(charts):,} curves: those that most runs have."
    caption += of_all(shown, drawn)
    first = [(name, values) for name, values in charts.items() if name in most]
    picture = FurtherCurves([one.name for one in shown], first)
    return [Figure("further_curves", picture, caption)] if first else []


def drawable(curves: Mapping[str, Sequence[float | None]]) -> dict[str, list[float | None]]:
    """Those that have any value that an axis can show, gaps in place of the others."""
    found = {
        name: [None if value is None or abs(value) > LARGEST else value for value in values]
        for name, values in curves.items()
    }
    return {name: values for name, values in found.items() if {*values} - {None}}


def sweep(
    name: str, groups: Sequence[Sequence[Configuration]], everything: Sequence[Configuration]
) -> list[Figure]:
    """MSE and accuracy over a numeric parameter, raw pixels as a level; empty for another one.

    Empty, too, where every run failed.
    """
    values = [one.settings[name] for group in groups for one in group]
    if not all(isinstance(value, int | float) and abs(value) <= LARGEST for value in values):
        return []
    shown = drawn(groups)
    if not shown:
        return []
    pixels = next((one for one in everything if one.is_pixels and one.ok), None)
    level = pixels.mean("accuracy") if pixels else None
    picture = Sweep(
        name,
        sorted(set(values)),
        curves(name, shown, "mse", 1, EXACT),
        curves(name, shown, "accuracy", 100, 0),
        None if level is None else 100 * level,
    )
    of = "test MSE and kNN accuracy" if picture.mse else "kNN accuracy"
    caption = f"{title(name)}: {of}, ± 95 %."
    if len(shown) < len(groups):
        caption += f" {len(shown)} of {len(groups):,} curves: PCA's and the best."
    return [Figure(file_name(name), picture, caption)]


def file_name(parameter: str) -> str:
    """A parameter's name is the plug-in's, a figure's that of a file: no two of one name."""
    plain = re.sub(r"[^\w.-]", "-", parameter)[:80]
    if plain != parameter:
        plain += f"-{sha256(parameter.encode())[:8]}"
    return f"parameter-{plain}" if plain in OTHERS else plain


def drawn(groups: Sequence[Sequence[Configuration]]) -> list[Sequence[Configuration]]:
    """The groups that have a curve, in their order; of many PCA's and those of the best runs."""
    groups = [group for group in groups if any(one.ok for one in group)]
    of_pca = [group for group in groups if group[0].is_pca]
    of_group = {one: group for group in groups for one in group if one.ok}
    best = [of_group[one] for one in best_first([*of_group])]
    kept = {id(group): group for group in [*of_pca, *best]}
    first = {*[*kept][:CURVES]}
    return [group for group in groups if id(group) in first or len(groups) <= CURVES]


def curves(
    name: str,
    groups: Sequence[Sequence[Configuration]],
    column: str,
    factor: float,
    least: float,
) -> list[Curve]:
    """A curve per group of which any run has the figure, `least` or more times `factor`."""
    models = [group[0].settings["model"] for group in groups]
    found = []
    for group, model in zip(groups, models, strict=True):
        ok = [one for one in group if column in one.intervals]
        label = model if models.count(model) == 1 else f"{model} ({group[0].names[0]}, ...)"
        x = [one.settings[name] for one in ok]
        y = [max(one.intervals[column].mean * factor, least) for one in ok]
        spread = [
            ((found.below or 0) * factor, (found.above or 0) * factor)
            for found in (one.intervals[column] for one in ok)
        ]
        if ok:
            found.append(Curve(label, x, y, spread, group[0].baseline))
    return found
