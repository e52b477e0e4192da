"""Search the codes of a run and vote."""

import argparse
from typing import TYPE_CHECKING, Any

from aebench.errors import AebenchError, Failure
from aebench.records.knn import KnnRecord
from aebench.records.plan import KnnPlan
from aebench.records.prepare import Prepared
from aebench.workspace import Outs, Workspace, add_run_and_seed, check_unchanged, needed

if TYPE_CHECKING:
    import numpy as np

PACKAGES = {"faiss": "faiss-cpu", "sklearn": "scikit-learn"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which run and seed."""
    add_run_and_seed(parser)


def knn(workspace: Workspace, run: str, seed: int) -> None:
    """Write results/<run>/<seed>/knn.json and outcomes.npy.

    outcomes.npy: a record (label, prediction) per test image, in the order of
    data/prepared/test_images.npy, as the smallest unsigned integers that hold every class. No
    bytes for a failed run.
    """
    import numpy as np

    from aebench.evaluation.search import kernels, threads
    from aebench.provenance import Clock

    clock = Clock(workspace)
    plan_file = workspace.plan_path(run, "knn")
    plan, plan_hash = KnnPlan.read_with_hash(plan_file, "aebench plan")
    meta = Prepared.read(workspace.prepared / "meta.json", "aebench prepare")
    codes = workspace.run_path(run, seed, "train_codes.npy")
    needed(codes, f"aebench encode {run} {seed}")
    with Outs() as outs:
        outcomes_path = workspace.result_path(run, seed, "outcomes.npy")
        try:
            if codes.stat().st_size == 0:
                raise Failure("no codes")
            found, outcomes = computed(workspace, run, seed, plan, meta)
        except Failure as failure:
            found: dict[str, Any] = {"status": f"failed: {failure}"}
            outs.write(outcomes_path, b"")
        else:
            print(
                f"{run}: accuracy {found['accuracy']:.2%}, {found['knn_seconds']:.2f} s", flush=True
            )
            np.save(outs.open(outcomes_path), outcomes)
        packages = ["numpy", PACKAGES[plan.knn.backend]]
        record = KnnRecord(
            plan_hash=plan_hash,
            plan=plan,
            data_hash=meta.data_hash,
            provenance=clock.provenance(packages, seed=seed, threads=threads(), blas=kernels()),
            **found,
        )
        check_unchanged(plan_file, plan_hash)
        outs.write(workspace.result_path(run, seed, "knn.json"), record.json_bytes())


def computed(
    workspace: Workspace, run: str, seed: int, plan: KnnPlan, meta: Prepared
) -> tuple[dict[str, Any], "np.ndarray"]:
    """What knn.json says of the search, and the outcomes."""
    import hashlib

    import numpy as np

    from aebench.evaluation.panel import evaluated, flattened
    from aebench.timing import facts

    if plan.knn.k > meta.num_train:  # restored by DVC, prepare could not refuse it
        raise AebenchError(
            f"params.yaml: knn.k: got {plan.knn.k}; allowed: 1 to {meta.num_train}, the number of "
            "training images"
        )
    codes = [
        np.load(workspace.run_path(run, seed, f"{split}_codes.npy")) for split in ("train", "test")
    ]
    digest = hashlib.sha256()
    for array in codes:
        digest.update(array.data)
    if len(codes[0]) == 0:  # the codes are the pixels
        images = (workspace.prepared / f"{split}_images.npy" for split in ("train", "test"))
        codes = [flattened(np.load(path, mmap_mode="r")) for path in images]
    labels, truth = (
        np.load(workspace.prepared / f"{split}_labels.npy") for split in ("train", "test")
    )
    result = evaluated(codes[0], labels, codes[1], truth, plan.knn)
    kind = np.min_scalar_type(len(meta.classes) - 1)
    outcomes = np.empty(len(truth), [("label", kind), ("prediction", kind)])
    outcomes["label"], outcomes["prediction"] = truth, result.predictions
    return {
        "status": "ok",
        "codes_hash": digest.hexdigest(),
        "accuracy": result.accuracy,
        "probe_accuracy": result.probe_accuracy,
        "knn_seconds": result.used.seconds,
        "query_seconds": result.query_seconds,
        "bank_bytes": result.bank_bytes,
        "panel": result.panel,
        "note": result.note,
        "timing": facts([result.used]),
        **result.health,
    }, outcomes
