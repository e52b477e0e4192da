"""Images of every source -> arrays in an order that depends on their content alone."""

import contextlib
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aebench.errors import AebenchError, failure_reason, first_line, is_machine_failure
from aebench.folders import composed, image_folder, is_utf8, printable
from aebench.images import SMALLEST, convert, read_arrays

if TYPE_CHECKING:
    from aebench.plugins import Dataset
    from aebench.records.plan import DataPlan

DARK, BULK = 4, 0.999  # of 255; share of the pixels
EXAMPLES = 10  # test images whose reconstructions the report shows
Split = tuple[np.ndarray, np.ndarray]  # images uint8 (N, C, H, W), labels int64 (N,)


@dataclass
class Images:
    """Both splits, ordered; class names by label; what identifies them; the shown test images."""

    splits: dict[str, Split]
    classes: list[str]
    data_hash: str
    examples: list[int]
    duplicates: dict[str, int]  # see `duplicates`
    remarks: list[str]  # what a reader of the figures should know of the images


@dataclass
class Source:
    """What a folder or a plug-in gives, in its own order."""

    splits: dict[str, Split]
    classes: list[str]
    remarks: list[str]


def prepared(plan: "DataPlan", root: Path, dataset: "Dataset | None") -> Images:
    """The planned data set, from its plug-in or, without one, from its folder below `root`.

    AebenchError for a source that breaks its contract, cannot be had or holds no whole images.
    """
    found = load_dataset(plan, root, dataset) if dataset else read_folder(plan, root)
    found.remarks += peculiarities(found)
    hashes = {name: pixel_hashes(images) for name, (images, _) in found.splits.items()}
    counts = duplicates(found.splits, hashes)
    splits = {name: ordered(*split, hashes[name]) for name, split in found.splits.items()}
    shown = examples(splits["test"][1], len(found.classes))
    return Images(splits, found.classes, data_hash(splits), shown, counts, found.remarks)


def peculiarities(found: Source) -> list[str]:
    """What makes figures of these images say little, a phrase each."""
    phrases = []
    images, _ = found.splits["train"]
    dark = sum(np.count_nonzero(image < DARK) for image in images)
    if dark >= BULK * images.size:  # a single bright pixel does not help
        phrases.append(
            f"{100 * BULK} % of the pixels are below {DARK} of 255: all but black to every model"
        )
    if len(found.classes) == 1:
        phrases.append("one class: every accuracy is 100 %, whatever the codes are")
    return phrases


def read_folder(plan: "DataPlan", root: Path) -> Source:
    """`<data root>/<name>/{train,test}/<class>/*`; the label is the class's place by name."""
    folder = root / plan.dataset
    found = image_folder(folder)
    if found.files != plan.files:
        raise AebenchError(f"{folder}: changed since `aebench plan`; run `dvc repro` again")
    paths: list[str] = []
    labels: list[int] = []
    for by_class in found.splits.values():
        for label, of_class in enumerate(by_class.values()):
            paths += of_class
            labels += [label] * len(of_class)
    images, remarks = read_arrays(paths, plan.image_size, plan.channels)
    check_size(folder.as_posix(), images)
    if pair := alike(paths, images, range(len(paths))):
        raise AebenchError(
            f"{pair[0]}: comes out as the same pixels as {pair[1]}, like all images of {folder}, "
            "though the files differ; their content is not in their colours: mend them"
        )
    classes = list(found.splits["train"])
    every = np.array(labels, np.int64)
    for label, name in enumerate(classes):
        if alike(paths, images, np.flatnonzero(every == label).tolist()):
            remarks.append(f"all images of class {name!r} come out alike though the files differ")
    num_train = found.count("train")
    splits = {
        "train": (images[:num_train], every[:num_train]),
        "test": (images[num_train:], every[num_train:]),
    }
    return Source(splits, classes, remarks)


