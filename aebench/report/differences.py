"""Where the rows of a report do not agree in what they were made with."""

from collections.abc import Sequence

from aebench.report.document import Cell, Header, Paragraph, Section, Table
from aebench.report.results import TIMED, Columns, Result
from aebench.report.texts import named
from aebench.schema import Recipe

TITLE = "Where the rows differ"
COMMITS, DIRTY, MACHINES = (
    tuple(f"{stage}_{key}" for stage in TIMED) for key in ("commit", "dirty", "machine")
)
ALL = ("aebench_version", *COMMITS, *DIRTY, *MACHINES, "knn_kernels", "k", "metric", "backend")
LABELS = 40  # of a group, in a cell: more are counted
COMPUTED = ("device", "precision", "memory_format")  # how training by gradient was done


def differences(results: Sequence[Result]) -> list[Section]:
    """A line per group of rows that agree, where not all do; else empty."""
    columns = differing_columns([result.columns for result in results])
    if not columns:
        return []
    groups: dict[tuple[str, ...], list[str]] = {}
    for result in results:
        found = (result.columns.get(column) for column in columns)
        key = tuple("" if value is None else str(value) for value in found)
        groups.setdefault(key, []).append(label(result))
    headers = [Header(name, is_text=True) for name in ("run-seed", *columns)]
    cells = [[Cell(named(names, LABELS)), *map(Cell, key)] for key, names in groups.items()]
    words = Paragraph("All that is not in this table agrees.")
    return [Section(TITLE, [words, Table(headers, cells)])]


def differing_columns(rows: Sequence[Columns]) -> list[str]:
    """Those in which the rows, or of what training needs the trained ones, have several values."""
    versions = sorted({c for row in rows for c in row if c.endswith("_version")} - set(ALL))
    trained = [row for row in rows if row.get("epochs")]
    columns = [c for c in (*ALL, *versions) if len(values(rows, c)) > 1]
    columns += [c for c in (*Recipe.model_fields, *COMPUTED) if len(values(trained, c)) > 1]
    # A stage of another commit than the others' of its row.
    if len({row.get(c) for row in rows for c in COMMITS}) > 1:
        columns = [*COMMITS, *(c for c in columns if c not in COMMITS)]
    return columns


def label(result: Result) -> str:
    """`mlp-0`, with the folder that it was gathered from."""
    return f"{result.original} ({result.source})" if result.source else result.original


def values(rows: Sequence[Columns], column: str) -> set[str]:
    """The distinct values there are."""
    return {str(row[column]) for row in rows if row.get(column) is not None}
