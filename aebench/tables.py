"""The report's words and tables in Markdown."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from tabulate import tabulate

from aebench.results import PROTOCOL, Point, Row, sort_key


class Column(NamedTuple):
    """A column of a table: its header, its cell for a point, and what it means."""

    header: str
    cell: Callable[[Point], str]
    meaning: str


def number(column: str, pattern: str, factor: float = 1) -> Callable[[Point], str]:
    """A cell with the mean over seeds; blank where there is none."""

    def cell(point: Point) -> str:
        value = point.mean(column)
        return "" if value is None else pattern.format(value * factor)

    return cell


def layers(point: Point) -> str:
    """`3 + 3`: what was counted in encoder and decoder."""
    encoder, decoder = point.first("encoder_layers"), point.first("decoder_layers")
    return "" if encoder is None else f"{encoder} + {decoder}"


def epoch(point: Point) -> str:
    """`5.41 ± 0.03`, a single timed epoch marked with a star."""
    value, spread = point.mean("epoch_seconds"), point.mean("epoch_seconds_mad")
    if value is None:
        return ""
    return f"{value:.3g}*" if spread is None else f"{value:.3g} ± {spread:.1g}"


def names(point: Point) -> str:
    """The run's names; the number of seeds where there are several."""
    seeds = f" ({len(point.ok)} seeds)" if len(point.rows) > 1 else ""
    return point.name + seeds


def latent(point: Point) -> str:
    """Floats per code, the plan's or the counted ones."""
    value = point.settings.get("latent", point.first("latent"))
    return "" if value is None else str(value)


RUN = Column("run", names, "")
LATENT = Column("latent", latent, "floats per code")
STATUS = Column(
    "status",
    lambda p: next((r["status"] for r in p.rows if r["status"] != "ok"), "ok"),
    "`failed` with its reason, see the end of the report",
)
MSE = Column(
    "MSE",
    number("mse", "{:.5f}"),
    "mean squared error over all elements of the test set, pixels in [0, 1], reconstruction "
    "clipped to [0, 1]",
)
ACCURACY = Column(
    "accuracy, %",
    number("accuracy", "{:.2f}", 100),
    "test images whose class the vote of their nearest training codes gets right",
)
MODEL = [
    RUN,
    LATENT,
    Column("layers", layers, "Linear and (transposed) convolution layers, encoder + decoder"),
    Column("params", number("num_params", "{:,.0f}"), "numbers in the parameters of both halves"),
    Column("size, kB", number("model_bytes", "{:,.1f}", 1e-3), "float32 state dict, 1 kB = 1000 B"),
    Column(
        "MMACs",
        number("macs", "{:,.2f}", 1e-6),
        "millions of multiply-accumulates per image, encoder and decoder",
    ),
    Column(
        "epoch, s",
        epoch,
        "optimizer loop alone, median over epochs without the first, ± median absolute deviation; "
        "`*` a single epoch; blank without gradient training",
    ),
    MSE,
    Column(
        "PSNR, dB",
        number("psnr", "{:.2f}"),
        "mean over test images of -10 log10(MSE of the image), an image capped at 100",
    ),
    ACCURACY,
]


def table(columns: list[Column], points: list[Point]) -> str:
    """The table and, under it, what each column means."""
    if any(len(point.ok) < len(point.rows) for point in points):
        columns = [*columns, STATUS]
    cells = [[column.cell(point) for column in columns] for point in points]
    align = ["left" if column in (RUN, STATUS) else "right" for column in columns]
    text = tabulate(
        cells,
        [column.header for column in columns],
        tablefmt="pipe",
        disable_numparse=True,
        colalign=align if cells else None,
    )
    notes = [
        f"{point.name}: {note}." for point in points if (note := point.first("note")) is not None
    ]
    meanings = [f"**{column.header}**: {column.meaning}" for column in columns if column.meaning]
    return "\n\n".join([text, "<sub>" + "; ".join(meanings) + ".</sub>", *notes])


def architectures(plan: dict[str, Any], points: list[Point]) -> str:
    """The runs at the default size and depth."""
    shown = [
        point
        for point in points
        if all(point.settings.get(key, plan[key]) == plan[key] for key in ("latent", "depth"))
    ]
    head = f"Runs at the default size (latent {plan['latent']}) and depth ({plan['depth']})."
    return f"## Architectures\n\n{head}\n\n{table(MODEL, shown)}"


def title(name: str) -> str:
    """The heading of a study."""
    return {"latent": "Representation size", "depth": "Depth"}.get(name, f"Parameter {name}")


def study(name: str, groups: list[list[Point]], points: list[Point]) -> str:
    """The points that differ in one parameter alone, then the references at their sizes."""
    swept = [point for group in groups for point in group]
    sizes = {point.settings.get("latent") for point in swept}
    references = [
        point
        for point in points
        if (point.is_reference or (name == "latent" and name not in point.settings))
        and point not in swept
        and ("latent" not in point.settings or point.settings["latent"] in sizes)
    ]
    value = Column(name, lambda p: str(p.settings.get(name, "")), "the parameter of this study")
    columns = MODEL if name == "latent" else [RUN, value, *MODEL[1:]]
    values = sorted((point.settings[name] for point in swept), key=sort_key)
    different = ", ".join(dict.fromkeys(map(str, values)))
    head = f"Runs that differ in {name} alone ({different}), then references."
    return f"## {title(name)}\n\n{head}\n\n{table(columns, swept + references)}"


