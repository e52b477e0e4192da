"""Threads spin on cores that nobody else wants, and wait quietly beside others."""

import itertools
import json
import os
import sys
from types import SimpleNamespace

import pytest

from aebench import waiting
from aebench.records.origin import Provenance

linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells")
TICK = 1 / os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 0.01


class Machine:
    """Faked proc/ and sys/: what others run, on which CPUs, and the control groups' limits."""

    def __init__(self, root, patch):
        self.root = root
        (root / "proc/self").mkdir(parents=True)
        self.busy = {}  # CPU -> the share of it that others use
        self.used = {}  # group -> cores that it uses
        self.seconds = 0.0  # gone by
        self.own = 0.0  # of them this process computed
        self.windows = 0
        clock = SimpleNamespace(perf_counter=lambda: self.seconds, process_time=lambda: self.own)
        patch.setattr(waiting, "time", clock)
        patch.setattr(waiting, "GLANCE", 0.0)
        patch.setattr(waiting, "spend", self.spend)
        self.ready(0)
        self.write()

    def ready(self, others):
        """How many threads of others the system says to be running."""
        (self.root / "proc/loadavg").write_text(f"9.00 9.00 9.00 {others + 1}/90 28241\n")

    def group(self, name, limit, used):
        """A control group below those of before, the process's own is the last."""
        folder = self.root / "sys/fs/cgroup" / name
        folder.mkdir(parents=True)
        (folder / "cpu.max").write_text(f"{limit}\n")
        (self.root / "proc/self/cgroup").write_text(f"1:name=systemd:/\n0::/{name}\n")
        self.used[folder] = used
        self.write()

    def spend(self, seconds):
        """Time goes by: others compute, this process does not."""
        self.windows += 1
        self.seconds += seconds
        self.write()

    def write(self):
        rows = ["cpu  1 2 3 4 5 6 7 8 9 10"]
        for cpu in range(8):
            user = round(self.busy.get(cpu, 0.0) * self.seconds / TICK)
            rows.append(f"cpu{cpu} {user} 0 100 {self.seconds // TICK:.0f} 9999 0 0 0 0 0")
        (self.root / "proc/stat").write_text("\n".join([*rows, "intr 1 2 3", ""]))
        for folder, used in self.used.items():
            text = f"usage_usec {used * self.seconds * 1e6:.0f}\nuser_usec 0\n"
            (folder / "cpu.stat").write_text(text)

    def crowded(self, threads=2, cpus=(0, 1)):
        return waiting.crowded(threads, cpus, self.root)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    return Machine(tmp_path, monkeypatch)


def test_idle_cores_are_seen_at_a_glance(machine):
    assert not machine.crowded() and machine.windows == 0


def test_one_busy_core_of_two_is_a_neighbour(machine):
    machine.ready(1)
    machine.busy = {1: 1.0}
    assert machine.crowded()


def test_what_is_ready_for_a_moment_is_none(machine):
    machine.ready(3)
    machine.busy = {0: 0.2}
    assert not machine.crowded() and machine.windows == 1


def test_many_cores_have_room_for_a_neighbour(machine):
    machine.ready(1)
    machine.busy = {5: 1.0}
    assert not machine.crowded(threads=4, cpus=range(8)) and machine.windows == 0
    assert machine.crowded(threads=8, cpus=range(8))
    machine.ready(6)
    machine.busy = dict.fromkeys(range(6), 1.0)
    assert machine.crowded(threads=4, cpus=range(8))


def test_cores_that_we_may_not_use_are_the_others(machine):
    machine.ready(6)
    machine.busy = dict.fromkeys(range(2, 8), 1.0)
    assert not machine.crowded()
    assert machine.crowded(cpus=(0, 2))


def test_more_threads_than_cores_wait_quietly_beside_nobody(machine):
    assert machine.crowded(threads=3) and machine.crowded(cpus=[4])
    assert not machine.crowded(threads=1, cpus=[4])  # it waits for nobody


def test_a_control_group_limits_the_cores(machine):
    machine.group("slice", "max 100000", used=7.0)
    machine.group("slice/job", "200000 100000", used=0.0)
    machine.group("slice/job/step", "max 100000", used=0.0)
    assert not machine.crowded(cpus=range(8)) and machine.windows == 0
    assert machine.crowded(threads=8, cpus=range(8))


@pytest.mark.parametrize(("used", "crowded"), [(0.0, False), (1.0, True)])
def test_a_neighbour_within_the_limit_of_the_group(machine, used, crowded):
    machine.group("job", "200000 100000", used)
    machine.ready(5)
    machine.busy = dict.fromkeys(range(5), 1.0)
    assert machine.crowded(cpus=range(8)) == crowded


def test_own_time_is_no_neighbour(machine, monkeypatch):
    machine.ready(1)
    machine.busy = {0: 1.0}

    def spend(seconds):
        machine.own += seconds
        machine.spend(seconds)

    monkeypatch.setattr(waiting, "spend", spend)
    assert not machine.crowded() and machine.windows == 1


