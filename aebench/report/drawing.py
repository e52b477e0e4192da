"""The report's pictures as PNG and SVG, the same bytes for the same results."""

import io
import math
import re
import warnings
from collections.abc import Sequence
from functools import cache, singledispatch
from html import escape
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure  # not pyplot: no window system, 0.5 s faster to import
from matplotlib.font_manager import fontManager
from matplotlib.lines import Line2D

from aebench.report.labels import FONT, SMALL, Room, thinned, width_of
from aebench.report.looks import MIX, PALETTE, nth
from aebench.report.pictures import (
    Axis,
    Chart,
    CodeMap,
    HeatMap,
    Mosaic,
    Picture,
    Point,
    Series,
    Strip,
)
from aebench.report.texts import ends, on_one_line, short

COLOURS = {name: light for name, (light, _) in PALETTE.items()}
VARIABLES = {colour: f"var(--{name})" for name, colour in COLOURS.items()}
# Where one of these is installed, it has the other letters.
OTHERS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Hiragino Sans", "Yu Gothic", "Noto Sans")
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
NAME_LENGTH, CURVE_LENGTH, CLASS_LENGTH = 60, 28, 14  # of longer names no room would be left

NUMBERED, NAMED, MAPPED = 16, 40, 16  # columns with numbers in them, with names; named classes

# A chart in inches: its width and height, what is left free around its axes, a line of its legend.
WIDE, HIGH, LEFT, RIGHT, TOP, BOTTOM, LINE = 4.3, 3.2, 0.6, 0.14, 0.3, 0.46, 0.17


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
    text = saved(picture, format="svg", metadata=nothing, facecolor="none").decode()
    text = text[text.index("<svg") :]
    for beside in (
        r"<metadata>.*?</metadata>",
        r"<defs>\s*<style.*?</style>\s*</defs>",
        "<!--.*?-->",
    ):
        text = re.sub(beside, "", text, flags=re.DOTALL)
    used = set(re.findall(r'(?:href="#|url\(#)([\w.-]+)', "".join(TAG.findall(text))))
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
    found = {}  # of two of one name the last counts
    for part in style.split(";"):
        name, _, value = map(str.strip, part.partition(":"))
        if name == "font":
            name, value = "font-size", value.split()[0]
        if value and name != "font-family":
            found[name] = VARIABLES.get(value, value)
    return "".join(f' {name}="{value}"' for name, value in found.items())


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
    style: dict[Any, Any] = {**STYLE, "font.family": fonts()}
    with rc_context(style), warnings.catch_warnings():
        # A box stands for what no font has.
        warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from", UserWarning)
        drawn(picture).savefig(content, **how)
    return content.getvalue()


@cache
def fonts() -> list[str]:
    """Those whose letters are taken, the first that has one."""
    installed = {font.name for font in fontManager.ttflist}
    return [FONT, *(name for name in OTHERS if name in installed)]


def plain(name: str, length: int = NAME_LENGTH) -> str:
    """A name beside its picture: on one line, and not longer than there is room."""
    name = ends(" ".join(on_one_line(name).split()), length)
    return f" {name}" if name.startswith("_") else name  # a legend leaves those out


def fitting(label: str) -> str:
    """As much of an axis's label as there is room for."""
    label = plain(label)
    found = (short(label, length) for length in range(len(label), 1, -1))
    return next((text for text in found if width_of(text, 9) < 72 * (WIDE - 0.2)), "")


@singledispatch
def drawn(picture: Any) -> Figure:
    """The picture, not yet in pixels or tags."""
    raise TypeError(f"no picture: {type(picture).__name__}")


def blank(
    width: float, height: float, box: tuple[float, float, float, float]
) -> tuple[Figure, Axes]:
    """A figure and its axes (left, bottom, width, height), in inches.

    No layout is searched for, which would take twice the time.
    """
    figure = Figure(figsize=(width, height))
    left, bottom, wide, high = box
    axes = figure.add_axes((left / width, bottom / height, wide / width, high / height))
    axes.patch.set_visible(False)
    return figure, axes


