"""Results of several data sets side by side, and the runs' mean ranks over them."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from aebench.evaluation.uncertainty import Interval, over_seeds
from aebench.report.baselines import TIMES, Baselines, over_pca
from aebench.report.configurations import Configuration
from aebench.report.document import (
    Block,
    BulletList,
    Cell,
    Document,
    Format,
    Header,
    Note,
    Paragraph,
    Section,
    Strong,
    Table,
)
from aebench.report.measures import Measure, further
from aebench.report.sides import Differences, Pair, Side, about, hidden
from aebench.report.texts import counted, named

RANKED = 5  # data sets from which on a mean rank says something


@dataclass
class Row:
    """The runs of some names, and their configuration on each side; None without a result."""

    names: list[str]
    ones: Sequence[Configuration | None]

    @property
    def saw_labels(self) -> bool:
        """Whether it did anywhere."""
        return any(one.saw_labels for one in self.ones if one)

    @property
    def name(self) -> str:
        """What was given the labels is never named without that."""
        return named(self.names, 4) + " (saw labels)" * self.saw_labels


def across(sides: Sequence[Side]) -> Document:
    """What differs beside the data, then a table a figure, with a column a data set."""
    first, *rest = sides
    rows = rows_of(sides)
    blocks: list[Block] = [
        Paragraph("Figures of different images are not tested against each other.")
    ]
    blocks += [BulletList(found)] if (found := hidden(first)) else []
    for side in rest:
        blocks += [Paragraph([Strong(f"{first.name} -> {side.name}")])]
        blocks += [BulletList(Differences(first, side).bullets)]
    baselines = [Baselines(side.configurations) for side in sides]
    accuracies = [
        [one.intervals.get("accuracy") if one else None for one in row.ones] for row in rows
    ]
    skills = [
        [
            found.skill(one, "mse") if one else None
            for found, one in zip(baselines, row.ones, strict=True)
        ]
        for row in rows
    ]
    meaning = (
        "Skill: 1 - MSE / MSE of PCA with as many floats, paired over the test images; "
        f"3.0 times: its MSE is so many times PCA's (said from {TIMES} on); blank: no result "
        "there, or PCA is exact"
    )
    sections = [
        *table("Accuracy, %", accuracy, sides, rows, accuracies),
        *table("Skill over PCA, %", over_pca, sides, rows, skills, meaning),
    ]
    for measure in further([one for side in sides for one in side.configurations]):
        sections += of_metric(measure, sides, rows)
    names = columns(sides)
    title = f"{counted(len(rows), 'run')} on {len(sides)} data sets: {named(names)}"
    return Document(title, blocks, sections, about(sides))


def of_metric(measure: Measure, sides: Sequence[Side], rows: Sequence[Row]) -> list[Section]:
    """The table of a further metric."""
    written = measure.written._replace(narrow=True)
    figures = [[one.intervals.get(measure.column) if one else None for one in r.ones] for r in rows]
    meaning = f"{measure.word}: {measure.meaning}"
    cell = partial(Cell, format=written)
    return table(measure.title, cell, sides, rows, figures, meaning, measure.sign)


def rows_of(sides: Sequence[Side]) -> list[Row]:
    """The runs by their names; several names of equal configurations everywhere are one."""
    found: dict[tuple[Configuration | None, ...], Row] = {}
    for name in dict.fromkeys(name for side in sides for name in side.results.runs):
        ones = [side.by_name.get(name) for side in sides]
        if base := next((one for one in ones if one and one.ok), None):
            # What is not measured alike does not stand beside the others.
            alike = [one and (None if Pair([], base, one).incomparable else one) for one in ones]
            found.setdefault(tuple(ones), Row([], alike)).names.append(name)
    return list(found.values())


def columns(sides: Sequence[Side]) -> list[str]:
    """The data sets; with the revision where one name is of several."""
    count = Counter(side.results.data.dataset for side in sides)
    names = [(side.results.data.dataset, side.name) for side in sides]
    return [f"{data} ({name})" if count[data] > 1 else data for data, name in names]


def table(
    title: str,
    cell: Callable[[Interval | None], Cell],
    sides: Sequence[Side],
    rows: Sequence[Row],
    figures: Sequence[Sequence[Interval | None]],
    meaning: str = "",
    sign: int = 1,
) -> list[Section]:
    """The rows that have the figure somewhere; empty without any.

    `figures`: by row and side; `sign`: 1 where more is better, else -1.
    """
    kept = [(row, found) for row, found in zip(rows, figures, strict=True) if any(found)]
    if not kept:
        return []
    ranked = [place for place, (row, found) in enumerate(kept) if all(found) and not row.saw_labels]
    means = np.array([[sign * one.mean for one in kept[place][1] if one] for place in ranked])
    with_ranks = len(sides) >= RANKED and len(ranked) > 1
    ranks = dict(zip(ranked, mean_ranks(means), strict=True)) if with_ranks else {}
    headers = [Header("run", is_text=True), *map(Header, columns(sides))]
    notes = [meaning] if meaning else []
    if ranks:
        headers.append(Header("mean rank"))
        notes.append(
            f"Mean rank: 1 is best, among the {len(ranked)} runs that have the figure on all data "
            "sets and did not see labels (J. Demšar, JMLR 7, 2006); ± 95 %, Student's t over the "
            "data sets' ranks, within what a rank can be; data sets are independent samples"
        )
    cells = [
        [
            Cell(row.name),
            *map(cell, found),
            *([Cell(ranks.get(place), Format("{:.2f}"))] if ranks else []),
        ]
        for place, (row, found) in enumerate(kept)
    ]
    blocks: list[Block] = [Table(headers, cells)]
    return [Section(title, [*blocks, *(Note(f"{words}.") for words in notes)])]


def accuracy(found: Interval | None) -> Cell:
    """In percent."""
    return Cell(found, Format("{:.2f}", 100, narrow=True))


def mean_ranks(means: np.ndarray) -> list[Interval]:
    """Of each row of `means` float64 (rows, data sets), the largest first; equal ones share theirs.

    The interval is Student's t over the data sets, within 1 and the number of rows.
    """
    above = (means[None] > means[:, None]).sum(axis=1)
    equal = (means[None] == means[:, None]).sum(axis=1)
    ranks = above + (equal + 1) / 2
    found = [over_seeds(list(row)) for row in ranks]
    return [
        Interval(
            one.mean,
            one.below and min(one.below, one.mean - 1),
            one.above and min(one.above, len(means) - one.mean),
        )
        for one in found
    ]
