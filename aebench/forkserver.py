"""Run a stage in a fork of a process that has imported torch and scikit-learn already.

DVC starts a process per stage, and torch takes 3 s to import: the digits run is 162 s without this
module and 75 s with it (2-core AMD EPYC 7003, torch 2.14.1). So the first such stage under DVC
starts a server, which imports them and neither stages nor plug-ins. Each stage is a fork of it: a
process of its own, with its own threads and memory, that sees the sources as they are then. Linux
only: elsewhere, and whenever anything is odd, a stage imports torch itself.

They meet at a socket in the kernel's abstract namespace, whose names anybody may take, and whoever
took this one before gets nothing: each end asks the kernel who the other is. The stage sends what
differs between its environment and the one that the server was started with, which either can read,
and its input and output. What a fork cannot take over is a part of the name.
"""

import contextlib
import gc
import hashlib
import importlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import psutil

from aebench.children import (
    SET_SUBREAPER,
    Guardian,
    Known,
    Watch,
    end_descendants,
    guard,
    known,
    prctl,
    ready,
)
from aebench.memory import state

IDLE = 30.0  # seconds without a stage after which the server ends, as it does without its DVC
PATIENCE = 60.0  # seconds for its start, on a cold disk; then a stage imports torch itself
PROMPT = 10.0  # seconds for an answer of one that is there
HELLO = b"h"
MOST = 1 << 24  # bytes of a request
IMPORTED = (  # 0.1 s a stage
    *("filelock", "pluggy", "pydantic.fields", "pydantic.functional_serializers", "pydantic.main"),
    *("pydantic.plugin._loader", "pydantic.types"),
)
# What torch, and what it loads, goes by when it is imported.
VARIABLES = (
    *("ATEN_", "BLIS_", "CUBLAS", "CUDA_", "CUDNN_", "DNNL_", "GLIBC_", "GOMP_", "HIP_", "HSA_"),
    *("KINETO_", "KMP_", "LANG", "LC_", "LD_", "LRU_", "MALLOC_", "MIOPEN_", "MKL", "NCCL_"),
    *("NPY_", "NUMPY_", "NVIDIA_", "OMP_", "ONEAPI_", "ONEDNN_", "OPENBLAS_", "PYDANTIC_"),
    *("PYTHON", "PYTORCH", "ROCR_", "SYCL_", "TORCH", "TZ", "USE_", "VECLIB_", "VIRTUAL_ENV"),
)
# Rows of /proc/PID/status: rights, and where it may run.
RIGHTS = (
    *("Umask", "Uid", "Gid", "Groups", "SigIgn", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"),
    *("NoNewPrivs", "Seccomp", "Seccomp_filters", "Cpus_allowed", "Mems_allowed"),
)


def connected(
    module: str,
    arguments: list[str],
    parents: Sequence[Known],
    folder: str | None,
    starting: bool,
) -> Guardian | None:
    """A guardian which runs `module`.run(arguments) in a fork of the server.

    `starting`: which is started if need be. None without: see `aebench.children.forked`, which does
    the same here. The last of the parents is DVC's process, for which the server runs.
    """
    if sys.platform != "linux" or not hasattr(os, "pidfd_open"):
        return None
    try:
        connection = connect(module, parents[-1], starting)
    except (OSError, LookupError, ValueError):  # no /proc, or not all of it; no further process
        return None
    if connection is None:
        return None
    try:
        pid, _ = peer(connection)
        before, now = environment_of(pid), dict(os.environb)
        request = {
            "arguments": [text(os.fsencode(argument)) for argument in arguments],
            "folder": text(os.getcwdb()),
            "set": {text(k): text(v) for k, v in now.items() if before.get(k) != v},
            "removed": [text(name) for name in before.keys() - now.keys()],
            "parents": parents,
            "temporary": folder,
        }
        message = json.dumps(request).encode()
        socket.send_fds(connection, [struct.pack("Q", len(message))], [0, 1, 2])
        connection.sendall(message)
        if ready(connection):
            return Guardian(connection)
    except (OSError, LookupError, ValueError):  # it ended just now; one of the three is closed
        pass
    connection.close()
    return None


def text(content: bytes) -> str:
    """As JSON can hold it, whichever bytes they are."""
    return content.decode("latin-1")


def content(text: str) -> bytes:
    """The bytes again."""
    return text.encode("latin-1")


def connect(module: str, dvc: Known, starting: bool) -> socket.socket | None:
    """A connection to the server of the DVC process; `starting`: which is started if need be.

    It has said that it would take a request. OSError, LookupError or ValueError where the system
    does not tell what is needed.
    """
    key = key_of(dvc)
    # -P: modules of the workspace's folder must not stand in for installed ones.
    start = [sys.executable, "-P", "-m", __name__]
    command = [*start, key, str(dvc.pid), str(dvc.start), module, __file__]
    server: subprocess.Popen[bytes] | None = None
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        # Before the attempt: it ends at once where another's, of a stage at the same time, listens.
        ended = server is not None and server.poll() is not None
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(max(0.1, end - time.monotonic()))
        try:
            connection.connect(address(key))
        except ConnectionRefusedError:  # nobody is there
            connection.close()
            if ended or not starting:
                break
        except OSError:
            connection.close()
            break
        else:
            with contextlib.suppress(OSError):
                if (
                    is_server(connection, command)
                    and dvc not in Watch(connection, dvc).wait(max(0.1, end - time.monotonic()))
                    and connection.recv(1) == HELLO
                ):
                    connection.settimeout(PROMPT)
                    return connection
            connection.close()
            break
        if server is None:
            null = subprocess.DEVNULL
            # A session of its own: Ctrl-C is for the stage, which the fork ends with.
            server = subprocess.Popen(
                command, stdin=null, stdout=null, stderr=null, start_new_session=True
            )
        time.sleep(0.02)
    if server is not None and server.poll() is None:
        server.kill()  # of no use to this stage, nor to the next
        server.wait()
    return None


def address(key: str) -> str:
    """The name of the socket; the kernel's abstract ones begin with a zero."""
    return f"\0aebench-{key}"


def key_of(dvc: Known) -> str:
    """A hash of the DVC process and of what a fork of another process would not take over.

    Of the boot, too, and of the namespaces: containers may share sockets, but not processes.
    OSError or ValueError where the system does not tell.
    """
    own = Path("/proc/self")
    if dvc.start is None:
        raise ValueError("no /proc")
    status = dict(
        row.split(":", 1) for row in (own / "status").read_text().splitlines() if ":" in row
    )
    found = (
        dvc,
        Path("/proc/sys/kernel/random/boot_id").read_text(),
        sorted(os.readlink(name) for name in (own / "ns").iterdir()),
        [status.get(row) for row in RIGHTS],
        [(own / name).read_text() for name in ("cgroup", "limits", "oom_score_adj")],
        os.readlink(own / "root"),
        os.sched_getscheduler(0),
        os.getpriority(os.PRIO_PROCESS, 0),
        (sys.executable, sys.version, __file__),
        sorted(pair for pair in os.environ.items() if pair[0].startswith(VARIABLES)),
    )
    return hashlib.sha256(repr(found).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def peer(connection: socket.socket) -> tuple[int, int]:
    """Process and user at the other end, as the kernel knows them; process 0: in no sight."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid, uid, _ = struct.unpack("3i", credentials)
    return pid, uid


def is_server(connection: socket.socket, command: Sequence[str]) -> bool:
    """Whether the very command listens at the other end, as this user. OSError: it has ended."""
    pid, uid = peer(connection)
    if uid != os.geteuid() or pid == 0:
        return False
    line = Path(f"/proc/{pid}/cmdline").read_bytes()
    return line == b"".join(os.fsencode(word) + b"\0" for word in command)


def is_stage(connection: socket.socket, dvc: Known) -> bool:
    """Whether a process of this user and of that DVC, which runs, is at the other end."""
    pid, uid = peer(connection)
    if uid != os.geteuid() or pid == 0:
        return False
    with contextlib.suppress(psutil.Error, OSError):
        return dvc.pid in (parent.pid for parent in psutil.Process(pid).parents())
    return False


def environment_of(process: int | str) -> dict[bytes, bytes]:
    """The environment that the process was started with. OSError where it cannot be read."""
    rows = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    pairs = (row.partition(b"=") for row in rows if b"=" in row[1:])
    return {name: value for name, _, value in pairs}


def serve(key: str, dvc: Known, module: str, file: str) -> None:
    """Fork a guardian for each request until DVC is gone or nothing was asked for a while.

    It ends, too, when a file that it has loaded is another now.
    """
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            listener.bind(address(key))
        except OSError:
            return  # another one is there
        if file != __file__:
            return  # another aebench
        # Before the import: who connects waits, and nobody else can take the name.
        listener.listen()
        gc.disable()
        with ending_with(dvc):
            import torch  # noqa: F401  # what this server is for

            for name in IMPORTED:
                importlib.import_module(name)
            with contextlib.suppress(Exception):  # what is wrong with it, the stage will say
                import sklearn.linear_model  # noqa: F401  # 1.2 to 1.9 s, for the probe
                import torch.utils.flop_counter  # noqa: F401  # 0.2 s, with triton

        os.chdir("/")
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # as in `aebench.children.forked`
        prctl(SET_SUBREAPER, 1)
        gc.freeze()  # a collection in a fork would copy every page it marks
        gc.enable()
        loaded = states()
        guardians: set[Known] = set()
        watch = Watch(listener, dvc)
        while happened := watch.wait(None if guardians else IDLE):
            if dvc in happened:
                return
            for guardian in guardians & happened:
                watch.remove(guardian)
                guardians.remove(guardian)
                os.waitpid(guardian.pid, 0)
                end_descendants([other.pid for other in guardians])  # of one that was killed
            if listener in happened:
                connection, _ = listener.accept()
                with connection:
                    if not is_stage(connection, dvc):
                        continue
                    if any(state_of(path) != before for path, before in loaded.items()):
                        return  # outdated
                    child = os.fork()
                    if child == 0:
                        listener.close()
                        watch.close()
                        answer(connection, module)
                guardians.add(guardian := known(child))
                watch.add(guardian)


@contextlib.contextmanager
def ending_with(dvc: Known) -> Iterator[None]:
    """End this process with DVC, also in the midst of an import, which takes seconds."""
    over = threading.Event()

    def watch() -> None:
        watched = Watch(dvc)
        while not over.is_set():
            if watched.wait(0.1):
                os._exit(0)
        watched.close()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()  # forks are for processes of one thread


def states() -> dict[Path, Any]:
    """Each file that a module of this process comes from -> its state, None without a file."""
    files = {vars(module).get("__file__") for module in [*sys.modules.values()]}
    return {path: state_of(path) for path in map(Path, filter(None, files))}


def state_of(path: Path) -> list[int] | None:
    """What another installation, or an edit, changes."""
    try:
        return state(path)
    except OSError:
        return None


def answer(connection: socket.socket, module: str) -> NoReturn:
    """In a fork: take over folder, environment, input and output, and guard the stage."""
    try:
        connection.settimeout(PROMPT)
        connection.sendall(HELLO)
        head, files, _, _ = socket.recv_fds(connection, 8, 3)
        (length,) = struct.unpack("Q", head)
        if len(files) == 3 and length <= MOST:
            with connection.makefile("rb") as stream:
                request = json.loads(stream.read(length))
            connection.settimeout(None)
            for number, file in enumerate(files):
                os.dup2(file, number)
                os.close(file)
            open_streams()
            os.chdir(content(request["folder"]))
            environment = environment_of("self")
            environment |= {content(k): content(v) for k, v in request["set"].items()}
            for name in request["removed"]:
                del environment[content(name)]
            os.environb.clear()
            os.environb.update(environment)
            arguments = [os.fsdecode(content(argument)) for argument in request["arguments"]]
            parents = [Known(*parent) for parent in request["parents"]]
            asking, _ = peer(connection)
            guard(connection, asking, stage(module, arguments), parents, request["temporary"])
    finally:
        os._exit(1)


def open_streams() -> None:
    """Python's standard streams anew: whether they are a terminal, and can seek, is another now."""
    modes = {"stdin": ("r", -1), "stdout": ("w", -1), "stderr": ("w", 1)}
    for number, (name, (mode, buffering)) in enumerate(modes.items()):
        old = getattr(sys, name)
        how = {"encoding": old.encoding, "errors": old.errors, "closefd": False}
        stream = open(number, mode, buffering, **how)  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def stage(module: str, arguments: list[str]) -> Callable[[], int]:
    """What runs it."""
    return lambda: importlib.import_module(module).run(arguments)


if __name__ == "__main__":
    serve(sys.argv[1], Known(int(sys.argv[2]), int(sys.argv[3])), *sys.argv[4:6])
    os._exit(0)  # at once: torch tidies up for a while
