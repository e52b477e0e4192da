"""Writing files whole or not at all."""

import contextlib
import errno
import glob
import hashlib
import io
import os
import secrets
import shutil
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from aebench.errors import author_line, is_machine_failure

OLD = 24 * 3600.0  # seconds without a further byte after which nobody writes a file any more


class Part(io.BufferedWriter):
    """The coming content of a file, in a file of its own beside it.

    `hash`: SHA-256 of what was written.
    """

    def __init__(self, place: Path) -> None:
        # Of this writer alone: neither another process has the name, nor one elsewhere, whose
        # number may be the same.
        self.path = place.with_name(f".{place.name}.{secrets.token_hex(8)}.part")
        self._digest, self._size = hashlib.sha256(), 0
        self._file = io.FileIO(str(self.path), "xb")  # as an error shows it
        super().__init__(self._file)

    def write(self, content: Any) -> int:
        """Write all of it."""
        self._digest.update(content)
        written = super().write(content)
        self._size += written
        return written

    def fileno(self) -> int:
        """None: numpy would write past Python, where a full disk cuts an array without an error."""
        raise io.UnsupportedOperation("written through `write` alone")

    @property
    def hash(self) -> str:
        """In hexadecimal digits."""
        return self._digest.hexdigest()

    def finish(self) -> None:
        """Have all of it on the disk. OSError where it is not."""
        self.flush()
        number = self._file.fileno()
        if os.fstat(number).st_size != self._size:
            words = f"{self._size} bytes were written, and fewer arrived"
            raise OSError(errno.EIO, words, str(self.path.parent))
        os.fsync(number)
        self.close()

    def drop(self) -> None:
        """Remove it, unless it is in its place already."""
        with contextlib.suppress(OSError, ValueError):
            self._file.close()  # what is still buffered is not wanted
            self.close()
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


class Outs:
    """The files a stage writes: they appear under their names together, at the end, or never.

    with Outs() as outs:
        outs.write(path, content)

    `alone`: whether no other process can be writing the same files, so that what is left of them
    is of one that was killed.
    """

    def __init__(self, alone: bool = False) -> None:
        self._alone = alone
        self._parts: dict[Path, Part] = {}
        self._gone: list[Path] = []

    def __enter__(self) -> "Outs":
        return self

    def open(self, path: Path) -> Part:
        """A binary file for the coming content of `path`."""
        if path in self._parts:  # begun anew
            self._parts[path].drop()
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_old_parts(path, 0.0 if self._alone else OLD)
        self._parts[path] = Part(path)
        return self._parts[path]

    def write(self, path: Path, content: bytes) -> None:
        """The whole content of `path` at once."""
        self.open(path).write(content)

    def remove(self, path: Path) -> None:
        """A file or folder that is not there any more with the new ones."""
        self._gone.append(path)

    def hash(self, path: Path) -> str:
        """SHA-256 of what was written for `path` so far."""
        return self._parts[path].hash

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                for part in self._parts.values():
                    part.finish()
                for path in self._parts:
                    if path.is_dir():  # would end the renames half-way
                        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
                with uninterrupted():
                    for path, part in self._parts.items():
                        os.replace(part.path, path)
                for path in self._gone:
                    remove(path)
                for folder in {path.parent for path in self._parts}:
                    sync(folder)
        except OSError as late:
            error = late
            raise
        finally:
            for part in self._parts.values():
                part.drop()
            say_where(error, self._parts)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits, where this is the main thread: a set is not to be half new."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)
        if came:  # through that handler, which may count it: see `aebench.children.Once`
            signal.raise_signal(signal.SIGINT)


def remove(path: Path) -> None:
    """A file, a link, or a folder with all that is in it."""
    with contextlib.suppress(OSError):  # what is wanted is there
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def sync(folder: Path) -> None:
    """Have the names of the files in the folder on the disk, where the system can."""
    with contextlib.suppress(OSError):  # Windows opens no folder
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def say_where(error: BaseException | None, files: Iterable[Path]) -> None:
    """Let the error of a full disk name the folders: that of an open file names nothing.

    Unless a plug-in's line wrote that file, which is then one of its own.
    """
    if not isinstance(error, OSError) or error.filename is not None or author_line(error):
        return
    if is_machine_failure(error) and error.errno:
        error.filename = ", ".join(sorted({str(path.parent) for path in files}))


def remove_old_parts(path: Path, age: float = OLD) -> None:
    """Remove what writers of `path` that were killed have left, `age` seconds ago or more."""
    for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime >= age or age == 0:
                part.unlink()
