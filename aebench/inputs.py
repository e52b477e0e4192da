"""Reading the files that stages write: each is checked against what its writer recorded of it."""

import contextlib
import io
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from aebench.errors import AebenchError, Damaged, first_line, is_machine_failure
from aebench.memory import state
from aebench.workspace import file_hash, sha256

if TYPE_CHECKING:
    import numpy as np


DAMAGED = "not the content that was recorded: damaged, or of another run"
FIX = "run `dvc repro`"


class Inputs:
    """What a stage reads; at its end, that none of it has changed meanwhile.

    `wanted`: the SHA-256 that the writer recorded; None of an earlier version, which recorded none.
    `fix`: how the user gets a good file.
    """

    def __init__(self) -> None:
        self.read: dict[Path, tuple[list[int], str | None]] = {}  # their states and hashes
        self.verified = dict[Path, Any]()  # `read` of another process: not read through again

    def check(self, path: Path, wanted: str | None, fix: str) -> None:
        """Note the file. AebenchError where it is not there or not the one that was recorded."""
        try:
            before = state(path)
            is_known = self.verified.get(path) == (before, wanted)
            if wanted is not None and not is_known and file_hash(path) != wanted:
                raise Damaged(path, DAMAGED, fix)
        except OSError as error:
            raise AebenchError(f"{path}: {words(error, path)}; {fix}") from None
        self.read[path] = before, wanted

    def array(self, path: Path, wanted: str | None, fix: str, mapped: bool = False) -> "np.ndarray":
        """The array of a .npy file. AebenchError as of `check`, and where it holds none."""
        import numpy as np

        self.check(path, wanted, fix)
        try:
            with path.open("rb") as file:
                check_whole(file, "it")
                return np.load(path, mmap_mode="c") if mapped else np.load(file)
        except AebenchError as error:
            raise Damaged(path, str(error), fix) from None
        except OSError as error:
            raise AebenchError(f"{path}: {words(error, path)}; {fix}") from None

    def note(self, paths: Iterable[Path]) -> None:
        """Files whose hash no other file says; those that are not there are passed over."""
        for path in paths:
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                self.read[path] = state(path), file_hash(path)

    def check_unchanged(self) -> None:
        """AebenchError for a file that has another content than when it was read."""
        for path, (before, content_hash) in self.read.items():
            try:
                same = state(path) == before or (
                    # A link to it, or its mode, moves the ctime, too.
                    content_hash is not None and file_hash(path) == content_hash
                )
            except OSError:
                same = False
            if not same:
                raise AebenchError(f"{path}: changed while this stage ran; run `dvc repro` again")


def words(error: OSError, path: Path) -> str:
    """Why a file cannot be read. The error itself where the machine failed, and names the file."""
    if is_machine_failure(error):
        error.filename = error.filename or str(path)
        raise error
    missing = isinstance(error, FileNotFoundError | NotADirectoryError)
    return "not there" if missing else f"not readable ({error.strerror or first_line(error)})"


def content(path: Path, wanted: str | None) -> bytes:
    """All of a file. AebenchError where it is not the one that was recorded."""
    try:
        found = path.read_bytes()
    except OSError as error:
        raise AebenchError(f"{path.name} is {words(error, path)}") from None
    if wanted is not None and sha256(found) != wanted:
        raise Damaged(path, DAMAGED, FIX)
    return found


def array(path: Path, wanted: str | None) -> "np.ndarray":
    """The array of a .npy file. AebenchError as of `content` and `check_whole`."""
    import numpy as np

    file = io.BytesIO(content(path, wanted))
    check_whole(file, path.name)
    return np.load(file)


def check_whole(file: BinaryIO, name: str) -> None:
    """AebenchError unless it holds a .npy array of numbers, and no byte more or fewer.

    Nothing is ever unpickled, and no memory taken that a damaged header promises.
    """
    import numpy as np

    try:
        version = np.lib.format.read_magic(file)
        read_header = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read_header(file)
    except Exception as error:  # its parser raises what the bytes make it
        raise AebenchError(f"{name} is not whole ({first_line(error)})") from None
    if dtype.hasobject:
        raise AebenchError(f"{name} holds objects, no numbers")
    promised = file.tell() + dtype.itemsize * math.prod(shape)
    found = file.seek(0, os.SEEK_END)
    if found != promised:
        raise AebenchError(f"{name} is not whole: {found} bytes instead of {promised}")
    file.seek(0)
