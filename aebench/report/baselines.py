"""What every figure is held against: PCA of the same size, raw pixels, the untrained network."""

import io
import re
import sys
from collections.abc import Sequence
from typing import Any

from ruamel.yaml import YAML

from aebench.evaluation.uncertainty import Interval, interval, of_gain
from aebench.report.configurations import Configuration
from aebench.report.document import Block, Cell, Code, CodeBlock, Format, Paragraph, Strong
from aebench.report.measures import Measure
from aebench.report.results import Result, Results
from aebench.report.tables import Column

EXACT = 1e-5  # MSE of PCA below which a ratio to it says nothing
SKILL = Format("{:+.1f}", 100, narrow=True)
TIMES = 1.5  # of PCA's MSE, from which on a percentage says less than how many times it is
RUNS, NAME_LENGTH = 12, 60  # that are printed to be added, and of a name of theirs


class Baselines:
    """The references among the configurations, and the skill of the others over PCA."""

    def __init__(self, everything: Sequence[Configuration]) -> None:
        self.everything = everything
        # Of several, the first that did not fail: dict() keeps the last.
        backwards = everything[::-1]
        found = [c for c in backwards if not c.ok] + [c for c in backwards if c.ok]
        self.pcas = {(c.latent, c.search): c for c in found if c.is_pca}
        self.pixels = {(c.search, c.settings["knn.backend"]): c for c in found if c.is_pixels}
        self.found: dict[tuple[Configuration, str], Interval | None] = {}

    def pca_of(self, one: Configuration) -> Configuration | None:
        """PCA of the same representation size, searched alike."""
        return self.pcas.get((one.latent, one.search))

    def pixels_of(self, one: Configuration) -> Configuration | None:
        """Raw pixels, searched alike by the same backend."""
        return self.pixels.get((one.search, one.settings["knn.backend"]))

    def has_skill(self, one: Configuration, column: str) -> bool:
        """Whether it is trained and PCA of its size is there: both have the figure."""
        pca = self.pca_of(one)
        return not one.is_reference and column in one.images and bool(pca and column in pca.images)

    def skill(self, one: Configuration, column: str) -> Interval | None:
        """None for what has no skill in it, and where PCA's MSE is exact."""
        key = one, column
        if key not in self.found:
            pca = self.pca_of(one) if self.has_skill(one, column) else None
            if column == "mse":
                self.found[key] = pca and mse_skill_score(one, pca)
            else:
                self.found[key] = pca and gain(one, pca, column)
        return self.found[key]

    @property
    def columns(self) -> tuple[Column, Column]:
        """MSE's and accuracy's skill over PCA."""

        def mse(one: Configuration) -> Cell:
            skill = self.skill(one, "mse")
            exact = skill is None and self.has_skill(one, "mse")
            return Cell(text="PCA is exact") if exact else over_pca(skill)

        def accuracy(one: Configuration) -> Cell:
            return over_pca(self.skill(one, "accuracy"), is_ratio=False)

        return (
            Column(
                "MSE vs PCA, %",
                mse,
                "by how much the MSE is below that of PCA with as many floats, 1 - MSE / PCA's, "
                f"paired; from {TIMES} times PCA's on, how many times",
            ),
            Column(
                "over PCA",
                accuracy,
                "the accuracy minus that of PCA with as many floats, in points, paired",
            ),
        )

    def gain_column(self, measure: Measure) -> Column:
        """A further metric's skill over PCA, in its own units: what its perfect value is, and so
        what a ratio would say, is not known.
        """
        written = measure.difference._replace(narrow=True)
        return Column(
            f"{measure.word} over PCA",
            lambda one: over_pca(self.skill(one, measure.column), False, written),
            f"by how much the {measure.word} is better than PCA's with as many floats, paired",
        )

    def of_result(self, result: Result, one: Configuration) -> dict[str, float | None]:
        """The columns of results.csv for one seed of a configuration."""
        found: dict[str, float | None] = {"mse_skill_score": None, "accuracy_gain": None}
        pca = self.pca_of(one)
        if pca is None or not result.ok or not self.has_skill(one, "accuracy"):
            return found
        own, mse, accuracy = result.columns["mse"], pca.mean("mse"), pca.mean("accuracy")
        if own is not None and mse is not None and mse >= EXACT:
            found["mse_skill_score"] = 1 - own / mse
        found["accuracy_gain"] = result.columns["accuracy"] - (accuracy or 0)
        for name in result.better:
            value, of_pca = result.columns[name], pca.mean(name)
            if value is not None and of_pca is not None:
                found[f"{name}_gain"] = one.sign(name) * (value - of_pca) + 0.0  # no -0.0
        return found

    def references(self, sizes: set[Any], without: Sequence[Configuration]) -> list[Configuration]:
        """For a table of trained ones: PCA at their sizes, an untrained network, raw pixels."""
        found = [c for c in self.everything if c.is_pca and c.latent in sizes]
        untrained = [c for c in self.everything if c.is_untrained]
        # One is enough, best of a size that is shown.
        found += sorted(untrained, key=lambda c: c.latent not in sizes)[:1]
        found += [
            c
            for c in self.everything
            if c.is_reference
            and not c.is_pca
            and not c.is_untrained
            and ("latent" not in c.settings or c.latent in sizes)
        ]
        return [c for c in found if c not in without]


