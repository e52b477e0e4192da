"""The report's pictures as PNG, the same bytes for the same results."""

import io
import warnings
from collections.abc import Mapping, Sequence
from functools import singledispatch
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure  # not pyplot: no window system, 0.5 s faster to import
from matplotlib.lines import Line2D

from aebench.report.pictures import Confusions, Curve, FurtherCurves, LossCurves, Mosaic, Sweep
from aebench.report.texts import on_one_line, short

STYLES: dict[str | None, dict[str, Any]] = {
    None: {"marker": "o"},
    "pca": {"color": "black", "linestyle": "--", "marker": "s"},
}
NAME: dict[str, Any] = {"parse_math": False}  # a dollar sign in a name is one
CLASS_LENGTH, NAME_LENGTH = 24, 60  # of longer names no room would be left for the picture
CURVE_LENGTH = 28  # in a legend that lies on the curves
TICKS = 15  # that have room side by side


@singledispatch
def png(picture: Any) -> bytes:
    """The picture, drawn."""
    raise TypeError(f"no picture: {type(picture).__name__}")


def saved(figure: Figure) -> bytes:
    """PNG without the name of the program that drew it, which holds a version."""
    content = io.BytesIO()
    with warnings.catch_warnings():
        # Its font has most alphabets and few ideographs; a box stands for what it has not.
        warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from", UserWarning)
        figure.savefig(content, format="png", dpi=120, metadata={"Software": None})
    return content.getvalue()


def width_beyond(length: int, names: Sequence[str]) -> float:
    """Inches that the longest of the names takes above so many characters."""
    return 0.1 * max(0, max(map(len, names)) - length)


def plain(name: str, length: int = NAME_LENGTH) -> str:
    """A name beside its picture: on one line, and not longer than there is room."""
    name = short(" ".join(on_one_line(name).split()), length)
    return f" {name}" if name.startswith("_") else name  # a legend leaves those out


def add_legend(axis: Axes, **where: Any) -> None:
    """The names of the curves, as they are."""
    for text in axis.legend(**where).get_texts():
        text.set_parse_math(False)


@png.register
def mosaic(picture: Mosaic) -> bytes:
    """Each row's images side by side."""
    names = [plain(strip.name) for strip in picture.strips]
    images = [strip.images for strip in picture.strips]
    count, channels, height, _ = images[0].shape
    pixels, high = tiled(images)
    size = 1.8 + 0.7 * count + width_beyond(16, names), 0.7 * len(names)
    figure = Figure(figsize=size, layout="constrained")
    axis = figure.subplots()
    grey = {"cmap": "gray", "vmin": 0, "vmax": 255} if channels == 1 else {}
    axis.imshow(pixels.squeeze(), interpolation="nearest", **grey)
    axis.set_yticks(np.arange(len(names)) * high + height / 2, names, fontsize=9, **NAME)
    axis.set_xticks([])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return saved(figure)


