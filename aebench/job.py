"""A stage at work: what it computes by and from, and what it writes, or that it writes nothing."""

import contextlib
import errno
import importlib.util
import marshal
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from filelock import FileLock, Timeout

from aebench.children import client
from aebench.errors import AebenchError, Damaged, nearest
from aebench.fingerprint import known_fingerprint, sources
from aebench.holder import check_not_held
from aebench.inputs import DAMAGED, FIX, Inputs
from aebench.memory import state
from aebench.outs import Outs
from aebench.plugins import EXECUTED, Metric, Model, Plugin, find_plugin, load_metrics, load_model
from aebench.records.chain import RECORDS
from aebench.records.encode import EncodeRecord
from aebench.records.plan import (
    CodecsPlan,
    DataPlan,
    EncodePlan,
    IndexPlan,
    KnnPlan,
    ModelPlan,
    ReportPlan,
    StressPlan,
    TrainPlan,
)
from aebench.records.prepare import DataRecord, Prepared
from aebench.weights_file import check_weights_file
from aebench.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np

# Plan -> its stage.
STAGE_OF = {
    DataPlan: "prepare",
    TrainPlan: "train",
    EncodePlan: "encode",
    KnnPlan: "knn",
    StressPlan: "stress",
    IndexPlan: "index",
    CodecsPlan: "codecs",
    ReportPlan: "report",
}
WAIT = 3.0  # seconds: more than another process needs to end that has lost its DVC
# What a file system without locks says.
WITHOUT_LOCKS = errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL
P = TypeVar(
    "P",
    DataPlan,
    TrainPlan,
    EncodePlan,
    KnnPlan,
    StressPlan,
    IndexPlan,
    CodecsPlan,
    ReportPlan,
)


@contextlib.contextmanager
def alone(workspace: Workspace, name: str, wait: float = WAIT) -> Iterator[bool]:
    """One process at a time, and none beside a DVC that did not start it.

    Whether that is certain: not on a file system without locks. `name`: the verb and what it takes;
    `wait`: seconds for another's end. AebenchError for a second one.
    """
    check_not_held(workspace, client())
    folder = workspace.root / ".aebench" / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / name.replace(" ", "-"))
    try:
        with warnings.catch_warnings(action="ignore"):  # of its other way, on some file systems
            lock.acquire(timeout=wait)
    except Timeout:
        raise AebenchError(
            f"another `aebench {name}` is writing the same files; wait for its end, or end it"
        ) from None
    except NotImplementedError:
        pass
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
    try:
        yield lock.is_locked
    finally:
        lock.release()


def check_planned(workspace: Workspace, run: str, seed: int | None = None) -> int:
    """The seed, or the first one. AebenchError for a run or seed that is not in the plan."""
    path = workspace.plan / "report.json"
    plan, made = ReportPlan.read(path, "aebench plan"), f" ({path}, made by `aebench plan`)"
    if run not in plan.runs:
        known = ", ".join(plan.runs)
        raise AebenchError(f"unknown run {run!r}{nearest(run, plan.runs)}; runs: {known}{made}")
    seed = next(iter(plan.seeds), None) if seed is None else seed
    if seed not in plan.seeds:
        known = ", ".join(map(str, plan.seeds))
        raise AebenchError(f"run {run!r} has no seed {seed}; seeds: {known}{made}")
    return seed


