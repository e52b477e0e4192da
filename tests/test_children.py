"""What a stage starts ends with it, however it ends, and an end without a word gets its line."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from conftest import LIGHT

from aebench import children
from aebench.children import Kills, how, memory_kills, struck, until_end

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="stages are guarded on Linux alone")
# Starts one of each kind, tells their numbers, and ends the process that imports it, or waits.
STARTING = """
import json, os, signal, subprocess, sys, tempfile, threading, time

def asleep():
    while True:
        time.sleep(60)

def left():
    os.setsid()
    if os.fork() == 0:  # as daemons do
        os.execve("/bin/sleep", ["sleep", "600"], {})
    os._exit(0)

forked = os.fork() or asleep()
(os.fork() or left()) and os.wait()
subprocess.Popen(["sleep", "600"], start_new_session=True)
subprocess.Popen(["sh", "-c", "trap '' TERM INT HUP; sleep 600 & wait"])
threading.Thread(target=asleep).start()
tempfile.mkdtemp()
open("stage.part", "w").write(str(os.getpid()))
os.rename("stage.part", "stage")
END
"""
ENDS = {
    "normal": "pass",
    "exception": "raise KeyError('x')",
    "exit": "os._exit(0)",
    "exit 3": "os._exit(3)",
    "SIGKILL": "os.kill(os.getpid(), signal.SIGKILL)",
    "SIGSEGV": "os.kill(os.getpid(), signal.SIGSEGV)",
    "wait": "asleep()",
    "deaf": "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT]); asleep()",
}
EXITED = "most likely os._exit() in a plug-in or exit() in a library"
LINES = {
    "exit": f"the process ended itself, with status 0 and without a word: {EXITED}",
    "exit 3": f"the process ended itself, with status 3 and without a word: {EXITED}",
    "SIGKILL": "ended from outside by SIGKILL, not by the system's memory killer",
    "SIGSEGV": "crashed in compiled code (SIGSEGV) of a library or a plug-in",
}
STATUS = {"normal": 0, "exception": 1, "exit": 1, "exit 3": 3, "SIGKILL": 137, "SIGSEGV": 139}
# What DVC is for a stage: the parent of its shell. The torch that its server imports is a stub.
# Then it says how many servers it has.
DVC = """
import os, psutil, subprocess, sys
def serves(pid):
    try:
        words = psutil.Process(pid).cmdline()  # which its forks have, too
        ours = "aebench.forkserver" in words and str(os.getpid()) in words
        return ours and os.getsid(pid) == pid
    except (psutil.Error, OSError):
        return False
subprocess.run(["sh", "-c", "aebench plan --check; true"], env=os.environ | {"DVC_STAGE": "plan"})
print(sum(map(serves, psutil.pids())))
"""
# Runs a function as stages run: the process has had a child before.
GUARDED = """
import atexit, os, psutil, resource, signal, subprocess, sys, threading, time
from aebench import children

def run(stage):
    guardian = children.forked(stage, [], None)
    return guardian and children.awaited(guardian, "stage", "then again")

def asleep():
    time.sleep(600)
"""


@pytest.fixture
def starting(light, tmp_path):
    """A workspace whose plug-in starts processes when `aebench plan` imports it."""
    (tmp_path / "stubs").mkdir()
    (tmp_path / "stubs/torch.py").touch()
    (tmp_path / "temporary").mkdir()
    light.env |= {
        "PYTHONPATH": f"{tmp_path / 'stubs'}:{os.environ.get('PYTHONPATH', '')}",
        "TMPDIR": str(tmp_path / "temporary"),
    }
    light.env.pop("OMP_WAIT_POLICY", None)

    def command(end, *command, **options):
        text = STARTING.replace("END", ENDS.get(end, end))
        (light / "plugins/light.py").write_text(text + LIGHT)
        return subprocess.Popen(
            command or ["aebench", "plan", "--check"],
            cwd=light.folder,
            env=light.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    return light, command


def stage_of(workspace):
    """The process that imports the plug-in, and those that it has started."""
    end = time.monotonic() + 60
    while not (workspace / "stage").exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    return psutil.Process(int((workspace / "stage").read_text()))


def running(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def marked(workspace):
    """All that runs with the workspace as its folder: what started there, and what that did."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(workspace.folder) and process.pid != os.getpid():
                found.append(process)
        except psutil.Error:
            pass
    return found


def check_nothing_left(workspace):
    """Of processes and of temporary files. Their end takes a moment where nobody waits for it."""
    end = time.monotonic() + 5
    temporary = Path(workspace.env["TMPDIR"])
    while (left := marked(workspace) or list(temporary.iterdir())) and time.monotonic() < end:
        time.sleep(0.02)
    assert left == [] == list(temporary.iterdir())


