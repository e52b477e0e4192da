"""Elements of a page. What users have named is escaped here and in the template alone."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from markupsafe import Markup, escape

from aebench.report.images import Images
from aebench.report.pictures import Look
from aebench.report.texts import ends, on_one_line

LENGTH = 60  # of a name beside what it is the name of
# Shapes of Look.marker in a box of 12 x 12.
MARKERS = {
    "o": "M6 1.5a4.5 4.5 0 1 0 .01 0z",
    "s": "M2 2h8v8H2z",
    "^": "M6 1.5 11 10.5H1z",
    "v": "M6 10.5 11 1.5H1z",
    "<": "M1.5 6 10.5 1v10z",
    ">": "M10.5 6 1.5 1v10z",
    "D": "M6 .5 11.5 6 6 11.5 .5 6z",
    "P": "M4 1h4v3h3v4H8v3H4V8H1V4h3z",
    "X": "M3.3.8 6 3.5 8.7.8l2.5 2.5L8.5 6l2.7 2.7-2.5 2.5L6 8.5l-2.7 2.7L.8 8.7 3.5 6 .8 3.3z",
    "h": "M6 .6 10.8 3.3v5.4L6 11.4 1.2 8.7V3.3z",
}


@dataclass
class Place:
    """What the blocks of one page share.

    `sections`: title -> id; `looks`: card -> how its model is drawn, of every card that is there.
    """

    sections: Mapping[str, str]
    looks: Mapping[str, Look]
    images: Images
    numbers: Iterator[int] = field(default_factory=count)  # of what needs an id of its own


def tag(name: str, *inside: object, **attributes: object) -> Markup:
    """An element; an attribute of None is left out, one of True has no value.

    Not by Markup.format, which takes twice as long.
    """
    words = "".join(
        f" {key}" if value is True else f' {key.rstrip("_").replace("_", "-")}="{plain(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{words}>{''.join(map(plain, inside))}</{name}>")


def plain(value: object) -> Markup:
    """Users' words, escaped and without what cannot be seen; what is markup already as it is."""
    return value if isinstance(value, Markup) else escape(on_one_line(str(value)))


def joined(*classes: str) -> str | None:
    """An attribute's value; None without any."""
    return " ".join(filter(None, classes)) or None


def minus(text: str) -> str:
    """A hyphen before digits is one."""
    return re.sub(r"-(?=\d|\.\d)", "\u2212", text)


def linked(words: object, card: str, place: Place) -> Markup:
    """A run's name, with its model's mark, to its card."""
    return Markup("{}{}").format(key(place.looks[card]), tag("a", words, href=f"#{card}"))


def key(look: Look) -> Markup:
    """The mark of a model, as the pictures have it; its name stands beside it."""
    return Markup(
        '<svg class="key {}" viewBox="0 0 12 12" aria-hidden="true"><path d="{}"/></svg>'
    ).format(look.colour, MARKERS[look.marker])


def run_name(words: str, card: str, place: Place) -> Markup:
    """With the way to its card, where it is that of a run.

    Of a long one both ends: `(saw labels)` is the end.
    """
    named = tag("bdi", ends(words, LENGTH))
    return linked(named, card, place) if card in place.looks else named


def scrolling(label: str, *inside: object) -> Markup:
    """What may be wider than the page; with a tab stop, for without it keys would not scroll it."""
    return tag("div", *inside, class_="scroll", role="group", aria_label=label, tabindex=0)


def in_script(content: Any) -> Markup:
    """JSON that can stand in an element of its own."""
    text = json.dumps(content, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)
