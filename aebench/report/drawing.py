"""The report's pictures as PNG and SVG, the same bytes for the same results."""

import io
import math
import re
import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from functools import singledispatch
from html import escape
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure  # not pyplot: no window system, 0.5 s faster to import
from matplotlib.lines import Line2D

from aebench.report.looks import PALETTE
from aebench.report.pictures import (
    Axis,
    Chart,
    Confusions,
    Curve,
    FurtherCurves,
    LossCurves,
    Mosaic,
    Picture,
    Point,
    Series,
    Sweep,
)
from aebench.report.texts import on_one_line, short

COLOURS = {name: light for name, (light, _) in PALETTE.items()}
VARIABLES = {colour: f"var(--{name})" for name, colour in COLOURS.items()}
STYLE: dict[str, Any] = {
    "font.size": 9,
    "text.parse_math": False,  # a dollar sign in a name is one
    "svg.fonttype": "none",
    "svg.hashsalt": "aebench",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": COLOURS["quiet"],
    "axes.labelcolor": COLOURS["ink"],
    "text.color": COLOURS["ink"],
    "xtick.color": COLOURS["quiet"],
    "ytick.color": COLOURS["quiet"],
    "xtick.labelcolor": COLOURS["ink"],
    "ytick.labelcolor": COLOURS["ink"],
    "grid.color": COLOURS["grid"],
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
}
DPI = 160  # readable at half its size
TAG = re.compile("<[^<>]+>")
STYLES: dict[str | None, dict[str, Any]] = {
    None: {"marker": "o"},
    "pca": {"color": "black", "linestyle": "--", "marker": "s"},
}
NAME: dict[str, Any] = {"parse_math": False}  # a dollar sign in a name is one
CLASS_LENGTH, NAME_LENGTH = 24, 60  # of longer names no room would be left for the picture
CURVE_LENGTH = 28  # in a legend that lies on the curves
TICKS = 15  # that have room side by side

# A chart in inches: its width and height, what is left free around its axes, a line of its legend.
WIDE, HIGH, LEFT, RIGHT, TOP, BOTTOM, LINE = 4.3, 3.2, 0.62, 0.14, 0.32, 0.46, 0.17
SMALL = 8  # points: the letters of labels and legends
LETTER = 0.58 * SMALL / 72  # inches: how wide one is, on average
# Where a label may stand beside its point: aligned so, moved by so many points.
PLACES = [
    ("center", 0, 6),
    ("center", 0, -6),
    ("left", 6, 0),
    ("right", -6, 0),
    ("left", 4, 6),
    ("right", -4, 6),
    ("left", 4, -6),
    ("right", -4, -6),
    ("center", 0, 16),
    ("center", 0, -16),
]


def png(picture: Picture) -> bytes:
    """The picture in light colours."""
    # Without the name of the program that drew it, which holds a version.
    return saved(picture, format="png", dpi=DPI, metadata={"Software": None})


def svg(picture: Picture, prefix: str) -> str:
    """The picture as inline SVG: its colours are CSS variables, its points link to cards.

    `prefix`: what its ids begin with, another one for every picture of a page. It holds no style
    sheet and no style attribute, so that a page may forbid both.
    """
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    text = saved(picture, format="svg", metadata=nothing).decode()
    text = text[text.index("<svg") :]
    for beside in (
        r"<metadata>.*?</metadata>",
        r"<defs>\s*<style.*?</style>\s*</defs>",
        "<!--.*?-->",
    ):
        text = re.sub(beside, "", text, flags=re.DOTALL)
    used = set(re.findall(r'(?:href="#|url\(#)([\w.-]+)', text))
    links = points(picture) if isinstance(picture, Chart) else []
    label = escape(described(picture))
    # Names of users stand between tags, where matplotlib escapes their < and >.
    text = TAG.sub(lambda found: page_tag(found[0], prefix, used, links, label), text)
    return re.sub(r">\s+<", "><", text).strip()


