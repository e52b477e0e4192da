"""Train with several processes, which torch starts and ends: `train: {processes: N}`."""

import argparse
import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import torch
from torch import Tensor

from aebench.children import how, memory_kills, struck
from aebench.errors import AebenchError, Failure, one_line
from aebench.job import Job
from aebench.models.device import Execution
from aebench.models.finish import Begun, Epoch, Trained
from aebench.models.group import check_divisible
from aebench.models.resume import Resume
from aebench.models.start import started
from aebench.records.plan import TrainPlan
from aebench.schema import Recipe
from aebench.timing import Usage
from aebench.waiting import unbind
from aebench.workspace import json_bytes

if TYPE_CHECKING:
    from aebench.plugins import Model

OPTIONS = "AEBENCH_TORCHRUN"  # further options of torchrun: several machines


def nodes() -> int:
    """Machines that `OPTIONS` names. AebenchError for a number that may change meanwhile."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--nnodes", default="1")
    try:
        given = parser.parse_known_args(options())[0].nnodes
        first, _, last = given.partition(":")
        if int(first) > 0 and last in ("", first):
            return int(first)
    except (ValueError, argparse.ArgumentError):
        given = os.environ[OPTIONS]
    raise AebenchError(f"${OPTIONS}: got {given!r}; allowed: options of torchrun, --nnodes N")


def options() -> list[str]:
    """The words of `OPTIONS`. ValueError for a quotation without an end."""
    return shlex.split(os.environ.get(OPTIONS, ""))


def here(processes: int) -> int:
    """How many of the processes run on this machine. AebenchError where they do not spread."""
    machines = nodes()
    if processes % machines:
        raise AebenchError(
            f"${OPTIONS}: got {machines} machines for {processes} processes; allowed: a number of "
            "machines that divides that of processes (train.processes)"
        )
    return processes // machines


def threads_of_each(processes: int) -> int:
    """Those of each process: torch's own number, shared out."""
    return max(1, torch.get_num_threads() // here(processes))


def trained_together(
    job: Job[TrainPlan],
    run: str,
    seed: int,
    model: "Model",
    images: Tensor,
    resume: Resume,
) -> Trained:
    """As `aebench.models.training.trained`, by the plan's number of processes.

    `images` uint8 (N, C, H, W). What a model does wrong before it is trained shows here. Failure,
    too, for what one of the processes found; AebenchError where one ended without a word.
    """
    plan = job.plan
    assert isinstance(plan.train, Recipe)
    count = plan.train.processes
    shape = (images.shape[1], images.shape[2], images.shape[3])
    autoencoder = started(model, shape, plan.build, images, seed).train()
    check_divisible(autoencoder, count, min(plan.train.batch_size, len(images)))
    del autoencoder
    with tempfile.TemporaryDirectory(prefix="aebench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        read = [[str(p), state, wanted] for p, (state, wanted) in job.inputs.read.items()]
        (folder / "read").write_bytes(json_bytes(read))
        status, said = launched(folder, run, seed, count)
        with contextlib.suppress(FileNotFoundError):
            path, resume.resumed = json.loads((folder / "resume").read_bytes())
            resume.path = Path(path)
        return outcome(folder, status, said, count)


def launched(folder: Path, run: str, seed: int, count: int) -> tuple[int, str]:
    """Run torchrun until it ends. Its status, and how the first process ended, in words."""
    where = options() or [
        *("--rdzv-backend", "c10d", "--rdzv-conf", "store_type=file"),
        *("--rdzv-endpoint", str(folder / "rendezvous"), "--rdzv-id", "aebench"),
    ]
    script = "-m", "aebench.models.rank", run, str(seed), str(folder)
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={here(count)}"]
    kills = memory_kills()
    unbind()
    with (folder / "torchrun").open("wb") as said:
        process = subprocess.Popen([*command, *where, *script], stderr=said, env=environment(count))
        try:
            status = process.wait()
        finally:
            end(process)
    text = (folder / "torchrun").read_text(errors="replace")
    # Of several the first in time: torch ends the others.
    codes = [int(code) for code in re.findall(r"exitcode\s*: (-?\d+)", text)]
    if not codes:
        last = next((row for row in reversed(text.splitlines()) if row.strip()), "")
        return status, f"torchrun ended with status {status}: {one_line(last)}"
    # torch itself ends the others by SIGTERM; one that misses another ends, too.
    killed = next((code for code in codes if code < 0 and code != -signal.SIGTERM), None)
    lost = folder / "lost"
    if killed is None and lost.exists():
        return status, json.loads(lost.read_bytes())["lost"]
    return status, how(killed or codes[-1], struck(kills, memory_kills()))


def environment(count: int) -> dict[str, str]:
    """That of torchrun."""
    own = {
        "OMP_NUM_THREADS": str(threads_of_each(count)),
        "PYTHONSAFEPATH": "1",  # modules of the workspace must not stand in for installed ones
        "LOGLEVEL": "CRITICAL",
        # Of DistributedDataParallel: that all parameters were used, this time.
        "TORCH_CPP_LOG_LEVEL": "ERROR",
    }
    if here(count) == count:
        own["GLOO_SOCKET_IFNAME"] = loopback()
    return os.environ | {name: value for name, value in own.items() if value}


def loopback() -> str:
    """The network of this machine alone, by its name; empty where it is not told."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(one.address == "127.0.0.1" for one in addresses):
            return name
    return ""


def end(process: "subprocess.Popen[bytes]") -> None:
    """Let nothing of it go on, whatever ended the waiting."""
    if process.poll() is not None:
        return
    with contextlib.suppress(psutil.Error, OSError):
        for one in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error, OSError):
                one.kill()
    process.send_signal(signal.SIGKILL)
    process.wait()


def outcome(folder: Path, status: int, said: str, count: int) -> Trained:
    """What the processes have left."""
    found: dict[str, Any] = {}
    with contextlib.suppress(FileNotFoundError):
        found = json.loads((folder / "end").read_bytes())
    if "failed" in found:
        raise Failure(found["failed"])
    if "error" in found:
        raise AebenchError(f"one of the {count} processes: {found['error']}")
    if status or not found:
        words = said or "no result was left"
        raise AebenchError(f"one of the {count} processes: {words}; then run `dvc repro` again")
    result = found["trained"]
    return Trained(
        (folder / "weights").read_bytes(),
        Execution(**result["how"]),
        Usage(**result["used"]),
        result["note"],
        result["baseline"],
        Begun(**result["begun"]),
        curve(result["curve"]),
    )


def curve(rows: Sequence[Any]) -> list[Epoch]:
    """What each epoch came to."""
    return [Epoch(means, Usage(**used)) for means, used in rows]
