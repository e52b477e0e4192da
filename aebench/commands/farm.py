"""Compute stale runs and queued experiments on several machines, through Dask; then `dvc repro`.

DVC says what is stale. Each chain (train, encode, knn of a run and seed) is computed by DVC in a
worker's copy of the workspace; the results come back through DVC's cache or a remote.

A scheduler of Dask's runs whatever code it is sent, by anybody who reaches it: without TLS (tcp://)
it belongs on a private network. See docs/scale.md.
"""

import argparse
import importlib.util
import re
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from aebench.errors import AebenchError
from aebench.farm.clusters import QUEUES
from aebench.staleness import estimate, results_of
from aebench.workspace import Workspace

if TYPE_CHECKING:
    from distributed import Client

    from aebench.farm.suites import Chain, Store, Suite

# Ctrl-C lets chains end that have begun: nobody must end this process a second after it.
ENDS_ITSELF = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where, how many, and how results travel."""
    parser.add_argument(
        "address",
        nargs="?",
        help="tcp://HOST:PORT or tls://HOST:PORT of a Dask scheduler; without one: processes of "
        "this machine. Without TLS a scheduler runs anyone's code: private networks alone",
    )
    queue = parser.add_mutually_exclusive_group()
    for kind in QUEUES:
        words = f"jobs of that queue; FILE: YAML as of dask-jobqueue, jobqueue: {{{kind}: ...}}"
        queue.add_argument(f"--{kind}", metavar="FILE", type=Path, help=words)
    parser.add_argument("--workers", metavar="N", type=positive, help="processes, or jobs")
    parser.add_argument(
        "--adapt", metavar="MIN:MAX", type=span, help="jobs: as many as there is work for"
    )
    parser.add_argument("--threads", metavar="N", type=positive, help="of a chain")
    parser.add_argument(
        "--remote",
        metavar="NAME",
        help="DVC's remote (or an address) by which results travel, where workers do not share "
        "this workspace's cache",
    )
    words = "one chain a host: times that can be published"
    parser.add_argument("--times", action="store_true", help=words)


def positive(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}; allowed: a whole number from 1 on")
    return int(text)


def span(text: str) -> tuple[int, int]:
    """MIN:MAX."""
    match = re.fullmatch(r"(\d+):(\d+)", text)
    if not match or not int(match[1]) <= int(match[2]) or int(match[2]) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}; allowed: MIN:MAX, as in 0:20")
    return int(match[1]), int(match[2])


def farm(
    workspace: Workspace,
    address: str | None,
    workers: int | None,
    adapt: tuple[int, int] | None,
    threads: int | None,
    remote: str | None,
    times: bool,
    **queues: Path | None,
) -> None:
    """See above. AebenchError for what failed; KeyboardInterrupt after Ctrl-C."""
    kind, file = next(((kind, file) for kind, file in queues.items() if file), ("", None))
    check(address, kind, workers, adapt)
    for module in ("distributed", *(["dask_jobqueue"] if kind else [])):
        if importlib.util.find_spec(module) is None:
            raise AebenchError(f"no module {module}: pip install 'aebench[farm]'")
    from aebench.farm import clusters, suites
    from aebench.farm.finish import finish
    from aebench.job import alone

    store = suites.store(workspace, remote)
    settings = clusters.read(file, kind) if file else None
    with alone(workspace, "farm"), suites.copies(workspace) as folder, ExitStack() as stack:
        client = stack.enter_context(clusters.at(address)) if address else None
        print("asking DVC what is stale ...", flush=True)
        found = suites.found(workspace, folder, store)
        left = {chain.key for suite in found for chain in suite.chains}
        if left:
            if settings:
                number = adapt or (workers or 1, workers or 1)
                client = stack.enter_context(
                    clusters.jobs(kind, settings, number, left, folder.parent.parent)
                )
            elif client is None:
                client = stack.enter_context(clusters.local(workers, threads, folder))
            token = stack.enter_context(shared_token(store))
            compute(workspace, client, found, left, store, token, threads, times)
        remarks = finish(workspace, found, store)
    print("\n".join(remarks or ["all else came from the cache: see reports/report.html"]))


def check(
    address: str | None, kind: str, workers: int | None, adapt: tuple[int, int] | None
) -> None:
    """AebenchError for options that do not go together."""
    if address and (kind or workers):
        other = f"--{kind}" if kind else "--workers"
        raise AebenchError(
            f"got {address} and {other}; a scheduler has its own workers: give one of the two"
        )
    if adapt and not kind:
        raise AebenchError(f"--adapt is of a job queue: give --{'|--'.join(QUEUES)} FILE, too")


@contextmanager
def shared_token(store: "Store") -> Iterator[str]:
    """A file in DVC's cache by which workers see that it is the same; none with a remote."""
    if store.remote:
        yield ""
        return
    path = Path(store.cache, f"aebench-farm-{secrets.token_hex(8)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    try:
        yield str(path)
    finally:
        path.unlink(missing_ok=True)


def compute(
    workspace: Workspace,
    client: "Client",
    found: "list[Suite]",
    left: set[str],
    store: "Store",
    token: str,
    threads: int | None,
    times: bool,
) -> None:
    """Let the workers compute the chains."""
    from aebench.farm.dispatch import Dispatch
    from aebench.farm.versions import versions

    print(f"{len(left)} chains; Dask's dashboard: {client.dashboard_link}", flush=True)
    needed = versions(suite.copy for suite in found)
    known = estimates(workspace, found)
    Dispatch(client, found, store, token, needed, threads, times, known, left).run()


def estimates(workspace: Workspace, found: "list[Suite]") -> "dict[Chain, float | None]":
    """Seconds that each chain is likely to take, from earlier results in the workspace."""
    from aebench.farm.fitness import KINDS

    seen: dict[Chain, float | None] = {}
    for suite in found:
        for chain in suite.chains:
            folders = [p for p in (workspace.results / chain.run).glob("*/") if p.name.isdecimal()]
            seeds = [int(folder.name) for folder in folders]
            known = {(chain.run, seed): results_of(workspace, chain.run, seed) for seed in seeds}
            parts: list[float] = []
            for stage in chain.stages:
                path = suite.copy.plan_path(chain.run, stage)
                plan = KINDS[stage].read(path, "aebench plan")
                seconds = estimate(known, chain.run, stage, plan)
                parts += [] if seconds is None else [seconds]
            seen[chain] = sum(parts) if len(parts) == len(chain.stages) else None
    return seen
