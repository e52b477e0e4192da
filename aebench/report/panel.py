"""Whether another protocol of the search, or a probe, would rank the runs in another order."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from scipy import stats

from aebench.evaluation.uncertainty import of_accuracies
from aebench.records.knn import PANEL_COLUMN
from aebench.report.configurations import Configuration
from aebench.report.document import Cell, Format, Header, Note, Paragraph, Section, Strong, Table
from aebench.report.results import Result
from aebench.report.tables import PROBE, RUN
from aebench.report.texts import named
from aebench.report.ties import Ties

PERCENT = Format("{:.2f}", 100)


class PanelCell(NamedTuple):
    """One protocol: its column of results.csv, its metric and its k."""

    column: str
    metric: str
    k: str

    @property
    def header(self) -> str:
        """`whitened 10`."""
        return f"{self.metric.removesuffix('_cosine')} {self.k}"

    @property
    def words(self) -> str:
        """`whitened-cosine, k = 10`."""
        return f"{self.metric.replace('_', '-')}, k = {self.k}"


def panel_cells(results: Sequence[Result]) -> list[PanelCell]:
    """Those that any of the results has, in their order."""
    columns = dict.fromkeys(column for result in results for column in result.columns)
    matches = ((column, PANEL_COLUMN.fullmatch(column)) for column in columns)
    return [PanelCell(column, *match.groups()) for column, match in matches if match]


def panel(everything: Sequence[Configuration], ties: Ties) -> list[Section]:
    """Accuracy at every k and metric; empty if every run failed."""
    shown = [one for one in everything if one.ok]
    if not shown:
        return []
    cells = panel_cells([result for one in shown for result in one.ok])
    headline = [one.mean("accuracy") for one in shown]
    agreement = [correlation(headline, [one.mean(cell.column) for one in shown]) for cell in cells]
    of_probe = correlation(headline, [one.mean("probe_accuracy") for one in shown])
    rows = [
        [
            Cell(one.name),
            *(Cell(one.mean(cell.column), PERCENT) for cell in cells),
            PROBE.cell(one),
        ]
        for one in shown
    ]
    taus = [Cell(tau, Format("{:.2f}")) for tau in (*agreement, of_probe)]
    rows.append([Cell("rank correlation", emphasis=True), *taus])
    headers = [Header(RUN.header, is_text=True), *(Header(cell.header) for cell in cells)]
    head = (
        "Accuracy in % for every metric and k of the panel, and of a linear probe. The last row is "
        "Kendall's tau-b between that column's ranking of the runs and the headline's: 1 is the "
        "same order."
    )
    known = {cell: tau for cell, tau in zip(cells, agreement, strict=True) if tau is not None}
    return [
        Section(
            "Does the protocol decide?",
            [
                Paragraph([head, *conclusion(shown, known, ties)]),
                Table([*headers, Header(PROBE.header)], rows),
                legend(shown, cells),
            ],
        )
    ]


def legend(shown: Sequence[Configuration], cells: Sequence[PanelCell]) -> Note:
    """What the headers mean, and how sure the cells are."""
    widest = max(
        (
            100 * max(found.below or 0, found.above or 0)
            for one in shown
            for cell in cells
            if (values := one.values(cell.column))
            for found in [of_accuracies(values, len(one.outcomes[0]))]
        ),
        default=0,
    )
    return Note(
        [
            Strong("l2"),
            ": distance between codes; ",
            Strong("cosine"),
            ": after subtracting the mean of the training codes; ",
            Strong("whitened"),
            ": then scaled to equal variance in every direction (those below 1e-6 of the largest "
            "dropped); a blank k is above the number of training images. No cell's 95 % interval "
            f"is wider than ± {widest:.2f}. ",
            Strong(PROBE.header),
            f": {PROBE.meaning}.",
        ]
    )


def conclusion(
    shown: Sequence[Configuration], known: dict[PanelCell, float], ties: Ties
) -> list[str | Strong]:
    """In words: how far the panel agrees with the headline. `known`: the rank correlations."""
    group = ties.best(shown, "accuracy") if len(shown) > 2 and known else []
    if not group:
        return []
    others: dict[str, int] = {}
    for cell in known:
        top = max(shown, key=lambda one: one.mean(cell.column) or 0)
        if top not in group:
            others[top.name] = others.get(top.name, 0) + 1
    least = min(known, key=lambda cell: known[cell])
    text = (
        f" It is lowest with {least.words}: {known[least]:.2f}. {group[0].name}, or a run that is "
        "tied with it, has the highest accuracy in "
    )
    if not others:
        return [text, f"all {len(known)} cells."]
    wins = named([f"{name} in {count}" for name, count in others.items()], between="; ")
    agreeing = len(known) - sum(others.values())
    return [
        f"{text}{agreeing} of {len(known)} cells ({wins}): ",
        Strong("which run is best depends on the protocol"),
        ".",
    ]


def correlation(one: Sequence[float | None], other: Sequence[float | None]) -> float | None:
    """Kendall's tau-b over the runs that have both; None where it is not defined."""
    pairs = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    if len({a for a, _ in pairs}) < 2 or len({b for _, b in pairs}) < 2:
        return None
    tau, _ = map(float, stats.kendalltau(*zip(*pairs, strict=True)))
    return None if math.isnan(tau) else tau
