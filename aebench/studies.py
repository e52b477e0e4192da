"""The report's studies: architectures, one parameter alone, protocol, latent space, classes."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from aebench.baselines import (
    has_skill,
    is_pixels,
    mse_skill,
    references,
    skill_columns,
)
from aebench.costs import Times
from aebench.geometry import METRICS
from aebench.results import PANEL_K, Point, panel_column, sort_key
from aebench.tables import (
    ACCURACY,
    LATENT,
    LAYERS,
    MACS,
    MSE,
    PARAMS,
    PROBE,
    PSNR,
    RUN,
    SIZE,
    Column,
    best,
    best_by_size,
    bold,
    estimate,
    grid,
    number,
    table,
    tied,
    verdict,
)
from aebench.uncertainty import of_accuracies, over_seeds


def models(
    shown: Sequence[Point], points: Sequence[Point], times: Times, value: Column | None = None
) -> tuple[str, str]:
    """Which of the shown models are best, and the table of their size, cost and quality.

    `value`: the column of a study's parameter.
    """
    accurate, by_size = best(shown, "accuracy"), best_by_size(shown)
    exact = [point for group in by_size for point in group]
    skill, gain = skill_columns(points)
    columns = [
        RUN,
        LATENT,
        LAYERS,
        PARAMS,
        SIZE,
        MACS,
        times.epoch,
        MSE._replace(cell=bold(MSE.cell, exact)),
        skill,
        PSNR,
        ACCURACY._replace(cell=bold(ACCURACY.cell, accurate)),
        gain,
    ]
    if value:
        columns.insert(1, value)
    return verdict(accurate, by_size), table(columns, shown, notes=True)


def at_defaults(plan: dict[str, Any], points: Sequence[Point]) -> list[Point]:
    """The points at the default size and depth."""
    return [
        point
        for point in points
        if all(point.settings.get(key, plan[key]) == plan[key] for key in ("latent", "depth"))
    ]


def architectures(plan: dict[str, Any], points: Sequence[Point], times: Times) -> str:
    """The runs at the default size and depth."""
    shown = at_defaults(plan, points)
    shown += references(points, {plan["latent"]}, shown)
    head = f"Runs at the default size (latent {plan['latent']}) and depth ({plan['depth']})."
    words, text = models(shown, points, times)
    return f"## Architectures\n\n{f'{head} {words}'.rstrip()}\n\n{text}"


def title(name: str) -> str:
    """The heading of a study."""
    return {"latent": "Representation size", "depth": "Depth"}.get(name, f"Parameter {name}")


def study(name: str, groups: list[list[Point]], points: Sequence[Point], times: Times) -> str:
    """The points that differ in one parameter alone, then what they are held against."""
    swept = [point for group in groups for point in group]
    shown = swept + references(points, {point.latent for point in swept}, swept)
    if name == "latent":  # others without a parameter of that name have a size all the same
        shown += [p for p in points if name not in p.settings and p not in shown]
    value = Column(name, lambda p: str(p.settings.get(name, "")), "the parameter of this study")
    words, text = models(shown, points, times, value if name != "latent" else None)
    values = sorted((point.settings[name] for point in swept), key=sort_key)
    different = ", ".join(dict.fromkeys(map(str, values)))
    head = f"Runs that differ in {name} alone ({different}), then what they are held against."
    return f"## {title(name)}\n\n{f'{head} {words}'.rstrip()}\n\n{text}"


def panel(points: Sequence[Point]) -> str:
    """Accuracy at every k and metric, and whether another choice would change the ranking."""
    shown = [point for point in points if point.ok]
    if not shown:
        return ""
    cells = [(metric, str(k)) for metric in METRICS for k in PANEL_K]
    columns = [panel_column(metric, k) for metric, k in cells]
    headline = [point.mean("accuracy") for point in shown]
    rows = [
        [point.name, *(percent(point.mean(column)) for column in columns), PROBE.cell(point)]
        for point in shown
    ]
    agreement = {c: correlation(headline, [p.mean(c) for p in shown]) for c in columns}
    rows.append(
        [
            "*rank correlation*",
            *(number_or_blank(agreement[column]) for column in columns),
            number_or_blank(correlation(headline, [p.mean("probe_accuracy") for p in shown])),
        ]
    )
    headers = ["run", *(f"{metric.split('-')[0]} {k}" for metric, k in cells), PROBE.header]
    text = grid(headers, rows, [True] + [False] * (len(headers) - 1))
    return (
        "## Does the protocol decide?\n\nAccuracy in % for every metric and k of the panel, and of "
        "a linear probe. The last row is Kendall's tau-b between that column's ranking of the "
        f"runs and the headline's: 1 is the same order. {conclusion(shown, columns, agreement)}"
        f"\n\n{text}\n\n<sub>**l2**: distance between codes; **cosine**: after subtracting the "
        "mean of the training codes; **whitened**: then scaled to equal variance in every "
        "direction (those below 1e-6 of the largest dropped); a blank k is above the number of "
        f"training images. No cell's 95 % interval is wider than ± {widest(shown, columns):.2f}. "
        f"**{PROBE.header}**: {PROBE.meaning}.</sub>"
    )


def conclusion(
    points: Sequence[Point], columns: Sequence[str], agreement: dict[str, float | None]
) -> str:
    """In words: how far the panel agrees with the headline."""
    known = {column: tau for column, tau in agreement.items() if tau is not None}
    if len(points) < 3 or not known:
        return ""
    least = min(known, key=lambda column: known[column])
    group = best(points, "accuracy")
    if not group:
        return ""
    first = group[0]
    others: dict[str, int] = {}
    for column in known:
        top = max(points, key=lambda p: p.mean(column) or 0)
        if top not in group:
            others[top.name] = others.get(top.name, 0) + 1
    cell = least.removeprefix("accuracy_").replace("_k", ", k = ")
    text = f"It is lowest with {cell}: {known[least]:.2f}. "
    if not others:
        return text + (
            f"{first.name}, or a run that is tied with it, has the highest accuracy in all "
            f"{len(known)} cells."
        )
    named = "; ".join(f"{name} in {count}" for name, count in others.items())
    agreeing = len(known) - sum(others.values())
    return text + (
        f"{first.name}, or a run that is tied with it, has the highest accuracy in {agreeing} of "
        f"{len(known)} cells ({named}): **which run is best depends on the protocol**."
    )


def widest(points: Sequence[Point], columns: Sequence[str]) -> float:
    """The largest half width of a cell's interval, in points."""
    intervals = (
        of_accuracies(values, len(point.outcomes[0]))
        for point in points
        for column in columns
        if (values := point.values(column))
    )
    return max(100 * (found.half or 0) for found in intervals)


