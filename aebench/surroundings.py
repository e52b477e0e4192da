"""What a plug-in's code changes of its process, beside what it registers or returns, is undone.

One process imports every plug-in, and a stage goes on computing after it imported one: what they
leave behind would move other models' results, or the folder that aebench writes into.
"""

import contextlib
import io
import logging
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

# A library that a plug-in imports may add variables for its own later use (scikit-learn does).
# New ones stay, except those that aebench, its children or its libraries go by.
OURS = ("AEBENCH_", "DVC_", "GIT_", "GOMP_", "HOME", "MKL_", "OMP_", "OPENBLAS_", "TMP", "XDG_")
UNKNOWN = object()
UNDONE: list[str] = []  # what builders and models changed of this process: see `watched`
# How each part is read, and how it gets its old value again; that yields what to tell of it.
Part = tuple[Callable[[], Any], Callable[[Any], Iterable[str]]]


@contextlib.contextmanager
def restored(importing: bool = False) -> Iterator[list[str]]:
    """Undo at the end what the code inside changed of the process; what it prints is for stderr.

    The list then names what its author may have relied on. `importing`: the random generators are
    restored, too; building a model has to move them.
    """
    parts = (*STATE, *GENERATORS) if importing else STATE
    before = [read() for read, _ in parts]
    changed: list[str] = []
    try:
        with contextlib.redirect_stdout(sys.stderr), without_bytecode():
            yield changed
    finally:
        for (_, restore), old in zip(parts, before, strict=True):
            changed += restore(old)
        if not importing:  # of an import a line is said
            UNDONE.extend(changed)


@contextlib.contextmanager
def watched(remarks: dict[str, str]) -> Iterator[None]:
    """As `restored`, and nothing is shown: what was printed or changed inside is remarked, by kind.

    Also what is undone deeper inside, where a model is built.
    """
    text = io.StringIO()
    UNDONE.clear()
    try:
        with contextlib.redirect_stderr(text), restored():
            yield
    finally:
        lines = [line.strip() for line in text.getvalue().splitlines() if line.strip()]
        for line in lines:
            if line.startswith(WARNING):
                remarks[line] = line.removeprefix(WARNING)
            elif not re.match(r"epoch \d+/\d+: loss ", line):
                said = re.sub(r"^\S+:\d+: (?=\w*Warning: )", "", line)[:100]
                remarks.setdefault("prints", f"it prints {said!r}")
        if UNDONE:
            told = ", ".join(dict.fromkeys(UNDONE))
            remarks["changes"] = f"built or used, it changes {told}: undone"


WARNING = "aebench: warning: "


@contextlib.contextmanager
def without_bytecode() -> Iterator[None]:
    """Leave no __pycache__: Python takes it for an edit of the same size and second, too."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


def folder() -> str | None:
    """The working directory; None where it was deleted."""
    try:
        return os.getcwd()
    except OSError:
        return None


def to_folder(before: str | None) -> Iterable[str]:
    """Go back, if it is still there."""
    if before is not None and folder() != before:
        with contextlib.suppress(OSError):
            os.chdir(before)
        yield "the working directory"


def to_environment(before: dict[str, str]) -> Iterable[str]:
    """Give each variable its value again; of new ones only those are removed that are OURS."""
    new = [name for name in os.environ.keys() - before.keys() if name.startswith(OURS)]
    others = [name for name, value in before.items() if os.environ.get(name) != value]
    for name in new:
        del os.environ[name]
    os.environ.update({name: before[name] for name in others})
    if names := sorted(new + others):
        yield f"the environment ({', '.join(names)})"


def to_path(before: tuple[list[str], list[str]]) -> Iterable[str]:
    """What was added to sys.path comes last: it must not stand in for an installed package."""
    path, entries = before
    path[:] = entries + [entry for entry in sys.path if entry not in entries]
    sys.path = path
    return ()


def umask() -> int:
    """Which permissions new files do not get."""
    os.umask(old := os.umask(0))
    return old


def to_umask(before: int) -> Iterable[str]:
    """As it was: the files of plan/ can be read again."""
    os.umask(before)
    return ()


def handlers() -> dict[int, Any]:
    """Signal -> its handler; without those that Python did not set."""
    found = {number: signal.getsignal(number) for number in signal.valid_signals()}
    return {number: handler for number, handler in found.items() if handler is not None}


def to_handlers(before: dict[int, Any]) -> Iterable[str]:
    """Ctrl-C ends the stage again; only the main thread can have changed that."""
    if threading.current_thread() is threading.main_thread():
        for number, handler in before.items():
            if signal.getsignal(number) != handler:
                signal.signal(number, handler)
    return ()


def to_filters(before: list[Any]) -> Iterable[str]:
    """New filters stay, as libraries silence their own warnings, but none that raises them."""
    kept = [rule for rule in warnings.filters if rule[0] != "error" or rule in before]
    if len(kept) < len(warnings.filters):
        warnings.filters[:] = kept  # type: ignore[index]  # a list, which Python itself changes
        with warnings.catch_warnings():  # makes it forget what the filters decided before
            pass
    return ()


def logs() -> tuple[int, list[logging.Handler], int]:
    """The root logger's level and handlers, and the level that is switched off altogether."""
    return logging.root.level, list(logging.root.handlers), logging.root.manager.disable


