"""What searching the codes costs, against searching the raw pixels."""

import math
from collections.abc import Callable, Sequence
from functools import cached_property

from aebench.evaluation.uncertainty import LEAST, Interval, difference, holm, of_ratio, over_seeds
from aebench.records.prepare import DataRecord
from aebench.report.baselines import Baselines
from aebench.report.configurations import Configuration, unlabelled
from aebench.report.document import (
    Block,
    Cell,
    Format,
    Paragraph,
    Run,
    Section,
    Span,
    Strong,
    Text,
)
from aebench.report.results import Columns
from aebench.report.tables import (
    BYTES,
    SHORT_ACCURACY,
    SHORT_RUN,
    CellOf,
    Column,
    number,
    table,
)
from aebench.report.texts import named
from aebench.report.ties import Ties
from aebench.report.times import Times

TITLE = "Search cost"
SPEED_UP = Format("{:.1f}")
POINTS = Format("{:+.1f}", 100)
SHOWN = "bytes", "a query, ms", "speed-up", "break-even queries"


class SearchCosts:
    """Encode and search: seconds per query, and what they save."""

    def __init__(
        self,
        everything: Sequence[Configuration],
        baselines: Baselines,
        times: Times,
        ties: Ties,
        data: DataRecord,
    ) -> None:
        self.everything = everything
        self.baselines = baselines
        self.times = times
        self.ties = ties
        self.num_train = data.num_train
        channels, height, width = data.shape
        self.image_bytes = channels * height * width  # uint8

    def timed(self, one: Configuration) -> list[Columns]:
        """The seeds whose times of encoding and searching may be compared."""
        return [
            result.columns
            for result in one.ok
            if self.times.clean(result.columns, "query_seconds", "knn")
            and self.times.clean(result.columns, "encode_images_per_second", "encode")
        ]

    def query_seconds(self, one: Configuration) -> list[float]:
        """Per seed: encoding one image and searching its code; for pixels the search alone."""
        encoding = 0 if one.is_pixels else 1
        return [
            row["query_seconds"] + encoding / row["encode_images_per_second"]
            for row in self.timed(one)
        ]

    def raw_seconds(self, one: Configuration) -> list[float]:
        """Queries of the same search on raw pixels; none for pixels themselves."""
        pixels = self.baselines.pixels_of(one)
        return [] if pixels is None or one.is_pixels else self.query_seconds(pixels)

    def speed_up(self, one: Configuration) -> Interval | None:
        """How many times less a query takes than on raw pixels, over the seeds of both."""
        raw, own = self.raw_seconds(one), self.query_seconds(one)
        return of_ratio(raw, own) if raw and own else None

    def query(self, one: Configuration) -> Cell:
        """The time of a query, ms; that it is contended where no seed has another."""
        if not self.timed(one) and any(
            row.columns.get("knn_contended") or row.columns.get("encode_contended")
            for row in one.ok
        ):
            return Cell(text="contended")
        return per_seed(self.query_seconds, Format("{:.3f}", 1e3))(one)

    def break_evens(self, one: Configuration, training: bool) -> list[float]:
        """Per seed: queries from which encoding the bank, and training, is paid back.

        Infinite where a query saves nothing.
        """
        raw = self.raw_seconds(one)
        found = []
        for row in self.timed(one) if raw else []:
            if training and not self.times.clean(row, "train_seconds", "epoch"):
                continue
            rate = row["encode_images_per_second"]
            before = self.num_train / rate + (row["train_seconds"] if training else 0)
            saved = over_seeds(raw).mean - row["query_seconds"] - 1 / rate
            found.append(math.ceil(before / saved) if saved > 0 else math.inf)
        return found

    @cached_property
    def better(self) -> list[Configuration]:
        """The codes that are right more often than raw pixels, told by paired tests (Holm).

        Without those that saw labels, if there are others.
        """
        more = [
            (one, self.ties.p_value(one, pixels, "accuracy"))
            for one in self.everything
            if (pixels := self.baselines.pixels_of(one))
            and pixels.ok
            and one.ok
            and one is not pixels
            and accuracy(one) > accuracy(pixels)
        ]
        adjusted = holm([p for _, p in more])
        return unlabelled([one for (one, _), p in zip(more, adjusted, strict=True) if p < LEAST])

    @property
    def claims(self) -> list[Text]:
        """In words: the smallest and the fastest codes that are right more often than pixels."""
        if not self.better:
            return []
        smallest = min(self.better, key=lambda one: (one.mean("code_bytes"), -accuracy(one)))
        pixels = self.baselines.pixels_of(smallest)
        assert pixels is not None
        more = difference(smallest.images["accuracy"], pixels.images["accuracy"])
        by_bytes: Text = [
            Strong("By bytes"),
            ": ",
            Run(smallest.name, smallest.card, strong=True),
            f" is the smallest code that is right more often than raw pixels (paired test): "
            f"{smallest.mean('code_bytes'):,.0f} bytes instead of {self.image_bytes:,}, accuracy "
            f"{100 * accuracy(smallest):.1f} % against {100 * accuracy(pixels):.1f} %, "
            f"{POINTS.written(more)} points.",
        ]
        return [by_bytes, *self.claims_by_time]

    @property
    def claims_by_time(self) -> list[Text]:
        """Which of the better codes is found fastest, where seeds say how sure that is."""
        timed = {one: found for one in self.better if (found := self.speed_up(one))}
        if not timed:
            return []
        fastest = max(timed, key=lambda one: timed[one].mean)
        found = timed[fastest]
        head: list[Span] = [Strong("By time"), ": ", Run(fastest.name, fastest.card, strong=True)]
        said = f", {SPEED_UP.written(found)} times as fast as raw pixels, encoding included"
        if found.below is None:
            once = "raw pixels" if len(self.raw_seconds(fastest)) == 1 else "its codes"
            return [[*head, f"{said}; {once} were timed once: how sure that is, is not known."]]
        if found.high < 1:
            return [[*head, f"{said}: none of them is found faster."]]
        if found.low <= 1:
            return [[*head, f"{said}: not told from 1."]]
        alike = [one.name for one in timed if one is not fastest and timed[one].high >= found.low]
        tied = f"; not told from it: {named(alike, 4)}" if alike else ""
        return [[*head, f"{said}{tied}. {self.saving(fastest)}."]]

    def saving(self, one: Configuration) -> str:
        """From when on a query with these codes has paid for what was done before."""
        queries, trained = (self.break_evens(one, training) for training in (False, True))
        if math.inf in queries:
            return "Encoding the training images is never paid back"
        text = (
            "It pays for encoding the training images from "
            f"{over_seeds(queries).mean:,.0f} queries on"
        )
        if not trained:
            return text
        return f"{text} and for training, too, from {over_seeds(trained).mean:,.0f}"

    @property
    def columns(self) -> dict[str, Column]:
        """Sizes, seconds and savings, by their headers."""
        columns = [
            BYTES,
            BITS,
            Column(
                "compression", number("compression", "{:.2f}"), "bytes of the uint8 image / bytes"
            ),
            Column(
                "bank, MB", number("bank_bytes", "{:,.2f}", 1e-6), "all training codes as float32"
            ),
            Column(
                "search, s",
                self.times.cell("knn_seconds", "knn"),
                "all test codes against all training codes: index, search, exact ranking",
            ),
            Column(
                "encode, images/s",
                self.times.cell("encode_images_per_second", "encode"),
                "encoder alone, batches of 500",
            ),
            Column(
                "a query, ms",
                self.query,
                "of all test images at once: encoding one and its share of the search; ± over "
                "seeds",
            ),
            Column(
                "speed-up",
                lambda one: Cell(self.speed_up(one), SPEED_UP),
                "a query of the same search on raw pixels / one of the codes",
            ),
            Column(
                "break-even queries",
                per_seed(lambda one: self.break_evens(one, False), Format("{:,.0f}")),
                "queries from which encoding the training images once is paid back",
            ),
            Column(
                "with training",
                per_seed(lambda one: self.break_evens(one, True), Format("{:,.0f}")),
                "the same, training included",
            ),
        ]
        return {column.header: column for column in columns}

    @property
    def section(self) -> Section:
        """kNN on codes against kNN on raw pixels, for every configuration."""
        head = "What it costs to search the codes, beside searching the pixels themselves."
        columns = [self.columns[name] for name in SHOWN]
        ones = sorted(
            (one for one in self.everything if one.ok), key=lambda one: one.mean("code_bytes") or 0
        )
        blocks: list[Block] = [Paragraph(head), *map(Paragraph, self.claims)]
        blocks.append(table([SHORT_RUN, *columns, SHORT_ACCURACY], ones))
        return Section(TITLE, blocks)


def bits(one: Configuration) -> Cell:
    """`20 (2.5 bytes)`, of the seed that needs most, rounded up: no code takes more."""
    values = one.values("code_bits")
    if len(values) < max(1, len(one.ok)):  # a seed whose codes are not discrete needs all bits
        return Cell()
    most = max(values)
    tenths, of_bytes = (math.ceil(round(10 * number, 6)) / 10 for number in (most, most / 8))
    return Cell(most, text=f"{tenths:,g} ({of_bytes:,g} bytes)")


BITS = Column(
    "bits, at most",
    bits,
    "measured: log2 of how many values a discrete dimension takes, 32 for any other, summed: an "
    "upper bound of what one code needs; blank where no dimension is discrete",
)


def per_seed(values: Callable[[Configuration], list[float]], written: Format) -> CellOf:
    """A cell with the mean over the seeds; `never` where one of them is infinite."""

    def cell(one: Configuration) -> Cell:
        found = values(one)
        if not found:
            return Cell()
        return (
            Cell(math.inf, text="never") if math.inf in found else Cell(over_seeds(found), written)
        )

    return cell


def accuracy(one: Configuration) -> float:
    """The mean over seeds and images."""
    return one.intervals["accuracy"].mean