def tiled(rows: Sequence[np.ndarray]) -> tuple[np.ndarray, int]:
    """Rows of images (n, C, H, W) as one image uint8 (height, width, C), and the height of a row.

    One picture, not an axis an image: 0.2 s instead of 3.
    """
    count, channels, height, width = rows[0].shape
    gap = max(1, height // 8)
    high, wide = height + gap, width + gap
    pixels = np.full((len(rows) * high, count * wide, channels), 255, np.uint8)
    for line, images in enumerate(rows):
        for column, image in enumerate(images):
            top, left = line * high, column * wide
            pixels[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return pixels, high


@png.register
def loss_curves(picture: LossCurves) -> bytes:
    """All in one chart, their names beside it."""
    names = [plain(name) for name, _ in picture.curves]
    size = 8 + width_beyond(40, names), max(4.5, 0.5 + 0.19 * len(names))
    figure = Figure(figsize=size, layout="constrained")
    axis = figure.subplots()
    add_epochs(axis, names, dict(enumerate(losses for _, losses in picture.curves)))
    if all(loss > 0 for _, losses in picture.curves for loss in losses if loss is not None):
        axis.set_yscale("log")
    axis.set_ylabel("training loss (mean over the epoch)")
    add_legend(axis, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return saved(figure)


def line(place: int) -> dict[str, Any]:
    """Of a run at this place among others: ten colours, then the next line style."""
    style = ("-", "--", ":")[place // 10 % 3]
    return {"color": f"C{place % 10}", "linestyle": style, "marker": "."}


def add_epochs(
    axis: Axes, names: Sequence[str], curves: Mapping[int, Sequence[float | None]]
) -> None:
    """A curve over the epochs for each place in `names`, which has the same line everywhere."""
    for place, values in curves.items():
        y = np.array(values, np.float64)  # None: NaN, a gap
        axis.plot(range(1, len(y) + 1), y, label=names[place], **line(place))
    last = max(map(len, curves.values()))
    margin = 0.05 * max(1, last - 1)
    axis.set_xlim(1 - margin, last + margin)  # epochs that begin or end as a gap, too
    axis.locator_params("x", integer=True)
    axis.set_xlabel("epoch")
    axis.grid(alpha=0.3, which="both")


@png.register
def further_curves(picture: FurtherCurves) -> bytes:
    """A chart for each name, three side by side, and one legend."""
    columns = min(3, len(picture.charts))
    lines = -(-len(picture.charts) // columns)
    names = [plain(name) for name in picture.runs]
    beside = 2.6 + width_beyond(20, names)
    size = 4.4 * columns + beside, max(3.4 * lines, 0.5 + 0.19 * len(names))
    figure = Figure(figsize=size, layout="constrained")
    axes = np.atleast_1d(figure.subplots(lines, columns)).flatten()
    for axis, (name, curves) in zip(axes, picture.charts, strict=False):
        add_epochs(axis, names, curves)
        if reaches_far([y for values in curves.values() for y in values if y is not None]):
            axis.set_yscale("log")
        axis.set_title(plain(name, CURVE_LENGTH), fontsize=10, **NAME)
    for axis in axes[len(picture.charts) :]:
        axis.set_visible(False)
    shown = [Line2D([], [], **line(place)) for place in range(len(names))]
    for text in figure.legend(shown, names, fontsize=8, loc="outside right upper").get_texts():
        text.set_parse_math(False)
    return saved(figure)


@png.register
def confusions(picture: Confusions) -> bytes:
    """A square for each model, three side by side."""
    columns = min(3, len(picture.shares))
    lines = -(-len(picture.shares) // columns)
    # More are not readable at this size.
    few = len(picture.classes) <= 12
    names = [plain(name, CLASS_LENGTH) for name in picture.classes] if few else []
    side = 4.6 + width_beyond(8, names or [""])
    figure = Figure(figsize=(side * columns, side * lines), layout="constrained")
    axes = np.atleast_1d(figure.subplots(lines, columns)).flatten()
    for axis, (run, shares) in zip(axes, picture.shares, strict=False):
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=100)
        axis.set_title(plain(run), fontsize=10, **NAME)
        axis.set_xticks(range(len(names)), names, rotation=90, **NAME)
        axis.set_yticks(range(len(names)), names, **NAME)
        axis.tick_params(labelsize=8, length=0)
        if names:
            write_shares(axis, shares)
    for axis in axes[len(picture.shares) :]:
        axis.set_visible(False)
    return saved(figure)


def write_shares(axis: Axes, shares: np.ndarray) -> None:
    """Each % into its square."""
    for (row, column), value in np.ndenumerate(shares):
        color = "white" if value > 55 else "black"
        axis.text(column, row, f"{value:.0f}", color=color, fontsize=7, ha="center", va="center")


@png.register
def sweep(picture: Sweep) -> bytes:
    """MSE, if any is known, beside accuracy, a curve a group; raw pixels as a level."""
    charts = 2 if picture.mse else 1
    figure = Figure(figsize=(5 * charts, 4), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, charts))
    left, right = axes[0], axes[-1]
    if picture.mse:
        add_curves(left, picture.mse, picture, "test MSE (lower is better)")
        if reaches_far([y for curve in picture.mse for y in curve.y]):
            left.set_yscale("log")
    add_curves(right, picture.accuracy, picture, "kNN accuracy, % (higher is better)")
    if picture.pixels_accuracy is not None:
        style = {"color": "grey", "linestyle": ":", "label": "raw pixels"}
        right.axhline(picture.pixels_accuracy, **style)
    for axis in axes:
        set_ticks(axis, picture)
        if axis.get_legend_handles_labels()[0]:
            add_legend(axis, fontsize=9)
    return saved(figure)


def reaches_far(values: Sequence[float]) -> bool:
    """Whether they are to be read on a log axis alone."""
    return min(values) > 0 and max(values) >= 10 * min(values)


def add_curves(axis: Axes, curves: Sequence[Curve], picture: Sweep, label: str) -> None:
    """Points with their intervals, and the axes' labels."""
    for curve in curves:
        style = STYLES.get(curve.baseline, STYLES[None])
        reach = np.array(curve.spread).T
        name = plain(curve.name, CURVE_LENGTH)
        axis.errorbar(curve.x, curve.y, reach, label=name, capsize=3, **style)
    axis.set_xlabel(plain(picture.parameter), **NAME)
    axis.set_ylabel(label)
    axis.grid(alpha=0.3)


def set_ticks(axis: Axes, picture: Sweep) -> None:
    """The parameter's values if they are few, on a log axis where they reach far."""
    least, most = picture.ticks[0], picture.ticks[-1]
    if least > 0 and most >= 20 * least:
        axis.set_xscale("log")
    if len(picture.ticks) <= TICKS:
        axis.set_xticks(picture.ticks, [f"{tick:g}" for tick in picture.ticks])
    axis.minorticks_off()