def alike(paths: Sequence[str], images: np.ndarray, which: Sequence[int]) -> tuple[str, str] | None:
    """Two files that differ, where all of `which` have the same pixels; else None."""
    first = images[which[0]]
    if not all(np.array_equal(images[i], first) for i in which):
        return None
    content = Path(paths[which[0]]).read_bytes()
    other = next((paths[i] for i in which if Path(paths[i]).read_bytes() != content), None)
    return None if other is None else (printable(paths[which[0]]), printable(other))


def load_dataset(plan: "DataPlan", root: Path, dataset: "Dataset") -> Source:
    """What the registered data set's `load` returns, checked, converted, its classes sorted."""
    where = f"{plan.source}: data set {plan.dataset!r}"
    with contextlib.suppress(OSError):  # `digits` needs no folder; who does will say so
        root.mkdir(parents=True, exist_ok=True)
    try:
        loaded = dataset.load(root)
    except AebenchError:
        raise
    except Exception as error:
        raise AebenchError(f"{where}: {load_fault(error, root / plan.dataset)}") from None
    check_dataset(where, loaded)
    names = [str(name) for name in loaded["classes"]]
    # By name, as a folder has them: both sources of a data set then give the same labels.
    order = sorted(range(len(names)), key=lambda i: names[i])
    rank = np.argsort(order).astype(np.int64)
    splits = {}
    for split in ("train", "test"):
        images, labels = loaded[split]
        splits[split] = (converted(np.asarray(images), plan), rank[labels.astype(np.int64)])
        check_size(where, splits[split][0])
    shapes = [images.shape[1:] for images, _ in splits.values()]
    if shapes[0] != shapes[1]:
        raise AebenchError(
            f"{where}: train images are {shapes[0]}, test images {shapes[1]}; both must agree: set "
            "image_size and channels in params.yaml"
        )
    every = [image for images, _ in splits.values() for image in images]
    if all(np.array_equal(image, every[0]) for image in every):
        raise AebenchError(
            f"{where}: all images are the same; allowed: different ones, uint8 0 to 255"
        )
    return Source(splits, [names[i] for i in order], [])


def load_fault(error: Exception, folder: Path) -> str:
    """Why `load` failed, and what to do. A failure of the machine is raised again instead."""
    network = is_download_failure(error)
    if is_machine_failure(error) and not network:
        raise error
    of_files = isinstance(error, OSError)
    reason = f"{type(error).__name__}: {first_line(error)}" if of_files else failure_reason(error)
    if of_files and not network and not os.access(root := folder.parent, os.W_OK):
        reason += f"; {root} cannot be written: set AEBENCH_DATA to a folder that can"
    if network or isinstance(error, RuntimeError):  # torchvision's, of a download
        reason += (
            f"; if it is to be downloaded, check the network, or put its images into "
            f"{folder}/{{train,test}}/<class>/*.png"
        )
    return reason


def is_download_failure(error: Exception) -> bool:
    """Whether the network failed: urllib's and the sockets' errors are OSErrors without a file."""
    import urllib.error

    return isinstance(error, urllib.error.URLError | ConnectionError | TimeoutError)


def check_dataset(where: str, loaded: Any) -> None:
    """AebenchError where a data set breaks the contract of `register_datasets`."""
    keys = ["train", "test", "classes"]
    if not isinstance(loaded, dict) or set(loaded) != set(keys):
        got = list(loaded) if isinstance(loaded, dict) else type(loaded).__name__
        raise AebenchError(f"{where}: load returned {got}; allowed: a dict with {keys}")
    check_classes(where, loaded["classes"])
    for split in ("train", "test"):
        pair = loaded[split]
        pair_of_arrays = isinstance(pair, tuple | list) and len(pair) == 2
        if not pair_of_arrays or not all(isinstance(a, np.ndarray) for a in pair):
            raise AebenchError(f"{where}: {split} is no pair of numpy arrays (images, labels)")
        images, labels = pair
        shaped = images.ndim == 4 and images.shape[1] in (1, 3) and images.size > 0
        if images.dtype != np.uint8 or not shaped:
            raise AebenchError(
                f"{where}: {split} images are {images.dtype} {images.shape}; "
                "allowed: uint8 (N, 1 or 3, H, W)"
            )
        if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
            raise AebenchError(
                f"{where}: {split} labels are {labels.dtype} {labels.shape}; "
                f"allowed: int64 ({len(images)},)"
            )
        present, number = set(labels.tolist()), len(loaded["classes"])
        if present != set(range(number)):
            wrong = sorted(present ^ set(range(number)))
            raise AebenchError(
                f"{where}: {split} labels: missing or unknown {wrong[:5]}; "
                f"allowed: each of 0 to {number - 1} at least once"
            )


