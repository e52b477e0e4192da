"""Whether the threads of OpenMP spin or sleep while they wait for one another.

Spinning, their default, is faster on cores that nobody else wants. Beside a neighbour a spinning
thread keeps the core that the one it waits for needs, and training takes several times as long.
torch, FAISS and scikit-learn each bring an OpenMP of their own, which reads the environment when it
is loaded: so it is decided first, and holds for the process. No result's bits depend on it.
"""

import os
import sys
import time
from collections.abc import Collection
from pathlib import Path

# GNU's and LLVM's both know the first. A user's own value of any of them stays.
SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
GLANCE = 0.005  # seconds: an idle machine is seen in these, 500 readings
WINDOW = 0.05  # seconds in which others' CPU time is counted: 5 of the system's ticks
NOTICED = 0.5  # cores of others: less is within the ticks' error


def decide() -> None:
    """Let the threads of this process and of its children sleep where others want their cores.

    Linux alone tells that. Before torch, FAISS and scikit-learn are imported.
    """
    if sys.platform != "linux" or any(name in os.environ for name in SETTINGS):
        return
    cpus = os.sched_getaffinity(0)
    try:
        quietly = crowded(threads(len(cpus)), cpus)
    except (OSError, ValueError, LookupError):
        return  # it does not tell here
    if quietly:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def policy() -> str:
    """`spin`, the default of the libraries; `passive`; or what the user has set."""
    found = [f"{name}={os.environ[name]}" for name in SETTINGS if name in os.environ]
    if [setting.casefold() for setting in found] == ["omp_wait_policy=passive"]:
        return "passive"
    return ", ".join(found) or "spin"


def threads(cpus: int) -> int:
    """How many OpenMP will start."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) else cpus


def crowded(threads: int, cpus: Collection[int], root: Path = Path("/")) -> bool:
    """Whether others' threads and so many of ours need more cores than we may use.

    `cpus`: the numbers of those that we may run on; `root`: above proc/ and sys/. OSError,
    ValueError or LookupError where the system does not tell.
    """
    if threads == 1:
        return False  # it waits for nobody
    quota, group = strictest_quota(root)
    if threads > min(quota, len(cpus)):
        return True
    if threads + ready(root) <= min(quota, len(cpus)):
        return False
    # Who is ready may be so for a moment, on other CPUs, or outside our group.
    start, own = time.perf_counter(), time.process_time()
    on_cpus, in_group = used_on(cpus, root), used_in(group)
    spend(WINDOW)
    on_cpus, in_group = used_on(cpus, root) - on_cpus, used_in(group) - in_group
    seconds, own = time.perf_counter() - start, time.process_time() - own
    return any(
        threads + (used - own) / seconds > cores + NOTICED
        for used, cores in ((on_cpus, len(cpus)), (in_group, quota))
    )


def ready(root: Path) -> int:
    """Threads of all others that run or could, on the whole machine: the median over GLANCE."""
    counts: list[int] = []
    end = time.perf_counter() + GLANCE
    while not counts or time.perf_counter() < end:
        running, _, _ = (root / "proc/loadavg").read_text().split()[3].partition("/")
        counts.append(int(running))
    return sorted(counts)[len(counts) // 2] - 1  # the one that reads


def spend(seconds: float) -> None:
    """Compute, so that a stage which starts at the same moment sees this one."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def used_on(cpus: Collection[int], root: Path) -> float:
    """CPU seconds since boot that these CPUs computed or that their host kept from them."""
    names = {f"cpu{number}" for number in cpus}
    ticks = 0
    for row in (root / "proc/stat").read_text().splitlines():
        name, *fields = row.split()
        if name in names:
            user, nice, system, _, _, irq, softirq, steal = map(int, fields[:8])
            ticks += user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK")


def strictest_quota(root: Path) -> tuple[float, Path | None]:
    """Cores' worth of time that our control groups (v2) allow, and the folder of that group."""
    mount = root / "sys/fs/cgroup"
    found: list[tuple[float, Path | None]] = [(float("inf"), None)]
    if (own := root / "proc/self/cgroup").is_file():
        for row in own.read_text().splitlines():
            if row.startswith("0::"):
                folder = mount / row.removeprefix("0::").lstrip("/")
                groups = [folder, *(p for p in folder.parents if p.is_relative_to(mount))]
                found += [(quota, group) for group in groups if (quota := quota_of(group))]
    return min(found, key=lambda one: one[0])


def quota_of(group: Path) -> float | None:
    """Cores' worth of time that this one group allows; None without a limit."""
    try:
        quota, period = (group / "cpu.max").read_text().split()
    except OSError:
        return None  # the root of all groups, or no controller for the CPU
    return None if quota == "max" else int(quota) / int(period)


def used_in(group: Path | None) -> float:
    """CPU seconds that the group has used so far; 0 without one."""
    if group is None:
        return 0.0
    rows = (row.split() for row in (group / "cpu.stat").read_text().splitlines())
    return int(dict(rows)["usage_usec"]) / 1e6
