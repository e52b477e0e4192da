"""Encode all images with a trained model, and reconstruct the test images from their codes."""

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from aebench.errors import Failure
from aebench.metrics import squared_errors
from aebench.models.autoencoder import Autoencoder, as_floats, encodes_pixels, expect
from aebench.models.device import deterministic, device, exact_float32
from aebench.models.rounding import EXEMPT, TOLERANCE, spread, tolerance
from aebench.models.sizes import sizes
from aebench.models.weights import Stored, restore
from aebench.plugins import imported_anew
from aebench.progress import bar
from aebench.records.encode import Sizes
from aebench.timing import Stopwatch, Usage

if TYPE_CHECKING:
    from aebench.plugins import Model

BLOCK = 500  # images at a time: memory does not grow with the data set


@dataclass
class Encoded:
    """What encoding found.

    `codes`: those of each split float32 (N, latent), as its file holds them; the images' own bytes
    uint8 (N, C * H * W) where the codes are the pixels; `used`: time of the encoder alone.
    """

    codes: Mapping[str, Tensor]
    codes_hash: str
    used: Usage
    sizes: Sizes
    images_per_second: float  # encoder alone


def encoded(
    model: "Model",
    arguments: dict[str, Any],
    stored: Stored,
    images: Mapping[str, Tensor],
    files: Mapping[str, BinaryIO],
) -> Encoded:
    """Write the codes of each split of `images` (uint8 (N, C, H, W)) into its file, as .npy.

    float32 (N, latent), block by block; no rows where the codes are the pixels themselves. Failure
    for codes that are not finite.
    """
    paths = {split: os.path.abspath(file.name) for split, file in files.items()}
    exact_float32()
    deterministic()
    # Counted on one that is thrown away, and two images: some layers refuse one alone.
    found = sizes(restore(model, arguments, stored), as_floats(images["train"][:2]))
    autoencoder = restore(model, arguments, stored)
    autoencoder.to(device())
    codes_hash, used = write_codes(autoencoder, found.code_floats, images, files)
    rate = sum(map(len, images.values())) / used.seconds
    if encodes_pixels(autoencoder):
        codes = {split: rows.flatten(1) for split, rows in images.items()}
    else:  # mapped: read where they are used
        codes = {s: torch.from_numpy(np.load(path, mmap_mode="c")) for s, path in paths.items()}
        for split, rows in images.items():
            check_batches(autoencoder, rows, codes[split], split)
    return Encoded(codes, codes_hash, used, found, rate)


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
        file.flush()
    return digest.hexdigest(), used


@torch.no_grad()
def check_batches(autoencoder: Autoencoder, images: Tensor, codes: Tensor, split: str) -> None:
    """Failure where codes among `BLOCK` others are not those of the same images among few.

    The contract is checked on few images, before: what needs many to show, shows here.
    """
    chosen = spread(len(images))
    found = codes[chosen]
    again = autoencoder.encoder(as_floats(images[chosen].to(device()))).cpu()
    moved = int(((again - found).abs() > tolerance(found)).any(1).sum())
    if moved > math.ceil(EXEMPT * len(chosen)):
        raise Failure(
            f"other codes of the same {split} images in batches of {BLOCK} than of {len(chosen)}: "
            f"{moved} of {len(chosen)}; allowed: {TOLERANCE} of each dimension's deviation, of "
            f"{1 - EXEMPT:.0%}; each row is computed by itself, however many there are"
        )


def blocks(count: int) -> list[slice]:
    """Up to `count`, in pieces of `BLOCK`, the last one larger by 1 instead of a single image.

    One row is multiplied by other kernels than many, and its code rounded otherwise.
    """
    starts = range(0, max(1, count - 1), BLOCK)
    return [slice(s, s + BLOCK if s != starts[-1] else count) for s in starts]


def write_header(file: BinaryIO, shape: tuple[int, int]) -> None:
    """What a .npy file of float32 codes begins with."""
    np.lib.format.write_array_header_1_0(
        file, {"descr": "<f4", "fortran_order": False, "shape": shape}
    )


def decoding(model: "Model", arguments: dict[str, Any], stored: Stored) -> Autoencoder:
    """The model to reconstruct with: as in another process, it has seen no image."""
    autoencoder = restore(imported_anew(model), arguments, stored)
    return autoencoder.to(device())


def in_blocks(codes: Tensor) -> Iterator[np.ndarray]:
    """Codes of `Encoded` as a decoder gets them: float32 (n, d) of their own, -0.0 is 0.0."""
    for block in blocks(len(codes)):
        rows = codes[block]
        yield (as_floats(rows) if codes.dtype == torch.uint8 else rows + 0.0).numpy()


@torch.no_grad()
def reconstruct(
    autoencoder: Autoencoder,
    codes: Tensor,
    images: Tensor,
    examples: Sequence[int] = (),
    change: Callable[[np.ndarray], np.ndarray] | None = None,
    seen: Callable[[Tensor, Tensor], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """What the decoder makes of the codes (see `Encoded`) of `images` uint8 (N, C, H, W).

    float32 (N,): the mean squared error over the elements of each image, reconstructions clipped
    to [0, 1], NaN where they are not finite; uint8 (n, C, H, W): those of the images `examples`.
    Neither has rows without a decoder. `change`: what is done to the codes float32 (n, d) before;
    `seen`: gets images and clipped reconstructions of each block, float32 (n, C, H, W).
    """
    shown = np.empty((len(examples), *images.shape[1:]), np.uint8)
    if autoencoder.decoder is None:
        return np.empty(0, np.float32), shown[:0]
    errors = np.empty(len(images), np.float32)
    places = blocks(len(images))
    pairs = zip(places, in_blocks(codes), strict=True)
    for block, given in bar(pairs, "reconstruct", len(places)):
        given = torch.from_numpy(given if change is None else change(given)).to(device())
        batch = as_floats(images[block].to(device()))
        decoded = expect(autoencoder.decoder(given), "decoder", batch.shape).clamp(0, 1)
        errors[block] = squared_errors(batch, decoded).cpu()
        if seen and np.isfinite(errors[block]).all():  # else the run fails
            seen(batch, decoded)
        for place, image in enumerate(examples):
            if block.start <= image < block.stop:
                picture = decoded[image - block.start].mul(255).round()
                shown[place] = picture.byte().cpu().numpy()
    return errors, shown
