"""Times that may be compared, and what searching costs."""

import math
from collections import Counter
from collections.abc import Callable, Sequence

from aebench.baselines import is_pixels, same_search
from aebench.results import STAGES, TIMED, Point, Row
from aebench.tables import ACCURACY, LATENT, RUN, Cell, Column, estimate, number, table
from aebench.uncertainty import holm, over_seeds, p_value

STAGE_OF = dict(zip(TIMED, STAGES, strict=True))


class Times:
    """The times of a report: those of one machine, taken while it had its cores."""

    def __init__(self, rows: Sequence[Row]) -> None:
        """`machines`: per kind of time, that of most rows first; its times alone are compared.

        A stage has its own number of threads. The first ones are of one processor, that of most.
        """
        self.rows = [row for row in rows if row["status"] == "ok"]
        texts = {kind: [row[f"{kind}_machine"] for row in self.rows] for kind in TIMED}
        count = Counter(processor(text) for kind in TIMED for text in texts[kind])
        self.machines = {
            kind: sorted(
                set(found), key=lambda m: (-count[processor(m)], processor(m), -found.count(m), m)
            )
            for kind, found in texts.items()
        }

    def letter(self, kind: str, machine: str) -> str:
        """` (A)`, ` (B)`, ...: the machine in a cell."""
        return f" ({chr(ord('A') + self.machines[kind].index(machine))})"

    def clean(self, row: Row, column: str, kind: str, machine: str | None = None) -> bool:
        """Whether the row has this time, not contended, from this machine or the compared one."""
        return (
            row.get(column) is not None
            and row[f"{kind}_machine"] == (machine or self.machines[kind][0])
            and not is_contended(row, column, kind)
        )

    def cell(self, column: str, kind: str, pattern: str, factor: float = 1) -> Cell:
        """A time with its interval; of another machine with its letter, contended ones so named."""

        def text(point: Point) -> str:
            values = point.values(column)
            for machine in self.machines[kind]:
                if rows := [r for r in point.ok if self.clean(r, column, kind, machine)]:
                    found = over_seeds([row[column] for row in rows])
                    shown = estimate(found, pattern, factor, "{:,.2g}")
                    if kind == "epoch":
                        shown += epochs(rows)
                    if len(rows) < len(values):
                        shown += f" (n = {len(rows)})"
                    first = machine == self.machines[kind][0]
                    return shown + ("" if first else self.letter(kind, machine))
            if not values:
                return ""
            return f"{pattern.format(over_seeds(values).mean * factor)} contended"

        return text

    @property
    def epoch(self) -> Column:
        """The time of an epoch."""
        return Column(
            "epoch, s",
            self.cell("epoch_seconds", "epoch", "{:.3g}"),
            "optimizer loop alone, median over epochs without the first; ± 95 % over seeds; MAD: "
            "of one seed, the median absolute deviation of its epochs; `*` a single epoch; blank "
            "without gradient training",
        )

    def notes(self) -> str:
        """Which machines, and which timings to take again; empty without either."""
        lines = []
        for kind, machines in self.machines.items():
            if machines[1:]:
                named = "; ".join(f"{machine}{self.letter(kind, machine)}" for machine in machines)
                lines.append(
                    f"Times of {STAGE_OF[kind]} are of several machines: {named}. Those without a "
                    "letter are of (A), and no time is compared with one of another."
                )
        contended = [
            (kind, row)
            for row in self.rows
            for kind in TIMED
            if row[f"{kind}_contended"] or (kind == "epoch" and row["train_contended"])
        ]
        if contended:
            lines.append(
                f"Contended: {len(contended)} timings were taken while other processes had the "
                "cores. They are in no comparison. Take them again on an idle machine (nothing "
                "else changes):"
            )
            again = " ".join(
                f"{STAGE_OF[kind]}@{row['run']}-{row['seed']}" for kind, row in contended
            )
            lines.append(f"```sh\ndvc repro -s -f {again} && dvc repro\n```")
            share, name = max(
                (row[f"{kind}_waited_share"] or 0, f"{STAGE_OF[kind]}@{row['run']}-{row['seed']}")
                for kind, row in contended
            )
            if share:
                lines.append(
                    f"The worst is {name}, which waited for a core in {share:.0%} of the time in "
                    "which it could have computed."
                )
        if any(row["knn_contended"] is None for row in self.rows):
            lines.append("Whether a process got its cores is known on Linux alone: not marked.")
        return "\n\n".join(lines)


def epochs(rows: Sequence[Row]) -> str:
    """What is added to the time of an epoch: a star for a single one, of one seed their spread."""
    if rows[0]["epochs_timed"] == 1:
        return "*"
    return "" if rows[1:] else f" (MAD {rows[0]['epoch_seconds_mad']:.1g})"


def processor(machine: str) -> str:
    """What the stages of one machine have in common: its processor and cores."""
    return machine.split(" cores")[0]


def is_contended(row: Row, column: str, kind: str) -> bool:
    """Whether others had the cores. The whole training has its own mark."""
    return bool(row["train_contended" if column == "train_seconds" else f"{kind}_contended"])


