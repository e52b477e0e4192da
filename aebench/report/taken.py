"""What the stages took as a whole: time, CPU and memory, whatever it was spent on."""

from collections.abc import Sequence

from aebench.report.configurations import Configuration
from aebench.report.document import Cell, Format, Paragraph, Section
from aebench.report.tables import RUN, CellOf, Column, number, table
from aebench.report.texts import named
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


def taken(everything: Sequence[Configuration]) -> list[Section]:
    """The section; none where no result says."""
    shown = [one for one in everything if one.values("train_stage_seconds")]
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
    return [Section(TITLE, [Paragraph(where(shown)), table(columns, shown)])]


def of(stage: str, column: str, pattern: str, factor: float = 1) -> CellOf:
    """The mean over seeds of what a stage took."""
    return number(f"{stage}_{column}", pattern, factor)


def cpu_seconds(one: Configuration) -> Cell:
    """The mean over seeds of all three stages."""
    found = [one.mean(f"{stage}_stage_cpu_seconds") for stage in PER_RUN]
    known = [value for value in found if value is not None]
    return Cell(sum(known), Format("{:,.1f}")) if len(known) == len(found) else Cell()


def where(everything: Sequence[Configuration]) -> str:
    """Where the time of all runs and seeds went, and who took most of each."""
    parts, whole = [], 0.0
    for stage in PER_RUN:
        sums = {one: sum(one.values(f"{stage}_stage_seconds")) for one in everything}
        most = max(sums, key=lambda one: sums[one])
        total = sum(sums.values())
        whole += total
        parts.append(f"{NAMES[stage]} {words(total)} ({most.name}: {words(sums[most])})")
    return f"All runs and seeds: {words(whole)}; {named(parts)}."


def words(seconds: float) -> str:
    """`42 s`, `12.3 min`."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
