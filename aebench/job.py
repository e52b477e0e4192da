"""A stage at work: what it computes by and from, and what it writes, or that it writes nothing."""

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from filelock import FileLock, Timeout

from aebench.children import client
from aebench.errors import AebenchError, Damaged
from aebench.fingerprint import known_fingerprint
from aebench.holder import check_not_held
from aebench.inputs import FIX, Inputs
from aebench.outs import Outs
from aebench.plugins import EXECUTED, Plugin, find_plugin
from aebench.records.chain import RECORDS
from aebench.records.plan import DataPlan, EncodePlan, KnnPlan, ReportPlan, TrainPlan
from aebench.records.prepare import DataRecord, Prepared
from aebench.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np

# Plan -> the code that computes by it, a key of `fingerprint.COMPUTING`.
COMPUTING_OF = {
    DataPlan: "prepare",
    TrainPlan: "train",
    EncodePlan: "encode",
    KnnPlan: "knn",
    ReportPlan: "report",
}
WAIT = 3.0  # seconds: more than another process needs to end that has lost its DVC
P = TypeVar("P", DataPlan, TrainPlan, EncodePlan, KnnPlan, ReportPlan)


@contextlib.contextmanager
def alone(workspace: Workspace, name: str) -> Iterator[None]:
    """One process at a time, and none beside a DVC that did not start it.

    `name`: the verb and what it takes. AebenchError for a second one.
    """
    check_not_held(workspace, client())
    lock = FileLock(workspace.root / ".aebench" / "locks" / name.replace(" ", "-"))
    Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire(timeout=WAIT)
    except Timeout:
        raise AebenchError(
            f"another `aebench {name}` is writing the same files; wait for its end, or end it"
        ) from None
    except NotImplementedError:
        pass  # a file system without locks
    try:
        yield
    finally:
        lock.release()


@dataclass
class Job(Generic[P]):
    """What a stage holds while it works: see `working`."""

    workspace: Workspace
    plan_file: Path
    plan: P
    plan_hash: str
    inputs: Inputs = field(default_factory=Inputs)
    outs: Outs = field(default_factory=lambda: Outs(alone=True))
    data: DataRecord = field(init=False)  # after `prepared`

    def prepared(self) -> Prepared:
        """What is said of the prepared images. AebenchError as of `Inputs.check`."""
        path = self.workspace.data_record
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
        return RECORDS[stage].read(path, "dvc repro")

    def images(self, split: str) -> "np.ndarray":
        """Those of `train` or `test`, uint8 (N, C, H, W), mapped: after `prepared`."""
        return self.array(f"{split}_images", "uint8", (self.count(split), *self.data.shape))

    def labels(self, split: str) -> "np.ndarray":
        """Those of `train` or `test`, int64 (N,): after `prepared`."""
        return self.array(f"{split}_labels", "int64", (self.count(split),))

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

    def loaded(self) -> None:
        """To be called after the plug-in's import: AebenchError if it was of other code.

        What computes is imported, too, as far as it was not.
        """
        for module in self.fingerprint()[1]:
            importlib.import_module(module)
        self.check_code()

    def check_code(self) -> None:
        """AebenchError unless the code, as it is and as it was run, is that of the plan."""
        planned = self.plan.fingerprints
        own, modules = self.fingerprint()
        if own != planned.aebench:
            raise self.other("aebench's code", planned.aebench, modules)
        plugin = self.plugin()
        if plugin is None:
            return
        if planned.plugin is None or plugin.fingerprint() != planned.plugin:
            raise self.other(f"the code of {plugin.name}", planned.plugin or "", plugin.hashes())
        if changed := plugin.changed():
            raise AebenchError(
                f"{plugin.name}: {', '.join(changed)} changed while this stage ran, which uses "
                "the old content; run `dvc repro` again"
            )

    def fingerprint(self) -> tuple[str, dict[str, str]]:
        """Of aebench's code that computes."""
        plan = self.plan
        key = COMPUTING_OF[type(plan)]
        if isinstance(plan, TrainPlan) and plan.train is None:
            key = "closed form"
        return known_fingerprint(self.workspace, key)

    def plugin(self) -> Plugin | None:
        """That of the plan. AebenchError where it is gone."""
        plan = self.plan
        if isinstance(plan, KnnPlan | ReportPlan):
            return None
        name = plan.source if isinstance(plan, DataPlan) else plan.plugin
        return None if name == "folder" else find_plugin(self.workspace, name)

    def other(self, what: str, planned: str, now: Mapping[str, str]) -> AebenchError:
        """The code is not that of the plan: what of it?"""
        from aebench.staleness import changed_code, known_code

        names = changed_code(what, known_code(self.workspace).get(planned), now)
        return AebenchError(
            f"{self.plan_file}: made by other code than that here ({names}); nothing was written: "
            "run `dvc repro` again, with the same aebench and plug-ins wherever a stage runs"
        )


@contextlib.contextmanager
def working(workspace: Workspace, kind: type[P], name: str, plan_file: Path) -> Iterator[Job[P]]:
    """A stage from the reading of its plan to the writing of its outs.

    with working(workspace, TrainPlan, "train cnn 0", plan_file) as job:
        model = load_model(workspace, job.plan.plugin, job.plan.model)
        job.loaded()
        job.outs.write(path, content)

    The outs are written at the end, if plan, code and inputs are still those of the start; else
    AebenchError says what changed, and nothing is written. `name`: the verb and what it takes.
    """
    with alone(workspace, name):
        EXECUTED.clear()  # what another stage ran in this process
        plan, plan_hash = kind.read_with_hash(plan_file, "aebench plan")
        job = Job(workspace, plan_file, plan, plan_hash)
        job.inputs.check(plan_file, plan_hash, "run `dvc repro` again")
        job.check_code()
        with job.outs:
            yield job
            job.check_code()
            job.inputs.check_unchanged()
