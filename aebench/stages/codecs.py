"""Measure JPEG and WebP on the same images: what codes are held against at equal bytes."""

from typing import TYPE_CHECKING

from aebench.records.codecs import Codec, CodecsRecord
from aebench.records.plan import CodecsPlan
from aebench.workspace import Workspace

if TYPE_CHECKING:
    from aebench.job import Job

SPLITS = ("train", "test")


def codecs(workspace: Workspace) -> None:
    """Write results/codecs.json and codecs.npy, float32 (codecs, N_test): each image's error.

    A codec that is not there, or cannot take the images, is left out, and the record says why.
    """
    from aebench.job import working

    with working(workspace, CodecsPlan) as job:
        codecs_by(job)


def codecs_by(job: "Job[CodecsPlan]") -> None:
    """Measure as the job's plan says."""
    import numpy as np

    from aebench.evaluation.codecs import measured
    from aebench.evaluation.search import kernels, threads
    from aebench.provenance import Clock

    workspace, plan, outs = job.workspace, job.plan, job.outs
    clock = Clock(workspace)
    job.loaded()
    meta = job.prepared()
    images, labels = ([read(split) for split in SPLITS] for read in (job.images, job.labels))
    # Of fewer images than k each has a vote; where it is a run's, `prepare` refuses.
    k = min(plan.k, meta.num_train)
    found, notes = measured(images, labels, k, workspace.root / ".aebench")
    for one in found:
        mse = float(one.errors.mean(dtype=np.float64))
        print(f"{one.codec} {one.quality}: {one.bytes:.0f} bytes, MSE {mse:.5f}", flush=True)
    path = workspace.results / "codecs.npy"
    errors = [one.errors for one in found]
    np.save(outs.open(path), np.array(errors, np.float32).reshape(len(found), meta.num_test))
    record = CodecsRecord(
        plan_hash=job.plan_hash,
        plan=plan,
        files={path.name: outs.hash(path)},
        data_hash=meta.data_hash,
        codecs=[
            Codec(
                codec=one.codec,
                quality=one.quality,
                bytes=one.bytes,
                payload_bytes=one.payload_bytes,
                mse=float(one.errors.mean(dtype=np.float64)),
                accuracy=one.accuracy,
            )
            for one in found
        ],
        notes=notes,
        provenance=clock.provenance(
            ["numpy", "pillow", "faiss-cpu"], threads=threads(), blas=kernels()
        ),
    )
    outs.write(workspace.results / "codecs.json", record.json_bytes())