def correlation(one: Sequence[float | None], other: Sequence[float | None]) -> float | None:
    """Kendall's tau-b over the runs that have both; None where it is not defined."""
    pairs = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    if len({a for a, _ in pairs}) < 2 or len({b for _, b in pairs}) < 2:
        return None
    tau = float(stats.kendalltau(*zip(*pairs, strict=True)).statistic)
    return None if math.isnan(tau) else tau


def better(point: Point, points: Sequence[Point]) -> str:
    """`, 15.8 % less than PCA`, where that can be said."""
    skill = mse_skill(point, points) if has_skill(point, points) else None
    told = skill is not None and skill.mean > (skill.half or 0)
    return f", {100 * skill.mean:.1f} % less than PCA" if skill and told else ""


def percent(value: float | None) -> str:
    """`46.81`; blank without a value."""
    return "" if value is None else f"{100 * value:.2f}"


def number_or_blank(value: float | None) -> str:
    """`0.93`; blank without a value."""
    return "" if value is None else f"{value:.2f}"


def health(points: Sequence[Point]) -> str:
    """The columns that explain a bad kNN."""

    def share(point: Point) -> str:
        floats = point.latent or math.inf
        shares = [rank / floats for rank in point.values("effective_rank")]
        return estimate(over_seeds(shares), "{:.0f}", 100) if shares else ""

    columns = [
        RUN,
        LATENT,
        Column(
            "effective rank",
            number("effective_rank", "{:.1f}"),
            "exp of the entropy of the codes' singular values (Roy and Vetterli, 2007): over how "
            "many directions the codes spread; distances see the rest hardly",
        ),
        Column("of latent, %", share, "effective rank / latent"),
        Column(
            "dead dimensions",
            number("dead_dimensions", "{:.0f}"),
            "floats with at most 1e-6 of the largest variance: they are stored and say nothing",
        ),
        Column(
            "norm spread",
            number("norm_spread", "{:.2f}"),
            "standard deviation / mean of the codes' distances from their mean: where it is large, "
            "L2 finds codes near the centre, and cosine says something else",
        ),
        ACCURACY,
        PROBE,
    ]
    return f"## Latent space\n\nWhat can explain a bad search.\n\n{table(columns, points)}"


