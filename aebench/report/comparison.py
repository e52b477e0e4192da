"""The figures of one revision against those of others: what is better, what worse, and the rest."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple

from aebench.errors import AebenchError
from aebench.evaluation.uncertainty import LEAST, Interval, difference, holm, over_seeds, p_value
from aebench.report.across import across
from aebench.report.baselines import EXACT
from aebench.report.configurations import Configuration
from aebench.report.document import (
    Block,
    BulletList,
    Cell,
    Code,
    Document,
    Format,
    Header,
    Note,
    Paragraph,
    Section,
    Strong,
    Table,
)
from aebench.report.measures import further
from aebench.report.sides import Differences, Pair, Side, about, hidden
from aebench.report.tables import exact
from aebench.report.texts import counted, named
from aebench.report.ties import mean
from aebench.report.times import digits, machine_of, mark

NAMED = 6
OF_TIMES = (
    "Of one machine, while no other process had its cores; ± 95 % over the seeds. How much a "
    "machine varies from day to day is not known: no verdict."
)


class Verdict(StrEnum):
    """Of a figure, as its cell has it."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "same"
    UNTOLD = "not told apart"


class Measure(NamedTuple):
    """A figure that is compared, and how it is written."""

    column: str
    title: str
    written: Format
    unit: str  # of differences
    difference: Format
    sign: int  # 1: more is better


# z: no -0.0
FIRST = (
    Measure("accuracy", "Accuracy, %", Format("{:.2f}", 100), "points", Format("{:+z.2f}", 100), 1),
    Measure("mse", "MSE", Format("{:.5f}"), "%", Format("{:+z.1f}", 100), -1),
)


def measures_of(sides: Sequence[Side]) -> list[Measure]:
    """Accuracy, MSE and the further metrics that any has, whose differences are absolute."""
    found = further([one for side in sides for one in side.configurations])
    return [
        *FIRST,
        *(Measure(m.column, m.title, m.written, "", m.difference, m.sign) for m in found),
    ]


class Time(NamedTuple):
    """A time that is compared: its column, what it is of, and how it is written."""

    column: str
    kind: str
    name: str
    unit: str
    factor: float = 1


TIMES = (
    Time("epoch_seconds", "epoch", "epoch", "s"),
    Time("query_seconds", "knn", "search of a query", "ms", 1e3),
)


@dataclass(eq=False)
class Figure:
    """A figure that both of a pair have. The verdict is that of `judge`."""

    pair: Pair
    measure: Measure
    verdict: Verdict = Verdict.UNTOLD

    @cached_property
    def is_same(self) -> bool:
        """Bit for bit."""
        return self.pair.is_same(self.measure.column)

    @property
    def p_value(self) -> float:
        """Two-sided, of equal means."""
        column = self.measure.column
        return p_value(self.pair.new.images[column], self.pair.old.images[column])

    @cached_property
    def difference(self) -> Interval:
        """New - old."""
        column = self.measure.column
        return difference(self.pair.new.images[column], self.pair.old.images[column])

    def cell(self, one: Configuration) -> Cell:
        """The figure of one of the pair."""
        column = self.measure.column
        return Cell(mean(one, column), self.measure.written, text=exact(one, column))

    @property
    def difference_cell(self) -> Cell:
        """With its interval; blank of what is the same."""
        if self.is_same:
            return Cell()
        if self.measure.column != "mse":
            return Cell(self.difference, self.measure.difference)
        old = mean(self.pair.old, "mse")
        if old < EXACT:
            return Cell(self.difference, Format("{:+.1e}"), after=[" absolute"])
        written = self.measure.difference._replace(factor=100 / old)
        return Cell(self.difference, written)

    @property
    def verdict_cell(self) -> Cell:
        """In bold where something follows from it."""
        worse = self.verdict is Verdict.WORSE
        told = worse or self.verdict is Verdict.BETTER
        after = [", of one seed"] if told and self.pair.has_one_seed else []
        return Cell(str(self.verdict), strong=told, after=after, tone="bad" if worse else "")

    @property
    def name(self) -> str:
        """`accuracy of mlp`."""
        what = self.measure.title if self.measure.column != "accuracy" else "accuracy"
        return f"{what} of {self.pair.name}"