def mse_skill_score(one: Configuration, pca: Configuration) -> Interval | None:
    """1 - MSE / MSE of PCA at the same size, paired over the images; None where PCA is exact.

    The interval is that of the ratio linearised at the means (delta method).
    """
    errors, of_pca = one.images["mse"], pca.images["mse"].mean(axis=0)
    mean, pca_mean = errors.mean(), of_pca.mean()
    if pca_mean < EXACT:
        return None
    ratio = mean / pca_mean
    return interval(1 - ratio - (errors - mean - ratio * (of_pca - pca_mean)) / pca_mean)


def gain(one: Configuration, pca: Configuration, column: str) -> Interval:
    """By how much it is better than PCA of the same size, paired over the images."""
    values = one.sign(column) * (one.images[column] - pca.images[column].mean(axis=0))
    return of_gain(values) if column == "accuracy" else interval(values)


def over_pca(skill: Interval | None, is_ratio: bool = True, written: Format = SKILL) -> Cell:
    """`+5.4 ± 0.2`, in percent or points; `5.0 times` of a ratio where the error is far above."""
    if skill is None:
        return Cell()
    tone = "bad" if skill.high < 0 else ""
    if is_ratio and (times := times_pca(skill)):
        return Cell(skill, text=f"{times:.1f} times", tone=tone)
    return Cell(skill, written, tone=tone)


def times_pca(skill: Interval) -> float | None:
    """How many times PCA's MSE it is; None where that is less than TIMES."""
    ratio = 1 - skill.mean
    return ratio if ratio >= TIMES else None


def missing(everything: Sequence[Configuration], results: Results) -> list[Block]:
    """The lines to add under `runs:` for baselines that are not there; empty if all are."""
    wanted: dict[str, dict[str, Any]] = {}

    def add(name: str, one: Configuration, run: dict[str, Any]) -> None:
        """A run searched as `one` is, under a name that is free."""
        own = {key: one.settings[f"knn.{key}"] for key in dict(results.knn)}
        other = {key: value for key, value in own.items() if value != results.knn[key]}
        if other:
            run |= {"knn": other}
            name += "".join(f"-{value}" for value in other.values())
        while name in results.runs or wanted.get(name, run) != run:
            name += "-again"
        wanted[name] = run

    trained = [c for c in everything if not c.is_reference]
    pcas = {(c.latent, c.search) for c in everything if c.is_pca}
    pixels = {c.search for c in everything if c.is_pixels}
    for one in trained:
        if one.latent is not None and (one.latent, one.search) not in pcas:
            run = {"model": model_of("pca", everything), "latent": one.latent}
            add(f"pca-latent{one.latent}", one, run)
        if one.search not in pixels:
            add("pixels", one, {"model": model_of("pixels", everything)})
    if trained and not any(c.is_untrained for c in everything):
        one = min(trained, key=lambda c: len(pinned(c, results)))
        model = str(one.settings["model"])[:NAME_LENGTH]
        name = re.sub(r"[^a-z0-9_-]+", "-", f"{model}-untrained".lower()).lstrip("-_")
        add(name, one, untrained(one, pinned(one, results)))
    return lines_to_add(wanted) if wanted else []


def model_of(baseline: str, everything: Sequence[Configuration]) -> str:
    """The name of the model in that role, where a run has it; else that of the built-in one."""
    found = (c.settings["model"] for c in everything if c.baseline == baseline)
    return next(found, baseline)


def pinned(one: Configuration, results: Results) -> dict[str, Any]:
    """Its size and depth where they are not the defaults."""
    defaults = {"latent": results.latent, "depth": results.depth}
    own = {key: one.settings.get(key) for key in defaults}
    return {key: value for key, value in own.items() if value not in (None, defaults[key])}


def untrained(one: Configuration, pins: dict[str, Any]) -> dict[str, Any]:
    """A run of the same model without training."""
    options = {
        key: value
        for key, value in one.settings.items()
        if key not in ("model", "latent", "depth", "weights") and "." not in key
    }
    return {"model": one.settings["model"], **pins, **options, "train": {"epochs": 0}}


def lines_to_add(wanted: dict[str, dict[str, Any]]) -> list[Block]:
    """What is missing, and the runs (name -> content) that bring it; of many the first."""
    first = dict([*wanted.items()][:RUNS])
    if left := len(wanted) - len(first):
        text = f"{as_yaml(first)}\n  # and {left:,} more, which the report names after these"
    else:
        text = as_yaml(first)
    words = ", and with them what the figures are worth. Add under "
    return [
        Paragraph([Strong("Baselines are missing"), words, Code("runs:"), " in params.yaml:"]),
        CodeBlock(text, "yaml"),
    ]


def as_yaml(runs: dict[str, dict[str, Any]]) -> str:
    """The lines under `runs:`, by the library that reads them again."""
    yaml = YAML()
    yaml.width = sys.maxsize  # no line is folded
    yaml.allow_unicode = False  # escaped, what cannot be seen comes back, too
    yaml.indent(mapping=2, sequence=4, offset=2)
    text = io.StringIO()
    yaml.dump({"runs": runs}, text)
    return text.getvalue().removeprefix("runs:\n").rstrip("\n")
