"""What searching the codes costs, against searching the raw pixels."""

import math
from collections.abc import Callable, Sequence
from functools import cached_property

from aebench.evaluation.uncertainty import holm, over_seeds
from aebench.report.baselines import Baselines
from aebench.report.configurations import Configuration
from aebench.report.document import Block, Cell, Format, Paragraph, Section, Span, Strong
from aebench.report.results import Columns
from aebench.report.tables import ACCURACY, LATENT, RUN, CellOf, Column, number, table
from aebench.report.ties import Ties
from aebench.report.times import Times

TITLE = "kNN on codes against raw pixels"


class SearchCosts:
    """Encode and search: seconds per query, and what they save."""

    def __init__(
        self,
        everything: Sequence[Configuration],
        baselines: Baselines,
        times: Times,
        ties: Ties,
        num_train: int,
    ) -> None:
        self.everything = everything
        self.baselines = baselines
        self.times = times
        self.ties = ties
        self.num_train = num_train

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

    def raw_seconds(self, one: Configuration) -> float | None:
        """A query of the same search on raw pixels; None without it or for pixels themselves."""
        pixels = self.baselines.pixels_of(one)
        found = [] if pixels is None or one.is_pixels else self.query_seconds(pixels)
        return over_seeds(found).mean if found else None

    def speed_ups(self, one: Configuration) -> list[float]:
        """Per seed: how many times less a query takes than on raw pixels."""
        raw = self.raw_seconds(one)
        return [raw / own for own in self.query_seconds(one)] if raw else []

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
            saved = (raw or 0) - row["query_seconds"] - 1 / rate
            found.append(math.ceil(before / saved) if saved > 0 else math.inf)
        return found

    @cached_property
    def claim(self) -> list[Span]:
        """In words: the fastest codes that are right more often than raw pixels; or nothing."""
        more = [
            (one, pixels, self.ties.p_value(one, pixels, "accuracy"))
            for one in self.everything
            if (pixels := self.baselines.pixels_of(one))
            and pixels.ok
            and self.speed_ups(one)
            and accuracy(one) > accuracy(pixels)
        ]
        adjusted = holm([p for _, _, p in more])
        told = [found[:2] for found, p in zip(more, adjusted, strict=True) if p < 0.05]
        if not told:
            return []
        one, pixels = max(told, key=lambda found: over_seeds(self.speed_ups(found[0])).mean)
        return [
            "The cheapest codes that are right more often than raw pixels (paired test): ",
            Strong(one.name),
            f", {one.latent} floats, accuracy {100 * accuracy(one):.2f} % against "
            f"{100 * accuracy(pixels):.2f} %; {self.saving(one)}.",
        ]

    def saving(self, one: Configuration) -> str:
        """What a query with these codes saves, and from when on."""
        speed = over_seeds(self.speed_ups(one)).mean
        queries, trained = (self.break_evens(one, training) for training in (False, True))
        if math.inf in queries:
            return f"they take {1 / speed:.1f} times as long a query"
        text = (
            f"a query takes {speed:.1f} times less, encoding included, which pays for encoding the "
            f"training images from {over_seeds(queries).mean:,.0f} queries on"
        )
        if not trained:
            return text
        return f"{text} and for training, too, from {over_seeds(trained).mean:,.0f}"

    @property
    def columns(self) -> list[Column]:
        """Sizes, seconds and savings."""
        return [
            Column("bytes", number("code_bytes", "{:,.0f}"), "one code, float32"),
            *([BITS] if any(one.values("code_bits") for one in self.everything) else []),
            Column(
                "compression", number("compression", "{:.2f}"), "bytes of the uint8 image / bytes"
            ),
            Column(
                "bank, MB", number("bank_bytes", "{:,.2f}", 1e-6), "all training codes in memory"
            ),
            Column(
                "search, s",
                self.times.cell("knn_seconds", "knn", "{:.3f}"),
                "all test codes against all training codes: index, search, exact ranking",
            ),
            Column(
                "encode, images/s",
                self.times.cell("encode_images_per_second", "encode", "{:,.0f}"),
                "encoder alone, batches of 500",
            ),
            Column(
                "a query, ms",
                per_seed(self.query_seconds, Format("{:.3f}", 1e3, "{:,.2g}")),
                "of all test images at once: encoding one and its share of the search; ± over "
                "seeds",
            ),
            Column(
                "speed-up",
                per_seed(self.speed_ups, Format("{:.1f}", 1, "{:,.2g}")),
                "that of the same search on raw pixels / that of the codes",
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

    @property
    def section(self) -> Section:
        """kNN on codes against kNN on raw pixels, for every configuration."""
        head = "What it costs to search the codes, beside searching the pixels themselves."
        blocks: list[Block] = [Paragraph([head, " " if self.claim else "", *self.claim])]
        blocks += table([RUN, LATENT, *self.columns, ACCURACY], self.everything)
        return Section(TITLE, [*blocks, *self.times.notes])


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
