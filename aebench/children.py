"""Run a verb in a process of its own; all that it starts ends with it, however either ends.

    the process that was started, which waits      (or the server of forkserver.py)
    `- a guardian, in a session of its own                    `- a guardian
       `- the stage                                              `- the stage

The guardian is the parent, and what the stage leaves behind becomes the guardian's child (Linux's
PR_SET_CHILD_SUBREAPER): also what made itself a session, forked twice and emptied its environment.
It waits for the end of the stage or of those that the stage must end with, asleep in one system
call, in a process of its own, which no plug-in's threads or lock can starve. Then it ends what is
left, removes the stage's folder of temporary files and tells the process that waits.

Linux alone: elsewhere a process that forked without `exec` must not use the system's libraries.
"""

import atexit
import contextlib
import ctypes
import io
import json
import os
import secrets
import select
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import psutil

PATIENCE = 1.0  # seconds that a stage has to end by itself
GRACE = 0.3  # seconds that its children have: multiprocessing's tracker frees shared memory then
LIMIT = 3.0  # seconds after which what does not end, in a broken device, is left alone
LOOK = 0.5  # seconds between two looks where the kernel does not tell of a process's end
SET_DEATH_SIGNAL, SET_NAME, SET_SUBREAPER = 1, 15, 36  # of prctl
INTERRUPT, READY, GO, DONE = b"i", b"r", b"g", b"d"
ENDING = "SIGINT", "SIGTERM", "SIGHUP"  # by name: not every system has each
FAULTS = "SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT"


class Known(NamedTuple):
    """A process, told from a later one of the same number."""

    pid: int
    start: int | None  # see `started`; None: the system does not tell


def started(pid: int) -> int:
    """When the process began, in ticks since boot. OSError if it has ended, or without /proc."""
    # Its name, in parentheses before that, may hold anything.
    fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    if fields[0] in ("Z", "X"):  # nobody has waited for it yet
        raise ProcessLookupError(pid)
    return int(fields[19])


def known(pid: int) -> Known:
    """The process that has the number now."""
    try:
        return Known(pid, started(pid))
    except OSError:
        return Known(pid, None)


class Guardian(NamedTuple):
    """A stage's guardian, as the process sees it that waits."""

    connection: socket.socket
    pid: int | None = None  # where it is this process's child
    others: Collection[int] = ()  # what this process had started before, or whoever it was then


_client = 0


def client() -> int:
    """The number of the process that was started from outside and for which this one computes."""
    return _client or os.getpid()


class Watch:
    """Waits for sockets and for the ends of processes, asleep where the kernel can tell of them."""

    def __init__(self, *watched: "socket.socket | Known") -> None:
        self.poll = select.poll()
        self.files: dict[int, socket.socket | Known] = {}
        self.untold: list[Known] = []  # by a kernel before 5.3, in some sandboxes
        self.gone: set[socket.socket | Known] = set()
        for one in watched:
            self.add(one)

    def add(self, one: "socket.socket | Known") -> None:
        """Watch it, too."""
        try:
            file = os.pidfd_open(one.pid) if isinstance(one, Known) else one.fileno()
        except ProcessLookupError:
            self.gone.add(one)
            return
        except (OSError, AttributeError):
            assert isinstance(one, Known)
            self.untold.append(one)
            return
        self.files[file] = one
        self.poll.register(file, select.POLLIN)
        if isinstance(one, Known) and not runs(one):  # it is another's number by now
            self.gone.add(one)

    def remove(self, one: "socket.socket | Known") -> None:
        """Watch it no more."""
        self.gone.discard(one)
        self.untold = [process for process in self.untold if process != one]
        for file in [file for file, what in self.files.items() if what == one]:
            self.poll.unregister(file)
            del self.files[file]
            if isinstance(one, Known):
                os.close(file)

    def wait(self, seconds: float | None = None) -> "set[socket.socket | Known]":
        """Those that ended or have something to read; none after so many seconds."""
        end = None if seconds is None else time.monotonic() + seconds
        while True:
            left = None if end is None else max(0.0, end - time.monotonic())
            if self.gone:
                left = 0.0
            elif self.untold:
                left = LOOK if left is None else min(left, LOOK)
            found = self.poll.poll(None if left is None else 1000 * left)
            happened = {self.files[file] for file, _ in found} | self.gone
            happened |= {process for process in self.untold if not runs(process)}
            if happened or (end is not None and time.monotonic() >= end):
                return happened

    def close(self) -> None:
        """In a fork, which watches others."""
        for one in list(self.files.values()):
            self.remove(one)