@pytest.mark.parametrize(
    ("siblings", "expected"),
    [
        ({0: 0, 1: 1, 2: 2, 3: 3}, "{0},{1},{2},{3}"),
        ({0: 0, 1: 0, 2: 1, 3: 1}, "{0},{2},{1},{3}"),  # two CPUs a core, side by side
        ({0: 0, 1: 1, 2: 0, 3: 1}, "{0},{1},{2},{3}"),  # or far from one another
        ({2: 1, 3: 1, 7: 3}, "{2},{7},{3}"),
    ],
)
def test_threads_go_to_a_core_each_first(tmp_path, siblings, expected):
    for cpu, core in siblings.items():
        folder = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/topology"
        folder.mkdir(parents=True)
        (folder / "physical_package_id").write_text("0\n")
        (folder / "core_id").write_text(f"{core}\n")
    assert waiting.places(siblings, tmp_path) == expected


@linux
@pytest.mark.parametrize(
    ("threads", "bind", "expected"),
    [
        ("", True, "passive, bound"),
        ("2", True, "passive, bound"),
        ("1", True, "passive"),  # others of one thread would be bound to the same core
        ("2", False, "passive"),
    ],
)
def test_threads_are_bound_where_they_fill_the_cores(monkeypatch, threads, bind, expected):
    monkeypatch.setattr(os, "environ", {"OMP_NUM_THREADS": threads})
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    monkeypatch.setattr(waiting, "places", lambda cpus: "{0},{1}")
    monkeypatch.setattr(waiting, "crowded", lambda threads, cpus: True)
    waiting.decide(bind)
    assert waiting.policy() == expected


@linux
def test_the_users_own_setting_stays(monkeypatch):
    monkeypatch.setattr(waiting, "crowded", lambda threads, cpus: True)
    for name, value in (
        ("OMP_WAIT_POLICY", "active"),
        ("GOMP_SPINCOUNT", "3000"),
        ("KMP_BLOCKTIME", "infinite"),
        ("OMP_PROC_BIND", "spread"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            before = dict(os.environ)
            waiting.decide(bind=True)
            assert dict(os.environ) == before
            assert waiting.policy() == f"{name}={value}"


@linux
def test_where_nothing_is_told_the_default_stays(monkeypatch, tmp_path):
    """Neither without proc/, nor with files that hold something else, nor an odd number."""
    crowded, texts = waiting.crowded, [None, "", "0.00 0.00 0.00 -/0 0\n"]
    monkeypatch.setattr(waiting, "crowded", lambda *a: crowded(*a, root=tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    (tmp_path / "proc").mkdir()
    for loadavg, stat in itertools.product(texts, texts):
        for name, text in (("loadavg", loadavg), ("stat", stat)):
            if text is not None:
                (tmp_path / "proc" / name).write_text(text)
        waiting.decide(bind=True)
        assert waiting.policy() == "spin"


def test_times_say_how_threads_waited():
    old = {"commit": None, "dirty": None, "versions": {}, "cpu": "X", "cores": 2, "date": ""}
    before = Provenance.model_validate(old)
    assert before.machine == "X, 2 cores, None threads"
    for policy, words in (
        ("spin", ""),
        ("passive", ", threads waited quietly (passive)"),
        ("passive, bound", ", threads waited quietly (passive, bound)"),
        ("KMP_BLOCKTIME=1", ", KMP_BLOCKTIME=1"),
    ):
        found = Provenance.model_validate(old | {"wait_policy": policy})
        assert found.machine == before.machine + words  # what times are compared within


# Its note: how the process was started that has imported torch, and what FAISS would read.
NOTING = """\
import os
from pathlib import Path
from aebench import hookimpl

def build(shape, latent):
    from torch import nn

    class Noting(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(
                nn.Conv2d(1, 32, 3), nn.GELU(), nn.Flatten(), nn.Linear(32 * 36, latent)
            )
            self.decoder = nn.Sequential(nn.Linear(latent, 64), nn.Unflatten(1, shape))
            started = Path("/proc/self/environ").read_text().split(chr(0))
            self.note = f"{'OMP_WAIT_POLICY=PASSIVE' in started}, {os.getenv('OMP_WAIT_POLICY')}"

    return Noting()

@hookimpl
def register_models(register):
    register("light", build)
"""
# Two threads on one core want more than there is, whatever others do.
ON_ONE_CORE = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
RUN = "import sys; from aebench.cli import main; sys.exit(main())"


@linux
def test_stages_under_dvc_compute_the_same_bits_either_way_and_record_it(light):
    (light / "plugins/light.py").write_text(NOTING)
    light.run("aebench", "plan")
    light.run("aebench", "prepare")
    light.env |= {"DVC_STAGE": "train@one-0", "OMP_NUM_THREADS": "2"}

    def train(code):
        light.run(sys.executable, "-c", code, "train", "one", "0")
        return json.loads((light / "results/one/0/train.json").read_text())

    quietly = train(ON_ONE_CORE + RUN)
    assert quietly["provenance"]["wait_policy"] == "passive, bound"
    assert quietly["note"] == "True, PASSIVE"
    light.env["GOMP_SPINCOUNT"] = "1000"
    spinning = train(RUN)
    assert spinning["provenance"]["wait_policy"] == "GOMP_SPINCOUNT=1000"
    assert spinning["note"] == "False, None"
    assert spinning["provenance"]["threads"] == quietly["provenance"]["threads"] == 2
    assert spinning["weights_hash"] == quietly["weights_hash"]
