"""Whether the threads of OpenMP spin or sleep while they wait for one another.

Spinning, their default, is faster on cores that nobody else wants. Beside a neighbour a spinning
thread keeps the core that the one it waits for needs, and training takes several times as long.
Sleeping is not enough: whom the system wakes on the core of its waker it lets take turns with it,
while oneDNN's kernels spin by themselves until all threads are there. Two trainings at once took
more than 20 s an epoch so, 0.9 s with each thread bound to a core of its own (cnn, 2,500 images,
AMX, 2 cores; benchmarks/neighbour.txt). torch, FAISS and scikit-learn each bring an OpenMP of their
own, which reads the environment when it is loaded: so it is decided first, and holds for the
process. No result's bits depend on it.
"""

import os
import re
import sys
import time
from collections import Counter
from collections.abc import Collection
from pathlib import Path

# A user's own value of any of them stays, and nothing is decided.
SETTINGS = (
    *("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"),
    *("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY"),
)
GLANCE = 0.005  # seconds: an idle machine is seen in these, 500 readings
WINDOW = 0.05  # seconds in which others' CPU time is counted: 5 of the system's ticks
NOTICED = 0.5  # cores of others: less is within the ticks' error


def decide(bind: bool) -> None:
    """Let the threads of this process and of its children sleep where others want their cores.

    `bind`: and keep them from sharing one, where there are as many as cores. That binds the first
    thread, too, whose children then share its core: not for what computes beside OpenMP.

    Linux alone tells that. Before torch, FAISS and scikit-learn are imported.
    """
    if sys.platform != "linux" or any(name in os.environ for name in SETTINGS):
        return
    cpus = os.sched_getaffinity(0)
    try:
        if not crowded(threads(len(cpus)), cpus):
            return
        # Of fewer threads than CPUs several processes would be bound to the same.
        if bind and threads(len(cpus)) >= len(cpus):
            os.environ |= {"OMP_PLACES": places(cpus), "OMP_PROC_BIND": "TRUE"}
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    except (OSError, ValueError, LookupError):
        return  # it does not tell here


def policy() -> str:
    """`spin`, the default of the libraries; `passive`; `passive, bound`; or the user's own."""
    found = {name: os.environ[name] for name in SETTINGS if name in os.environ}
    if found.get("OMP_WAIT_POLICY", "").casefold() == "passive":
        if len(found) == 1:
            return "passive"
        if found.keys() == {"OMP_WAIT_POLICY", "OMP_PROC_BIND", "OMP_PLACES"}:
            return "passive, bound"
    return ", ".join(f"{name}={value}" for name, value in found.items()) or "spin"


def unbind() -> None:
    """Undo the binding that was decided: for processes that this one starts and that compute.

    They would share the core of its first thread, and each bind its own threads to the same ones.
    """
    if policy() == "passive, bound":
        del os.environ["OMP_PROC_BIND"]
        cpus = re.findall(r"\d+", os.environ.pop("OMP_PLACES"))
        os.sched_setaffinity(0, map(int, cpus))


def threads(cpus: int) -> int:
    """How many OpenMP will start."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) else cpus


def places(cpus: Collection[int], root: Path = Path("/")) -> str:
    """The CPUs in the order in which threads take them: `{0},{2},{1},{3}`, one of each core first.

    torch starts as many threads as there are cores, which may be half of the CPUs.
    """
    before: Counter[tuple[str, str]] = Counter()  # of each core
    order = []
    for cpu in sorted(cpus):
        topology = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
        package, core = (topology / name for name in ("physical_package_id", "core_id"))
        place = package.read_text(), core.read_text()
        order.append((before[place], cpu))
        before[place] += 1
    return ",".join(f"{{{cpu}}}" for _, cpu in sorted(order))


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