def runs(process: Known) -> bool:
    """Whether it has not ended."""
    with contextlib.suppress(ChildProcessError):  # it is none of ours
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    try:
        if process.start is not None:
            return started(process.pid) == process.start
        os.kill(process.pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def temporary_folder() -> str | None:
    """A name for the folder of temporary files of a stage and its children; None without a place.

    The guardian makes it: one that was made before would be left where this process is killed.
    """
    try:
        return os.path.join(tempfile.gettempdir(), f"aebench-{secrets.token_hex(8)}")
    except OSError:
        return None


def forked(
    stage: Callable[[], int], parents: Iterable[Known], folder: str | None
) -> Guardian | None:
    """A new guardian, which runs the stage; None without further processes.

    `parents`: those that the stage must end with beside this process; `folder`: see
    `temporary_folder`.
    """
    near, far = socket.socketpair()
    own = os.getpid()
    # Who ignores it is not told how a child ended; `exec` hands that on.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    others = [process.pid for process in children(recursive=True)]
    prctl(SET_SUBREAPER, 1)  # what a guardian leaves that is killed itself will be found here
    flush()
    try:
        guardian = os.fork()
    except OSError:
        near.close()
        far.close()
        return None
    if guardian == 0:
        near.close()
        guard(far, own, stage, parents, folder)
    far.close()
    if ready(near):
        return Guardian(near, guardian, others)
    near.close()
    end_descendants(others)
    return None


def ready(connection: socket.socket) -> bool:
    """Whether the guardian has the stage's process and lets it go; if not, it never will."""
    with contextlib.suppress(OSError):  # it was reset, or its time is over
        if connection.recv(1) == READY:
            connection.settimeout(None)
            return True
    return False


def guard(
    connection: socket.socket,
    asking: int,
    stage: Callable[[], int],
    parents: Iterable[Known],
    folder: str | None,
) -> NoReturn:
    """In a fork: be the guardian of the stage, and end with it.

    `connection`: to the process of number `asking`, for which the stage runs, and with which.
    """
    try:
        prctl(SET_SUBREAPER, 1)
        kills = memory_kills()
        near, far = socket.socketpair()
        own = os.getpid()
        if folder:
            try:
                os.mkdir(folder, 0o700)
            except OSError:
                folder = None
        child = os.fork()
        if child == 0:
            connection.close()
            near.close()
            become(far, own, asking, stage, folder)
        far.close()
        os.setsid()
        for name in ENDING:  # meant for the stage, whose end is seen here, as its parents' is
            signal.signal(signal.Signals[name], signal.SIG_IGN)
        prctl(SET_NAME, b"aebench-guard")
        # Who reads what the stage prints waits for its end, not for the guardian's.
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        connection.send(READY)  # OSError if nobody waits any more: then there is no stage
        near.send(GO)
        end = until_end(connection, child, near, parents)
        end_descendants()
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
        end["memory"] = struck(kills, memory_kills())
        connection.sendall(json.dumps(end).encode())
    except Exception as error:
        failure = {"failure": f"its guardian ended: {type(error).__name__}: {error}"}
        with contextlib.suppress(OSError):
            connection.sendall(json.dumps(failure).encode())
    finally:
        os._exit(0)  # and the stage with it, if it is there


def until_end(
    connection: socket.socket, child: int, words: socket.socket, parents: Iterable[Known]
) -> dict[str, Any]:
    """Wait for the stage, which is ended when its client says so or is gone, as a parent may be.

    `status`: of waitpid; `done`: it came to its own end; `wanted`: it was ended from here.
    TimeoutError if the system does not end it.
    """
    stage = known(child)
    watch = Watch(connection, stage, *parents)
    deadline, killed = None, False
    while stage not in (
        happened := watch.wait(None if deadline is None else max(0, deadline - time.monotonic()))
    ):
        if deadline is None:
            os.kill(child, signal.SIGINT)  # which lets it remove what it has half written
            deadline = time.monotonic() + PATIENCE
        elif not happened:
            if killed:
                raise TimeoutError(
                    f"SIGKILL does not end process {child}, which waits for a device or a disk"
                )
            os.kill(child, signal.SIGKILL)
            deadline, killed = time.monotonic() + LIMIT, True
        for one in happened:
            watch.remove(one)
    _, status = os.waitpid(child, 0)
    words.setblocking(False)
    done = False
    with contextlib.suppress(OSError):  # its own children may still hold the other end
        done = words.recv(1) == DONE
    return {"status": status, "done": done, "wanted": deadline is not None}


def become(
    words: socket.socket,
    guardian: int,
    asking: int,
    stage: Callable[[], int],
    folder: str | None,
) -> NoReturn:
    """In the guardian's fork: be the stage."""
    global _client
    status, own = 1, os.getpid()
    try:
        prctl(SET_DEATH_SIGNAL, signal.SIGKILL)  # the end of the guardian
        if os.getppid() == guardian and words.recv(1) == GO:
            _client = asking
            if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                signal.signal(signal.SIGINT, once := Once())
                sys.unraisablehook = once.lost
            if folder:
                os.environ["TMPDIR"] = folder
                tempfile.tempdir = None  # what Python remembers of the variable
            status = stage()
    except SystemExit as end:
        if isinstance(end.code, int | None):
            status = end.code or 0
        else:  # status 1, as the interpreter's
            print(end.code, file=sys.stderr)
    except KeyboardInterrupt:
        status = 130
    except BaseException:
        traceback.print_exc()
    finally:
        flush()
        if os.getpid() != own:  # a fork of a plug-in's that came out here
            os._exit(status & 0xFF)
        tidy_up(words, status & 0xFF)


def tidy_up(words: socket.socket, status: int) -> NoReturn:
    """Run what libraries and plug-ins registered for the interpreter's end, then end the stage.

    Late handlers are not waited for, and threads not at all: one that never ends, as a queue's,
    would keep the stage, and so DVC, for ever. Nor are objects destroyed: torch takes a while.
    """

    def end() -> NoReturn:
        try:
            words.send(DONE)
        finally:
            os._exit(status)

    for stream in (sys.stdout, sys.stderr):  # what a late handler has printed is not to be lost
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)
    with contextlib.suppress(RuntimeError):  # no further thread: then no handlers either
        late = threading.Timer(PATIENCE, end)
        late.daemon = True
        late.start()
        atexit._run_exitfuncs()
        flush()
    end()


