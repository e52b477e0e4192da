"""A report before it is written: typed blocks of text, tables and pictures.

Nothing here knows a markup. The writers do, and they alone escape what users have named.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from aebench.evaluation.uncertainty import Interval
from aebench.report.pictures import Picture


@dataclass(frozen=True)
class Strong:
    """Important words."""

    text: str


@dataclass(frozen=True)
class Code:
    """What is typed, or a hash."""

    text: str


@dataclass(frozen=True)
class Link:
    """To a section of the same document, by its title."""

    text: str
    section: str


@dataclass(frozen=True)
class Run:
    """The name of a configuration. `card`: the id of what a page tells of it alone."""

    text: str
    card: str
    strong: bool = False


ALIKE = 0.95  # of the larger side of an interval: the smaller one is not worth a number of its own

Tone = Literal["", "bad", "quiet"]
Span = str | Strong | Code | Link | Run
Text = str | Sequence[Span]


class Format(NamedTuple):
    """How a value is written: `pattern` of value * factor, its interval in as many digits.

    `narrow`: an interval of unlike sides as ± the larger one.
    """

    pattern: str = "{}"
    factor: float = 1
    narrow: bool = False

    def written(self, value: Interval | float | str) -> str:
        """`46.81 ± 0.98`; `98.47 +0.68 -1.21` to unlike sides; the mean alone without interval."""
        if isinstance(value, str):
            return self.pattern.format(value)
        if not isinstance(value, Interval):
            return self.pattern.format(value * self.factor)
        mean = self.pattern.format(value.mean * self.factor)
        if value.below is None or value.above is None:
            return mean
        below, above = self.distance(value.below), self.distance(value.above)
        smaller, larger = sorted((value.below, value.above))
        if self.narrow or below == above or smaller >= ALIKE * larger:
            return f"{mean} ± {self.distance(larger)}"
        return f"{mean} +{above} -{below}"

    def distance(self, value: float) -> str:
        """How far an interval reaches."""
        return self.pattern.replace("+", "").format(value * self.factor)


@dataclass(frozen=True)
class Cell:
    """A value and how it is written; blank without either.

    `text` is written in place of the value, `after` behind it. `card`: of the configuration that
    the cell names; `tone`: what a writer that has colours may show.
    """

    value: Interval | float | str | None = None
    format: Format = Format()
    text: str | None = None
    after: Sequence[Span] = ()
    strong: bool = False
    emphasis: bool = False
    card: str = ""
    tone: Tone = ""

    @property
    def spans(self) -> list[Span]:
        """What is to be read in the cell, without its marks."""
        text = self.text
        if text is None:
            text = "" if self.value is None else self.format.written(self.value)
        return spans([text, *self.after])


@dataclass(frozen=True)
class Header:
    """Of a column: its name, what it means, and whether it is text and stands to the left.

    `group`: which columns belong together in a wide table; those without one, to every group.
    """

    name: str
    meaning: Text = ""
    is_text: bool = False
    group: str = ""


@dataclass(frozen=True)
class Table:
    """A row of `cells` has one for each header; a row of a single cell is a title across all."""

    headers: list[Header]
    cells: list[list[Cell]]


@dataclass(frozen=True)
class ResultsTable:
    """The runs: a short table to read, and the whole one, whose headers have groups."""

    short: Table
    whole: Table


@dataclass(frozen=True)
class Paragraph:
    """Words."""

    text: Text


@dataclass(frozen=True)
class Note:
    """Small print."""

    text: Text


@dataclass(frozen=True)
class BulletList:
    """Items without an order."""

    items: Sequence[Text]


@dataclass(frozen=True)
class CodeBlock:
    """Lines to copy; `language` is sh or yaml."""

    code: str
    language: str


@dataclass(frozen=True)
class Figure:
    """A picture, in figures/<name>.png and in the page: its title says what it shows."""

    name: str
    picture: Picture
    title: str
    caption: str = ""


Block = Table | ResultsTable | Paragraph | Note | BulletList | CodeBlock | Figure


@dataclass(frozen=True)
class Section:
    """Blocks under a title."""

    title: str
    blocks: list[Block]


@dataclass(frozen=True)
class Document:
    """A title, a line of facts, the blocks before the first section, and the sections.

    `appendix`: sections to look things up in.
    """

    title: str
    blocks: list[Block]
    sections: list[Section]
    facts: Text = ""
    appendix: Sequence[Section] = ()

    @property
    def figures(self) -> list[Figure]:
        """All pictures, in order."""
        sections = [*self.sections, *self.appendix]
        blocks = [*self.blocks, *(block for section in sections for block in section.blocks)]
        return [block for block in blocks if isinstance(block, Figure)]


def spans(text: Text) -> list[Span]:
    """The text as a list in which no two plain strings are neighbours and none is empty."""
    found: list[Span] = []
    for span in [text] if isinstance(text, str) else text:
        last = found[-1] if found else None
        if isinstance(span, str) and isinstance(last, str):
            found[-1] = last + span
        elif span != "":
            found.append(span)
    return found
