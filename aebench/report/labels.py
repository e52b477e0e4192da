"""Where the labels of a chart have room: in points, from the lower left of its figure."""

import math
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from matplotlib.font_manager import findfont, get_font

SMALL = 8  # points: the letters of labels and legends
FONT = "DejaVu Sans"  # comes with matplotlib and has most alphabets
# Where a label may stand beside its point: which of its sides, and how far from the point.
PLACES = [
    (0.5, 0, 6),
    (0.5, 0, -6),
    (0, 6, 0),
    (1, -6, 0),
    (0, 3, 6),
    (1, -3, 6),
    (0, 3, -6),
    (1, -3, -6),
    (0.5, 0, 14),
    (0.5, 0, -14),
    (0, 8, 12),
    (1, -8, 12),
    (0, 8, -12),
    (1, -8, -12),
]


class Box(NamedTuple):
    """A part of the figure."""

    left: float
    bottom: float
    right: float
    top: float

    def meets(self, other: "Box") -> bool:
        """Whether they have a part in common."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.bottom < other.top
            and other.bottom < self.top
        )

    def distance(self, x: float, y: float) -> float:
        """From a point; 0 inside."""
        return math.hypot(
            max(self.left - x, 0, x - self.right), max(self.bottom - y, 0, y - self.top)
        )


def width_of(text: str, size: float = SMALL) -> float:
    """How wide it is."""
    return 1.05 * size * sum(map(advance, text))  # hinting rounds up


@cache
def advance(letter: str) -> float:
    """How wide a letter is, in sizes of its font; one that the font has not, as an ideograph."""
    if unicodedata.combining(letter):
        return 0
    font = get_font(findfont(FONT))
    if not font.get_char_index(ord(letter)):
        return 1
    font.set_size(100, 72)
    return font.load_char(ord(letter)).linearHoriAdvance / 65536 / 100


class Room:
    """A chart's axes, and what of it is taken."""

    def __init__(self, left: float, bottom: float, right: float, top: float) -> None:
        self.axes = Box(left, bottom, right, top)
        self.drawn: list[Box] = []  # points and lines
        self.written: list[Box] = []
        self.points: list[tuple[float, float]] = []

    def take(self, places: Sequence[tuple[float, float]], joined: bool, size: float = 4) -> None:
        """The points of that half width there, and the lines between them."""
        self.points += places if size > 1 else ()
        for place, (x, y) in enumerate(places):
            self.drawn.append(Box(x - size, y - size, x + size, y + size))
            if joined and place + 1 < len(places):
                to_x, to_y = places[place + 1]
                steps = min(40, math.ceil(math.dist((x, y), (to_x, to_y)) / 5))
                for step in range(1, steps):
                    at = step / steps
                    a, b = x + at * (to_x - x), y + at * (to_y - y)
                    self.drawn.append(Box(a - 1, b - 1, a + 1, b + 1))

    def beside(self, text: str, x: float, y: float, needed: bool) -> Box | None:
        """Of a label at a point; None without room, unless it is needed."""
        found = []
        for side, right, up in PLACES:
            bottom = y + up - SMALL * (1 if up < 0 else 0 if up > 0 else 0.5)
            found.append(self.box(text, x + right, bottom, side))
        # Elsewhere it would be taken for the name of another point.
        others = [point for point in self.points if math.dist(point, (x, y)) > 1]
        own = [
            box
            for box in found
            if not any(box.distance(*point) < 1.5 * box.distance(x, y) for point in others)
        ]
        return self.best(own or (found if needed else []), needed)

    def along(self, text: str, y: float) -> Box | None:
        """Of a label at a horizontal line."""
        return self.best([*self.at(text, y + 2), *self.at(text, y - 1 - SMALL)], needed=True)

    def in_shade(self, text: str, y: float) -> Box | None:
        """Of a label above that, at the upper end if there is room."""
        top = self.axes.top - SMALL - 3
        found = [*(self.at(text, top) if top > y + SMALL else ()), *self.at(text, y + 2)]
        return self.best(found, needed=False)

    def at(self, text: str, bottom: float) -> list[Box]:
        """From the right to the left end."""
        left, right = self.axes.left + 3, self.axes.right - 3 - width_of(text)
        return [
            self.box(text, left + share * (right - left), bottom, 0)
            for share in (1, 0, 0.5, 0.75, 0.25)
        ]

    def box(self, text: str, x: float, bottom: float, side: float) -> Box:
        """Of a text whose side (0: the left, 1: the right one) is at x."""
        wide = width_of(text)
        left = x - side * wide
        return Box(left, bottom, left + wide, bottom + SMALL)

    def best(self, found: Sequence[Box], needed: bool) -> Box | None:
        """The first that nothing is in the way of; of what is needed that with least in its way."""
        inside = [
            box
            for box in found
            if self.axes.left <= box.left
            and box.right <= self.axes.right + 6
            and self.axes.bottom <= box.bottom
            and box.top <= self.axes.top + 4
        ]
        counts = [
            sum(map(box.meets, self.drawn)) + 100 * sum(map(box.meets, self.written))
            for box in inside
        ]
        least = min(counts, default=1)
        if least and not (needed and inside):
            return None
        box = inside[counts.index(least)]
        self.written.append(box)
        return box


def thinned(
    ticks: Sequence[float],
    names: Sequence[str],
    ends: tuple[float, float],
    log: bool,
    length: float,
) -> tuple[list[float], list[str]]:
    """Those of a horizontal axis of so many points whose names do not touch, nor stick out."""

    def place(value: float) -> float:
        low, high, at = map(math.log10, (*ends, value)) if log else (*ends, value)
        return length * (at - low) / (high - low)

    kept: list[tuple[float, str]] = []
    end = -math.inf
    for tick, name in zip(ticks, names, strict=True):
        half = width_of(name) / 2
        if end <= place(tick) - half and place(tick) + half <= length + 8:
            kept.append((tick, name))
            end = place(tick) + half + 5
    return [tick for tick, _ in kept], [name for _, name in kept]
