"""Join the stages' results: one row per run and seed, one point per distinct setting."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from aebench.files import PLAN, file_hash, plan_path, read_json, result_path

STAGES = ("train", "encode", "knn")
Row = dict[str, Any]


@dataclass
class Point:
    """Runs with equal settings, as one: their names, settings and rows, one per seed."""

    names: list[str]
    settings: dict[str, Any]
    rows: list[Row]

    @property
    def name(self) -> str:
        """All names of the point."""
        return ", ".join(self.names)

    @property
    def ok(self) -> list[Row]:
        """The rows of the seeds that did not fail."""
        return [row for row in self.rows if row["status"] == "ok"]

    @cached_property
    def outcomes(self) -> list[np.ndarray]:
        """The records of outcomes.npy (N_test,), per seed that did not fail.

        One alone where they are equal: of a model that does not depend on the seed.
        """
        found = [read_outcomes(row["run"], row["seed"]) for row in self.ok]
        return found[:1] if all((one == found[0]).all() for one in found) else found

    def per_image(self, column: str) -> np.ndarray:
        """mse, psnr (dB) or accuracy (0 or 1) of each image: float64 (outcomes, N_test)."""
        found = np.stack(self.outcomes)
        if column == "accuracy":
            return (found["label"] == found["prediction"]).astype(np.float64)
        errors = found["squared_error"].astype(np.float64)
        return errors if column == "mse" else psnr(errors)

    @property
    def latent(self) -> int | None:
        """Floats per code: the plan's or the counted ones."""
        return self.settings.get("latent", self.first("latent"))

    @property
    def is_reference(self) -> bool:
        """Whether nothing was trained by gradient: PCA, pixels, an untrained network."""
        return not self.settings.get("train.epochs")

    def values(self, column: str) -> list[float]:
        """The figure of each seed that has it."""
        return [row[column] for row in self.ok if row.get(column) is not None]

    def mean(self, column: str) -> float | None:
        """The mean over the seeds that have the figure."""
        values = self.values(column)
        return float(np.mean(values)) if values else None

    def first(self, column: str) -> Any:
        """The figure of the first seed that has it: for what does not depend on the seed."""
        return next((row[column] for row in self.ok if row.get(column) is not None), None)


@cache
def read_outcomes(run: str, seed: int) -> np.ndarray:
    """The records of outcomes.npy (N_test,)."""
    return np.load(result_path(run, seed, "outcomes.npy"))


def read_rows(plan: dict[str, Any], data: dict[str, Any]) -> tuple[list[Row], list[str]]:
    """A row per run and seed in the order of params.yaml, and what is not shown and why."""
    rows, hidden = [], []
    for run in plan["runs"]:
        for seed in plan["seeds"]:
            results = {s: result_path(run, seed, f"{s}.json") for s in STAGES}
            reason = outdated(run, results, data["data_hash"])
            if reason:
                hidden.append(f"{run}, seed {seed}: {reason}; run `dvc repro`")
            else:
                rows.append(row(run, seed, data, results))
    return rows, hidden


def outdated(run: str, results: dict[str, Path], data_hash: str) -> str | None:
    """Why the results are not those of the plan, or None: plans and files must match in a chain."""
    missing = [stage for stage, path in results.items() if not path.is_file()]
    if missing:
        return f"no result of {missing[0]}"
    content = {stage: json.loads(path.read_bytes()) for stage, path in results.items()}
    for stage in STAGES:
        if content[stage]["plan_hash"] != file_hash(plan_path(run, stage)):
            return f"the result of {stage} is of other settings"
        if content[stage]["data_hash"] != data_hash:
            return f"the result of {stage} is of other images"
    train, encode, knn = (content[stage] for stage in STAGES)
    if train["weights_hash"] != encode["weights_hash"]:
        return "the result of encode is of other weights"
    if encode.get("codes_hash") != knn.get("codes_hash"):
        return "the result of knn is of other codes"
    return None


