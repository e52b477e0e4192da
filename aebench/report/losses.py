"""How training went: losses and what was given beside them, by epoch and by seconds."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count

import numpy as np

from aebench.report.charts import LARGEST, UNTIMED, Charts, file_name, left_out, lines, reaches_far
from aebench.report.configurations import Configuration, best_and_references, of_all
from aebench.report.document import Figure
from aebench.report.pictures import Axis, Chart, Level, Point, Series
from aebench.report.texts import short

LOSSES, CHARTS = 12, 12  # that a picture, and a report, has room for
NEAR = 2.0  # times its test MSE: a loss that ends farther off is none
LINES = ("-", "-.", ":", "--")  # of the runs of one model, where each is a line


def losses(charts: Charts) -> list[Figure]:
    """Of each first seed, a chart per code size, by epoch and by seconds.

    What is not on the scale of the MSE has charts of its own. Empty if nothing was trained.
    """
    curves = {one: drawable({"": one.ok[0].losses}) for one in charts.everything if one.ok}
    trained = [one for one, found in curves.items() if found]
    sizes: dict[int, list[Configuration]] = {}
    for one in trained:
        if is_mse(one) and one.latent is not None:
            sizes.setdefault(one.latent, []).append(one)
    found = []
    for size in charts.first_sizes(sizes):
        heading = f"Training loss with {size:,} floats"
        found += losses_of(charts, f"loss_curves-{size}", heading, sizes[size], compared=True)
    own = [one for one in trained if not is_mse(one)]
    heading = "Training losses on scales of their own"
    return found + (
        losses_of(charts, "loss_curves-own", heading, own, compared=False) if own else []
    )


def losses_of(
    charts: Charts, name: str, heading: str, ones: Sequence[Configuration], compared: bool
) -> list[Figure]:
    """By epoch and, where the times may be compared, by seconds."""
    shown = best_and_references(ones, LOSSES)
    levels = charts.pca_level(ones, "mse", 1) if compared else []
    levels = [level._replace(text="PCA's test MSE") for level in levels]
    epochs = {
        one: [(n + 1.0, y) for n, y in enumerate(drawable({"": one.ok[0].losses})[""])]
        for one in shown
    }
    seconds = {
        one: [(float(x), y) for x, (_, y) in zip(passed, epochs[one], strict=True)]
        for one in shown
        if charts.times.clean(one.ok[0].columns, "train_seconds", "epoch")
        and len(passed := np.cumsum(one.ok[0].epoch_seconds)) == len(epochs[one])
    }
    caption = f"Mean over each epoch, first seed: down is better.{of_all(shown, ones)}"
    left = left_out(len(shown) - len(seconds), UNTIMED)
    found = []
    for unit, curves, over in (("epochs", epochs, "epoch"), ("seconds", seconds, "training time")):
        if not curves:
            continue
        cut = first_epoch_dwarfs(curves.values())
        series = loss_series(charts, curves, 2 if cut else 1)
        picture = over_training(unit, f"training loss{' (from epoch 2)' * cut}", series, levels)
        words = caption + left * (unit == "seconds")
        found.append(Figure(f"{name}-{unit}", picture, f"{heading}, by {over}", words))
    return found


def over_training(
    unit: str, what: str, series: Sequence[Series], levels: Sequence[Level] = ()
) -> Chart:
    """Lines over epochs, all of which are there, or over seconds; log axes if they reach far."""
    points = [point for one in series for point in one.points]
    places = [point.x for point in points]
    if unit == "epochs":
        x = Axis("epoch", ticks=whole_ticks(places), ends=around(places))
    else:
        log = reaches_far(places)
        x = Axis(f"training, s{' (log)' * log}", log)
    far = reaches_far([point.y for point in points if point.y is not None])
    return lines(x, Axis(f"{what}{' (log)' * far}", far), series, levels)


def loss_series(
    charts: Charts, curves: Mapping[Configuration, Sequence[tuple[float, float | None]]], first: int
) -> list[Series]:
    """A line for each run, its last point marked; runs of one model in lines of their own."""
    found, of_model = [], {}
    for one, points in curves.items():
        kept = points[first - 1 :] if len(points) > 2 else points
        known = [n for n, (_, y) in enumerate(kept) if y is not None]
        if not known:
            continue
        ends = {known[-1]: f"{one.name}: {kept[known[-1]][1]:.5g} in the last epoch"}
        look = charts.looks[one]
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


def further_curves(charts: Charts) -> list[Figure]:
    """What losses gave beside the loss, of each first seed, a chart a name; else empty."""
    curves = {one: drawable(one.ok[0].curves) for one in charts.everything if one.ok}
    having: dict[str, list[Configuration]] = {}
    for one, found in curves.items():
        for name in found:
            having.setdefault(name, []).append(one)
    # Of many those that most runs have.
    most = sorted(having, key=lambda name: -len(having[name]))[:CHARTS]
    figures = []
    for name in (name for name in having if name in most):
        shown = best_and_references(having[name], LOSSES)
        values = {o: [(n + 1.0, y) for n, y in enumerate(curves[o][name])] for o in shown}
        picture = over_training("epochs", name, loss_series(charts, values, 1))
        caption = "What losses gave beside the loss, mean over the epoch, first seed."
        if len(most) < len(having):
            caption += f" {len(most)} of {len(having):,} curves: those that most runs have."
        caption += of_all(shown, having[name])
        heading = short(name, 60)
        figures.append(Figure(f"further_curves-{file_name(name)}", picture, heading, caption))
    return figures


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
