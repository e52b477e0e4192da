"""Results with pictures, and a document with a block of every kind, for tests of the page."""

import io
import math

import numpy as np
from PIL import Image
from synthetic import IMAGES, made, pca, pixels, report

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
)
from aebench.report.looks import looks
from aebench.report.page import page as written
from aebench.report.pictures import Axis, Chart, CodeMap, HeatMap, Mosaic, Point, Series, Strip
from aebench.sprite import SPRITE_COLUMNS

HOSTILE = {
    "tag": "<script>alert(1)</script>",
    "image": '<img src=x onerror="alert(1)">',
    "end": "</script></style><!-- ]]>",
    "bars": "a|b||c",
    "dollars": "$x^$ $y$",
    "quotes": '"it\'s" `so`',
    "turned": "abc\u202egnp.exe",
    "seen": "abcgnp.exe",
    "cat": "猫 𓃠",
    "arabic": "قطة | سوداء",
    "long": "x" * 300,
    "braces": "{{ 7 * 7 }} {% raw %}",
    "entity": "&lt;b&gt; &amp;",
}
NAMES = [name for key, name in HOSTILE.items() if key != "seen"]
CLASSES = ["cat", "dog", *NAMES[:4], NAMES[5], NAMES[7], NAMES[9], NAMES[11]]
MAPPED = 9  # pixels of a tile


def page(report):
    """Its page, as text."""
    return written(report.document, report).decode()


def images(seed, count=4, channels=3, side=16):
    """uint8 (count, channels, side, side)."""
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, channels, side, side)).astype(np.uint8)


def pictured(result, seed, shape=(4, 3, 16)):
    """The result with images and maps."""
    random = np.random.default_rng(seed)
    if result.examples is not None:
        result.examples, *worst = (images(3 * seed + n, *shape) for n in range(3))
        result.worst = np.stack(worst)
    result.code_map = random.integers(0, 256, (2, IMAGES, 2)).astype(np.uint8)
    return result


