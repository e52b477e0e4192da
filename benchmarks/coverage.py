"""How often 95 % intervals hold the truth: of formulas, of simulated suites and of real seeds.

    nice python benchmarks/coverage.py | tee benchmarks/coverage.txt    # 8 minutes

- Formulas: exact, for normal means of known variance over images and an estimated one over seeds.
  `ratio` is the seeds' standard deviation over the images', each of its mean.
- Suites: each draws images, of which some are hard for every model and some for this one, and
  seeds, which move a model as a whole and each image. The truth is the mean over all images and
  seeds there could be. Squared errors are log-normal over images, as digits' are (sd of the log
  0.81); answers are right by a probit. A column is by how much a seed moves a model, as a multiple
  of what the images alone move the figure of one seed (0: each image for itself). Left blank: seeds
  that move an accuracy by more than a quarter of the way to 100 %. Their means are skewed: of 99 %
  moved by 1.6 points, 89 % of 300 intervals of three seeds held.
- Real seeds: trainings of mlp on digits, which differ in nothing but the seed.
"""

import contextlib
import itertools
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from _machine import arguments, note, show
from ruamel.yaml import YAML
from scipy import special, stats

from aebench.evaluation.uncertainty import (
    LEAST,
    LEVEL,
    Interval,
    Variance,
    difference,
    interval,
    of_accuracies,
    of_accuracy,
    of_difference,
    of_gain,
    over_seeds,
    p_value,
    variances,
)

Row = dict[str, Any]
Suite = tuple[np.ndarray, ...]
SUITES = 10_000  # a cell
MANY, SUITES_OF_MANY = 10_000, 2_000  # images, of which a suite takes 2 ms to draw
MOVED = 0.0, 0.3, 1.0, 3.0, 8.0
SEEDS = 1, 2, 3, 5
ALONE = 36, 72, 180, 359, 720, 1440, 5000  # images of one seed
HARD, OWN = 1.5, 0.7  # standard deviations over images, in probits: for all models, for this one
SPREAD, OWN_SPREAD, NOISE = 0.75, 0.3, 0.2  # of the log of an error; of a seed on each image
RATIOS = 0.03, 0.1, 0.3, 0.6, 1.0, 1.7, 3.0, 5.5, 10.0, 30.0
ADDED, ONE_T, WIDTH = "squares added", "one t", "width, in those of one t"
TRAININGS, PAIRS, SETS = 60, 400, 10_000  # sets, of seeds and of images alone


def main() -> None:
    asked = arguments(__doc__)
    tables = {"formulas: covered, %": formulas()} | real() | suites()
    show(asked.json, tables, suites=f"{SUITES:,} a cell, {SUITES_OF_MANY:,} of 10,000 images")


# ------------------------------------------------------------------------------- formulas


def formulas() -> list[Row]:
    """Of each: the least and most that it covers, its mean width over that of one t, and its size.

    The size, at the ratio where it is largest, is how often p is below 0.0005, over 0.0005: where
    Holm's correction looks.
    """
    rows = []
    shares = (np.arange(20_000) + 0.5) / 20_000
    for seeds in (2, 3, 4, 5):
        freedom = seeds - 1
        drawn = special.chdtri(freedom, shares) / freedom
        kinds: dict[str, Callable[[float], Callable[[np.ndarray], np.ndarray]]] = {
            "one t (Satterthwaite)": lambda level, nu=freedom: lambda v: one_t(v, nu, level),
            "t weighted (Cochran, Cox)": lambda level, nu=freedom: (
                lambda v: (t(nu, level) * v + t(np.inf, level)) / np.sqrt(v + 1)
            ),
            "fiducial (Behrens, Fisher)": lambda level, nu=freedom: fiducial(nu, level),
            "squares added (Banerjee): here": lambda level, nu=freedom: (
                lambda v: np.sqrt(t(nu, level) ** 2 * v + t(np.inf, level) ** 2)
            ),
        }
        for name, half in kinds.items():
            held = {level: [] for level in (LEVEL, 0.9995)}
            width = []
            for ratio in RATIOS:
                variances = ratio**2 * drawn
                for level, found in held.items():
                    chance = special.ndtr(-half(level)(variances) / np.sqrt(ratio**2 + 1))
                    found.append(1 - 2 * float(chance.mean()))
                width.append(half(LEVEL)(variances).mean() / one_t(variances, freedom).mean())
            row: Row = {"seeds": seeds, "formula": name, "least": 100 * min(held[LEVEL])}
            row["at ratio"] = RATIOS[int(np.argmin(held[LEVEL]))]
            row["most"] = 100 * max(held[LEVEL])
            for ratio in (0.1, 0.3, 1.0, 3.0):
                row[f"width at {ratio:g}"] = float(width[RATIOS.index(ratio)])
            rows.append(row | {"size at 0.0005": (1 - min(held[0.9995])) / 0.0005})
    return rows


