"""All runs in one table: a short one to read, and the whole of it by question."""

from collections.abc import Sequence
from itertools import groupby

from aebench.report import measures
from aebench.report.configurations import Configuration, best_and_references, of_all
from aebench.report.document import (
    Block,
    Cell,
    Note,
    ResultsTable,
    Section,
    Table,
)
from aebench.report.findings import Findings
from aebench.report.tables import (
    ACCURACY,
    LATENT,
    LAYERS,
    MACS,
    MLP_PROBE,
    MSE,
    MSE_1000,
    PARAMS,
    PROBE,
    PSNR,
    RUN,
    SEEDS,
    SHORT_ACCURACY,
    SHORT_RUN,
    SIZE,
    STATUS,
    Column,
    filled,
    headers,
    notes,
    of_measure,
)
from aebench.report.ties import BOLD

KEEPS, COSTS, SEARCH = "what it keeps", "what it costs", "what search costs"
ROWS = 100  # of the short table


def overview(found: Findings) -> Section:
    """The section with both tables; what is to be known of the models under them."""
    every = found.configurations
    shown = best_and_references(every, ROWS) if len(every) > ROWS else every
    blocks: list[Block] = [ResultsTable(short(found, shown), whole(found))]
    words = (
        "By size of the code, 4 bytes a float; first what each size is held against. ± is an "
        f"interval of 95 %, of unlike sides the larger one. {BOLD}.{of_all(shown, every)}"
    )
    return Section("Results", [*blocks, Note(words), *notes(found.configurations)])


def short(found: Findings, shown: Sequence[Configuration]) -> Table:
    """At most seven columns, by size, each under its title."""
    skill, gain = found.baselines.columns
    columns = [SHORT_RUN, PARAMS, found.times.short_epoch, SHORT_ACCURACY, gain, MSE_1000, skill]
    columns = filled(columns, shown)
    sizes = by_size(shown)
    rows: list[list[Cell]] = []
    for title, ones in sizes.items():
        rows += [[Cell(title)]] if len(sizes) > 1 else []
        bold = in_bold(found, ones, columns)
        rows += [cells(one, bold) for one in ones]
    return Table(headers(columns), rows)


def by_size(ones: Sequence[Configuration]) -> dict[str, list[Configuration]]:
    """Title -> those of one size, the smallest first: PCA, other references, then the runs."""
    ordered = sorted(ones, key=lambda one: (size(one), not one.is_pca, not one.is_reference))
    return {title: [*group] for (_, title), group in groupby(ordered, size)}


def cells(one: Configuration, columns: Sequence[Column]) -> list[Cell]:
    """A row of the short table, which says of a failed run that it is one."""
    failed = Cell(text="failed", tone="bad")
    is_told = SHORT_ACCURACY.header
    return [failed if not one.ok and c.header == is_told else c.cell(one) for c in columns]


def in_bold(
    found: Findings, ones: Sequence[Configuration], columns: Sequence[Column]
) -> list[Column]:
    """The columns with the best of these, of one size, and their ties in bold."""
    accurate = [*found.ties.best(ones, "accuracy"), *found.ties.best_unlabelled(ones)]
    lowest = [one for group in found.ties.best_by_size(ones) for one in group]
    best = dict.fromkeys((ACCURACY.header, SHORT_ACCURACY.header), accurate)
    best |= dict.fromkeys((MSE.header, MSE_1000.header), lowest)
    shown = {column.header for column in columns}
    for measure in (measures.PSNR, *found.further):
        if measure.title in shown:
            groups = found.ties.best_by_size(ones, measure.column)
            best[measure.title] = [one for group in groups for one in group]
    return [column.strong(best.get(column.header, [])) for column in columns]


def size(one: Configuration) -> tuple[float, str]:
    """Bytes of a code, and what a title says of its size."""
    floats = one.latent
    if floats is None:  # it failed before anybody counted
        return float("inf"), "size not known"
    if one.is_pixels:
        return 4 * floats, "raw pixels"
    what = "float" if floats == 1 else "floats"
    return 4 * floats, f"{floats:,} {what}"


def whole(found: Findings) -> Table:
    """Every figure of every run, by size; its headers say which question each answers."""
    skill, gain = found.baselines.columns
    keeps = [ACCURACY, gain, PROBE, MLP_PROBE, MSE, skill, PSNR]
    for measure in found.further:
        keeps += [of_measure(measure), found.baselines.gain_column(measure)]
    costs = [LAYERS, PARAMS, SIZE, MACS, found.times.epoch, found.times.training]
    seeds = [SEEDS] if any(len(one.results) > 1 for one in found.configurations) else []
    columns = [
        RUN,
        *seeds,
        LATENT,
        *(column.of_group(KEEPS) for column in keeps),
        *(column.of_group(COSTS) for column in costs),
        *(column.of_group(SEARCH) for column in found.costs.columns.values()),
        STATUS,
    ]
    columns = filled(columns, found.configurations)
    rows: list[list[Cell]] = []
    for ones in by_size(found.configurations).values():
        bold = in_bold(found, ones, columns)
        rows += [[column.cell(one) for column in bold] for one in ones]
    return Table(headers(columns), rows)


def by_question(found: Findings) -> list[Section]:
    """The whole table as one for each group of its columns."""
    everything = whole(found)
    groups = dict.fromkeys(header.group for header in everything.headers if header.group)
    sections = []
    for group in groups:
        places = [i for i, h in enumerate(everything.headers) if h.group in ("", group)]
        kept = [everything.headers[place] for place in places]
        rows = [[row[place] for place in places] for row in everything.cells]
        sections.append(Section(f"All runs: {group}", [Table(kept, rows)]))
    return sections