def judge(figures: Sequence[Figure]) -> None:
    """Give each its verdict, with Holm's correction over those that are not the same."""
    tested = [figure for figure in figures if not figure.is_same]
    adjusted = holm([figure.p_value for figure in tested])
    for figure in figures:
        figure.verdict = Verdict.SAME
    for figure, p in zip(tested, adjusted, strict=True):
        gain = figure.difference.mean * figure.measure.sign
        told = Verdict.BETTER if gain > 0 else Verdict.WORSE
        figure.verdict = told if p < LEAST else Verdict.UNTOLD


class Comparison(Differences):
    """Two sides with results of the same images."""

    def __init__(self, old: Side, new: Side, measures: Sequence[Measure]) -> None:
        super().__init__(old, new)
        self.figures = [
            Figure(pair, measure)
            for pair in self.pairs
            if pair.is_compared
            for measure in measures
            if measure.column in pair.columns
        ]

    def of(self, measure: Measure) -> list[Figure]:
        """The figures of this kind, of pairs that are not the same altogether."""
        return [f for f in self.figures if f.measure is measure and not f.pair.is_all_the_same]

    @property
    def times(self) -> list[Section]:
        """Those of one machine that had its cores, and why others are not there."""
        rows, left_out = [], dict[str, list[str]]()
        for time in TIMES:
            found: dict[str, tuple[Interval, Interval]] = {}
            for pair in self.pairs:
                match times_of(pair, time):
                    case str(why):
                        left_out.setdefault(f"{time.name}: {why}", []).append(pair.name)
                    case Interval() as old, Interval() as new:
                        found[pair.name] = old, new
            means = [one.mean * time.factor for both in found.values() for one in both]
            written = Format(digits(means), time.factor)
            rows += [
                [
                    Cell(name),
                    Cell(f"{time.name}, {time.unit}"),
                    *(Cell(one, written) for one in (old, new)),
                    Cell(new.mean / old.mean if old.mean else None, Format("{:.2f}")),
                ]
                for name, (old, new) in found.items()
            ]
        headers = [
            Header("run", is_text=True),
            Header("time", is_text=True),
            Header(self.old.name),
            Header(self.new.name),
            Header("new / old"),
        ]
        blocks: list[Block] = [Table(headers, rows), Note(OF_TIMES)] if rows else []
        said = [f"{why} ({named(names, NAMED)})" for why, names in left_out.items()]
        blocks += [Paragraph(f"Not compared: {'; '.join(said)}.")] if said else []
        return [Section("Times", blocks)] if blocks else []


def times_of(pair: Pair, time: Time) -> tuple[Interval, Interval] | str | None:
    """Old and new; why they are not to be had; None where nothing was timed, or nothing anew."""
    old, new = (
        [r.columns for r in one.ok if r.columns.get(time.column) is not None]
        for one in (pair.old, pair.new)
    )
    was, now = ({row[time.column] for row in rows} for rows in (old, new))
    if not pair.is_compared or was <= now or now <= was:  # what is cached was measured once
        return None
    fair = [
        [row for row in rows if mark(row, time.column, time.kind) is None] for rows in (old, new)
    ]
    if not all(fair):
        marks = {mark(row, time.column, time.kind) for row in [*old, *new]}
        return "others had the cores" if "contended" in marks else "resumed after a kill"
    machines = [[machine_of(row, time.kind) for row in rows] for rows in fair]
    common = [machine for machine in dict.fromkeys(machines[0]) if machine in machines[1]]
    if not common:
        return "another machine, or another number of threads"
    best = max(common, key=lambda machine: sum(found.count(machine) for found in machines))
    before, after = (
        over_seeds([row[time.column] for row in rows if machine_of(row, time.kind) == best])
        for rows in fair
    )
    return before, after


