"""What the report's pictures show, as data; drawing.py makes PNG of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
    """A named row of images uint8 (n, C, H, W). `note`: small, beside the name; `card`: its run."""

    name: str
    images: np.ndarray
    note: str = ""
    card: str = ""


@dataclass(frozen=True)
class Mosaic:
    """Rows of images below each other, with the same number in each."""

    strips: Sequence[Strip]


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


@dataclass(frozen=True)
class CodeMap:
    """Images where their codes lie, in the plane.

    `maps`: (run's name, its card, how it was made, places uint8 (n, 2) from the lower left,
    predictions int64 (n,)); all of the same images, whose classes are `labels` int64 (n,).
    """

    maps: Sequence[tuple[str, str, str, np.ndarray, np.ndarray]]
    labels: np.ndarray
    classes: Sequence[str]


@dataclass(frozen=True)
class LossCurves:
    """The mean training loss of each epoch, by name; None: a gap."""

    curves: Sequence[tuple[str, Sequence[float | None]]]


@dataclass(frozen=True)
class FurtherCurves:
    """Charts (name, the mean of each epoch by the place of its run in `runs`); None: a gap."""

    runs: Sequence[str]
    charts: Sequence[tuple[str, Mapping[int, Sequence[float | None]]]]


@dataclass(frozen=True)
class Curve:
    """A figure over a parameter: values `y`, their intervals by how far below and above they reach.

    `baseline`: the role of what is drawn, as a plug-in declares it.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    spread: Sequence[tuple[float, float]]
    baseline: str | None = None


@dataclass(frozen=True)
class Sweep:
    """MSE, if any is known, and accuracy over one parameter's values."""

    parameter: str
    ticks: Sequence[float]
    mse: Sequence[Curve]
    accuracy: Sequence[Curve]  # %
    pixels_accuracy: float | None = None  # %


@dataclass(frozen=True)
class Confusions:
    """Images (class, predicted class) of each named model, % of the class."""

    classes: Sequence[str]
    shares: Sequence[tuple[str, np.ndarray]]


Picture = Mosaic | HeatMap | CodeMap | LossCurves | FurtherCurves | Sweep | Confusions
