"""Resolve params.yaml and the plug-ins into what each stage of each run depends on."""

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from aebench.errors import AebenchError, nearest
from aebench.fingerprint import known_fingerprint
from aebench.folders import image_folder
from aebench.indexes import Index, parsed
from aebench.params import NAME, read_params, shown
from aebench.plugins import Metric, Model, Plugin, Registry, load_plugins
from aebench.records.plan import (
    CodecsPlan,
    DataPlan,
    EncodePlan,
    Fingerprints,
    IndexPlan,
    KnnPlan,
    MetricPlan,
    ReportPlan,
    StressPlan,
    TrainPlan,
    Untrained,
    WeightsFile,
    splits_of,
)
from aebench.records.prepare import DataRecord
from aebench.records.record import Record
from aebench.schema import Knn, Params, Recipe, Run
from aebench.weights_file import weights_fault, weights_file
from aebench.workspace import INDEX, PER_RUN, STRESS, Workspace, data_root, is_json, sha256

UNKNOWN = sys.maxsize  # no k is above an unknown number of images: prepare checks again


@dataclass
class Plan:
    """What `plan` writes: path -> record, and what it says of them.

    `code`: fingerprint -> module or file -> hash of its own source; `remembering`: see
    `known_fingerprint`.
    """

    workspace: Workspace
    remembering: bool
    files: dict[Path, Record] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    code: dict[str, dict[str, str]] = field(default_factory=dict)
    known: dict[tuple[str, str | None], Fingerprints] = field(default_factory=dict)
    metrics: dict[str, MetricPlan] = field(default_factory=dict)

    def fingerprints(self, computing: str, plugin: Plugin | None = None) -> Fingerprints:
        """The hashes of aebench's code and of the plug-in's; what they are of is kept."""
        key = computing, plugin and plugin.name
        if key not in self.known:
            aebench, modules = known_fingerprint(self.workspace, computing, self.remembering)
            self.code[aebench] = modules
            own = plugin and plugin.fingerprint()
            if plugin and own:
                self.code[own] = plugin.hashes()
            self.known[key] = Fingerprints(aebench=aebench, plugin=own)
        return self.known[key]

    def metric(self, metric: Metric) -> MetricPlan:
        """Of one that a plug-in registers."""
        plugin, own = metric.plugin, metric.plugin.fingerprint()
        self.code[own] = plugin.hashes()
        return MetricPlan(plugin=plugin.name, better=metric.better, fingerprint=own)


def resolve(workspace: Workspace, remembering: bool = True) -> Plan:
    """The plan of the workspace as it is now. AebenchError holds every fault.

    `remembering`: see `load_plugins`; without it no file is written.
    """
    params, faults = read_params(workspace)
    if params is None:
        raise AebenchError("\n".join(faults))
    registry = load_plugins(workspace, remembering)
    plan = Plan(workspace, remembering)
    plan.metrics = {name: plan.metric(one) for name, one in sorted(registry.metrics.items())}
    num_train = UNKNOWN
    if not any(fault.startswith(f"{NAME}: dataset:") for fault in faults):
        try:
            data = data_plan(params, registry, plan)
            plan.files[workspace.plan / "data.json"] = data
            num_train = train_size(workspace, data)
            faults += k_faults(params, num_train) + points_faults(params, num_train)
        except AebenchError as error:
            faults.append(str(error))
    for name, run in params.runs.items():
        run_faults = list(model_faults(name, run, registry))
        if run.weights is not None and (fault := weights_fault(workspace, run.weights)):
            run_faults.append(f"{NAME}: runs.{name}.weights: {fault}")
        faults += run_faults
        if not run_faults:
            model = registry.find(run.model)
            assert model  # else a fault
            fault = None if model.closed_form else batch_fault(name, run, params, num_train)
            faults += [fault] if fault and fault not in faults else []
            file = run.weights and weights_file(workspace, run.weights, remembering)
            plan.files |= run_plans(workspace, name, run, params, model, file or None, plan)
    faults += index_faults(params, plan)
    if faults and registry.broken:
        faults += [f"not loaded: {reason}" for reason in registry.broken.values()]
    if faults:
        raise AebenchError("\n".join(faults))
    told_apart = {found.name for run in params.runs.values() if (found := registry.find(run.model))}
    doubled = [text for name, text in registry.duplicates.items() if name not in told_apart]
    doubled += [*registry.duplicate_datasets.values(), *registry.duplicate_metrics.values()]
    unused = [*registry.broken.values(), *doubled]
    plan.warnings += [f"not used: {reason}" for reason in unused]
    plan.files[workspace.plan / "codecs.json"] = CodecsPlan(
        k=params.knn.k, fingerprints=plan.fingerprints("codecs")
    )
    plan.files[workspace.plan / "report.json"] = report_plan(workspace, params, plan)
    return plan


