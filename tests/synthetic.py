"""Results made of the figures that a test chooses, without a file, and finding their way about."""

import json
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aebench.records.prepare import DataRecord
from aebench.report.configurations import measured
from aebench.report.document import Cell, CodeBlock, Document, Figure, ResultsTable, Table
from aebench.report.render import Report
from aebench.report.results import Results

CLASSES = [str(digit) for digit in range(10)]
IMAGES = 360
OUTCOME = [("label", np.uint8), ("prediction", np.uint8), ("squared_error", np.float32)]
RECIPE = {
    "epochs": 5,
    "batch_size": 128,
    "learning_rate": 0.003,
    "muon_learning_rate": 0.02,
    "weight_decay": 0.1,
    "horizontal_flip": True,
}
MACHINE = "Processor 1, 2 cores, 2 threads"


@dataclass
class Made:
    """Stands for a Result."""

    run: str
    seed: int
    columns: dict[str, Any]
    settings: dict[str, Any]
    key: str
    outcomes: np.ndarray
    examples: np.ndarray | None
    losses: list[float] = field(default_factory=list)
    curves: dict[str, list[float | None]] = field(default_factory=dict)
    source: str = ""
    worst: np.ndarray | None = None
    code_map: np.ndarray | None = None
    code: dict[str, str] = field(default_factory=dict)
    epoch_seconds: list[float] = field(default_factory=list)
    indexes: dict[str, Any] = field(default_factory=dict)
    better: dict[str, str] = field(default_factory=dict)
    stress: Any = None

    @property
    def original(self):
        return f"{self.run}-{self.seed}"

    @property
    def ok(self):
        return self.columns["status"] == "ok"


def outcomes(model, seed, mse, accuracy, classes=10, count=IMAGES, further=None):
    """Some images are hard for every model, a model and seed move each a little.

    The means are the given ones, the accuracy's as near as the number of images allows. `mse` None:
    of an encoder alone.
    """
    shared = np.random.default_rng(0)
    random = np.random.default_rng([zlib.crc32(model.encode()), seed or 0])
    errors = shared.gamma(2, 0.5, count) + random.uniform(0, 0.2, count)
    hard = shared.random(count) + random.normal(0, 0.05, count)
    more = [(name, np.float32) for name in further or {}]
    found = np.empty(count, OUTCOME[:2] if mse is None else [*OUTCOME, *more])
    found["label"] = np.arange(count) % classes
    right = np.argsort(np.argsort(hard)) < round(accuracy * count)
    found["prediction"] = np.where(right, found["label"], (found["label"] + 1) % classes)
    if mse is not None:
        found["squared_error"] = errors * mse / errors.mean()
        for name, value in (further or {}).items():
            found[name] = errors * value / errors.mean()
    return found


def made(
    run="mlp",
    seed=0,
    *,
    model="mlp",
    baseline=None,
    latent=32,
    depth=3,
    train=None,
    knn=None,
    options=None,
    mse=0.02,
    accuracy=0.5,
    source="",
    curves=None,
    further=None,
    **columns,
):
    """One result. `train`: what differs from RECIPE, or False for what has no gradient training.

    The figures of a baseline are the same for every seed. `mse` None: an encoder alone. `further`:
    metric -> its mean; that of ssim is the better, the higher, others are better low. `columns` are
    the last word.
    """
    recipe = {} if train is False else RECIPE | (train or {})
    search = {"k": 10, "metric": "l2", "backend": "faiss"} | (knn or {})
    build = {"latent": latent, "depth": depth, **(options or {})}
    build = {k: v for k, v in build.items() if v is not None}
    settings = {"model": model, **build}
    settings |= {f"train.{k}": v for k, v in recipe.items()}
    settings |= {f"knn.{k}": v for k, v in search.items()}
    name, draw = (run, seed) if recipe else (model, None)
    votes = outcomes(name, draw, mse, accuracy, further=further)
    timed = bool(recipe.get("epochs"))
    row = {"run": run, "model": model, "latent": latent or 64, "depth": depth, "seed": seed}
    row |= {"status": "ok", "baseline": baseline, "options": json.dumps(options or {})}
    row |= {"num_params": 1000, "model_bytes": 4000, "macs": 2000}
    row |= {"encoder_layers": depth or 1, "decoder_layers": 0 if mse is None else depth or 1}
    row |= {"mse": None, "psnr": None, "mse_8bit": None, "code_bits": None}
    row |= {"labels_seen": False, "begun_with": None}
    row |= {k: float(v.mean()) for k, v in measured(votes).items()}
    row |= panel(row["accuracy"]) | {"probe_accuracy": row["accuracy"]}
    row["mlp_probe_accuracy"] = row["accuracy"]
    row |= {"epoch_seconds": 1.0 + 0.01 * seed if timed else None, "epoch_seconds_mad": 0.01}
    row |= {"epochs_timed": 4 if timed else None, "train_seconds": 5.0 if timed else None}
    row |= {"encode_images_per_second": 1000.0, "knn_seconds": 0.1, "query_seconds": 0.001}
    row |= {"bank_bytes": 1e6, "code_bytes": 4 * row["latent"], "compression": 0.5}
    row |= {"effective_rank": 5.0, "collapsed_dimensions": 0, "norm_coefficient_of_variation": 0.1}
    for stage, kind in (("train", "epoch"), ("encode", "encode"), ("knn", "knn")):
        row |= {f"{stage}_machine": MACHINE, f"{stage}_commit": "a" * 40, f"{stage}_dirty": False}
        row |= {f"{kind}_contended": False, f"{kind}_waited_share": 0.0}
    row |= {"train_contended": False, "knn_kernels": "OpenBLAS", "note": None, "protocol": 2}
    row |= {k: recipe.get(k) for k in RECIPE} | search
    row |= {"device": "cpu", "precision": "float32", "memory_format": "contiguous"}
    row |= {f"{name}_version": "1.0" for name in ("aebench", "torch", "numpy", "faiss_cpu")}
    row |= {"date": "2025-01-02T00:00:00+00:00"} | columns
    key = json.dumps(settings, sort_keys=True)
    images = None if mse is None else np.full((2, 1, 8, 8), 128, np.uint8)
    losses = [0.2, 0.1] if timed else []
    better = {name: "higher" if name == "ssim" else "lower" for name in further or {}}
    found = Made(run, seed, row, settings, key, votes, images, losses, curves or {}, source)
    found.better = better
    return found


