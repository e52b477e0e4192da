"""The report's pictures of images, of tables and of codes."""

from collections.abc import Sequence

import numpy as np

from aebench.report.classes import confusion as confusion_of
from aebench.report.classes import hardest, shares
from aebench.report.configurations import (
    Configuration,
    best_and_references,
    best_first,
    of_all,
)
from aebench.report.document import Figure
from aebench.report.panel import PanelCell, panel_cells
from aebench.report.pictures import CodeMap, HeatMap, Mosaic, Strip
from aebench.report.results import Result, Results
from aebench.report.texts import short

STRIPS, ROWS, MAPS = 24, 30, 60  # that a picture has room for
NAME_LENGTH = 60  # of a run in a title


def gallery(results: Results, everything: Sequence[Configuration]) -> list[Figure]:
    """The shown test images, and those of each model's first seed by MSE; empty without any.

    Without pixels, which are the originals again.
    """
    originals = results.originals
    drawn = [
        one for one in everything if one.ok and one.ok[0].examples is not None and not one.is_pixels
    ]
    shown = sorted(best_and_references(drawn, STRIPS), key=lambda one: one.intervals["mse"].mean)
    strips = [
        Strip(one.name, found, error(one), one.card)
        for one in shown
        if (found := one.ok[0].examples) is not None
    ]
    strips = [strip for strip in strips if strip.images.shape == strips[0].images.shape]
    if not strips:
        return []
    above = [] if originals is None else [Strip("original", originals)]
    caption = f"The same test images, by MSE.{of_all(shown, drawn)}"
    picture = Mosaic([*above, *strips], class_names(results, everything, len(strips[0].images)))
    heading = "What each run makes of the same images, the smallest error first"
    return [Figure("gallery", picture, heading, caption)]


def error(one: Configuration) -> str:
    """`MSE 0.01164`, and that its floats are packed where they are."""
    return f"MSE {one.intervals['mse'].mean:.5f}{', packed' * one.is_packed}"


def class_names(results: Results, everything: Sequence[Configuration], images: int) -> list[str]:
    """Of the shown images; empty where they are not known."""
    places = getattr(results.data, "examples", [])
    one = next((one for one in everything if one.ok), None)
    if one is None or len(places) != images or max(places) >= len(one.outcomes[0]):
        return []
    return [results.data.classes[label] for label in one.outcomes[0]["label"][places]]


def worst(at_defaults: Sequence[Configuration]) -> list[Figure]:
    """The worst images of the run with the smallest error, and of PCA; empty without any."""
    found = [
        one for one in at_defaults if one.ok and one.ok[0].worst is not None and not one.is_pixels
    ]
    trained = [one for one in found if not one.is_pca and not one.is_packed]
    best = sorted(trained, key=lambda one: one.intervals["mse"].mean)[:1]
    pca = [one for one in found if one.is_pca][:1]
    strips = [strip for one in [*best, *pca] for strip in worst_of(one)]
    strips = [strip for strip in strips if strip.images.shape == strips[0].images.shape]
    if not strips:
        return []
    names = " and ".join(short(one.name, NAME_LENGTH) for one in [*best, *pca])
    caption = "The test images with the largest errors, each with its MSE, the largest first."
    return [Figure("worst", Mosaic(strips), f"Where {names} fail most", caption)]


def worst_of(one: Configuration) -> list[Strip]:
    """The images that its first seed rebuilds worst, above what it makes of them."""
    result = one.ok[0]
    assert result.worst is not None
    images, rebuilt = result.worst
    largest = np.sort(result.outcomes["squared_error"])[::-1][: len(images)]
    notes = [f"{value:.3g}" for value in largest]
    return [
        Strip("original", images),
        Strip(one.name, rebuilt, error(one), one.card, notes if len(notes) == len(images) else ()),
    ]


def confusion(names: Sequence[str], at_defaults: Sequence[Configuration]) -> list[Figure]:
    """What the most accurate run takes the classes for, and how PCA differs; empty if all failed.

    Of many classes those that it gets wrong most often.
    """
    found = [one for one in at_defaults if one.ok]
    if not found:
        return []
    best = best_first([one for one in found if not one.is_pixels] or found)[0]
    matrix = confusion_of(best, len(names))
    chosen = hardest(matrix)
    some = (
        ""
        if len(chosen) == len(names)
        else (f" Of {len(names):,} classes, the {len(chosen)} that it gets wrong most often.")
    )
    name = short(best.name, NAME_LENGTH)
    caption = f"Rows: the class; columns: the vote, % of the row.{some}"
    own = shares(matrix)[np.ix_(chosen, chosen)]
    chosen_names = [names[label] for label in chosen]
    heat = square(chosen_names, own, "{:.0f}", (0.0, 100.0), diverging=False)
    figures = [Figure("confusion", heat, f"What {name} takes the classes for", caption)]
    pca = next((one for one in found if one.is_pca and one is not best), None)
    if pca is None:
        return figures
    less = own - shares(confusion_of(pca, len(names)))[np.ix_(chosen, chosen)]
    end = float(np.abs(less).max()) or 1.0
    heat = square(chosen_names, less, "{:+.0f}", (-end, end), diverging=True)
    heading = f"Where {name} votes unlike {short(pca.name, NAME_LENGTH)}"
    caption = (
        f"{short(best.name, NAME_LENGTH)} minus {short(pca.name, NAME_LENGTH)}, points: above 0 on "
        f"the diagonal and below 0 beside it is better.{some}"
    )
    return [*figures, Figure("confusion_pca", heat, heading, caption)]


