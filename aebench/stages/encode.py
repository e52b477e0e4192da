"""Encode all images with a trained run."""

import argparse
import contextlib
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aebench.errors import Failure, failure_reason
from aebench.workspace import Outs, Workspace, add_run_and_seed, check_unchanged, file_hash, needed

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from aebench.models.autoencoder import Autoencoder
    from aebench.records.plan import EncodePlan
    from aebench.records.prepare import Prepared

SPLITS = ("train", "test")
ARRAYS = ("squared_errors", "examples", "worst", "code_map")  # for the report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which run and seed."""
    add_run_and_seed(parser)


def imports_torch(workspace: Workspace) -> bool:
    """Always."""
    return True


def encode(workspace: Workspace, run: str, seed: int) -> None:
    """Write codes, squared errors and reconstructed examples of one run.

    runs/<run>/<seed>/{train,test}_codes.npy float32 (N, latent): no rows where the codes are the
    pixels themselves, no bytes at all for a failed run. results/<run>/<seed>/squared_errors.npy
    float32 (N_test,): the mean over the elements of each test image; examples.npy uint8
    (n, C, H, W); worst.npy uint8 (2, n, C, H, W), the test images with the largest errors and their
    reconstructions: none of the three has rows where there is no decoder; code_map.npy uint8
    (m, n, 2), see `code_map`, of the mapped test images; and encode.json.
    """
    import torch

    from aebench.models.device import device
    from aebench.models.process import gpu_name, keep_freed_memory
    from aebench.provenance import Clock
    from aebench.records.encode import EncodeRecord
    from aebench.records.plan import EncodePlan
    from aebench.records.prepare import Prepared

    clock = Clock(workspace)
    plan_file = workspace.plan_path(run, "encode")
    plan, plan_hash = EncodePlan.read_with_hash(plan_file, "aebench plan")
    meta = Prepared.read(workspace.prepared / "meta.json", "aebench prepare")
    weights = workspace.run_path(run, seed, "weights.safetensors")
    needed(weights, f"aebench train {run} {seed}")
    keep_freed_memory()
    found: dict[str, Any]
    with Outs() as outs:
        try:
            found = computed(workspace, run, seed, plan, meta, outs)
            said = f"{run}: no decoder, no MSE"
            if "mse" in found:
                said = f"{run}: MSE {found['mse']:.5f}, PSNR {found['psnr']:.2f} dB"
            print(said, flush=True)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit, too: a model ends its row alone
            found = {"status": f"failed: {failure_reason(error)}"}
            print(f"aebench: encode {run} {seed}: {found['status']}", file=sys.stderr)
            for path in out_paths(workspace, run, seed).values():
                outs.write(path, b"")
        origin = clock.provenance(
            ["torch", "numpy"],
            seed=seed,
            threads=torch.get_num_threads(),
            gpu=gpu_name(),
            device=device(),
            precision="float32",
        )
        record = EncodeRecord(
            plan_hash=plan_hash,
            plan=plan,
            data_hash=meta.data_hash,
            weights_hash=file_hash(weights),
            provenance=origin,
            **found,
        )
        check_unchanged(plan_file, plan_hash)
        outs.write(workspace.result_path(run, seed, "encode.json"), record.json_bytes())


def out_paths(workspace: Workspace, run: str, seed: int) -> dict[str, Any]:
    """Split or name -> the array that is written."""
    codes = {split: workspace.run_path(run, seed, f"{split}_codes.npy") for split in SPLITS}
    return codes | {name: workspace.result_path(run, seed, f"{name}.npy") for name in ARRAYS}


def computed(
    workspace: Workspace, run: str, seed: int, plan: "EncodePlan", meta: "Prepared", outs: Outs
) -> dict[str, Any]:
    """What encode.json says, after the arrays were written. Failure where the model failed."""
    import numpy as np
    import torch

    from aebench.evaluation.code_map import code_map
    from aebench.evaluation.discrete import code_bits
    from aebench.models.encoding import decoding, encoded
    from aebench.models.weights import read_weights
    from aebench.plugins import load_model
    from aebench.timing import facts

    weights = workspace.run_path(run, seed, "weights.safetensors")
    if weights.stat().st_size == 0:
        raise Failure("training failed")
    model = load_model(workspace, plan.plugin, plan.model)
    stored = read_weights(weights)
    # Mapped: read where they are used.
    images = {
        split: torch.from_numpy(np.load(workspace.prepared / f"{split}_images.npy", mmap_mode="c"))
        for split in SPLITS
    }
    paths = out_paths(workspace, run, seed)
    files = {split: outs.open(paths[split]) for split in SPLITS}
    with contextlib.chdir(os.curdir):  # and back, wherever the model goes
        result = encoded(model, plan.build, stored, images, files)
    with contextlib.chdir(os.curdir):
        autoencoder = decoding(model, plan.build, stored)
        quality, arrays = decoded(autoencoder, result.codes, images["test"], meta.examples)
    mapped = result.codes["test"][meta.mapped].numpy()
    arrays["code_map"] = code_map(mapped, neighbours=seed == plan.first_seed)
    for name, array in arrays.items():
        np.save(outs.open(paths[name]), array)
    return {
        "status": "ok",
        "codes_hash": result.codes_hash,
        **quality,
        "code_bits": code_bits(*(result.codes[split].numpy() for split in SPLITS)),
        "sizes": result.sizes,
        "encode_images_per_second": result.images_per_second,
        "timing": facts([result.used]),
    }


def decoded(
    autoencoder: "Autoencoder", codes: "Mapping[str, Tensor]", images: "Tensor", examples: list[int]
) -> tuple[dict[str, float], "dict[str, np.ndarray]"]:
    """How well the decoder reconstructs test images from their codes, and the arrays by name.

    No figures without a decoder. Failure for reconstructions that are not finite.
    """
    import numpy as np

    from aebench.evaluation.quality import mean_psnr, mse
    from aebench.evaluation.quantise import affine, mse_of_rounded
    from aebench.models.encoding import in_blocks, reconstruct
    from aebench.shown import worst

    errors, pictures = reconstruct(autoencoder, codes["test"], images, examples)
    arrays = {"squared_errors": errors, "examples": pictures}
    if not np.isfinite(errors).all():
        raise Failure("the reconstructions are not finite")
    places = worst(errors)
    originals = images[places]
    _, pictures = reconstruct(autoencoder, codes["test"][places], originals, range(len(places)))
    arrays["worst"] = np.stack([originals.numpy(), pictures])
    if autoencoder.decoder is None:
        return {}, arrays
    figures = {"mse": mse(errors), "psnr": mean_psnr(errors)}
    eight = affine(in_blocks(codes["train"]))
    try:
        rounded, _ = reconstruct(autoencoder, codes["test"], images, change=eight.rounded)
    except Exception as error:  # a decoder that takes the values of its codebook alone
        print(f"no MSE at 8 bits: {failure_reason(error)}", file=sys.stderr)
        return figures, arrays
    return figures | {"mse_8bit": mse_of_rounded(rounded)}, arrays
