"""What the stages took as a whole: time, CPU and memory, whatever it was spent on."""

from collections.abc import Sequence

from aebench.records.origin import Provenance
from aebench.report.configurations import Configuration
from aebench.report.document import Cell, Format, Paragraph, Section
from aebench.report.findings import Findings
from aebench.report.results import Results
from aebench.report.tables import RUN, CellOf, Column, number, table
from aebench.workspace import PER_RUN

TITLE = "What the stages took"
NAMES = {"train": "training", "encode": "encoding", "knn": "search"}
SECONDS = (
    "of the whole stage, with reading, checking and everything that is measured beside, contended "
    "or not"
)
MEMORY = (
    "the most memory that the stage's process took beyond its imports, with what it read of the "
    "images; blank where several processes trained together"
)


def taken(found: Findings) -> list[Section]:
    """The section; none where no result says."""
    shown = [one for one in found.configurations if one.values("train_stage_seconds")]
    if not shown:
        return []
    seconds = [
        Column(f"{NAMES[s]}, s", of(s, "stage_seconds", "{:,.1f}"), SECONDS) for s in PER_RUN
    ]
    cpu = Column("CPU, s", cpu_seconds, "of all threads and processes of the three stages")
    memory = [
        Column(f"{NAMES[s]}, MB", of(s, "peak_memory_bytes", "{:,.0f}", 1e-6), MEMORY)
        for s in PER_RUN
    ]
    gpu = Column(
        "training, GPU MB",
        of("train", "gpu_peak_memory_bytes", "{:,.0f}", 1e-6),
        "the most that tensors took of the GPU's memory",
    )
    columns = [RUN, *seconds, cpu, *memory, gpu]
    words = Paragraph(where(shown, found.results))
    return [Section(TITLE, [words, table(columns, shown)])]


def of(stage: str, column: str, pattern: str, factor: float = 1) -> CellOf:
    """The mean over seeds of what a stage took."""
    return number(f"{stage}_{column}", pattern, factor)


def cpu_seconds(one: Configuration) -> Cell:
    """The mean over seeds of all three stages."""
    found = [one.mean(f"{stage}_stage_cpu_seconds") for stage in PER_RUN]
    known = [value for value in found if value is not None]
    return Cell(sum(known), Format("{:,.1f}")) if len(known) == len(found) else Cell()


def where(everything: Sequence[Configuration], results: Results) -> str:
    """Where the time of all stages went, which run took most, and the first seed's share."""
    parts, whole = [], 0.0
    for stage in PER_RUN:
        sums = {one: sum(one.values(f"{stage}_stage_seconds")) for one in everything}
        most = max(sums, key=lambda one: sums[one])
        total = sum(sums.values())
        whole += total
        parts.append(f"{NAMES[stage]} {words(total)} ({most.name}: {words(sums[most])})")
    once = 0.0
    for name, origins in others(results).items():
        if seconds := sum(origin.stage_seconds or 0 for origin in origins):
            once += seconds
            parts.append(f"{name} {words(seconds)}")
    said = f"All runs and seeds: {words(whole + once)}; {', '.join(parts)}."
    ones = [result for one in everything for result in one.ok]
    first = [result.columns for result in ones if result.seed == results.seeds[0]]
    if len(first) == len(ones) or any(result.source for result in ones):  # several computed it once
        return said
    of_first = {s: sum(row.get(f"{s}_stage_seconds") or 0 for row in first) for s in PER_RUN}
    return (
        f"{said} Seed {results.seeds[0]} alone, with what is computed once: "
        f"{words(once + sum(of_first.values()))}, of which training {words(of_first['train'])}."
    )


def others(results: Results) -> dict[str, list[Provenance]]:
    """Of the stages that are not of each run and seed."""
    records = [result.stress for result in results.results if result.stress]
    indexes = [index for result in results.results for index in result.indexes.values()]
    return {
        "prepare": [results.data.provenance],
        "codecs": [results.codecs[0].provenance] if results.codecs else [],
        "stress": [record.provenance for record in records],
        "index": [index.provenance for index in indexes],
    }


def words(seconds: float) -> str:
    """`42 s`, `12.3 min`."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
