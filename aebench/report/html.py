"""The report's blocks in HTML."""

import math
from collections.abc import Sequence
from functools import singledispatch
from itertools import groupby
from typing import Any

from markupsafe import Markup

from aebench.evaluation.uncertainty import Interval
from aebench.report.document import (
    Block,
    BulletList,
    Cell,
    Code,
    CodeBlock,
    Figure,
    Format,
    Header,
    Link,
    Note,
    Paragraph,
    ResultsTable,
    Run,
    Span,
    Strong,
    Table,
    Text,
    spans,
)
from aebench.report.elements import LENGTH, Place, joined, linked, minus, plain, scrolling, tag
from aebench.report.illustrations import picture
from aebench.report.pictures import CodeMap, HeatMap, Mosaic
from aebench.report.texts import ends, short

NARROW = 12  # columns of a heat map that leave room beside it
GROUPS = 6  # of columns that can be chosen
LINE = 28  # characters of a name that is kept on one line


def blocks(found: Sequence[Block], place: Place) -> Markup:
    """All in order; pictures that follow one another side by side, where there is room."""
    parts: list[Markup] = []
    for small, group in groupby(found, is_small):
        written_ones = [written(block, place) for block in group]
        parts += [tag("div", *written_ones, class_="grid")] if small else written_ones
    return Markup("\n").join(parts)


def is_small(block: Block) -> bool:
    """Whether it is a picture of which several go side by side."""
    if not isinstance(block, Figure):
        return False
    if isinstance(block.picture, HeatMap):
        return len(block.picture.columns) <= NARROW
    return not isinstance(block.picture, Mosaic | CodeMap)


@singledispatch
def written(block: Any, place: Place) -> Markup:
    """One block."""
    raise TypeError(f"no block: {type(block).__name__}")


@written.register
def paragraph(block: Paragraph, place: Place) -> Markup:
    """Words."""
    return tag("p", inline(block.text, place))


@written.register
def note(block: Note, place: Place) -> Markup:
    """Small."""
    return tag("p", inline(block.text, place), class_="quiet small")


@written.register
def bullet_list(block: BulletList, place: Place) -> Markup:
    """Items."""
    return tag("ul", *(tag("li", inline(item, place)) for item in block.items))


@written.register
def code_block(block: CodeBlock, place: Place) -> Markup:
    """Lines as they are; long ones scroll."""
    lines = Markup("\n").join(plain(line) for line in block.code.split("\n"))
    return scrolling("Lines to copy", tag("pre", tag("code", lines)))


@written.register
def table(block: Table, place: Place) -> Markup:
    """With what the headers mean under it."""
    return Markup("").join([scrolling("Table", grid(block, place)), legend(block.headers, place)])


@written.register
def results_table(block: ResultsTable, place: Place) -> Markup:
    """The whole table; radio buttons choose which group of columns stands beside the ungrouped."""
    headers = block.whole.headers
    groups = list(dict.fromkeys(header.group for header in headers if header.group))[:GROUPS]
    classes = [f"k{groups.index(h.group)}" if h.group in groups else "" for h in headers]
    name = f"columns-{next(place.numbers)}"
    buttons = [
        tag(
            "label",
            Markup('<input type="radio" name="{}" class="g{}"{}>').format(
                name, number, Markup(" checked") if number == 0 else ""
            ),
            words,
        )
        for number, words in enumerate([*groups, "all"])
    ]
    choice = tag("fieldset", tag("legend", "Columns"), *buttons) if groups else Markup("")
    shown = scrolling("Table of the results", grid(block.whole, place, classes, "results"))
    return tag("div", choice, shown, legend(headers, place), class_=f"results of{len(groups)}")


def grid(
    block: Table, place: Place, classes: Sequence[str] | None = None, kind: str = ""
) -> Markup:
    """The table alone. `classes`: of each column."""
    classes = classes or [""] * len(block.headers)
    columns = list(zip(block.headers, classes, strict=True))
    head = [
        tag("th", short(h.name), scope="col", class_=joined("text" if h.is_text else "", kind))
        for h, kind in columns
    ]
    rows = [row(cells, columns, place) for cells in block.cells]
    return tag("table", tag("thead", tag("tr", *head)), tag("tbody", *rows), class_=joined(kind))


