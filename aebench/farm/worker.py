"""What a worker does: it copies the workspace, looks whether it is fit, and computes chains."""

import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aebench.errors import AebenchError
from aebench.farm.snapshot import Snapshot, laid_out
from aebench.farm.suites import RUNNING, Store, environment, fault, sweep
from aebench.workspace import Workspace

# What `aebench train` says of a model that failed.
FAILED = re.compile(r"^aebench: train .*?: (failed: .*)")
# What Dask's nanny sets to 1 for its worker: the threads of a chain are OMP_NUM_THREADS alone.
ONE = "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"

busy = threading.Lock()  # a worker computes one chain at a time
commands: dict[subprocess.Popen[str], str] = {}  # -> the request's name
stopped: set[str] = set()  # requests, by name


class Stopped(Exception):
    """The farm was told to end at once."""


def unfit(request: Any, folder: Path) -> list[str]:
    """Why the worker would not compute what the plan says; empty if it would.

    request: a `sent.Request`; it makes the copies of its snapshots in the folder.
    """
    stopped.discard(request.name)
    if request.token and not Path(request.token).is_file():
        cache = Path(request.token).parent
        return [f"{cache}: DVC's cache is not seen from here; share that folder, or give --remote"]
    faults: list[str] = []
    store = Store(**request.store)
    for fields in request.snapshots:
        snapshot = Snapshot(**fields)
        copy = copied(snapshot, store, folder)
        faults += [fault for fault in other_code(copy) if fault not in faults]
    return faults


def copied(snapshot: Snapshot, store: Store, folder: Path) -> Workspace:
    """The copy of the snapshot, made unless it is there."""
    place = folder / f"aebench-{snapshot.name}"
    copy = Workspace(place / snapshot.place)
    ready = place / ".git" / "aebench-ready"
    if not ready.exists():
        shutil.rmtree(place, ignore_errors=True)  # half of one, of a look that was broken off
        laid_out(snapshot, place)
        store.bind(copy, cache=store.remote is None)
        ready.touch()
    return copy


def other_code(copy: Workspace) -> list[str]:
    """What of the code here is not that of the plan."""
    command = [sys.executable, "-P", "-m", "aebench.farm.fitness"]
    done = subprocess.run(
        command, cwd=copy.root, env=environment({}), capture_output=True, text=True
    )
    if done.returncode:
        return [fault(done.stderr)]
    return done.stdout.splitlines()


def chain(order: Any, request: Any, worker: Any, name: str) -> dict[str, Any]:
    """Compute a chain: what of it ran, why its model failed, its seconds. AebenchError as DVC's.

    `order`, `request`: see `sent`; `worker`: Dask's, of that name, which is told how far it is.
    """

    def tell(state: str) -> None:
        worker.log_event(request.name, {"key": order.key, "name": name, "state": state})

    with busy:
        start = time.monotonic()
        tell("beginning")
        copy = Workspace(Path(worker.local_directory, order.copy, order.place))
        threads = {"OMP_NUM_THREADS": str(request.threads or worker.state.nthreads)}
        variables = request.environment | threads | {"AEBENCH_WORKER": name}
        call = Calls(copy, request.name, variables)
        has_images = (copy.prepared / "meta.json").is_file()
        if given := order.given[has_images:]:
            call("dvc", "pull" if order.remote else "checkout", "-q", *given)
        if not order.remote:
            sweep(request.store["cache"])
        ran: list[str] = []
        failed: list[str] = []

        def heard(line: str) -> None:
            if match := FAILED.match(line):
                failed.append(match[1])
            if match := RUNNING.match(line):
                ran.append(match[1].partition("@")[0])
                tell(ran[-1])

        pull = ["--pull"] if order.pull else []
        call("dvc", "repro", "-s", *pull, *order.targets, heard=heard)
        if order.remote:
            tell("push")
            call("dvc", "push", "-q", "--run-cache", *order.targets)
        seconds = time.monotonic() - start
        return {"name": name, "ran": ran, "failed": failed[:1], "seconds": seconds}


class Calls:
    """Runs commands in a copy, each of which ends with this worker."""

    def __init__(self, copy: Workspace, request: str, variables: dict[str, str]) -> None:
        self.copy, self.request = copy, request
        here = {k: v for k, v in environment({}).items() if k not in ONE}
        self.environment = here | variables

    def __call__(self, *command: str, heard: Callable[[str], object] = str) -> None:
        """Run it; `heard` gets each line. AebenchError with its own words where it fails."""
        if self.request in stopped:
            raise Stopped
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "aebench.farm.guarded", *command],
            cwd=self.copy.root,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # the terminal's Ctrl-C is not for it
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        commands[process] = self.request
        lines: list[str] = []
        with process:
            assert process.stdout
            for line in process.stdout:
                heard(line)
                lines.append(line)
        del commands[process]
        if self.request in stopped:
            raise Stopped
        if process.returncode:
            raise AebenchError(fault("".join(lines)) or f"{command[1]} ended without a word")


def stop(request: str) -> None:
    """End the command that runs for the request of that name, and begin no other one."""
    stopped.add(request)
    for process, name in list(commands.items()):
        if name == request:
            process.terminate()
