"""What is promised of kills, full disks, second writers and damaged files, with real processes.

benchmarks/survival.py goes on at random.
"""

import os
import shutil
import signal

import psutil
import pytest
from damage import FileTrials
from filelock import FileLock
from trials import (
    Trial,
    differing,
    facts,
    may_mount,
    mount,
    prepared,
    report_fault,
    send,
    small_disk,
    tracebacks,
)

from aebench.report.results import read_results
from aebench.workspace import Workspace

pytestmark = pytest.mark.slow
CHILDREN = "child fork session"


@pytest.fixture(scope="session")
def places(tmp_path_factory):
    """Folders of an undisturbed run: before anything, after `prepare`, and at its end."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / "undisturbed"
    found = {name: folder / name for name in ("nothing", "prepared", "finished")}
    with FileLock(f"{folder}.lock"):  # made by the test process that is first
        if not folder.is_dir():
            shutil.copytree(prepared(folder / "base/workspace").folder, found["nothing"])
            trial = Trial(found["nothing"], folder / "trial")
            for name, targets in (("prepared", ["prepare"]), ("finished", [])):
                assert trial.start("dvc", "repro", *targets).wait() == 0, trial.said()
                shutil.copytree(trial.workspace.folder, found[name], symlinks=True)
            trial.close()
    return found


@pytest.fixture
def trial(places, tmp_path):
    """Makes a trial that begins with one of the places."""
    made = []

    def begin(place, folder=tmp_path / "trial", **options):
        made.append(Trial(places[place], folder, **options))
        return made[-1]

    yield begin
    for one in made:
        one.close()


def same_as(places, trial, *parts):
    """Whether the files below these folders are those of the undisturbed run."""
    found, wanted = facts(trial.workspace.folder), facts(places["finished"])
    inside = [name for name in differing(found, wanted) if name.startswith(parts)]
    assert inside == [], trial.said()


# Stage, the rename below which folder before which it is halted, who gets which signal.
KILLS = [
    ("plan", "plan/", 2, "dvc", signal.SIGKILL),
    ("prepare", "results/", 2, "halted", signal.SIGKILL),
    ("train@tiny-0", "results/", 1, "halted", signal.SIGKILL),
    ("encode@tiny-0", "results/", 2, "dvc", signal.SIGKILL),
    ("knn@pixels-0", "results/", 2, "group", signal.SIGINT),
    ("report", "reports/", 5, "halted", signal.SIGTERM),
]


def test_a_kill_in_each_stage_between_two_renames_loses_nothing(places, trial):
    begun = trial("nothing", children=CHILDREN)
    before = {}
    for stage, place, number, victim, sent in KILLS:
        aim = {"who": stage, "event": "os.rename", "path": place, "number": number}
        dvc = begun.start("dvc", "repro", aim=aim)
        halted = begun.halted(dvc)
        assert halted, begun.said()
        if victim == "group":
            os.killpg(dvc.pid, sent)
        else:
            alone = {"halted": [psutil.Process(halted)], "dvc": [psutil.Process(dvc.pid)]}
            send(alone.get(victim) or begun.roles()[victim], sent)
        begun.go()
        assert dvc.wait(60) != 0, stage
        assert begun.left(2.0) == [] and begun.leftovers() == [], stage
        begun.again()
        now = begun.finished()
        assert before.items() <= now.items(), f"done again before {stage}"
        before = now
    assert begun.repro()[0] == 0, begun.said()
    assert before.items() <= begun.finished().items()
    same_as(places, begun, "")
    assert report_fault(begun.workspace.folder, read_results(Workspace(places["finished"]))) is None
    assert tracebacks(begun.said()) == [] and begun.parts() == []


def test_code_that_is_edited_under_a_training_and_undone_is_not_believed(places, trial):
    begun = trial("prepared")
    plugin = begun.workspace / "plugins/tiny.py"
    before = plugin.read_text()
    aim = {"who": "train@tiny-0", "event": "open", "path": "plugins/tiny.py", "number": 1}
    dvc = begun.start("dvc", "repro", "train", aim=aim)
    assert begun.halted(dvc), begun.said()
    plugin.write_text(
        before.replace("nn.Linear(latent, pixels)", "nn.Linear(latent, pixels, False)")
    )
    begun.go()
    assert dvc.wait(60) != 0
    assert not list(begun.workspace.folder.glob("r*s/tiny/0/*"))
    plugin.write_text(before)
    assert begun.repro("train")[0] == 0, begun.said()
    same_as(places, begun, "runs/tiny/0/weights", "results/tiny/0/train")


def test_a_second_writer_and_another_plan_leave_a_running_training_alone(places, trial):
    begun = trial("prepared")
    aim = {"who": "train@tiny-0", "event": "os.rename", "path": "runs/", "number": 1}
    dvc = begun.start("dvc", "repro", "train", aim=aim)
    assert begun.halted(dvc), begun.said()
    params = begun.workspace / "params.yaml"
    before = params.read_text()
    params.write_text(before.replace("epochs: 1", "epochs: 2"))
    for command, status in ((["train", "tiny", "0"], 1), (["plan", "--check"], 0), (["plan"], 1)):
        assert begun.start("aebench", *command).wait(60) == status, begun.said()
    params.write_text(before)
    begun.go()
    assert dvc.wait(60) == 0, begun.said()
    same_as(places, begun, "runs/tiny/0/weights", "results/tiny/0/train", "plan/")


@pytest.mark.skipif(not may_mount(), reason="no rights to mount a small disk")
def test_a_full_disk_is_no_result_and_the_next_run_goes_on(places, trial, tmp_path):
    disk = tmp_path / "disk"
    files = [path for path in places["prepared"].rglob("*") if path.is_file()]
    used = sum(path.stat().st_size // 4096 + 1 for path in files) * 4
    with small_disk(disk, used + 1200):
        begun = trial("prepared", disk)
        room = shutil.disk_usage(disk).free
        (disk / "fills").write_bytes(bytes(room - 30_000))
        assert begun.start("dvc", "repro", "encode").wait() != 0
        assert tracebacks(begun.said()) == [] and begun.parts() == []
        (disk / "fills").unlink()
        mount(disk, "remount,size=50m")
        assert begun.repro("encode")[0] == 0, begun.said()
        same_as(places, begun, "runs/", "results/tiny/0/encode", "results/tiny/0/train")
        begun.close()


def test_damaged_files_and_bad_input_are_told_or_hidden(places, tmp_path):
    """Chosen at random, and the same ones each time."""
    trials = FileTrials(0, tmp_path, places["finished"])
    found = [trials.run(number) for number in range(60)]
    assert [(what, faults) for _, what, faults, _ in found if faults] == []