def row(cells: Sequence[Cell], columns: Sequence[tuple[Header, str]], place: Place) -> Markup:
    """A cell for each header, or one that is a title across all."""
    if len(cells) == 1 < len(columns):
        words = cell_words(cells[0], place)
        return tag("tr", tag("th", words, colspan=len(columns), scope="rowgroup"), class_="title")
    found = []
    for nth, (cell, (header, kind)) in enumerate(zip(cells, columns, strict=True)):
        name = "th" if nth == 0 and header.is_text else "td"
        found.append(
            tag(
                name,
                cell_words(cell, place),
                scope="row" if name == "th" else None,
                class_=joined(
                    "text" if header.is_text else "",
                    "long" if is_long(cell) else "",
                    cell.tone,
                    kind,
                ),
                data_order=order(cell),
            )
        )
    quiet = all(cell.tone == "quiet" for cell in cells)
    return tag("tr", *found, class_="quiet" if quiet else None)


def is_long(cell: Cell) -> bool:
    """Whether it may take several lines."""
    return isinstance(cell.value, str) and len(cell.text or cell.value) > LINE


def order(cell: Cell) -> str:
    """What the cell is sorted by; empty for what has no value, whatever is written in it."""
    match cell.value:
        case Interval(mean):
            return in_order(mean)
        case bool() | int() | float():
            return in_order(cell.value)
        case str():
            return short(cell.value)
    return ""


def in_order(value: float) -> str:
    """As the script reads a number; empty for what is none."""
    if math.isnan(value):
        return ""
    return repr(float(value)).replace("inf", "Infinity")


def cell_words(cell: Cell, place: Place) -> Markup:
    """The cell with its marks; of a long text the beginning, of a name the ends."""

    def cut(text: str) -> str:
        return ends(text, LENGTH) if cell.card in place.looks else short(text)

    found = [cut(one) if isinstance(one, str) else one for one in cell.spans]
    words = number(cell, place) or inline(found, place)
    if cell.card in place.looks:
        words = linked(words, cell.card, place)
    if cell.strong:
        words = tag("b", words)
    return tag("em", words) if cell.emphasis else words


def number(cell: Cell, place: Place) -> Markup | None:
    """As `measured` writes it; None for a text."""
    if cell.text is not None or cell.value is None or isinstance(cell.value, str):
        return None
    return measured(cell.value, cell.format) + inline(cell.after, place)


def measured(value: Interval | float, form: Format, unit: str = "") -> Markup:
    """With a true minus, and what follows the mean of an interval quietly."""
    text, mean = form.written(value), form.written(getattr(value, "mean", value))
    spread = tag("span", minus(text.removeprefix(mean)), class_="spread") if text != mean else ""
    return Markup("{}{}{}").format(minus(mean), spread, unit)


def legend(headers: Sequence[Header], place: Place) -> Markup:
    """What the columns mean, folded; nothing where all say it themselves."""
    said = [
        tag("div", tag("dt", header.name), tag("dd", inline(header.meaning, place)))
        for header in headers
        if header.meaning
    ]
    summary = tag("summary", "What the columns mean")
    return tag("details", summary, tag("dl", *said, class_="terms")) if said else Markup("")


def inline(text: Text, place: Place) -> Markup:
    """All spans in a row."""
    return Markup("").join(span(one, place) for one in spans(text))


def span(found: Span, place: Place) -> Markup:
    """One of them."""
    match found:
        case Strong(text):
            return tag("b", text)
        case Code(text):
            return tag("code", text)
        case Link(text, section) if section in place.sections:
            return tag("a", text, href=f"#{place.sections[section]}")
        case Run(text, card, strong):
            name = tag("bdi", text)
            name = tag("a", name, href=f"#{card}") if card in place.looks else name
            return tag("b", name) if strong else name
        case Link(text, _):
            return Markup("{}").format(plain(text))
    return Markup("{}").format(plain(found))


@written.register
def figure(block: Figure, place: Place) -> Markup:
    """The picture under its title."""
    small = tag("span", block.caption) if block.caption else ""
    caption = tag("figcaption", tag("b", block.title), small)
    return tag("figure", caption, picture(block.picture, place), class_=kind_of(block.picture))


def kind_of(found: Any) -> str | None:
    """The class of what is not drawn."""
    kinds = {Mosaic: "mosaic", HeatMap: "heat", CodeMap: "map"}
    return kinds.get(type(found))


def column_rules() -> str:
    """The style sheet of tables with so many groups of columns: on paper all are there, on a screen
    the chosen one.
    """
    found = []
    for groups in range(2, GROUPS + 1):
        for number in range(groups):
            others = ",".join(f".k{other}" for other in range(groups) if other != number)
            found.append(f".of{groups}:has(.g{number}:checked) :is({others}){{display:none}}")
    return f"@media screen{{{''.join(found)}}}"
