"""Bytes: what codes keep in fewer bits, beside JPEG and WebP of the same images."""

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

from aebench.evaluation.uncertainty import Interval, interval, of_accuracies, over_seeds
from aebench.report.baselines import EXACT
from aebench.report.charts import Charts, lines
from aebench.report.configurations import Configuration, best_and_references, of_all
from aebench.report.document import (
    Block,
    BulletList,
    Cell,
    Code,
    Figure,
    Format,
    Header,
    Paragraph,
    Run,
    Section,
    Span,
    Strong,
    Table,
    Text,
    Tone,
)
from aebench.report.findings import Findings
from aebench.report.pictures import Axis, Look, Point, Series
from aebench.report.texts import LISTED, named
from aebench.report.ties import spread_out

TITLE, WHOLE = "Bytes", "Bytes, in full"
RUNS, ROWS, CURVES = 5, 60, 8  # in the table, in the full one, in a picture
CODECS = {"WebP": Look("ink", "*", "-"), "JPEG": Look("quiet", "d", "-")}
FILE, PAYLOAD = "whole file", "payload"
FLOATS, OWN, PRODUCT = "float32", "its own values", "product quantisation"
# Bits of a float -> what the columns of results.csv end in.
ROUNDED = {8: "8bit", 4: "4bit"}
MSE, ACCURACY = Format("{:.2f}", 1e3), Format("{:.1f}", 100, True)
HEADERS = [
    Header("code", "of a run or a codec", is_text=True),
    Header(
        "kept as",
        "8 and 4 bits: each float as one of 256 or 16 values in equal steps, from the least to the "
        "greatest training code, at 4 bits between the ends that lose least of them; product "
        "quantisation: each two floats as one of 256 pairs (FAISS, PQ with d / 2 sub-quantisers of "
        "8 bits, k-means on at most 10,240 training codes; of an odd number the last is paired "
        "with a 0); its own values: the codes as they are, of discrete dimensions, see bits",
        is_text=True,
    ),
    Header(
        "bytes an image",
        "of the code, rounded up, without what all codes share; of a codec the mean over the test "
        "images: the whole file (JPEG's with Huffman tables of its own), or its payload, what is "
        "left for who knows codec, quality and size (JPEG's entropy-coded scan with the standard's "
        "tables; of WebP the content of the chunk VP8, without RIFF's and the chunk's 20 bytes)",
    ),
    Header(
        "MSE x 1000",
        "1000 times the MSE of what is decoded from it; ± of codes in fewer bits: seeds alone",
    ),
    Header(
        "accuracy, %",
        "of the same kNN with bank and queries kept so; of product quantisation the bank alone; of "
        "a codec by L2 among training images at the same quality",
    ),
]


class Kept(NamedTuple):
    """Images in some bytes: a run's codes in one form, or a codec at one quality. See HEADERS."""

    one: Configuration | None  # None: of a codec
    name: str
    form: str
    bytes: float
    mse: Interval | None
    accuracy: Interval | None

    @property
    def is_ranked(self) -> bool:
        """Whether its bytes are what they seem, and it is no image as it was."""
        return self.one is None or not (
            self.one.is_pixels or (self.form == FLOATS and self.one.is_packed)
        )


