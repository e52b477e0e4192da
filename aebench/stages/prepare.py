"""Turn the data set's images into arrays."""

import ctypes
import hashlib
import sys
from typing import TYPE_CHECKING

from aebench.errors import AebenchError
from aebench.records.plan import DataPlan, KnnPlan
from aebench.records.prepare import DataRecord, Duplicates, Prepared
from aebench.workspace import Workspace, data_root

if TYPE_CHECKING:
    from aebench.job import Job

SHOWN = "examples.npy", "sprite.webp", "near_duplicates.npy"  # for the report


def prepare(workspace: Workspace) -> None:
    """Write data/prepared/{train,test}_{images,labels}.npy and meta.json, and results/.

    results/data.json; examples.npy, uint8 (n, C, H, W): the test images that the report shows;
    sprite.webp: those of the maps of the codes; and near_duplicates.npy, bool (N_test,): which test
    images have a near-duplicate among the training images. data/prepared holds content only (no
    name, source or time), so the same images from another source cost no training.

    A folder's images wait in a file without a name in .aebench, as large as the arrays: at most 256
    MiB of memory and 100 bytes an image are held, unless one image alone takes more. What a
    plug-in's `load` returns is its own affair.
    """
    from aebench.job import working

    with working(workspace, DataPlan) as job:
        record = prepare_by(job)
    for words in record.words:
        print(f"aebench: warning: {record.dataset}: {words}", file=sys.stderr)


def prepare_by(job: "Job[DataPlan]") -> DataRecord:
    """Write what the job's plan says; what is said of it."""
    import numpy as np

    from aebench.datasets import Spool, prepared, write
    from aebench.evaluation.near_duplicates import near_duplicates
    from aebench.plugins import load_plugin
    from aebench.provenance import Clock
    from aebench.sprite import sprite

    workspace, plan, outs = job.workspace, job.plan, job.outs
    clock = Clock(workspace)
    return_freed_memory()
    dataset = None
    if plan.source != "folder":
        datasets = load_plugin(workspace, plan.source).datasets
        dataset = datasets.get(plan.dataset)
        if dataset is None:
            raise AebenchError(
                f"{plan.source}: registers no data set {plan.dataset!r} any more; "
                "run `aebench plan`"
            )
    job.loaded()
    folder = workspace.root / ".aebench"
    with Spool(folder) as spool, Spool(folder) as small:
        images = prepared(plan, data_root(), dataset, spool)
        train, test = (images.splits[name] for name in ("train", "test"))
        check_k(workspace, len(train))
        names = [f"{name}_{what}.npy" for name in images.splits for what in ("images", "labels")]
        places = {name: workspace.prepared / name for name in (*names, "meta.json")}
        places |= {name: workspace.results / name for name in SHOWN}
        digest = hashlib.sha256()
        for name, split in images.splits.items():
            arrays, labels = (places[f"{name}_{what}.npy"] for what in ("images", "labels"))
            write(split, outs.open(arrays), outs.open(labels), digest)
        channels, height, width = train.shape
        meta = Prepared(
            shape=(channels, height, width),
            classes=images.classes,
            num_train=len(train),
            num_test=len(test),
            data_hash=digest.hexdigest(),
            examples=images.examples,
        )
        outs.write(places["meta.json"], meta.json_bytes())
        np.save(outs.open(places["examples.npy"]), test.read(np.array(images.examples)))
        outs.write(places["sprite.webp"], sprite(test.read(np.array(meta.mapped))))
        about, near = near_duplicates(images.splits, images.hashes, small)
        np.save(outs.open(places["near_duplicates.npy"]), near)
    for path in workspace.prepared.glob("*"):  # all of the folder is one of DVC's outs
        if path not in places.values():
            outs.remove(path)
    record = DataRecord(
        **meta.model_dump(exclude={"format"}),
        plan_hash=job.plan_hash,
        plan=plan,
        files={name: outs.hash(path) for name, path in places.items()},
        duplicates=Duplicates(**images.duplicates),
        near_duplicates=about,
        remarks=images.remarks,
        dataset=plan.dataset,
        source=plan.source,
        provenance=clock.provenance(["numpy", "pillow"]),
    )
    outs.write(workspace.results / "data.json", record.json_bytes())
    return record


def return_freed_memory() -> None:
    """Let glibc return freed blocks of 1 MiB and more to the system at once.

    Else each thread keeps what its largest photograph took: of 20 megapixels, one at a time, the
    process then has 420 MiB (with transparency 1,100) instead of 135 (240).
    """
    mallopt = sys.platform == "linux" and getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:  # musl has none
        M_MMAP_THRESHOLD = -3  # noqa: N806  # malloc.h
        mallopt(M_MMAP_THRESHOLD, 2**20)


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
