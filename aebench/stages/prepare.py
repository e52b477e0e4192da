"""Turn the data set's images into arrays."""

import sys
from typing import TYPE_CHECKING

from aebench.errors import AebenchError
from aebench.records.plan import DataPlan, KnnPlan
from aebench.records.prepare import DataRecord, Duplicates, Prepared
from aebench.workspace import Workspace, data_root

if TYPE_CHECKING:
    from aebench.job import Job


def prepare(workspace: Workspace) -> None:
    """Write data/prepared/{train,test}_{images,labels}.npy and meta.json, and results/.

    results/data.json; examples.npy, uint8 (n, C, H, W): the test images that the report shows; and
    sprite.webp: those of the maps of the codes. data/prepared holds content only (no name, source
    or time), so the same images from another source cost no training.
    """
    from aebench.job import working

    with working(workspace, DataPlan) as job:
        record = prepare_by(job)
    for words in record.words:
        print(f"aebench: warning: {record.dataset}: {words}", file=sys.stderr)


def prepare_by(job: "Job[DataPlan]") -> DataRecord:
    """Write what the job's plan says; what is said of it."""
    import numpy as np

    from aebench.datasets import prepared
    from aebench.plugins import load_plugin
    from aebench.provenance import Clock
    from aebench.sprite import sprite

    workspace, plan, outs = job.workspace, job.plan, job.outs
    clock = Clock(workspace)
    dataset = None
    if plan.source != "folder":
        _, datasets = load_plugin(workspace, plan.source)
        dataset = datasets.get(plan.dataset)
        if dataset is None:
            raise AebenchError(
                f"{plan.source}: registers no data set {plan.dataset!r} any more; "
                "run `aebench plan`"
            )
    job.loaded()
    images = prepared(plan, data_root(), dataset)
    train, test = (images.splits[name][0] for name in ("train", "test"))
    check_k(workspace, len(train))
    meta = Prepared(
        shape=train.shape[1:],
        classes=images.classes,
        num_train=len(train),
        num_test=len(test),
        data_hash=images.data_hash,
        examples=images.examples,
    )
    arrays = {
        f"{name}_{what}.npy": array
        for name, split in images.splits.items()
        for what, array in zip(("images", "labels"), split, strict=True)
    }
    places = {name: workspace.prepared / name for name in arrays}
    places |= {"meta.json": workspace.prepared / "meta.json"}
    places |= {name: workspace.results / name for name in ("examples.npy", "sprite.webp")}
    for name, array in arrays.items():
        np.save(outs.open(places[name]), array)
    outs.write(places["meta.json"], meta.json_bytes())
    np.save(outs.open(places["examples.npy"]), test[images.examples])
    outs.write(places["sprite.webp"], sprite(test[meta.mapped]))
    for path in workspace.prepared.glob("*"):  # all of the folder is one of DVC's outs
        if path not in places.values():
            outs.remove(path)
    record = DataRecord(
        **meta.model_dump(exclude={"format"}),
        plan_hash=job.plan_hash,
        plan=plan,
        files={name: outs.hash(path) for name, path in places.items()},
        duplicates=Duplicates(**images.duplicates),
        remarks=images.remarks,
        dataset=plan.dataset,
        source=plan.source,
        provenance=clock.provenance(["numpy", "pillow"]),
    )
    outs.write(workspace.results / "data.json", record.json_bytes())
    return record


def check_k(workspace: Workspace, num_train: int) -> None:
    """AebenchError for a k above the training set. `plan` knows the size only from now on.

    Not a declared dependency: a new k is checked by `plan` and prepares nothing again.
    """
    for path in sorted(workspace.plan.glob("*/knn.json")):
        k = KnnPlan.read(path, "aebench plan").knn.k
        if k > num_train:
            raise AebenchError(
                f"params.yaml: knn.k of run {path.parent.name}: got {k}; allowed: 1 to "
                f"{num_train}, the number of training images"
            )