def to_logs(before: tuple[int, list[logging.Handler], int]) -> Iterable[str]:
    """A plug-in's own loggers stay as they are."""
    level, logging.root.handlers[:], logging.root.manager.disable = before
    logging.root.setLevel(level)  # makes the loggers forget what they have worked out
    return ()


def streams() -> tuple[Any, ...]:
    """Where output and errors go."""
    return sys.stdout, sys.stderr, sys.excepthook


def to_streams(before: tuple[Any, ...]) -> Iterable[str]:
    """Whoever runs the stage goes on to read its errors."""
    sys.stdout, sys.stderr, sys.excepthook = before
    return ()


def numpy_errors() -> Any:
    """What numpy does of a division by 0 and the like; it was UNKNOWN before it was imported."""
    numpy: Any = sys.modules.get("numpy")
    return numpy.geterr() if hasattr(numpy, "geterr") else UNKNOWN


def to_numpy_errors(before: Any) -> Iterable[str]:
    """As it was, or as numpy comes."""
    if (now := numpy_errors()) is not UNKNOWN:
        usual = dict.fromkeys(now, "warn") | {"under": "ignore"}
        sys.modules["numpy"].seterr(**(usual if before is UNKNOWN else before))
    return ()


def torch_settings() -> dict[str, tuple[Callable[[], Any], Callable[[Any], object], Any]]:
    """In words -> its getter, its setter, and its value in a fresh torch; empty without torch."""
    torch: Any = sys.modules.get("torch")
    if not hasattr(torch, "get_default_device"):  # not imported, or only in part
        return {}

    def device() -> Any:
        try:
            return torch.get_default_device()
        except RuntimeError:  # a GPU that is not there
            return None

    def to_device(old: Any) -> None:  # None costs less than an explicit CPU
        torch.set_default_device(None if old == torch.device("cpu") else old)

    cudnn = torch.backends.cudnn
    return {
        "default dtype": (torch.get_default_dtype, torch.set_default_dtype, torch.float32),
        "default device": (device, to_device, torch.device("cpu")),
        "number of threads": (torch.get_num_threads, torch.set_num_threads, UNKNOWN),
        "grad mode": (torch.is_grad_enabled, torch.set_grad_enabled, True),
        "anomaly detection": (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly, False),
        "matmul precision": (
            torch.get_float32_matmul_precision,
            torch.set_float32_matmul_precision,
            "highest",
        ),
        "deterministic mode": (
            torch.get_deterministic_debug_mode,
            torch.set_deterministic_debug_mode,
            0,
        ),
        "cuDNN benchmark": (
            lambda: cudnn.benchmark,
            lambda old: setattr(cudnn, "benchmark", old),
            False,
        ),
    }


def torch_state() -> dict[str, Any]:
    """In words -> the value of each of torch's settings."""
    return {words: read() for words, (read, _, _) in torch_settings().items()}


def to_torch_state(before: dict[str, Any]) -> Iterable[str]:
    """As it was, or as torch comes."""
    for words, (read, restore, fresh) in torch_settings().items():
        old = before.get(words, fresh)
        if old is not UNKNOWN and read() != old:
            restore(old)
            yield f"torch's {words}"


@contextlib.contextmanager
def torch_restored() -> Iterator[None]:
    """Undo at the end what the code inside changed of torch's settings."""
    before = torch_state()
    try:
        yield
    finally:
        UNDONE.extend(to_torch_state(before))


def torch_seed() -> int | None:
    """What torch's global generator was last seeded by."""
    torch: Any = sys.modules.get("torch")
    return torch.initial_seed() if hasattr(torch, "initial_seed") else None


def generator(module: str, get: str, put: str) -> Part:
    """A global random generator; of a module that came meanwhile nobody has used it before."""

    def read() -> Any:
        return getattr(sys.modules.get(module), get, lambda: None)()

    def restore(before: Any) -> Iterable[str]:
        if before is not None:
            getattr(sys.modules[module], put)(before)
        return ()

    return read, restore


STATE: tuple[Part, ...] = (
    (streams, to_streams),
    (folder, to_folder),
    (lambda: dict(os.environ), to_environment),
    (lambda: (sys.path, list(sys.path)), to_path),
    (umask, to_umask),
    (handlers, to_handlers),
    (lambda: list(warnings.filters), to_filters),
    (logs, to_logs),
    (numpy_errors, to_numpy_errors),
    (torch_state, to_torch_state),
)
GENERATORS: tuple[Part, ...] = (
    generator("random", "getstate", "setstate"),
    generator("numpy.random", "get_state", "set_state"),
    generator("torch", "get_rng_state", "set_rng_state"),
)
