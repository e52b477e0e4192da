"""What can go wrong: the user's input, a model, the machine. Three kinds, three treatments."""

import difflib
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
)


class AebenchError(Exception):
    """Bad input. The text (one problem a line) is shown to the user, the exit status is 1."""


class Failure(Exception):
    """A model that broke its contract or diverged: its row reads `failed: <text>`."""


class Refused(Failure):
    """Raised by a plug-in's `build` for a combination it does not support; the text says why."""


def nearest(word: str, known: Iterable[str]) -> str:
    """`" (did you mean 'cnn'?)"` for the known name closest to `word`, or an empty string."""
    close = difflib.get_close_matches(str(word), list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def is_machine_failure(error: BaseException) -> bool:
    """Whether the machine failed, not the model: out of memory, a GPU, any OSError (disk, files).

    They are plain RuntimeErrors in torch, known only by their texts. A GPU's device-side assert is
    the model's: an index out of range.
    """
    if isinstance(error, RuntimeError):
        text = str(error).lower()
        if "device-side assert" in text:
            return False
        return any(words in text for words in MACHINE_TEXTS)
    return isinstance(error, MemoryError | OSError)


def failure_reason(error: Exception) -> str:
    """The one-line reason of a failed row. Failures of the machine are raised again instead."""
    if is_machine_failure(error) or isinstance(error, AebenchError):
        raise error
    if isinstance(error, Refused):
        return f"refused: {first_line(error)}"
    if isinstance(error, Failure):
        return first_line(error)
    frames = traceback.extract_tb(error.__traceback__)
    # The author's own line tells more than the line inside torch that it called.
    package = str(Path(__file__).parent)
    foreign = ("site-packages", package)
    own = [f for f in frames if not any(place in f.filename for place in foreign)]
    where = f" ({own[-1].filename.rpartition('/')[2]}:{own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {first_line(error)}{where}"


def first_line(error: BaseException) -> str:
    """The first line of the error's text, or `no message`."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")
