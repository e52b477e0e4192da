"""Train one run with one seed."""

import argparse
import contextlib
import math
import os
import sys
from typing import TYPE_CHECKING, Any

from aebench.errors import Failure, failure_reason
from aebench.workspace import Workspace, add_run_and_seed, sha256

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from aebench.job import Job
    from aebench.models.finish import Epoch, Trained
    from aebench.models.resume import Resume
    from aebench.plugins import Model
    from aebench.records.plan import TrainPlan
    from aebench.records.prepare import Prepared


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which run and seed."""
    add_run_and_seed(parser)


def imports_slowly(workspace: Workspace) -> bool:
    """Always."""
    return True


def train(workspace: Workspace, run: str, seed: int) -> None:
    """Write runs/<run>/<seed>/weights.safetensors and results/<run>/<seed>/train.json.

    A model that diverges, raises or refuses leaves empty weights and its reason as the status.
    """
    from aebench.job import working
    from aebench.records.plan import TrainPlan

    with working(workspace, TrainPlan, run, seed) as job:
        train_by(job, run, seed)


def train_by(job: "Job[TrainPlan]", run: str, seed: int) -> None:
    """Train as the job's plan says."""
    import torch

    from aebench.models.process import (
        gpu_name,
        gpu_peak_memory_bytes,
        keep_freed_memory,
    )
    from aebench.models.resume import Resume
    from aebench.models.torchrun import threads_of_each, trained_together
    from aebench.provenance import Clock
    from aebench.records.record import as_of
    from aebench.records.train import BASELINES, TrainRecord
    from aebench.schema import Recipe

    workspace, plan, outs = job.workspace, job.plan, job.outs
    clock = Clock(workspace)
    meta = job.prepared()
    images, labels = (torch.from_numpy(read("train")) for read in (job.images, job.labels))
    checkpoint = job.checkpoint()
    keep_freed_memory()
    model = job.model()
    known = model.baseline if model.baseline in BASELINES else None
    found: dict[str, Any] = {"baseline": known, "seedless": model.seedless or None}
    resume = Resume(workspace, job.plan_hash, meta.data_hash, seed, model.plugin.sources()[0])
    status, weights, how = "ok", b"", {}
    processes = plan.train.processes if isinstance(plan.train, Recipe) else 1
    threads = torch.get_num_threads() if processes == 1 else threads_of_each(processes)
    try:
        with contextlib.chdir(os.curdir):  # and back, wherever the model went
            if plan.only_seed not in (None, seed):
                result, status = None, as_of(plan.only_seed)
            elif processes > 1:
                result = trained_together(job, run, seed, model, images, resume)
            else:
                result = computed(model, plan, meta, images, labels, seed, checkpoint, resume)
        if result:
            weights, how = result.weights, vars(result.how)
            found |= figures(result) | {"order": order(result, images)}
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit, too: a model ends its row alone
        status = f"failed: {failure_reason(error)}"
        print(f"aebench: train {run} {seed}: {status}", file=sys.stderr)
    record = TrainRecord(
        status=status,
        plan_hash=job.plan_hash,
        plan=plan,
        data_hash=meta.data_hash,
        weights_hash=sha256(weights),
        begun_with=plan.weights and plan.weights.file,
        resumed=resume.resumed or None,
        **found,
        provenance=clock.provenance(
            ["torch", "numpy"],
            seed=seed,
            threads=threads,
            processes=processes if processes > 1 else None,
            gpu=gpu_name(),
            gpu_peak_memory_bytes=gpu_peak_memory_bytes(),
            **how,
        ),
    )
    outs.write(workspace.run_path(run, seed, "weights.safetensors"), weights)
    outs.write(workspace.result_path(run, seed, "train.json"), record.json_bytes())
    for path in resume.files():
        outs.remove(path)  # of no use any more


def computed(
    model: "Model",
    plan: "TrainPlan",
    meta: "Prepared",
    images: "Tensor",
    labels: "Tensor",
    seed: int,
    checkpoint: "Path | None",
    resume: "Resume",
) -> "Trained":
    """The trained model: by its closed form or by gradient."""
    if plan.train is None:
        from aebench.models.closed_form import fitted

        def once(seed: int) -> "Trained":
            return fitted(model, meta.shape, plan.build, images, labels, seed, checkpoint)

        result = once(seed)
        if plan.only_seed is not None and once(seed + 1).weights != result.weights:
            raise Failure(
                f"it says seedless = True, and seeds {seed} and {seed + 1} gave other weights; "
                "remove that from the class"
            )
        return result
    from aebench.models.training import trained

    return trained(
        model,
        meta.shape,
        plan.build,
        images,
        labels,
        seed,
        plan.train,
        checkpoint,
        resume=resume,
    )


def figures(result: "Trained") -> dict[str, Any]:
    """What train.json says of the trained model."""
    from aebench.records.train import epoch_figures, timed
    from aebench.timing import facts

    usages = [epoch.used for epoch in result.curve]
    seconds = [used.seconds for used in usages]
    return epoch_figures(seconds) | {
        "all_epoch_seconds": seconds,
        "timing": facts(timed(usages)),
        "losses": [epoch.means["loss"] for epoch in result.curve],
        "curves": curves(result.curve),
        "train_seconds": result.used.seconds,
        "train_contended": result.used.contended,
        "note": result.note,
        "baseline": result.baseline,
        **result.begun._asdict(),
    }


def order(result: "Trained", images: "Tensor") -> str | None:
    """In which order an epoch went through so many images; None: in a random one."""
    if not result.curve:
        return None
    from aebench.models.batches import BLOCK, in_blocks

    return f"shuffled blocks of {BLOCK:,}" if in_blocks(images) else None


def curves(epochs: "list[Epoch]") -> dict[str, list[float | None]]:
    """Each further scalar of the loss: its mean over each epoch, None where it is not finite."""
    names = dict.fromkeys(name for epoch in epochs for name in epoch.means if name != "loss")
    means = {name: [epoch.means.get(name, math.nan) for epoch in epochs] for name in names}
    return {
        name: [value if math.isfinite(value) else None for value in values]
        for name, values in means.items()
    }
