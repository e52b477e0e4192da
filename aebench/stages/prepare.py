"""Turn the data set's images into arrays."""

import errno
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from aebench.errors import AebenchError
from aebench.records.plan import DataPlan, KnnPlan
from aebench.records.prepare import DataRecord, Duplicates, Prepared
from aebench.workspace import (
    Outs,
    Workspace,
    check_unchanged,
    data_root,
    part_path,
    remove_old_parts,
)

if TYPE_CHECKING:
    from aebench.datasets import Images


def prepare(workspace: Workspace) -> None:
    """Write data/prepared/{train,test}_{images,labels}.npy and meta.json, and results/.

    results/data.json; examples.npy, uint8 (n, C, H, W): the test images that the report shows; and
    sprite.webp: those of the maps of the codes. data/prepared holds content only (no name, source
    or time), so the same images from another source cost no training.
    """
    import numpy as np

    from aebench.datasets import prepared
    from aebench.plugins import load_plugin
    from aebench.provenance import Clock
    from aebench.sprite import sprite

    clock = Clock(workspace)
    plan_file = workspace.plan / "data.json"
    plan, plan_hash = DataPlan.read_with_hash(plan_file, "aebench plan")
    dataset = None
    if plan.source != "folder":
        _, datasets = load_plugin(workspace, plan.source)
        dataset = datasets.get(plan.dataset)
        if dataset is None:
            raise AebenchError(
                f"{plan.source}: registers no data set {plan.dataset!r} any more; "
                "run `aebench plan`"
            )
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
    check_unchanged(plan_file, plan_hash)
    save(workspace, images, meta)
    with Outs() as outs:
        np.save(outs.open(workspace.results / "examples.npy"), test[images.examples])
        outs.write(workspace.results / "sprite.webp", sprite(test[meta.mapped]))
        record = DataRecord(
            **meta.model_dump(exclude={"format"}),
            plan_hash=plan_hash,
            plan=plan,
            duplicates=Duplicates(**images.duplicates),
            remarks=images.remarks,
            dataset=plan.dataset,
            source=plan.source,
            provenance=clock.provenance(["numpy", "pillow"]),
        )
        outs.write(workspace.results / "data.json", record.json_bytes())
    for words in record.words:
        print(f"aebench: warning: {plan.dataset}: {words}", file=sys.stderr)


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


def save(workspace: Workspace, images: "Images", meta: Prepared) -> None:
    """Write the folder beside its place, then move it there whole."""
    import numpy as np

    part = part_path(workspace.prepared)  # of this process: two may prepare at once
    remove_old_parts(workspace.prepared)
    try:
        part.mkdir(parents=True)
        for name, (arrays, labels) in images.splits.items():
            np.save(part / f"{name}_images.npy", arrays)
            np.save(part / f"{name}_labels.npy", labels)
        (part / "meta.json").write_bytes(meta.json_bytes())
        replace_folder(part, workspace.prepared)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def replace_folder(part: Path, place: Path) -> None:
    """Move the folder to its place; another process may do the same meanwhile."""
    for _ in range(10):
        shutil.rmtree(place, ignore_errors=True)
        try:
            part.rename(place)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    raise AebenchError(f"{place}: another `aebench prepare` writes it; wait for its end")
