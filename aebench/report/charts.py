"""The report's charts: which figures of which configurations stand in each, and what it shows."""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np

from aebench.evaluation.uncertainty import Interval, over_seeds
from aebench.report.baselines import TIMES, mse_skill_score
from aebench.report.configurations import (
    Configuration,
    best_and_references,
    best_first,
    of_all,
    title,
)
from aebench.report.document import Figure, Format
from aebench.report.findings import Findings
from aebench.report.looks import PCA, PIXELS, looks
from aebench.report.pictures import Axis, Chart, Label, Level, Point, Series
from aebench.report.search import LEAST
from aebench.report.summary import Against, against_pca, trade_off
from aebench.report.texts import named, short
from aebench.workspace import sha256

POINTS, CURVES, LOSSES, CHARTS, SIZES = 60, 10, 12, 12, 12  # that a picture has room for
DIRECT = 5  # curves that are named where they end; more of them in a legend
TICKS = 15  # values that are named on an axis
LARGEST = 1e100  # that an axis can show
NEAR = 2.0  # times its test MSE: a loss that ends farther off is none
CHANCE = PIXELS
LINES = ("-", "-.", ":", "--")  # of the runs of one model, where each is a line
ACCURACY, MSE = Format("{:.2f}", 100), Format("{:.5f}")
BARS = "Bars: 95 %."