def model_faults(name: str, run: Run, registry: Registry) -> Iterator[str]:
    """What is wrong with the run's model name and the options it is given."""
    where = f"{NAME}: runs.{name}"
    if run.model in registry.duplicates:
        yield f"{where}: {registry.duplicates[run.model]}"
        return
    model = registry.find(run.model)
    if model is None:
        known = ", ".join(sorted(registry.choices)) or "none"
        hint = nearest(run.model, [*registry.models, *registry.full_names])
        text = f"unknown model {run.model!r}{hint}; registered: {known}"
        yield "; ".join([f"{where}.model: {text}", *registry.ignored])
        return
    arguments = model.arguments
    options = [key for key in arguments if key not in ("latent", "depth")]
    for key in ("latent", "depth"):
        if getattr(run, key) is not None and key not in arguments:
            yield f"{where}.{key}: model {run.model!r} does not use {key}; remove the line"
    given = run.model_extra or {}
    for key in given.keys() - set(options) - Params.model_fields.keys():
        allowed = ", ".join([*Run.model_fields, *options])
        hint = nearest(key, allowed.split(", "))
        yield f"{where}.{key}: unknown key{hint}; allowed for model {run.model!r}: {allowed}"
    for key in options:
        value = given.get(key, arguments[key])
        if value is ...:
            yield f"{where}: option {key!r} of model {run.model!r} has no default; add it"
        elif not is_json(value):
            yield (
                f"{where}.{key}: got {shown(value)}; allowed as an option or its default: finite "
                "numbers, text, true, false, null, lists and mappings (from text) of these"
            )


def recipe(run: Run, params: Params) -> Recipe:
    """How the run is trained."""
    return Recipe.model_validate(params.train.model_dump() | run.train)


def batch_fault(name: str, run: Run, params: Params, num_train: int) -> str | None:
    """That the run's processes do not divide its batches, named where that stands."""
    train = recipe(run, params)
    most = min(train.batch_size, num_train)
    if train.epochs == 0 or most % train.processes == 0:
        return None
    place = f"runs.{name}." if run.train.keys() & {"batch_size", "processes"} else ""
    count, each = train.processes, f"multiples of {train.processes}"
    got, allowed = f"got {train.batch_size}", f"allowed with {count} processes: {each}"
    if most < train.batch_size:
        got += f", more than the {most} training images, which {count} processes do not divide"
        allowed = f"allowed: {each} up to {most}"
    return f"{NAME}: {place}train.batch_size: {got}; {allowed}"


