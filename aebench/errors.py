"""What can go wrong: the user's input, a model, the machine. Three kinds, three treatments."""

import difflib
import errno
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

INSTALLED = set[str]()  # packages that hold plug-ins
LIBRARIES = str(Path(__file__).parent), sysconfig.get_path("stdlib")


class Breakdown(NamedTuple):
    """One way in which a machine fails: how it is known, and what the user can do.

    `numbers`: names in `errno`, which texts have beside the system's words for them; `words`: in
    lower case; `of_files`: such as only the text of an OSError tells it by.
    """

    fix: str
    numbers: tuple[str, ...]
    words: tuple[str, ...] = ()
    of_files: tuple[str, ...] = ()


BREAKDOWNS = (
    Breakdown(
        "look at the GPU (nvidia-smi)",
        (),
        (
            *("cuda error", "cuda driver", "cudnn error", "cudnn_status", "cublas_status"),
            *("cusolver_status", "cufft_status", "hip error", "nccl error", "nccl operation"),
            "no cuda gpus are available",
            "unable to find an engine to execute",
        ),
    ),
    Breakdown(
        "free some memory, or have the run need less (train.batch_size, latent)",
        ("ENOMEM",),
        (
            *("out of memory", "not enough memory", "allocate memory", "unable to allocate"),
            *("bad_alloc", "failed to map segment", "bus error", "out of shared memory"),
        ),
    ),
    Breakdown(
        "make room there, or raise the limit of it (quota, `ulimit -f`)",
        ("ENOSPC", "EDQUOT", "EFBIG"),
        ("no space left on device", "disk quota exceeded", "disk is full"),
        (" requested and ",),  # numpy's
    ),
    Breakdown(
        "raise the limit of open files (`ulimit -n`)",
        ("EMFILE", "ENFILE"),
        # Of a file that one of torch's workers hands over.
        ("0 items of ancdata", "too many open files"),
    ),
    Breakdown(
        "end other processes, or raise their limit (`ulimit -u`)",
        ("EAGAIN",),
        # What C++ makes of a thread that cannot be started has no number.
        ("can't start new thread", "resource temporarily unavailable"),
    ),
    Breakdown(
        "mend that disk, or how it is mounted",
        (
            *("EIO", "EREMOTEIO", "EROFS", "ENODEV", "ENXIO", "ENOMEDIUM", "EBADMSG", "EUCLEAN"),
            *("ESTALE", "ENOTCONN", "ENOLCK"),
        ),
        ("disk i/o error", "read-only file system"),
    ),
    Breakdown(
        "look at what ended it (dmesg tells where memory was short)",
        (),
        (
            *("killed by signal", "terminated with signal", "killed signal", "died with <signals."),
            *("exited unexpectedly", "was unexpectedly terminated", "was terminated abruptly"),
        ),
    ),
    Breakdown(
        "look at the network",
        (
            *("ETIMEDOUT", "ECONNREFUSED", "ECONNRESET", "ECONNABORTED", "ENETDOWN"),
            *("ENETUNREACH", "EHOSTDOWN", "EHOSTUNREACH", "ENOBUFS"),
        ),
        ("connection closed by peer", "connection reset by peer", "gloo/transport"),
        of_files=("timed out", "name resolution", "name or service not known", "http error 50"),
    ),
)
NUMBERS = {
    getattr(errno, name): kind
    for kind in BREAKDOWNS
    for name in kind.numbers
    if hasattr(errno, name)
}
MEMORY, ROOM = NUMBERS[errno.ENOMEM], NUMBERS[errno.ENOSPC]
NETWORK = NUMBERS[errno.ECONNRESET]
LONGEST_TEXT = 1000  # characters of another's text that are shown


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
    """Whether the machine failed, neither the model nor the user: see `breakdown`."""
    return breakdown(error) is not None


def breakdown(error: BaseException) -> tuple[BaseException, Breakdown] | None:
    """Which error was the machine's, and of which kind; None where none was.

    It may be the cause of the one that was raised, or what a plug-in made another of, or lie in a
    group. A `MemoryError` is always the machine's, whatever was asked for: a larger one has it. A
    RecursionError is the model's, and so is a GPU's device-side assert: an index out of range. So
    is what a plug-in made a Failure of, such as a download; but not memory or a full disk, which
    the same model has elsewhere.
    """
    found = list(related(error))
    if any("device-side assert" in text_of(one).lower() for one in found):
        return None
    broken = next(((one, kind) for one in found if (kind := kind_of(one))), None)
    meant = isinstance(error, Failure) and author_line(error)
    return None if broken and meant and broken[1] not in (MEMORY, ROOM) else broken


def related(error: BaseException) -> Iterator[BaseException]:
    """The error, what it was raised from or while handling, and what lies in a group; each once."""
    left, seen = [error], set[int]()
    while left:
        one = left.pop(0)
        if id(one) not in seen:
            seen.add(id(one))
            yield one
            left += one.exceptions if isinstance(one, BaseExceptionGroup) else ()
            left += [other for other in (one.__cause__, one.__context__) if other]