@dataclass
class Job(Generic[P]):
    """What a stage holds while it works: see `working`."""

    workspace: Workspace
    plan_file: Path
    plan: P
    plan_hash: str
    outs: Outs
    inputs: Inputs = field(default_factory=Inputs)
    data: DataRecord = field(init=False)  # after `prepared`
    unnoted: dict[Path, list[int]] | None = None  # of the plug-in at the start

    def __post_init__(self) -> None:
        self.modules = self.fingerprint()[1]
        self.states = [state(path) for path in sources(self.modules)]

    def prepared(self) -> Prepared:
        """What is said of the prepared images. AebenchError as of `Inputs.check`."""
        path = self.workspace.data_record
        self.inputs.note([path])
        self.data = DataRecord.read(path, "aebench prepare")
        meta = self.workspace.prepared / "meta.json"
        self.inputs.check(meta, self.data.file_hash(meta.name), FIX)
        found = Prepared.read(meta, "aebench prepare")
        if found.data_hash != self.data.data_hash:
            raise AebenchError(f"{path}: of other images than {meta}; {FIX}")
        return found

    def result(self, stage: str, run: str, seed: int) -> Any:
        """The record of an earlier stage. AebenchError where it is not there or damaged."""
        path = self.workspace.result_path(run, seed, f"{stage}.json")
        self.inputs.note([path])
        return RECORDS[stage].read(path, "dvc repro")

    def images(self, split: str) -> "np.ndarray":
        """Those of `train` or `test`, uint8 (N, C, H, W), mapped: after `prepared`."""
        return self.array(f"{split}_images", "uint8", (self.count(split), *self.data.shape))

    def labels(self, split: str) -> "np.ndarray":
        """Those of `train` or `test`, int64 (N,): after `prepared`."""
        return self.array(f"{split}_labels", "int64", (self.count(split),))

    def codes(self, split: str, run: str, seed: int, encode: EncodeRecord) -> "np.ndarray":
        """Those of `encode`, mapped: float32 (N, d), or (0, d) where they are the pixels."""
        assert encode.sizes  # of what did not fail
        path = self.workspace.run_path(run, seed, f"{split}_codes.npy")
        found = self.inputs.array(path, encode.file_hash(path.name), FIX, mapped=True)
        if found.shape not in [(n, encode.sizes.code_floats) for n in (0, self.count(split))]:
            raise Damaged(path, DAMAGED, FIX)
        return found

    def count(self, split: str) -> int:
        """Images of the split."""
        return self.data.num_train if split == "train" else self.data.num_test

    def array(self, name: str, dtype: str, shape: tuple[int, ...]) -> "np.ndarray":
        """One of the prepared arrays, mapped. AebenchError for another dtype or shape, too."""
        path = self.workspace.prepared / f"{name}.npy"
        # "c": torch warns of memory that it must not write.
        found = self.inputs.array(path, self.data.file_hash(path.name), FIX, mapped=True)
        if (found.dtype, found.shape) != (dtype, shape):
            words = f"holds {found.dtype} {found.shape}; allowed: {dtype} {shape}"
            raise Damaged(path, words, FIX)
        return found

    def checkpoint(self) -> Path | None:
        """The file that training begins with, if there is one. AebenchError for another content."""
        assert isinstance(self.plan, TrainPlan)
        weights = self.plan.weights
        if weights is None:
            return None
        path = check_weights_file(self.workspace, weights)
        self.inputs.check(path, weights.hash, "run `dvc repro` again")
        return path

    def model(self) -> Model:
        """That of the plan, imported: see `loaded`."""
        assert isinstance(self.plan, ModelPlan)
        found = load_model(self.workspace, self.plan.plugin, self.plan.model)
        self.loaded()
        return found

    def metrics(self) -> tuple[dict[str, Metric], dict[str, str]]:
        """Those of the plan, imported: see `load_metrics`. To be called before `loaded`."""
        assert isinstance(self.plan, EncodePlan)
        return load_metrics(self.workspace, self.plan.metrics)

    def loaded(self) -> None:
        """To be called after the plug-in's import: AebenchError if it was of other code.

        What computes is imported, too, as far as it was not: later edits do not reach it.
        """
        for module in self.modules:
            importlib.import_module(module)
        own = sources(self.modules)
        for path, before in zip(own, self.states, strict=True):
            if state(path) != before:
                raise changed(path)
        for path in (*own, *(path for plugin in self.plugins() for path in plugin.unnoted())):
            if path.suffix == ".py":
                check_bytecode(path)
        self.check_code()

    def check_code(self) -> None:
        """AebenchError unless the code, as it is and as it was run, is that of the plan."""
        planned = self.plan.fingerprints
        own, modules = self.fingerprint()
        if own != planned.aebench:
            raise self.other("aebench's code", planned.aebench, modules)
        plugins, unnoted = self.plugins(), dict[Path, list[int]]()
        for plugin, fingerprint in plugins.items():
            if plugin.fingerprint() != fingerprint:
                raise self.other(f"the code of {plugin.name}", fingerprint or "", plugin.hashes())
            if executed := plugin.changed():
                raise AebenchError(
                    f"{plugin.name}: {', '.join(executed)} changed while this stage ran, which "
                    "uses the old content; run `dvc repro` again"
                )
            unnoted |= plugin.unnoted()
        if self.unnoted is None:
            self.unnoted = unnoted
        for path, before in unnoted.items():
            if self.unnoted.get(path) != before:
                raise changed(path)

    def fingerprint(self) -> tuple[str, dict[str, str]]:
        """Of aebench's code that computes."""
        plan = self.plan
        is_closed_form = isinstance(plan, TrainPlan) and plan.train is None
        key = "closed form" if is_closed_form else STAGE_OF[type(plan)]
        return known_fingerprint(self.workspace, key)

    def plugins(self) -> dict[Plugin, str | None]:
        """Those of the plan, with their fingerprints in it. AebenchError where one is gone."""
        plan = self.plan
        if isinstance(plan, KnnPlan | IndexPlan | CodecsPlan | ReportPlan):
            return {}
        name = plan.source if isinstance(plan, DataPlan) else plan.plugin
        planned = {name: plan.fingerprints.plugin} if name != "folder" else {}
        if isinstance(plan, EncodePlan):
            planned |= {metric.plugin: metric.fingerprint for metric in plan.metrics.values()}
        try:
            return {find_plugin(self.workspace, name): own for name, own in planned.items()}
        except AebenchError as error:
            raise AebenchError(f"{self.plan_file}: {error}") from None

    def other(self, what: str, planned: str, now: Mapping[str, str]) -> AebenchError:
        """The code is not that of the plan: what of it?"""
        from aebench.staleness import changed_code, known_code

        names = changed_code(what, known_code(self.workspace).get(planned), now)
        return AebenchError(
            f"{self.plan_file}: made by other code than that here ({names}); nothing was written: "
            "run `dvc repro` again, with the same aebench and plug-ins wherever a stage runs"
        )