def search(points: list[Point]) -> str:
    """kNN on codes against kNN on raw pixels, for every point."""
    protocol = ("knn.k", "knn.metric", "knn.backend")
    pixels = {
        tuple(p.settings[key] for key in protocol): p.mean("knn_seconds")
        for p in points
        if p.settings["model"] == "pixels" and p.ok
    }

    def speed(point: Point) -> str:
        raw = pixels.get(tuple(point.settings[key] for key in protocol))
        seconds = point.mean("knn_seconds")
        return f"{raw / seconds:.1f}" if raw and seconds else ""

    columns = [
        RUN,
        LATENT,
        Column("bytes", number("code_bytes", "{:,.0f}"), "one code, float32"),
        Column("compression", number("compression", "{:.2f}"), "bytes of the uint8 image / bytes"),
        Column("bank, MB", number("bank_bytes", "{:,.2f}", 1e-6), "all training codes in memory"),
        Column(
            "search, s",
            number("knn_seconds", "{:.3f}"),
            "all test codes against all training codes: index, search, exact ranking",
        ),
        Column("per query, ms", number("query_seconds", "{:.3f}", 1e3), "search / test images"),
        Column("x pixels", speed, "seconds of the same search on raw pixels / search"),
        Column(
            "encode, images/s",
            number("encode_images_per_second", "{:,.0f}"),
            "encoder alone, batches of 500",
        ),
        ACCURACY,
    ]
    head = "What it costs to search the codes, beside searching the pixels themselves."
    if not pixels:
        head += (
            " There is no run of raw pixels to compare with: add `pixels:` with `model: pixels` "
            "under `runs:` in params.yaml."
        )
    return f"## kNN on codes against raw pixels\n\n{head}\n\n{table(columns, points)}"


def failures(rows: list[Row]) -> str:
    """Each failed run, its reason and the command that tries it again; empty without any."""
    failed = [row for row in rows if row["status"] != "ok"]
    if not failed:
        return ""
    lines = [
        f"- **{row['run']}**, seed {row['seed']}: {row['status']}. Again: "
        f"`dvc repro -s -f train@{row['run']}-{row['seed']} && dvc repro`"
        for row in failed
    ]
    return f"## {len(failed)} of {len(rows)} runs failed\n\n" + "\n".join(lines)


def conditions(plan: dict[str, Any], data: dict[str, Any], rows: list[Row]) -> str:
    """Data, machine, protocol and code, said once; `several` where the rows differ."""
    channels, height, width = data["shape"]
    lines = [
        f"**Data**: {data['dataset']} from {data['source']}, {data['num_train']:,} training and "
        f"{data['num_test']:,} test images, {channels} x {height} x {width}, "
        f"{len(data['classes'])} classes, hash `{data['data_hash'][:12]}`.",
        f"**Machine**: {same(rows, 'cpu')}, {same(rows, 'cores')} cores, {same(rows, 'threads')} "
        f"threads, GPU {same(rows, 'gpu')}; OPENBLAS_CORETYPE {same(rows, 'openblas_coretype')}.",
        f"**Training**: {training(rows)}; linear warm-up, linear decay to 0; "
        f"seeds {', '.join(map(str, plan['seeds']))}.",
        f"**Protocol {PROTOCOL}**: test images are used for the figures only. kNN: k = "
        f"{same(rows, 'k')}, {same(rows, 'metric')}, exact search ({same(rows, 'backend')}) of the "
        "test codes among the training codes, unweighted vote, among tied classes that of the "
        "nearest neighbour, equal distances by lower training index.",
        f"**Code**: aebench {same(rows, 'aebench_version')}, commit {commit(rows)}, torch "
        f"{same(rows, 'torch_version')}, numpy {same(rows, 'numpy_version')}.",
    ]
    if experiment := os.environ.get("DVC_EXP_NAME"):
        lines.append(f"**Experiment**: {experiment}.")
    if len(plan["seeds"]) == 1:
        lines.append("One seed: a figure says nothing about how much another seed would move it.")
    else:
        lines.append("Several seeds: figures are means over them.")
    return "\n\n".join(lines)


def training(rows: list[Row]) -> str:
    """The recipe of the trained runs."""
    trained = [row for row in rows if row["epochs"]]
    words = (
        ("epochs {}", "epochs"),
        ("batch {}", "batch_size"),
        (
            "peak rates {} (Muon, matrices and kernels of at most 128 rows or columns)",
            "muon_learning_rate",
        ),
        ("{} (AdamW, the rest)", "learning_rate"),
        ("weight decay {}", "weight_decay"),
        ("horizontal flips {}", "horizontal_flip"),
        ("products in {}", "precision"),
    )
    return ", ".join(pattern.format(same(trained, column)) for pattern, column in words)


def commit(rows: list[Row]) -> str:
    """The commit the rows were made at, and whether the code had uncommitted changes."""
    text = same(rows, "commit")
    dirty = " with uncommitted changes" if any(row["dirty"] for row in rows) else ""
    return f"{text[:12]}{dirty}"


def same(rows: list[Row], column: str) -> str:
    """The one value of the column, or that there are several."""
    values = {str(row[column]) for row in rows if row.get(column) is not None}
    if len(values) > 1:
        return f"several ({', '.join(sorted(values)[:4])}: see results.csv)"
    return values.pop() if values else "none"
