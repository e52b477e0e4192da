"""The report's sections on one parameter alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from aebench.report.charts import Charts
from aebench.report.configurations import Configuration, sort_key, swept, title
from aebench.report.document import Block, Cell, Header, Paragraph, Section, Table
from aebench.report.findings import Findings
from aebench.report.tables import (
    MSE_1000,
    SHORT_ACCURACY,
    SHORT_RUN,
    Column,
    of_measure,
    table,
)
from aebench.report.texts import named, short
from aebench.report.ties import verdict

STUDIES = 12  # with a section of their own
ROWS = 60  # of the table of a study
FURTHER = 2  # metrics in it, so that it has at most seven columns; the table of all runs has all
VALUE_LENGTH = 40  # of a parameter's value in a sentence

Groups = Sequence[Sequence[Configuration]]


def studies(found: Findings) -> list[Section]:
    """A section for each parameter in which runs differ alone; of many those with most runs."""
    parameters = swept(found.configurations)
    most = sorted(parameters, key=lambda name: -number_ok(parameters[name]))[:STUDIES]
    sections = [
        Section(
            title(name),
            [*study(found, name, groups), *Charts(found).sweep(name, groups)],
        )
        for name, groups in parameters.items()
        if name in most
    ]
    return sections + further({n: g for n, g in parameters.items() if n not in most})


def number_ok(groups: Groups) -> int:
    """How many did not fail."""
    return sum(bool(one.ok) for group in groups for one in group)


def study(found: Findings, name: str, groups: Groups) -> list[Block]:
    """Which of the runs that differ in one parameter alone are best, and their table."""
    ones = [one for group in groups for one in group]
    values = listed(sorted((one.settings[name] for one in ones), key=sort_key))
    beside = found.baselines.references({one.latent for one in ones}, ones)
    ties, every = found.ties, [*ones, *beside]
    accurate, by_size = ties.best(every, "accuracy"), ties.best_by_size(every)
    head = f"Runs that differ in {name} alone ({values}), then what they are held against."
    words = Paragraph([head, *verdict(accurate, ties.best_unlabelled(every), by_size)])
    lowest = [one for group in by_size for one in group]
    parameter = Column(short(name, VALUE_LENGTH), lambda one: setting(one, name))
    columns = [
        SHORT_RUN,
        parameter,
        SHORT_ACCURACY.strong(accurate),
        MSE_1000.strong(lowest),
        found.baselines.columns[0],
    ]
    for measure in found.further[:FURTHER]:
        groups_of = ties.best_by_size(every, measure.column)
        columns.append(of_measure(measure).strong([one for group in groups_of for one in group]))
    ones = [one for one in every if one.ok][:ROWS]
    left = sum(bool(one.ok) for one in every) - len(ones)
    more = [Paragraph(f"{left:,} more runs stand in the tables of all runs.")] if left else []
    return [words, table(columns, ones), *more]


def setting(one: Configuration, name: str) -> Cell:
    """The value of a parameter; blank without it."""
    value = one.settings.get(name, "")
    if type(value) in (int, float):
        return Cell(value)
    return Cell(str(value), text=short(str(value), VALUE_LENGTH))


def listed(values: Sequence[Any]) -> str:
    """The values that there are, each once; of many the first."""
    return named([short(value, VALUE_LENGTH) for value in dict.fromkeys(map(str, values))])


def further(parameters: Mapping[str, Groups]) -> list[Section]:
    """The parameters beyond those with a study of their own; empty if there are none."""
    if not parameters:
        return []
    headers = [Header(name, is_text=True) for name in ("parameter", "values")]
    cells = [
        [
            Cell(name),
            Cell(listed(sorted((one.settings[name] for one in swept), key=sort_key))),
            Cell(len(swept)),
        ]
        for name, groups in parameters.items()
        if (swept := [one for group in groups for one in group])
    ]
    words = Paragraph(
        "Runs differ in these alone, too. Their figures are in the other tables and in results.csv."
    )
    return [Section("Further parameters", [words, Table([*headers, Header("runs")], cells)])]