def t(freedom: float, level: float) -> float:
    """Student's quantile of an interval of that level."""
    return float(special.stdtrit(min(freedom, 1e10), (1 + level) / 2))


def one_t(of_seeds: np.ndarray, freedom: int, level: float = LEVEL) -> np.ndarray:
    """The half width by one quantile with Satterthwaite's degrees of freedom; 1 of the images."""
    total = of_seeds + 1
    return special.stdtrit(freedom * total**2 / of_seeds**2, (1 + level) / 2) * np.sqrt(total)


@cache
def fiducial(freedom: int, level: float) -> Callable[[np.ndarray], np.ndarray]:
    """The quantile of Student's t times the seeds' deviation, plus a normal one's."""
    # Denser towards the tail, each with its share.
    left = np.geomspace(1e-8, 1, 4001)
    each, share = special.stdtrit(freedom, 1 - (left[1:] + left[:-1]) / 4), np.diff(left)
    known = np.geomspace(1e-6, 1e6, 200)
    found = []
    for variance in known:
        low, high = 0.0, t(np.inf, level) + 2 * t(freedom, level) * variance**0.5
        for _ in range(50):
            middle = (low + high) / 2
            shift = each * variance**0.5
            beyond = special.ndtr(shift - middle) + special.ndtr(-middle - shift)
            low, high = (low, middle) if beyond @ share < 1 - level else (middle, high)
        found.append(high)
    return lambda v: np.interp(np.log(v), np.log(known), found)


# --------------------------------------------------------------------------------- suites


