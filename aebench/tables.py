"""Tables in Markdown: their columns, cells and marks."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tabulate import tabulate

from aebench.results import Point
from aebench.uncertainty import Interval, interval, of_accuracies, over_seeds, tie_group

Cell = Callable[[Point], str]


class Column(NamedTuple):
    """A column of a table: its header, its cell for a point, and what it means."""

    header: str
    cell: Cell
    meaning: str = ""


def table(columns: Sequence[Column], points: Sequence[Point], notes: bool = False) -> str:
    """The table and, under it, what each column means, and the models' notes."""
    columns = list(columns)
    if any(len(point.ok) < len(point.rows) for point in points):
        columns.append(STATUS)
    if any(len(point.rows) > 1 for point in points):
        columns.insert(1, SEEDS)
    cells = [[column.cell(point) for column in columns] for point in points]
    said = [f"{p.name}: {note}." for p in points if notes and (note := p.first("note")) is not None]
    meanings = [f"**{column.header}**: {column.meaning}" for column in columns if column.meaning]
    left = [column in (RUN, STATUS) for column in columns]
    text = grid([column.header for column in columns], cells, left)
    return "\n\n".join([text, "<sub>" + "; ".join(meanings) + ".</sub>", *said])


def grid(headers: Sequence[str], cells: Sequence[Sequence[str]], left: Sequence[bool]) -> str:
    """A Markdown table, each column to the left or right."""
    align = ["left" if one else "right" for one in left]
    return tabulate(
        cells,
        headers,
        tablefmt="pipe",
        disable_numparse=True,
        colalign=align if cells else None,
    )


def estimate(found: Interval, pattern: str, factor: float = 1, spread: str | None = None) -> str:
    """`46.81 ± 0.98`; the mean alone where nothing else is known. `spread`: of what follows ±."""
    mean = pattern.format(found.mean * factor)
    if found.half is None:
        return mean
    half = found.half * factor
    # Two digits of 560 would be written 5.6e+02.
    same = spread is None or half >= 100
    return f"{mean} ± {(pattern.replace('+', '') if same else spread).format(half)}"


def number(column: str, pattern: str, factor: float = 1) -> Cell:
    """A cell with the mean over seeds, and its interval where they differ; blank without any."""

    def cell(point: Point) -> str:
        values = point.values(column)
        return estimate(over_seeds(values), pattern, factor) if values else ""

    return cell


def measured(column: str, pattern: str, factor: float = 1) -> Cell:
    """A cell with the interval over seeds and images; blank if every seed failed."""

    def cell(point: Point) -> str:
        return estimate(interval(point.per_image(column)), pattern, factor) if point.ok else ""

    return cell


def probe(point: Point) -> str:
    """The linear probe's accuracy, with the interval of an accuracy."""
    values = point.values("probe_accuracy")
    images = len(point.outcomes[0]) if values else 0
    return estimate(of_accuracies(values, images), "{:.2f}", 100) if values else ""


def bold(cell: Cell, points: Sequence[Point]) -> Cell:
    """The cell in bold for these points."""
    return lambda point: f"**{cell(point)}**" if point in points else cell(point)


def seeds(point: Point) -> str:
    """How many the figures are of: `3`, `2 of 3`, or `any` where the seed changes nothing."""
    if len(point.outcomes) == 1 and len(point.ok) > 1:
        return "any"
    failed = len(point.ok) < len(point.rows)
    return f"{len(point.ok)} of {len(point.rows)}" if failed else str(len(point.ok))


def layers(point: Point) -> str:
    """`3 + 3`: what was counted in encoder and decoder."""
    encoder, decoder = point.first("encoder_layers"), point.first("decoder_layers")
    return "" if encoder is None else f"{encoder} + {decoder}"


RUN = Column("run", lambda point: point.name)
SEEDS = Column("seeds", seeds, "trained and measured this often; `any`: the seed changes nothing")
LATENT = Column(
    "latent", lambda point: "" if point.latent is None else str(point.latent), "floats per code"
)
STATUS = Column(
    "status",
    lambda point: next((r["status"] for r in point.rows if r["status"] != "ok"), "ok"),
    "`failed` with its reason, see the end of the report",
)
LAYERS = Column("layers", layers, "Linear and (transposed) convolution layers, encoder + decoder")
PARAMS = Column(
    "params", number("num_params", "{:,.0f}"), "numbers in the parameters of both halves"
)
SIZE = Column(
    "size, kB", number("model_bytes", "{:,.1f}", 1e-3), "float32 state dict, 1 kB = 1000 B"
)
MACS = Column(
    "MMACs",
    number("macs", "{:,.2f}", 1e-6),
    "millions of multiply-accumulates per image, encoder and decoder",
)
MSE = Column(
    "MSE",
    measured("mse", "{:.5f}"),
    "mean squared error over all elements of the test set, pixels in [0, 1], reconstruction "
    "clipped to [0, 1]",
)
PSNR = Column(
    "PSNR, dB",
    measured("psnr", "{:.2f}"),
    "mean over test images of -10 log10(MSE of the image), an image capped at 100",
)
ACCURACY = Column(
    "accuracy, %",
    measured("accuracy", "{:.2f}", 100),
    "test images whose class the vote of their nearest training codes gets right",
)
PROBE = Column(
    "linear probe, %",
    probe,
    "test images that logistic regression on the whitened training codes gets right",
)


def best(points: Sequence[Point], column: str) -> list[Point]:
    """The best point and those that are tied with it; empty with nothing to compare."""
    most = max((len(point.ok) for point in points), default=0)
    # One seed beside several: how much another would move it is not known.
    found = [point for point in points if point.ok and len(point.ok) > (most > 1)]
    if len(found) < 2:
        return []
    values = [point.per_image(column) for point in found]
    return [found[i] for i in tie_group(values, largest=column == "accuracy")]


def best_by_size(points: Sequence[Point]) -> list[list[Point]]:
    """For each representation size that several points have: the best MSE, and its ties."""
    sizes: dict[int | None, list[Point]] = {}
    for point in points:
        if point.ok:
            sizes.setdefault(point.latent, []).append(point)
    groups = (best(sizes[size], "mse") for size in sorted(sizes, key=lambda size: size or 0))
    return [group for group in groups if group]


def verdict(accurate: Sequence[Point], by_size: Sequence[Sequence[Point]]) -> str:
    """In words: the tie groups that the table shows in bold."""
    lines = [f"Accuracy: {tied(accurate)}."] if accurate else []
    for group in by_size:
        lines.append(f"MSE with {group[0].latent} floats: {tied(group)}.")
    return " ".join(lines)


def tied(group: Sequence[Point]) -> str:
    """`best **a**, tied with b`."""
    others = [point.name for point in group[1:]]
    if len(others) > 4:
        return f"best **{group[0].name}**, tied with {len(others)} others"
    return f"best **{group[0].name}**" + (f", tied with {', '.join(others)}" if others else "")