def page_tag(tag: str, prefix: str, used: set[str], links: Sequence[Point], label: str) -> str:
    """A tag of matplotlib's SVG as a page can hold it."""
    if tag.startswith("<svg"):
        box = re.search('viewBox="[^"]*"', tag)
        role = "group" if links else "img"  # an image has nothing inside it that could be reached
        lines = 'stroke-linejoin="round" stroke-linecap="butt"'
        return f'<svg role="{role}" aria-label="{label}" {box[0] if box else ""} {lines}>'
    if link := re.match(r'<a xlink:href="point:(\d+)"', tag):
        point = links[int(link[1])]
        text = escape(on_one_line(point.tip))
        return f'<a class="pt" href="#{point.card}" tabindex="-1" aria-label="{text}">'
    tag = re.sub(r' id="([\w.-]+)"', lambda m: f' id="{prefix}{m[1]}"' * (m[1] in used), tag)
    tag = re.sub(r'xlink:href="#|url\(#', lambda m: f"{m[0]}{prefix}", tag).replace("xlink:", "")
    tag = re.sub(r' transform="rotate\(-?0 [^"]*"', "", tag)
    return re.sub(r' style="([^"]*)"', lambda m: attributes(m[1]), tag)


def attributes(style: str) -> str:
    """A style as attributes. The family of the letters is the page's."""
    found = ""
    for part in style.split(";"):
        name, _, value = map(str.strip, part.partition(":"))
        if name == "font":
            name, value = "font-size", value.split()[0]
        if value and name != "font-family":
            found += f' {name}="{VARIABLES.get(value, value)}"'
    return found


def described(picture: Picture) -> str:
    """What a chart shows, for those who do not see it."""
    if isinstance(picture, Chart):
        return on_one_line(f"{picture.y.label}, over {picture.x.label}")
    return type(picture).__name__


def points(chart: Chart) -> list[Point]:
    """All of a chart, in the order in which they are drawn."""
    return [point for series in chart.series for point in series.points]


def saved(picture: Picture, **how: Any) -> bytes:
    """The picture as a file."""
    content = io.BytesIO()
    with rc_context(STYLE), warnings.catch_warnings():
        # Its font has most alphabets and few ideographs; a box stands for what it has not.
        warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from", UserWarning)
        drawn(picture).savefig(content, **how)
    return content.getvalue()


@singledispatch
def drawn(picture: Any) -> Figure:
    """The picture, not yet in pixels or tags."""
    raise TypeError(f"no picture: {type(picture).__name__}")


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


@drawn.register
def chart(picture: Chart) -> Figure:
    """Points with their intervals, lines, a front and levels, labels where there is room."""
    named = [series for series in picture.series if picture.legend]
    lines, columns = legend_size([series.name for series in named])
    high = HIGH + LINE * lines
    figure = Figure(figsize=(WIDE, high))
    figure.patch.set_visible(False)
    below = BOTTOM + LINE * lines
    box = LEFT / WIDE, below / high, (WIDE - LEFT - RIGHT) / WIDE, (high - below - TOP) / high
    axes = figure.add_axes(box)
    axes.patch.set_visible(False)
    axes.grid(True)
    ends = set_axes(axes, picture)
    if picture.shaded:
        axes.axhspan(picture.shaded[0], ends[1], color=COLOURS["quiet"], alpha=0.09, linewidth=0)
    if picture.front:
        x, y = zip(*picture.front, strict=True)
        axes.step(x, y, where="post", color=COLOURS["quiet"], linewidth=1, zorder=1.5)
    for level in picture.levels:
        style = {"color": COLOURS[level.look.colour], "linestyle": level.look.line}
        axes.axhline(level.y, linewidth=1.1, zorder=1.6, **style)
    first = 0
    for series in picture.series:
        add_series(axes, series, first)
        first += len(series.points)
    write_labels(axes, picture)
    if named:
        handles = [handle(series) for series in named]
        names = [plain(series.name, CURVE_LENGTH) for series in named]
        where = {"loc": "lower left", "bbox_to_anchor": (0.01, 0), "ncols": columns}
        figure.legend(handles, names, fontsize=SMALL, frameon=False, borderaxespad=0.2, **where)
    return figure


