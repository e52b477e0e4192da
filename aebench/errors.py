"""What can go wrong: the user's input, a model, the machine. Three kinds, three treatments."""

import difflib
import errno
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path

# Of torch's RuntimeErrors, in lower case.
MACHINE_TEXTS = (
    "allocate memory",
    "out of memory",
    "not enough memory",
    "bad_alloc",
    "cuda error",
    "cudnn error",
    "cublas_status",
    "can't start new thread",
    "no space left",
)
LIBRARIES = str(Path(__file__).parent), sysconfig.get_path("stdlib")
# Disk, memory, or what the system has of processes and open files is at its end, or broken.
MACHINE_ERRORS = {
    errno.EAGAIN,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ENOSPC,
}


class AebenchError(Exception):
    """Bad input. The text (one problem a line) is shown to the user, the exit status is 1."""


class Damaged(AebenchError):
    """A file that aebench wrote is not what was written; `fix`: unless its cause is known."""

    def __init__(self, path: Path, reason: str, fix: str) -> None:
        super().__init__(f"{path}: {reason}; {fix}")
        self.path, self.reason = path, reason


class Failure(Exception):
    """A model that broke its contract or diverged: its row reads `failed: <text>`.

    `check`: the name of the check in models/contract.py that it did not pass, if it was one.
    """

    check: str | None = None


class Refused(Failure):
    """Raised by a plug-in's `build` for a combination it does not support; the text says why."""


def nearest(word: str, known: Iterable[str]) -> str:
    """`" (did you mean 'cnn'?)"` for the known name closest to `word`, or an empty string."""
    close = difflib.get_close_matches(str(word), list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def is_machine_failure(error: BaseException) -> bool:
    """Whether the machine failed, neither the model nor the user: memory, disk, a GPU.

    They are plain RuntimeErrors in torch, known only by their texts. A GPU's device-side assert is
    the model's: an index out of range.
    """
    if isinstance(error, RuntimeError):
        text = str(error).lower()
        if "device-side assert" in text:
            return False
        return any(words in text for words in MACHINE_TEXTS)
    if isinstance(error, OSError):  # numpy's, of a full disk, has no number
        return error.errno in MACHINE_ERRORS or " requested and " in str(error)
    return isinstance(error, MemoryError)


def failure_reason(error: BaseException) -> str:
    """The one-line reason of a failed row. What is not the model's failure is raised again.

    That is one of the machine, and a file that aebench itself could not use.
    """
    where = author_line(error)
    ours = isinstance(error, OSError | AebenchError) and not where
    if ours or is_machine_failure(error):
        raise error
    if isinstance(error, Refused):
        return f"refused: {first_line(error)}"
    if isinstance(error, Failure):
        return first_line(error)
    if not isinstance(error, Exception):  # SystemExit, CancelledError
        return f"ended the process: {error!r}{where}"
    return f"{type(error).__name__}: {first_line(error)}{where}"


def author_line(error: BaseException) -> str:
    """`" (mine.py:3)"`: the last line of a plug-in that the error came through; else nothing.

    It tells more than the line inside torch that it called.
    """
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not is_library(frame.filename)]
    return f" ({own[-1].filename.rpartition('/')[2]}:{own[-1].lineno})" if own else ""


def is_library(file: str) -> bool:
    """Whether the source is Python's, aebench's or an installed package's."""
    path = Path(file)
    inside = any(path.is_relative_to(place) for place in LIBRARIES)
    return inside or "site-packages" in path.parts or file.startswith("<")  # <frozen os>


def first_line(error: BaseException) -> str:
    """The first line of the error's text, or `no message`."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")