def panel(accuracy):
    """The columns of some protocols."""
    return {
        f"accuracy_{metric}_k{k}": accuracy - 0.001 * k
        for metric in ("l2", "cosine", "whitened_cosine")
        for k in (1, 10)
    }


def pca(run="pca", seed=0, **changes):
    """The linear optimum."""
    facts = {"model": "pca", "baseline": "pca", "depth": None, "train": False, "mse": 0.015}
    return made(run, seed, **(facts | changes))


def pixels(run="pixels", seed=0, **changes):
    """Raw pixels."""
    facts = {"model": "pixels", "baseline": "pixels", "latent": None, "depth": None}
    return made(run, seed, **(facts | {"train": False, "mse": 0.0, "accuracy": 0.6} | changes))


def sweep(seeds=(0, 1, 2), **changes):
    """Two sizes of a network and all baselines. `changes`: run, with _ for -, -> its arguments."""
    runs = {
        "mlp": (made, {}),
        "mlp-untrained": (made, {"train": {"epochs": 0}, "mse": 0.1, "accuracy": 0.4}),
        "mlp-latent10": (made, {"latent": 10, "mse": 0.04, "accuracy": 0.45}),
        "pca": (pca, {}),
        "pca-latent10": (pca, {"latent": 10, "mse": 0.03, "accuracy": 0.42}),
        "pixels": (pixels, {}),
    }
    return [
        make(run, seed, **(facts | changes.get(run.replace("-", "_"), {})))
        for run, (make, facts) in runs.items()
        for seed in seeds
    ]


def results(found, classes=CLASSES, dataset="pets", **changes):
    """As `read_results` gives them."""
    data = DataRecord.model_construct(
        dataset=dataset,
        source="a folder",
        shape=(1, 8, 8),
        classes=list(classes),
        num_train=1438,
        num_test=IMAGES,
        data_hash="0123456789abcdef",
        examples=[0, 1],
    )
    facts = {
        "latent": 32,
        "depth": 3,
        "knn": {"k": 10, "metric": "l2", "backend": "faiss"},
        "runs": list(dict.fromkeys(one.run for one in found)),
        "seeds": sorted({one.seed for one in found}),
        "originals": np.zeros((2, 1, 8, 8), np.uint8),
        "hidden": [],
        "remarks": [],
    }
    return Results(data=data, results=list(found), **(facts | changes))


def report(found, **changes):
    """Of these results."""
    return Report(results(found, **changes))


def section(document, title):
    """The section of that title, of the appendix, too."""
    found = [*document.sections, *document.appendix]
    return next(one for one in found if one.title == title)


def titles(document):
    """Of all sections."""
    return [one.title for one in [*document.sections, *document.appendix]]


def cells(found) -> dict[str, dict[str, Cell]]:
    """First cell's text -> header -> cell, of the first table of a section: the whole one."""
    tables = (block for block in found.blocks if isinstance(block, Table | ResultsTable))
    return by_name(next(t.whole if isinstance(t, ResultsTable) else t for t in tables))


def short(document) -> dict[str, dict[str, Cell]]:
    """The same of the short table of all runs."""
    (table,) = [b for b in section(document, "Results").blocks if isinstance(b, ResultsTable)]
    return by_name(table.short)


def by_name(table) -> dict[str, dict[str, Cell]]:
    """First cell's text -> header -> cell, without titles across all columns."""
    names = [header.name for header in table.headers]
    rows = [row for row in table.cells if len(row) == len(names)]
    return {words(row[0]): dict(zip(names, row, strict=True)) for row in rows}


def words(found) -> str:
    """What is to be read in a text, a cell, a block, a section or a document, without marks."""
    match found:
        case str():
            return found
        case Cell():
            return words(found.spans)
        case Table():
            return "\n".join(" | ".join(map(words, row)) for row in found.cells)
        case ResultsTable():
            return words(found.short)
        case CodeBlock():
            return found.code
        case Figure():
            return f"{found.title} {found.caption}"
        case Document():
            parts = [found.facts, *found.blocks, *found.sections, *found.appendix]
            return "\n".join(map(words, parts))
        case list() | tuple():
            return "".join(map(words, found))
    for name in ("text", "items", "blocks"):
        if hasattr(found, name):
            inside = getattr(found, name)
            return words(inside) if name == "text" else "\n".join(map(words, inside))
    raise TypeError(found)
