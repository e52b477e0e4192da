"""Run a stage in a fork of a process that has imported torch already.

DVC starts a process per stage, and torch takes 3 s to import: the digits run is 162 s without this
module and 75 s with it (2-core AMD EPYC 7003, torch 2.14.1). So the first such stage under DVC
starts a server, which imports torch and neither stages nor plug-ins. Each stage is a fork of it: a
process of its own, with its own threads and memory, that sees the sources as they are then. Linux
only: elsewhere, and whenever the server cannot be had, a stage imports torch itself.
"""

import contextlib
import gc
import importlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from aebench.waiting import policy

IDLE = 30.0  # seconds without a stage after which the server ends, as it does without its DVC


def run_in_fork(module: str, arguments: list[str], dvc: int) -> int | None:
    """Exit status of `module`.run(arguments) in a fork of the DVC process's server; None without.

    It has this process's folder, environment, input and output, and ends with this process.
    """
    if sys.platform != "linux":
        return None
    try:
        connection = connect(module, dvc)
    except OSError:  # no folder for temporary files, or no further process
        return None
    if connection is None:
        return None
    request = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}
    with connection:
        content = json.dumps(request).encode()
        try:
            socket.send_fds(connection, [len(content).to_bytes(8)], [0, 1, 2])
        except OSError:
            return None  # the server ended just now
        try:
            connection.sendall(content)
            status = connection.recv(8)
        except OSError:
            status = b""
    if not status:
        print("aebench: error: the process of this stage was ended from outside", file=sys.stderr)
    return int.from_bytes(status) if status else 1


def connect(module: str, dvc: int) -> socket.socket | None:
    """A connection to the server of the DVC process, which is started if need be."""
    # How threads wait is read when torch is imported: a server for each way.
    kind = {"passive": "-passive", "passive, bound": "-bound"}.get(policy(), "")
    path = Path(tempfile.gettempdir(), f"aebench-{os.getuid()}-{dvc}{kind}", "socket")
    server: subprocess.Popen[bytes] | None = None
    while server is None or server.poll() is None:
        if path.parent.exists() and path.parent.stat().st_uid != os.getuid():
            return None  # somebody else's: not to be given our environment
        connection = socket.socket(socket.AF_UNIX)
        try:
            with short(path) as name:
                connection.connect(name)
        except OSError:
            connection.close()
        else:
            return connection
        if server is None:
            # -P: modules of the workspace's folder must not stand in for installed ones.
            command = [sys.executable, "-P", "-m", __name__, str(path), str(dvc), module]
            null = subprocess.DEVNULL
            # A session of its own: Ctrl-C is for the stage, which the fork ends with.
            server = subprocess.Popen(
                command, stdin=null, stdout=null, stderr=null, start_new_session=True
            )
        time.sleep(0.02)
    return None


@contextlib.contextmanager
def short(path: Path) -> Iterator[str]:
    """Another name of the file while its folder is open: a socket's may have 107 bytes."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def serve(path: Path, dvc: int, module: str) -> None:
    """Fork a process for each request until DVC is gone or nothing was asked for a while."""
    gc.disable()
    import torch  # noqa: F401  # what this server is for
    from pydantic import BaseModel, field_serializer, field_validator  # noqa: F401  # 0.07 s

    gc.freeze()  # a collection in a fork would copy every page it marks
    gc.enable()
    path.parent.mkdir(mode=0o700, exist_ok=True)
    if path.parent.stat().st_uid != os.getuid():
        return  # somebody else's folder: they could feed us requests
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as server:
        with short(path) as name:
            server.bind(name)
        server.listen()
        server.settimeout(0.5)
        last = time.monotonic()
        try:
            while time.monotonic() < last + IDLE and Path(f"/proc/{dvc}").exists():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                with connection:
                    answer(connection, server, module)
                last = time.monotonic()
        finally:
            path.unlink(missing_ok=True)
            path.parent.rmdir()


def answer(connection: socket.socket, server: socket.socket, module: str) -> None:
    """Fork, wait for the stage, send its exit status; nothing if a signal ended it."""
    connection.setblocking(True)
    length, files, _, _ = socket.recv_fds(connection, 8, 3)
    child = os.fork()
    if child == 0:
        server.close()
        become(connection, int.from_bytes(length), files, module)
    for file in files:
        os.close(file)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        with contextlib.suppress(OSError):  # who asked was killed, and the fork with it
            connection.sendall(os.WEXITSTATUS(status).to_bytes(8))


def become(connection: socket.socket, length: int, files: list[int], module: str) -> None:
    """In the fork: take over folder, environment, input and output, run the stage, exit."""
    status = 1
    try:
        with connection.makefile("rb") as request:
            content = json.loads(request.read(length))
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        os.chdir(content["folder"])
        os.environ.clear()
        os.environ.update(content["environment"])
        threading.Thread(target=end_with, args=(connection,), daemon=True).start()
        status = importlib.import_module(module).run(content["arguments"])
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def end_with(connection: socket.socket) -> None:
    """End this process when the one that DVC started is gone."""
    connection.recv(1)
    os._exit(1)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