class Charts:
    """The charts of a report."""

    def __init__(self, found: Findings) -> None:
        self.found = found
        self.everything = found.configurations
        self.baselines, self.times, self.ties = found.baselines, found.times, found.ties
        self.looks = looks(found.configurations)

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
        caption = (
            f"kNN accuracy over the bytes of a code: up and left is better. {BARS} "
            f"Line: the most that is found with so many bytes{self.without_labels(shown)}. "
            f"Codes of one size stand side by side.{of_all(shown, alike)}"
        )
        if len(alike) < len(found):
            caption += f" {len(found) - len(alike):,} runs with another k or metric are not in it."
        return [Figure("accuracy_over_bytes", picture, self.size_title(shown), caption)]

    def without_labels(self, shown: Sequence[Configuration]) -> str:
        """What the caption adds where some saw the labels."""
        return " by what saw no labels" * any(one.saw_labels for one in shown)

    def size_of(self, one: Configuration) -> float:
        """Bytes per code; of an image for pixels."""
        return float(self.found.costs.image_bytes if one.is_pixels else one.mean("code_bytes") or 0)

    def size_title(self, shown: Sequence[Configuration]) -> str:
        """What accuracy over bytes shows, as far as the paired test supports it."""
        neutral = "kNN accuracy over bytes per code"
        if len(self.found.coded) < 2:
            return neutral
        best, tied = trade_off(self.found)
        if best not in shown:
            return neutral
        size = self.size_of(best)
        others = f", tied with {len(tied)} others" if tied[1:] else ""
        others = f", tied with {tied[0].short_name}" if len(tied) == 1 else others
        words = f"{best.short_name} ({size:,.0f} bytes) is best{others}"
        larger = [one for one in shown if self.size_of(one) > size]
        rivals = [one for one in larger if one in tied or one.saw_labels or one.is_pixels]
        if not larger or any(self.rivals(best, one) for one in rivals):
            return words
        return f"More bytes do not find more: {words}"

    def rivals(self, best: Configuration, one: Configuration) -> bool:
        """Whether a run is not told to be less accurate."""
        less = one.intervals["accuracy"].mean < best.intervals["accuracy"].mean
        return not less or self.ties.p_value(best, one, "accuracy") >= LEAST

    def mse_over_seconds(self) -> list[Figure]:
        """A chart for each code size with two or more trained runs whose times may be compared."""
        sizes: dict[int, list[Configuration]] = {}
        seconds = {one: self.train_seconds(one) for one in self.everything}
        decoding = [one for one in self.everything if "mse" in one.intervals and seconds[one]]
        for one in decoding:
            if not one.is_reference and not one.is_packed and one.latent is not None:
                sizes.setdefault(one.latent, []).append(one)
        several = {size: ones for size, ones in sizes.items() if len(ones) > 1}
        return [
            self.mse_of_size(size, several[size], {o: seconds[o] for o in several[size]})
            for size in self.first_sizes(several)
        ]

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
        ones: Sequence[Configuration],
        seconds: Mapping[Configuration, Sequence[float]],
    ) -> Figure:
        """MSE over training seconds."""
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
        heading = self.mse_title(size, ones)
        return Figure(f"mse_over_seconds-{size}", picture, heading, caption)

    def mse_title(self, size: int, ones: Sequence[Configuration]) -> str:
        """Who rebuilds best with codes of a size, or that nobody reaches PCA."""
        floats = f"{size:,} floats"
        skills = [self.baselines.skill(one, "mse") for one in ones]
        if all(skill and not skill.holds_zero and skill.mean < 0 for skill in skills):
            return f"{floats}: no run reaches PCA's error"
        group = self.ties.best(ones, "mse")
        if not group:
            return f"{floats}: test MSE over training time"
        tied = f", tied with {named([one.short_name for one in group[1:]], 2)}" if group[1:] else ""
        return f"{floats}: {group[0].short_name} has the smallest error{tied}"

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
        titles = [self.accuracy_title(name, ones, len(groups)), self.ratio_title(name, ones)]
        return [
            replace(figure, title=heading, caption=figure.caption + chosen)
            for figure, heading in zip(found, titles, strict=False)
        ]

    def accuracy_sweep(self, name: str, groups: Sequence[Sequence[Configuration]]) -> Figure:
        """Accuracy over a parameter; PCA and pixels as levels."""
        ones = [one for group in groups for one in group if one.ok]
        curves = [
            self.curve(name, group, label, accuracy)
            for group, label in zip(groups, labels_of(groups), strict=True)
        ]
        levels = [] if name == "latent" else self.pca_level(ones, "accuracy", 100)
        pixels = next((p for one in ones if (p := self.baselines.pixels_of(one)) and p.ok), None)
        if pixels:
            levels.append(Level(accuracy(pixels).mean, "raw pixels", self.looks[pixels]))
        points = [point for curve in curves for point in curve.points]
        y = self.accuracy_axis(points, [level.y for level in levels])
        levels += self.chance_level(y)
        picture = self.lines(parameter_axis(name, ones), y, curves, levels)
        caption = f"kNN accuracy over {name}: up is better. {BARS}"
        return Figure(f"{file_name(name)}-accuracy", picture, "", caption)

    def accuracy_title(self, name: str, ones: Sequence[Configuration], curves: int) -> str:
        """Which values have the highest accuracy, as far as the paired test tells them apart."""
        group = self.ties.best(ones, "accuracy")
        what = title(name)
        if not group:
            return f"{what}: kNN accuracy"
        best = dict.fromkeys(sorted(one.settings[name] for one in group))
        if len(best) == len({one.settings[name] for one in ones}):
            return f"{what}: no value is told from the best accuracy"
        model = f" ({group[0].short_name})" if curves > 1 else ""
        values = [f"{value:,.6g}" for value in best]
        if len(values) > 4:
            return f"{what}: {len(values)} values share the highest accuracy"
        return f"{what}: accuracy is highest at {' or '.join(values)}{model}"

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
            left = len(rebuilt) - len(ratios)
            note = f" {left:,} runs have no PCA of their size to divide by." if left else ""
        else:
            levels = [] if name == "latent" else self.pca_level(ones, "mse", 1)
            what, better = "test MSE", "down is better"
            without = len(ratios) < len(rebuilt)
            note = " Not every run has a PCA of its size to divide by." if without else ""
        shaded = (1.0, "worse than PCA") if relative and max(means) > 1 else None
        y = Axis(f"{what}{' (log)' * log}", log)
        picture = self.lines(parameter_axis(name, ones), y, curves, levels, shaded)
        caption = f"Test MSE over {name}: {better}. {BARS}{note}"
        return [Figure(f"{file_name(name)}-mse", picture, "", caption)]

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
        told = [pair for pair in against_pca(self.found) if pair.column == "mse"]
        pairs = {pair.one: pair for pair in told if pair.one in ones and not pair.one.is_packed}
        worse = [pair for pair in pairs.values() if pair.is_told and pair.skill.mean < 0]
        if worse:
            most = min(worse, key=lambda pair: pair.skill.mean)
            count = len(worse) - 1
            others = f", and {count} more {'run loses' if count == 1 else 'runs lose'} to it"
            others = others if count else ""
            return f"{what}: {most.one.short_name} has {against(most)}{others}"
        better = [pair for pair in pairs.values() if pair.is_told and pair.skill.mean > 0]
        if pairs and len(better) == len(pairs):
            return f"{what}: every error is below PCA's"
        return f"{what}: test MSE"

    def curve(
        self,
        name: str,
        group: Sequence[Configuration],
        label: str,
        value: Callable[[Configuration], Interval],
    ) -> Series:
        """A line over a parameter's values."""
        points = []
        for one in group:
            if not one.ok:
                continue
            found = value(one)
            tip = f"{one.name}: {name} {one.settings[name]:,.6g}, {quality(one)}"
            reach = found.below or 0, found.above or 0
            points.append(Point(one.settings[name], found.mean, *reach, one.card, tip))
        return Series(label, self.looks[group[0]], points, joined=True)

    def losses(self) -> list[Figure]:
        """Of each first seed, a chart per code size, by epoch and by seconds.

        What is not on the scale of the MSE has charts of its own. Empty if nothing was trained.
        """
        curves = {one: drawable({"": one.ok[0].losses}) for one in self.everything if one.ok}
        trained = [one for one, found in curves.items() if found]
        sizes: dict[int, list[Configuration]] = {}
        for one in trained:
            if is_mse(one) and one.latent is not None:
                sizes.setdefault(one.latent, []).append(one)
        found = []
        for size in self.first_sizes(sizes):
            heading = f"Training loss with {size:,} floats"
            found += self.losses_of(f"loss_curves-{size}", heading, sizes[size], compared=True)
        own = [one for one in trained if not is_mse(one)]
        heading = "Training losses on scales of their own"
        return found + (
            self.losses_of("loss_curves-own", heading, own, compared=False) if own else []
        )

    def losses_of(
        self, name: str, heading: str, ones: Sequence[Configuration], compared: bool
    ) -> list[Figure]:
        """By epoch and, where the times may be compared, by seconds."""
        shown = best_and_references(ones, LOSSES)
        levels = self.pca_level(ones, "mse", 1) if compared else []
        levels = [level._replace(text="PCA's test MSE") for level in levels]
        epochs = {
            one: [(n + 1.0, y) for n, y in enumerate(drawable({"": one.ok[0].losses})[""])]
            for one in shown
        }
        seconds = {
            one: [(float(x), y) for x, (_, y) in zip(passed, epochs[one], strict=True)]
            for one in shown
            if self.times.clean(one.ok[0].columns, "train_seconds", "epoch")
            and len(passed := np.cumsum(one.ok[0].epoch_seconds)) == len(epochs[one])
        }
        caption = f"Mean over each epoch, first seed: down is better.{of_all(shown, ones)}"
        found = []
        if len(seconds) < len(shown):
            left = (
                f" {len(shown) - len(seconds)} runs whose times may not be compared are left out."
            )
        else:
            left = ""
        for unit, curves, more in (("epochs", epochs, ""), ("seconds", seconds, left)):
            if not curves:
                continue
            cut = first_epoch_dwarfs(curves.values())
            series = self.loss_series(curves, 2 if cut else 1)
            what = f"training loss{' (from epoch 2)' * cut}"
            values = [p.y for one in series for p in one.points if p.y is not None]
            far = reaches_far(values)
            places = [p.x for one in series for p in one.points]
            log = unit == "seconds" and reaches_far(places)
            x = Axis("epoch" if unit == "epochs" else f"training, s{' (log)' * log}", log)
            if unit == "epochs":
                x = Axis("epoch", ticks=whole_ticks(places), ends=around(places))
            picture = self.lines(x, Axis(f"{what}{' (log)' * far}", far), series, levels)
            over = "by epoch" if unit == "epochs" else "by training time"
            found.append(Figure(f"{name}-{unit}", picture, f"{heading}, {over}", caption + more))
        return found

    def loss_series(
        self, curves: Mapping[Configuration, Sequence[tuple[float, float | None]]], first: int
    ) -> list[Series]:
        """A line for each run, its last point marked; runs of one model in lines of their own."""
        found, of_model = [], {}
        for one, points in curves.items():
            kept = points[first - 1 :] if len(points) > 2 else points
            known = [n for n, (_, y) in enumerate(kept) if y is not None]
            if not known:
                continue
            ends = {known[-1]: f"{one.name}: {kept[known[-1]][1]:.5g} in the last epoch"}
            look = self.looks[one]
            place = of_model.setdefault((look.colour, look.marker), [])
            place.append(one)
            if len(place) > 1:
                look = replace(look, line=LINES[(len(place) - 1) % len(LINES)])
            line = [
                Point(x, y, card=one.card if n in ends else "", tip=ends.get(n, ""))
                for n, (x, y) in enumerate(kept)
            ]
            found.append(Series(one.name, look, line, joined=True))
        return found

    def further_curves(self) -> list[Figure]:
        """What losses gave beside the loss, of each first seed, a chart a name; else empty."""
        curves = {one: drawable(one.ok[0].curves) for one in self.everything if one.ok}
        trained = [one for one, found in curves.items() if found]
        charts: dict[str, list[Configuration]] = {}
        for one in trained:
            for name in curves[one]:
                charts.setdefault(name, []).append(one)
        # Of many those that most runs have.
        most = sorted(charts, key=lambda name: -len(charts[name]))[:CHARTS]
        found = []
        for name in (name for name in charts if name in most):
            shown = best_and_references(charts[name], LOSSES)
            values = {o: [(n + 1.0, y) for n, y in enumerate(curves[o][name])] for o in shown}
            series = self.loss_series(values, 1)
            far = reaches_far([p.y for one in series for p in one.points if p.y is not None])
            places = [p.x for one in series for p in one.points]
            x = Axis("epoch", ticks=whole_ticks(places), ends=around(places))
            picture = self.lines(x, Axis(f"{name}{' (log)' * far}", far), series, [])
            caption = "What losses gave beside the loss, mean over the epoch, first seed."
            if len(most) < len(charts):
                caption += f" {len(most)} of {len(charts):,} curves: those that most runs have."
            caption += of_all(shown, charts[name])
            found.append(
                Figure(f"further_curves-{file_name(name)}", picture, short(name, 60), caption)
            )
        return found

    def lines(
        self,
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

    def accuracy_axis(self, points: Sequence[Point], levels: Sequence[float] = ()) -> Axis:
        """From chance on where that is near, else from where the runs are, and it says so."""
        y = [point for point in points if point.y is not None]
        low = min([*((p.y or 0) - p.below for p in y), *levels])
        high = max([*((p.y or 0) + p.above for p in y), *levels])
        chance = 100 * self.found.chance
        room = 0.08 * (high - low) or 2
        if low - chance < 0.6 * (high - low):
            low = min(low, chance)
            return Axis("kNN accuracy, %", ends=(max(0, low - room), high + room))
        begin = max(math.floor(low - room), 0)
        where = f"axis from {begin}; chance {chance:.3g}"
        return Axis(f"kNN accuracy, % ({where})", ends=(begin, high + room))

    def chance_level(self, y: Axis) -> list[Level]:
        """Where the axis reaches it."""
        chance = 100 * self.found.chance
        return [Level(chance, "chance", CHANCE)] if y.ends and y.ends[0] <= chance else []

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


def percent(found: Interval) -> tuple[float, float, float]:
    """A share in %, and how far its interval reaches down and up."""
    return 100 * found.mean, 100 * (found.below or 0), 100 * (found.above or 0)


def accuracy(one: Configuration) -> Interval:
    """In %."""
    return Interval(*percent(one.intervals["accuracy"]))


def quality(one: Configuration) -> str:
    """`49.97 ± 0.35 %, MSE 0.01164 ± 0.00012`."""
    words = f"{ACCURACY.written(one.intervals['accuracy'])} %"
    mse = one.intervals.get("mse")
    return words if mse is None else f"{words}, MSE {MSE.written(mse)}"


def against(pair: Against) -> str:
    """`5.0 times PCA's error`, `0.7 % more error than PCA`."""
    ratio = 1 - pair.skill.mean
    if ratio >= TIMES:
        return f"{ratio:.1f} times PCA's error"
    return f"{100 * (ratio - 1):.1f} % more error than PCA"


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


def is_mse(one: Configuration) -> bool:
    """Whether its loss seems to be the mean squared error: it ends near that of the test images.

    A model's own loss has its own scale, and nothing else tells whether it has one.
    """
    mse, result = one.mean("mse"), one.ok[0]
    last = result.losses[-1]
    return mse is not None and not result.curves and mse / NEAR <= last <= mse * NEAR


def drawable(curves: Mapping[str, Sequence[float | None]]) -> dict[str, list[float | None]]:
    """Those that have any value that an axis can show, gaps in place of the others."""
    found = {
        name: [None if value is None or abs(value) > LARGEST else value for value in values]
        for name, values in curves.items()
    }
    return {name: values for name, values in found.items() if {*values} - {None}}


def first_epoch_dwarfs(curves: Iterable[Sequence[tuple[float, float | None]]]) -> bool:
    """Whether the rest of all training would have less than half of the height."""
    later = [y for curve in curves for _, y in curve[1:] if y is not None]
    every = [y for curve in curves for _, y in curve if y is not None]
    if not later or all(len(curve) < 3 for curve in curves):
        return False
    low = min(every)
    return bool(max(later) - low < 0.5 * (max(every) - low))


def whole_ticks(places: Sequence[float]) -> list[float]:
    """Of epochs: at most eight."""
    first, last = int(min(places)), int(max(places))
    step = next(n for n in steps() if (last - first) / n <= 7)
    return [float(n) for n in range(first, last + 1) if n % step == 0 or n == first == last]


def steps() -> Iterator[int]:
    """1, 2, 5, 10, 20, ..."""
    return (factor * 10**power for power in count() for factor in (1, 2, 5))


def around(places: Sequence[float]) -> tuple[float, float]:
    """All of them with a margin, also those that begin or end as a gap."""
    first, last = min(places), max(places)
    margin = 0.05 * max(1, last - first)
    return first - margin, last + margin


def file_name(parameter: str) -> str:
    """A parameter's name is the plug-in's, a figure's that of a file: no two of one name."""
    plain = re.sub(r"[^\w.-]", "-", parameter)[:80]
    return plain if plain == parameter else f"{plain}-{sha256(parameter.encode())[:8]}"