def square(
    names: Sequence[str],
    values: np.ndarray,
    pattern: str,
    ends: tuple[float, float],
    diverging: bool,
) -> HeatMap:
    """Of classes by classes."""
    none = np.zeros(values.shape, bool)
    rows = [(name, "") for name in names]
    return HeatMap(rows, names, (), values, pattern, *ends, none, diverging)


def protocol(everything: Sequence[Configuration]) -> list[Figure]:
    """Accuracy at every k and metric of the panel; empty if all failed or none was measured."""
    found = [one for one in everything if one.ok]
    cells = panel_cells([result for one in found for result in one.ok])
    if not cells:
        return []
    shown = best_and_references(found, ROWS)
    means = [[one.mean(cell.column) for cell in cells] for one in shown]
    values = 100 * np.array(means, np.float64)
    known = values[~np.isnan(values)]
    if not known.size:
        return []
    marked = values == np.nanmax(np.where(np.isnan(values), -1, values), axis=0)
    metrics = [cell.metric.replace("_", "-") for cell in cells]
    groups = [(metric, metrics.count(metric)) for metric in dict.fromkeys(metrics)]
    rows = [(one.name, one.card) for one in shown]
    ends = float(known.min()), float(known.max())
    columns = [cell.k for cell in cells]
    picture = HeatMap(rows, columns, groups, values, "{:.1f}", *ends, marked)
    caption = (
        "kNN accuracy in % for every metric and k; the highest of each column is underlined."
        f"{of_all(shown, found)}"
    )
    heading = protocol_title(shown, cells, values, marked)
    return [Figure("protocol", picture, heading, caption)]


def protocol_title(
    shown: Sequence[Configuration],
    cells: Sequence[PanelCell],
    values: np.ndarray,
    marked: np.ndarray,
) -> str:
    """Who has the highest accuracy in most cells, and the highest of all where that is another."""
    if len(shown) < 2:
        return "kNN accuracy by metric and k"
    wins = marked.sum(axis=1)
    most = int(wins.argmax())
    name = short(shown[most].name, NAME_LENGTH)
    if wins[most] == len(cells):
        return f"{name} has the highest accuracy in all {len(cells)} cells"
    row, column = map(int, np.unravel_index(np.nanargmax(values), values.shape))
    first = f"{name} has the highest accuracy in {wins[most]} of {len(cells)} cells"
    other = "it" if row == most else short(shown[row].name, NAME_LENGTH)
    where = f"{values[row, column]:.1f} % by {other} with {cells[column].words}"
    return f"{first}; the highest of all is {where}"


def code_map(results: Results, everything: Sequence[Configuration]) -> list[Figure]:
    """The codes of the mapped test images in the plane, all runs', the best first; else empty."""
    found = [one for one in everything if mapped(one)]
    shown = best_and_references(found, MAPS)
    order = [*best_first([one for one in shown if not one.is_pixels]), *shown]
    places = results.data.mapped
    maps = []
    for one in dict.fromkeys(order):
        result = mapped(one)
        assert result is not None and result.code_map is not None
        ways = ["PCA", "t-SNE"][: len(result.code_map)]
        predictions = result.outcomes["prediction"][places].astype(np.int64)
        for how, where in reversed([*zip(ways, result.code_map, strict=False)]):
            if len(where) == len(places):
                maps.append((one.name, one.card, how, where, predictions))
    if not maps:
        return []
    labels = found[0].outcomes[0]["label"][places].astype(np.int64)
    name, _, how, _, _ = maps[0]
    caption = (
        f"{how} of the codes, a point for each of {len(places):,} test images. Near points are not "
        "always near codes. Hollow: the vote is wrong."
    )
    if len(results.data.classes) > NAMED_CLASSES:
        caption += " Of more classes than are named, the colours and markers come again."
    heading = f"Where the codes of {short(name, NAME_LENGTH)} lie"
    return [Figure("code_map", CodeMap(maps, labels, results.data.classes), heading, caption)]


NAMED_CLASSES = 16  # in the legend of a map


def mapped(one: Configuration) -> Result | None:
    """The first of its results that has a map."""
    return next((result for result in one.ok if result.code_map is not None), None)
