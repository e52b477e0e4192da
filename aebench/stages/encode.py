"""Encode all images with a trained run."""

import argparse
import contextlib
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aebench.errors import Failure, failure_reason
from aebench.inputs import FIX
from aebench.workspace import Workspace, add_run_and_seed

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from aebench.job import Job
    from aebench.models.autoencoder import Autoencoder
    from aebench.models.measuring import Measuring
    from aebench.plugins import Metric
    from aebench.records.encode import Measured
    from aebench.records.plan import Better, EncodePlan
    from aebench.records.prepare import Prepared

SPLITS = ("train", "test")
FIGURES = ("mse", "psnr")  # with a field of their own in encode.json
ARRAYS = ("squared_errors", "metrics", "examples", "worst", "code_map")  # for the report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which run and seed."""
    add_run_and_seed(parser)


def imports_slowly(workspace: Workspace) -> bool:
    """Always."""
    return True


def encode(workspace: Workspace, run: str, seed: int) -> None:
    """Write codes, squared errors, further metrics and reconstructed examples of one run.

    runs/<run>/<seed>/{train,test}_codes.npy float32 (N, latent): no rows where the codes are the
    pixels themselves, no bytes at all for a failed run. results/<run>/<seed>/squared_errors.npy
    float32 (N_test,): the mean over the elements of each test image; metrics.npy, records (N_test,)
    of float32: the other metrics of each, by name; examples.npy uint8 (n, C, H, W); worst.npy uint8
    (2, n, C, H, W), the test images with the largest errors and their reconstructions: none of the
    four has rows where there is no decoder; code_map.npy uint8 (m, n, 2), see `code_map`, of the
    mapped test images; and encode.json.
    """
    from aebench.job import working
    from aebench.records.plan import EncodePlan

    with working(workspace, EncodePlan, run, seed) as job:
        encode_by(job, run, seed)


def encode_by(job: "Job[EncodePlan]", run: str, seed: int) -> None:
    """Encode as the job's plan says."""
    import torch

    from aebench.models.device import device
    from aebench.models.process import (
        gpu_name,
        gpu_peak_memory_bytes,
        keep_freed_memory,
    )
    from aebench.provenance import Clock
    from aebench.records.encode import EncodeRecord

    workspace, outs = job.workspace, job.outs
    clock = Clock(workspace)
    meta = job.prepared()
    train = job.result("train", run, seed)
    weights = workspace.run_path(run, seed, "weights.safetensors")
    job.inputs.check(weights, train.weights_hash, FIX)
    keep_freed_memory()
    found: dict[str, Any]
    try:
        if train.status != "ok":
            raise Failure("training failed")
        found = computed(job, run, seed, meta)
        said = f"{run}: no decoder, no MSE"
        if "mse" in found:
            said = f"{run}: MSE {found['mse']:.5f}, PSNR {found['psnr']:.2f} dB"
        for name, metric in found["metrics"].items():
            said += f", {name} {metric.mean:.4g}" if metric.mean is not None else ""
        print(said, flush=True)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit, too: a model ends its row alone
        found = {"status": f"failed: {failure_reason(error)}"}
        if train.is_elsewhere:
            found = {"status": train.status}
        print(f"aebench: encode {run} {seed}: {found['status']}", file=sys.stderr)
        for path in out_paths(workspace, run, seed).values():
            outs.write(path, b"")
    origin = clock.provenance(
        ["torch", "numpy", "faiss-cpu"],
        seed=seed,
        threads=torch.get_num_threads(),
        gpu=gpu_name(),
        gpu_peak_memory_bytes=gpu_peak_memory_bytes(),
        device=device(),
        precision="float32",
    )
    paths = out_paths(workspace, run, seed).values()
    record = EncodeRecord(
        plan_hash=job.plan_hash,
        plan=job.plan,
        files={path.name: outs.hash(path) for path in paths},
        data_hash=meta.data_hash,
        weights_hash=train.weights_hash,
        provenance=origin,
        **found,
    )
    outs.write(workspace.result_path(run, seed, "encode.json"), record.json_bytes())


def out_paths(workspace: Workspace, run: str, seed: int) -> dict[str, Any]:
    """Split or name -> the array that is written."""
    codes = {split: workspace.run_path(run, seed, f"{split}_codes.npy") for split in SPLITS}
    return codes | {name: workspace.result_path(run, seed, f"{name}.npy") for name in ARRAYS}