def flush() -> None:
    """What was printed."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # closed, full, None
            stream.flush()


class Once:
    """A handler of SIGINT for which the first Ctrl-C counts.

    The terminal sends one to every process, and the guardian sends the one that its client got: the
    second must not interrupt the tidying up after the first.
    """

    def __init__(self) -> None:
        self.called = False

    def __call__(self, number: int, frame: object) -> None:
        """KeyboardInterrupt, the first time."""
        if not self.called:
            self.called = True
            raise KeyboardInterrupt

    def lost(self, unraisable: "sys.UnraisableHookArgs") -> None:
        """As sys.unraisablehook: a Ctrl-C that came in a destructor, say, comes again after it."""
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            sys.__unraisablehook__(unraisable)
            return
        self.called = False
        with contextlib.suppress(RuntimeError):  # no further thread: the guardian's patience ends
            threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT)).start()


def awaited(guardian: Guardian, words: str, advice: str) -> int:
    """The exit status of the stage; one that did not come to its own end is told in a line.

    `words`: the verb and its arguments; `advice`: what to do then. Signals that would end this
    process end the stage first.
    """
    got: list[int] = []

    def forward(number: int, frame: object) -> None:
        if got:  # again: at once
            os._exit(128 + number)
        got.append(number)
        with contextlib.suppress(OSError):
            guardian.connection.send(INTERRUPT)

    for number in (signal.Signals[name] for name in ENDING):
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, forward)
    content = b""
    with guardian.connection, contextlib.suppress(OSError):
        while piece := guardian.connection.recv(4096):
            content += piece
    if guardian.pid is not None:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(guardian.pid, 0)  # so that its and the stage's CPU time are this process's
    end: dict[str, Any] = json.loads(content) if content else {"failure": None}
    said = None
    if "failure" in end:
        if guardian.pid is not None:  # else the server ends what is left
            end_descendants(guardian.others)
        killed = None if got else "its guardian was killed, and the stage with it"
        code, said = 1, end["failure"] or killed
    else:
        code = os.waitstatus_to_exitcode(end["status"])
        if not end["done"]:
            said = None if end["wanted"] or got else how(code, end["memory"])
            code = code or 1
    if said:
        print(f"aebench: error: {words}: {said}; {advice}", file=sys.stderr)
    if got:
        return 128 + got[0]
    return code if code >= 0 else 128 - code


def how(code: int, memory: bool | None) -> str:
    """How a stage ended that did not come to its own end.

    `code`: as of subprocess; `memory`: see `struck`.
    """
    if code >= 0:
        return (
            f"the process ended itself, with status {code} and without a word: most likely "
            "os._exit() in a plug-in or exit() in a library; `aebench check-plugin NAME` tries one"
        )
    try:
        name = signal.Signals(-code).name
    except ValueError:  # one without a name, for real time
        name = f"signal {-code}"
    if name in FAULTS:
        return (
            f"crashed in compiled code ({name}) of a library or a plug-in; "
            "PYTHONFAULTHANDLER=1 in the environment shows where"
        )
    less = "end what else runs, allow more, or make batches or the model smaller"
    if name != "SIGKILL":
        return f"ended from outside by {name}"
    if memory is None:
        return f"ended by {name}, perhaps from the system's memory killer: if so, {less}"
    if memory:
        killer = f"the system's memory killer ({name})"
        return f"ended by {killer}: it needs more memory than there is; {less}"
    return f"ended from outside by {name}, not by the system's memory killer"


def end_descendants(spared: Collection[int] = ()) -> None:
    """End what this process's children have become and have started, except the spared ones."""
    start = time.monotonic()
    while (left := orphans(spared)) and (past := time.monotonic() - start) < LIMIT:
        if past >= GRACE:
            for orphan in left:
                with contextlib.suppress(*PSUTIL):
                    for process in (*orphan.children(recursive=True), orphan):
                        with contextlib.suppress(*PSUTIL):
                            process.kill()
        time.sleep(0.01)


