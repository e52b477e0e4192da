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
    unlabelled,
)
from aebench.report.document import Figure
from aebench.report.findings import Findings
from aebench.report.panel import agreement, panel_cells
from aebench.report.pictures import CodeMap, HeatMap, Mosaic, Strip
from aebench.report.results import Result
from aebench.report.texts import ends

STRIPS, ROWS, MAPS = 24, 30, 60  # that a picture has room for
WAYS = ("PCA", "t-SNE")  # to the plane, in the order of Result.code_map
NAME_LENGTH = 60  # of a run in a title


def gallery(found: Findings) -> list[Figure]:
    """The shown test images, and those of each model's first seed by MSE; empty without any.

    Without pixels, which are the originals again.
    """
    originals = found.results.originals
    drawn = [one for one in found.coded if one.ok[0].examples is not None]
    shown = sorted(best_and_references(drawn, STRIPS), key=lambda one: one.intervals["mse"].mean)
    strips = [
        Strip(one.name, images, error(one), one.card)
        for one in shown
        if (images := one.ok[0].examples) is not None
    ]
    strips = [strip for strip in strips if strip.images.shape == strips[0].images.shape]
    if not strips:
        return []
    above = [] if originals is None else [Strip("original", originals)]
    caption = f"The same test images, by MSE.{of_first_seed(shown)}{of_all(shown, drawn)}"
    picture = Mosaic([*above, *strips], class_names(found, len(strips[0].images)))
    heading = "What each run makes of the same images, the smallest error first"
    return [Figure("reconstructions", picture, heading, caption)]


def of_first_seed(ones: Sequence[Configuration]) -> str:
    """What a caption says of images and their MSE, where the seeds of any of these differ."""
    several = any(len(one.outcomes) > 1 for one in ones)
    return " Images are of the first seed, the MSE is the mean over the seeds." if several else ""


def error(one: Configuration) -> str:
    """`MSE 0.01164`, and that its floats are packed where they are."""
    return f"MSE {one.intervals['mse'].mean:.5f}{', packed' * one.is_packed}"


def class_names(found: Findings, images: int) -> list[str]:
    """Of the shown images; empty where they are not known."""
    data = found.results.data
    one = next((one for one in found.configurations if one.ok), None)
    if one is None or len(data.examples) != images:
        return []
    return [data.classes[label] for label in one.outcomes[0]["label"][data.examples]]


def worst(found: Findings) -> list[Figure]:
    """The worst images of the run with the smallest error, and of PCA; empty without any."""
    known = [
        one
        for one in found.at_defaults
        if one.ok and one.ok[0].worst is not None and not one.is_pixels
    ]
    trained = [one for one in known if not one.is_pca and not one.is_packed]
    best = sorted(trained, key=lambda one: one.intervals["mse"].mean)[:1]
    pca = [one for one in known if one.is_pca][:1]
    strips = [strip for one in [*best, *pca] for strip in worst_of(one)]
    strips = [strip for strip in strips if strip.images.shape == strips[0].images.shape]
    if not strips:
        return []
    names = " and ".join(one.short_name for one in [*best, *pca])
    caption = (
        "The test images with the largest errors, each with its MSE, the largest first."
        f"{of_first_seed([*best, *pca])}"
    )
    return [Figure("worst", Mosaic(strips), f"The worst images of {names}", caption)]


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