def slow_except(cases, *fast):
    """The others are no less needed, but each takes seconds."""
    slow = pytest.mark.slow
    return [case if case in fast else pytest.param(case, marks=slow) for case in cases]


def guarded(code):
    """What the code prints, and its errors."""
    command = [sys.executable, "-c", GUARDED + code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.stdout, done.stderr


@pytest.mark.parametrize("end", slow_except(STATUS, "normal", "SIGKILL"))
def test_what_a_stage_started_ends_with_it(starting, end):
    workspace, command = starting
    stage = command(end)
    said, error = stage.communicate()
    # Those that print nothing hold the output, too: that it ended says that they are gone.
    assert marked(workspace) == [] and list(Path(workspace.env["TMPDIR"]).iterdir()) == []
    assert stage.returncode == STATUS[end]
    if end in LINES:
        assert error.startswith(f"aebench: error: plan --check: {LINES[end]}")
        assert error.endswith("; then run `dvc repro` again\n") and error.count("\n") == 1
    elif end == "exception":
        assert "light.py: KeyError: 'x'" in error and "Traceback" not in error
    else:
        assert error == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "number"),
    [("wait", signal.SIGINT), ("deaf", signal.SIGTERM), ("deaf", signal.SIGKILL)],
)
def test_what_a_user_ends_says_nothing_and_leaves_nothing(starting, end, number):
    workspace, command = starting
    started = command(end)
    stage_of(workspace)
    started.send_signal(number)
    _, error = started.communicate()
    expected = -number if number == signal.SIGKILL else 128 + number
    assert (started.returncode, error) == (expected, "")
    check_nothing_left(workspace)


def test_ctrl_c_in_a_terminal_reaches_all_and_lets_a_stage_tidy_up_once(starting):
    workspace, command = starting
    tidy = "try: asleep()\nfinally:\n    time.sleep(0.3); open('tidied', 'w').close()"
    started = command(tidy, start_new_session=True)
    stage_of(workspace)
    os.killpg(started.pid, signal.SIGINT)
    _, error = started.communicate()
    assert (started.returncode, error) == (130, "") and (workspace / "tidied").exists()
    check_nothing_left(workspace)


def test_ctrl_c_while_modules_are_imported_says_nothing(starting, tmp_path):
    workspace, command = starting
    early = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n"
    (tmp_path / "stubs/psutil.py").write_text(early)
    started = command("wait")
    assert started.communicate() == ("", "") and started.returncode == -signal.SIGINT


@pytest.mark.parametrize(
    "first",
    [
        # Held back while files are put in their places.
        "with uninterrupted(): interrupt()",
        # Nothing can pass on what is raised in these.
        "weakref.finalize(Thing(), interrupt)",
        "Thing.__del__ = lambda self: interrupt(); Thing()",
    ],
)
def test_the_first_ctrl_c_counts_wherever_it_comes_and_no_second(first):
    code = f"""
import weakref
from aebench.outs import uninterrupted
class Thing: pass
def interrupt(): os.kill(os.getpid(), signal.SIGINT)
def stage():
    try:
        {first}
        time.sleep(60)
    finally:
        interrupt()
        time.sleep(0.1)
        print("tidied")
    return 0
print(run(stage))
"""
    assert guarded(code) == ("tidied\n130\n", "")


VICTIMS = "dvc", "shell", "client", "guardian", "stage", "server"


@pytest.mark.parametrize("victim", slow_except(VICTIMS, "dvc", "guardian"))
def test_end_of_each_process_between_dvc_and_the_stage(starting, victim):
    workspace, command = starting
    dvc = command("deaf" if victim == "shell" else "wait", sys.executable, "-c", DVC)
    stage = stage_of(workspace)
    guardian = stage.parent()
    server = guardian.parent()
    assert "aebench.forkserver" in server.cmdline()
    (shell,) = [child for child in psutil.Process(dvc.pid).children() if child != server]
    (client,) = [child for child in shell.children() if child != server]
    victims = {"dvc": psutil.Process(dvc.pid), "shell": shell, "client": client}
    victims |= {"guardian": guardian, "stage": stage, "server": server}
    victims[victim].kill()
    if victim == "server":
        while guardian.parent() == server:
            time.sleep(0.01)
        time.sleep(0.3)
        assert stage.is_running()  # it can do without
        client.terminate()
    said, error = dvc.communicate()
    if victim == "guardian":
        assert said == "1\n"  # which serves the next stage, too
    assert error.count("aebench: error: plan --check: ") == (victim in ("guardian", "stage"))
    check_nothing_left(workspace)
    while running(server):  # nobody may wait for it
        time.sleep(0.01)


