"""Make an approximate index of a run's codes and measure what its search keeps and takes."""

import argparse
from typing import TYPE_CHECKING, Any

from aebench.errors import AebenchError, Failure, nearest
from aebench.workspace import INDEX, Workspace, add_run_and_seed

if TYPE_CHECKING:
    from aebench.job import Job
    from aebench.records.encode import EncodeRecord
    from aebench.records.plan import IndexPlan

SPLITS = ("train", "test")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which run and seed, and which index."""
    add_run_and_seed(parser)
    parser.add_argument("index", help="a name under search: in params.yaml")


def index(workspace: Workspace, run: str, seed: int, index: str) -> None:
    """Write results/<run>/<seed>/index-<index>.json, of the first seed alone.

    A failed run has no figures, nor has one whose codes the index cannot hold.
    """
    from aebench.job import check_planned, working
    from aebench.records.plan import IndexPlan, ReportPlan

    check_planned(workspace, run, seed)
    plan = ReportPlan.read(workspace.plan / "report.json", "aebench plan")
    if index not in plan.search:
        known = ", ".join(plan.search) or "none"
        raise AebenchError(f"unknown index {index!r}{nearest(index, plan.search)}; known: {known}")
    with working(workspace, IndexPlan, run, seed, index) as job:
        index_by(job, run, seed, index)


def index_by(job: "Job[IndexPlan]", run: str, seed: int, index: str) -> None:
    """Measure as the job's plan says."""
    from aebench.evaluation.search import kernels, threads
    from aebench.provenance import Clock
    from aebench.records.index import IndexRecord

    workspace, plan = job.workspace, job.plan
    clock = Clock(workspace)
    job.loaded()
    meta = job.prepared()
    encode = job.result("encode", run, seed)
    try:
        if encode.status != "ok":
            raise Failure("no codes")
        found: dict[str, Any] = {"status": "ok"} | computed(job, run, seed, encode)
    except Failure as failure:
        found = {"status": f"failed: {failure}"}
        print(f"{run}, {plan.index}: {failure}", flush=True)
    else:
        last = found["searched"][-1]
        print(f"{run}, {plan.index}: recall {last.recall:.2%}", flush=True)
    packages = ["numpy", "faiss-cpu"]
    record = IndexRecord(
        plan_hash=job.plan_hash,
        plan=plan,
        data_hash=meta.data_hash,
        codes_hash=encode.codes_hash,
        provenance=clock.provenance(packages, seed=seed, threads=threads(), blas=kernels()),
        **found,
    )
    job.outs.write(workspace.result_path(run, seed, f"{INDEX}{index}.json"), record.json_bytes())


def computed(job: "Job[IndexPlan]", run: str, seed: int, encode: "EncodeRecord") -> dict[str, Any]:
    """What the record says of the index. `encode`: what made the codes. Failure: why nothing."""
    from aebench.evaluation.approximate import measured
    from aebench.indexes import POINTS, parsed

    plan, count = job.plan, job.count("train")
    assert encode.sizes  # of what did not fail
    wanted = parsed(plan.index)
    if wanted.points > count:
        raise Failure(f"{plan.index} needs {wanted.points:,} training points; there are {count:,}")
    if why := wanted.misfit(encode.sizes.code_floats):
        raise Failure(why)
    if plan.k > count:
        raise Failure(f"knn.k: got {plan.k}; allowed: 1 to {count:,}, the training images")
    codes = [job.codes(split, run, seed, encode) for split in SPLITS]
    if len(codes[0]) == 0:  # the codes are the pixels
        codes = [job.images(split).reshape(job.count(split), -1) for split in SPLITS]
    labels, truth = map(job.labels, SPLITS)
    few = wanted.parts and count < POINTS * 2**wanted.bits
    note = f"trained on fewer than {POINTS} points for each of {2**wanted.bits:,} values" * bool(
        few
    )
    return measured(codes[0], labels, codes[1], truth, plan.index, plan.k) | {"note": note or None}