def kind_of(error: BaseException) -> Breakdown | None:
    """By its type or number; by its words where a library has no more to tell by.

    Those of the built-in types, such as ValueError, and of the plug-ins' own are their authors'.
    """
    if isinstance(error, MemoryError):
        return MEMORY
    if isinstance(error, OSError) and error.errno in NUMBERS:
        return NUMBERS[error.errno]
    if is_of_plugin(type(error)):
        return None
    library = type(error).__module__ != "builtins"
    named = isinstance(error, OSError) and error.strerror is not None and not library
    if named or not (library or isinstance(error, RuntimeError | OSError | ImportError)):
        return None
    text = text_of(error).lower()
    for kind in BREAKDOWNS:
        words = kind.words + (kind.of_files if isinstance(error, OSError) else ())
        if any(each in text for each in words):
            return kind
    for number, kind in NUMBERS.items():  # "[errno 28] no space", "no space (28)", "os error 28"
        told = rf"(errno|error|code|\()\W*{number}\b"
        if os.strerror(number).lower() in text and re.search(told, text):
            return kind
    return None


def is_of_plugin(kind: type) -> bool:
    """Whether the class is aebench's, a plug-in's or one of a plug-in's helpers."""
    package = kind.__module__.split(".")[0]
    if package.startswith("aebench") or package in INSTALLED:
        return True
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    folders = getattr(sys.modules.get("aebench_plugins"), "__path__", [])
    return file is not None and any(Path(file).is_relative_to(folder) for folder in folders)


def outside(error: BaseException) -> tuple[str, str] | None:
    """What failed outside aebench, in a line, and what to do; None where it is aebench's bug."""
    where = author_line(error)
    if broken := breakdown(error):
        one, kind = broken
        told = f"the machine failed, not the model: {named(one)}{author_line(one) or where}"
        return told, kind.fix
    if isinstance(error, ImportError):
        return f"{named(error)}{where}", "mend the installation (pip install aebench)"
    if isinstance(error, OSError):
        fix = "let this user write there" if isinstance(error, PermissionError) else "mend it"
        return f"{named(error)}{where}", fix
    return None


def failure_reason(error: BaseException) -> str:
    """The one-line reason of a failed row. What is not the model's failure is raised again.

    That is one of the machine, Ctrl-C, and a file or module that aebench itself could not use.
    """
    for one in related(error):
        if isinstance(one, KeyboardInterrupt):  # whatever the model made of it
            raise one
    where = author_line(error)
    ours = isinstance(error, OSError | ImportError | AebenchError) and not where
    if ours or is_machine_failure(error):
        raise error
    if isinstance(error, Refused):
        return f"refused: {first_line(error)}"
    if isinstance(error, Failure):
        return first_line(error)
    if not isinstance(error, Exception):  # SystemExit, CancelledError
        return f"ended the process: {type(error).__name__}({first_line(error)}){where}"
    file = next((one for one in related(error) if isinstance(one, OSError) and one.filename), error)
    cause = "" if file is error else f", after {named(file)}"
    return f"{named(error)}{where}{cause}"


def named(error: BaseException) -> str:
    """Its type and the first line of its text."""
    return f"{one_line(type(error).__name__)}: {first_line(error)}"


def author_line(error: BaseException) -> str:
    """`" (mine.py:3)"`: the last line of a plug-in that the error came through; else nothing.

    It tells more than the line inside torch that it called.
    """
    frames = traceback.walk_tb(error.__traceback__)
    own = [
        (f.f_code.co_filename, line) for f, line in frames if not is_library(f.f_code.co_filename)
    ]
    return f" ({one_line(own[-1][0].rpartition('/')[2])}:{own[-1][1]})" if own else ""


def is_library(file: str) -> bool:
    """Whether the source is Python's, aebench's or that of a package which is no plug-in."""
    *_, package = re.split("[/\\\\](?:site|dist)-packages[/\\\\]", file, maxsplit=1)
    if package != file:
        return re.split("[./\\\\]", package)[0] not in INSTALLED
    inside = any(Path(file).is_relative_to(place) for place in LIBRARIES)
    return inside or file.startswith("<")  # <frozen os>


def first_line(error: BaseException) -> str:
    """The first line of the error's text, or `no message`.

    The last one where torch hands on what a worker of its raised: before it comes the traceback.
    """
    lines = [line for line in text_of(error).splitlines() if line.strip()]
    if not lines:
        return "no message"
    worker = lines[0].startswith("Caught ") and "Original Traceback" in "".join(lines[1:2])
    return one_line(lines[-1 if worker else 0])


def text_of(error: BaseException) -> str:
    """Its text; empty where its own code cannot tell it."""
    try:
        return str(error)
    except Exception:
        return ""


def one_line(text: str) -> str:
    """The text on one line of bounded length that every terminal and file can hold."""
    flat = " ".join(text[: 2 * LONGEST_TEXT].split())
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in flat[:LONGEST_TEXT])
    return shown if len(flat) <= LONGEST_TEXT else f"{shown} ..."
