"""The report's charts: which figures of which configurations stand in each, and what it shows."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from aebench.evaluation.uncertainty import LEAST, Interval, over_seeds
from aebench.report import measures
from aebench.report.baselines import mse_skill_score, times_pca
from aebench.report.configurations import (
    Configuration,
    best_and_references,
    best_first,
    of_all,
    title,
)
from aebench.report.document import Figure, Format
from aebench.report.findings import Findings
from aebench.report.looks import PCA, PIXELS
from aebench.report.measures import Measure
from aebench.report.pictures import Axis, Chart, Label, Level, Point, Series
from aebench.report.summary import Against, against_pca, trade_off
from aebench.report.texts import named
from aebench.report.ties import mean, rankable
from aebench.workspace import sha256

POINTS, CURVES, SIZES = 60, 10, 12  # that a picture has room for
DIRECT = 5  # curves that are named where they end; more of them in a legend
TICKS = 15  # values that are named on an axis
LARGEST = 1e100  # that an axis can show
CHANCE = PIXELS
UNTIMED = "whose times may not be compared"  # of what is left out
PACKED = "whose floats hold more than a number"
ACCURACY, MSE = Format("{:.2f}", 100), Format("{:.5f}")
BARS = "Bars: 95 %."


class Charts:
    """The charts of a report."""

    def __init__(self, found: Findings) -> None:
        self.found = found
        self.everything = found.configurations
        self.baselines, self.times, self.ties = found.baselines, found.times, found.ties
        self.looks = found.looks

    def accuracy_over_bytes(self) -> list[Figure]:
        """All codes of the search that most runs have; empty if all failed."""
        found = [one for one in self.everything if one.ok]
        if not found:
            return []
        searches = [one.search for one in found]
        search = max(dict.fromkeys(searches), key=searches.count)
        alike = [one for one in found if one.search == search]
        shown = best_and_references(alike, POINTS)
        sizes = [self.size_of(one) for one in shown]
        log = reaches_far(sizes)
        places = sideways(sizes, log)
        points = {
            one: Point(
                x,
                *percent(one.intervals["accuracy"]),
                one.card,
                f"{one.name}: {size:,.0f} bytes, {ACCURACY.written(one.intervals['accuracy'])} %",
            )
            for one, x, size in zip(shown, places, sizes, strict=True)
        }
        # What saw the labels is no rival.
        edge = front(
            [
                (size, 100 * one.intervals["accuracy"].mean, one)
                for one, size in zip(shown, sizes, strict=True)
                if not one.saw_labels
            ],
            most=True,
        )
        corners = [(points[one].x, y) for _, y, one in edge]
        y = self.accuracy_axis([*points.values()])
        references = [one for one in shown if one.is_reference]
        wanted = [*references, *best_first(shown)]
        ticks = dict.fromkeys(sorted(sizes))
        picture = Chart(
            Axis(f"bytes per code{' (log)' * log}", log, [*ticks] if len(ticks) <= TICKS else ()),
            y,
            self.by_model(points),
            self.chance_level(y),
            [*corners, *((max(places), y) for _, y in corners[-1:])],
            self.labels_of(points, [one for _, _, one in edge], wanted),
            legend=len(shown) > DIRECT,
        )
        unseen = " by what saw no labels" * any(one.saw_labels for one in shown)
        line = f" Line: the most that is found with so many bytes{unseen}." if edge else ""
        caption = (
            f"kNN accuracy over the bytes of a code: up and left is better. {BARS}{line} "
            f"Codes of one size stand side by side.{of_all(shown, alike)}"
        )
        caption += left_out(len(found) - len(alike), "with another k or metric")
        heading = self.size_title(shown, alike)
        return [Figure("accuracy_over_bytes", picture, heading, caption + self.guessed(y))]

    def size_of(self, one: Configuration) -> float:
        """Bytes per code; of an image for pixels."""
        return float(self.found.costs.image_bytes if one.is_pixels else one.mean("code_bytes") or 0)

    def size_title(self, shown: Sequence[Configuration], alike: Sequence[Configuration]) -> str:
        """What accuracy over bytes shows, as far as the paired test supports it."""
        neutral = "kNN accuracy over bytes per code"
        known = trade_off(self.found)
        if known is None or not known.is_tested or known.best not in shown:
            return neutral
        best, tied = known.best, known.tied
        rivals = [one for one in alike if one is not best and one not in tied]
        rivals = [one for one in rivals if best.saw_labels or not one.saw_labels]
        if any(self.is_above(one, best) for one in rivals) or not {*tied} <= {*alike}:
            return neutral
        size = self.size_of(best)
        others = f", tied with {len(tied)} others" if tied[1:] else ""
        others = f", tied with {tied[0].short_name}" if len(tied) == 1 else others
        without = " without labels" * (not best.saw_labels and any(o.saw_labels for o in alike))
        words = f"{best.short_name} ({size:,.0f} bytes) has the best codes{without}{others}"
        larger = [one for one in alike if self.size_of(one) > size]
        more = f"More bytes do not find more: {words}"
        return more if larger and self.beats(best, larger) else words

    def is_above(self, one: Configuration, best: Configuration) -> bool:
        """Whether codes are more accurate, ranked or not; of raw pixels, whether that is told."""
        if mean(one, "accuracy") <= mean(best, "accuracy"):
            return False
        return not one.is_pixels or self.ties.p_value(one, best, "accuracy") < LEAST

    def beats(self, best: Configuration, others: Sequence[Configuration]) -> bool:
        """Whether it is told to be more accurate than each of these, all of which may be ranked."""
        every = [best, *others]
        told = self.ties.told(every, "accuracy")
        return len(rankable(every, "accuracy")) == len(every) and all(
            {best, one} in told and mean(one, "accuracy") < mean(best, "accuracy") for one in others
        )

    def leaders(self, among: Sequence[Configuration], column: str) -> list[Configuration]:
        """The best one and what is tied with it; empty where that may not be said.

        As one is better that is in no ranking: of one seed beside several, or packed for the MSE.
        """
        ranked = [one for one in among if column == "accuracy" or not one.is_packed]
        group = self.ties.best(ranked, column)
        every = [one.sign(column) * mean(one, column) for one in among if column in one.images]
        is_first = group and group[0].sign(column) * mean(group[0], column) == max(every)
        return group if is_first else []

    def mse_over_seconds(self) -> list[Figure]:
        """A chart for each code size with two or more trained runs whose times may be compared."""
        sizes: dict[int, list[Configuration]] = {}
        for one in self.everything:
            if "mse" in one.intervals and not one.is_pixels and one.latent is not None:
                sizes.setdefault(one.latent, []).append(one)
        seconds = {one: found for one in self.everything if (found := self.train_seconds(one))}
        timed = {
            size: [one for one in ones if is_rival(one) and one in seconds]
            for size, ones in sizes.items()
        }
        several = {size: ones for size, ones in timed.items() if len(ones) > 1}
        return [
            self.mse_of_size(size, sizes[size], several[size], seconds)
            for size in self.first_sizes(several)
        ]

    def over_bytes(self, measure: Measure) -> list[Figure]:
        """A further metric of all codes that are not the pixels; empty where none has it."""
        column, written = measure.column, measure.written
        known = [one for one in self.found.coded if column in one.intervals and not one.is_packed]
        if not known:
            return []
        shown = best_and_references(known, POINTS)
        sizes = [self.size_of(one) for one in shown]
        log = reaches_far(sizes)
        points = {}
        for one, x, size in zip(shown, sideways(sizes, log), sizes, strict=True):
            found = one.intervals[column]
            tip = f"{one.name}: {size:,.0f} bytes, {measure.word} {written.written(found)}"
            reach = found.below or 0, found.above or 0
            points[one] = Point(x, found.mean, *reach, one.card, tip)
        edge = front(
            [(size, points[o].y or 0, o) for o, size in zip(shown, sizes, strict=True)],
            measure.sign > 0,
        )
        ticks = [*dict.fromkeys(sorted(sizes))]
        picture = Chart(
            Axis(f"bytes per code{' (log)' * log}", log, ticks if len(ticks) <= TICKS else ()),
            Axis(measure.title),
            self.by_model(points),
            labels=self.labels_of(points, [one for _, _, one in edge], shown),
            legend=len(shown) > DIRECT,
        )
        caption = (
            f"{measure.word} over the bytes of a code: {measure.direction} is better. {BARS} Codes "
            f"of one size stand side by side.{of_all(shown, known)}"
        )
        title = f"{measure.word} over bytes per code"
        return [Figure(f"{file_name(column)}_over_bytes", picture, title, caption)]

    def train_seconds(self, one: Configuration) -> list[float]:
        """Of each seed whose time may be compared."""
        rows = [result.columns for result in one.ok]
        clean = [row for row in rows if self.times.clean(row, "train_seconds", "epoch")]
        return [row["train_seconds"] for row in clean]

    def first_sizes(self, sizes: Mapping[int, Sequence[Configuration]]) -> list[int]:
        """In order; of many those that most runs have, the default one among them."""
        order = sorted(
            sizes, key=lambda size: (size != self.found.results.latent, -len(sizes[size]))
        )
        return sorted(order[:SIZES])

    def mse_of_size(
        self,
        size: int,
        every: Sequence[Configuration],
        ones: Sequence[Configuration],
        seconds: Mapping[Configuration, Sequence[float]],
    ) -> Figure:
        """MSE over training seconds of these, among every one of the size that decodes."""
        shown = best_and_references(ones, POINTS)
        points = {}
        for one in shown:
            time, mse = over_seeds(seconds[one]), one.intervals["mse"]
            tip = f"{one.name}: {time.mean:,.3g} s, MSE {MSE.written(mse)}"
            reach = mse.below or 0, mse.above or 0
            points[one] = Point(time.mean, mse.mean, *reach, one.card, tip)
        edge = front([(p.x, one.intervals["mse"].mean, one) for one, p in points.items()], False)
        log = reaches_far([point.x for point in points.values()])
        values = [point.y or 0 for point in points.values()]
        far = max(point.x for point in points.values())
        picture = Chart(
            Axis(f"training, s{' (log)' * log}", log),
            Axis(f"test MSE{' (log)' * reaches_far(values)}", reaches_far(values)),
            self.by_model(points),
            self.pca_level(ones, "mse", 1),
            [(x, y) for x, y, _ in edge] + [(far, edge[-1][1])],
            self.labels_of(points, [one for _, _, one in edge], best_first(shown)),
            legend=len(shown) > DIRECT,
        )
        caption = f"Codes of {size:,} floats: down and left is better. {BARS}{of_all(shown, ones)}"
        trained = [one for one in every if not one.is_reference]
        packed = sum(one.is_packed for one in trained)
        caption += left_out(len(trained) - packed - len(ones), UNTIMED)
        caption += left_out(packed, PACKED)
        heading = self.mse_title(size, every, shown)
        return Figure(f"mse_over_seconds-{size}", picture, heading, caption)

    def mse_title(
        self, size: int, every: Sequence[Configuration], shown: Sequence[Configuration]
    ) -> str:
        """Who rebuilds best with codes of a size, or that nobody reaches PCA."""
        floats = f"{size:,} floats"
        pairs = self.pairs
        trained = [one for one in every if not one.is_reference]
        if all(one in pairs and pairs[one].is_told and pairs[one].gain < 0 for one in trained):
            return f"{floats}: no run reaches PCA's error"
        group = self.leaders(every, "mse")
        if not group or group[0] not in shown:
            return f"{floats}: test MSE over training time"
        tied = f", tied with {named([one.short_name for one in group[1:]], 2)}" if group[1:] else ""
        return f"{floats}: {group[0].short_name} has the smallest error{tied}"

    @cached_property
    def pairs(self) -> dict[Configuration, Against]:
        """What has an MSE, and PCA of its size, beside it."""
        return {pair.one: pair for pair in against_pca(self.found) if pair.column == "mse"}

    def pca_level(self, ones: Sequence[Configuration], column: str, factor: float) -> list[Level]:
        """PCA's figure as a line, where all are of its size and search."""
        found = {pca for one in ones if (pca := self.baselines.pca_of(one))}
        if len(found) != 1 or column not in (pca := found.pop()).intervals:
            return []
        if any(self.baselines.pca_of(one) is not pca for one in ones):
            return []
        return [Level(factor * pca.intervals[column].mean, "PCA of this size", self.looks[pca])]

    def sweep(self, name: str, groups: Sequence[Sequence[Configuration]]) -> list[Figure]:
        """Accuracy, and error against PCA's, over a numeric parameter; empty for another one."""
        values = [one.settings[name] for group in groups for one in group]
        if not all(is_number(value) and abs(value) <= LARGEST for value in values):
            return []
        shown = with_a_curve(groups)
        if not shown:
            return []
        chosen = f" {len(shown)} of {len(groups):,} curves: PCA's and the best."
        chosen = chosen if len(shown) < len(groups) else ""
        found = [
            self.accuracy_sweep(name, shown),
            # The search changes nothing of what is rebuilt.
            *([] if name.startswith("knn.") else self.mse_sweep(name, shown)),
        ]
        ones = [one for group in groups for one in group if one.ok]
        titles = [self.best_title(name, groups, measures.ACCURACY), self.ratio_title(name, ones)]
        titled = [
            replace(figure, title=heading, caption=figure.caption + chosen)
            for figure, heading in zip(found, titles, strict=False)
        ]
        for measure in self.found.further if not name.startswith("knn.") else ():
            heading = self.best_title(name, groups, measure)
            for figure in self.measure_sweep(name, shown, measure):
                titled.append(replace(figure, title=heading, caption=figure.caption + chosen))
        return titled

    def measure_sweep(
        self, name: str, groups: Sequence[Sequence[Configuration]], measure: Measure
    ) -> list[Figure]:
        """A further metric over a parameter; empty where none has it."""
        column = measure.column
        kept = [[one for one in group if column in one.intervals] for group in groups]
        ones = [one for group in kept for one in group]
        if not ones:
            return []
        curves = [
            self.curve(name, group, label, lambda one: one.intervals[column], measure)
            for group, label in zip(kept, labels_of(groups), strict=True)
            if group
        ]
        levels = [] if name == "latent" else self.pca_level(ones, column, 1)
        picture = lines(parameter_axis(name, ones), Axis(measure.title), curves, levels)
        caption = f"{measure.word} over {name}: {measure.direction} is better. {BARS}"
        return [Figure(f"{file_name(name)}-{column}", picture, "", caption)]

    def accuracy_sweep(self, name: str, groups: Sequence[Sequence[Configuration]]) -> Figure:
        """Accuracy over a parameter; PCA and pixels as levels."""
        ones = [one for group in groups for one in group if one.ok]
        curves = [
            self.curve(name, group, label, accuracy)
            for group, label in zip(groups, labels_of(groups), strict=True)
        ]
        levels = [] if name == "latent" else self.pca_level(ones, "accuracy", 100)
        searches = {one.search for one in ones}
        pixels = [p for p in self.everything if p.is_pixels and p.ok and {p.search} == searches]
        for one in pixels[:1]:
            levels.append(Level(accuracy(one).mean, "raw pixels", self.looks[one]))
        points = [point for curve in curves for point in curve.points]
        y = self.accuracy_axis(points, [level.y for level in levels])
        levels += self.chance_level(y)
        picture = lines(parameter_axis(name, ones), y, curves, levels)
        caption = f"kNN accuracy over {name}: up is better. {BARS}{self.guessed(y)}"
        return Figure(f"{file_name(name)}-accuracy", picture, "", caption)

    def best_title(
        self, name: str, groups: Sequence[Sequence[Configuration]], measure: Measure
    ) -> str:
        """Where a figure is best, as far as the paired test tells it: of several curves with whose
        runs.
        """
        column, what = measure.column, title(name)
        curves = [[one for one in group if column in one.images] for group in groups]
        ones = [one for curve in curves for one in curve]
        group = self.leaders(ones, column)
        # As bold in the table of the study, where the references are in the correction, too; where
        # one of them is best, of the curves alone.
        references = self.baselines.references({one.latent for one in ones}, ones)
        beside = [one for one in references if column == "accuracy" or not one.is_pixels]
        wider = self.leaders([*ones, *beside], column)
        if group and wider[:1] == group[:1]:
            group = [one for one in wider if one in ones]
        if not group:
            return f"{what}: {'kNN ' * (measure is measures.ACCURACY)}{measure.word}"
        if {*group} == {*ones}:
            return f"{what}: no value is told from the best {measure.word}"
        group.sort(key=lambda one: one.settings[name])
        values = [f"{one.settings[name]:,.6g}" for one in group]
        if len(curves) > 1:
            places = [f"{one.short_name} at {v}" for one, v in zip(group, values, strict=True)]
        else:
            places = [*dict.fromkeys(values)]
        *first, last = places
        listed = f"{', '.join(first)} or {last}" if first else last
        if len(places) > 4:
            return f"{what}: {len(group)} runs share the {measure.most} {measure.word}"
        where = "with" if len(curves) > 1 else "at"
        return f"{what}: {measure.word} is {measure.most} {where} {listed}"

    def mse_sweep(self, name: str, groups: Sequence[Sequence[Configuration]]) -> list[Figure]:
        """MSE over that of PCA of the same size; without enough of those MSE. Empty without any."""
        ones = [one for group in groups for one in group if "mse" in one.intervals]
        ratios = {one: found for one in ones if (found := self.ratio(one))}
        rebuilt = [one for one in ones if not one.is_pca]
        relative = len({one.settings[name] for one in ratios}) > 1 and 3 * len(ratios) >= 2 * len(
            rebuilt
        )
        values = ratios if relative else {one: one.intervals["mse"] for one in ones}
        if not values:
            return []
        curves = [
            self.curve(name, kept, label, lambda one: values[one])
            for group, label in zip(groups, labels_of(groups), strict=True)
            if (kept := [one for one in group if one in values])
        ]
        means = [found.mean for found in values.values()]
        log = reaches_far(means) or (relative and max(means) >= 2 * min(means) > 0)
        if relative:
            levels = [Level(1, "PCA", PCA)]
            what, better = "test MSE / MSE of PCA of the same size", "below 1 is better than PCA"
        else:
            levels = [] if name == "latent" else self.pca_level(ones, "mse", 1)
            what, better = "test MSE", "down is better"
        shaded = (1.0, "worse than PCA") if relative and max(means) > 1 else None
        y = Axis(f"{what}{' (log)' * log}", log)
        picture = lines(parameter_axis(name, ones), y, curves, levels, shaded)
        caption = f"Test MSE over {name}: {better}. {BARS}{self.without_ratio(rebuilt)}"
        return [Figure(f"{file_name(name)}-mse", picture, "", caption)]

    def without_ratio(self, rebuilt: Sequence[Configuration]) -> str:
        """What the caption says of runs whose MSE is divided by no PCA's, and why it is not."""
        left = [one for one in rebuilt if self.ratio(one) is None]
        pcas = [self.baselines.pca_of(one) for one in left]
        exact = sum(pca is not None and "mse" in pca.images for pca in pcas)
        words = ""
        if missing := len(left) - exact:
            words += f" {runs(missing, 'has', 'have')} no PCA of as many floats to divide by."
        if exact:
            words += f" PCA of as many floats is exact for {runs(exact)}: there is no ratio."
        return words

    def ratio(self, one: Configuration) -> Interval | None:
        """MSE / MSE of PCA of its size; None for PCA itself and where PCA is exact or missing."""
        pca = self.baselines.pca_of(one)
        if one.is_pca or pca is None or "mse" not in pca.images:
            return None
        skill = self.baselines.skill(one, "mse") or mse_skill_score(one, pca)
        return skill and Interval(1 - skill.mean, skill.above, skill.below)

    def ratio_title(self, name: str, ones: Sequence[Configuration]) -> str:
        """Who is worse than PCA and by how much, or that nobody is, as far as it is told."""
        what = title(name)
        rebuilt = [one for one in ones if "mse" in one.images and not one.is_pca]
        pairs = [self.pairs[one] for one in rebuilt if one in self.pairs]
        told = {pair.one: pair.skill for pair in pairs if pair.skill and pair.is_told}
        worse = {one: skill for one, skill in told.items() if skill.mean < 0}
        if worse:
            most = min(worse, key=lambda one: worse[one].mean)
            count = len(worse) - 1
            others = f", and {count} more {'loses' if count == 1 else 'lose'} to PCA"
            return f"{what}: {most.short_name} has {against(worse[most])}{others * (count > 0)}"
        if rebuilt and len(told) == len(rebuilt):
            return f"{what}: every error is below PCA's"
        return f"{what}: test MSE"

    def curve(
        self,
        name: str,
        group: Sequence[Configuration],
        label: str,
        value: Callable[[Configuration], Interval],
        measure: Measure | None = None,
    ) -> Series:
        """A line over a parameter's values. `measure`: a further one that tips tell."""
        points = []
        for one in group:
            if not one.ok:
                continue
            found = value(one)
            tip = f"{one.name}: {name} {one.settings[name]:,.6g}, {quality(one, measure)}"
            reach = found.below or 0, found.above or 0
            points.append(Point(one.settings[name], found.mean, *reach, one.card, tip))
        return Series(label, self.looks[group[0]], points, joined=True)

    def accuracy_axis(self, points: Sequence[Point], levels: Sequence[float] = ()) -> Axis:
        """From chance on where that is near, else from where the runs are, and it says so.

        Up to chance where all runs are below.
        """
        y = [point for point in points if point.y is not None]
        low = min([*((p.y or 0) - p.below for p in y), *levels])
        high = max([*((p.y or 0) + p.above for p in y), *levels])
        chance = 100 * self.found.chance
        high = max(high, chance)
        room = 0.08 * (high - low) or 2
        if low - chance < 0.6 * (high - low):
            low = min(low, chance)
            return Axis("kNN accuracy, %", ends=(max(0, low - room), high + room))
        begin = max(math.floor(low - room), 0)
        return Axis(f"kNN accuracy, % (axis from {begin})", ends=(begin, high + room))

    def chance_level(self, y: Axis) -> list[Level]:
        """Where the axis reaches it."""
        chance = 100 * self.found.chance
        return [Level(chance, self.found.guess, CHANCE)] if y.ends and y.ends[0] <= chance else []

    def guessed(self, y: Axis) -> str:
        """What the caption says of it where the axis does not reach it."""
        guess, chance = self.found.guess, 100 * self.found.chance
        return "" if self.chance_level(y) else f" {guess[0].upper()}{guess[1:]}: {chance:.3g} %."

    def by_model(self, points: Mapping[Configuration, Point]) -> list[Series]:
        """The points of each look together, under the name of their model."""
        found: dict[object, list[Configuration]] = {}
        for one in points:
            found.setdefault((self.looks[one], one.settings["model"]), []).append(one)
        return [
            Series(
                f"{ones[0].settings['model']}{', untrained' * ones[0].is_untrained}",
                self.looks[ones[0]],
                [points[one] for one in ones],
            )
            for ones in found.values()
        ]

    def labels_of(
        self,
        points: Mapping[Configuration, Point],
        edge: Sequence[Configuration],
        others: Sequence[Configuration],
    ) -> list[Label]:
        """Their names, the most important first: those of the front, of which the last is best."""
        return [
            Label(
                points[one].x,
                points[one].y or 0,
                one.name,
                self.looks[one].colour,
                one in edge[-4:],
            )
            for one in dict.fromkeys([*edge[::-1], *others])
        ]


