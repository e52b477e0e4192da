"""The report's pictures in HTML: tables, rows of images and maps; what is drawn, as SVG."""

import base64
import re
from collections.abc import Sequence
from functools import singledispatch
from typing import Any

import numpy as np
from markupsafe import Markup

from aebench.report.drawing import svg
from aebench.report.elements import (
    LENGTH,
    MARKERS,
    Place,
    in_script,
    joined,
    key,
    minus,
    run_name,
    scrolling,
    tag,
)
from aebench.report.looks import MIX, nth
from aebench.report.pictures import CodeMap, HeatMap, Look, Mosaic, Strip
from aebench.report.texts import ends, on_one_line, short

STEPS = 20  # of a heat map's colour on each side: a class each, for no style may stand in a tag
STRIPS = 60  # rows of images that can be hidden


@singledispatch
def picture(found: Any, place: Place) -> Markup:
    """What matplotlib draws."""
    return Markup(svg(found, f"f{next(place.numbers)}-"))


@picture.register
def mosaic(found: Mosaic, place: Place) -> Markup:
    """A picture a strip. Those of no run stay in sight, the others can be hidden."""
    boxes = [
        tag(
            "label",
            Markup('<input type="checkbox" class="b{}" checked>').format(n),
            tag("bdi", ends(strip.name, LENGTH)),
        )
        for n, strip in enumerate(found.strips)
        if strip.card and n < STRIPS
    ]
    rows = [
        tag(
            "div",
            strip_name(strip, place),
            tag(
                "span",
                under(found.columns, "columns") if number == 0 else "",
                place.images.strip(strip.images, f"{ends(strip.name, LENGTH)} {strip.note}"),
                under(strip.notes, "notes"),
                class_="images",
            ),
            class_=f"strip r{number}" if strip.card else "strip above",
        )
        for number, strip in enumerate(found.strips)
    ]
    choice = tag("fieldset", tag("legend", "Show"), *boxes)
    folded = tag("details", tag("summary", "Choose rows"), choice) if boxes[2:] else Markup("")
    return Markup("{}{}").format(folded, tag("div", *rows, class_="strips"))


def strip_name(strip: Strip, place: Place) -> Markup:
    """Beside its images, to its card."""
    small = tag("small", strip.note) if strip.note else ""
    return tag("span", run_name(strip.name, strip.card, place), " ", small, class_="name")


def under(words: Sequence[str], kind: str) -> Markup:
    """What stands under or above each image of a strip."""
    return tag("span", *(tag("i", word) for word in words), class_=kind) if words else Markup("")


@picture.register
def heat_map(found: HeatMap, place: Place) -> Markup:
    """A table, each number on its colour."""
    groups = [tag("th", words, colspan=width, scope="colgroup") for words, width in found.groups]
    tall = any(len(column) > 6 for column in found.columns)
    head = [
        tag("th", tag("span", short(column, 40)), scope="col", class_="tall" if tall else None)
        for column in found.columns
    ]
    corner, shares = Markup("<td></td>"), found.shares
    above = tag("tr", corner, *groups) if groups else Markup("")
    body = [
        tag(
            "tr",
            tag("th", run_name(*found.rows[line], place), scope="row"),
            *(
                heat_cell(value, shares[line, column], bool(found.marked[line, column]), found)
                for column, value in enumerate(values)
            ),
        )
        for line, values in enumerate(found.values)
    ]
    whole = tag("table", tag("thead", above, tag("tr", corner, *head)), tag("tbody", *body))
    return scrolling("Heat map", whole)


def heat_cell(value: float, share: float, marked: bool, found: HeatMap) -> Markup:
    """Blank where there is no number."""
    if np.isnan(value):
        return Markup("<td></td>")
    text = found.pattern.format(value)
    if not re.search("[1-9]", text):
        text = found.pattern.format(0)  # not -0
    words = tag("b", minus(text)) if marked else minus(text)
    return tag("td", words, class_=joined(shade(share), "top" if marked else ""))