PSUTIL = psutil.Error, OSError, LookupError, ValueError  # without /proc, or a part of it


def children(recursive: bool = False) -> list[psutil.Process]:
    """Those of this process, also ended ones that it has not waited for."""
    with contextlib.suppress(ChildProcessError, *PSUTIL):
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)  # ChildProcessError: none
        return psutil.Process().children(recursive)
    return []


def orphans(spared: Collection[int]) -> list[psutil.Process]:
    """The children of this process, of which those that ended are waited for.

    They count, too: what one leaves that ends during the look is a child only of the next one.
    """
    found = []
    for child in children():
        if child.pid not in spared:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child.pid, os.WNOHANG)
                found.append(child)
    return found


class Kills(NamedTuple):
    """What the system's memory killer has ended."""

    number: int
    own: bool  # in our control group alone


def memory_kills(root: Path = Path("/")) -> Kills | None:
    """In our control group (v2), or else on the whole machine; None: the system does not tell."""
    with contextlib.suppress(OSError, LookupError, ValueError):
        for row in (root / "proc/self/cgroup").read_text().splitlines():
            events = root / "sys/fs/cgroup" / row.removeprefix("0::/") / "memory.events"
            if row.startswith("0::") and events.is_file():
                return Kills(counted(events), own=True)
        return Kills(counted(root / "proc/vmstat"), own=False)
    return None


def struck(before: Kills | None, after: Kills | None) -> bool | None:
    """Whether the memory killer struck here since; None: perhaps."""
    if before is None or after is None:
        return None
    return after.own or None if after.number > before.number else False


def counted(file: Path) -> int:
    """The kernel's counter of that file."""
    rows = (row.split() for row in file.read_text().splitlines())
    return int(dict(rows)["oom_kill"])


def prctl(option: int, value: int | bytes) -> None:
    """Linux's call of that name; a kernel that does not know the option goes on without."""
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
