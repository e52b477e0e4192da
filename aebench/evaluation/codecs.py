"""Images through JPEG and WebP: bytes, errors and neighbours, to hold codes against."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image, features

from aebench.errors import first_line, is_machine_failure
from aebench.evaluation.blocks import in_threads, kept_in_file, steps
from aebench.evaluation.faiss_loading import load_faiss
from aebench.evaluation.search import search
from aebench.evaluation.vote import vote

Codec = Literal["JPEG", "WebP"]

QUALITIES: dict[Codec, tuple[int, ...]] = {
    "WebP": (0, 5, 20, 50, 80),
    "JPEG": (0, 10, 25, 50, 80),
}
# Of which neighbours are sought, too: each takes as long as a search of raw pixels.
SEARCHED = {("WebP", 0), ("WebP", 50), ("JPEG", 0)}
PRODUCTS = 2 * 10**12  # images x test images x elements of one such search: CIFAR-10's are 1.5e12
BLOCK = 2**19  # elements of the images that a thread holds at a time


class Coded(NamedTuple):
    """Test images in one codec at one quality: means of bytes, and each image's error (N_test,).

    `bytes` of whole files, JPEG's with tables of their own; `payload_bytes`: see `payload`;
    `accuracy`: None where no neighbours were sought.
    """

    codec: Codec
    quality: int
    bytes: float
    payload_bytes: float
    errors: np.ndarray
    accuracy: float | None


def measured(
    images: Sequence[np.ndarray], labels: Sequence[np.ndarray], k: int, folder: Path | None = None
) -> tuple[list[Coded], list[str]]:
    """Test images through each codec and quality, and why something is left out.

    images: of training and test, uint8 (N, C, H, W); labels int64 (N,). Accuracy is that of kNN by
    L2 with both as they come back. `folder`: where the training images then lie, in a file without
    a name. Failures of the machine are raised.
    """
    load_faiss()
    found, notes = list[Coded](), list[str]()
    train, test = images
    channels = test.shape[1]
    if channels not in (1, 3):
        return [], [f"images of {channels} channels: JPEG and WebP are tried with 1 or 3"]
    is_slow = train.size * len(test) > PRODUCTS
    if is_slow:
        notes.append("neighbours of images through a codec: their search would take minutes")
    for codec, qualities in QUALITIES.items():
        if codec == "WebP" and not features.check("webp"):
            notes.append("WebP: this Pillow has none")
            continue
        try:
            for quality in qualities:
                searched = (codec, quality) in SEARCHED and not is_slow
                bank = (train, labels[0], labels[1], k, folder) if searched else None
                found.append(coded(codec, quality, test, bank))
        except Exception as error:
            if is_machine_failure(error):
                raise
            notes.append(f"{codec}: {first_line(error)}")
    return found, notes


def coded(
    codec: Codec,
    quality: int,
    test: np.ndarray,
    bank: tuple[np.ndarray, np.ndarray, np.ndarray, int, Path | None] | None,
) -> Coded:
    """Test images at one quality. `bank`: see `neighbours`; None: none are sought."""
    errors = np.empty(len(test), np.float32)
    sizes = np.empty((len(test), 2))
    queries = np.empty(test.shape, np.uint8)
    for rows, (back, own) in through(codec, quality, test):
        difference = (back.astype(np.float64) - test[rows]) / 255
        errors[rows] = np.square(difference).mean(axis=(1, 2, 3))
        sizes[rows], queries[rows] = own, back
    whole, payloads = sizes.mean(axis=0).tolist()
    accuracy = None if bank is None else neighbours(codec, quality, queries, *bank)
    return Coded(codec, quality, whole, payloads, errors, accuracy)


def neighbours(
    codec: Codec,
    quality: int,
    queries: np.ndarray,
    train: np.ndarray,
    labels: np.ndarray,
    truth: np.ndarray,
    k: int,
    folder: Path | None,
) -> float:
    """The accuracy of kNN among training images at that quality; `queries` are at it already."""
    near = kept_in_file((back for _, (back, _) in through(codec, quality, train)), folder)
    indices = search(near, queries.reshape(len(queries), -1), k, "faiss")
    return float(np.mean(vote(labels[indices]) == truth))


def through(
    codec: Codec, quality: int, images: np.ndarray
) -> Iterator[tuple[slice, tuple[np.ndarray, np.ndarray]]]:
    """Blocks of the images (N, C, H, W) as they come back, and (n, 2) bytes: whole and payload."""
    floats = images[0].size

    def part(rows: slice) -> tuple[np.ndarray, np.ndarray]:
        block = images[rows]
        back, sizes = np.empty_like(block), np.empty((len(block), 2))
        for place, image in enumerate(block):
            content = plain = written(codec, quality, image)
            if codec == "JPEG":
                content = written(codec, quality, image, optimize=True)
            back[place] = read(codec, plain, len(image))
            sizes[place] = len(content), len(payload(codec, plain))
        return back, sizes

    parts = list(steps(len(images), floats, BLOCK))
    for some in range(0, len(parts), 16):  # so many are held
        these = parts[some : some + 16]
        yield from zip(these, in_threads(part, these), strict=True)


def written(codec: Codec, quality: int, image: np.ndarray, optimize: bool = False) -> bytes:
    """The file that Pillow writes of an image uint8 (C, H, W), with its own settings otherwise.

    JPEG: baseline, colour at half the resolution, the standard's Huffman tables, or with `optimize`
    those that make its file smallest; WebP: lossy, method 4. Grey is JPEG's mode L; WebP has
    colours alone, all three of them equal.
    """
    picture = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
    if codec == "WebP":
        picture = picture.convert("RGB")
    file = io.BytesIO()
    picture.save(file, codec, quality=quality, optimize=optimize)
    return file.getvalue()


def read(codec: Codec, content: bytes, channels: int) -> np.ndarray:
    """The image in a file: uint8 (C, H, W)."""
    with Image.open(io.BytesIO(content), formats=[codec]) as picture:
        found = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
    return found[None] if channels == 1 else found.transpose(2, 0, 1)


def payload(codec: Codec, content: bytes) -> bytes:
    """What of the file tells of the image: who knows codec, quality and size needs no more of it.

    JPEG, with the standard's tables: the entropy-coded data between the header of the scan (SOS)
    and the end (EOI). WebP: the content of the chunk `VP8 `, without the 20 bytes of RIFF's and the
    chunk's headers, with the 10 of its frame's.
    """
    if codec == "WebP":
        assert content[12:16] == b"VP8 "
        return content[20 : 20 + int.from_bytes(content[16:20], "little")]
    place = 2  # after SOI
    while content[place + 1] != 0xDA:  # SOS
        place += 2 + int.from_bytes(content[place + 2 : place + 4])
    return content[place + 2 + int.from_bytes(content[place + 2 : place + 4]) : -2]