def lines(
    x: Axis,
    y: Axis,
    curves: Sequence[Series],
    levels: Sequence[Level],
    shaded: tuple[float, str] | None = None,
) -> Chart:
    """A chart of lines: few are named where they end, more in a legend, the highest first."""
    ends = {
        place: known[-1]
        for place, one in enumerate(curves)
        if (known := [point for point in one.points if point.y is not None])
    }
    many = len(curves) > DIRECT
    labels = [
        Label(point.x, point.y or 0, curves[place].name, curves[place].look.colour, True)
        for place, point in ends.items()
        if not many
    ]
    order = sorted(ends, key=lambda place: -(ends[place].y or 0)) if many else [*ends]
    series = [curves[place] for place in order]
    return Chart(x, y, series, levels, (), labels, shaded, legend=many)


def is_rival(one: Configuration) -> bool:
    """Whether it was trained, and its codes are of the size that they seem to have."""
    return not one.is_reference and not one.is_packed


def runs(count: int, one: str = "", several: str = "") -> str:
    """`1 run has`, `2 runs have`."""
    return f"{count:,} run {one}".rstrip() if count == 1 else f"{count:,} runs {several}".rstrip()


def left_out(count: int, which: str) -> str:
    """What a caption says of runs that are not in a chart; nothing of none."""
    said = f" {runs(count)} {which} {'is' if count == 1 else 'are'} left out."
    return said if count else ""


