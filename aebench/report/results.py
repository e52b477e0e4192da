"""The results of runs, read once: what a report is made of."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from aebench.errors import AebenchError, Damaged, first_line
from aebench.inputs import array, content
from aebench.mending import mended
from aebench.records.chain import chain_fault, kind_of
from aebench.records.codecs import CodecsRecord
from aebench.records.encode import EncodeRecord, Sizes
from aebench.records.index import IndexRecord
from aebench.records.knn import KnnRecord
from aebench.records.origin import MACHINE, Provenance, defined_by
from aebench.records.plan import Better, ReportPlan, settings
from aebench.records.prepare import DataRecord, NearDuplicates
from aebench.records.record import column_names, scalars
from aebench.records.stress import StressRecord
from aebench.records.train import TrainRecord, epoch_figures
from aebench.schema import Recipe
from aebench.shown import WORST
from aebench.sprite import size
from aebench.workspace import INDEX, PER_RUN, STRESS, Workspace

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
TIMED = {"train": "epoch", "encode": "encode", "knn": "knn"}  # stage -> what its time is of
TAKEN = "stage_seconds", "stage_cpu_seconds", "peak_memory_bytes", "gpu_peak_memory_bytes"
OUTCOME = [("label", np.int64), ("prediction", np.int64), ("squared_error", np.float32)]
NOT_METRICS = {"accuracy", "mse", *(name for name, _ in OUTCOME)}  # no plug-in's metric
EXAMPLES = ("examples.npy", "gallery.npy")  # the second: of format 1
MAPS = (1, 2)  # by PCA; by t-SNE, too


@dataclass
class Result:
    """One run and seed. `key`: equal for results of equal settings, code and data.

    `outcomes`: records (label, prediction, squared_error, further metrics) (N_test,), none if it
    failed, without what an encoder alone has not; `better`: further metric -> its better direction;
    `examples`: reconstructions uint8 (n, C, H, W) of the shown test
    images; `worst`: uint8 (2, n, C, H, W), the test images with the largest squared errors, the
    largest first, and their reconstructions; `code_map`: uint8 (m, n, 2), where the codes of the
    mapped test images lie in the plane, by PCA and, where there is a second one, by t-SNE.
    """

    run: str
    seed: int
    columns: Columns
    settings: dict[str, Any]  # every parameter under one flat name: model, train.epochs, knn.k, ...
    key: str
    losses: list[float]  # mean of each epoch
    curves: dict[str, list[float | None]]  # further scalars of the loss, likewise
    outcomes: np.ndarray
    examples: np.ndarray | None
    original: str  # `mlp-0`: its name where it was computed
    source: str = ""  # the gathered folder that it is from; empty for the workspace's own
    worst: np.ndarray | None = None
    code_map: np.ndarray | None = None
    code: dict[str, str] = field(default_factory=dict)  # `train plugin` -> its fingerprint
    epoch_seconds: list[float] = field(default_factory=list)  # of each epoch
    indexes: dict[str, IndexRecord] = field(default_factory=dict)  # by their names
    stress: StressRecord | None = None  # of the first seed
    # `stress` or `index <name>` -> why it is not there
    unread: dict[str, AebenchError] = field(default_factory=dict)
    better: dict[str, Better] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether it did not fail."""
        return self.columns["status"] == "ok"


class Near(NamedTuple):
    """Which test images have a near-duplicate among the training images: bool (N_test,)."""

    about: NearDuplicates
    images: np.ndarray


@dataclass
class Results:
    """Everything a report is made of, in the order of params.yaml."""

    data: DataRecord
    results: list[Result]
    latent: int | None  # the defaults; None: no run has the parameter
    depth: int | None
    knn: dict[str, Any]  # k, metric, backend
    runs: list[str]
    seeds: list[int]
    originals: np.ndarray | None  # the shown test images uint8 (n, C, H, W)
    hidden: list[str] = field(default_factory=list)  # what is not shown, and why
    remarks: list[str] = field(default_factory=list)  # on what was gathered
    near: Near | None = None  # of an earlier version, nothing is known
    # And each test image's error: float32 (codecs, N_test).
    codecs: tuple[CodecsRecord, np.ndarray] | None = None
    sprite: bytes | None = None  # WebP: the mapped test images, SPRITE_COLUMNS side by side


