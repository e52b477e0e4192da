"""What the page tells of each configuration alone: a card."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from markupsafe import Markup

from aebench.report import html
from aebench.report.configurations import Configuration
from aebench.report.document import Cell, Document, Header, ResultsTable, Table
from aebench.report.elements import Place, key, scrolling, tag
from aebench.report.measures import ACCURACY, MSE, PSNR, Measure, further
from aebench.report.tables import remarks
from aebench.report.texts import LONGEST, short
from aebench.report.times import again

SEEDS = 12  # in a card's table
WIDTH, HEIGHT = 220.0, 56.0  # of a curve, in its own units
ORIGIN = (
    "commit",
    "dirty",
    "machine",
    "device",
    "precision",
    "memory_format",
    "kernels",
    "version",
    "hash",
    "date",
    "protocol",
    "coretype",
    "source",
)  # what the columns of results.csv that say where a result is from end in


def cards(
    everything: Sequence[Configuration],
    place: Place,
    document: Document,
    originals: Any,
    pictured: Sequence[Configuration],
) -> Iterator[Markup]:
    """One each. `originals`: the shown test images, or None; `pictured`: those with images."""
    rows = figures_by_card(document)
    measured = [ACCURACY, MSE, PSNR, *further(everything)]
    for one in everything:
        images = pictures(one, place, originals) if one in pictured else Markup("")
        by_seed = seeds(one, place, measured) if len(one.results) > 1 else Markup("")
        yield card(one, place, rows.get(one.card, []), images, by_seed)


def figures_by_card(document: Document) -> dict[str, list[tuple[Header, Cell]]]:
    """Card -> each figure of the whole table of results that there is."""
    found: dict[str, list[tuple[Header, Cell]]] = {}
    for section in document.sections:
        for block in section.blocks:
            if isinstance(block, ResultsTable):
                for headers, cells in rows_of(block.whole):
                    found.setdefault(cells[0].card, [*zip(headers, cells, strict=True)][1:])
    return found


def rows_of(table: Table) -> Iterator[tuple[Sequence[Header], Sequence[Cell]]]:
    """Those that name a configuration."""
    for cells in table.cells:
        if len(cells) == len(table.headers) and cells[0].card:
            yield table.headers, cells


def card(
    one: Configuration,
    place: Place,
    figures: Sequence[tuple[Header, Cell]],
    images: Markup,
    by_seed: Markup,
) -> Markup:
    """A section whose id is the configuration's."""
    name = tag("bdi", one.called(LONGEST))
    title = tag("h3", key(place.looks[one.card]), name, id=f"h:{one.card}")
    parts = [
        title,
        kinds(one),
        *failures(one),
        images,
        curve(one),
        *measures(figures, place),
        *(tag("p", short(words), ".", class_="remark") for words in remarks(one)),
        folded("Seeds", by_seed),
        folded("Settings", listed(settings(one))),
        folded("Provenance", listed(provenance(one))),
        folded("Commands", commands(one)),
    ]
    return tag("section", *parts, id=one.card, class_="card", aria_labelledby=f"h:{one.card}")


def kinds(one: Configuration) -> Markup:
    """What kind of run it is, where that is not usual."""
    words = {
        "reference: PCA": one.is_pca,
        "reference: raw pixels": one.is_pixels,
        "reference: untrained": one.is_untrained,
        "failed": not one.ok,
        "some seeds failed": bool(one.ok) and len(one.ok) < len(one.results),
        "saw labels": one.saw_labels,
    }
    bad = ("failed", "some seeds failed")
    found = [
        tag("li", word, class_="bad" if word in bad else None) for word, so in words.items() if so
    ]
    return tag("ul", *found, class_="kinds") if found else Markup("")


def failures(one: Configuration) -> Iterator[Markup]:
    """Why seeds failed, each reason once, and the command that tries them again."""
    said: dict[str, list[Any]] = {}
    for result in one.results:
        if not result.ok:
            said.setdefault(result.columns["status"], []).append(result)
    for reason, results in said.items():
        names = "seed " + ", ".join(str(result.seed) for result in results[:SEEDS])
        command = again([f"train@{results[0].original}"])
        yield tag("p", tag("b", names), ": ", short(reason), class_="bad remark")
        yield tag("p", "Again: ", tag("code", command), class_="small")


def pictures(one: Configuration, place: Place, originals: Any) -> Markup:
    """The shown test images and its own, and its worst; of the first seed."""
    first = one.ok[0] if one.ok else None
    if first is None:
        return Markup("")
    parts = []
    if first.examples is not None:
        rows = [("original", originals)] if originals is not None else []
        parts.append(rows_of_images([*rows, ("reconstructed", first.examples)], one, place))
    if first.worst is not None:
        rows = [("worst, original", first.worst[0]), ("worst, reconstructed", first.worst[1])]
        parts.append(rows_of_images(rows, one, place))
    return Markup("").join(parts)