def sprite():
    """WebP: a colour for each test image."""
    rows = -(-IMAGES // SPRITE_COLUMNS)
    colours = np.zeros((rows * SPRITE_COLUMNS, 3), np.uint8)
    colours[:IMAGES, 0] = np.arange(IMAGES) % 256
    sheet = colours.reshape(rows, SPRITE_COLUMNS, 3).repeat(MAPPED, 0).repeat(MAPPED, 1)
    content = io.BytesIO()
    Image.fromarray(sheet).save(content, "WEBP", lossless=True)
    return content.getvalue()


def runs(extra=(), seeds=(0, 1)):
    """A suite of every kind of run. `extra`: names of more."""
    kinds = {
        "cnn": (made, {"model": "cnn", "mse": 0.011, "accuracy": 0.7}),
        "mlp": (made, {}),
        "pca": (pca, {}),
        "pixels": (pixels, {}),
        "alone": (made, {"model": "alone", "mse": None, "accuracy": 0.65}),
        "cnn-untrained": (made, {"model": "cnn", "train": {"epochs": 0}, "mse": 0.09}),
        "broken": (made, {"model": "broken", "status": "failed: <b>not</b> on a Monday"}),
    }
    for number, name in enumerate(extra):
        kinds[name] = (made, {"model": f"model {name}", "mse": 0.02 + 0.001 * number})
    return [make(run, seed, **facts) for run, (make, facts) in kinds.items() for seed in seeds]


def rich(found=None, classes=CLASSES, shape=(4, 3, 16), **changes):
    """A report of them with pictures and, in place of its own, `document`."""
    found = [pictured(one, place, shape) for place, one in enumerate(found or runs(NAMES))]
    facts = {"sprite": sprite(), "originals": images(9999, *shape)}
    made_of = report(found, classes=classes, **(facts | changes))
    made_of.document = document(made_of)
    return made_of


def document(found):
    """Every kind of block and picture, with names of runs and classes in all of them."""
    everything = found.configurations
    ok = [one for one in everything if one.ok]
    first, classes = ok[0], found.results.data.classes
    blocks = [
        Paragraph(
            ["Best: ", Run(first.name, first.card, strong=True), ", ", Strong("by far"), "."]
        ),
        Paragraph(["See ", Link("results", "Results"), " and ", Code("a < b"), "."]),
        BulletList([[Run(one.name, one.card)] for one in everything]),
        CodeBlock("runs:\n  a: {}", "yaml"),
    ]
    return Document(
        "pets: <i>a</i> & b",
        [Paragraph("Before all sections.")],
        [
            Section("In short", blocks),
            Section("Results", [results_table(everything), Note(["Small, ", Strong("bold"), "."])]),
            Section("Trade-offs", [*charts(found, ok)]),
            Section("Pictures", [gallery(found, ok)]),
            Section("Codes", [Figure("codes", code_map(found, ok), "Codes", "Hollow: wrong.")]),
            Section("Classes", [Figure("classes", heat_map(ok, classes), "Heat")]),
            Section("Quotes \" ' < & 猫", [Paragraph("A title.")]),
        ],
        ["One line, ", Code("abc"), "."],
        [Section("Wide", [wide(everything)]), Section("Results", [Paragraph("Once more.")])],
    )


def results_table(everything):
    """Two groups of columns."""
    headers = [
        Header("run", is_text=True),
        Header("floats"),
        Header("accuracy, %", "of the vote", group="what it keeps"),
        Header("MSE", "of the images", group="what it keeps"),
        Header("params", group="what it costs"),
        Header("paid back after", group="what it costs"),
        Header("status", is_text=True, group="what it costs"),
    ]
    rows = [
        [
            Cell(one.name, card=one.card, tone="quiet" if one.is_reference else ""),
            Cell(one.latent, Format("{:,}")),
            Cell(one.intervals.get("accuracy"), Format("{:.2f}", 100), strong=one is everything[0]),
            Cell(one.intervals.get("mse"), Format("{:.5f}"), after=[", ", Strong("so it is")]),
            Cell(one.mean("num_params"), Format("{:,.0f}")),
            Cell(math.inf, text="never") if place % 3 else Cell(float(place), Format("{:.0f}")),
            Cell(next((r.columns["status"] for r in one.results if not r.ok), None), tone="bad"),
        ]
        for place, one in enumerate(everything)
    ]
    short = Table(headers[:2], [row[:2] for row in rows])
    return ResultsTable(short, Table(headers, rows))


def wide(everything):
    """More columns than are shown unfolded, and a title across all."""
    headers = [Header("run", is_text=True), *(Header(f"figure {n}") for n in range(12))]
    rows = [[Cell(one.name), *map(Cell, range(12))] for one in everything]
    return Table(headers, [[Cell("32 floats")], *rows])


def charts(found, ok):
    """Two, so that they stand side by side."""
    look = looks(found.configurations)
    for column, factor in (("accuracy", 100.0), ("mse", 1.0)):
        series = []
        for one in ok:
            if interval := one.intervals.get(column):
                tip = f"{one.name}\n{column} {interval.mean * factor:.3f}"
                place = len(series) + 1.0, interval.mean * factor
                reach = (interval.below or 0) * factor, (interval.above or 0) * factor
                point = Point(*place, *reach, one.card, tip)
                series.append(Series(one.name, look[one], [point]))
        chart = Chart(Axis("place"), Axis(column), series, legend=True)
        yield Figure(column, chart, f"Title of {column}", "Caption.")


def gallery(found, ok):
    """The originals and the runs that decode."""
    strips = [Strip("original", found.results.originals)]
    strips += [
        Strip(one.name, one.ok[0].examples, "MSE 0.01", one.card, ["a", "b", "<", "d"])
        for one in ok
        if one.ok[0].examples is not None
    ]
    names = [found.results.data.classes[0]] * len(strips[0].images)
    return Figure("gallery", Mosaic(strips, names), "Gallery")


def code_map(found, ok):
    """Two maps of each run."""
    mapped = found.results.data.mapped
    maps = [
        (one.name, one.card, how, one.ok[0].code_map[way], one.outcomes[0]["prediction"][mapped])
        for one in ok
        for way, how in enumerate(("PCA", "t-SNE"))
    ]
    labels = ok[0].outcomes[0]["label"][mapped]
    return CodeMap(maps, labels.astype(np.int64), found.results.data.classes)


def heat_map(ok, classes):
    """Numbers on both sides of 0, and a gap."""
    values = np.linspace(-8, 8, len(ok) * len(classes)).reshape(len(ok), len(classes))
    values[0, 1] = np.nan
    marked = np.zeros(values.shape, bool)
    marked[-1, -1] = True
    rows = [(one.name, one.card) for one in ok]
    groups = [("left", 2), ("right", len(classes) - 2)]
    return HeatMap(rows, classes, groups, values, "{:+.1f}", -8, 8, marked, diverging=True)