def changed(path: Path) -> AebenchError:
    """It is not known what of it was used."""
    return AebenchError(f"{path}: changed while this stage ran; run `dvc repro` again")


def check_bytecode(source: Path) -> None:
    """AebenchError if Python takes older bytecode for that of the source.

    It does where the time of the source, to a second, and its size are those of before: after an
    edit within that second, a copy that keeps times.
    """
    cached = Path(importlib.util.cache_from_source(str(source)))
    try:
        found, written = source.stat(), cached.stat().st_mtime
        if written > found.st_ctime:
            return  # made of what the source is now
        content = cached.read_bytes()
        about = b"".join(
            (int(number) & 0xFFFFFFFF).to_bytes(4, "little")
            for number in (0, found.st_mtime, found.st_size)
        )
        if content[:16] != importlib.util.MAGIC_NUMBER + about:
            return  # Python does not take it
        same = marshal.loads(content[16:]) == compile(source.read_bytes(), str(source), "exec")
    except (OSError, ValueError, EOFError, TypeError):
        return  # nor that
    if not same:
        raise AebenchError(
            f"{cached}: of another content than {source}, which has the same time and size; "
            "remove it: Python would run it instead"
        )


@contextlib.contextmanager
def working(
    workspace: Workspace,
    kind: type[P],
    run: str | None = None,
    seed: int | None = None,
    index: str | None = None,
) -> Iterator[Job[P]]:
    """The stage of that kind of plan, from the reading of the plan to the writing of its outs.

    with working(workspace, TrainPlan, "cnn", 0) as job:
        model = job.model()
        job.outs.write(path, content)

    The outs are written at the end, if plan, code and inputs are still those of the start; else
    AebenchError says what changed, and nothing is written.
    """
    stage = STAGE_OF[kind]
    if run is None:
        name = stage
        plan_file = workspace.plan / f"{'data' if kind is DataPlan else stage}.json"
    else:
        name = f"{stage} {run} {check_planned(workspace, run, seed)}"
        plan_file = workspace.plan_path(run, f"{stage}-{index}" if index else stage)
        name += f" {index}" if index else ""
    with alone(workspace, name) as locked:
        EXECUTED.clear()  # what another stage ran in this process
        plan, plan_hash = kind.read_with_hash(plan_file, "aebench plan")
        job = Job(workspace, plan_file, plan, plan_hash, Outs(alone=locked))
        job.inputs.check(plan_file, plan_hash, "run `dvc repro` again")
        job.check_code()
        with job.outs:
            yield job
            job.check_code()
            job.inputs.check_unchanged()