def rows_of_images(rows: Sequence[tuple[str, Any]], one: Configuration, place: Place) -> Markup:
    """Below each other, each under what it is."""
    name = one.called(LONGEST)
    found = [
        tag("div", tag("small", words), place.images.strip(images, f"{words}, {name}"))
        for words, images in rows
    ]
    return tag("div", *found, class_="rows")


def curve(one: Configuration) -> Markup:
    """The mean training loss of each epoch, a line a seed; nothing without two epochs."""
    lines = [[float(y) for y in r.losses if y is not None and math.isfinite(y)] for r in one.ok]
    lines = [line for line in lines if len(line) > 1]
    if not lines:
        return Markup("")
    values = [y for line in lines for y in line]
    log = min(values) > 0 and max(values) > 3 * min(values)
    low, high = (math.log(y) if log else y for y in (min(values), max(values)))
    last = max(map(len, lines)) - 1
    places = [placed(line, low, high, log, last) for line in lines]
    paths = [
        tag("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in found)) for found in places
    ]
    first, end = lines[0][0], lines[0][-1]
    words = f"Training loss from {first:.4g} to {end:.4g} in {len(lines[0])} epochs"
    words += " (log scale)" if log else ""
    drawing = Markup(
        '<svg viewBox="0 -3 {} {}" preserveAspectRatio="none" aria-hidden="true">{}</svg>'
    )
    return tag(
        "div",
        drawing.format(f"{WIDTH:g}", f"{HEIGHT + 6:g}", Markup("").join(paths)),
        tag("small", words),
        class_="loss",
    )


def placed(
    line: Sequence[float], low: float, high: float, log: bool, last: int
) -> Iterator[tuple[float, float]]:
    """Each epoch's place in the drawing."""
    for epoch, value in enumerate(line):
        y = math.log(value) if log else value
        yield WIDTH * epoch / last, HEIGHT * (1 - (y - low) / ((high - low) or 1))


def measures(figures: Sequence[tuple[Header, Cell]], place: Place) -> Iterator[Markup]:
    """Those of the first group of columns to be seen, the others folded under what they answer."""
    groups: dict[str, list[tuple[str, Markup]]] = {}
    for header, cell in figures:
        if cell.spans:
            words = html.cell_words(cell, place)
            groups.setdefault(header.group, []).append((header.name, words))
    first = next(filter(None, groups), "")
    seen = [fact for group in dict.fromkeys(["", first]) for fact in groups.get(group, [])]
    yield listed(seen)
    for group, facts in groups.items():
        if group not in ("", first):
            yield folded(group[:1].upper() + group[1:], listed(facts))


def listed(facts: Iterable[tuple[str, object]]) -> Markup:
    """Names and values."""
    found = [tag("div", tag("dt", name), tag("dd", value)) for name, value in facts]
    return tag("dl", *found, class_="facts-of") if found else Markup("")


def folded(title: str, inside: Markup) -> Markup:
    """To be opened; nothing without content."""
    return tag("details", tag("summary", title), inside) if inside else Markup("")


def seeds(one: Configuration, place: Place, measured: Sequence[Measure]) -> Markup:
    """The figures of each, of many the first."""
    headers = [Header("seed"), *(Header(measure.title) for measure in measured)]
    rows = [
        [Cell(result.seed), *(Cell(result.columns.get(m.column), m.written) for m in measured)]
        if result.ok
        else [Cell(result.seed), Cell("failed"), *(Cell() for _ in measured[1:])]
        for result in one.results[:SEEDS]
    ]
    return scrolling("Table of the seeds", html.grid(Table(headers, rows), place))


def settings(one: Configuration) -> Iterator[tuple[str, str]]:
    """Every parameter of its runs."""
    for name, value in one.settings.items():
        yield name, short(str(value))


def provenance(one: Configuration) -> Iterator[tuple[str, str]]:
    """Where its results are from, as results.csv has it; several values where seeds differ."""
    if others := one.names[1:]:
        yield "also named", ", ".join(map(short, others))
    columns: dict[str, None] = {}
    for result in one.results:
        columns |= dict.fromkeys(c for c in result.columns if c.endswith(ORIGIN))
    for column in columns:
        found = (result.columns.get(column) for result in one.results)
        values = dict.fromkeys(str(value) for value in found if value is not None)
        if values:
            yield column.replace("_", " "), short("; ".join(values))


def commands(one: Configuration) -> Markup:
    """What trains it again and compares, and what computes it anew."""
    first = one.results[0]
    lines = {
        "Train again, and compare": f"aebench verify {first.original.rpartition('-')[0]}",
        "Train again, and replace": again([f"train@{first.original}"]),
    }
    found = ((words, tag("code", line)) for words, line in lines.items())
    where = tag("p", f"In {first.source}:", class_="small") if first.source else Markup("")
    return where + listed(found)
