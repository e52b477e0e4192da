"""Encode all images with a trained model, and reconstruct the test images."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from aebench.errors import Failure
from aebench.models.autoencoder import Autoencoder, as_floats, encodes_pixels
from aebench.models.contract import expect
from aebench.models.device import deterministic, device, exact_float32
from aebench.models.sizes import sizes
from aebench.models.weights import read_weights, restore
from aebench.progress import bar
from aebench.records.encode import Sizes
from aebench.timing import Stopwatch, Usage

if TYPE_CHECKING:
    from aebench.plugins import Model

BLOCK = 500  # images at a time: memory does not grow with the data set


@dataclass
class Encoded:
    """What encoding found.

    `squared_errors` float32 (N_test,): mean over the elements of each image, reconstructions
    clipped to [0, 1]; `examples` uint8 (n, C, H, W): those of the shown test images; `used`: time
    of the encoder alone.
    """

    codes_hash: str
    used: Usage
    squared_errors: np.ndarray
    examples: np.ndarray
    sizes: Sizes
    images_per_second: float  # encoder alone


def encoded(
    model: "Model",
    arguments: dict[str, Any],
    weights: Path,
    images: Mapping[str, Tensor],
    examples: Sequence[int],
    files: Mapping[str, BinaryIO],
) -> Encoded:
    """Write the codes of each split of `images` (uint8 (N, C, H, W)) into its file, as .npy.

    float32 (N, latent), block by block; no rows where the codes are the pixels themselves. Failure
    for codes or reconstructions that are not finite.
    """
    exact_float32()
    deterministic()
    # Counted on one that is thrown away, and two images: some layers refuse one alone.
    stored = read_weights(weights)
    found = sizes(restore(model, arguments, stored), as_floats(images["train"][:2]))
    autoencoder = restore(model, arguments, stored)
    autoencoder.to(device())
    codes_hash, used = write_codes(autoencoder, found.code_floats, images, files)
    errors, pictures = reconstruct(autoencoder, images["test"], examples)
    rate = sum(map(len, images.values())) / used.seconds
    return Encoded(codes_hash, used, errors, pictures, found, rate)


@torch.no_grad()
def write_codes(
    autoencoder: Autoencoder,
    floats: int,
    images: Mapping[str, Tensor],
    files: Mapping[str, BinaryIO],
) -> tuple[str, Usage]:
    """Write the codes of all splits block by block. Their SHA-256 and the time of the encoder."""
    digest = hashlib.sha256()
    used = Usage(0.0, 0.0, 0.0, 0.0, 0)
    first = next(iter(images.values()))[:BLOCK]
    autoencoder.encoder(as_floats(first.to(device())))  # the first call is slower
    pixels = encodes_pixels(autoencoder)
    for split, rows in images.items():
        file = files[split]
        for block in bar(blocks(len(rows)), f"encode {split}"):
            batch = as_floats(rows[block].to(device()))
            stopwatch = Stopwatch()
            codes = autoencoder.encoder(batch).contiguous().cpu()
            used += stopwatch.read()
            expect(codes, "encoder", (len(batch), floats))
            if not codes.isfinite().all():
                raise Failure(f"the codes of {split} images are not finite")
            if block.start == 0:
                count = 0 if pixels else len(rows)
                write_header(file, (count, floats))
            if not pixels:
                content = codes.numpy().data
                digest.update(content)
                file.write(content)
    return digest.hexdigest(), used


def blocks(count: int) -> list[slice]:
    """Up to `count`, in pieces of `BLOCK`, the last one larger by 1 instead of a single image.

    Some layers refuse one image alone: a batch norm without running statistics.
    """
    starts = range(0, max(1, count - 1), BLOCK)
    return [slice(s, s + BLOCK if s != starts[-1] else count) for s in starts]


def write_header(file: BinaryIO, shape: tuple[int, int]) -> None:
    """What a .npy file of float32 codes begins with."""
    np.lib.format.write_array_header_1_0(
        file, {"descr": "<f4", "fortran_order": False, "shape": shape}
    )


@torch.no_grad()
def reconstruct(
    autoencoder: Autoencoder, images: Tensor, examples: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """The squared errors and the reconstructed examples of `Encoded`. `images`: of the test set."""
    errors = np.empty(len(images), np.float32)
    for block in bar(blocks(len(images)), "reconstruct"):
        batch = as_floats(images[block].to(device()))
        # A copy: an encoder that works in place would change what it is judged by.
        decoded = autoencoder.decoder(autoencoder.encoder(batch.clone()))
        decoded = expect(decoded, "decoder", batch.shape).clamp(0, 1)
        errors[block] = (decoded.double() - batch).square().mean((1, 2, 3)).cpu()
    if not np.isfinite(errors).all():
        raise Failure("the reconstructions are not finite")
    shown = as_floats(images[list(examples)].to(device()))
    pictures = autoencoder.decoder(autoencoder.encoder(shown)).clamp(0, 1).mul(255).round()
    return errors, pictures.byte().cpu().numpy()
