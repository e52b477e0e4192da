"""The results of runs, read once: what a report is made of."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from aebench.errors import AebenchError
from aebench.records.encode import EncodeRecord, Sizes
from aebench.records.knn import KnnRecord
from aebench.records.origin import MACHINE, Provenance
from aebench.records.plan import ReportPlan, settings
from aebench.records.prepare import DataRecord
from aebench.records.record import column_names, scalars
from aebench.records.train import TrainRecord
from aebench.schema import Recipe
from aebench.workspace import PER_RUN, Workspace

Columns = dict[str, Any]  # a row of results.csv; None where there is no figure
# What users find first in results.csv.
FIRST = (
    "run",
    "model",
    "latent",
    "depth",
    "seed",
    "status",
    "num_params",
    "model_bytes",
    "epoch_seconds",
    "mse",
    "psnr",
    "accuracy",
)
EXAMPLES = ("examples.npy", "gallery.npy")  # the second: of format 1


@dataclass
class Result:
    """One run and seed. `key`: equal for results of equal settings, code and data."""

    run: str
    seed: int
    columns: Columns
    settings: dict[str, Any]  # every parameter under one flat name: model, train.epochs, knn.k, ...
    key: str
    losses: list[float]  # mean of each epoch
    folder: Path
    source: str = ""  # the gathered folder that it is from; empty for the workspace's own

    @property
    def ok(self) -> bool:
        """Whether it did not fail."""
        return self.columns["status"] == "ok"

    @cached_property
    def outcomes(self) -> np.ndarray:
        """Records (label, prediction, squared_error) (N_test,) of one that did not fail."""
        votes = np.load(self.folder / "outcomes.npy")
        if "squared_error" in (votes.dtype.names or ()):  # of format 1
            return votes
        kinds = [*votes.dtype.descr, ("squared_error", np.float32)]
        found = np.empty(len(votes), kinds)
        for name in votes.dtype.names or ():
            found[name] = votes[name]
        found["squared_error"] = np.load(self.folder / "squared_errors.npy")
        return found

    @cached_property
    def examples(self) -> np.ndarray | None:
        """Reconstructions uint8 (n, C, H, W) of the shown test images."""
        return first_array(self.folder / name for name in EXAMPLES)


@dataclass
class Results:
    """Everything a report is made of, in the order of params.yaml."""

    data: DataRecord
    results: list[Result]
    latent: int  # the defaults
    depth: int
    knn: dict[str, Any]  # k, metric, backend
    runs: list[str]
    seeds: list[int]
    originals: np.ndarray | None  # the shown test images uint8 (n, C, H, W)
    hidden: list[str] = field(default_factory=list)  # what is not shown, and why
    remarks: list[str] = field(default_factory=list)  # on what was gathered


def first_array(paths: Iterable[Path]) -> np.ndarray | None:
    """The first of these files that is there."""
    return next((np.load(path) for path in paths if path.is_file()), None)


def read_results(workspace: Workspace) -> Results:
    """What the workspace's plan/report.json names. AebenchError without a plan or images."""
    plan = ReportPlan.read(workspace.plan / "report.json", "aebench plan")
    data = DataRecord.read(workspace.results / "data.json", "dvc repro")
    if not data.is_of(plan.data):
        raise AebenchError("results/data.json is of another data set; run `dvc repro`")
    found = Results(
        data,
        [],
        plan.latent,
        plan.depth,
        plan.knn.model_dump(),
        plan.runs,
        plan.seeds,
        first_array([workspace.results / "examples.npy"]),
    )
    for run in plan.runs:
        for seed in plan.seeds:
            try:
                folder = workspace.results / run / str(seed)
                found.results.append(read_result(folder, data, plan.expected[run]))
            except AebenchError as error:
                found.hidden.append(f"{run}, seed {seed}: {error}; run `dvc repro`")
    return found