def shade(share: float) -> str:
    """`v12`: the class of its colour; `n12` on the other side of 0."""
    step = round(abs(share) * STEPS)
    return f"{'n' if share < 0 else 'v'}{step}" if step else ""


@picture.register
def code_map(found: CodeMap, place: Place) -> Markup:
    """The first map as a drawing; the others as data for the script, which changes it."""
    runs = list(dict.fromkeys((name, card) for name, card, *_ in found.maps))
    methods = list(dict.fromkeys(how for _, _, how, *_ in found.maps))
    classes = [on_one_line(short(name, LENGTH)) for name in found.classes]
    labels = found.labels.tolist()
    maps = [
        {
            "run": runs.index((name, card)),
            "method": how,
            "places": base64.b64encode(np.ascontiguousarray(places).tobytes()).decode(),
            "votes": votes.tolist(),
        }
        for name, card, how, places, votes in found.maps
    ]
    _, _, _, places, votes = found.maps[0]
    looks = [nth(place) for place in range(len(classes))]
    shapes = dict.fromkeys(look.marker for look in looks)
    ids = {marker: f"m{next(place.numbers)}" for marker in shapes}
    # A box of 12 x 12 as a dot of 4 x 4.
    shape = Markup('<path id="{}" d="{}" transform="scale(.4) translate(-6 -6)"/>')
    defined = tag("defs", *(shape.format(id, MARKERS[marker]) for marker, id in ids.items()))
    dots = [
        Markup('<use href="#{}" x="{}" y="{}" class="{}{}"/>').format(
            ids[looks[label].marker],
            x,
            255 - y,
            looks[label].colour,
            "" if label == vote else " no",
        )
        for (x, y), label, vote in zip(places.tolist(), labels, votes.tolist(), strict=True)
    ]
    choices = [
        choice("Run", [(str(n), name) for n, (name, _) in enumerate(runs)]),
        choice("Map", [(how, how) for how in methods]),
        choice("Class", [("", "all"), *((str(n), name) for n, name in enumerate(classes))]),
    ]
    said = f"Map of {len(labels):,} test images"
    drawing = Markup(
        '<svg viewBox="-4 -4 263 263" tabindex="0" role="application" aria-label="{}; walk with '
        'the arrow keys">{}{}</svg>'
    ).format(said, defined, Markup("").join(dots))
    content = in_script({"maps": maps, "labels": labels, "classes": classes})
    return Markup("").join(
        [
            tag("fieldset", tag("legend", "Show"), *choices, hidden=True),
            drawing,
            class_names(classes, looks),
            tag("script", content, type="application/json"),
        ]
    )


def choice(label: str, options: Sequence[tuple[str, str]]) -> Markup:
    """A list to choose from, the first one chosen."""
    found = [tag("option", ends(words, LENGTH), value=value) for value, words in options]
    return tag("label", label, " ", tag("select", *found, autocomplete="off"))


def class_names(classes: Sequence[str], looks: Sequence[Look]) -> Markup:
    """Which class has which mark, where no two have the same."""
    if len({(look.colour, look.marker) for look in looks}) < len(classes):
        return Markup("")
    found = [
        tag("li", key(look), tag("bdi", name)) for name, look in zip(classes, looks, strict=True)
    ]
    return tag("ul", *found, class_="classes")


def picture_rules() -> str:
    """The style sheet of what has numbers: rows to hide, steps of colours."""
    found = [f".mosaic:has(.b{n}:not(:checked)) .r{n}{{display:none}}" for n in range(STRIPS)]
    found += [
        f".{side}{step}{{background:color-mix(in srgb,var(--{colour}) "
        f"{100 * MIX * step / STEPS:.1f}%,var(--paper))}}"
        for side, colour in (("v", "heat"), ("n", "cold"))
        for step in range(1, STEPS + 1)
    ]
    return "".join(found)
