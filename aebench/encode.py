"""Encode all images with a trained model and reconstruct the test images."""

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from aebench.autoencoder import Autoencoder, as_floats, encodes_pixels, restore
from aebench.device import deterministic, device, exact_float32, gpu_name, keep_freed_memory
from aebench.errors import Failure, failure_reason
from aebench.files import (
    PREPARED,
    Outs,
    file_hash,
    needed,
    plan_path,
    read_json,
    result_path,
    run_path,
)
from aebench.provenance import provenance
from aebench.timing import Stopwatch, Usage, facts

BLOCK = 500  # images at a time: memory does not grow with the data set
PSNR_CAP = 100.0  # dB, for an image reconstructed exactly


def encode(run: str, seed: int) -> None:
    """Write codes, squared errors and the gallery's reconstructions of one run.

    runs/<run>/<seed>/{train,test}_codes.npy float32 (N, latent): no rows where the codes are the
    pixels themselves, no bytes at all for a failed run; squared_errors.npy float32 (N_test,), the
    mean over the elements of each test image; results/<run>/<seed>/gallery.npy uint8 and
    encode.json.
    """
    plan_file = plan_path(run, "encode")
    plan = read_json(plan_file, "aebench plan")
    meta = read_json(PREPARED / "meta.json", "aebench prepare")
    weights = run_path(run, seed, "weights.safetensors")
    needed(weights, f"aebench train {run} {seed}")
    paths = {split: run_path(run, seed, f"{split}_codes.npy") for split in ("train", "test")}
    head: dict[str, Any] = {
        "plan_hash": file_hash(plan_file),
        "data_hash": meta["data_hash"],
        "weights_hash": file_hash(weights),
    }
    keep_freed_memory()
    exact_float32()
    deterministic()
    with Outs() as outs:
        errors_path = run_path(run, seed, "squared_errors.npy")
        gallery_path = result_path(run, seed, "gallery.npy")
        try:
            if weights.stat().st_size == 0:
                raise Failure("training failed")
            autoencoder, _ = restore(plan, weights)
            autoencoder.to(device())
            hashes, used = write_codes(autoencoder, meta, paths, outs)
            errors, pictures = reconstruct(autoencoder, meta)
            np.save(outs.open(errors_path), errors)
            np.save(outs.open(gallery_path), pictures)
            found = quality(errors)
            print(f"{run}: MSE {found['mse']:.5f}, PSNR {found['psnr']:.2f} dB", flush=True)
            found |= {
                "status": "ok",
                "codes_hash": hashes,
                "encode_images_per_second": (meta["num_train"] + meta["num_test"]) / used.seconds,
                "timing": facts([used]),
            }
        except Exception as error:
            found = {"status": f"failed: {failure_reason(error)}"}
            print(f"aebench: encode {run} {seed}: {found['status']}", file=sys.stderr)
            for path in (*paths.values(), errors_path, gallery_path):
                outs.write(path, b"")
        origin = provenance(
            ["torch", "numpy"],
            seed=seed,
            threads=torch.get_num_threads(),
            gpu=gpu_name(),
            device=device(),
            precision="float32",
        )
        outs.write_json(
            result_path(run, seed, "encode.json"), head | found | {"provenance": origin}
        )


@torch.inference_mode()
def write_codes(
    autoencoder: Autoencoder, meta: dict[str, Any], paths: dict[str, Path], outs: Outs
) -> tuple[str, Usage]:
    """Write the codes of both splits block by block. Their SHA-256 and the time of the encoder."""
    digest = hashlib.sha256()
    used = Usage(0.0, 0.0, 0.0, 0.0, 0)
    autoencoder.encoder(as_floats(mapped("train")[:BLOCK].to(device())))  # the first call is slower
    pixels = encodes_pixels(autoencoder)
    floats = int(np.prod(meta["shape"]))
    for split, path in paths.items():
        images = mapped(split)
        file = outs.open(path)
        for start in tqdm(
            range(0, len(images), BLOCK), f"encode {split}", leave=False, disable=None
        ):
            batch = as_floats(images[start : start + BLOCK].to(device()))
            stopwatch = Stopwatch()
            codes = autoencoder.encoder(batch).contiguous().cpu()
            used += stopwatch.read()
            if not codes.isfinite().all():
                raise Failure(f"the codes of {split} images are not finite")
            if start == 0:
                floats = codes.shape[1]
                rows = 0 if pixels else len(images)
                np.lib.format.write_array_header_1_0(
                    file, {"descr": "<f4", "fortran_order": False, "shape": (rows, floats)}
                )
            if not pixels:
                content = codes.float().numpy().data
                digest.update(content)
                file.write(content)
    return digest.hexdigest(), used


def mapped(split: str) -> torch.Tensor:
    """The prepared images uint8 (N, C, H, W), read where they are used."""
    return torch.from_numpy(np.load(PREPARED / f"{split}_images.npy", mmap_mode="c"))


@torch.inference_mode()
def reconstruct(autoencoder: Autoencoder, meta: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Squared error of each test image (float32 (N,), mean over elements) and the gallery (uint8).

    Reconstructions are clipped to [0, 1].
    """
    images = mapped("test")
    errors = np.empty(len(images), np.float32)
    for start in tqdm(range(0, len(images), BLOCK), "reconstruct", leave=False, disable=None):
        batch = as_floats(images[start : start + BLOCK].to(device()))
        decoded = autoencoder.decoder(autoencoder.encoder(batch)).clamp(0, 1)
        errors[start : start + BLOCK] = (decoded.double() - batch).square().mean((1, 2, 3)).cpu()
    if not np.isfinite(errors).all():
        raise Failure("the reconstructions are not finite")
    shown = as_floats(images[meta["gallery"]].to(device()))
    pictures = autoencoder.decoder(autoencoder.encoder(shown)).clamp(0, 1).mul(255).round()
    return errors, pictures.byte().cpu().numpy()


def quality(errors: np.ndarray) -> dict[str, Any]:
    """MSE over all elements of the test set; PSNR in dB, the mean over images, capped."""
    floor = 10 ** (-PSNR_CAP / 10)
    psnr = -10 * np.log10(np.maximum(errors.astype(np.float64), floor))
    return {"mse": float(errors.mean(dtype=np.float64)), "psnr": float(psnr.mean())}