class Comparisons:
    """The first side against each of the others; or, of different images, all side by side."""

    def __init__(self, sides: Sequence[Side]) -> None:
        """AebenchError where some are of the same images and some are not, or of another kind."""
        self.sides = list(sides)
        first, *rest = sides
        check_one_kind(self.sides)
        self.are_of_one_data_set = len({side.data_hash for side in sides}) == 1
        if not self.are_of_one_data_set:
            check_distinct(self.sides)
        self.measures = measures_of(sides)
        compared = rest if self.are_of_one_data_set else []
        self.comparisons = [Comparison(first, side, self.measures) for side in compared]
        judge(self.figures)

    @property
    def figures(self) -> list[Figure]:
        """All that are compared."""
        return [figure for one in self.comparisons for figure in one.figures]

    @property
    def headline(self) -> str:
        """`HEAD -> k5: 0 better, 0 worse of 14 figures of 7 runs`."""
        first, *rest = [side.name for side in self.sides]
        better, worse = (
            sum(figure.verdict is verdict for figure in self.figures)
            for verdict in (Verdict.BETTER, Verdict.WORSE)
        )
        runs = {name for figure in self.figures for name in figure.pair.names[:1]}
        figures = counted(len(self.figures), "figure")
        return (
            f"{first} -> {named(rest)}: {better} better, {worse} worse of {figures} of "
            f"{counted(len(runs), 'run')}"
        )

    @property
    def worse(self) -> list[str]:
        """What a gate does not let pass; with it, that nothing was compared."""
        figures = [figure.name for figure in self.figures if figure.verdict is Verdict.WORSE]
        failing = [name for one in self.comparisons for name in one.failing]
        missing = [name for one in self.comparisons for name in one.missing]
        found = {
            f"{len(figures)} worse": figures,
            "failed now": failing,
            "without a result now": missing,
        }
        said = [f"{words}: {named(names, NAMED)}" for words, names in found.items() if names]
        if not self.are_of_one_data_set:
            said.append("no figure was compared, as the results are of different data")
        elif not self.figures:
            said.append("no figure was compared, as no run has a result in both")
        return said

    @property
    def document(self) -> Document:
        """All that there is to read."""
        data = self.sides[0].results.data
        found = self.of_one_data_set if self.are_of_one_data_set else across(self.sides)
        return replace(found, title=f"{data.kind}: {found.title}") if data.holdout else found

    @property
    def of_one_data_set(self) -> Document:
        """The first side against each of the others."""
        before, several = hidden(self.sides[0]), len(self.comparisons) > 1
        blocks: list[Block] = [BulletList(before)] if before and several else []
        for one in self.comparisons:
            blocks += [Paragraph([Strong(one.new.name)])] if several else []
            blocks.append(BulletList(one.bullets + ([] if several else before)))
        sections = [section for measure in self.measures for section in self.of(measure)]
        with_table = [found for found in sections if isinstance(found.blocks[0], Table)]
        if with_table:
            with_table[-1].blocks.extend(self.notes)
        for one in self.comparisons:
            sections += [
                replace(section, title=f"Times: {one.new.name}") if several else section
                for section in one.times
            ]
        return Document(self.headline, blocks, sections, about(self.sides))

    def of(self, measure: Measure) -> list[Section]:
        """The table of a figure; none where all runs are the same."""
        found = [figure for one in self.comparisons for figure in one.of(measure)]
        if not found:
            return []
        if all(figure.is_same for figure in found):
            runs = named(list(dict.fromkeys(figure.pair.name for figure in found)), NAMED)
            return [Section(measure.title, [Paragraph(f"The same bit for bit: {runs}.")])]
        table = self.wide(measure) if self.comparisons[1:] else self.narrow(measure, found)
        return [Section(measure.title, [table])]

    def narrow(self, measure: Measure, found: Sequence[Figure]) -> Table:
        """Of one comparison: old, new, difference and verdict."""
        old, new = self.sides
        headers = [
            Header("run", is_text=True),
            Header("seeds"),
            Header(old.name),
            Header(new.name),
            Header(", ".join(filter(None, ("difference", measure.unit)))),
            Header("verdict", is_text=True),
        ]
        cells = [
            [
                Cell(figure.pair.name),
                seeds(figure.pair),
                figure.cell(figure.pair.old),
                figure.cell(figure.pair.new),
                figure.difference_cell,
                figure.verdict_cell,
            ]
            for figure in found
        ]
        return Table(headers, cells)

    def wide(self, measure: Measure) -> Table:
        """Of several: the first side's figures, and the others' differences from them."""
        first, *rest = self.sides
        by_run = [
            {
                name: figure
                for figure in one.figures
                if figure.measure is measure
                for name in figure.pair.names
            }
            for one in self.comparisons
        ]
        rows: dict[tuple[Figure | None, ...], list[str]] = {}
        for name in first.results.runs:
            found = tuple(figures.get(name) for figures in by_run)
            if any(figure and not figure.is_same for figure in found):
                rows.setdefault(found, []).append(name)
        headers = [Header("run", is_text=True), Header(first.name)]
        headers += [Header(", ".join(filter(None, (side.name, measure.unit)))) for side in rest]
        cells = []
        for found, names in rows.items():
            pairs = [figure.pair for figure in found if figure]
            labels = any(one.saw_labels for pair in pairs for one in (pair.old, pair.new))
            cells.append(
                [
                    Cell(named(names, 4) + " (saw labels)" * labels),
                    next(figure.cell(figure.pair.old) for figure in found if figure),
                    *(told(figure) if figure else Cell() for figure in found),
                ]
            )
        return Table(headers, cells)

    @property
    def notes(self) -> list[Block]:
        """How verdicts come about, and what they leave out."""
        tested = [figure for figure in self.figures if not figure.is_same]
        alone = list(dict.fromkeys(f.pair.name for f in tested if f.pair.has_one_seed))
        luck: list[Block] = [
            Paragraph(
                [
                    f"Of one seed ({named(alone, NAMED)}) the test knows the images alone, and not "
                    "what another seed would change. More seeds tell: ",
                    Code("dvc exp run -S 'seeds=[0,1,2]'"),
                ]
            )
        ]
        words = (
            "Difference: new - old on the same test images, of the MSE in % of the old one, with "
            "its own 95 % interval. Verdict: same (bit for bit), or by the p at which the "
            "interval, paired over the test images, ends at 0; seeds are independent samples, and "
            "each side has all of its own; 5 %, Holm's correction over "
            f"all figures that are not the same bit for bit, {len(tested):,}."
        )
        return [*(luck if alone else []), Note(words)]


