"""A DVC that holds a workspace is noticed, unless it started us, has ended or is another one's."""

import json
import os
import subprocess
import sys
import time

import pytest

from aebench import holder
from aebench.errors import AebenchError
from aebench.holder import check_not_held
from aebench.workspace import Workspace

# As DVC does it between stages: the lock, its number in the file, the file open.
WAITING = "import sys; print(1, flush=True); sys.stdin.read()"
LOCKING = f"import sys, zc.lockfile as z; lock = z.LockFile(sys.argv[1]); {WAITING}"


@pytest.fixture
def locks(tmp_path, monkeypatch):
    """The folder of the locks of the workspace `tmp_path`; patience of 0.1 s."""
    monkeypatch.setattr(holder, "PATIENCE", 0.1)
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    return tmp_path / ".dvc/tmp"


@pytest.fixture
def process():
    """Starts Python with the code and arguments; it runs until its input or the test ends."""
    started = []

    def start(code, *arguments):
        command = [sys.executable, "-c", code, *map(str, arguments)]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True))
        assert started[-1].stdout.readline()
        return started[-1]

    yield start
    for child in started:
        child.communicate()


def running(folder, pid, words="/venv/bin/dvc repro"):
    """What DVC writes while a stage's command runs."""
    entry = {"pid": pid, "cmd": words}
    (folder / "rwlock").write_text(json.dumps({"write": {"/o": entry}, "read": {"/d": [entry]}}))


def refused(root):
    with pytest.raises(AebenchError) as error:
        check_not_held(Workspace(root))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_dvc_that_runs_a_stage_is_named(locks, tmp_path, process):
    child = process(WAITING, "dvc", "repro")
    running(locks, child.pid)
    text = refused(tmp_path)
    assert f"`dvc repro` (process {child.pid}) holds this workspace" in text
    assert "plan --check" in text
    (tmp_path / "part").mkdir()  # a workspace below a larger repository
    assert refused(tmp_path / "part") == text
    check_not_held(Workspace(tmp_path), child.pid)  # as it would be in the process itself


def test_a_dvc_between_two_stages_is_named(locks, tmp_path, process):
    child = process(LOCKING, locks / "lock", "dvc", "status")
    assert f"`dvc status` (process {child.pid})" in refused(tmp_path)
    child.communicate()
    assert (locks / "lock").read_text().strip() == str(child.pid)  # stays
    check_not_held(Workspace(tmp_path))


def test_the_lock_of_a_moment_is_waited_for(locks, tmp_path, process, monkeypatch):
    monkeypatch.setattr(holder, "PATIENCE", 60)
    child = process(LOCKING, locks / "lock", "dvc", "status")
    looks = []
    seen = holder.holders

    def end_after_two_looks(folder):
        looks.append(seen(folder))
        if len(looks) == 2:
            child.communicate()
        return looks[-1]

    monkeypatch.setattr(holder, "holders", end_after_two_looks)
    check_not_held(Workspace(tmp_path))
    assert [bool(look) for look in looks] == [True, True, False]


def test_what_a_killed_dvc_left_holds_nothing(locks, tmp_path, process):
    child = process(LOCKING, locks / "lock", "dvc", "repro")
    running(locks, child.pid)
    assert refused(tmp_path)
    child.kill()
    child.wait()
    check_not_held(Workspace(tmp_path))


def test_a_later_process_of_that_number_holds_nothing(locks, tmp_path, process):
    child = process(WAITING, "dvc", "repro")
    running(locks, child.pid, "/venv/bin/dvc repro --force")  # of another command
    (locks / "lock").write_text(f" {child.pid}\n")  # has not the file open
    check_not_held(Workspace(tmp_path))
    running(locks, child.pid)
    assert refused(tmp_path)
    hour_ago = time.time() - 3600  # before it began
    os.utime(locks / "rwlock", (hour_ago, hour_ago))
    check_not_held(Workspace(tmp_path))


OF_NOBODY = '{"write": {"/o": {"pid": -5, "cmd": "dvc"}}}'
DAMAGED = "", "{", "[]", "{}", '{"write": {"/o": {}}}', "\0", OF_NOBODY, "[" * 10**5


@pytest.mark.parametrize("content", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_rwlock_holds_nothing(locks, tmp_path, content):
    (locks / "rwlock").write_text(content)
    (locks / "lock").write_text(content and "7" * 5000 + "\n")
    check_not_held(Workspace(tmp_path))


def test_a_lock_of_hard_links_is_told_with_what_to_do(locks, tmp_path):
    (locks / "lock").write_text(str(locks / "0123.lock"))
    assert "remove that file" in refused(tmp_path)


def test_a_parent_of_number_0_as_on_macos_is_not_taken_for_the_unknown_one(
    locks, tmp_path, monkeypatch
):
    (locks / "lock").write_text(str(locks / "0123.lock"))
    monkeypatch.setattr(holder, "with_ancestors", lambda process: iter([os.getpid(), 1, 0]))
    assert "remove that file" in refused(tmp_path)


def test_without_dvc_nobody_holds(tmp_path):
    check_not_held(Workspace(tmp_path))


def test_the_dvc_that_started_us_is_none_to_wait_for(tmp_path, monkeypatch):
    """Real DVC: its stage asks, then we do while it runs."""
    monkeypatch.setattr(holder, "PATIENCE", 0.1)
    code = "from aebench.holder import *; check_not_held(Workspace())"
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n  ask:\n    cmd: >-\n"
        f"      {sys.executable} -c '{code}' && touch asked;\n"
        "      while [ ! -e go ]; do sleep 0.02; done; cp in out\n"
        "    deps: [in]\n    outs: [out]\n"
    )
    (tmp_path / "in").write_text("1")
    for command in (["init", "-q", "--no-scm"], ["config", "core.analytics", "false"]):
        subprocess.run([sys.executable, "-m", "dvc", *command], cwd=tmp_path, check=True)
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "dvc", "repro"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True) as dvc:
        while not (tmp_path / "asked").exists() and dvc.poll() is None:
            time.sleep(0.02)
        text = refused(tmp_path)
        (tmp_path / "go").touch()
        output, errors = dvc.communicate()
    assert dvc.returncode == 0, output + errors
    assert f"`dvc repro` (process {dvc.pid})" in text
    check_not_held(Workspace(tmp_path))
