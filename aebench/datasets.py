"""Images of every source -> arrays in an order that depends on their content alone."""

import contextlib
import hashlib
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from aebench.errors import AebenchError, failure_reason, first_line, is_machine_failure
from aebench.folders import composed, image_folder, is_utf8, printable
from aebench.images import SMALLEST, ahead, convert, read_each
from aebench.progress import bar
from aebench.workspace import naming

if TYPE_CHECKING:
    from aebench.plugins import Dataset
    from aebench.records.plan import DataPlan

Shape = tuple[int, ...]  # (C, H, W)
DARK, BULK = 4, 0.999  # of 255; share of the pixels
EXAMPLES = 10  # test images whose reconstructions the report shows
BLOCK = 2**23  # bytes of images that are read at a time


@dataclass
class Split:
    """Images of one shape, wherever they lie, and their labels int64 (N,).

    `read`: int64 (n,), which ones -> uint8 (n, C, H, W).
    """

    shape: Shape
    labels: np.ndarray
    read: Callable[[np.ndarray], np.ndarray]

    def __len__(self) -> int:
        return len(self.labels)

    def blocks(self) -> Iterator[np.ndarray]:
        """All images, some at a time."""
        step = max(1, BLOCK // math.prod(self.shape))
        for start in range(0, len(self), step):
            yield self.read(np.arange(start, min(start + step, len(self))))

    def hashes(self) -> np.ndarray:
        """S32 (N,): SHA-256 of the pixels of each image."""
        found = np.empty(len(self), "S32")
        images = (image for block in self.blocks() for image in block)
        for i, image in enumerate(bar(images, "hash", len(self))):
            found[i] = hashlib.sha256(image.data).digest()
        return found

    def of(self, which: np.ndarray) -> "Split":
        """Those of them, int64 (n,), in that order."""
        return Split(self.shape, self.labels[which], lambda rows: self.read(which[rows]))

    def order(self, hashes: np.ndarray) -> np.ndarray:
        """int64 (N,): by label and hash; equal ones as they come."""
        return np.lexsort((hashes, self.labels))


@dataclass
class Images:
    """Both splits, ordered; class names by label; the shown test images."""

    splits: dict[str, Split]
    hashes: dict[str, np.ndarray]  # see `Split.hashes`
    classes: list[str]
    examples: list[int]
    duplicates: dict[str, int]  # see `duplicates`
    remarks: list[str]  # what a reader of the figures should know of the images


@dataclass
class Source:
    """What a folder or a plug-in gives, in its own order; with a holdout its `train` alone."""

    splits: dict[str, Split]
    hashes: dict[str, np.ndarray]  # see `Split.hashes`
    classes: list[str]
    remarks: list[str]


class Spool:
    """Images uint8 (C, H, W) of one shape in a file that has no name and goes with this process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.shape: Shape = ()
        with naming(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # closed with it

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(OSError):  # of a full disk, for what nobody wants any more
            self._file.close()

    def put(self, place: int, image: np.ndarray) -> None:
        """Keep it as that of the place. OSError on a full disk."""
        self.shape = image.shape
        with naming(self._folder):
            self._file.seek(place * image.nbytes)
            self._file.write(np.ascontiguousarray(image).data)

    def read(self, places: np.ndarray) -> np.ndarray:
        """uint8 (n, C, H, W) of the places, int64 (n,)."""
        found = np.empty((len(places), *self.shape), np.uint8)
        with naming(self._folder):
            for image, place in zip(found, places.tolist(), strict=True):
                self._file.seek(place * image.nbytes)
                self._file.readinto(image.data)
        return found


def prepared(plan: "DataPlan", root: Path, dataset: "Dataset | None", spool: Spool) -> Images:
    """The planned data set, from its plug-in or, without one, from its folder below `root`.

    `spool`: where the images wait that are not in memory. AebenchError for a source that breaks its
    contract, cannot be had or holds no whole images.
    """
    found = load_dataset(plan, root, dataset, spool) if dataset else read_folder(plan, root, spool)
    if plan.holdout:
        found = held_out(found, plan.dataset, plan.holdout)
    found.remarks += peculiarities(found)
    counts = duplicates(found)
    orders = {name: split.order(found.hashes[name]) for name, split in found.splits.items()}
    splits = {name: split.of(orders[name]) for name, split in found.splits.items()}
    hashes = {name: found.hashes[name][order] for name, order in orders.items()}
    shown = examples(splits["test"].labels, len(found.classes))
    return Images(splits, hashes, found.classes, shown, counts, found.remarks)


def held_out(found: Source, dataset: str, share: float) -> Source:
    """The same, a share of the training images in place of the test images.

    Of each class the first ones by the SHA-256 of their pixels: the share of its different images,
    rounded, at least one. What has equal pixels, also in another class, goes with them. So they are
    the same whatever the images come from, and a larger share contains a smaller one.

    AebenchError for a class of which none is left.
    """
    train, hashes = found.splits["train"], found.hashes["train"]
    first: list[np.ndarray] = []
    for label in range(len(found.classes)):
        own = np.unique(hashes[train.labels == label])
        first.append(own[: max(1, min(round(share * len(own)), len(own) - 1))])
    is_held = np.isin(hashes, np.concatenate(first))
    left = set(train.labels[~is_held].tolist())
    for label, name in enumerate(found.classes):
        if label not in left:
            number = len(np.unique(hashes[train.labels == label]))
            raise AebenchError(
                f"params.yaml: holdout: got {share}, which leaves nothing of class {name!r} of "
                f"{dataset} to train on (different training images of it: {number}); allowed: two "
                "and more of each class; add some, remove the class, or set holdout: null"
            )
    which = {"train": np.flatnonzero(~is_held), "test": np.flatnonzero(is_held)}
    return Source(
        {name: train.of(rows) for name, rows in which.items()},
        {name: hashes[rows] for name, rows in which.items()},
        found.classes,
        found.remarks,
    )


def peculiarities(found: Source) -> list[str]:
    """What makes figures of these images say little, a phrase each."""
    phrases = []
    train = found.splits["train"]
    dark = sum(np.count_nonzero(images < DARK) for images in train.blocks())
    if dark >= BULK * len(train) * math.prod(train.shape):  # a single bright pixel does not help
        phrases.append(
            f"{100 * BULK} % of the pixels are below {DARK} of 255: all but black to every model"
        )
    if len(found.classes) == 1:
        phrases.append("one class: every accuracy is 100 %, whatever the codes are")
    return phrases


def read_folder(plan: "DataPlan", root: Path, spool: Spool) -> Source:
    """`<data root>/<name>/<split>/<class>/*`; the label is the class's place by name."""
    folder = root / plan.dataset
    found = image_folder(folder, plan.splits)
    if found.files != plan.files:
        raise AebenchError(f"{folder}: changed since `aebench plan`; run `dvc repro` again")
    every = [of_class for by_class in found.splits.values() for of_class in by_class.values()]
    paths = [path for of_class in every for path in of_class]
    classes = list(found.splits["train"])
    numbers = np.arange(len(every), dtype=np.int64) % len(classes)  # each split has all of them
    labels = np.repeat(numbers, [len(of_class) for of_class in every])
    remarks = read_each(paths, plan.image_size, plan.channels, spool.put)
    check_size(folder.as_posix(), spool.shape)
    whole, before, splits = Split(spool.shape, labels, spool.read), 0, {}
    for name in plan.splits:
        splits[name] = whole.of(np.arange(before, before + found.count(name)))
        before += found.count(name)
    hashes = {name: split.hashes() for name, split in splits.items()}
    contents = np.concatenate([*hashes.values()])
    if pair := alike(paths, contents, np.arange(len(paths))):
        raise AebenchError(
            f"{pair[0]}: comes out as the same pixels as {pair[1]}, like all images of {folder}, "
            "though the files differ; their content is not in their colours: mend them"
        )
    for label, name in enumerate(classes):
        if alike(paths, contents, np.flatnonzero(labels == label)):
            remarks.append(f"all images of class {name!r} come out alike though the files differ")
    return Source(splits, hashes, classes, remarks)


def alike(paths: list[str], hashes: np.ndarray, which: np.ndarray) -> tuple[str, str] | None:
    """Two files that differ, where all of `which` have the same pixels; else None."""
    if (hashes[which] != hashes[which[0]]).any():
        return None
    first, *others = [paths[i] for i in which.tolist()]
    content = Path(first).read_bytes()
    other = next((path for path in others if Path(path).read_bytes() != content), None)
    return None if other is None else (printable(first), printable(other))


def load_dataset(plan: "DataPlan", root: Path, dataset: "Dataset", spool: Spool) -> Source:
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
    check_dataset(where, loaded, plan.splits)
    names = [str(name) for name in loaded["classes"]]
    # By name, as a folder has them: both sources of a data set then give the same labels.
    order = sorted(range(len(names)), key=lambda i: names[i])
    rank = np.argsort(order).astype(np.int64)
    splits, before = {}, 0
    for name in plan.splits:
        images, labels = loaded[name]
        shape, read = converted(np.asarray(images), plan, spool, before)
        before += len(images)
        splits[name] = Split(shape, rank[labels.astype(np.int64)], read)
        check_size(where, shape)
    if len({split.shape for split in splits.values()}) > 1:
        shapes = [f"{name} images are {split.shape}" for name, split in splits.items()]
        raise AebenchError(
            f"{where}: {', '.join(shapes)}; both must agree: set image_size and channels in "
            "params.yaml"
        )
    hashes = {name: split.hashes() for name, split in splits.items()}
    if all((own == hashes["train"][0]).all() for own in hashes.values()):
        raise AebenchError(
            f"{where}: all images are the same; allowed: different ones, uint8 0 to 255"
        )
    return Source(splits, hashes, [names[i] for i in order], [])


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


def check_dataset(where: str, loaded: Any, splits: Sequence[str]) -> None:
    """AebenchError where a data set, of these splits, breaks the contract of `register_datasets`.

    At other splits nobody looks.
    """
    keys = ["train", "test", "classes"]
    if not isinstance(loaded, dict) or not {*splits, "classes"} <= set(loaded) <= set(keys):
        got = list(loaded) if isinstance(loaded, dict) else type(loaded).__name__
        raise AebenchError(f"{where}: load returned {got}; allowed: a dict with {keys}")
    check_classes(where, loaded["classes"])
    for split in splits:
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


def check_size(where: str, shape: Shape) -> None:
    """AebenchError for images below 8 pixels: the built-in architectures start there."""
    if min(shape[1:]) < SMALLEST:
        raise AebenchError(
            f"{where}: images of {shape[2]} x {shape[1]} pixels; allowed: {SMALLEST} and more; set "
            "image_size in params.yaml"
        )


def converted(
    images: np.ndarray, plan: "DataPlan", spool: Spool, before: int
) -> tuple[Shape, Callable[[np.ndarray], np.ndarray]]:
    """Shape and `Split.read` of the images at the planned size and number of channels.

    Those that are not so yet are then in the spool, behind `before` others.
    """
    size, channels = plan.image_size, plan.channels
    same_size = size is None or images.shape[2:] == (size, size)
    if same_size and channels in (None, images.shape[1]):
        return images.shape[1:], lambda rows: np.ascontiguousarray(images[rows])
    from PIL import Image

    def fitted(image: np.ndarray) -> np.ndarray:
        picture = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
        return convert(picture, size, channels)

    most = max(images[0].size, 3 * (size or 0) ** 2)
    for place, image in enumerate(bar(ahead(fitted, images, most), "images", len(images)), before):
        spool.put(place, image)
    return spool.shape, lambda rows: spool.read(before + rows)


def duplicates(found: Source) -> dict[str, int]:
    """Exact duplicates, in images, under the names of `Duplicates`."""
    hashes = np.concatenate([*found.hashes.values()])
    labels = np.concatenate([split.labels for split in found.splits.values()])
    order = np.lexsort((labels, hashes))
    hashes, labels = hashes[order], labels[order]
    repeated = hashes[1:] == hashes[:-1]
    two_labels = np.unique(hashes[1:][repeated & (labels[1:] != labels[:-1])])
    train, test = (found.hashes[name] for name in ("train", "test"))
    return {
        "train": len(train) - len(np.unique(train)),
        "test": len(test) - len(np.unique(test)),
        "across": int(np.isin(test, train).sum()),
        "two_labels": len(two_labels),
    }


def write(split: Split, images: BinaryIO, labels: BinaryIO, digest: "hashlib._Hash") -> None:
    """Write both arrays as .npy; `digest` is given dtypes, shapes and content of both."""
    shape = len(split), *split.shape
    digest.update(f"uint8{shape}".encode())
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(images, header)
    for block in bar(split.blocks(), "write"):
        images.write(block.data)
        digest.update(block.data)
    np.save(labels, split.labels)
    digest.update(f"int64{split.labels.shape}".encode())
    digest.update(split.labels.data)


def examples(labels: np.ndarray, classes: int) -> list[int]:
    """Indices of EXAMPLES test images, of as many classes as there are, in order."""
    by_class = [np.flatnonzero(labels == label).tolist() for label in range(classes)]
    turns = [(turn, i) for group in by_class for turn, i in enumerate(group[:EXAMPLES])]
    return sorted(i for _, i in sorted(turns)[:EXAMPLES])