def classes(plan: dict[str, Any], names: Sequence[str], points: Sequence[Point]) -> str:
    """Per-class accuracy of the runs at the default size and depth."""
    shown = [point for point in at_defaults(plan, points) if point.ok]
    if not shown:
        return ""
    confused = [confusion(point, len(names)) for point in shown]
    rows = [
        [name, *(class_accuracy(point, label) for point in shown)]
        for label, name in enumerate(names)
    ]
    text = grid(["class", *(p.name for p in shown)], rows, [True] + [False] * len(shown))
    mistakes = [
        f"{point.name} takes {names[a]} for {names[b]} "
        f"({100 * matrix[a, b] / matrix[a].sum():.0f} %)"
        for point, matrix in zip(shown, confused, strict=True)
        if matrix.trace() < matrix.sum()
        for a, b in [most_confused(matrix)]
    ]
    often = f" Most often, {'; '.join(mistakes)}." if mistakes else ""
    return (
        "## Classes\n\nAccuracy in % of the images of each class, at the default "
        f"size and depth.{often}\n\n{text}"
    )


def class_accuracy(point: Point, label: int) -> str:
    """The accuracy on the images of one class, with its interval."""
    found = [(o["prediction"] == label)[o["label"] == label] for o in point.outcomes]
    if not len(found[0]):  # a class without test images
        return ""
    return estimate(of_accuracies([f.mean() for f in found], len(found[0])), "{:.1f}", 100)


def confusion(point: Point, count: int) -> np.ndarray:
    """Images float64 (class, predicted class), mean over the outcomes of the seeds."""
    total = np.zeros((count, count))
    for outcome in point.outcomes:
        np.add.at(total, (outcome["label"], outcome["prediction"]), 1)
    return total / len(point.outcomes)


def most_confused(matrix: np.ndarray) -> tuple[int, int]:
    """The class and the other one that it is most often taken for."""
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(shares, -1)
    a, b = np.unravel_index(shares.argmax(), shares.shape)
    return int(a), int(b)


def summary(points: Sequence[Point], search_claim: str) -> str:
    """What the report comes to."""
    coded = [point for point in points if point.ok and not is_pixels(point)]
    lines = []
    if group := best(coded, "accuracy"):
        mean = percent(group[0].mean("accuracy"))
        lines.append(f"- kNN accuracy of all codes: {tied(group)} ({mean} %).")
    for group in best_by_size(coded):
        mse = group[0].mean("mse")
        lines.append(
            f"- Reconstruction with {group[0].latent} floats: {tied(group)} (MSE {mse:.5f}"
            f"{better(group[0], points)})."
        )
    if search_claim:
        lines.append(f"- Search. {search_claim}")
    return "## In short\n\n" + "\n".join(lines) if lines else ""
