"""Whether another protocol of the search, or a probe, would rank the runs in another order."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from scipy import stats

from aebench.evaluation.uncertainty import of_accuracies
from aebench.records.knn import PANEL_COLUMN
from aebench.report.configurations import Configuration, unlabelled
from aebench.report.document import (
    Block,
    Cell,
    Format,
    Header,
    Note,
    Paragraph,
    Run,
    Section,
    Span,
    Strong,
    Table,
    Text,
    spans,
)
from aebench.report.findings import Findings
from aebench.report.results import Result
from aebench.report.tables import MLP_PROBE, PROBE, RUN, filled
from aebench.report.ties import rankable

PROBES = {PROBE: "probe_accuracy", MLP_PROBE: "mlp_probe_accuracy"}
PERCENT = Format("{:.2f}", 100)
WINNERS = 4  # that are named


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
    """Those that any of the results has: the metrics in their order, each by k."""
    columns = dict.fromkeys(column for result in results for column in result.columns)
    matches = ((column, PANEL_COLUMN.fullmatch(column)) for column in columns)
    cells = [PanelCell(column, *match.groups()) for column, match in matches if match]
    metrics = [*dict.fromkeys(cell.metric for cell in cells)]
    return sorted(cells, key=lambda cell: (metrics.index(cell.metric), int(cell.k)))


TITLE = "Does the protocol decide?"


class Agreement(NamedTuple):
    """The panel beside the headline: which run has the highest accuracy in each protocol.

    Of those that may be ranked and saw no labels, if there are any; the order is that of all.
    """

    cells: dict[PanelCell, float]  # those that rank the runs -> Kendall's tau-b with the headline
    best: Configuration  # of the headline
    others: dict[Configuration, int]  # what is first, and not tied with the best -> how often
    top: tuple[Configuration, PanelCell]  # the highest accuracy of all


def agreement(found: Findings) -> Agreement | None:
    """None where there is nothing to rank."""
    shown = [one for one in found.configurations if one.ok]
    headline = [one.mean("accuracy") for one in shown]
    known = {
        cell: tau
        for cell in panel_cells([result for one in shown for result in one.ok])
        if (tau := correlation(headline, [one.mean(cell.column) for one in shown])) is not None
    }
    rivals = rankable(unlabelled(shown), "accuracy")
    group = found.ties.best(rivals, "accuracy") if len(shown) > 2 and known else []
    # Whitening is left out of codes of many floats: where none of the best has it, nobody is first.
    known = {c: tau for c, tau in known.items() if any(one.values(c.column) for one in group)}
    if not known:
        return None
    others: dict[Configuration, int] = {}
    for cell in known:
        first = highest(rivals, cell)
        if first not in group and is_above(first, highest(group, cell), cell):
            others[first] = others.get(first, 0) + 1
    tops = ((highest(rivals, cell), cell) for cell in known)
    return Agreement(
        known, group[0], others, max(tops, key=lambda top: top[0].mean(top[1].column) or 0)
    )


def highest(ones: Sequence[Configuration], cell: PanelCell) -> Configuration:
    """The most accurate one by this protocol."""
    return max(ones, key=lambda one: one.mean(cell.column) or 0)


def is_above(one: Configuration, other: Configuration, cell: PanelCell) -> bool:
    """Whether it is told to be more accurate by this protocol.

    Its outcomes of each image are not kept: as of images of their own, which errs to the safe side.
    """
    first, second = (
        of_accuracies(found.values(cell.column), len(found.outcomes[0])) for found in (one, other)
    )
    return first.mean - second.mean > math.hypot(first.below or 0, second.above or 0)


def verdict(found: Findings) -> Text:
    """In words: whether another protocol names another run; empty with nothing to rank."""
    known = agreement(found)
    if known is None:
        return ""
    cells, (top, cell) = len(known.cells), known.top
    highest_of_all: list[Span] = [
        "; the highest accuracy of the panel has ",
        Run(top.name, top.card),
        f", {100 * (top.mean(cell.column) or 0):.1f} % ({cell.words}).",
    ]
    if not known.others:
        return [
            Strong("The protocol does not decide"),
            f": in all {cells} pairs of k and metric ",
            Run(known.best.name, known.best.card),
            ", or a run that is not told from it, is first",
            *highest_of_all,
        ]
    wins: list[Span] = []
    for one, count in [*known.others.items()][:WINNERS]:
        wins += [", " if wins else "", Run(one.name, one.card), f" in {count}"]
    if len(known.others) > WINNERS:
        wins.append(f" and {len(known.others) - WINNERS} more runs")
    return [
        Strong("Which run is best depends on the protocol"),
        f": in {sum(known.others.values())} of {cells} pairs of k and metric another is told to be "
        "first (",
        *wins,
        ")",
        *highest_of_all,
    ]


def panel(found: Findings) -> list[Section]:
    """The verdict and the accuracies as a picture; empty if every run failed."""
    if not any(one.ok for one in found.configurations):
        return []
    known = agreement(found)
    words: list[Span] = [*spans(verdict(found))]
    if known:
        least = min(known.cells, key=lambda cell: known.cells[cell])
        words.append(
            f" The order of the runs agrees least with {least.words}: Kendall's tau-b "
            f"{known.cells[least]:.2f}, where 1 is the same order."
        )
    return [Section(TITLE, [Paragraph(words)] if words else [])]


def panel_table(found: Findings) -> list[Section]:
    """Accuracy at every k and metric; empty if every run failed."""
    shown = [one for one in found.configurations if one.ok]
    if not shown:
        return []
    cells = panel_cells([result for one in shown for result in one.ok])
    headline = [one.mean("accuracy") for one in shown]
    agreeing = [correlation(headline, [one.mean(cell.column) for one in shown]) for cell in cells]
    probes = {probe: PROBES[probe] for probe in filled([*PROBES], shown)}
    agreeing += [correlation(headline, [one.mean(p) for one in shown]) for p in probes.values()]
    rows = [
        [
            RUN.cell(one),
            *(Cell(one.mean(cell.column), PERCENT) for cell in cells),
            *(probe.cell(one) for probe in probes),
        ]
        for one in shown
    ]
    taus = [Cell(tau, Format("{:.2f}")) for tau in agreeing]
    rows.append([Cell("rank correlation", emphasis=True), *taus])
    headers = [Header(RUN.header, is_text=True), *(Header(cell.header) for cell in cells)]
    head = (
        "Accuracy in % for every metric and k of the panel, and of probes. The last row is "
        "Kendall's tau-b between that column's ranking of the runs and the headline's."
    )
    headers += [Header(probe.header) for probe in probes]
    blocks: list[Block] = [Paragraph(head), Table(headers, rows)]
    return [Section("Panel", [*blocks, legend(shown, cells)])]


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
            f"is wider than ± {widest:.2f}.",
        ]
    )


def correlation(one: Sequence[float | None], other: Sequence[float | None]) -> float | None:
    """Kendall's tau-b over the runs that have both; None where it is not defined."""
    pairs = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    if len({a for a, _ in pairs}) < 2 or len({b for _, b in pairs}) < 2:
        return None
    tau, _ = map(float, stats.kendalltau(*zip(*pairs, strict=True)))
    return None if math.isnan(tau) else tau
