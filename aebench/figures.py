"""The report's pictures, as PNG bytes that are the same for the same results."""

import io
from typing import Any

import numpy as np
from matplotlib.figure import Figure  # not pyplot: no window system, 0.5 s faster to import

from aebench.results import Point
from aebench.uncertainty import interval

REFERENCE_STYLES = {"pca": {"color": "black", "linestyle": "--", "marker": "s"}}


def png(figure: Figure) -> bytes:
    """The figure without the name of the program that drew it, which holds a version."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120, metadata={"Software": None})
    return content.getvalue()


def reconstructions(originals: np.ndarray, rows: list[tuple[str, np.ndarray]]) -> bytes:
    """The same test images (uint8 (N, C, H, W)) in every row: the originals, then each run's."""
    rows = [("original", originals), *rows]
    count, channels, height, width = originals.shape
    gap = max(1, height // 8)
    high, wide = height + gap, width + gap
    # One picture, not an axis an image: 0.2 s instead of 3.
    mosaic = np.full((len(rows) * high, count * wide, channels), 255, np.uint8)
    for line, (_, images) in enumerate(rows):
        for column, image in enumerate(images):
            top, left = line * high, column * wide
            mosaic[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    figure = Figure(figsize=(1.8 + 0.7 * count, 0.7 * len(rows)), layout="constrained")
    axis = figure.subplots()
    grey = {"cmap": "gray", "vmin": 0, "vmax": 255} if channels == 1 else {}
    axis.imshow(mosaic.squeeze(), interpolation="nearest", **grey)
    middles = np.arange(len(rows)) * high + height / 2
    axis.set_yticks(middles, [name for name, _ in rows], fontsize=9)
    axis.set_xticks([])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return png(figure)


def loss_curves(curves: dict[str, list[float]]) -> bytes:
    """Mean training loss of each epoch."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axis = figure.subplots()
    for number, (name, losses) in enumerate(curves.items()):
        style = ("-", "--", ":")[number // 10 % 3]  # ten colours, then the next line style
        axis.plot(range(1, len(losses) + 1), losses, style, label=name, marker=".")
    if all(loss > 0 for losses in curves.values() for loss in losses):
        axis.set_yscale("log")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.set(xlabel="epoch", ylabel="training loss (mean over the epoch)")
    axis.grid(alpha=0.3, which="both")
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return png(figure)


def confusion(names: list[str], matrices: dict[str, np.ndarray]) -> bytes:
    """For each run the images of each class by the class they are taken for, % of the row."""
    columns = min(3, len(matrices))
    lines = -(-len(matrices) // columns)
    figure = Figure(figsize=(4.6 * columns, 4.6 * lines), layout="constrained")
    axes = np.atleast_1d(figure.subplots(lines, columns)).flatten()
    few = len(names) <= 12  # more are not readable at this size
    for axis, (run, matrix) in zip(axes, matrices.items(), strict=False):
        shares = 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=100)
        axis.set_title(run, fontsize=10)
        axis.set_xticks(range(len(names)) if few else [], names if few else [], rotation=90)
        axis.set_yticks(range(len(names)) if few else [], names if few else [])
        axis.tick_params(labelsize=8, length=0)
        if few:
            for (row, column), value in np.ndenumerate(shares):
                color = "white" if value > 55 else "black"
                axis.text(
                    column, row, f"{value:.0f}", color=color, fontsize=7, ha="center", va="center"
                )
    for axis in axes[len(matrices) :]:
        axis.set_visible(False)
    return png(figure)


def sweep(name: str, groups: list[list[Point]], pixels: Point | None) -> bytes:
    """MSE and accuracy over a numeric parameter, a line a group; raw pixels as a level."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    models = [group[0].settings["model"] for group in groups]
    for axis, column, label, factor in zip(
        figure.subplots(1, 2),
        ("mse", "accuracy"),
        ("test MSE (lower is better)", "kNN accuracy, % (higher is better)"),
        (1, 100),
        strict=True,
    ):
        values: list[float] = []
        for group in groups:
            found = [(p.settings[name], interval(p.per_image(column))) for p in group if p.ok]
            # A log axis has no room for 0, and below 1e-5 the representation is exact.
            least = 1e-5 if column == "mse" else 0
            line = [(x, max(y.mean * factor, least), (y.half or 0) * factor) for x, y in found]
            values += [y for _, y, _ in line]
            model = group[0].settings["model"]
            style: dict[str, Any] = REFERENCE_STYLES.get(model, {"marker": "o"})
            label_of = model if models.count(model) == 1 else f"{model} ({group[0].names[0]}, ...)"
            if line:
                axis.errorbar(*zip(*line, strict=True), label=label_of, capsize=3, **style)
        if column == "accuracy" and pixels and (level := pixels.mean(column)) is not None:
            axis.axhline(level * factor, color="grey", linestyle=":", label="raw pixels")
        ticks = sorted({point.settings[name] for group in groups for point in group})
        if min(ticks) > 0 and max(ticks) >= 20 * min(ticks):
            axis.set_xscale("log")
        if column == "mse" and values and min(values) > 0 and max(values) >= 10 * min(values):
            axis.set_yscale("log")
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.minorticks_off()
        axis.set(xlabel=name, ylabel=label)
        axis.grid(alpha=0.3)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=9)
    return png(figure)