def legend_size(names: Sequence[str]) -> tuple[int, int]:
    """Its lines and columns."""
    if not names:
        return 0, 1
    wide = LETTER * max(map(letters, (plain(name, CURVE_LENGTH) for name in names))) + 0.45
    columns = max(1, min(len(names), int((WIDE - 0.1) / wide)))
    return -(-len(names) // columns), columns


def letters(text: str) -> float:
    """How wide it is: ideographs are as wide as two."""
    return sum(1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text)


def handle(series: Series) -> Line2D:
    """What stands for it in the legend."""
    return Line2D(
        [],
        [],
        color=COLOURS[series.look.colour],
        linestyle=series.look.line if series.joined else "",
        marker=series.look.marker,
        markersize=5,
        linewidth=1.4,
    )


def add_series(axes: Axes, series: Series, first: int) -> None:
    """Its line, its intervals and its points. `first`: the place of its first one in the chart."""
    colour = COLOURS[series.look.colour]
    # None: a gap, as NaN.
    y = np.array([point.y for point in series.points], np.float64)
    x = np.array([point.x for point in series.points])
    low = y - [point.below for point in series.points]
    high = y + [point.above for point in series.points]
    if series.joined:
        axes.plot(x, y, color=colour, linestyle=series.look.line, linewidth=1.4)
        if (high > low).any():
            axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
    if (wide := high > low).any():
        axes.vlines(x[wide], low[wide], high[wide], color=colour, linewidth=1.3)
    # Between gaps no line shows a value.
    gap = np.isnan([np.nan, *y, np.nan])
    alone = gap[:-2] & gap[2:] & ~gap[1:-1]
    marked = [place for place, point in enumerate(series.points) if point.tip or alone[place]]
    if marked:
        links = [f"point:{first + p}" if series.points[p].tip else None for p in marked]
        style = {"marker": series.look.marker, "color": colour, "edgecolors": COLOURS["paper"]}
        axes.scatter(x[marked], y[marked], 34, linewidths=0.8, urls=links, zorder=3, **style)


def set_axes(axes: Axes, picture: Chart) -> tuple[float, float]:
    """Scales, ends, ticks and labels. Returns the ends of y."""
    points = [p for series in picture.series for p in series.points if p.y is not None]
    x = [point.x for point in points]
    y = [end for p in points if p.y is not None for end in (p.y - p.below, p.y, p.y + p.above)]
    y += [level.y for level in picture.levels]
    if picture.y.log:  # an interval may reach below 0
        y = [value for value in y if value > 0]
    for axis, ends, scale, ticks, name in (
        (picture.x, ends_of(picture.x, x, 0.06), axes.set_xscale, axes.set_xticks, "x"),
        (picture.y, ends_of(picture.y, y, 0.08), axes.set_yscale, axes.set_yticks, "y"),
    ):
        if axis.log:
            scale("log")
        axes.set(**{f"{name}lim": ends})
        found = axis.ticks or (log_ticks(*ends) if axis.log else linear_ticks(*ends))
        ticks(found, [f"{tick:,.6g}" for tick in found])
        axes.minorticks_off()
    axes.tick_params(length=2.5, labelsize=SMALL)
    axes.set_xlabel(plain(picture.x.label), loc="right", fontsize=9)
    axes.set_title(plain(picture.y.label), loc="left", x=-0.14, fontsize=9)
    return axes.get_ylim()


def ends_of(axis: Axis, values: Sequence[float], margin: float) -> tuple[float, float]:
    """What the axis shows: all of the values, and a margin."""
    if axis.ends:
        return axis.ends
    low, high = min(values), max(values)
    if axis.log:
        low, high = math.log10(low), math.log10(high)
    room = margin * (high - low) or (0.3 if axis.log else margin * abs(high) or 1)
    low, high = low - room, high + room
    return (10**low, 10**high) if axis.log else (low, high)


def linear_ticks(low: float, high: float) -> list[float]:
    """Four to eight round values."""
    step = 10 ** math.floor(math.log10((high - low) / 4))
    step *= max(factor for factor in (1, 2, 5) if factor * step <= (high - low) / 4)
    return [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Some round values; where the axis is short, more of them."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps: Sequence[float] = ()
    for steps in ((1, 1.5, 2, 3, 4, 5, 7), (1, 2, 5), (1,)):
        found = [step * 10.0**power for power in decades for step in steps]
        found = [tick for tick in found if low <= tick <= high]
        if len(found) <= 8:
            return found
    return found[:: -(-len(found) // 8)]


def write_labels(axes: Axes, picture: Chart) -> None:
    """Beside their points and lines, where no other label or point is; those without room not."""
    figure = axes.figure
    scale = 72 / figure.dpi  # points
    frame = axes.bbox.x0 * scale, axes.bbox.y0 * scale, axes.bbox.x1 * scale, axes.bbox.y1 * scale

    def place(x: float, y: float) -> tuple[float, float]:
        found = axes.transData.transform((x, y)) * scale
        return float(found[0]), float(found[1])

    taken = [around(*place(x, y), 3.5) for x, y in occupied(picture)]
    at_levels = []
    for level in picture.levels:
        _, y = place(1, level.y)
        near, far = frame[0] + 3, frame[2] - 3
        places = [("right", far, y + 2, 0), ("left", near, y + 2, 0)]
        places += [("right", far, y - 2, 1), ("left", near, y - 2, 1)]
        at_levels.append((level.text, level.look.colour, places))
    if picture.shaded:
        at_levels.append(
            (
                picture.shaded[1],
                "quiet",
                [("left", frame[0] + 3, frame[3] - 2, 1)]
                + [("right", frame[2] - 3, frame[3] - 2, 1)],
            )
        )
    wanted = [
        (
            label.text,
            label.colour,
            [
                (
                    side,
                    place(label.x, label.y)[0] + dx,
                    place(label.x, label.y)[1] + dy,
                    0 if dy > 0 else 1 if dy < 0 else 0.5,
                )
                for side, dx, dy in PLACES
            ],
        )
        for label in picture.labels
    ]
    for text, colour, places in [*at_levels, *wanted]:
        text = plain(text, CURVE_LENGTH)
        wide = letters(text) * LETTER * 72
        for side, x, y, down in places:
            left = x - {"left": 0, "center": 0.5, "right": 1}[side] * wide
            bottom = y - down * SMALL
            box = left, bottom, left + wide, bottom + SMALL
            inside = frame[0] <= box[0] and box[2] <= frame[2] + 8 and frame[1] <= box[1]
            if (
                inside
                and box[3] <= frame[3] + 4
                and not any(overlap(box, other) for other in taken)
            ):
                taken.append(box)
                axes.annotate(
                    text,
                    (left, bottom + 1),
                    xycoords="figure points",
                    fontsize=SMALL,
                    color=COLOURS[colour],
                    zorder=4,
                )
                break


def occupied(picture: Chart) -> list[tuple[float, float]]:
    """Where points and lines are."""
    found = []
    for series in picture.series:
        found += [(p.x, p.y) for p in series.points if p.y is not None]
    return found


Box = tuple[float, float, float, float]


def around(x: float, y: float, size: float) -> Box:
    """A square there."""
    return x - size, y - size, x + size, y + size


def overlap(one: Box, other: Box) -> bool:
    """Whether they do."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


@drawn.register
def mosaic(picture: Mosaic) -> Figure:
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
    return figure


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


@drawn.register
def loss_curves(picture: LossCurves) -> Figure:
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
    return figure


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


@drawn.register
def further_curves(picture: FurtherCurves) -> Figure:
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
    return figure


@drawn.register
def confusions(picture: Confusions) -> Figure:
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
    return figure


def write_shares(axis: Axes, shares: np.ndarray) -> None:
    """Each % into its square."""
    for (row, column), value in np.ndenumerate(shares):
        color = "white" if value > 55 else "black"
        axis.text(column, row, f"{value:.0f}", color=color, fontsize=7, ha="center", va="center")


@drawn.register
def sweep(picture: Sweep) -> Figure:
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
    return figure


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