class Rates:
    """All forms of all runs, and the codecs."""

    def __init__(self, found: Findings) -> None:
        self.found = found
        self.ones = [one for one in found.configurations if one.ok]
        self.of_run = {one: kept(one) for one in self.ones}
        self.known = any(row.form not in (FLOATS, OWN) for ks in self.of_run.values() for row in ks)

    @cached_property
    def codecs(self) -> list[Kept]:
        """Each codec and quality twice: as the whole file, and as its payload."""
        if self.found.results.codecs is None:
            return []
        record, errors = self.found.results.codecs
        rows = []
        for one, own in zip(record.codecs, errors, strict=True):
            mse = interval(own[None].astype(float))
            accuracy = None
            if one.accuracy is not None:
                accuracy = of_accuracies([one.accuracy], len(own))
            for form, size in ((FILE, one.bytes), (PAYLOAD, one.payload_bytes)):
                name = f"{one.codec}, quality {one.quality}"
                rows.append(Kept(None, name, form, size, mse, accuracy))
        return rows

    @property
    def sections(self) -> list[Section]:
        """What is best at equal bytes, the table, the pictures; empty for float32 codes alone."""
        if not self.ones or not (self.known or self.codecs):
            return []
        shown = best_and_references(self.ones, RUNS)
        head: list[Span] = [
            "What is left where codes are kept in fewer bits, and what JPEG and WebP make of the "
            "same images. The headline is that of float32. A codec's bytes hold its colour "
            "transform and entropy coding, which a code of numbers lacks; what all codes share "
            "(decoder, ranges, codebooks) is counted nowhere.",
        ]
        if any(len(one.ok) > 1 for one in shown):
            head += [" ± of an error in fewer bits is of the seeds alone, without the images'."]
        blocks: list[Block] = [Paragraph(head), *self.claims, self.table(shown)]
        left = of_all(shown, self.ones)
        blocks += [Paragraph(f"{left.strip()} The appendix has more.")] if left else []
        return [Section(TITLE, [*blocks, *self.remarks, *self.figures])]

    @property
    def appendix(self) -> list[Section]:
        """The table of all runs, where the section has some of them."""
        if not self.sections or len(self.ones) <= RUNS:
            return []
        shown = best_and_references(self.ones, ROWS)
        left = of_all(shown, self.ones)
        return [Section(WHOLE, [self.table(shown), *([Paragraph(left.strip())] if left else [])])]

    def table(self, ones: Sequence[Configuration]) -> Table:
        """Each form of these runs, then the codecs."""
        rows = [row for one in ones for row in self.of_run[one]] + self.codecs
        return Table(HEADERS, [cells(row) for row in rows])

    @property
    def claims(self) -> list[Block]:
        """What is best with at most the bytes of a code of the default size, and of its 8 bits."""
        sizes = {one.mean("code_bytes") for one in self.ones if not one.is_pixels}
        default = 4 * (self.found.results.latent or 0)
        if default not in sizes:
            default = min((size for size in sizes if size), default=0)
        budgets = [default, default / 4] if default else []
        items = [self.best_within(budget) for budget in budgets]
        return [BulletList([item for item in items if item])]

    def best_within(self, budget: float) -> Text:
        """The lowest error and the highest accuracy, of runs and of codecs. By their means."""
        forms = [row for rows in self.of_run.values() for row in rows] + self.codecs
        within = [row for row in forms if row.bytes <= budget and row.is_ranked]
        mse = sorted((r for r in within if r.mse), key=lambda r: r.mse.mean if r.mse else 0)
        right = sorted(
            (r for r in within if r.accuracy and not (r.one and r.one.saw_labels)),
            key=lambda r: -r.accuracy.mean if r.accuracy else 0,
        )
        parts = [
            winners("lowest mean error", mse, lambda r: f"MSE {r.mse.mean:.5f}" if r.mse else ""),
            winners(
                "most found",
                right,
                lambda r: f"{ACCURACY.written(r.accuracy.mean)} %" if r.accuracy else "",
            ),
        ]
        said = [part for part in parts if part]
        if not said:
            return ""
        text: list[Span] = [Strong(f"At most {budget:,.0f} bytes"), ": "]
        for place, part in enumerate(said):
            text += ["; " if place else "", *part]
        return [*text, ". By the means: what is kept in fewer bits has no test."]

    @property
    def remarks(self) -> list[Block]:
        """Why figures are blank, and how to get the codecs."""
        said: dict[str, list[str]] = {}
        for one in self.ones:
            for words in filter(None, map(one.first, ("rounded_note", "fewer_bits_note"))):
                said.setdefault(words, []).append(one.name)
        items: list[Text] = [[f"{named(names, 4)}: {why}."] for why, names in said.items()]
        if self.found.results.codecs is None:
            items.append(
                [
                    "JPEG and WebP are not here: ",
                    Code("dvc repro"),
                    " measures them, where dvc.yaml has no stage codecs after ",
                    Code("aebench init --upgrade"),
                    ".",
                ]
            )
        else:
            items += [[f"{words}."] for words in self.found.results.codecs[0].notes]
        return [BulletList(items[:LISTED])] if items else []

    @property
    def figures(self) -> list[Figure]:
        """MSE over bytes, and accuracy over bytes."""
        found = []
        across = Axis("bytes an image (log)", log=True)
        words = (
            "Lines join 32, 8 and 4 bits of a run's floats, and of discrete values what they need, "
            "without the bits that are more; product quantisation, at the bytes of 4 bits, is not "
            "drawn; codecs are references. A look is a model's: its sizes go from left to right."
        )
        shown, chosen = self.of_sizes(drawn, -1)
        errors = self.curves(shown, drawn, 1)
        if errors:
            y = Axis("test MSE (log)", log=True)
            caption = f"Down and left is better; below {EXACT} not drawn. {words}{chosen}"
            picture = lines(across, y, errors, [])
            title = "MSE over bytes, beside JPEG and WebP" if self.codecs else "MSE over bytes"
            found.append(Figure("mse_over_bytes", picture, title, caption))
        shown, chosen = self.of_sizes(accuracy_of, 1)
        accuracies = self.curves(shown, accuracy_of, 100)
        if accuracies:
            charts = Charts(self.found)
            y = charts.accuracy_axis([point for one in accuracies for point in one.points])
            picture = lines(across, y, accuracies, charts.chance_level(y))
            caption = f"Up and left is better. {words}{chosen}{charts.guessed(y)}"
            title = "kNN accuracy over bytes, in fewer bits"
            found.append(Figure("accuracy_in_fewer_bits", picture, title, caption))
        return found

    def of_sizes(
        self, value: Callable[[Kept], Interval | None], sign: int
    ) -> tuple[list[Configuration], str]:
        """The best run and reference of each size, or of some, then the best; how they were chosen.

        By the first of their forms that has the value; `sign`: 1 where more is better, else -1.
        """
        known = [one for one in self.ones if not one.is_pixels]
        found = {one: [*filter(None, map(value, self.of_run[one]))] for one in known}
        best = sorted(
            filter(found.get, known), key=lambda one: (one.saw_labels, -sign * found[one][0].mean)
        )
        sizes: dict[int, dict[bool, Configuration]] = {}
        for one in best:
            sizes.setdefault(one.latent or 0, {}).setdefault(one.is_reference, one)
        groups: Sequence[Sequence[Configuration]]
        groups = [[*sizes[size].values()] for size in sorted(sizes)]
        which = "the best run and the best reference of each size, then the best of all"
        if sum(map(len, groups)) > CURVES:
            groups = spread_out(groups, CURVES // 2)
            which = "the best run and the best reference of sizes from the smallest to the largest"
        firsts = {one for group in groups for one in group}
        chosen = sorted(best, key=lambda one: one not in firsts)[:CURVES]
        return [one for one in known if one in chosen], of_all(chosen, known, which)

    def curves(
        self,
        shown: Sequence[Configuration],
        value: Callable[[Kept], Interval | None],
        factor: float,
    ) -> list[Series]:
        """A line a run, and one for each codec's files and payloads, from few bytes to many."""
        found = []
        for one in shown:
            own = next((row.bytes for row in self.of_run[one] if row.form == OWN), math.inf)
            # What 4 bits would make of a few values that need fewer says nothing.
            rows = [
                row
                for row in self.of_run[one]
                if row.form in (FLOATS, OWN) or (row.form != PRODUCT and row.bytes < own)
            ]
            found.append(curve(one.short_name, self.found.looks[one], rows, value, factor))
        for codec, look in CODECS.items():
            for form in (FILE, PAYLOAD):
                rows = [
                    row for row in self.codecs if row.name.startswith(codec) and row.form == form
                ]
                line = look.line if form == FILE else ":"
                own = Look(look.colour, look.marker, line)
                found.append(curve(f"{codec}, {form}", own, rows, value, factor))
        return [one for one in found if one.points]


def curve(
    name: str,
    look: Look,
    rows: Sequence[Kept],
    value: Callable[[Kept], Interval | None],
    factor: float,
) -> Series:
    """Through the rows whose value a log axis has."""
    points = []
    for row in sorted(rows, key=lambda row: row.bytes):
        found = value(row)
        if found is None or found.mean <= 0 or row.bytes <= 0:
            continue
        tip = f"{row.name}, {row.form}: {row.bytes:,.0f} bytes, {quality(row)}"
        reach = factor * (found.below or 0), factor * (found.above or 0)
        # A codec has no card to lead to.
        card, tip = (row.one.card, tip) if row.one else ("", "")
        points.append(Point(row.bytes, factor * found.mean, *reach, card, tip))
    return Series(name, look, points, joined=len(points) > 1)


def accuracy_of(row: Kept) -> Interval | None:
    """Its accuracy."""
    return row.accuracy


def drawn(row: Kept) -> Interval | None:
    """Its error, where it is one: what rounding leaves of an exact PCA takes the whole axis."""
    return row.mse if row.is_ranked and row.mse and row.mse.mean >= EXACT else None


def quality(row: Kept) -> str:
    """`MSE 0.01164, 49.9 %`."""
    said = [f"MSE {row.mse.mean:.5f}"] if row.mse else []
    said += [f"{ACCURACY.written(row.accuracy.mean)} %"] if row.accuracy else []
    return ", ".join(said)


def kept(one: Configuration) -> list[Kept]:
    """Its codes in each form that was measured, float32 first."""
    floats, count = one.latent or 0, len(one.outcomes[0])

    def row(form: str, size: float, mse: str, accuracy: str) -> list[Kept]:
        errors, shares = one.values(mse), one.values(accuracy)
        if not (errors or shares):
            return []
        found = over_seeds(errors) if errors else None
        return [
            Kept(one, one.name, form, size, found, of_accuracies(shares, count) if shares else None)
        ]

    mse, accuracy = one.intervals.get("mse"), one.intervals["accuracy"]
    rows = [Kept(one, one.name, FLOATS, one.mean("code_bytes") or 4 * floats, mse, accuracy)]
    bits = one.values("code_bits")
    if len(bits) == len(one.ok):
        size = math.ceil(round(max(bits) / 8, 6))
        rows.append(Kept(one, one.name, OWN, size, mse, accuracy))
    for bit, end in ROUNDED.items():
        size = math.ceil(floats * bit / 8)
        rows += row(f"{bit} bits", size, f"mse_{end}", f"accuracy_{end}")
    pq = max(one.values("pq_bytes"), default=math.ceil(floats / 2))
    return rows + row(PRODUCT, pq, "mse_pq", "accuracy_pq")


def cells(row: Kept) -> list[Cell]:
    """Of HEADERS."""
    tone: Tone = "quiet" if row.one is None or row.one.is_reference else ""
    text = row.one.short_name if row.one else row.name
    return [
        Cell(row.name, text=text, card=row.one.card if row.one else "", tone=tone),
        Cell(row.form),
        Cell(row.bytes, Format("{:,.0f}")),
        Cell(row.mse, MSE),
        Cell(row.accuracy, ACCURACY),
    ]


def winners(what: str, ranked: Sequence[Kept], figure: Callable[[Kept], str]) -> list[Span]:
    """`lowest mean error: cnn (8 bits, 32 bytes), MSE ...`: of all, of runs, of whole files."""
    if not ranked:
        return []
    first = ranked[0]
    others = [
        next((row for row in ranked if row.one), None),
        next((row for row in ranked if row.form == FILE), None),
    ]
    text: list[Span] = [f"{what}: ", *told(first, True), f", {figure(first)}"]
    for row, kind in zip(others, ("of the runs", "of whole files"), strict=True):
        if row and row is not first:
            text += [f"; {kind} ", *told(row, False), f", {figure(row)}"]
    return text


def told(row: Kept, strong: bool) -> list[Span]:
    """`cnn (8 bits, 32 bytes)`."""
    size = f" ({row.form}, {row.bytes:,.0f} bytes)"
    if row.one is None:
        return [Strong(row.name) if strong else row.name, size]
    return [Run(row.name, row.one.card, strong), size]
