"""Search the codes of a run and vote."""

import argparse
from typing import TYPE_CHECKING, Any

from aebench.errors import AebenchError, Failure
from aebench.workspace import Workspace, add_run_and_seed

if TYPE_CHECKING:
    import numpy as np

    from aebench.job import Job
    from aebench.records.encode import EncodeRecord
    from aebench.records.plan import KnnPlan
    from aebench.records.prepare import Prepared

SPLITS = ("train", "test")
PACKAGES = {"faiss": "faiss-cpu", "sklearn": "scikit-learn"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which run and seed."""
    add_run_and_seed(parser)


def imports_slowly(workspace: Workspace) -> bool:
    """Always: scikit-learn, for the probe."""
    return True


def knn(workspace: Workspace, run: str, seed: int) -> None:
    """Write results/<run>/<seed>/knn.json and outcomes.npy.

    outcomes.npy: a record (label, prediction) per test image, in the order of
    data/prepared/test_images.npy, as the smallest unsigned integers that hold every class. No
    bytes for a failed run.
    """
    from aebench.job import working
    from aebench.records.plan import KnnPlan

    with working(workspace, KnnPlan, run, seed) as job:
        knn_by(job, run, seed)


def knn_by(job: "Job[KnnPlan]", run: str, seed: int) -> None:
    """Search as the job's plan says."""
    import numpy as np

    from aebench.evaluation.search import kernels, threads
    from aebench.provenance import Clock
    from aebench.records.knn import KnnRecord

    workspace, plan, outs = job.workspace, job.plan, job.outs
    clock = Clock(workspace)
    job.loaded()
    meta = job.prepared()
    outcomes_path = workspace.result_path(run, seed, "outcomes.npy")
    encode = job.result("encode", run, seed)
    try:
        if encode.status != "ok":
            raise Failure("no codes")
        found, outcomes = computed(job, run, seed, meta, encode)
    except Failure as failure:
        status = encode.status if encode.is_elsewhere else f"failed: {failure}"
        found: dict[str, Any] = {"status": status}
        outs.write(outcomes_path, b"")
    else:
        print(f"{run}: accuracy {found['accuracy']:.2%}, {found['knn_seconds']:.2f} s", flush=True)
        np.save(outs.open(outcomes_path), outcomes)
    packages = ["numpy", PACKAGES[plan.knn.backend]]
    record = KnnRecord(
        plan_hash=job.plan_hash,
        plan=plan,
        files={outcomes_path.name: outs.hash(outcomes_path)},
        data_hash=meta.data_hash,
        provenance=clock.provenance(packages, seed=seed, threads=threads(), blas=kernels()),
        **found,
    )
    outs.write(workspace.result_path(run, seed, "knn.json"), record.json_bytes())


def computed(
    job: "Job[KnnPlan]", run: str, seed: int, meta: "Prepared", encode: "EncodeRecord"
) -> tuple[dict[str, Any], "np.ndarray"]:
    """What knn.json says of the search, and the outcomes. `encode`: what made the codes."""
    import numpy as np

    from aebench.evaluation.panel import evaluated, flattened
    from aebench.timing import facts

    plan = job.plan
    if plan.knn.k > meta.num_train:  # restored by DVC, prepare could not refuse it
        raise AebenchError(
            f"params.yaml: knn.k: got {plan.knn.k}; allowed: 1 to {meta.num_train}, the number of "
            "training images"
        )
    codes = [job.codes(split, run, seed, encode) for split in SPLITS]
    if len(codes[0]) == 0:  # the codes are the pixels
        codes = [flattened(job.images(split)) for split in SPLITS]
    labels, truth = map(job.labels, SPLITS)
    folder = job.workspace.root / ".aebench"
    result = evaluated(codes[0], labels, codes[1], truth, plan.knn, folder)
    kind = np.min_scalar_type(len(meta.classes) - 1)
    outcomes = np.empty(len(truth), [("label", kind), ("prediction", kind)])
    outcomes["label"], outcomes["prediction"] = truth, result.predictions
    return {
        "status": "ok",
        "codes_hash": encode.codes_hash,
        "accuracy": result.accuracy,
        "probe_accuracy": result.probe_accuracy,
        "mlp_probe_accuracy": result.mlp_probe_accuracy,
        "knn_seconds": result.used.seconds,
        "query_seconds": result.query_seconds,
        "bank_bytes": result.bank_bytes,
        "panel": result.panel,
        "note": result.note,
        "timing": facts([result.used]),
        **result.health,
        **result.fewer_bits,
    }, outcomes
