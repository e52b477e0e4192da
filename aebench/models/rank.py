"""One of the processes that train a model together: `torchrun ... -m aebench.models.rank RUN SEED`.

It reads plan, code and images as the stage does that starts it, and writes nothing of the
workspace. On the stage's own machine it is given the stage's folder, too, where the first one
leaves what came of it.
"""

import contextlib
import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aebench.errors import (
    NETWORK,
    AebenchError,
    breakdown,
    failure_reason,
    first_line,
    named,
    outside,
)
from aebench.job import Job
from aebench.outs import Outs
from aebench.records.plan import TrainPlan
from aebench.schema import Recipe
from aebench.timing import BESIDE
from aebench.workspace import Workspace

if TYPE_CHECKING:
    from aebench.models.finish import Trained
    from aebench.models.group import Group

PATIENCE = timedelta(minutes=30)  # for one that computes longer than the others, or reads


def main(run: str, seed: str, folder: str | None = None) -> int:
    """Train, and tell how it ended: in the folder, or else on stderr. The exit status."""
    where = Path(folder) if folder else None
    try:
        with contextlib.chdir(os.curdir):  # and back, wherever the model went
            result = trained_here(run, int(seed), where)
        if where and is_first_here():
            (where / "weights").write_bytes(result.weights)
            end(where, {"trained": told(result)})
    except BaseException as error:  # SystemExit, too: a model ends its row alone
        end(where, how_it_failed(error))
        return 1
    return 0


def trained_here(run: str, seed: int, folder: Path | None) -> "Trained":
    """The model, trained together with the other processes."""
    import torch

    from aebench.models.process import keep_freed_memory
    from aebench.models.resume import Resume
    from aebench.models.training import trained

    workspace = Workspace()
    plan_file = workspace.plan_path(run, "train")
    plan, plan_hash = TrainPlan.read_with_hash(plan_file, "aebench plan")
    group = joined(run, plan, folder)
    assert plan.train  # else it was refused
    job = Job(workspace, plan_file, plan, plan_hash, Outs())
    job.inputs.verified = read_by_stage(folder)
    job.inputs.check(plan_file, plan_hash, "run `dvc repro` again")
    job.check_code()
    meta = job.prepared()
    images, labels = (torch.from_numpy(read("train")) for read in (job.images, job.labels))
    checkpoint = job.checkpoint()
    keep_freed_memory()
    model = job.model()
    check_agreed(group, [plan_hash, meta.data_hash, torch.__version__, torch.get_num_threads()])
    beside(group)
    resume = Resume(workspace, plan_hash, meta.data_hash, seed, model.plugin.sources()[0])
    try:
        result = trained(
            model,
            meta.shape,
            plan.build,
            images,
            labels,
            seed,
            plan.train,
            checkpoint,
            resume=resume,
            group=group,
        )
    finally:
        if folder and group.rank == 0 and resume.path:
            found = [str(resume.path), resume.resumed]
            (folder / "resume").write_text(json.dumps(found))
    job.check_code()
    job.inputs.check_unchanged()
    return result


def joined(run: str, plan: TrainPlan, folder: Path | None) -> "Group":
    """The processes, when all are there. AebenchError for another number than the plan's."""
    import torch
    from torch import distributed

    from aebench.models.device import device
    from aebench.models.group import Group

    rank, size = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE"))
    if not isinstance(plan.train, Recipe) or plan.train.processes != size:
        wanted = plan.train.processes if isinstance(plan.train, Recipe) else 1
        raise AebenchError(f"{run}: got {size} processes; allowed: {wanted}, as its plan says")
    if device() == "cuda":
        own, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if own >= count:
            raise AebenchError(f"{run}: more processes here than GPUs, {count}; allowed: one each")
        torch.cuda.set_device(own)
    alone = folder and os.environ["GROUP_WORLD_SIZE"] == "1"
    distributed.init_process_group(
        "nccl" if device() == "cuda" else "gloo",
        # A file on one machine: no port that others could reach.
        init_method=f"file://{folder}/store" if alone else "env://",
        rank=rank,
        world_size=size,
        timeout=PATIENCE,
    )
    return Group(rank, size)


def read_by_stage(folder: Path | None) -> dict[Path, Any]:
    """The files that the stage on this machine has checked, as `Inputs.read` has them."""
    if folder is None:
        return {}
    rows = json.loads((folder / "read").read_bytes())
    return {Path(path): (state, wanted) for path, state, wanted in rows}


def check_agreed(group: "Group", own: list[Any]) -> None:
    """AebenchError where the processes would not compute the same."""
    what = "plan", "prepared images", "version of torch", "number of threads"
    for rank, others in enumerate(group.gathered(own)):
        for name, mine, other in zip(what, own, others, strict=True):
            if mine != other:
                raise AebenchError(
                    f"another {name} in process {group.rank} than in process {rank}: {mine!r} and "
                    f"{other!r}; allowed: equal ones on all machines"
                )


def beside(group: "Group") -> None:
    """Let the others on this machine be no strangers that take the cores."""
    here = os.environ["GROUP_RANK"]
    found = group.gathered((here, os.getpid()))
    BESIDE.update(pid for machine, pid in found if machine == here and pid != os.getpid())


def is_first_here() -> bool:
    """Whether it is the first of its machine: all have the same result."""
    return os.environ["LOCAL_RANK"] == "0"


def told(result: "Trained") -> dict[str, Any]:
    """All but the weights, as JSON has it, with NaN."""
    return {
        "how": vars(result.how),
        "used": vars(result.used),
        "note": result.note,
        "baseline": result.baseline,
        "begun": result.begun._asdict(),
        "curve": [[epoch.means, vars(epoch.used)] for epoch in result.curve],
    }


def how_it_failed(error: BaseException) -> dict[str, Any]:
    """`failed`: the reason of a failed row; `error`: what is no result.

    `lost`: another process has ended, whose own words, or signal, tell more.
    """
    if (broken := breakdown(error)) and broken[1] is NETWORK:
        words = named(broken[0]).partition(". ")[0]
        return {"lost": f"{words}; {NETWORK.fix}, and at the other processes"}
    try:
        return {"failed": failure_reason(error)}
    except KeyboardInterrupt:
        return {"error": "interrupted"}
    except BaseException as other:
        if isinstance(other, AebenchError):
            return {"error": str(other)}
        what, fix = outside(other) or (f"{type(other).__name__}: {first_line(other)}", "mend it")
        return {"error": f"{what}; {fix}"}


def end(folder: Path | None, how: dict[str, Any]) -> None:
    """Leave it in the folder, whole, unless another process did so before: that was the cause."""
    if folder is None:
        if "trained" not in how:
            print(f"aebench: {how}", file=sys.stderr)
        return
    part = folder / f"end-{os.environ['RANK']}"
    part.write_text(json.dumps(how))
    if "lost" in how:
        os.replace(part, folder / "lost")
        return
    with contextlib.suppress(FileExistsError):
        os.link(part, folder / "end")


if __name__ == "__main__":
    if not is_first_here():  # one of them is heard
        for number in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    elif len(sys.argv) > 3:
        os.dup2(1, 2)  # the stage reads there what torchrun says
    status = main(*sys.argv[1:])
    sys.stdout.flush()
    os._exit(status)  # at once: threads of a library may never end