def confusion(found: Findings) -> list[Figure]:
    """What the most accurate run takes the classes for, and how PCA differs; empty if all failed.

    Of many classes those that it gets wrong most often.
    """
    names, known = found.results.data.classes, [one for one in found.at_defaults if one.ok]
    if not known:
        return []
    best = best_first(unlabelled([one for one in known if not one.is_pixels] or known))[0]
    matrix = confusion_of(best, len(names))
    chosen = hardest(matrix)
    some = (
        ""
        if len(chosen) == len(names)
        else (f" Of {len(names):,} classes, the {len(chosen)} that it gets wrong most often.")
    )
    name = best.short_name
    caption = f"Rows: the class; columns: the vote, % of the row.{some}"
    own = shares(matrix)[np.ix_(chosen, chosen)]
    chosen_names = [names[label] for label in chosen]
    heat = square(chosen_names, own, "{:.0f}", (0.0, float(own.max()) or 1.0), diverging=False)
    figures = [Figure("confusion", heat, f"What {name} takes the classes for", caption)]
    pca = next((one for one in known if one.is_pca and one is not best), None)
    if pca is None:
        return figures
    less = own - shares(confusion_of(pca, len(names)))[np.ix_(chosen, chosen)]
    end = float(np.abs(less).max()) or 1.0
    heat = square(chosen_names, less, "{:+.0f}", (-end, end), diverging=True)
    heading = f"Where {name} votes unlike {pca.short_name}"
    caption = (
        f"{best.short_name} minus {pca.short_name}, points: above 0 on "
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


def protocol(found: Findings) -> list[Figure]:
    """Accuracy at every k and metric of the panel; empty if all failed or none was measured."""
    every = [one for one in found.configurations if one.ok]
    cells = panel_cells([result for one in every for result in one.ok])
    if not cells:
        return []
    shown = best_and_references(every, ROWS)
    means = [[one.mean(cell.column) for cell in cells] for one in shown]
    values = 100 * np.array(means, np.float64)
    known = values[~np.isnan(values)]
    if not known.size:
        return []
    rivals = unlabelled(shown)
    ranked = [one in rivals for one in shown]
    marked = values == np.where(np.isnan(values), -1, values)[ranked].max(axis=0)
    metrics = [cell.metric.replace("_", "-") for cell in cells]
    groups = [(metric, metrics.count(metric)) for metric in dict.fromkeys(metrics)]
    rows = [(one.name, one.card) for one in shown]
    ends = float(known.min()), float(known.max())
    columns = [cell.k for cell in cells]
    picture = HeatMap(rows, columns, groups, values, "{:.1f}", *ends, marked)
    caption = (
        "kNN accuracy in % for every metric and k; the highest of each column"
        f"{' without labels' * (len(rivals) < len(shown))} is underlined.{of_all(shown, every)}"
    )
    return [Figure("protocol", picture, protocol_title(found), caption)]


def protocol_title(found: Findings) -> str:
    """Whether another protocol names another run."""
    known = agreement(found)
    if known is None:
        return "kNN accuracy by metric and k"
    if not known.others:
        return f"{known.best.short_name}, or a run not told from it, is first by every metric and k"
    count = sum(known.others.values())
    first = max(known.others, key=lambda one: known.others[one])
    most = f"most often {first.short_name}" if len(known.others) > 1 else first.short_name
    pairs = f"{count} of {len(known.cells)} pairs of metric and k"
    return f"In {pairs} another run is told to be first: {most}"


def code_map(found: Findings) -> list[Figure]:
    """The codes of the mapped test images in the plane, all runs', the best first; else empty."""
    known = [one for one in found.configurations if mapped(one)]
    shown = best_and_references(known, MAPS)
    best = best_first(unlabelled([one for one in shown if not one.is_pixels]))[:1]
    places = found.results.data.mapped
    maps = []
    for one in dict.fromkeys([*best, *shown]):
        result = mapped(one)
        assert result is not None and result.code_map is not None
        ways = zip(WAYS, result.code_map, strict=False)
        predictions = result.outcomes["prediction"][places].astype(np.int64)
        for how, where in reversed(list(ways)):
            maps.append((one.name, one.card, how, where, predictions))
    if not maps:
        return []
    labels = shown[0].outcomes[0]["label"][places].astype(np.int64)
    name, _, how, _, _ = maps[0]
    seed = " of the first seed" if any(len(one.outcomes) > 1 for one in shown) else ""
    caption = (
        f"{how} of the codes{seed}: a point is one of {len(places):,} test images, hollow where "
        "the vote is wrong. What lies near here need not be near there."
    )
    heading = f"Where the codes of {ends(name, NAME_LENGTH)} lie"
    picture = CodeMap(maps, labels, found.results.data.classes)
    return [Figure("code_map", picture, heading, caption)]


def mapped(one: Configuration) -> Result | None:
    """The first of its results that has a map."""
    return next((result for result in one.ok if result.code_map is not None), None)