def run_plans(
    workspace: Workspace,
    name: str,
    run: Run,
    params: Params,
    model: Model,
    weights: WeightsFile | None,
    plan: Plan,
) -> dict[Path, Record]:
    """The plan files of a run: each holds what alters its stage's result, nothing else."""
    arguments = model.arguments
    build = {k: default for k, default in arguments.items() if k not in ("latent", "depth")}
    build |= run.model_extra or {}
    build |= {
        k: getattr(run, k) or getattr(params, k) for k in ("latent", "depth") if k in arguments
    }
    plugin = model.plugin
    settings = {"model": model.name, "plugin": plugin.name, "build": build}
    train: Recipe | Untrained | None = None  # fit() sees none of it
    if not model.closed_form:
        train = recipe(run, params)
        train = train if train.epochs else Untrained()
    code = plan.fingerprints("closed form" if train is None else "train", plugin)
    knn = Knn.model_validate(params.knn.model_dump() | run.knn)
    found: dict[Path, Record] = {
        workspace.plan_path(name, f"{INDEX}{index}"): IndexPlan(
            index=factory, k=knn.k, fingerprints=plan.fingerprints("index")
        )
        for index, factory in params.search.items()
    }
    found[workspace.plan_path(name, STRESS)] = StressPlan(
        **settings, knn=knn, fingerprints=plan.fingerprints(STRESS, plugin)
    )
    plans = (
        TrainPlan(
            **settings,
            train=train,
            weights=weights,
            fingerprints=code,
            only_seed=params.seeds[0] if model.seedless and params.seeds[1:] else None,
        ),
        EncodePlan(
            **settings,
            fingerprints=plan.fingerprints("encode", plugin),
            first_seed=params.seeds[0],
            metrics=plan.metrics,
        ),
        KnnPlan(knn=knn, fingerprints=plan.fingerprints("knn")),
    )
    return found | {workspace.plan_path(name, s): p for s, p in zip(PER_RUN, plans, strict=True)}


def data_plan(params: Params, registry: Registry, plan: Plan) -> DataPlan:
    """Where the images come from: a folder below the data root, else a plug-in."""
    name = params.dataset
    keys = ("dataset", "image_size", "channels", "holdout")
    settings = {key: getattr(params, key) for key in keys}
    folder = data_root() / name
    given = os.path.expanduser(os.environ.get("AEBENCH_DATA") or os.sep)
    if not os.path.isabs(given):
        plan.warnings.append(
            f"AEBENCH_DATA: {given!r} is relative to the workspace (now {folder.parent}), and "
            "`dvc exp run --temp` has another one; give an absolute path"
        )
    if any(os.path.isdir(folder / split) for split in ("train", "test")):
        found = image_folder(folder, splits_of(params.holdout))
        known = not params.holdout  # else how many are left is known when their content is
        plan.warnings += [f"{name}: {remark}" for remark in found.remarks]
        return DataPlan(
            **settings,
            source="folder",
            files=found.files,
            num_train=found.count("train") if known else None,
            num_test=found.count("test") if known else None,
            fingerprints=plan.fingerprints("prepare"),
        )
    if name in registry.duplicate_datasets:
        raise AebenchError(f"{NAME}: dataset: {registry.duplicate_datasets[name]}")
    if name not in registry.datasets:
        raise AebenchError(unknown_dataset(name, folder, registry))
    plugin = registry.datasets[name].plugin
    prints = plan.fingerprints("prepare", plugin)
    return DataPlan(**settings, source=plugin.name, fingerprints=prints)


def unknown_dataset(name: str, folder: Path, registry: Registry) -> str:
    """What is known instead, and where a folder of that name would be looked for."""
    root = folder.parent
    try:
        folders = [entry for entry in os.listdir(root) if os.path.isdir(root / entry / "train")]
        where = ""
    except OSError as error:
        folders, where = [], f" (the data root {root}: {error.strerror}; $AEBENCH_DATA sets it)"
    known = sorted({*registry.datasets, *folders})
    if os.path.lexists(folder):
        return (
            f"{folder}: holds no train/ and test/ that can be read; allowed: "
            "{train,test}/<class>/*.png; rename its folders, or mend who may read it"
        )
    return (
        f"{NAME}: dataset: unknown data set {name!r}{nearest(name, known)}; known: "
        f"{', '.join(known) or 'none'}; a folder of your own goes to "
        f"{folder}/{{train,test}}/<class>/*.png{where}"
    )