def told(figure: Figure) -> Cell:
    """The difference with a verdict that says something."""
    if figure.is_same:
        return Cell(0.0, text="same")
    verdict = figure.verdict_cell
    found = figure.difference_cell
    if figure.verdict is Verdict.UNTOLD:
        return found
    after = [*found.after, " ", Strong(str(figure.verdict)), *verdict.after]
    return replace(found, after=after, tone=verdict.tone)


def seeds(pair: Pair) -> Cell:
    """`3`, or `3 -> 1`: how many of each side there are; `any` where they change nothing."""
    old, new = (
        "any" if len(one.outcomes) == 1 and (one.ok[1:] or one.is_seedless) else str(len(one.ok))
        for one in (pair.old, pair.new)
    )
    return Cell(old if old == new else f"{old} -> {new}")


def check_one_kind(sides: Sequence[Side]) -> None:
    """AebenchError where some are of the test set and others of a holdout, or of another one."""
    first, *rest = sides
    for side in rest:
        if (own := side.results.data.kind) != (kind := first.results.data.kind):
            raise AebenchError(
                f"not comparable: {first.name} is of {kind}, {side.name} is of {own}; give "
                "revisions with one `holdout` in their params.yaml"
            )


def check_distinct(sides: Sequence[Side]) -> None:
    """AebenchError where two of several data sets are the same."""
    seen: dict[str, Side] = {}
    for side in sides:
        other = seen.setdefault(side.data_hash, side)
        if other is not side:
            raise AebenchError(
                f"{other.name} and {side.name} are both of {side.results.data.dataset}, and others "
                "are not; give revisions of one data set, or one of each"
            )