class SearchCost:
    """Encode and search, against searching the raw pixels."""

    def __init__(self, points: Sequence[Point], times: Times, num_train: int) -> None:
        self.points = points
        self.times = times
        self.num_train = num_train

    def pixels(self, point: Point) -> Point | None:
        """Raw pixels, searched alike."""
        return next(
            (
                p
                for p in self.points
                if is_pixels(p)
                and same_search(p, point)
                and p.settings["knn.backend"] == point.settings["knn.backend"]
            ),
            None,
        )

    def timed(self, point: Point) -> list[Row]:
        """The seeds whose times of encoding and searching may be compared."""
        return [
            row
            for row in point.ok
            if self.times.clean(row, "query_seconds", "knn")
            and self.times.clean(row, "encode_images_per_second", "encode")
        ]

    def query_seconds(self, point: Point) -> list[float]:
        """Per seed: encoding one image and searching its code; for pixels the search alone."""
        encoding = 0 if is_pixels(point) else 1
        return [
            row["query_seconds"] + encoding / row["encode_images_per_second"]
            for row in self.timed(point)
        ]

    def raw_seconds(self, point: Point) -> float | None:
        """A query of the same search on raw pixels; None without it or for pixels themselves."""
        pixels = self.pixels(point)
        found = [] if pixels is None or is_pixels(point) else self.query_seconds(pixels)
        return over_seeds(found).mean if found else None

    def speeds(self, point: Point) -> list[float]:
        """Per seed: how many times less a query takes than on raw pixels."""
        raw = self.raw_seconds(point)
        return [raw / own for own in self.query_seconds(point)] if raw else []

    def break_evens(self, point: Point, training: bool) -> list[float]:
        """Per seed: queries from which encoding the bank, and training, is paid back.

        Infinite where a query saves nothing.
        """
        raw = self.raw_seconds(point)
        found = []
        for row in self.timed(point) if raw else []:
            if training and not self.times.clean(row, "train_seconds", "epoch"):
                continue
            rate = row["encode_images_per_second"]
            before = self.num_train / rate + (row["train_seconds"] if training else 0)
            saved = (raw or 0) - row["query_seconds"] - 1 / rate
            found.append(math.ceil(before / saved) if saved > 0 else math.inf)
        return found


def search(points: Sequence[Point], times: Times, num_train: int) -> str:
    """kNN on codes against kNN on raw pixels, for every point."""
    cost = SearchCost(points, times, num_train)

    def per_seed(values: Callable[[Point], list[float]], pattern: str, factor: float = 1) -> Cell:
        def text(point: Point) -> str:
            found = values(point)
            return estimate(over_seeds(found), pattern, factor, "{:,.2g}") if found else ""

        return text

    def break_even(training: bool) -> Cell:
        def text(point: Point) -> str:
            found = cost.break_evens(point, training)
            if not found:
                return ""
            return "never" if math.inf in found else estimate(over_seeds(found), "{:,.0f}")

        return text

    columns = [
        RUN,
        LATENT,
        Column("bytes", number("code_bytes", "{:,.0f}"), "one code, float32"),
        Column("compression", number("compression", "{:.2f}"), "bytes of the uint8 image / bytes"),
        Column("bank, MB", number("bank_bytes", "{:,.2f}", 1e-6), "all training codes in memory"),
        Column(
            "search, s",
            times.cell("knn_seconds", "knn", "{:.3f}"),
            "all test codes against all training codes: index, search, exact ranking",
        ),
        Column(
            "encode, images/s",
            times.cell("encode_images_per_second", "encode", "{:,.0f}"),
            "encoder alone, batches of 500",
        ),
        Column(
            "a query, ms",
            per_seed(cost.query_seconds, "{:.3f}", 1e3),
            "of all test images at once: encoding one and its share of the search; ± over seeds",
        ),
        Column(
            "x pixels",
            per_seed(cost.speeds, "{:.1f}"),
            "that of the same search on raw pixels / that of the codes",
        ),
        Column(
            "pays from",
            break_even(False),
            "queries from which encoding the training images once is paid back",
        ),
        Column("with training", break_even(True), "the same, training included"),
        ACCURACY,
    ]
    head = "What it costs to search the codes, beside searching the pixels themselves."
    text = f"## kNN on codes against raw pixels\n\n{head} {claim(points, cost)}".rstrip()
    return f"{text}\n\n{table(columns, points)}"


def claim(points: Sequence[Point], cost: SearchCost) -> str:
    """In words: the cheapest codes that are right more often than raw pixels."""
    candidates: list[tuple[Point, Point, float]] = []
    for point in points:
        pixels, speeds = cost.pixels(point), cost.speeds(point)
        if pixels is None or not pixels.ok or not speeds:
            continue
        own, raw = point.per_image("accuracy"), pixels.per_image("accuracy")
        if own.mean() > raw.mean():
            candidates.append((point, pixels, p_value(own, raw)))
    adjusted = holm([p for _, _, p in candidates])
    told = [c[:2] for c, p in zip(candidates, adjusted, strict=True) if p < 0.05]
    if not told:
        return ""
    point, pixels = max(told, key=lambda found: over_seeds(cost.speeds(found[0])).mean)
    speed = over_seeds(cost.speeds(point)).mean
    accuracy, raw_accuracy = (p.per_image("accuracy").mean() for p in (point, pixels))
    text = (
        f"The cheapest codes that are right more often than raw pixels (paired test): "
        f"**{point.name}**, {point.latent} floats, accuracy {100 * accuracy:.2f} % against "
        f"{100 * raw_accuracy:.2f} %"
    )
    queries, trained = (cost.break_evens(point, training) for training in (False, True))
    if math.inf in queries:
        return f"{text}; they take {1 / speed:.1f} times as long a query."
    text += (
        f"; a query takes {speed:.1f} times less, encoding included, which pays for encoding the "
        f"training images from {over_seeds(queries).mean:,.0f} queries on"
    )
    if not trained:
        return f"{text}."
    return f"{text} and for training, too, from {over_seeds(trained).mean:,.0f}."
