"""The writer of Markdown, and the pictures, with whatever names users give."""

import io

import numpy as np
import pytest
from markdown_it import MarkdownIt
from PIL import Image
from synthetic import CLASSES, made, pca, pixels, report, section, sweep, words

from aebench.evaluation.uncertainty import Interval
from aebench.report.document import (
    BulletList,
    Cell,
    Code,
    CodeBlock,
    Document,
    Figure,
    Format,
    Header,
    Link,
    Note,
    Paragraph,
    ResultsTable,
    Run,
    Section,
    Strong,
    Table,
    spans,
)
from aebench.report.markdown import markdown
from aebench.report.pictures import Mosaic, Strip

NASTY = [
    "a|b",
    "two\nlines",
    "<img src=x onerror=alert(1)>",
    "`tick`",
    "``",
    "*x*",
    "**x**",
    "_x_",
    "__init__",
    "US$5_$10",
    "$\\frac{1}$",
    "~x~",
    "[a](javascript:b)",
    "![a](b)",
    "[a]: b",
    "[x] done",
    "&lt;",
    "back\\|slash\\",
    "# a #",
    "- a",
    "+ a",
    "> a",
    "1. a",
    "2) a",
    "---",
    "===",
    "<!-- a",
    "https://a_b.c/*",
]
PLAIN = ["cnn-untrained", "epoch_seconds", "a & b", "1e3", "-20.4 ± 3.8", "C", "pixels in [0, 1]"]


def parsed(text):
    """As GitHub does it, as far as names go: CommonMark, tables and struck text."""
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)


def read(tokens):
    """The text of each paragraph, heading and cell, as it is read."""
    found = []
    for token in tokens:
        if token.type == "inline":
            assert {t.type for t in token.children} <= {
                "text",
                "text_special",
                "code_inline",
                "strong_open",
                "strong_close",
            }, token.children
            found.append("".join(t.content for t in token.children))
    return found


def one_line(name):
    return " ".join(name.split())


@pytest.mark.parametrize("name", [*NASTY, *PLAIN])
def test_names_are_read_as_they_are_in_every_block(name):
    headers = [Header(name, is_text=True), Header("b")]
    cells = [[Cell(name, strong=True), Cell(1.5, after=[name])], [Cell(), Cell(2, text=name)]]
    blocks = [
        Paragraph(name),
        Paragraph([Strong(name), ": ", Code(name), ", ", name]),
        BulletList([name, [Strong(name), ". ", name]]),
        Table(headers, cells),
    ]
    tokens = parsed(markdown(Document(name, [], [Section(name, blocks)])))
    said = one_line(name)
    expected = [said] * 3  # both titles and the paragraph
    expected += [f"{said}: {said}, {said}", said, f"{said}. {said}"]
    expected += [said, "b", said, f"1.5{said}", "", said]
    assert [text.strip() for text in read(tokens)] == expected
    kinds = [token.type for token in tokens if token.type.endswith("_open")]
    assert kinds.count("heading_open") == 2 and kinds.count("bullet_list_open") == 1
    assert kinds.count("th_open") == 2 and kinds.count("td_open") == 4
    assert not {"html_block", "fence", "hr", "blockquote_open", "ordered_list_open"} & set(kinds)


@pytest.mark.parametrize("name", PLAIN)
def test_ordinary_names_are_not_touched(name):
    assert f"| {name}" in markdown(
        Document("a", [Table([Header("b", "", True)], [[Cell(name)]])], [])
    )


def test_document_is_written_block_by_block():
    blocks = [
        Table(
            [Header("run", is_text=True), Header("accuracy, %", ["right ", Code("*")])],
            [[Cell("mlp"), Cell(Interval(0.5, 0.01, 0.01), Format("{:.2f}", 100), strong=True)]],
        ),
        Note("small"),
        CodeBlock("dvc repro", "sh"),
        Paragraph(["see ", Link("there", "Where it is")]),
    ]
    assert markdown(Document("Title", [Paragraph("One.")], [Section("Two", blocks)])) == (
        "# Title\n\nOne.\n\n## Two\n\n"
        "| run   |      accuracy, % |\n"
        "|:------|-----------------:|\n"
        "| mlp   | **50.00 ± 1.00** |\n\n"
        "<sub>small</sub>\n\n"
        "```sh\ndvc repro\n```\n\nsee [there](#where-it-is)\n"
    )


def test_cells_keep_their_values_and_are_written_by_their_formats():
    wide = Format("{:+.1f}", 100, narrow=True)
    assert wide.written(Interval(0.05, 0.001, 0.001)) == "+5.0 ± 0.1"
    assert wide.written(Interval(0.05, 0.003, 0.02)) == "+5.0 ± 2.0"
    assert wide.written(Interval(0.05)) == wide.written(0.05) == "+5.0"
    ends = Format("{:.1f}", 100)
    assert ends.written(Interval(0.99, 0.0121, 0.0068)) == "99.0 +0.7 -1.2"
    assert ends.written(Interval(1.0, 0.0106, 0.0)) == "100.0 +0.0 -1.1"
    assert ends.written(Interval(0.347, 0.0146, 0.0154)) == "34.7 ± 1.5"  # alike as written
    assert ends.written(Interval(0.347, 0.0149, 0.0151)) == "34.7 ± 1.5"
    assert Format("{:.2f}", 100).written(Interval(0.347, 0.0093, 0.0094)) == "34.70 ± 0.94"
    assert words(Cell()) == "" and words(Cell(7)) == "7" and words(Cell(7, text="any")) == "any"
    assert spans(["a", "", "b", Code("c"), "d"]) == ["ab", Code("c"), "d"]