def check_classes(where: str, classes: Any) -> None:
    """AebenchError for class names that are no list of different texts."""
    listed = isinstance(classes, list | tuple) and len(classes) > 0
    if not listed or not all(isinstance(c, str) and c.strip() for c in classes):
        got = " ".join(str(classes)[:60].split())
        raise AebenchError(f"{where}: classes are {got}; allowed: a list of str")
    if len({composed(c) for c in classes}) < len(classes):
        raise AebenchError(f"{where}: classes {str(classes)[:60]}; allowed: each name once")
    for name in classes:
        if not is_utf8(name):
            raise AebenchError(f"{where}: class {ascii(name)}; allowed: text that UTF-8 can hold")


def check_size(where: str, images: np.ndarray) -> None:
    """AebenchError for images below 8 pixels: the built-in architectures start there."""
    if min(images.shape[2:]) < SMALLEST:
        raise AebenchError(
            f"{where}: images of {images.shape[3]} x {images.shape[2]} pixels; allowed: {SMALLEST} "
            "and more; set image_size in params.yaml"
        )


def converted(images: np.ndarray, plan: "DataPlan") -> np.ndarray:
    """The images at the planned size and number of channels."""
    size, channels = plan.image_size, plan.channels
    same_size = size is None or images.shape[2:] == (size, size)
    if same_size and channels in (None, images.shape[1]):
        return images
    from PIL import Image

    pictures = (Image.fromarray(i[0] if len(i) == 1 else i.transpose(1, 2, 0)) for i in images)
    return np.stack([convert(picture, size, channels) for picture in pictures])


def pixel_hashes(images: np.ndarray) -> list[bytes]:
    """SHA-256 of each image."""
    return [hashlib.sha256(image.tobytes()).digest() for image in images]


def duplicates(splits: dict[str, Split], hashes: dict[str, list[bytes]]) -> dict[str, int]:
    """Exact duplicates, in images, under the names of `Duplicates`."""
    train, test = set(hashes["train"]), set(hashes["test"])
    labels: dict[bytes, set[int]] = {}
    for name, (_, own) in splits.items():
        for image, label in zip(hashes[name], own.tolist(), strict=True):
            labels.setdefault(image, set()).add(label)
    return {
        "train": len(hashes["train"]) - len(train),
        "test": len(hashes["test"]) - len(test),
        "across": sum(image in train for image in hashes["test"]),
        "two_labels": sum(len(own) > 1 for own in labels.values()),
    }


def ordered(images: np.ndarray, labels: np.ndarray, hashes: Sequence[bytes]) -> Split:
    """Sorted by (label, SHA-256 of the pixels)."""
    order = sorted(range(len(images)), key=lambda i: (labels[i], hashes[i]))
    return images[order], labels[order]


def data_hash(splits: dict[str, Split]) -> str:
    """SHA-256 over shapes, pixels and labels of both splits."""
    digest = hashlib.sha256()
    for name in ("train", "test"):
        for array in splits[name]:
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def examples(labels: np.ndarray, classes: int) -> list[int]:
    """Indices of EXAMPLES test images, of as many classes as there are, in order."""
    by_class = [np.flatnonzero(labels == label).tolist() for label in range(classes)]
    turns = [(turn, i) for group in by_class for turn, i in enumerate(group[:EXAMPLES])]
    return sorted(i for _, i in sorted(turns)[:EXAMPLES])