def computed(job: "Job[EncodePlan]", run: str, seed: int, meta: "Prepared") -> dict[str, Any]:
    """What encode.json says, after the arrays were written. Failure where the model failed."""
    import numpy as np
    import torch

    from aebench.evaluation.code_map import code_map
    from aebench.evaluation.discrete import code_bits
    from aebench.models.encoding import decoding, encoded
    from aebench.models.measuring import Measuring
    from aebench.models.weights import read_weights
    from aebench.timing import facts

    workspace, plan, outs = job.workspace, job.plan, job.outs
    metrics, faults = job.metrics()
    model = job.model()
    stored = read_weights(workspace.run_path(run, seed, "weights.safetensors"))
    images = {split: torch.from_numpy(job.images(split)) for split in SPLITS}
    paths = out_paths(workspace, run, seed)
    files = {split: outs.open(paths[split]) for split in SPLITS}
    with contextlib.chdir(os.curdir):  # and back, wherever the model goes
        result = encoded(model, plan.build, stored, images, files)
    with contextlib.chdir(os.curdir):
        autoencoder = decoding(model, plan.build, stored)
        # The MSE comes of the same pass by the same function, of codes at 8 bits, too.
        measuring = Measuring(metric for name, metric in metrics.items() if name != "mse")
        quality, arrays = decoded(
            autoencoder, result.codes, images["test"], meta.examples, measuring
        )
    mapped = result.codes["test"][meta.mapped].numpy()
    arrays["code_map"] = code_map(mapped, neighbours=seed == plan.first_seed)
    for name, array in arrays.items():
        np.save(outs.open(paths[name]), array)
    return {
        "status": "ok",
        "codes_hash": result.codes_hash,
        **quality,
        "metrics": summaries(plan, metrics, arrays["metrics"], measuring.faults | faults),
        "code_bits": code_bits(*(result.codes[split].numpy() for split in SPLITS)),
        "sizes": result.sizes,
        "encode_images_per_second": result.images_per_second,
        "timing": facts([result.used]),
    }


def decoded(
    autoencoder: "Autoencoder",
    codes: "Mapping[str, Tensor]",
    images: "Tensor",
    examples: list[int],
    measuring: "Measuring",
) -> tuple[dict[str, float], "dict[str, np.ndarray]"]:
    """How well the decoder reconstructs test images from their codes, and the arrays by name.

    No figures without a decoder. Failure for reconstructions that are not finite.
    """
    import numpy as np

    from aebench.evaluation.quality import mean, mse
    from aebench.models.encoding import reconstruct
    from aebench.shown import worst

    errors, pictures = reconstruct(autoencoder, codes["test"], images, examples, seen=measuring.add)
    arrays = {"squared_errors": errors, "metrics": measuring.values, "examples": pictures}
    if not np.isfinite(errors).all():
        raise Failure("the reconstructions are not finite")
    places = worst(errors)
    originals = images[places]
    _, pictures = reconstruct(autoencoder, codes["test"][places], originals, range(len(places)))
    arrays["worst"] = np.stack([originals.numpy(), pictures])
    if autoencoder.decoder is None:
        return {}, arrays
    figures = {"mse": mse(errors), "psnr": mean(arrays["metrics"]["psnr"])}
    return figures | of_fewer_bits(autoencoder, codes, images), arrays


def of_fewer_bits(
    autoencoder: "Autoencoder", codes: "Mapping[str, Tensor]", images: "Tensor"
) -> dict[str, Any]:
    """The MSE of codes that are kept in fewer bits, by its name in encode.json, as far as there is.

    `rounded_note`: why some is not. The quantisers are those of the training codes, as they are
    where the codes are searched.
    """
    import numpy as np

    from aebench.evaluation.blocks import evenly
    from aebench.evaluation.product import product, product_fault
    from aebench.evaluation.quality import mse_of_rounded
    from aebench.evaluation.quantise import SAMPLE, affine, narrowed
    from aebench.models.encoding import in_blocks, reconstruct

    bank = codes["train"]
    sample = np.concatenate([*in_blocks(bank[evenly(len(bank), SAMPLE)])])
    eight = affine(in_blocks(bank))
    kinds: dict[str, Any] = {"mse_8bit": eight, "mse_4bit": narrowed(eight, sample, 4)}
    if product_fault(*bank.shape) is None:
        kinds["mse_pq"] = product(sample)
    found: dict[str, Any] = {}
    for name, kind in kinds.items():
        try:
            errors, _ = reconstruct(autoencoder, codes["test"], images, change=kind.rounded)
        except Exception as error:  # a decoder that takes the values of its codebook alone
            note = f"no {name}: {failure_reason(error)}"
            print(note, file=sys.stderr)
            found.setdefault("rounded_note", note)
            continue
        found[name] = mse_of_rounded(errors)
    return found


def summaries(
    plan: "EncodePlan",
    metrics: "Mapping[str, Metric]",
    values: "np.ndarray",
    faults: "Mapping[str, str]",
) -> "dict[str, Measured]":
    """The metrics beside MSE and PSNR, by `values`; of `faults` the reason. None without rows."""
    from aebench.evaluation.quality import mean
    from aebench.records.encode import Measured

    found: dict[str, Measured] = {}
    better: dict[str, Better] = {
        name: metric.better for name, metric in (*plan.metrics.items(), *metrics.items())
    }
    for name in [name for name in {**metrics, **faults} if name not in FIGURES and len(values)]:
        if name in faults:
            found[name] = Measured(better=better[name], note=f"no {name}: {faults[name]}")
            print(found[name].note, file=sys.stderr)
        else:
            found[name] = Measured(better=better[name], mean=mean(values[name]))
    return found