@dataclass(frozen=True)
class Figure:
    """Of a model, and of as good a one. `accuracy`: None for the squared error, whose mean is 1."""

    name: str
    accuracy: float | None = None

    def draw(
        self, random: np.random.Generator, suites: int, images: int, moved: list[tuple[int, float]]
    ) -> list[np.ndarray]:
        """Values (suites, seeds, images) of models of so many seeds that move it by so much."""
        hard = random.normal(0, 1, (suites, 1, images))
        models = []
        for seeds, sd in moved:
            own = random.normal(0, 1, (suites, 1, images))
            move = sd * random.normal(0, 1, (suites, seeds, 1))
            noise = random.normal(0, 1, (suites, seeds, images))
            if self.accuracy is None:
                logs = SPREAD * hard + OWN_SPREAD * own - (SPREAD**2 + OWN_SPREAD**2) / 2
                models.append(np.exp(logs) * (1 + NOISE * noise) + move)
            else:
                total = (1 + HARD**2 + OWN**2 + sd**2) ** 0.5
                limit = special.ndtri(self.accuracy) * total + HARD * hard + OWN * own + move
                models.append((limit > noise).astype(np.float64))
        return models

    def suites(
        self, images: int, seeds: int, moved: list[tuple[int, float]], suites: int | None = None
    ) -> Iterator[Suite]:
        """The values (seeds, images) of the models, a suite after the other."""
        random = np.random.default_rng([images, seeds])
        count = suites or suites_of(images)
        block = max(1, 100_000 // images)
        for start in range(0, count, block):
            drawn = self.draw(random, min(block, count - start), images, moved)
            yield from zip(*drawn, strict=True)

    def move(self, deviation: float) -> float | None:
        """What moves a seed's mean by so much; None for too much."""
        if self.accuracy is None:
            return deviation
        if deviation > (1 - self.accuracy) / 4:
            return None
        density = stats.norm.pdf(special.ndtri(self.accuracy))
        return deviation * (1 + HARD**2 + OWN**2) ** 0.5 / density

    @cached_property
    def deviations(self) -> tuple[float, float]:
        """Over images, of one seed: of the figure, and of the difference from another model."""
        one, other = self.draw(np.random.default_rng(0), 1, 10**6, [(1, 0.0), (1, 0.0)])
        return float(one.std()), float((one - other).std())


FIGURES = Figure("MSE"), *(Figure(f"accuracy {p:.0%}", p) for p in (0.45, 0.9, 0.99))
PLAN = {36: (FIGURES[:3], (1, 2, 3)), 359: (FIGURES, SEEDS), MANY: (FIGURES[:2], (2, 3))}


def suites() -> dict[str, list[Row]]:
    """How often intervals of figures and of differences hold the truth, and their widths."""
    alone: list[Row] = []
    against: list[Row] = []
    for images, (figures, counts) in PLAN.items():
        for figure, seeds in itertools.product(figures, counts):
            note(f"{images:,} images, {figure.name}, {seeds} seeds")
            facts: Row = {"images": images, "figure": figure.name, "seeds": seeds}
            alone += cells(facts, lambda m, f=figure, i=images, s=seeds: of_one(f, i, s, m))
            if images >= 359 and figure in FIGURES[:3]:
                against += cells(facts, lambda m, f=figure, i=images, s=seeds: of_two(f, i, s, m))
    few: Row = {"figure": FIGURES[0].name, "seeds": 1}
    few |= {f"{n:,} images": of_one(FIGURES[0], n, 1, 0.0, SETS)[ADDED] for n in ALONE}
    return {
        "figures: covered, %, by how much seeds move": alone,
        "differences of equal models: covered, %, by how much seeds move": against,
        "least and most covered, %": extremes([*alone, *against]),
        "over images alone: covered, %": [few],
    }


def cells(facts: Row, found: Callable[[float], dict[str, float]]) -> list[Row]:
    """A row an interval, a column by how much a seed moves; of one seed it is not known."""
    rows: dict[str, Row] = {}
    for moved in MOVED if facts["seeds"] > 1 else MOVED[:1]:
        for name, value in found(moved).items():
            rows.setdefault(name, facts | {"interval": name})[f"{moved:g}"] = value
    return list(rows.values())


def of_one(
    figure: Figure, images: int, seeds: int, moved: float, suites: int | None = None
) -> dict[str, float]:
    """Of the intervals of a figure, and of one by one t, what they cover."""
    sd = figure.move(moved * figure.deviations[0] / images**0.5)
    if sd is None:
        return {}
    found: dict[str, list[Interval]] = defaultdict(list)
    for (values,) in figure.suites(images, seeds, [(seeds, sd)], suites):
        if figure.accuracy is None:
            found[ADDED].append(interval(values))
            found[ONE_T].append(by_one_t(float(values.mean()), variances(values)))
        else:
            found["score"].append(of_accuracy(values))
            found["score, by seed"].append(of_accuracies(values.mean(axis=1), images))
    return covered(found, 1.0 if figure.accuracy is None else figure.accuracy)


def of_two(figure: Figure, images: int, seeds: int, moved: float) -> dict[str, float]:
    """Of the intervals of the difference of two equal models, of as many seeds."""
    sd = figure.move(moved * figure.deviations[1] / (2 * images) ** 0.5)
    if sd is None:
        return {}
    found: dict[str, list[Interval]] = defaultdict(list)
    for one, other, pca in figure.suites(images, seeds, [(seeds, sd), (seeds, sd), (1, 0.0)]):
        apart = difference(one, other)
        found[ADDED].append(apart)
        if figure.accuracy is None:
            found[ONE_T].append(by_one_t(apart.mean, of_difference(one, other)))
        else:
            found["gained and lost, no seed moves the other"].append(of_gain(one - pca))
    return covered(found, 0.0)


def by_one_t(mean: float, sources: list[Variance]) -> Interval:
    """By one quantile with Satterthwaite's degrees of freedom, as aebench 0.1 had it."""
    total = sum(value for value, _ in sources)
    if total == 0:
        return Interval(mean)
    freedom = total**2 / sum(value**2 / nu for value, nu in sources)
    half = float(special.stdtrit(freedom, (1 + LEVEL) / 2)) * total**0.5
    return Interval(mean, half, half)


def covered(found: dict[str, list[Interval]], truth: float) -> dict[str, float]:
    """Of each kind how often in %, and the mean width over that by one t."""
    ends = {name: np.array([(one.low, one.high) for one in ones]) for name, ones in found.items()}
    held = {
        name: 100 * float(np.mean((low - 1e-12 <= truth) & (truth <= high + 1e-12)))
        for name, (low, high) in ((name, each.T) for name, each in ends.items())
    }
    if ONE_T not in ends:
        return held
    return held | {
        WIDTH: float(np.ptp(ends[ADDED], axis=1).mean() / np.ptp(ends[ONE_T], axis=1).mean())
    }


def extremes(rows: list[Row]) -> list[Row]:
    """The least, the mean and the most that each kind covers, and how many cells cover too little.

    Too little: less than 94 %, by a one-sided binomial test of 1 %.
    """
    found: dict[tuple[int, str], list[tuple[float, str]]] = defaultdict(list)
    for row in rows:
        if row["interval"] != WIDTH:
            for moved in (f"{m:g}" for m in MOVED if f"{m:g}" in row):
                at = f"{row['figure']}, {row['seeds']} seeds, moved {moved}"
                found[row["images"], row["interval"]].append((row[moved], at))
    extremes = []
    for (images, name), cells in found.items():
        shares, suites = [share for share, _ in cells], suites_of(images)
        few = sum(
            float(stats.binomtest(round(share / 100 * suites), suites, 0.94, "less").pvalue) < 0.01
            for share in shares
        )
        row: Row = {"images": images, "interval": name, "suites": len(cells) * suites}
        row |= {"least": min(cells)[0], "at": min(cells)[1], "mean": float(np.mean(shares))}
        extremes.append(row | {"most": max(shares), "cells": len(cells), "surely below 94": few})
    return extremes


def suites_of(images: int) -> int:
    """How many suites a cell has."""
    return SUITES_OF_MANY if images == MANY else SUITES


# ----------------------------------------------------------------------------- real seeds


def real() -> dict[str, list[Row]]:
    """Trainings that differ in the seed alone: the mean over seeds, and equal models compared."""
    measured = trainings()
    kinds = {name: values.mean(axis=1) for name, values in measured.items()}
    spread = [
        {"figure": name, "mean": means.mean(), "sd over seeds": means.std(ddof=1)}
        | {"sd of one seed over images": float(measured[name].std(axis=1).mean() / n**0.5)}
        for name, means in kinds.items()
        if (n := measured[name].shape[1])
    ]
    held = [of_seeds(name, means, n) for name, means in kinds.items() for n in (2, 3, 5)]
    equal = [of_equal(name, values, n) for name, values in measured.items() for n in (1, 2, 3, 5)]
    return {
        f"{TRAININGS} trainings of mlp on digits": spread,
        "interval over seeds alone against the mean of the other trainings": held,
        f"A/A: {PAIRS} pairs of equal models under other seeds": equal,
    }


def trainings() -> dict[str, np.ndarray]:
    """Squared errors, and right or wrong, float64 (trainings, images) of the digits benchmark."""
    import torch

    from aebench.evaluation.search import search
    from aebench.evaluation.vote import vote
    from aebench.models.autoencoder import as_floats, build_autoencoder
    from aebench.models.finish import reloaded
    from aebench.models.training import trained
    from aebench.plugins import load_plugins
    from aebench.schema import Recipe
    from aebench.workspace import Workspace

    with tempfile.TemporaryDirectory() as folder:
        here = Workspace(Path(folder) / "workspace")
        for verb in (["init", str(here.root)], ["plan"], ["prepare"]):
            at = folder if verb[0] == "init" else here.root
            command = [sys.executable, "-m", "aebench", *verb]
            subprocess.run(command, cwd=at, check=True, stdout=subprocess.DEVNULL)
        model = load_plugins(here).models["mlp"]
        params = YAML(typ="safe").load(here.root / "params.yaml")
        names = [f"{split}_{what}" for split in ("train", "test") for what in ("images", "labels")]
        arrays = [np.load(here.prepared / f"{name}.npy") for name in names]
        images, labels, queries, truth = arrays
        bank, asked = torch.from_numpy(images), torch.from_numpy(queries)
        arguments = {key: params[key] for key in ("latent", "depth")}
        errors, right = [], []
        for seed in range(TRAININGS):
            note(f"training {seed}")
            shape, told, recipe = images.shape[1:], torch.from_numpy(labels), params["train"]
            with contextlib.redirect_stdout(None):
                found = trained(model, shape, arguments, bank, told, seed, Recipe(**recipe))
            autoencoder = reloaded(build_autoencoder(model, shape, arguments), found.weights)
            assert autoencoder.decoder
            with torch.inference_mode():
                codes = [autoencoder.encoder(as_floats(part)) for part in (bank, asked)]
                shown = autoencoder.decoder(codes[1]).clamp(0, 1)
                error = (shown - as_floats(asked)).square().mean((1, 2, 3))
            errors.append(error.double().numpy())
            nearest = search(codes[0].numpy(), codes[1].numpy(), 10, "faiss")
            right.append((vote(labels[nearest]) == truth).astype(np.float64))
    return {"MSE": np.stack(errors), "accuracy": np.stack(right)}


def of_seeds(name: str, means: np.ndarray, seeds: int) -> Row:
    """Of disjoint sets of seeds in order, and of sets at random, which share seeds.

    The mean of the others is known to their own deviation only: by so much fewer hold it. Sets of
    equal means (accuracies are counts) have no interval, and are counted apart.
    """

    def holds(chosen: np.ndarray) -> bool | None:
        found = over_seeds(means[chosen].tolist())
        if found.below is None:
            return None
        return found.low <= np.delete(means, chosen).mean() <= found.high

    disjoint = [holds(chosen) for chosen in np.arange(TRAININGS).reshape(-1, seeds)]
    found = [one for one in disjoint if one is not None]
    ends = stats.binomtest(sum(found), len(found)).proportion_ci()
    random = np.random.default_rng(seeds)
    some = [holds(random.choice(TRAININGS, seeds, replace=False)) for _ in range(SETS)]
    many = [one for one in some if one is not None]
    factor = (1 + seeds / (TRAININGS - seeds)) ** -0.5
    t = special.stdtrit(seeds - 1, (1 + LEVEL) / 2) * factor
    return {
        "figure": name,
        "seeds": seeds,
        "disjoint sets": len(disjoint),
        "of equal means": len(disjoint) - len(found),
        "held": sum(found),
        "95 % of that count, %": f"{100 * ends.low:.1f} to {100 * ends.high:.1f}",
        f"of {SETS:,} sets at random, %": 100 * float(np.mean(many)),
        "expected, %": 100 * float(1 - 2 * special.stdtr(seeds - 1, -t)),
    }


def of_equal(name: str, values: np.ndarray, seeds: int) -> Row:
    """How often two sets of seeds of one model are told apart, on the same test images.

    All trainings are shuffled, and cut into pairs of sets that share none; then again, until there
    are enough. Pairs of other shuffles share trainings, and all share the images: such pairs are
    told apart together, so that the count strays further than the binomial's, which errs to
    finding too many.
    """
    random = np.random.default_rng(seeds)
    chosen: list[np.ndarray] = []
    while len(chosen) < PAIRS:
        whole = TRAININGS // (2 * seeds)
        chosen += [*random.permutation(TRAININGS)[: whole * 2 * seeds].reshape(whole, 2, seeds)]
    pairs = [(values[one], values[other]) for one, other in chosen[:PAIRS]]
    different = sum(p_value(one, other) < LEAST for one, other in pairs)
    before = sum(
        not by_one_t(difference(one, other).mean, of_difference(one, other)).holds_zero
        for one, other in pairs
    )
    p = float(stats.binomtest(different, PAIRS, LEAST, "greater").pvalue)
    return {
        "figure": name,
        "seeds of each": seeds,
        "different": different,
        "%": 100 * different / PAIRS,
        "p of so many or more at 5 %": p,
        "more than 5 %": "yes" if p < 0.01 else "no",
        "different by one t": before,
    }


if __name__ == "__main__":
    main()