@drawn.register
def chart(picture: Chart) -> Figure:
    """Points with their intervals, lines, a front and levels, labels where there is room."""
    named = [(one.name, handle(one)) for one in picture.series if picture.legend]
    lines, columns = legend_size([name for name, _ in named], WIDE)
    box = LEFT, BOTTOM + LINE * lines, WIDE - LEFT - RIGHT, HIGH - BOTTOM - TOP
    figure, axes = blank(WIDE, HIGH + LINE * lines, box)
    axes.grid(True)
    _, top = set_axes(axes, picture)
    if picture.shaded:
        axes.axhspan(picture.shaded[0], top, color=COLOURS["quiet"], alpha=0.09, linewidth=0)
    if picture.front:
        x, y = zip(*picture.front, strict=True)
        axes.step(x, y, where="post", color=COLOURS["quiet"], linewidth=1, zorder=1.5)
    for level in picture.levels:
        colour, line = COLOURS[level.look.colour], level.look.line
        axes.axhline(level.y, color=colour, linestyle=line, linewidth=1.1, zorder=1.6)
    first = 0
    for series in picture.series:
        add_series(axes, series, first, banded=not named)
        first += len(series.points)
    write_labels(figure, axes, picture)
    add_legend(figure, named, columns)
    return figure


def legend_size(names: Sequence[str], wide: float) -> tuple[int, int]:
    """Its lines and columns below a figure of that width."""
    if not names:
        return 0, 1
    longest = max(width_of(plain(name, CURVE_LENGTH)) for name in names) / 72 + 0.5
    columns = max(1, min(len(names), int((wide - 0.1) / longest)))
    return -(-len(names) // columns), columns


def add_legend(figure: Figure, named: Sequence[tuple[str, Line2D]], columns: int) -> None:
    """Below the chart, whose figure has the room for it; none without names."""
    if named:
        figure.legend(
            [line for _, line in named],
            [plain(name, CURVE_LENGTH) for name, _ in named],
            fontsize=SMALL,
            frameon=False,
            loc="lower left",
            bbox_to_anchor=(0.01, 0),
            ncols=columns,
            borderaxespad=0.1,
            columnspacing=1.0,
            labelspacing=0.35,
        )


def handle(series: Series) -> Line2D:
    """What stands for it in the legend."""
    look = series.look
    line: Any = look.line if series.joined else ""
    return Line2D(
        [], [], color=COLOURS[look.colour], linestyle=line, marker=look.marker, markersize=5
    )


def add_series(axes: Axes, series: Series, first: int, banded: bool) -> None:
    """Its line, its intervals and its points.

    `first`: the place of its first one in the chart; `banded`: whether the intervals are joined.
    """
    colour = COLOURS[series.look.colour]
    x = np.array([point.x for point in series.points])
    y = np.array([point.y for point in series.points], np.float64)  # None: NaN, a gap
    low = y - [point.below for point in series.points]
    high = y + [point.above for point in series.points]
    wide = high > low
    if series.joined:
        axes.plot(x, y, color=colour, linestyle=series.look.line, linewidth=1.4)
        if wide.any() and banded:
            axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
    if wide.any():
        axes.vlines(x[wide], low[wide], high[wide], colors=colour, linewidth=1.3)
    # Between gaps no line shows a value.
    gap = np.isnan([np.nan, *y, np.nan])
    alone = gap[:-2] & gap[2:] & ~gap[1:-1]
    marked = [place for place, point in enumerate(series.points) if point.tip or alone[place]]
    if marked:
        found = axes.scatter(
            x[marked],
            y[marked],
            34,
            marker=series.look.marker,
            color=colour,
            edgecolors=COLOURS["paper"],
            linewidths=0.8,
            zorder=3,
        )
        found.set_urls([f"point:{first + p}" if series.points[p].tip else None for p in marked])


def set_axes(axes: Axes, picture: Chart) -> tuple[float, float]:
    """Scales, ends, ticks and labels. Returns the ends of y."""
    points = [p for series in picture.series for p in series.points if p.y is not None]
    x = [point.x for point in points]
    y = [end for p in points if p.y is not None for end in (p.y - p.below, p.y, p.y + p.above)]
    y += [level.y for level in picture.levels]
    if picture.x.log:
        axes.set_xscale("log")
    if picture.y.log:  # where an interval may reach below 0
        axes.set_yscale("log")
        y = [value for value in y if value > 0]
    across, up = ends_of(picture.x, x, 0.06), ends_of(picture.y, y, 0.08)
    axes.set(xlim=across, ylim=up)
    inches = WIDE - LEFT - RIGHT
    ticks = ticks_of(picture.x, across)
    axes.set_xticks(*thinned(ticks, written(ticks), across, picture.x.log, 72 * inches))
    ticks = ticks_of(picture.y, up)
    axes.set_yticks(ticks, written(ticks))
    axes.minorticks_off()
    axes.tick_params(length=2.5, labelsize=SMALL)
    axes.set_xlabel(fitting(picture.x.label), loc="right")
    axes.set_title(fitting(picture.y.label), loc="left", x=(0.06 - LEFT) / inches, fontsize=9)
    return up


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


def ticks_of(axis: Axis, ends: tuple[float, float]) -> Sequence[float]:
    """Those that are wanted, or round ones."""
    return axis.ticks or (log_ticks(*ends) if axis.log else linear_ticks(*ends))


def linear_ticks(low: float, high: float) -> list[float]:
    """Four to ten round values."""
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= max(factor for factor in (1, 2, 5) if factor * step <= (high - low) / 3.999)
    return [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Some round values; where the axis is short, more of them."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for steps in ((1, 1.5, 2, 3, 4, 5, 7), (1, 2, 5), (1,)):
        found = [step * 10.0**power for power in powers for step in steps]
        found = [tick for tick in found if low <= tick <= high]
        if len(found) <= 8:
            return found
    return found[:: -(-len(found) // 8)]


def written(ticks: Sequence[float]) -> list[str]:
    """With as many digits as tell them apart."""
    found: list[str] = []
    for digits in range(6, 17):
        found = [f"{tick:,.{digits}g}" for tick in ticks]
        if len({*found}) == len(ticks):
            break
    return found


def write_labels(figure: Figure, axes: Axes, picture: Chart) -> None:
    """What the levels, the shade and the points are, where there is room."""
    scale = 72 / figure.dpi
    frame = axes.bbox
    room = Room(frame.x0 * scale, frame.y0 * scale, frame.x1 * scale, frame.y1 * scale)
    left = axes.get_xlim()[0]

    def place(x: float, y: float) -> tuple[float, float]:
        found = axes.transData.transform((x, y)) * scale
        return float(found[0]), float(found[1])

    for series in picture.series:
        known = [point for point in series.points if point.y is not None]
        room.take([place(point.x, point.y or 0) for point in known], series.joined)
        for point in known:
            if point.above and not picture.y.log:
                ends = (point.y or 0) - point.below, (point.y or 0) + point.above
                room.take([place(point.x, end) for end in ends], joined=True, size=1)
    corners = [place(x, y) for x, y in picture.front]
    stairs = [(b[0], a[1]) for a, b in pairwise(corners)]
    room.take([p for two in zip(corners, stairs, strict=False) for p in two], True, size=1)
    found = []
    for level in picture.levels:
        ends = [place(x, level.y) for x in axes.get_xlim()]
        room.take(ends, joined=True, size=1)
        text = plain(level.text, CURVE_LENGTH)
        found.append((room.along(text, place(left, level.y)[1]), text, level.look.colour))
    if picture.shaded:
        value, text = picture.shaded
        found.append((room.in_shade(text, place(left, value)[1]), text, "quiet"))
    for label in picture.labels:
        text = plain(label.text, CURVE_LENGTH)
        where = room.beside(text, *place(label.x, label.y), label.needed)
        found.append((where, text, label.colour))
    for box, text, colour in found:
        if box:
            x, y = box.left / 72 / WIDE, (box.bottom + 1.5) / 72 / figure.get_figheight()
            figure.text(x, y, text, fontsize=SMALL, color=COLOURS[colour])


@drawn.register
def mosaic(picture: Mosaic) -> Figure:
    """Each row's images side by side, its name and its number before them."""
    strips, first = picture.strips, picture.strips[0].images
    count, channels, height, width = first.shape
    names = [plain(strip.name, CURVE_LENGTH) for strip in strips]
    heads = [plain(name, CLASS_LENGTH) for name in picture.columns]
    few = len(strips) <= 12
    tile = max(0.42, min(0.7, 2.4 / count)) if few else 0.42  # inches: an image and its gap
    gap = max(1, height // 12)
    dots = (width + gap) / tile  # pixels of the images in an inch
    notes = round(dots * 0.13)  # of room below images that have them
    pixels, tops = tiled(strips, gap, notes)
    before = 0.15 + max(map(width_of, [*names, *(strip.note for strip in strips)])) / 72
    longest = max((width_of(name, 7) / 72 for name in heads), default=0)
    slanted = longest > tile - 0.03
    above = (0.1 + 0.7 * longest if slanted else 0.18) if heads else 0.04
    right = max(0.08, 0.75 * longest - tile / 2) if slanted else 0.08
    wide, high = pixels.shape[1] / dots, pixels.shape[0] / dots
    figure, axes = blank(before + wide + right, above + high + 0.04, (before, 0.04, wide, high))
    grey = {"cmap": "gray", "vmin": 0, "vmax": 255} if channels == 1 else {}
    axes.imshow(pixels.squeeze(), interpolation="none", aspect="auto", **grey)
    axes.set_axis_off()
    for strip, name, top in zip(strips, names, tops, strict=True):
        middle, one_line = top + height / 2, not strip.note
        where: Any = {"ha": "right", "fontsize": SMALL}
        axes.text(-gap, middle, name, va="center" if one_line else "bottom", **where)
        if strip.note:
            axes.text(-gap, middle, strip.note, va="top", color=COLOURS["quiet"], **where)
        for place, note in enumerate(strip.notes):
            x, y = place * (width + gap) + width / 2, top + height
            axes.text(x, y, note, ha="center", va="top", fontsize=6.5, color=COLOURS["quiet"])
    for place, name in enumerate(heads):
        x = place * (width + gap) + (0 if slanted else width / 2)
        slant: Any = {"rotation": 40, "rotation_mode": "anchor"} if slanted else {"ha": "center"}
        axes.text(x + (width / 3 if slanted else 0), -1.5 * gap, name, fontsize=7, **slant)
    return figure


def tiled(strips: Sequence[Strip], gap: int, notes: int) -> tuple[np.ndarray, list[int]]:
    """Rows of images as one image uint8 (height, width, C), and the top of each row.

    One picture, not an axis an image: 0.2 s instead of 3.
    """
    count, channels, height, width = strips[0].images.shape
    below = [gap + notes * bool(strip.notes) for strip in strips]
    tops = [n * height + sum(below[:n]) for n in range(len(strips))]
    shape = len(strips) * height + sum(below), count * (width + gap) - gap, channels
    pixels = np.full(shape, 255, np.uint8)
    for strip, top in zip(strips, tops, strict=True):
        for column, image in enumerate(strip.images):
            left = column * (width + gap)
            pixels[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return pixels, tops


@drawn.register
def heat_map(picture: HeatMap) -> Figure:
    """A square or an oblong of colours, with the numbers where they have room."""
    rows, columns = picture.values.shape
    numbers = columns <= NUMBERED
    names = [plain(name, CURVE_LENGTH) for name, _ in picture.rows]
    heads = [plain(name, CLASS_LENGTH) for name in picture.columns]
    named = max(rows, columns) <= NAMED
    across = max(0.15, min(0.42, 5.0 / columns)) if named else 4.0 / columns
    down = (across if rows == columns else 0.2) if named else 4.0 / rows
    size = min(7.0, 72 * min(across, down) * 0.8)
    longest = max(width_of(name, size) for name in heads) / 72
    upright = longest > across - 0.03
    before = 0.12 + max(width_of(name, size) for name in names) / 72 if named else 0.1
    above = (0.1 + (longest if upright else 0.12)) if named else 0.05
    above += 0.2 * bool(picture.groups)
    wide, high = across * columns, down * rows
    figure, axes = blank(before + wide + 0.08, above + high + 0.06, (before, 0.06, wide, high))
    axes.imshow(mixed(picture), interpolation="none", aspect="auto")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    for row, name in enumerate(names if named else ()):
        axes.text(-0.6, row, name, ha="right", va="center", fontsize=size)
    for column, name in enumerate(heads if named else ()):
        turned: Any = {"rotation": 90} if upright else {}
        axes.text(column, -0.6, name, ha="center", va="bottom", fontsize=size, **turned)
    first = 0
    for name, count in picture.groups:
        x, y = first - 0.4, -0.6 - 0.18 / down - (longest / down if upright else 0)
        axes.text(x, y, plain(name, CURVE_LENGTH), va="bottom", fontsize=7, color=COLOURS["quiet"])
        if first:
            axes.axvline(first - 0.5, color=COLOURS["paper"], linewidth=3)
        first += count
    if numbers:
        write_numbers(axes, picture)
    return figure


def write_numbers(axes: Axes, picture: HeatMap) -> None:
    """Into their cells, but for zeros; those to find bold in a frame."""
    zero = {picture.pattern.format(0.0), picture.pattern.format(-0.0)}
    for (row, column), value in np.ndenumerate(picture.values):
        text = "" if np.isnan(value) else picture.pattern.format(value)
        if not text or text in zero:
            continue
        found = bool(picture.marked[row, column])
        style: Any = {"fontweight": "bold"} if found else {}
        text = text.replace("-", "\N{MINUS SIGN}")
        axes.text(column, row, text, ha="center", va="center", fontsize=6.5, **style)
        if found:
            x, y = [column - 0.47, column + 0.47], [row + 0.4, row + 0.4]
            axes.plot(x, y, color=COLOURS["ink"], linewidth=1, solid_capstyle="butt")


def mixed(picture: HeatMap) -> np.ndarray:
    """Its colours float64 (rows, columns, 3): ink can be read on each. Paper where no number is."""
    share = MIX * np.nan_to_num(picture.shares)[..., None]
    paper, above, below = (rgb(COLOURS[name]) for name in ("paper", "heat", "cold"))
    return paper + np.where(share < 0, -share * (below - paper), share * (above - paper))


def rgb(colour: str) -> np.ndarray:
    """Of #rrggbb: float64 (3,) in [0, 1]."""
    return np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255


@drawn.register
def code_map(picture: CodeMap) -> Figure:
    """The first of its maps: a colour and a marker a class, hollow where the vote is wrong."""
    _, _, _, places, predictions = picture.maps[0]
    present = sorted({*picture.labels.tolist()})
    handles = [
        (str(picture.classes[label]), handle(Series("", nth(label), [])))
        for label in (present if len(present) <= MAPPED else ())
    ]
    lines, columns = legend_size([name for name, _ in handles], WIDE)
    side, below = WIDE - 0.2, 0.1 + LINE * lines
    figure, axes = blank(WIDE, side + 0.1 + below, (0.1, below, side, side))
    axes.set(xlim=(-4, 259), ylim=(-4, 259), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    right = predictions == picture.labels
    # A call for each marker, not for each class.
    markers: dict[str, list[int]] = {}
    for place, label in enumerate(picture.labels.tolist()):
        markers.setdefault(nth(label).marker, []).append(place)
    for marker, found in markers.items():
        edges = [COLOURS[nth(label).colour] for label in picture.labels[found].tolist()]
        inside = [e if ok else "none" for e, ok in zip(edges, right[found], strict=True)]
        x, y = places[found].T.astype(float)
        style = {"facecolors": inside, "edgecolors": edges, "linewidths": 0.7}
        axes.scatter(x, y, 11, marker=marker, **style)
    add_legend(figure, handles, columns)
    return figure
