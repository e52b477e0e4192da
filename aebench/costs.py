"""Times that may be compared, and what searching costs."""

import math
from collections import Counter
from collections.abc import Sequence

from aebench.baselines import is_pixels, same_search
from aebench.results import TIMED, Point, Row
from aebench.tables import ACCURACY, LATENT, RUN, Cell, Column, best, estimate, number, table
from aebench.uncertainty import over_seeds

STAGES = dict(zip(TIMED, ("train", "encode", "knn"), strict=True))


class Times:
    """The times of a report: those of one machine, taken while it had its cores."""

    def __init__(self, rows: Sequence[Row]) -> None:
        """`machines`: the most frequent one first; its times are compared, no others."""
        self.rows = [row for row in rows if row["status"] == "ok"]
        count = Counter(row[f"{kind}_machine"] for row in self.rows for kind in TIMED)
        self.machines = [machine for machine, _ in count.most_common()]

    def letter(self, machine: str) -> str:
        """` (A)`, ` (B)`, ...: the machine in a cell."""
        return f" ({chr(ord('A') + self.machines.index(machine))})"

    def clean(self, point: Point, column: str, kind: str, machine: str) -> list[Row]:
        """The seeds that have this time from this machine, not contended."""
        return [
            row
            for row in point.ok
            if row.get(column) is not None
            and row[f"{kind}_machine"] == machine
            and not is_contended(row, column, kind)
        ]

    def mean(self, point: Point, column: str, kind: str) -> float | None:
        """The mean over the seeds whose time may be compared."""
        rows = self.clean(point, column, kind, self.machines[0]) if self.machines else []
        return over_seeds([row[column] for row in rows]).mean if rows else None

    def cell(self, column: str, kind: str, pattern: str, factor: float = 1) -> Cell:
        """A time with its interval; of another machine with its letter, contended ones so named."""

        def text(point: Point) -> str:
            values = point.values(column)
            for machine in self.machines:
                if rows := self.clean(point, column, kind, machine):
                    found = over_seeds([row[column] for row in rows])
                    shown = estimate(found, pattern, factor, "{:,.2g}")
                    if kind == "epoch":
                        shown += epochs(rows)
                    if len(rows) < len(values):
                        shown += f" (n = {len(rows)})"
                    return shown + ("" if machine is self.machines[0] else self.letter(machine))
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
            "optimizer loop alone, median over epochs without the first; ± 95 % over seeds, of one "
            "seed the median absolute deviation of its epochs; `*` a single epoch; blank without "
            "gradient training",
        )

    def notes(self) -> str:
        """Which machines, and which timings to take again; empty without either."""
        lines = []
        if len(self.machines) > 1:
            names = "; ".join(f"{m}{self.letter(m)}" for m in self.machines)
            lines.append(
                f"Times are of several machines: {names}. Those without a letter are of (A), and "
                "no time is compared with one of another."
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
                f"{STAGES[kind]}@{row['run']}-{row['seed']}" for kind, row in contended
            )
            lines.append(f"```sh\ndvc repro -s -f {again} && dvc repro\n```")
            share, name = max(
                (row[f"{kind}_waited_share"] or 0, f"{STAGES[kind]}@{row['run']}-{row['seed']}")
                for kind, row in contended
            )
            lines.append(
                f"The worst is {name}, which waited for a core in {share:.0%} of the time in which "
                "it could have computed."
            )
        if any(row["knn_contended"] is None for row in self.rows):
            lines.append("Whether a process got its cores is known on Linux alone: not marked.")
        return "\n\n".join(lines)


def epochs(rows: Sequence[Row]) -> str:
    """What is added to the time of an epoch: a star for a single one, of one seed their spread."""
    if rows[0]["epochs_timed"] == 1:
        return "*"
    return "" if rows[1:] else f" ± {rows[0]['epoch_seconds_mad']:.1g}"


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

    def query_seconds(self, point: Point) -> float | None:
        """Encoding one image and searching its code."""
        search = self.times.mean(point, "query_seconds", "knn")
        rate = self.times.mean(point, "encode_images_per_second", "encode")
        if is_pixels(point):
            return search
        return search + 1 / rate if search and rate else None

    def saved_seconds(self, point: Point) -> float | None:
        """What a query saves against raw pixels."""
        pixels = self.pixels(point)
        if pixels is None or is_pixels(point):
            return None
        raw, own = self.query_seconds(pixels), self.query_seconds(point)
        return raw - own if raw and own else None

    def speed(self, point: Point) -> float | None:
        """How many times less a query takes than on raw pixels."""
        saved, own = self.saved_seconds(point), self.query_seconds(point)
        return None if saved is None or not own else (saved + own) / own

    def break_even(self, point: Point, training: bool) -> float | None:
        """Queries from which the bank's encoding, and its training, is paid back; may be inf."""
        saved = self.saved_seconds(point)
        rate = self.times.mean(point, "encode_images_per_second", "encode")
        if saved is None or not rate:
            return None
        before = self.num_train / rate
        if training:
            trained = self.times.mean(point, "train_seconds", "epoch")
            if trained is None:
                return None
            before += trained
        return math.ceil(before / saved) if saved > 0 else math.inf


def search(points: Sequence[Point], times: Times, num_train: int) -> str:
    """kNN on codes against kNN on raw pixels, for every point."""
    cost = SearchCost(points, times, num_train)

    def per_query(point: Point) -> str:
        seconds = cost.query_seconds(point)
        return f"{1e3 * seconds:.3f}" if seconds else ""

    def speed(point: Point) -> str:
        found = cost.speed(point)
        return f"{found:.1f}" if found else ""

    def break_even(training: bool) -> Cell:
        def text(point: Point) -> str:
            found = cost.break_even(point, training)
            if found is None:
                return ""
            return "never" if math.isinf(found) else f"{found:,.0f}"

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
        Column("a query, ms", per_query, "encoding one image and searching its code"),
        Column("x pixels", speed, "that of the same search on raw pixels / that of the codes"),
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
    """In words: the cheapest codes that are searched at least as rightly as raw pixels."""
    candidates = []
    for point in points:
        pixels, speed = cost.pixels(point), cost.speed(point)
        if pixels is None or not pixels.ok or not speed or speed <= 1:
            continue
        tied = best([point, pixels], "accuracy")
        if tied[0] is point or point in tied:
            candidates.append((speed, point, pixels))
    if not candidates:
        return ""
    speed, point, pixels = max(candidates, key=lambda found: found[0])
    accuracy, raw = (100 * (p.mean("accuracy") or 0) for p in (point, pixels))
    queries = cost.break_even(point, training=False)
    trained = cost.break_even(point, training=True)
    text = (
        f"The cheapest that is no less right than raw pixels: **{point.name}**, {point.latent} "
        f"floats, {speed:.1f} times less a query with encoding included, accuracy {accuracy:.2f} % "
        f"against {raw:.2f} %; encoding the training images is paid back from {queries:,.0f} "
        "queries on"
    )
    return text + (f", training too from {trained:,.0f}." if trained else ".")