def train_size(workspace: Workspace, data: DataPlan) -> int:
    """Training images, where known: from the folder, or from what this very plan prepared."""
    if data.num_train is not None:
        return data.num_train
    try:
        prepared = DataRecord.read(workspace.results / "data.json", "aebench prepare")
    except AebenchError:
        return UNKNOWN
    return prepared.num_train if prepared.is_of(data.json_bytes()) else UNKNOWN


def k_faults(params: Params, num_train: int) -> list[str]:
    """Each k above the number of training images, named once where it stands."""
    places = {"knn.k": params.knn.k}
    places |= {f"runs.{name}.knn.k": r.knn["k"] for name, r in params.runs.items() if "k" in r.knn}
    return [
        f"{NAME}: {place}: got {k}; allowed: 1 to {num_train}, the number of training images"
        for place, k in places.items()
        if k > num_train
    ]


def points_faults(params: Params, num_train: int) -> list[str]:
    """Each index that needs more training points than there are images."""
    return [
        f"{NAME}: search.{name}: {index.factory} needs {index.points:,} training points; there are "
        f"{num_train:,}; take fewer cells, a smaller code, or remove it"
        for name, index in indexes_of(params).items()
        if index.points > num_train
    ]


def index_faults(params: Params, plan: Plan) -> Iterator[str]:
    """Each index that is none, or that fits the codes of no run; some that it does not fit: said.

    Codes whose floats no setting says (those of pixels) are measured, and then fit or do not.
    """
    known = indexes_of(params)
    for name in params.search.keys() - known.keys():
        try:
            parsed(params.search[name])
        except ValueError as error:
            yield f"{NAME}: search.{name}: got {shown(params.search[name])}; {error}"
    builds = {
        name: made.build
        for name in params.runs
        if isinstance(made := plan.files.get(plan.workspace.plan_path(name, "encode")), EncodePlan)
    }
    for name, index in known.items():
        found = {
            run: why
            for run, build in builds.items()
            if "latent" in build and (why := index.misfit(build["latent"]))
        }
        if not found:
            continue
        first = next(iter(found.values()))
        if len(found) == len(params.runs):
            yield f"{NAME}: search.{name}: {index.factory} fits the codes of no run ({first})"
        else:
            plan.warnings.append(
                f"{NAME}: search.{name}: {index.factory} does not fit the codes of "
                f"{', '.join(found)} ({first}); left out there"
            )


def indexes_of(params: Params) -> dict[str, Index]:
    """Name -> what its factory string says, of those that say something."""
    found = {}
    for name, factory in params.search.items():
        with contextlib.suppress(ValueError):
            found[name] = parsed(factory)
    return found


def report_plan(workspace: Workspace, params: Params, plan: Plan) -> ReportPlan:
    """What the report shows, in the order of params.yaml."""
    hashes = {path: sha256(record.json_bytes()) for path, record in plan.files.items()}
    stages = [*PER_RUN, STRESS, *(f"{INDEX}{name}" for name in params.search)]
    return ReportPlan(
        dataset=params.dataset,
        latent=params.latent,
        depth=params.depth,
        knn=params.knn,
        runs=list(params.runs),
        seeds=params.seeds,
        seedless=[
            name
            for name in params.runs
            if isinstance(made := plan.files[workspace.plan_path(name, "train")], TrainPlan)
            and made.only_seed is not None
        ],
        data=hashes[workspace.plan / "data.json"],
        expected={
            run: {stage: hashes[workspace.plan_path(run, stage)] for stage in stages}
            for run in params.runs
        },
        codecs=hashes[workspace.plan / "codecs.json"],
        search=params.search,
        trials={name: run.trials for name, run in params.runs.items() if run.trials},
        fingerprints=plan.fingerprints("report"),
    )
