"""Where workers are: on this machine, at a scheduler of Dask's, or in a job queue's jobs."""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML, YAMLError

from aebench.errors import AebenchError, first_line

if TYPE_CHECKING:
    from distributed import Client

# Option and key of the configuration -> the class of dask-jobqueue.
QUEUES = {
    "slurm": "SLURMCluster",
    "pbs": "PBSCluster",
    "sge": "SGECluster",
    "lsf": "LSFCluster",
    "htcondor": "HTCondorCluster",
}
WAIT = 10  # seconds for a scheduler to answer
# What a worker runs first, also one that Dask starts for one that was killed: a terminal's Ctrl-C
# goes to it, too, which would end before its chain does.
DEAF = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)"


@contextlib.contextmanager
def local(workers: int | None, threads: int | None, folder: Path) -> Iterator["Client"]:
    """Processes of this machine, as many as there are cores for their threads."""
    from distributed import Client, LocalCluster

    quiet()
    number = workers or max(1, (os.cpu_count() or 1) // (threads or 1))
    with (
        LocalCluster(
            n_workers=number,
            threads_per_worker=1,
            memory_limit=None,  # of Dask's own processes, which hold nothing
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            local_directory=str(folder),
            security=True,  # other users of the machine could run code as this one
            silence_logs=logging.CRITICAL,
            preload=[DEAF],
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@contextlib.contextmanager
def at(address: str) -> Iterator["Client"]:
    """The workers of that scheduler, which goes on without us. AebenchError where none answers."""
    from distributed import Client

    quiet()
    try:
        client = Client(address, timeout=WAIT)
    except (OSError, ValueError, TypeError) as error:
        allowed = "tcp://HOST:PORT, or tls://HOST:PORT with Dask's TLS settings, of a scheduler"
        raise AebenchError(
            f"{address}: {first_line(error) or type(error).__name__}; allowed: {allowed} that "
            "runs: dask scheduler"
        ) from None
    with client:
        yield client


@contextlib.contextmanager
def jobs(
    kind: str, settings: dict[str, Any], number: tuple[int, int], left: set[str], folder: Path
) -> Iterator["Client"]:
    """Workers in jobs of a queue: from the first to the last of `number`, as there is work.

    `settings`: see `read`; `left`: the chains that have not ended yet.
    """
    import dask_jobqueue
    from dask import config
    from distributed import Client

    quiet()
    config.update(config.config, settings)
    # sbatch hands on all of the environment unless told which.
    os.environ.setdefault("SBATCH_EXPORT", "HOME,LANG,PATH")
    try:
        cluster = getattr(dask_jobqueue, QUEUES[kind])(
            security=True, shared_temp_directory=str(folder)
        )
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        raise AebenchError(f"--{kind}: {first_line(error)}") from None
    with cluster, Client(cluster) as client:
        if number[0] == number[1]:
            cluster.scale(jobs=number[0])
        else:
            low, high = number
            cluster.adapt(Adaptive=by_chains(left), minimum_jobs=low, maximum_jobs=high)
        yield client


def read(file: Path, kind: str) -> dict[str, Any]:
    """The queue's configuration, as dask-jobqueue has it. AebenchError for another one."""
    allowed = f"YAML as of dask-jobqueue: jobqueue: {{{kind}: {{cores: 4, memory: 8GB}}}}"
    try:
        found = YAML(typ="safe").load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise AebenchError(f"{file}: {error.strerror}; allowed: {allowed}") from None
    except (ValueError, YAMLError) as error:
        raise AebenchError(f"{file}: {first_line(error)}; allowed: {allowed}") from None
    part = found.get("jobqueue") if isinstance(found, dict) else None
    if not isinstance(part, dict) or not isinstance(part.get(kind), dict):
        raise AebenchError(f"{file}: no jobqueue: {kind}: in it; allowed: {allowed}")
    return found


def quiet() -> None:
    """Let Dask say nothing, also in the processes that it starts: what matters the farm says."""
    from dask import config

    names = "distributed", "distributed.client", "distributed.worker", "tornado"
    config.set({"logging": dict.fromkeys(names, "critical")})
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def by_chains(left: set[str]) -> Any:
    """How many workers `adapt` asks for: as there are chains."""
    from distributed.deploy.adaptive import Adaptive

    class ByChains(Adaptive):
        """Dask's own count is of what it has been sent, and of the threads of workers."""

        async def target(self) -> int:
            """At least one: chains are sent when the first is there."""
            return max(1, len(left))

    return ByChains
