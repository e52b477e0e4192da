"""What the report's pictures show, as data; drawing.py makes PNG of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Mosaic:
    """Named rows of images uint8 (n, C, H, W)."""

    rows: Sequence[tuple[str, np.ndarray]]


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


Picture = Mosaic | LossCurves | FurtherCurves | Sweep | Confusions
