"""What a piece of work took, and whether its process got its cores meanwhile."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from aebench.records.origin import Timing

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

# Contended is what waited for cores that others used: both shares above this. On an idle machine
# they are 0.006 and 0.005 in training, beside one process that keeps one of two cores busy 0.36 and
# 0.36 (benchmarks/contention.txt). Threads of one search wait for one another, too, but then
# nobody else computes.
CONTENDED = 0.05
CORES = psutil.cpu_count() or 1
TICKS = 0.02  # seconds, what the system's count of busy time may be off
BESIDE = set[int]()  # numbers of processes that compute the same together: no strangers
TASKS = Path("/proc/self/task")


@dataclass(frozen=True)
class Usage:
    """Seconds on the clock, of CPU in all threads, and in which these waited for a core.

    `others_seconds`: of CPU in all other processes of the machine, without those `BESIDE` this one;
    `involuntary_switches`: how often a thread lost its core. None where the system does not tell:
    Linux tells all, unless a container has no /proc.
    """

    seconds: float
    cpu_seconds: float
    others_seconds: float | None
    waited_seconds: float | None
    involuntary_switches: int | None

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.seconds + other.seconds,
            self.cpu_seconds + other.cpu_seconds,
            add(self.others_seconds, other.others_seconds),
            add(self.waited_seconds, other.waited_seconds),
            add(self.involuntary_switches, other.involuntary_switches),
        )

    @property
    def waited_share(self) -> float | None:
        """Waiting for a core / (waiting + computing)."""
        if self.waited_seconds is None:
            return None
        return self.waited_seconds / max(self.waited_seconds + self.cpu_seconds, 1e-9)

    @property
    def others_share(self) -> float | None:
        """What other processes took of all cores."""
        if self.others_seconds is None:
            return None
        return max(0.0, self.others_seconds - TICKS) / max(self.seconds * CORES, 1e-9)

    @property
    def contended(self) -> bool | None:
        """Whether others had the cores that it waited for; None where the system does not tell.

        On a worker of a farm, whether others computed: workers share memory and caches, too.
        """
        waited, others = self.waited_share, self.others_share
        if others is not None and "AEBENCH_WORKER" in os.environ:
            return others > CONTENDED
        return None if waited is None or others is None else min(waited, others) > CONTENDED


NOTHING = Usage(0.0, 0.0, 0.0, 0.0, 0)


class Stopwatch:
    """Starts when it is made, or anew: what was used `before` counts, too."""

    def __init__(self, before: Usage = NOTHING) -> None:
        self.restart(before)

    def restart(self, before: Usage) -> None:
        """Go on from there, without what was used since."""
        self.before = before
        self.waited = waited()
        self.switches = switches()
        self.busy = less(busy(), together())
        self.cpu = time.process_time()
        self.start = time.perf_counter()

    def read(self) -> Usage:
        """What was used since the start."""
        seconds = time.perf_counter() - self.start
        cpu = time.process_time() - self.cpu
        others = less(less(less(busy(), together()), self.busy), cpu)
        now = waited()
        # Of a thread that has ended meanwhile nothing is known; those of the libraries stay.
        delay = sum(w - self.waited.get(task, 0) for task, w in now.items()) / 1e9 if now else None
        preempted = less(switches(), self.switches)
        return self.before + Usage(seconds, cpu, others, delay, preempted)


def waited() -> dict[str, int]:
    """Nanoseconds each thread of this process has been ready without a core; empty if not told."""
    found = {}
    for task in TASKS.glob("*/schedstat"):
        try:
            found[task.parent.name] = int(task.read_text().split()[1])
        except (OSError, IndexError, ValueError):
            continue  # the thread has just ended
    return found


def busy() -> float | None:
    """CPU seconds of all processes of the machine, and what its host kept from it."""
    try:
        found = psutil.cpu_times()
    except OSError:
        return None
    names = "user", "nice", "system", "irq", "softirq", "steal"
    return sum(getattr(found, name, 0.0) for name in names)


def together() -> float | None:
    """CPU seconds of the processes BESIDE this one; None where one has ended."""
    try:
        times = [psutil.Process(pid).cpu_times() for pid in BESIDE]
    except (psutil.Error, OSError):
        return None
    return sum(one.user + one.system for one in times)


def switches() -> int | None:
    """How often the system took a core from a thread of this process."""
    return resource and resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def add(one: Any, other: Any) -> Any:
    """The sum; None if one is not known."""
    return None if one is None or other is None else one + other


def load_average() -> float | None:
    """Of the last minute."""
    try:
        return psutil.getloadavg()[0]
    except OSError:
        return None


def less(one: Any, other: Any) -> Any:
    """The difference; None if one is not known."""
    return None if one is None or other is None else one - other


def facts(usages: Sequence[Usage]) -> Timing:
    """What a result says of its timed pieces: their means, and the load average at the end.

    `contended` when half of them or more were: the median of the others is then lost.
    """
    if not usages:
        return Timing()
    total = sum(usages[1:], usages[0])
    marks = [usage.contended for usage in usages]
    return Timing(
        cpu_seconds=total.cpu_seconds / len(usages),
        waited_share=total.waited_share,
        others_share=total.others_share,
        involuntary_switches=total.involuntary_switches,
        load_average=load_average(),
        contended=None if None in marks else 2 * sum(map(bool, marks)) >= len(marks),
    )
