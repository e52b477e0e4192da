"""What the report's pictures show, as data; drawing.py makes PNG and SVG of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True)
class Look:
    """How a model is drawn, everywhere: a colour of the palette, a marker and a line style.

    `colour`: `ink`, `quiet`, or `c0` to `c7`; the others as matplotlib calls them.
    """

    colour: str
    marker: str
    line: str = "-"


@dataclass(frozen=True)
class Strip:
    """A named row of images uint8 (n, C, H, W). `note`: small, beside the name; `card`: its run.

    `notes`: one under each image, or none.
    """

    name: str
    images: np.ndarray
    note: str = ""
    card: str = ""
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Mosaic:
    """Rows of images below each other, with the same number in each.

    `columns`: what stands above the images, or nothing.
    """

    strips: Sequence[Strip]
    columns: Sequence[str] = ()


@dataclass(frozen=True)
class HeatMap:
    """A table of numbers that colours tell apart.

    `rows`: names with their run's card, or with none; `groups`: titles above so many columns, or
    none; `values` float64 (rows, columns), NaN where there is none; `pattern`: how one is written;
    `low`, `high`: the ends of the scale, of a `diverging` one on both sides of 0; `marked` bool
    (rows, columns): the cells to find.
    """

    rows: Sequence[tuple[str, str]]
    columns: Sequence[str]
    groups: Sequence[tuple[str, int]]
    values: np.ndarray
    pattern: str
    low: float
    high: float
    marked: np.ndarray
    diverging: bool = False

    @property
    def shares(self) -> np.ndarray:
        """How far each value is toward an end: -1 to 1 of a diverging scale, 0 to 1 of another."""
        if self.diverging:
            return np.clip(self.values / max(-self.low, self.high, 1e-300), -1, 1)
        return np.clip((self.values - self.low) / ((self.high - self.low) or 1), 0, 1)


@dataclass(frozen=True)
class CodeMap:
    """Images where their codes lie, in the plane.

    `maps`: (run's name, its card, how it was made, places uint8 (n, 2) from the lower left,
    predictions int64 (n,)); all of the same images, whose classes are `labels` int64 (n,).
    """

    maps: Sequence[tuple[str, str, str, np.ndarray, np.ndarray]]
    labels: np.ndarray
    classes: Sequence[str]


class Point(NamedTuple):
    """A place in a chart, with how far its interval reaches down and up.

    `y` None: a gap. `card`: of the run that it links to; `tip`: what is to be read there. A point
    without a tip lies on its line and is not marked.
    """

    x: float
    y: float | None
    below: float = 0
    above: float = 0
    card: str = ""
    tip: str = ""


@dataclass(frozen=True)
class Series:
    """Points of one look, with a line through them where they are `joined`."""

    name: str
    look: Look
    points: Sequence[Point]
    joined: bool = False


class Label(NamedTuple):
    """A name at a point of a chart, where there is room; a `needed` one anyhow."""

    x: float
    y: float
    text: str
    colour: str
    needed: bool = False


class Level(NamedTuple):
    """A horizontal line, and what it says."""

    y: float
    text: str
    look: Look


@dataclass(frozen=True)
class Axis:
    """`ticks`: the values that are named, or those that the drawing chooses; `ends`, likewise."""

    label: str
    log: bool = False
    ticks: Sequence[float] = ()
    ends: tuple[float, float] | None = None


@dataclass(frozen=True)
class Chart:
    """Figures over figures.

    `front`: the corners of a line under which the points lie; `labels`: the most important first;
    `shaded`: from this value up, and what it says; `legend`: whether the series are named below.
    """

    x: Axis
    y: Axis
    series: Sequence[Series]
    levels: Sequence[Level] = ()
    front: Sequence[tuple[float, float]] = ()
    labels: Sequence[Label] = ()
    shaded: tuple[float, str] | None = None
    legend: bool = False


Picture = Mosaic | HeatMap | CodeMap | Chart