def percent(found: Interval) -> tuple[float, float, float]:
    """A share in %, and how far its interval reaches down and up."""
    return 100 * found.mean, 100 * (found.below or 0), 100 * (found.above or 0)


def accuracy(one: Configuration) -> Interval:
    """In %."""
    return Interval(*percent(one.intervals["accuracy"]))


def quality(one: Configuration, further: Measure | None = None) -> str:
    """`49.97 ± 0.35 %, MSE 0.01164 ± 0.00012`, and a further figure."""
    words = [f"{ACCURACY.written(one.intervals['accuracy'])} %"]
    if (mse := one.intervals.get("mse")) is not None:
        words.append(f"MSE {MSE.written(mse)}")
    if further and (found := one.intervals.get(further.column)):
        words.append(f"{further.word} {further.written.written(found)}")
    return ", ".join(words)


def against(skill: Interval) -> str:
    """`5.0 times PCA's error`, `0.7 % more error than PCA`."""
    if times := times_pca(skill):
        return f"{times:.1f} times PCA's error"
    return f"{-100 * skill.mean:.1f} % more error than PCA"


def is_number(value: Any) -> bool:
    """Whether it has a place on an axis."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def reaches_far(values: Sequence[float]) -> bool:
    """Whether they are to be read on a log axis alone."""
    return bool(values and min(values) > 0 and max(values) >= 10 * min(values))


def sideways(values: Sequence[float], log: bool) -> list[float]:
    """Equal values a little apart, the first to the left, and no two groups into each other."""
    places = np.log10(values) if log else np.array(values, np.float64)
    distinct = np.unique(places)
    span = float(np.ptp(distinct)) or (1.0 if log else abs(float(distinct[0])) or 1.0)
    far = [distinct[0] - span, *distinct, distinct[-1] + span]
    found = places.copy()
    for before, value, after in zip(far, far[1:], far[2:], strict=False):
        (alike,) = np.nonzero(places == value)
        room = float(min(value - before, after - value))
        step = min(0.03 * span, 0.35 * room / len(alike))
        found[alike] = value + step * (np.arange(len(alike)) - (len(alike) - 1) / 2)
    return [float(value) for value in (10**found if log else found)]


def front(
    found: Sequence[tuple[float, float, Configuration]], most: bool
) -> list[tuple[float, float, Configuration]]:
    """Those (cost, figure, run) that nothing cheaper or as cheap reaches, from the cheapest on."""
    sign = -1 if most else 1
    kept: list[tuple[float, float, Configuration]] = []
    for one in sorted(found, key=lambda one: (one[0], sign * one[1])):
        if not kept or sign * one[1] < sign * kept[-1][1]:
            kept.append(one)
    return kept


def parameter_axis(name: str, ones: Sequence[Configuration]) -> Axis:
    """The parameter's values if they are few, on a log axis where they reach far."""
    values = sorted({one.settings[name] for one in ones})
    log = values[0] > 0 and values[-1] >= 20 * values[0]
    return Axis(f"{name}{' (log)' * log}", log, values if len(values) <= TICKS else ())


def with_a_curve(
    groups: Sequence[Sequence[Configuration]],
) -> list[Sequence[Configuration]]:
    """The groups that have a curve, in their order; of many PCA's and those of the best runs."""
    groups = [group for group in groups if any(one.ok for one in group)]
    of_pca = [group for group in groups if group[0].is_pca]
    of_group = {one: group for group in groups for one in group if one.ok}
    best = [of_group[one] for one in best_first([*of_group])]
    kept = {id(group): group for group in [*of_pca, *best]}
    first = {*[*kept][:CURVES]}
    return [group for group in groups if id(group) in first or len(groups) <= CURVES]


def labels_of(groups: Sequence[Sequence[Configuration]]) -> list[str]:
    """The model of each group; of a model with several its first run, too."""
    models = [group[0].settings["model"] for group in groups]
    return [
        model if models.count(model) == 1 else f"{model} ({group[0].names[0]}, ...)"
        for group, model in zip(groups, models, strict=True)
    ]


def file_name(parameter: str) -> str:
    """A parameter's name is the plug-in's, a figure's that of a file: no two of one name."""
    plain = re.sub(r"[^\w.-]", "-", parameter)[:80]
    return plain if plain == parameter else f"{plain}-{sha256(parameter.encode())[:8]}"