def test_end_of_dvc_while_the_server_still_imports_torch(starting, tmp_path):
    workspace, command = starting
    slow = "import time\nopen('importing', 'w').close()\ntime.sleep(60)\n"
    (tmp_path / "stubs/torch.py").write_text(slow)
    dvc = command("wait", sys.executable, "-c", DVC)
    while not (workspace / "importing").exists():
        assert dvc.poll() is None
        time.sleep(0.01)
    dvc.kill()
    dvc.communicate(timeout=60)
    check_nothing_left(workspace)


def test_a_stage_whose_dvc_ended_before_it_looked_does_not_begin(starting):
    workspace, command = starting
    shell = ["sh", "-c", "sleep 0.5; aebench plan; true"]
    dvc = "import os, subprocess; env = os.environ | {'DVC_STAGE': 'plan'}\n"
    dvc += f"subprocess.Popen({shell}, env=env)"
    # Who takes over orphans, as systemd: by its words neither DVC nor an interpreter.
    init = """
import ctypes, os
ctypes.CDLL(None).prctl(36, 1)
if os.fork() == 0:
    os.setsid()
    os.execl(os.environ["FIRST"], "first", "-c", os.environ["CODE"])
try:
    while True:
        os.wait()
except ChildProcessError:
    pass
"""
    workspace.env |= {"FIRST": sys.executable, "CODE": dvc}
    started = command("wait", "init", "-c", init, executable=sys.executable)
    _, error = started.communicate(timeout=60)
    said = "aebench: error: plan: the DVC that started this has ended; run `dvc repro` again\n"
    assert error.endswith(said) and not (workspace / "stage").exists()


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["dvc", "client", "stage"])
def test_where_the_kernel_does_not_tell_of_ends_they_are_seen_all_the_same(
    starting, tmp_path, victim
):
    workspace, command = starting
    (tmp_path / "stubs/sitecustomize.py").write_text("import os; del os.pidfd_open")
    dvc = command("wait", sys.executable, "-c", DVC)
    stage = stage_of(workspace)
    client = stage.parents()[1]
    assert "aebench.forkserver" not in client.cmdline()
    {"dvc": psutil.Process(dvc.pid), "client": client, "stage": stage}[victim].kill()
    _, error = dvc.communicate()
    assert error.count("aebench: error: plan --check: ") == (victim == "stage")
    check_nothing_left(workspace)


@pytest.mark.slow
def test_output_ends_with_the_stage_for_who_reads_it(starting):
    """Also where a process that it left holds the pipe."""
    _, command = starting
    piped = command("normal", "sh", "-c", "aebench plan --check 2>&1 | cat; echo over")
    assert piped.communicate()[0].endswith("over\n")


@pytest.mark.slow
def test_stage_in_a_stage_has_a_guardian_of_its_own(starting):
    workspace, command = starting
    nested = "if 'INNER' in os.environ: asleep()\n"
    nested += "subprocess.Popen(['aebench', 'plan'], env=os.environ | {'INNER': ''}); asleep()"
    started = command(nested)
    stage_of(workspace)
    end = time.monotonic() + 60
    while sum("aebench-" in str(path) for path in Path(workspace.env["TMPDIR"]).glob("*/*/")) < 2:
        assert time.monotonic() < end
        time.sleep(0.02)
    started.kill()
    started.communicate()
    check_nothing_left(workspace)


@pytest.mark.slow
@pytest.mark.parametrize("temporary", ["/proc/nowhere", "{long}"])
def test_without_a_folder_for_temporary_files_a_stage_goes_on(starting, tmp_path, temporary):
    workspace, command = starting
    workspace.env["TMPDIR"] = temporary.format(long=tmp_path / ("t" * 160))
    started = command("normal")
    _, error = started.communicate()
    assert (started.returncode, error) == (0, "")


@pytest.mark.slow
def test_without_further_processes_a_stage_ends_with_its_dvc_all_the_same(starting, tmp_path):
    workspace, command = starting
    refusing = "import os\ndef fork(): raise BlockingIOError\nos.fork = fork\n"
    (tmp_path / "stubs/sitecustomize.py").write_text(refusing)
    dvc = command("wait", sys.executable, "-c", DVC)
    alone = "import os, time\nopen('stage.part', 'w').write(str(os.getpid()))\n"
    alone += "os.rename('stage.part', 'stage')\ntime.sleep(600)\n"
    (workspace / "plugins/light.py").write_text(alone)
    stage = stage_of(workspace)
    assert "guard" not in stage.parent().name()
    dvc.kill()
    dvc.wait()
    psutil.wait_procs([stage], timeout=10)
    left = running(stage)
    if left:
        stage.kill()
    dvc.communicate()
    assert not left


