"""Which files below a folder are images, and what else lies there."""

import contextlib
import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

from aebench.errors import AebenchError, nearest

# What Pillow reads with nothing but itself, and as an image of pixels.
SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".gif", ".webp", ".bmp", ".dib"),
    *(".tif", ".tiff", ".avif", ".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c", ".qoi", ".ico"),
    *(".pbm", ".pgm", ".ppm", ".pnm", ".pfm", ".tga", ".pcx", ".sgi", ".rgb", ".rgba", ".bw"),
)
HIDDEN = "hidden"
BESIDE = "beside the class folders"
ELSEWHERE = "beside train and test"
OTHER = "without the ending of an image"
TOLD = 10  # faults, each in a line
MEND = "mend or remove it"
Identity = tuple[int, int]  # device and inode


@dataclass
class ImageFolder:
    """A data set in a folder, as it was looked at."""

    splits: dict[str, dict[str, list[str]]]  # split -> class -> paths, sorted
    files: str  # SHA-256 over (relative path, size, mtime, ctime) of every image
    remarks: list[str]  # what was passed over

    def count(self, split: str) -> int:
        """Images of a split."""
        return sum(map(len, self.splits[split].values()))


def image_folder(folder: Path, wanted: Sequence[str]) -> ImageFolder:
    """The images `<folder>/<split>/<class>/*` of the wanted splits: 0.3 s for 60,000.

    Of the other split, train or test, nothing is looked at. AebenchError for a missing split,
    classes that differ, a class without images, an empty file, a name that no report can print, and
    what `Walk` finds wrong.
    """
    walk = Walk(folder)
    splits = {}
    for split in wanted:
        if not os.path.isdir(folder / split):
            raise AebenchError(f"{folder / split}: not there; allowed: <class>/*.png below it")
        splits[split] = dict(sorted(walk.classes(folder / split).items()))
    walk.passed_over[ELSEWHERE] += elsewhere(folder)
    files = walk.digest([path for found in splits.values() for p in found.values() for path in p])
    faults = sorted(walk.faults)
    faults += [*empty_classes(folder, splits, faults), *class_faults(folder, splits)]
    check(faults)
    return ImageFolder(splits, files, walk.remarks())


def check(faults: Sequence[str]) -> None:
    """AebenchError with the first faults and the number of the others: links break in thousands."""
    if faults:
        more = len(faults) - TOLD
        others = [f"and {more:,} more faults like these"] if more > 0 else []
        raise AebenchError("\n".join([*faults[:TOLD], *others]))


def elsewhere(folder: Path) -> Iterator[str]:
    """The folders and images beside `train` and `test`; a README there is nobody's loss."""
    with contextlib.suppress(OSError), os.scandir(folder) as found:
        for entry in found:
            known = entry.name.startswith(".") or entry.name in ("train", "test")
            if not known and (entry.is_dir() or entry.name.lower().endswith(SUFFIXES)):
                yield entry.path


def empty_classes(
    folder: Path, splits: Mapping[str, Mapping[str, list[str]]], known: Sequence[str]
) -> Iterator[str]:
    """The fault of each class without an image, but for those of which a fault is `known`."""
    for split, by_class in splits.items():
        for name, paths in by_class.items():
            place = printable(str(folder / split / name))
            if not paths and not any(fault.startswith(f"{place}: ") for fault in known):
                endings = f"{', '.join(SUFFIXES[:4])} and {len(SUFFIXES) - 4} others"
                yield (
                    f"{place}: a class with no image; allowed: files ending in {endings}; add some "
                    "or remove the folder"
                )


def class_faults(folder: Path, splits: Mapping[str, Mapping[str, list[str]]]) -> Iterator[str]:
    """What is wrong with the names of the classes."""
    names = {split: set(by_class) for split, by_class in splits.items()}
    if not any(names.values()):
        yield f"{folder / 'train'}: no class folder in it; allowed: <class>/*.png"
    every = sorted(set().union(*names.values()))
    spellings = Counter(map(composed, every))
    for name in every:
        if not is_utf8(name):
            yield f"{folder}: class '{printable(name)}': the name is not UTF-8; rename the folder"
    for name in sorted(name for name, count in spellings.items() if count > 1):
        yield (
            f"{folder}: class {name!r} is spelt in two ways that look alike (Unicode: NFC is "
            f"{ascii(name)}); give its folders one name"
        )
    for one, other in permutations(names, 2):
        for name in sorted(names[one] - names[other]):
            if spellings[composed(name)] == 1:
                hint = nearest(name, names[other])
                yield f"{folder}: class {name!r} is in {one} but not in {other}{hint}"


