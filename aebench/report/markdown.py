"""The report in GitHub's Markdown. What users have named is escaped here, and only here."""

import re
from dataclasses import replace
from functools import singledispatch
from typing import Any

from tabulate import tabulate

from aebench.report.document import (
    BulletList,
    Cell,
    Code,
    CodeBlock,
    Document,
    Figure,
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
from aebench.report.texts import on_one_line, short

# Inside a line: an underscore not within a word, an & that begins an entity, a ] that ends a link
# or a definition, and these anywhere.
ACTIVE = re.compile(r"[\\`*<~$]|(?<![^\W_])_|_(?![^\W_])|&(?=#?\w+;)|\](?=[(:])")
# At the start of one: headings, quotes, lists, rules, tasks.
LEADING = re.compile(r"^(\d+(?=[.)])|(?=[#>+=[-]))")


def markdown(document: Document) -> str:
    """The whole text."""
    parts = [f"# {heading(document.title)}"]
    parts += [line(document.facts)] if document.facts else []
    parts += map(written, document.blocks)
    for section in document.sections:
        parts += [f"## {heading(section.title)}", *map(written, section.blocks)]
    if document.appendix:
        parts.append("## Appendix")
    for section in document.appendix:
        parts += [f"### {heading(section.title)}", *map(written, section.blocks)]
    return "\n\n".join(parts) + "\n"


@singledispatch
def written(block: Any) -> str:
    """One block, without the empty lines around it."""
    raise TypeError(f"no block: {type(block).__name__}")


@written.register
def paragraph(block: Paragraph) -> str:
    """On one line."""
    return line(block.text)


@written.register
def note(block: Note) -> str:
    """On one line, small."""
    return f"<sub>{inline(block.text)}</sub>"


@written.register
def bullet_list(block: BulletList) -> str:
    """A line each."""
    return "\n".join(f"- {line(item)}" for item in block.items)


@written.register
def code_block(block: CodeBlock) -> str:
    """Between fences that do not stand in the code."""
    fence = "`" * max(3, 1 + longest_run(block.code))
    return f"{fence}{block.language}\n{block.code}\n{fence}"


@written.register
def figure(block: Figure) -> str:
    """The picture by its file, under its title, and its caption."""
    title = escaped(block.title.strip())
    # Brackets that are no escaped ones would end the words before the file.
    alternative = re.sub(r"\\.|([\[\]])", lambda m: f"\\{m[1]}" if m[1] else m[0], title)
    parts = [f"**{title}**", f"![{alternative}](figures/{block.name}.png)"]
    parts += [f"<sub>{escaped(block.caption)}</sub>"] if block.caption else []
    return "\n\n".join(parts)


@written.register
def table(block: Table) -> str:
    """Each column to the left or right; a title across all stands in the first."""
    width = len(block.headers)
    rows = [row if len(row) == width else [as_title(row[0])] for row in block.cells]
    cells = [[in_table(cell_text(cell)) for cell in row] for row in rows]
    return tabulate(
        [row + [""] * (width - len(row)) for row in cells],
        [in_table(escaped(short(header.name))) for header in block.headers],
        tablefmt="pipe",
        disable_numparse=True,
        colalign=["left" if h.is_text else "right" for h in block.headers] if block.cells else None,
    )


def as_title(cell: Cell) -> Cell:
    """The cell in italics, which no other row's first one is."""
    return replace(cell, emphasis=True)


@written.register
def results_table(block: ResultsTable) -> str:
    """The short one: a page of text is not wider."""
    return table(block.short)


def cell_text(cell: Cell) -> str:
    """The cell with its marks; of a long text the beginning."""
    mark = "**" if cell.strong else "*" if cell.emphasis else ""
    found = [short(one) if isinstance(one, str) else one for one in cell.spans]
    return f"{mark}{inline(found)}{mark}"


def in_table(text: str) -> str:
    """A | does not end the cell, in code neither."""
    return text.replace("|", r"\|")


def heading(title: str) -> str:
    """A title, which may not end in # either."""
    return escaped(title).replace("#", r"\#")


def line(text: Text) -> str:
    """Text that starts a line and stays a paragraph or an item."""
    return LEADING.sub(r"\1\\", inline(text).strip())


def inline(text: Text) -> str:
    """All spans in a row."""
    return "".join(map(span, spans(text)))


def span(found: Span) -> str:
    """One of them."""
    match found:
        case Strong(text):
            return f"**{escaped(text)}**"
        case Code(text):
            return code(text)
        case Link(text, section):
            return f"[{escaped(text)}](#{anchor(section)})"
        case Run(text, _, strong):
            return f"**{escaped(text)}**" if strong else escaped(text)
    return escaped(found)


def code(text: str) -> str:
    """Between backticks that do not stand in it."""
    text = on_one_line(text)
    ticks = "`" * (1 + longest_run(text))
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{ticks}{space}{text}{space}{ticks}"


def longest_run(text: str) -> int:
    """Of backticks."""
    return max(map(len, re.findall("`+", text)), default=0)


def anchor(section: str) -> str:
    """What GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", section.lower()).replace(" ", "-")


def escaped(text: str) -> str:
    """The text on one line, in which nothing acts as a mark."""
    return ACTIVE.sub(r"\\\g<0>", on_one_line(text))
