"""What every figure is held against: PCA of the same size, raw pixels, the untrained network."""

import json
from collections.abc import Sequence
from typing import Any

from aebench.results import Point, Row
from aebench.tables import Column, estimate
from aebench.uncertainty import Interval, interval

EXACT = 1e-5  # MSE of PCA below which a ratio to it says nothing


def is_pixels(point: Point) -> bool:
    """Whether the codes are the raw pixels."""
    return point.settings["model"] == "pixels"


def is_untrained(point: Point) -> bool:
    """Whether it is a network as it was initialised."""
    return point.settings.get("train.epochs") == 0


def same_search(one: Point, other: Point) -> bool:
    """Whether their accuracies are of one protocol."""
    return all(one.settings[key] == other.settings[key] for key in ("knn.k", "knn.metric"))


def pca_of(point: Point, points: Sequence[Point]) -> Point | None:
    """PCA of the same representation size, searched alike."""
    return next(
        (
            p
            for p in points
            if p.settings["model"] == "pca" and p.latent == point.latent and same_search(p, point)
        ),
        None,
    )


def has_skill(point: Point, points: Sequence[Point]) -> bool:
    """Whether it is trained and PCA of its size is there: neither failed."""
    pca = pca_of(point, points)
    return not point.is_reference and bool(point.ok) and pca is not None and bool(pca.ok)


def mse_skill(point: Point, points: Sequence[Point]) -> Interval | None:
    """1 - MSE / MSE of PCA at the same size, paired over the images; None where PCA is exact.

    The interval is that of the ratio linearised at the means (delta method).
    """
    pca = pca_of(point, points)
    assert pca is not None
    errors, of_pca = point.per_image("mse"), pca.per_image("mse").mean(axis=0)
    mean, pca_mean = errors.mean(), of_pca.mean()
    if pca_mean < EXACT:
        return None
    ratio = mean / pca_mean
    return interval(1 - ratio - (errors - mean - ratio * (of_pca - pca_mean)) / pca_mean)


def accuracy_skill(point: Point, points: Sequence[Point]) -> Interval:
    """Accuracy minus PCA's at the same size, paired over the images."""
    pca = pca_of(point, points)
    assert pca is not None
    return interval(point.per_image("accuracy") - pca.per_image("accuracy").mean(axis=0))


def in_words(found: Interval) -> str:
    """`+5.4 ± 0.2`, with what a negative or an unclear one means; in percent or points."""
    text = estimate(found, "{:+.1f}", 100)
    if found.half is not None and abs(found.mean) <= found.half:
        return f"{text}, not told from PCA"
    return f"{text}, **worse than PCA**" if found.mean < 0 else text


def skill_columns(points: Sequence[Point]) -> tuple[Column, Column]:
    """MSE's and accuracy's skill over PCA."""

    def mse(point: Point) -> str:
        if not has_skill(point, points):
            return ""
        found = mse_skill(point, points)
        return "PCA is exact here" if found is None else in_words(found)

    def accuracy(point: Point) -> str:
        return in_words(accuracy_skill(point, points)) if has_skill(point, points) else ""

    return (
        Column("skill, %", mse, "1 - MSE / MSE of PCA with as many floats, paired"),
        Column("over PCA, points", accuracy, "accuracy - that of PCA with as many floats, paired"),
    )


def skills(row: Row, points: Sequence[Point]) -> Row:
    """The two columns of results.csv for one seed."""
    point = next(p for p in points if row["run"] in p.names)
    found: Row = {"mse_skill": None, "accuracy_skill": None}
    pca = pca_of(point, points)
    if row["status"] == "ok" and pca is not None and has_skill(point, points):
        mse, accuracy = pca.mean("mse"), pca.mean("accuracy")
        if mse is not None and mse >= EXACT:
            found["mse_skill"] = 1 - row["mse"] / mse
        found["accuracy_skill"] = row["accuracy"] - (accuracy or 0)
    return found


def missing(points: Sequence[Point], plan: dict[str, Any]) -> str:
    """The lines to add under `runs:` for baselines that are not there; empty if all are."""
    wanted: dict[str, list[str]] = {}
    trained = [point for point in points if not point.is_reference]

    def add(name: str, point: Point, *lines: str) -> None:
        """A run searched as `point` is, under a name that is free."""
        found = list(lines)
        if override := {k: v for k, v in plan["knn"].items() if point.settings[f"knn.{k}"] != v}:
            found.append("knn:")
            found += [f"  {key}: {point.settings[f'knn.{key}']}" for key in override]
            name += "".join(f"-{point.settings[f'knn.{key}']}" for key in override)
        while name in plan["runs"]:
            name += "-again"
        wanted[name] = found

    for point in trained:
        if point.latent is not None and pca_of(point, points) is None:
            add(f"pca-latent{point.latent}", point, "model: pca", f"latent: {point.latent}")
        if not any(is_pixels(p) and same_search(p, point) for p in points):
            add("pixels", point, "model: pixels")
    if trained and not any(is_untrained(point) for point in points):
        first = trained[0].settings
        options = [
            f"{key}: {json.dumps(value)}"
            for key, value in first.items()
            if key not in ("model", "latent", "depth") and "." not in key
        ]
        name = f"{first['model']}-untrained".lower()
        add(name, trained[0], f"model: {first['model']}", *options, "train:", "  epochs: 0")
    if not wanted:
        return ""
    text = "\n".join(
        f"  {name}:\n" + "\n".join(f"    {line}" for line in lines)
        for name, lines in wanted.items()
    )
    return (
        "**Baselines are missing**, and with them what the figures are worth. Add under `runs:` in "
        f"params.yaml:\n\n```yaml\n{text}\n```"
    )


def references(points: Sequence[Point], sizes: set[Any], without: Sequence[Point]) -> list[Point]:
    """For a table of trained points: PCA at their sizes, an untrained network, raw pixels."""
    found = [p for p in points if p.settings["model"] == "pca" and p.latent in sizes]
    untrained = [p for p in points if is_untrained(p)]
    # One is enough, best of a size that is shown.
    found += sorted(untrained, key=lambda p: p.latent not in sizes)[:1]
    found += [
        p
        for p in points
        if p.is_reference
        and p.settings["model"] != "pca"
        and not is_untrained(p)
        and ("latent" not in p.settings or p.latent in sizes)
    ]
    return [p for p in found if p not in without]