def test_a_title_across_all_columns_and_the_order_of_a_document():
    headers = [Header("run", is_text=True), Header("a")]
    table = Table(headers, [[Cell("32 floats")], [Cell("mlp", card="run-mlp"), Cell(1)]])
    whole = Table([*headers, Header("b", group="cost")], [[Cell("mlp"), Cell(1), Cell(2)]])
    said = [Run("cnn", "run-cnn", strong=True), " and ", Run("mlp", "run-mlp")]
    sections = [Section("Results", [ResultsTable(table, whole), Paragraph(said)])]
    last = [Section("Look up", [Note("x")])]
    assert markdown(Document("T", [], sections, "1 run", last)) == (
        "# T\n\n1 run\n\n## Results\n\n"
        "| run         |   a |\n|:------------|----:|\n| *32 floats* |     |\n| mlp         |   1 |"
        "\n\n**cnn** and mlp\n\n## Appendix\n\n### Look up\n\n<sub>x</sub>\n"
    )


@pytest.mark.parametrize("name", ["a[b", "a]b", "a [x](y)", " a", "![a](b)", "a\\[b"])
def test_a_picture_of_any_title_is_a_picture(name):
    picture = Mosaic([Strip("mlp", np.zeros((1, 1, 8, 8), np.uint8))])
    text = markdown(Document("a", [Figure("f", picture, name)], []))
    title, image = (token for token in parsed(text)[3:] if token.type == "inline")
    assert [t.type for t in image.children] == ["image"]
    assert image.children[0].attrs["src"] == "figures/f.png"
    said = "".join(t.content for t in image.children[0].children)
    assert said == "".join(t.content for t in title.children) == name.strip()


def test_fence_is_longer_than_what_stands_between():
    (token,) = parsed(markdown(Document("a", [CodeBlock("```\nx", "sh")], [])))[3:]
    assert (token.type, token.content) == ("fence", "```\nx\n")


@pytest.fixture(scope="module")
def nasty():
    """Nasty classes, runs, models, options, notes and reasons."""
    runs = [
        made(
            name,
            model=name,
            depth=max(3, i),
            options={name: i},
            note=name,
            status=status,
            curves={name: [i, None, 1.0]},
            begun_with=name,
        )
        for i, name in enumerate(NASTY)
        for status in ["ok", f"failed: refused: {name}"][: 1 + (i < 2)]
    ]
    runs += [made(f"mlp{i}", depth=4, options={NASTY[i]: j}) for i in range(10) for j in range(2)]
    return report([*runs, pca(), pixels()], classes=NASTY[:10])


def test_nasty_names_keep_every_table_whole(nasty):
    tokens = parsed(nasty.files["report.md"].decode())
    shapes, column = [], 0
    for token in tokens:
        if token.type == "table_open":
            shapes.append([])
        elif token.type == "tr_open":
            column = 0
        elif token.type in ("th_open", "td_open"):
            column += 1
        elif token.type == "tr_close":
            shapes[-1].append(column)
    sections = [*nasty.document.sections, *nasty.document.appendix]
    blocks = [block for found in sections for block in found.blocks]
    tables = [block.short if isinstance(block, ResultsTable) else block for block in blocks]
    wanted = [
        [len(table.headers)] * (1 + len(table.cells))
        for table in tables
        if isinstance(table, Table)
    ]
    assert shapes == wanted and len(shapes) > 10
    names = {text.strip() for text in read_all(tokens)}
    assert {one_line(name) for name in NASTY} <= names
    assert not [t for token in tokens for t in token.children or [] if is_active_html(t)]


def read_all(tokens):
    """The text of each inline token, whatever it consists of."""
    return [
        "".join(t.content for t in token.children) for token in tokens if token.type == "inline"
    ]


def is_active_html(token):
    return token.type == "html_inline" and token.content not in ("<sub>", "</sub>")


def test_nasty_names_are_drawn(nasty):
    pictures = {name: png for name, png in nasty.files.items() if name.endswith(".png")}
    wanted = {"reconstructions", "loss_curves-own-epochs", "accuracy_over_bytes", "confusion"}
    assert {f"figures/{name}.png" for name in wanted} < pictures.keys()
    assert len(pictures) == len(nasty.document.figures)  # none of one name
    for name, png in pictures.items():
        assert Image.open(io.BytesIO(png)).size[0] > 100 and name.count("/") == 1
        assert f"({name})".encode() in nasty.files["report.md"]


def test_a_report_is_the_same_bytes_again():
    assert report(sweep()).files == report(sweep()).files


def test_documents_need_no_drawing():
    found = section(report(sweep(), classes=CLASSES).document, "Classes")
    assert found.blocks[-2].picture.values.sum() == pytest.approx(1000)
