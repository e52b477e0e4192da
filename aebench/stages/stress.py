"""Search a run's codes with few labels and with changed images, and its reconstructions."""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from aebench.errors import Failure, failure_reason
from aebench.inputs import FIX
from aebench.workspace import Workspace, add_run_and_seed

if TYPE_CHECKING:
    from aebench.job import Job
    from aebench.records.encode import EncodeRecord
    from aebench.records.plan import StressPlan

SPLITS = ("train", "test")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which run and seed."""
    add_run_and_seed(parser)


def imports_slowly(workspace: Workspace) -> bool:
    """Always."""
    return True


def stress(workspace: Workspace, run: str, seed: int) -> None:
    """Write results/<run>/<seed>/stress.json, of the first seed alone.

    A figure that a model has not, or fails at, is blank with its reason; the others stand.
    """
    from aebench.job import working
    from aebench.records.plan import StressPlan

    with working(workspace, StressPlan, run, seed) as job:
        stress_by(job, run, seed)


def stress_by(job: "Job[StressPlan]", run: str, seed: int) -> None:
    """Measure as the job's plan says."""
    import torch

    from aebench.evaluation.search import kernels
    from aebench.models.device import device
    from aebench.models.process import gpu_name, keep_freed_memory
    from aebench.provenance import Clock
    from aebench.records.stress import StressRecord

    workspace, plan = job.workspace, job.plan
    clock = Clock(workspace)
    meta = job.prepared()
    encode = job.result("encode", run, seed)
    keep_freed_memory()
    found: dict[str, Any]
    try:
        if encode.status != "ok":
            job.loaded()
            raise Failure("no codes")
        found = {"status": "ok"} | computed(job, run, seed, encode)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # as in encode: a model ends its row alone
        found = {"status": f"failed: {failure_reason(error)}"}
        print(f"aebench: stress {run} {seed}: {found['status']}", file=sys.stderr)
    else:
        kept, why = found["class_kept"], found["blank"].get("class_kept")
        said = f"no class kept: {why}" if kept is None else f"class {kept:.2%} kept"
        print(f"{run}: accuracy {found['accuracy']:.2%}, {said}", flush=True)
    record = StressRecord(
        plan_hash=job.plan_hash,
        plan=plan,
        data_hash=meta.data_hash,
        weights_hash=encode.weights_hash,
        codes_hash=encode.codes_hash,
        provenance=clock.provenance(
            ["torch", "numpy"],
            seed=seed,
            threads=torch.get_num_threads(),
            gpu=gpu_name(),
            device=device(),
            precision="float32",
            blas=kernels(),
        ),
        **found,
    )
    job.outs.write(workspace.result_path(run, seed, "stress.json"), record.json_bytes())


def or_blank(blank: dict[str, str], figure: str, measure: Callable[[], Any]) -> Any:
    """What is measured; where that fails None, and `blank` gets why."""
    try:
        with contextlib.chdir(os.curdir):  # and back, wherever the model goes
            return measure()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        blank[figure] = failure_reason(error)
        return None


def computed(job: "Job[StressPlan]", run: str, seed: int, encode: "EncodeRecord") -> dict[str, Any]:
    """What the record says. `encode`: what made the codes. Failure: why nothing."""
    import numpy as np
    import torch

    from aebench.evaluation.blocks import kept_in_file
    from aebench.evaluation.stress import CHANGES, LABELS, Space, as_pixels, asked, changed
    from aebench.models.autoencoder import encodes_pixels
    from aebench.models.device import deterministic, device, exact_float32
    from aebench.models.encoding import decoding
    from aebench.models.encoding_again import codes_of, reconstructions
    from aebench.models.weights import read_weights, restore
    from aebench.records.stress import Spread

    workspace, plan, knn = job.workspace, job.plan, job.plan.knn
    assert encode.sizes  # of what did not fail
    floats = encode.sizes.code_floats
    path = workspace.run_path(run, seed, "weights.safetensors")
    job.inputs.check(path, encode.weights_hash, FIX)
    model, stored = job.model(), read_weights(path)
    images, labels = ({split: get(split) for split in SPLITS} for get in (job.images, job.labels))
    pixels = {split: images[split].reshape(len(images[split]), -1) for split in SPLITS}
    codes = {split: job.codes(split, run, seed, encode) for split in SPLITS}
    if len(codes["train"]) == 0:  # the codes are the pixels
        codes = pixels
    folder = workspace.root / ".aebench"
    exact_float32()
    deterministic()
    space = Space(codes["train"], labels["train"], knn.metric, knn.backend, folder)
    places = asked(codes["train"], len(codes["test"]))
    queries, truth = codes["test"][places], labels["test"][places]
    blank: dict[str, str] = {}
    tried = partial(or_blank, blank)

    def few(number: int) -> Spread:
        mean, deviation = space.with_few(queries, truth, knn.k, number)
        return Spread(mean=mean, deviation=deviation)

    found: dict[str, Any] = {
        "queries": len(places),
        "accuracy": space.accuracy(queries, truth, knn.k),
        "labels": {
            str(number): tried(f"labels_{number}", partial(few, number)) for number in LABELS
        },
    }
    with contextlib.chdir(os.curdir):
        autoencoder = restore(model, plan.build, stored).to(device())
    are_pixels = encodes_pixels(autoencoder)

    def after(name: str) -> float:
        given = changed(images["test"], places, CHANGES[name])
        again = given if are_pixels else codes_of(autoencoder, given, floats)
        return space.accuracy(kept_in_file(again, folder), truth, knn.k)

    found["changes"] = {name: tried(name, partial(after, name)) for name in CHANGES}
    seen = asked(pixels["train"], len(pixels["test"]))

    def kept() -> float:
        given = torch.from_numpy(np.asarray(codes["test"][seen]))
        made = reconstructions(decoding(model, plan.build, stored), given, job.data.shape)
        queries = kept_in_file(map(as_pixels, made), folder)
        original = Space(pixels["train"], labels["train"], "l2", knn.backend)
        return original.accuracy(queries, labels["test"][seen], knn.k)

    found["class_kept"] = tried("class_kept", kept)
    kept_queries = None if found["class_kept"] is None else len(seen)
    return found | {"class_kept_queries": kept_queries, "blank": blank}