def test_what_a_process_had_before_outlives_the_guardian(tmp_path):
    """As the background jobs of a shell that became this process, and what those have started."""
    said, error = guarded("""
job = subprocess.Popen(["sh", "-c", "sleep 600 & echo; wait"], stdout=subprocess.PIPE)
job.stdout.readline()
before = psutil.Process().children(recursive=True)
def stage():
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    os.kill(os.getppid(), signal.SIGKILL)
    asleep()
print(run(stage), len(before), psutil.Process().children(recursive=True) == before)
for process in before:
    process.kill()
""")
    assert said == "1 2 True\n"
    line = "aebench: error: stage: its guardian was killed, and the stage with it; then again\n"
    assert error == line


def test_what_a_process_leaves_that_ends_during_the_look_is_ended(tmp_path):
    said, error = guarded("""
def stage():
    command = ["sh", "-c", "sleep 600 >&2 & echo; wait"]
    left = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    left.stdout.readline()
    return 0
def look(recursive=False, look=children.children):
    found = look(recursive)
    for process in found:
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    return found
children.children = look
print(run(stage), left := psutil.Process().children(recursive=True))
for process in left:
    process.kill()
""")
    assert (said, error) == ("0 []\n", "")


def test_a_stage_ends_as_an_interpreter_does(tmp_path):
    said, error = guarded("""
def ending():
    atexit.register(asleep)  # runs last, and is not waited for
    atexit.register(print, "registered")
    threading.Thread(target=asleep).start()
    return 7
print(run(ending), [run(lambda: sys.exit(code)) for code in (None, 0, 3, True, "text", [])])
""")
    assert (said, error) == ("registered\n7 [0, 0, 3, 1, 1, 1]\n", "text\n[]\n")


def test_cpu_time_of_a_stage_is_its_client_s(tmp_path):
    """Also when whoever started the client does not want to know of its children's ends."""
    said, error = guarded("""
def busy():
    while time.process_time() < 0.3:
        pass
    return 5
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print(run(busy), sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) > 0.2)
""")
    assert (said, error) == ("5 True\n", "")


def test_what_ends_a_guardian_is_told_and_one_that_does_not_begin_leaves_nothing(tmp_path):
    said, error = guarded("""
def broken(*arguments):
    raise ZeroDivisionError("a fault")
children.until_end = broken
print(run(asleep))
children.memory_kills = broken
print(run(asleep), psutil.Process().children())
""")
    assert said == "1\nNone []\n"
    told = "its guardian ended: ZeroDivisionError: a fault"
    assert error == f"aebench: error: stage: {told}; then again\n"


def test_a_stage_that_the_system_does_not_end_is_left_alone(monkeypatch):
    near, far = socket.socketpair()
    near.close()
    sent, really = [], os.kill
    with subprocess.Popen(["sleep", "600"]) as stuck:

        def kill(pid, number):
            sent.append(number)
            if len(sent) > 5:
                really(pid, signal.SIGKILL)

        monkeypatch.setattr(children.os, "kill", kill)
        monkeypatch.setattr(children, "PATIENCE", 0.02)
        monkeypatch.setattr(children, "LIMIT", 0.02)
        with far, pytest.raises(TimeoutError, match="SIGKILL does not end process"):
            until_end(far, stuck.pid, far, [])
        assert sent == [signal.SIGINT, signal.SIGKILL]
        monkeypatch.undo()
        stuck.kill()


def test_memory_killer_is_counted_in_our_group_or_on_the_machine(tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    assert memory_kills(tmp_path) is None
    (tmp_path / "proc/vmstat").write_text("nr_free_pages 7\noom_kill 5\n")
    (tmp_path / "proc/self/cgroup").write_text("4:memory:/x\n0::/mine\n")
    assert memory_kills(tmp_path) == Kills(5, own=False)
    (tmp_path / "sys/fs/cgroup/mine").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/mine/memory.events").write_text("oom 9\noom_kill 2\n")
    assert memory_kills(tmp_path) == Kills(2, own=True)


@pytest.mark.parametrize(
    ("code", "before", "after", "line"),
    [
        (-9, Kills(1, True), Kills(2, True), "ended by the system's memory killer (SIGKILL)"),
        (-9, Kills(1, True), Kills(1, True), "ended from outside by SIGKILL, not by the system's"),
        (-9, Kills(1, False), Kills(2, False), "ended by SIGKILL, perhaps from the system's"),
        (-9, None, None, "ended by SIGKILL, perhaps from the system's"),
        (-11, Kills(1, True), Kills(2, True), "crashed in compiled code (SIGSEGV)"),
        (-15, Kills(1, True), Kills(2, True), "ended from outside by SIGTERM"),
    ],
)
def test_only_what_the_memory_killer_does_is_laid_at_its_door(code, before, after, line):
    assert how(code, struck(before, after)).startswith(line)
