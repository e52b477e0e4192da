"""Times that may be compared: of one machine, taken in one piece while it had its cores."""

import math
from collections import Counter
from collections.abc import Sequence

from aebench.evaluation.uncertainty import over_seeds
from aebench.report.configurations import Configuration
from aebench.report.document import Block, Cell, Code, CodeBlock, Format, Paragraph
from aebench.report.results import TIMED, Columns, Result
from aebench.report.tables import CellOf, Column
from aebench.report.texts import NAMED, named, on_one_line

STAGES = 40  # that a command names
STAGE_OF = {kind: stage for stage, kind in TIMED.items()}


class Times:
    """The times of a report."""

    def __init__(self, results: Sequence[Result]) -> None:
        """`machines`: per kind of time, that of most rows first; its times alone are compared.

        A stage has its own number of threads. The first ones are of one processor, that of most.
        """
        self.results = [result for result in results if result.ok]
        self.rows = [result.columns for result in self.results]
        texts = {kind: [machine_of(row, kind) for row in self.rows] for kind in STAGE_OF}
        count = Counter(processor(text) for found in texts.values() for text in found)
        self.machines = {
            kind: sorted(
                set(found), key=lambda m: (-count[processor(m)], processor(m), -found.count(m), m)
            )
            for kind, found in texts.items()
        }

    def letter(self, kind: str, machine: str) -> str:
        """` (A)`, ` (B)`, ...: the machine in a cell."""
        index = self.machines[kind].index(machine)
        return f" ({chr(ord('A') + index) if index < 26 else index + 1})"

    def clean(self, row: Columns, column: str, kind: str, machine: str | None = None) -> bool:
        """Whether the row has this time, without a mark, from this machine or the compared one."""
        return (
            row.get(column) is not None
            and machine_of(row, kind) == (machine or self.machines[kind][0])
            and mark(row, column, kind) is None
        )

    def cell(self, column: str, kind: str, narrow: bool = False) -> CellOf:
        """A time with its interval; of another machine with its letter, marked ones with the mark.

        All with as many decimals, which the smallest of them asks for. `narrow`: without interval.
        """
        written = Format(digits([row[column] for row in self.rows if row.get(column)]))

        def cell(one: Configuration) -> Cell:
            values = one.values(column)
            for machine in self.machines[kind]:
                rows = [r.columns for r in one.ok if self.clean(r.columns, column, kind, machine)]
                if rows:
                    found = over_seeds([r[column] for r in rows])
                    first = machine == self.machines[kind][0]
                    letter = [] if first else [self.letter(kind, machine)]
                    if narrow:
                        return Cell(found.mean, written, after=letter)
                    after = [spread_of_epochs(rows, written)] if column == "epoch_seconds" else []
                    after += [f" (n = {len(rows)})"] if len(rows) < len(values) else []
                    return Cell(found, written, after=[*after, *letter])
            if not values:
                return Cell()
            mean = over_seeds(values).mean
            marks = [mark(result.columns, column, kind) for result in one.ok]
            word = next(filter(None, marks))
            if narrow:
                return Cell(mean, text=word)
            return Cell(mean, written, after=[f" {word}"])

        return cell

    @property
    def epoch(self) -> Column:
        """The time of an epoch."""
        return Column(
            "epoch, s",
            self.cell("epoch_seconds", "epoch"),
            [
                "optimizer loop alone, median over epochs without the first; ± 95 % over seeds; "
                "MAD: of one seed, the median absolute deviation of its epochs; ",
                Code("*"),
                " a single epoch; blank without gradient training",
            ],
        )

    @property
    def short_epoch(self) -> Column:
        """The same without its spread."""
        return self.epoch._replace(cell=self.cell("epoch_seconds", "epoch", narrow=True))

    @property
    def training(self) -> Column:
        """The time of the whole training."""
        return Column(
            "training, s",
            self.cell("train_seconds", "epoch"),
            "the whole of it: a fit, every epoch",
        )

    @property
    def short_training(self) -> Column:
        """The same without its spread."""
        return self.training._replace(cell=self.cell("train_seconds", "epoch", narrow=True))

    @property
    def notes(self) -> list[Block]:
        """Which machines, and which timings to take again; empty without either."""
        blocks: list[Block] = []
        for kind, machines in self.machines.items():
            if machines[1:]:
                letters = [f"{machine}{self.letter(kind, machine)}" for machine in machines]
                text = (
                    f"Times of {STAGE_OF[kind]} were not all taken alike: "
                    f"{named(letters, between='; ')}. Those without a "
                    "letter are of (A), and no time is compared with one of another."
                )
                blocks.append(Paragraph(text))
        if contended := [
            (kind, result)
            for result in self.results
            for kind in STAGE_OF
            if result.columns.get(f"{kind}_contended")
            or (kind == "epoch" and result.columns.get("train_contended"))
        ]:
            blocks += take_again(contended)
        if resumed := [r.original for r in self.results if r.columns.get("resumed")]:
            text = (
                f"Resumed after a kill: the {'training' if len(resumed) == 1 else 'trainings'} "
                f"{named(resumed)}. Weights are those of an undisturbed training, bit for bit; "
                "times are the sums of several parts, and in no comparison."
            )
            blocks.append(Paragraph(text))
        if any(row.get("knn_contended") is None for row in self.rows):
            text = "Whether a process got its cores is known on Linux alone: not marked."
            blocks.append(Paragraph(text))
        return blocks