def read_result(
    folder: Path, data: DataRecord, expected: Mapping[str, str] | None = None
) -> Result:
    """The result in results/<run>/<seed>. AebenchError says why there is none that can be shown.

    `expected`: the plans' hashes by stage, where the result has to be of them.
    """
    records = {}
    for stage, kind in zip(PER_RUN, (TrainRecord, EncodeRecord, KnnRecord), strict=True):
        path = folder / f"{stage}.json"
        if not path.is_file():
            raise AebenchError(f"no result of {stage}")
        records[stage] = kind.read(path, "dvc repro")
        if expected is not None and not records[stage].is_of(expected[stage]):
            raise AebenchError(f"the result of {stage} is of other settings")
        if records[stage].data_hash != data.data_hash:
            raise AebenchError(f"the result of {stage} is of other images")
    train, encode, knn = records["train"], records["encode"], records["knn"]
    if train.weights_hash != encode.weights_hash:
        raise AebenchError("the result of encode is of other weights")
    if encode.codes_hash != knn.codes_hash:
        raise AebenchError("the result of knn is of other codes")
    if train.plan is None or encode.plan is None or knn.plan is None:
        raise AebenchError("its settings are not known (plan/ is not beside results/)")
    columns = row(folder, data, train, encode, knn)
    if columns["status"] == "ok":
        for name in ("outcomes.npy", "squared_errors.npy"):
            old = name == "squared_errors.npy" and (folder / EXAMPLES[1]).is_file()
            if not old and not (folder / name).is_file():
                raise AebenchError(f"{name} is not there")
    plans = [plan.model_dump(mode="json") for plan in (train.plan, encode.plan, knn.plan)]
    return Result(
        columns["run"],
        columns["seed"],
        columns,
        settings(train.plan, knn.plan),
        json.dumps([data.data_hash, *plans], sort_keys=True),
        train.losses,
        folder,
    )


def row(
    folder: Path, data: DataRecord, train: TrainRecord, encode: EncodeRecord, knn: KnnRecord
) -> Columns:
    """The result as a row of results.csv: first what users find there first."""
    assert train.plan and knn.plan
    build = train.plan.build
    floats = encode.sizes.code_floats if encode.sizes else None
    failed = [r.status for r in (train, encode, knn) if r.status != "ok"]
    named = {
        "run": folder.parent.name,
        "model": train.plan.model,
        "latent": build.get("latent", floats),
        "depth": build.get("depth"),
        "seed": int(folder.name),
        "status": failed[0] if failed else "ok",
    }
    recipe = train.plan.train.model_dump() if train.plan.train else {}
    found = scalars(train) | sizes(encode.sizes) | scalars(encode) | scalars(knn) | named
    for stage, timed, record in (
        ("train", "epoch", train),
        ("encode", "encode", encode),
        ("knn", "knn", knn),
    ):
        found |= scalars(record.timing, f"{timed}_")
        found |= origin_columns(stage, record.provenance)
    found |= knn.panel_columns | {
        "knn_kernels": "; ".join(sorted(set(knn.provenance.blas or []))) or None,
        "code_bytes": floats and floats * 4,
        "compression": floats and int(np.prod(data.shape)) / (floats * 4),
        "data_hash": train.data_hash,
        "plan_hash": train.plan_hash,
        "options": json.dumps({k: v for k, v in build.items() if k not in named}),
        **{key: recipe.get(key) for key in Recipe.model_fields},
        **knn.plan.knn.model_dump(),
        **{key: getattr(train.provenance, key) for key in (*MACHINE, "protocol")},
        "openblas_coretype": knn.provenance.openblas_coretype,
        **versions(train.provenance, knn.provenance),
        "date": train.provenance.date,
    }
    return {key: found[key] for key in FIRST} | found


def sizes(found: Sizes | None) -> Columns:
    """Their columns; blank for a failed run."""
    return scalars(found) if found else dict.fromkeys(column_names(Sizes))


def origin_columns(stage: str, origin: Provenance) -> Columns:
    """Where one stage ran, and by which code."""
    found = {"machine": origin.machine, "commit": origin.commit, "dirty": origin.dirty}
    return {f"{stage}_{key}": value for key, value in found.items()}


def versions(*origins: Provenance) -> Columns:
    """A column per package."""
    return {
        f"{name.replace('-', '_')}_version": version
        for origin in origins
        for name, version in origin.versions.items()
    }
