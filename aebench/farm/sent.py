"""What is sent to Dask's scheduler and workers as it is here, by value, whatever they have there.

So this module imports nothing of aebench's: a worker without it can say so.
"""

import asyncio
import contextlib
import importlib
import importlib.metadata
import os
import platform
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distributed import Worker, WorkerPlugin, get_worker


@dataclass
class Request:
    """What a worker needs to know of the whole. Plain values, and bytes of git's objects."""

    name: str  # of Dask's resource that a fit worker offers, and of the topic of what is told
    versions: dict[str, str]  # package -> what it must be, and "python"
    snapshots: list[dict[str, Any]]  # the fields of each Snapshot
    store: dict[str, Any]  # the fields of the Store
    token: str  # a file in the shared cache, "" without one
    environment: dict[str, str]
    threads: int | None  # of a chain; None: as many as the worker has
    one_a_host: bool


@dataclass
class Order:
    """What a worker needs to know of a chain. Plain values."""

    key: str
    copy: str  # the folder of the copy, below the worker's
    place: str  # of the workspace in it
    given: list[str]  # DVC's stages whose outs it begins with, `prepare` first
    targets: list[str]  # DVC's stages that it computes
    remote: bool  # whether results travel through one
    pull: bool  # whether another worker may have trained it


class Fitness(WorkerPlugin):
    """Lets a worker have chains if it would compute what the plan says: each, also later ones."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.name = request.name  # another farm may use the same workers

    def setup(self, worker: Worker) -> None:
        """Called by Dask, in the event loop of the worker: the look takes seconds."""
        self.look = asyncio.ensure_future(self.looked(worker))

    def teardown(self, worker: Worker) -> None:
        """The farm is at its end, or begins anew, or the worker ends."""
        self.look.cancel()

    async def looked(self, worker: Worker) -> None:
        """Offer the resource, or say what is in the way."""
        request = self.request
        try:
            faults = await asyncio.to_thread(unfit, request, worker.local_directory)
        except Exception as error:
            faults = [f"{type(error).__name__}: {error}"]
        told = {"name": called(worker), "faults": faults, "waits": False}
        if not faults:
            if request.one_a_host:
                worker.log_event(request.name, told | {"waits": True})
                self.lock = await alone(f"{request.name}.lock")
            await worker.set_resources(**{request.name: 1})
        worker.log_event(request.name, told)


def called(worker: Worker) -> str:
    """Host and name of the worker, or host and port."""
    name = str(worker.name)
    return f"{platform.node()}:{name.rpartition(':')[2]}"


async def alone(name: str) -> Any:
    """Wait until no other worker of this host and user has the lock; it goes with the process."""
    import fcntl

    file = (Path(tempfile.gettempdir()) / f"{os.getuid()}-{name}").open("w")
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        await asyncio.sleep(1)


def unfit(request: Request, folder: str) -> list[str]:
    """Why the worker would not compute what the plan says; empty if it would."""
    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    for package in request.versions:
        if package != "python":
            try:
                found[package] = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                found[package] = "none"
    faults = [
        f"{package}: {found[package]} in {sys.prefix}; needed: {version}, as where the farm starts"
        for package, version in request.versions.items()
        if found[package] != version
    ]
    if faults:
        return faults
    worker = importlib.import_module("aebench.farm.worker")
    return worker.unfit(request, Path(folder))


def chain(order: Order, request: Request) -> dict[str, Any]:
    """Compute a chain on the worker that this is called on."""
    module = importlib.import_module("aebench.farm.worker")
    worker = get_worker()
    return module.chain(order, request, worker, called(worker))


def stop(name: str) -> None:
    """End what the worker computes for the request of that name."""
    if (worker := sys.modules.get("aebench.farm.worker")) is not None:
        worker.stop(name)


def computed(keys: list[str], dask_scheduler: Any) -> dict[str, bool]:
    """Those of the chains that a farm which was killed has sent: whether a worker computes them."""
    workers = dask_scheduler.workers.values()
    executed = {task.key for worker in workers for task in worker.executing}
    return {key: key in executed for key in keys if key in dask_scheduler.tasks}