def take_again(contended: Sequence[tuple[str, Result]]) -> list[Block]:
    """How many timings (kind, result) are in no comparison, and the commands that repeat them."""
    stages = [f"{STAGE_OF[kind]}@{result.original}" for kind, result in contended]
    shares = [result.columns.get(f"{kind}_waited_share") or 0 for kind, result in contended]
    places: dict[str, list[str]] = {}
    for stage, (_, result) in zip(stages, contended, strict=True):
        places.setdefault(result.source, []).append(stage)
    commands = [
        (f"# in {on_one_line(source)}\n" if source else "") + again(names)
        for source, names in places.items()
    ]
    blocks: list[Block] = [
        Paragraph(
            f"Contended: {len(contended)} timings were taken while other processes had the cores. "
            "They are in no comparison. Take them again on an idle machine (nothing else changes):"
        ),
        CodeBlock("\n".join(commands), "sh"),
    ]
    share, worst = max(zip(shares, stages, strict=True))
    if share:
        text = (
            f"The worst is {worst}, which waited for a core in {share:.0%} of the time in which "
            "it could have computed."
        )
        blocks.append(Paragraph(text))
    return blocks


def again(stages: Sequence[str]) -> str:
    """The command that repeats stages; many in lines of their own, and not all at once."""
    if len(stages) <= NAMED:
        return f"dvc repro -s -f {' '.join(stages)} && dvc repro"
    lines = [" ".join(stages[i : i + 4]) for i in range(0, min(len(stages), STAGES), 4)]
    left = len(stages) - STAGES
    rest = f"  # and {left:,} more: the report then names the next ones" if left > 0 else ""
    return " \\\n    ".join(["dvc repro -s -f", *lines]) + f" && dvc repro{rest}"


def digits(values: Sequence[float]) -> str:
    """A pattern with the decimals that show three digits of the smallest value: at most five.

    What is below a hundredth of the largest value does not ask for more.
    """
    least = min((value for value in values if value > max(values) / 100), default=1)
    return f"{{:,.{min(5, max(0, 2 - math.floor(math.log10(least))))}f}}"


def spread_of_epochs(rows: Sequence[Columns], written: Format) -> str:
    """What is added to the time of an epoch: a star for a single one, of one seed their spread."""
    if rows[0].get("epochs_timed") == 1:
        return "*"
    return "" if rows[1:] else f" (MAD {written.written(rows[0]['epoch_seconds_mad'])})"


def machine_of(row: Columns, kind: str) -> str:
    """The machine, with its threads, that the stage of this time ran on."""
    return row[f"{STAGE_OF[kind]}_machine"]


def processor(machine: str) -> str:
    """What the stages of one machine have in common: its processor and cores."""
    return machine.split(" cores")[0]


def mark(row: Columns, column: str, kind: str) -> str | None:
    """Why the time is in no comparison: others had the cores, or it was taken in several parts.

    Of being contended, the whole training has its own mark.
    """
    if row.get("train_contended" if column == "train_seconds" else f"{kind}_contended"):
        return "contended"
    return "resumed" if kind == "epoch" and row.get("resumed") else None