def load_array(path: Path, length: int, wanted: str | None) -> np.ndarray:
    """An array of so many rows. AebenchError for another number, and see `array`."""
    found = array(path, wanted)
    if found.shape[:1] != (length,):
        raise AebenchError(f"{path.name} is of {len(found)} images, not of {length}")
    return found


def read_outcomes(
    folder: Path, data: DataRecord, encode: EncodeRecord, knn: KnnRecord
) -> np.ndarray:
    """The votes of outcomes.npy, records (N_test,); with the metrics of what decodes.

    AebenchError for what no stage writes: other fields, classes or numbers.
    """
    count, classes = data.num_test, len(data.classes)
    votes = load_array(folder / "outcomes.npy", count, knn.file_hash("outcomes.npy"))
    names = votes.dtype.names or ()
    decodes = encode.mse is not None
    metrics = read_metrics(folder, data, encode) if decodes else {}
    further = [(name, np.float32) for name in metrics]
    found = np.empty(count, [*OUTCOME, *further] if decodes else OUTCOME[:2])
    for name, values in metrics.items():
        found[name] = values
    for name in ("label", "prediction"):
        if name not in names or not ((votes[name] >= 0) & (votes[name] < classes)).all():
            raise AebenchError(f"outcomes.npy holds no {name} among {classes} classes")
        found[name] = votes[name]
    if not decodes:
        return found
    name = "squared_errors.npy"
    of_format_1 = "squared_error" in names
    errors = votes if of_format_1 else load_array(folder / name, count, encode.file_hash(name))
    found["squared_error"] = errors["squared_error"] if of_format_1 else errors
    if not np.isfinite(found["squared_error"]).all():
        raise AebenchError("squared errors are not finite")
    return found


def read_metrics(folder: Path, data: DataRecord, encode: EncodeRecord) -> dict[str, np.ndarray]:
    """The further metrics, float32 (N_test,) each; none of an earlier version, without the file.

    AebenchError for what no stage writes.
    """
    path, wanted = folder / "metrics.npy", encode.file_hash("metrics.npy")
    if wanted is None and not path.is_file():
        return {}
    found = load_array(path, data.num_test, wanted)
    names = {"psnr", *(name for name, metric in encode.metrics.items() if metric.mean is not None)}
    fields = found.dtype.fields or {}
    if (
        fields.keys() != names
        or names & NOT_METRICS
        or any(f[0] != np.float32 for f in fields.values())
    ):
        raise AebenchError(
            f"metrics.npy holds {found.dtype}, no float32 of {', '.join(sorted(names))}"
        )
    if not all(np.isfinite(found[name]).all() for name in fields):
        raise AebenchError("metrics are not finite")
    return {name: found[name] for name in fields}