def row(run: str, seed: int, data: dict[str, Any], results: dict[str, Path]) -> Row:
    """One row of results.csv; the first columns are those of the tables."""
    plan = read_json(plan_path(run, "train"), "aebench plan")
    knn_plan = read_json(plan_path(run, "knn"), "aebench plan")
    train, encode, knn = (read_json(path, "dvc repro") for path in results.values())
    failed = [r["status"] for r in (train, encode, knn) if r["status"] != "ok"]
    floats = train.get("code_floats")
    pixels = int(np.prod(data["shape"]))
    recipe = plan["train"] or {}
    origin = train["provenance"]
    first = {
        "run": run,
        "model": plan["model"],
        "latent": plan["build"].get("latent", floats),
        "depth": plan["build"].get("depth"),
        "seed": seed,
        "status": failed[0] if failed else "ok",
    }
    figures = {
        column: source.get(column)
        for source, columns in (
            (train, ["num_params", "model_bytes", "epoch_seconds"]),
            (encode, ["mse", "psnr"]),
            (knn, ["accuracy", "probe_accuracy"]),
            (train, ["epoch_seconds_mad", "epochs_timed", "train_seconds", "train_contended"]),
            (train, ["macs", *(f"{h}_{f}" for f in HALVES for h in ("encoder", "decoder"))]),
            (encode, ["encode_images_per_second"]),
            (knn, ["knn_seconds", "query_seconds", "bank_bytes", *HEALTH]),
        )
        for column in columns
    }
    for timed, source in zip(TIMED, (train, encode, knn), strict=True):
        timing = source.get("timing") or {}
        figures |= {f"{timed}_{column}": timing.get(column) for column in TIMING}
        figures[f"{timed}_machine"] = machine(source["provenance"])
        figures |= {f"{timed}_{key}": source["provenance"].get(key) for key in ("commit", "dirty")}
    figures["knn_kernels"] = "; ".join(sorted(set(knn["provenance"].get("blas") or []))) or None
    for metric, accuracies in (knn.get("panel") or {}).items():
        figures |= {panel_column(metric, k): value for k, value in accuracies.items()}
    return {
        **first,
        **figures,
        "code_bytes": floats and floats * 4,
        "compression": floats and pixels / (floats * 4),
        "note": train.get("note"),
        "options": json.dumps({k: v for k, v in plan["build"].items() if k not in first}),
        **{key: recipe.get(key) for key in RECIPE},
        **{key: knn_plan[key] for key in ("k", "metric", "backend")},
        "protocol": PROTOCOL,
        "data_hash": train["data_hash"],
        "plan_hash": train["plan_hash"],
        **{key: origin.get(key) for key in ORIGIN},
        "openblas_coretype": knn["provenance"]["openblas_coretype"],
        **{
            f"{name}_version": version
            for source in (origin, knn["provenance"])
            for name, version in source["versions"].items()
        },
        "date": origin["date"],
    }


TIMED = "epoch", "encode", "knn"  # what train, encode and knn measure
TIMING = (
    "cpu_seconds",
    "waited_share",
    "others_share",
    "involuntary_switches",
    "load_average",
    "contended",
)
PANEL_K = 1, 5, 10, 20, 50
HEALTH = "effective_rank", "dead_dimensions", "norm_spread"
HALVES = ("params", "bytes", "macs", "layers")
PROTOCOL = 1  # DESIGN: a change of what a figure means makes it 2
RECIPE = (
    "epochs",
    "batch_size",
    "learning_rate",
    "muon_learning_rate",
    "weight_decay",
    "horizontal_flip",
)
ORIGIN = "cpu", "gpu", "cores", "threads", "device", "precision", "layout"


def machine(origin: Row) -> str:
    """What must agree for times to be compared."""
    parts = [origin["cpu"], f"{origin['cores']} cores", f"{origin['threads']} threads"]
    parts += [origin["gpu"]] if origin.get("gpu") else []
    core_type = origin.get("openblas_coretype")
    return ", ".join(parts + ([f"OPENBLAS_CORETYPE {core_type}"] if core_type else []))


def panel_column(metric: str, k: str | int) -> str:
    """The column of results.csv for a cell of the panel."""
    return f"accuracy_{metric}_k{k}"


def psnr(errors: np.ndarray) -> np.ndarray:
    """dB of each image's mean squared error, 100 at most."""
    return -10 * np.log10(np.maximum(errors, 1e-10))


def points(rows: Iterable[Row]) -> list[Point]:
    """Rows grouped by their settings: equal train, encode and knn plans are one point."""
    found: dict[str, Point] = {}
    for row in rows:
        plans = {stage: read_json(plan_path(row["run"], stage), "aebench plan") for stage in STAGES}
        key = json.dumps(plans, sort_keys=True)
        if key not in found:
            found[key] = Point([], settings(plans), [])
        point = found[key]
        if row["run"] not in point.names:
            point.names.append(row["run"])
        if row["run"] == point.names[0]:
            point.rows.append(row)
    return list(found.values())


def settings(plans: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Every parameter of a point under one flat name: model, latent, train.epochs, knn.k, ..."""
    flat = {"model": plans["train"]["model"], **plans["train"]["build"]}
    flat |= {f"train.{key}": value for key, value in (plans["train"]["train"] or {}).items()}
    return flat | {f"knn.{key}": plans["knn"][key] for key in ("k", "metric", "backend")}


def swept(all_points: list[Point]) -> dict[str, list[list[Point]]]:
    """Parameter -> groups of points that differ in that parameter alone, by its value.

    The representation size and the depth come first. An untrained network is a reference, not the
    point at 0 epochs of a study.
    """
    trained = [p for p in all_points if p.settings.get("train.epochs") != 0]
    names = ["latent", "depth"] + sorted(
        {n for p in trained for n in p.settings} - {"model", "latent", "depth"}
    )
    found: dict[str, list[list[Point]]] = {}
    for name in names:
        groups: dict[str, list[Point]] = {}
        for point in trained:
            if name in point.settings:
                others = {k: v for k, v in point.settings.items() if k != name}
                groups.setdefault(json.dumps(others, sort_keys=True), []).append(point)
        kept = [
            sorted(g, key=lambda p: sort_key(p.settings[name])) for g in groups.values() if g[1:]
        ]
        if kept:
            found[name] = kept
    return found


def sort_key(value: Any) -> tuple[bool, Any]:
    """Numbers by size before everything else by its text."""
    number = isinstance(value, int | float)
    return not number, value if number else str(value)


def read_plan() -> dict[str, Any]:
    """plan/report.json."""
    return read_json(PLAN / "report.json", "aebench plan")
