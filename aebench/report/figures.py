"""The report's figures: what of the results stands in each picture."""

import re
from collections.abc import Sequence

from aebench.report.baselines import EXACT
from aebench.report.configurations import Configuration
from aebench.report.document import Figure
from aebench.report.pictures import Curve, LossCurves, Mosaic, Sweep
from aebench.report.results import Results
from aebench.report.studies import title

OTHERS = ("reconstructions", "loss_curves", "confusion")  # files that no parameter may take


def reconstructions(results: Results, everything: Sequence[Configuration]) -> list[Figure]:
    """The shown test images, and those of each model's first seed; empty without any."""
    originals = results.originals
    rows = [
        (one.name, examples)
        for one in everything
        if one.ok and (examples := one.ok[0].examples) is not None
    ]
    rows = [(name, images) for name, images in rows if images.shape == rows[0][1].shape]
    caption = "The same test images, and what each run makes of them."
    rows = rows if originals is None else [("original", originals), *rows]
    return [Figure("reconstructions", Mosaic(rows), caption)] if rows else []


def loss_curves(everything: Sequence[Configuration]) -> list[Figure]:
    """Of each model's first seed; empty if nothing was trained."""
    curves = [(one.name, one.ok[0].losses) for one in everything if one.ok and one.ok[0].losses]
    caption = "Training loss. A model's own loss has its own scale."
    return [Figure("loss_curves", LossCurves(curves), caption)] if curves else []


def sweep(
    name: str, groups: Sequence[Sequence[Configuration]], everything: Sequence[Configuration]
) -> list[Figure]:
    """MSE and accuracy over a numeric parameter, raw pixels as a level; empty for another one."""
    values = [one.settings[name] for group in groups for one in group]
    if not all(isinstance(value, int | float) for value in values):
        return []
    pixels = next((one for one in everything if one.is_pixels and one.ok), None)
    level = pixels.mean("accuracy") if pixels else None
    picture = Sweep(
        name,
        sorted(set(values)),
        curves(name, groups, "mse", 1, EXACT),
        curves(name, groups, "accuracy", 100, 0),
        None if level is None else 100 * level,
    )
    # A parameter's name is the plug-in's, a figure's that of a file.
    file = re.sub(r"[^\w.-]", "-", name)
    file = f"parameter-{file}" if file in OTHERS else file
    return [Figure(file, picture, f"{title(name)}: test MSE and kNN accuracy, ± 95 %.")]


def curves(
    name: str,
    groups: Sequence[Sequence[Configuration]],
    column: str,
    factor: float,
    least: float,
) -> list[Curve]:
    """A curve per group of which any run is left, `least` or more times `factor`."""
    models = [group[0].settings["model"] for group in groups]
    found = []
    for group, model in zip(groups, models, strict=True):
        ok = [one for one in group if one.ok]
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