def equal(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two outcomes are the same. Those with and without errors have other fields."""
    return one.dtype == other.dtype and bool((one == other).all())


def read_examples(
    folder: Path, data: DataRecord, of: DataRecord | EncodeRecord
) -> np.ndarray | None:
    """The shown test images, or what a run made of them; None where there are none.

    `of`: the record of the stage that wrote them.
    """
    names = [name for name in EXAMPLES if of.file_hash(name) or (folder / name).is_file()]
    if not names:
        return None
    return load_array(folder / names[0], len(data.examples), of.file_hash(names[0]))


def read_worst(folder: Path, data: DataRecord, encode: EncodeRecord) -> np.ndarray | None:
    """Result.worst; None of an earlier version. AebenchError for what no stage writes."""
    path, wanted = folder / "worst.npy", encode.file_hash("worst.npy")
    if wanted is None and not path.is_file():
        return None
    found = array(path, wanted)
    if found.dtype != np.uint8 or found.shape != (2, min(WORST, data.num_test), *data.shape):
        raise AebenchError(f"worst.npy holds {found.dtype} {found.shape}, no pairs of test images")
    return found


def read_code_map(folder: Path, data: DataRecord, encode: EncodeRecord) -> np.ndarray | None:
    """Result.code_map; None of an earlier version. AebenchError for what no stage writes."""
    path, wanted = folder / "code_map.npy", encode.file_hash("code_map.npy")
    if wanted is None and not path.is_file():
        return None
    found, count = array(path, wanted), len(data.mapped)
    if found.dtype != np.uint8 or found.shape not in [(maps, count, 2) for maps in MAPS]:
        raise AebenchError(
            f"code_map.npy holds {found.dtype} {found.shape}, no places of {count} images"
        )
    return found


def read_sprite(folder: Path, data: DataRecord) -> bytes | None:
    """Results.sprite; None of an earlier version. AebenchError where it is another picture."""
    from PIL import Image

    path, recorded = folder / "sprite.webp", data.file_hash("sprite.webp")
    if recorded is None and not path.is_file():
        return None
    found = content(path, recorded)
    wanted = size(len(data.mapped), *data.shape[1:])
    try:
        with Image.open(io.BytesIO(found), formats=["WebP"]) as picture:
            picture.load()
    except (OSError, ValueError) as error:
        raise AebenchError(f"sprite.webp is not whole ({first_line(error)})") from None
    if picture.size != wanted:
        raise AebenchError(f"sprite.webp is of {picture.size} pixels, not of {wanted}")
    return found


def read_near(folder: Path, data: DataRecord) -> Near | None:
    """Results.near; None of an earlier version. AebenchError for what no stage writes."""
    about, name = data.near_duplicates, "near_duplicates.npy"
    if about is None:
        return None
    found = load_array(folder / name, data.num_test, data.file_hash(name))
    if found.dtype != bool or found.ndim != 1 or found.sum() != about.count:
        raise AebenchError(f"{name} holds {found.dtype} {found.shape}, not {about.count} images")
    return Near(about, found)


def read_codecs(
    folder: Path, data: DataRecord, plan: str = ""
) -> tuple[CodecsRecord, np.ndarray] | None:
    """Results.codecs; None where their stage has not run. AebenchError for others' or damaged ones.

    `plan`: SHA-256 of the plan that they have to be of.
    """
    path = folder / "codecs.json"
    if not path.is_file():
        return None
    record = CodecsRecord.read(path, "dvc repro")
    if record.data_hash != data.data_hash or (plan and not record.is_of(plan)):
        raise AebenchError("results/codecs.json is of other images or settings")
    name = "codecs.npy"
    errors = load_array(folder / name, len(record.codecs), record.file_hash(name))
    shape = len(record.codecs), data.num_test
    if (errors.dtype, errors.shape) != (np.float32, shape) or not np.isfinite(errors).all():
        raise AebenchError(f"{name} does not hold the errors of {data.num_test} images")
    return record, errors


def read_results(
    workspace: Workspace, plan: ReportPlan | None = None, pictures: bool = True
) -> Results:
    """What the plan names, that of the workspace's plan/report.json unless given.

    `pictures`: whether those that a report shows are read, too, near-duplicates and what is of the
    first seed alone. AebenchError without a plan or images.
    """
    plan = plan or ReportPlan.read(workspace.plan / "report.json", "aebench plan")
    data = DataRecord.read(workspace.results / "data.json", "dvc repro")
    if not data.is_of(plan.data):
        raise AebenchError("results/data.json is of another plan/data.json; run `dvc repro`")
    found = Results(
        data,
        [],
        plan.latent,
        plan.depth,
        plan.knn.model_dump(),
        plan.runs,
        plan.seeds,
        None,
    )
    if pictures:
        try:
            found.near = read_near(workspace.results, data)
        except AebenchError as error:
            found.hidden.append(f"near-duplicates: {told(workspace, error)}")
        try:
            found.originals = read_examples(workspace.results, data, data)
        except AebenchError as error:
            found.hidden.append(f"the shown test images: {told(workspace, error)}")
        try:
            found.sprite = read_sprite(workspace.results, data)
        except AebenchError as error:
            found.hidden.append(f"the images of the maps: {told(workspace, error)}")
        try:
            found.codecs = read_codecs(workspace.results, data, plan.codecs)
        except AebenchError as error:
            found.hidden.append(f"JPEG and WebP: {told(workspace, error)}")
    for run in plan.runs:
        for seed in plan.seeds_of(run):
            try:
                folder = workspace.results / run / str(seed)
                expected = plan.expected_of(run, seed)
                result = read_result(folder, data, expected, pictures)
                result.columns["trials"] = plan.trials.get(run)
                found.results.append(result)
                for name, error in result.unread.items():
                    found.hidden.append(f"{run}, {name}: {told(workspace, error)}")
            except AebenchError as error:
                found.hidden.append(f"{run}, seed {seed}: {told(workspace, error)}")
    return found


def told(workspace: Workspace, error: AebenchError) -> str:
    """Why something is hidden, and the command that mends it."""
    if isinstance(error, Damaged):
        return mended(workspace, error)
    return f"{error}; run `dvc repro`"


def read_result(
    folder: Path,
    data: DataRecord,
    expected: Mapping[str, str] | None = None,
    pictures: bool = True,
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
        if expected is not None and not records[stage].is_of(expected.get(stage, "")):
            raise AebenchError(f"the result of {stage} is of other settings")
        if records[stage].provenance.seed not in (None, int(folder.name)):
            raise AebenchError(f"the result of {stage} is of another seed")
        if fault := chain_fault(stage, records, data):
            raise AebenchError(fault)
    train, encode, knn = records["train"], records["encode"], records["knn"]
    if train.plan is None or encode.plan is None or knn.plan is None:
        raise AebenchError("its settings are not known (its plan/ is not beside results/)")
    if defined_by(encode.provenance.protocol) != defined_by(knn.provenance.protocol):
        raise AebenchError("encode and knn measured by different protocols")
    columns = row(folder, data, train, encode, knn)
    ok = columns["status"] == "ok"
    shown = ok and pictures
    further, unread = read_further(folder, data, encode, expected) if shown else ({}, {})
    stress = further.pop(STRESS, None)
    if isinstance(stress, StressRecord):
        columns |= stress.columns
    decodes = encode.mse is not None
    # Whether its codes are mapped twice, and which seed alone is computed, is no setting: others
    # have other first seeds.
    plans = [
        plan.model_dump(mode="json", exclude={"first_seed", "only_seed"})
        for plan in (train.plan, encode.plan, knn.plan)
    ]
    return Result(
        columns["run"],
        columns["seed"],
        columns,
        settings(train.plan, knn.plan),
        json.dumps([data.data_hash, *plans], sort_keys=True),
        train.losses,
        train.curves,
        read_outcomes(folder, data, encode, knn) if ok else np.empty(0),
        read_examples(folder, data, encode) if ok and decodes and pictures else None,
        f"{folder.parent.name}-{folder.name}",
        code={
            f"{stage} {kind}": found
            for stage, plan in zip(PER_RUN, plans, strict=True)
            for kind, found in plan["fingerprints"].items()
            if found
        }
        | {f"encode metric {name}": m.fingerprint for name, m in encode.plan.metrics.items()},
        better={name: metric.better for name, metric in encode.metrics.items()},
        epoch_seconds=train.all_epoch_seconds,
        worst=read_worst(folder, data, encode) if ok and decodes and pictures else None,
        code_map=read_code_map(folder, data, encode) if ok and pictures else None,
        indexes={
            stage.removeprefix(INDEX): record
            for stage, record in further.items()
            if isinstance(record, IndexRecord)
        },
        stress=stress if isinstance(stress, StressRecord) else None,
        unread=unread,
    )


def read_further(
    folder: Path, data: DataRecord, encode: EncodeRecord, expected: Mapping[str, str] | None
) -> tuple[dict[str, StressRecord | IndexRecord], dict[str, AebenchError]]:
    """Results of the first seed alone, by stage: those that are expected, or all there are.

    And why others are not there, by `stress` or `index <name>`. A workspace whose dvc.yaml is of an
    earlier version has no stage `stress`: nothing is said of that.
    """
    kinds = STRESS, INDEX
    wanted = {stage: plan for stage, plan in (expected or {}).items() if stage.startswith(kinds)}
    if expected is None:
        names = [path.stem for path in sorted(folder.glob(f"{INDEX}*.json"))]
        wanted = dict.fromkeys((STRESS, *names), "")
    found: dict[str, StressRecord | IndexRecord] = {}
    unread: dict[str, AebenchError] = {}
    for stage, plan in wanted.items():
        path = folder / f"{stage}.json"
        try:
            if not path.is_file():
                if stage == STRESS:
                    continue
                raise AebenchError("no result")
            record = kind_of(stage).read(path, "dvc repro")
            assert isinstance(record, StressRecord | IndexRecord)
            if plan and not record.is_of(plan):
                raise AebenchError("the result is of other settings")
            if record.provenance.seed not in (None, int(folder.name)):
                raise AebenchError("the result is of another seed")
            if fault := chain_fault(stage, {stage: record, "encode": encode}, data):
                raise AebenchError(fault)
            found[stage] = record
        except AebenchError as error:
            unread[stage.replace("-", " ", 1)] = error
    return found, unread


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
    notes = [train.note, *(metric.note for metric in encode.metrics.values()), knn.note]
    found = scalars(train) | sizes(encode.sizes) | scalars(encode)
    found |= {name: metric.mean for name, metric in encode.metrics.items()}
    found |= scalars(knn) | named
    if train.status == "ok":
        found |= epoch_figures(train.all_epoch_seconds)
    for stage, record in zip(PER_RUN, (train, encode, knn), strict=True):
        found |= scalars(record.timing, f"{TIMED[stage]}_")
        found |= origin_columns(stage, record.provenance)
    found |= knn.panel_columns | {
        "knn_kernels": "; ".join(sorted(set(knn.provenance.blas or []))) or None,
        "code_bytes": floats and floats * 4,
        "compression": floats and int(np.prod(data.shape)) / (floats * 4),
        "data_hash": train.data_hash,
        "holdout": data.holdout,
        "plan_hash": train.plan_hash,
        "options": json.dumps({k: v for k, v in build.items() if k not in named}),
        **{key: recipe.get(key) for key in Recipe.model_fields},
        **knn.plan.knn.model_dump(),
        **{k: getattr(train.provenance, k) for k in MACHINE if k not in Recipe.model_fields},
        "protocol": knn.provenance.protocol,
        "openblas_coretype": knn.provenance.openblas_coretype,
        **versions(train.provenance, knn.provenance),
        "date": train.provenance.date,
        "note": "; ".join(filter(None, notes)) or None,
        "trials": None,  # which a plan alone says
    }
    return {key: found[key] for key in FIRST} | found


def sizes(found: Sizes | None) -> Columns:
    """Their columns; blank for a failed run."""
    return scalars(found) if found else dict.fromkeys(column_names(Sizes))


def origin_columns(stage: str, origin: Provenance) -> Columns:
    """Where one stage ran, by which code, and what all of it took."""
    found = {"machine": origin.machine, "commit": origin.commit, "dirty": origin.dirty}
    found |= {name: getattr(origin, name) for name in TAKEN}
    return {f"{stage}_{key}": value for key, value in found.items()}


def versions(*origins: Provenance) -> Columns:
    """A column per package."""
    return {
        f"{name.replace('-', '_')}_version": version
        for origin in origins
        for name, version in origin.versions.items()
    }