class Walk:
    """The images below one folder; what is passed over, by reason, and what is wrong."""

    def __init__(self, root: str | Path) -> None:
        self.root = os.fspath(root)
        reasons = HIDDEN, BESIDE, OTHER, ELSEWHERE
        self.passed_over: dict[str, list[str]] = {reason: [] for reason in reasons}
        self.not_utf8: list[str] = []
        self.faults: list[str] = []

    def classes(self, folder: Path) -> dict[str, list[str]]:
        """Class name -> the paths of its images, sorted: see `images`."""
        folders, files = self.entries(str(folder))
        self.passed_over[BESIDE] += files
        above = identity(str(folder))
        return {class_name(path): self.images(path, above) for path in folders}

    def images(self, folder: str, above: frozenset[Identity] = frozenset()) -> list[str]:
        """The paths of the images at any depth, sorted; `above`: the folders that it lies in.

        Links are followed; one that leads back to a folder it lies in is a fault. Texts, not
        `Path`: 60,000 of those take 1.5 s to make and sort, and every `plan` looks.
        """
        found: list[str] = []
        waiting = [(folder, above)]
        while waiting:
            place, above = waiting.pop()
            own = identity(place)
            if own & above:
                self.faults.append(
                    f"{printable(place)}: a link back to a folder it lies in; {MEND}"
                )
                continue
            folders, files = self.entries(place)
            waiting += [(path, above | own) for path in folders]
            images = [path for path in files if path.lower().endswith(SUFFIXES)]
            if len(images) < len(files):
                self.passed_over[OTHER] += set(files).difference(images)
            found += images
        return sorted(found)

    def entries(self, folder: str) -> tuple[list[str], list[str]]:
        """The paths of the folders and of the files in it, without what is hidden.

        What cannot be read is a fault: links to nothing, pipes, a folder of another user.
        """
        folders, files = [], []
        try:
            with os.scandir(folder) as found:
                for entry in found:
                    if entry.name.startswith("."):
                        self.passed_over[HIDDEN].append(entry.path)
                    elif entry.is_dir():
                        folders.append(entry.path)
                    elif entry.is_file():  # not a pipe, whose reader would wait for ever
                        files.append(entry.path)
                    else:
                        self.faults.append(no_file(entry))
        except OSError as error:  # the folder itself, or a link that leads to itself
            path = error.filename or folder
            self.faults.append(f"{printable(path)}: not readable ({error.strerror}); {MEND}")
        return folders, files

    def digest(self, paths: list[str]) -> str:
        """SHA-256 over (relative path, size, mtime, ctime); empty files are faults.

        The time of the last change (ctime), which no program sets: a file replaced by one of the
        same size and date is noticed.
        """
        digest = hashlib.sha256()
        for path in paths:
            try:
                stat = os.stat(path)
            except OSError as error:
                self.faults.append(f"{printable(path)}: not readable ({error.strerror}); {MEND}")
                continue
            if stat.st_size == 0:
                self.faults.append(f"{printable(path)}: an empty file; replace or remove it")
            name = self.relative(path)
            try:
                own = name.encode()
            except UnicodeEncodeError:
                own = os.fsencode(name)
                self.not_utf8.append(path)
            times = f"{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ctime_ns}"
            digest.update(b"%s\0%s\0" % (own, times.encode()))
        return digest.hexdigest()

    def remarks(self) -> list[str]:
        """`passed over: 2 hidden (train/cat/.cache, ...)`, and what is odd in names."""
        phrases = [
            f"{len(paths):,} {reason} ({self.some(paths)})"
            for reason, paths in self.passed_over.items()
            if paths
        ]
        found = [f"passed over: {', '.join(phrases)}"] if phrases else []
        if self.not_utf8:
            names = self.some(self.not_utf8)
            found.append(f"{len(self.not_utf8):,} with a name that is not UTF-8 ({names}): taken")
        return found

    def some(self, paths: list[str]) -> str:
        """The first three of the paths, below the folder."""
        names = [printable(self.relative(path)) for path in sorted(paths)[:3]]
        return ", ".join([*names, *(["..."] if paths[3:] else [])])

    def relative(self, path: str) -> str:
        """The path below the folder, with slashes."""
        return path.removeprefix(f"{self.root}{os.sep}").replace(os.sep, "/")


def identity(folder: str) -> frozenset[Identity]:
    """What tells a folder from every other, however it was reached; empty for one not there."""
    try:
        stat = os.stat(folder)
    except OSError:
        return frozenset()
    return frozenset({(stat.st_dev, stat.st_ino)})


def no_file(entry: "os.DirEntry[str]") -> str:
    """The fault of a name that neither a file nor a folder stands behind."""
    path = printable(entry.path)
    if entry.is_symlink():
        return f"{path}: a broken link (to {printable(os.readlink(entry.path))}); {MEND}"
    return f"{path}: neither a file nor a folder; {MEND}"


def printable(path: str) -> str:
    r"""One line that any stream can print: bytes that are not UTF-8 and line ends as `\xe9`."""
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def class_name(folder: str) -> str:
    """The folder's name, which is UTF-8 whatever the locale says of file names."""
    name = os.path.basename(folder)
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


def is_utf8(text: str) -> bool:
    """Whether the bytes of a file's name are UTF-8; Python keeps others as lone surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def composed(text: str) -> str:
    """Letters with their accents in one form (NFC): two names that look alike are then equal."""
    return unicodedata.normalize("NFC", text)
