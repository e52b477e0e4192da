"""The server whose forks stages are: who reaches it, what it gets, and what is done without."""

import json
import os
import resource
import sys

import pytest
from conftest import LIGHT

from aebench import children, forkserver

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="stages are forks on Linux alone")
# Says what the process is that imports it: `aebench plan` does, in a fork where there is a server.
TELLING = """
import json, os, psutil, sys
above = [process.cmdline() for process in psutil.Process().parents()[:2]]
told = {
    "fork": any("aebench.forkserver" in words for words in above),
    "server": above[1][3:5],
    "environment": {k: os.fsencode(v).hex() for k, v in os.environ.items()},
    "folder": os.getcwd(),
    "streams": [os.readlink(f"/proc/self/fd/{number}") for number in range(3)],
    "umask": os.umask(0o22),
}
with open(os.environ.get("TOLD", "told"), "a") as file:
    print(json.dumps(told), file=file)
"""
# What DVC is for a stage: its parent, without the name of a stage in its own environment.
DVC = """
import os, subprocess, sys, time
stage = os.environ | {"DVC_STAGE": "plan"}
def run(command="aebench plan --check", **more):
    out = subprocess.DEVNULL
    return subprocess.run(command, shell=True, env=stage | more, stdout=out).returncode
"""
# Binds the name of a stage's server, plays it, and says whether anybody sends something there.
SQUATTER = """
import contextlib, os, socket
def take(name):
    taken = socket.socket(socket.AF_UNIX)
    taken.bind(name.replace("@", "\\0"))
    taken.listen()
    os.write(listens, b"x")
    while True:
        connection, _ = taken.accept()
        got = b""
        with contextlib.suppress(OSError):  # it has gone again
            connection.sendall(b"hr{}")
            got = connection.recvmsg(1 << 16, 1 << 10)[:2]
        print("got", any(got), flush=True)
"""


@pytest.fixture
def served(light, tmp_path):
    """A workspace whose stages meet a server, of a torch that is a stub: runs code as DVC does."""
    (tmp_path / "stubs").mkdir()
    (tmp_path / "stubs/torch.py").touch()
    (tmp_path / "temporary").mkdir()
    light.env |= {
        "PYTHONPATH": f"{tmp_path / 'stubs'}:{os.environ.get('PYTHONPATH', '')}",
        "TMPDIR": str(tmp_path / "temporary"),
        "OMP_NUM_THREADS": "1",
    }
    (light / "plugins/light.py").write_text(TELLING + LIGHT)

    def run(code):
        done = light.run(sys.executable, "-c", DVC + code)
        path = light / "told"
        told = [json.loads(row) for row in path.read_text().splitlines()] if path.exists() else []
        path.unlink(missing_ok=True)
        assert list((tmp_path / "temporary").iterdir()) == []
        return told, done.stdout + done.stderr

    run.workspace = light
    return run


def test_fork_has_all_of_what_was_started(served):
    """Set, changed, removed, empty and undecodable variables, folder, input and output.

    Two stages at once, of one server, and one without DVC.
    """
    told, said = served(r"""
stage.update(GONE="x", OTHER="old")
start = "umask 077; FOO=1 EMPTY= OTHER='new line' BYTES=$(printf '\\377=') exec env -u GONE"
start = f"cd plugins/..; {start}"
first = "(umask 077; exec aebench plan --check | cat)"
run(f"{first} & ({start} aebench plan --check </dev/zero) & wait")
run(f"{start} -u DVC_STAGE aebench plan --check </dev/zero")
""")
    first, fork, plain = told
    if "FOO" in first["environment"]:
        first, fork = fork, first
    assert said == "" and fork["server"] == first["server"] and not plain["fork"]
    assert first["fork"] and first["environment"]["GONE"] == b"x".hex()
    there, expected = fork["environment"], plain["environment"]
    assert there.pop("DVC_STAGE") == b"plan".hex()
    assert there.pop("TMPDIR") != expected.pop("TMPDIR")  # each its own
    assert there == expected and "GONE" not in there
    assert (there["BYTES"], there["EMPTY"]) == (b"\xff=".hex(), "")
    for key in ("folder", "umask", "streams"):
        assert fork[key] == plain[key]
    assert fork["umask"] == 0o77 and fork["streams"][0] == "/dev/zero"


def test_what_a_fork_cannot_take_over_is_a_part_of_the_name(monkeypatch):
    dvc = children.known(os.getpid())
    before = forkserver.key_of(dvc)
    monkeypatch.setenv("FOO", "1")
    assert forkserver.key_of(dvc) == before
    others = {forkserver.key_of(children.Known(dvc.pid, 1))}  # of the same number, started before
    mask = os.umask(0o77)
    others.add(forkserver.key_of(dvc))
    os.umask(mask)
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (1 if soft != 1 else 0, hard))
    others.add(forkserver.key_of(dvc))
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
    monkeypatch.setenv("OMP_NUM_THREADS", "17")
    others.add(forkserver.key_of(dvc))
    assert len({before, *others}) == 5


NAMED = """
from aebench import children, forkserver
dvc = children.known(os.getpid())
key = forkserver.key_of(dvc)
name = forkserver.address(key)
ready, listens = os.pipe()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_user_who_took_the_name_gets_nothing(served, tmp_path):
    """Its command looks as the server's does, which anybody can arrange."""
    (tmp_path / "evil/aebench").mkdir(parents=True)
    (tmp_path / "evil/aebench/__init__.py").touch()
    act = "listens = int(os.environ['LISTENS'])\nos.setuid(65534)\ntake(os.environ['NAME'])\n"
    (tmp_path / "evil/aebench/forkserver.py").write_text(SQUATTER + act)
    told, said = served(f"""
{NAMED}
evil = subprocess.Popen(
    [sys.executable, "-P", "-m", "aebench.forkserver", key, str(dvc.pid), str(dvc.start),
     "aebench.cli", forkserver.__file__],
    env=os.environ | {{"PYTHONPATH": {str(tmp_path / "evil")!r}, "LISTENS": str(listens),
                       "NAME": name.replace("\\0", "@")}},
    pass_fds=[listens],
)
os.close(listens)
assert os.read(ready, 1) == b"x"
assert run() == 0
evil.kill()
""")
    assert said == "got False\n" and [each["fork"] for each in told] == [False]


@pytest.mark.slow
def test_another_program_that_took_the_name_gets_nothing(served):
    told, said = served(f"""
{NAMED + SQUATTER}
squatter = os.fork()
if squatter == 0:
    take(name)
os.close(listens)
assert os.read(ready, 1) == b"x"
assert run() == 0
os.kill(squatter, 9)
""")
    assert said == "got False\n" and [each["fork"] for each in told] == [False]


def test_what_cannot_be_asked_of_a_server_is_asked_of_none(monkeypatch):
    """It has ended just now: the connection is not kept."""
    near, far = children.socket.socketpair()
    monkeypatch.setattr(forkserver, "connect", lambda *arguments: near)
    monkeypatch.setattr(forkserver, "peer", lambda connection: (2**22, 0))
    dvc = children.known(os.getpid())
    assert forkserver.connected("x", [], [dvc], None, True) is None and near.fileno() == -1
    far.close()


def test_server_is_joined_but_not_started_by_who_needs_little_of_it():
    dvc = children.known(os.getpid())
    assert forkserver.connect("aebench.cli", dvc, starting=False) is None


def test_only_stages_of_that_dvc_and_this_user_are_served(served):
    """Nor does who says nothing keep another from being served."""
    told, said = served("""
import socket
from aebench import children, forkserver
name = forkserver.address(forkserver.key_of(children.known(os.getpid())))
def call(who, user=None):
    if user is not None:
        os.setuid(user)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(60)
    connection.connect(name)
    print(who, connection.recv(1), flush=True)
    return connection
def orphan():
    parent = os.getpid()
    if os.fork() == 0:
        while os.getppid() == parent:
            time.sleep(0.01)
        call("orphan")
        os.write(said, b"x")
def apart(function, *arguments):
    if os.fork() == 0:
        function(*arguments)
        os._exit(0)
run()
apart(call, "stage")
os.wait()
if os.geteuid() == 0:
    apart(call, "user", 65534)
    os.wait()
ready, said = os.pipe()
apart(orphan)
os.read(ready, 1)
kept = call("dvc")
if (silent := os.fork()) == 0:
    kept = call("stage")
    time.sleep(600)
run()
os.kill(silent, 9)
""")
    assert set(said.splitlines()) - {"user b''"} == {"stage b'h'", "orphan b''", "dvc b''"}
    assert [each["fork"] for each in told] == [True, True]
    assert told[0]["server"] == told[1]["server"]


@pytest.mark.slow
def test_server_of_another_torch_ends(served, tmp_path):
    stub = tmp_path / "stubs/torch.py"
    code = f"run()\nopen({str(stub)!r}, 'w').write('version = 2')\nrun()\nrun()\n"
    told, said = served(code)
    assert [each["fork"] for each in told] == [True, False, True]
    assert said == ""


@pytest.mark.slow
def test_killed_server_is_followed_by_another(served):
    told, said = served("""
import psutil
run()
for one in psutil.process_iter(["cmdline"]):
    words = one.info["cmdline"] or []
    if "aebench.forkserver" in words and str(os.getpid()) in words:
        one.kill()
run()
""")
    assert [each["fork"] for each in told] == [True, True] and said == ""


def test_server_imports_neither_stages_nor_what_computes_and_ends_without_its_dvc(served):
    code = (
        "import sys; from aebench import children, forkserver; "
        "forkserver.serve('test', children.Known(2**22, 1), 'x', forkserver.__file__); "
        "print(*(name for name in sys.modules if name.startswith('aebench')))"
    )
    done = served.workspace.run(sys.executable, "-c", code)
    assert set(done.stdout.split()) <= {
        *("aebench", "aebench.children", "aebench.errors", "aebench.forkserver"),
        *("aebench.hookspecs", "aebench.memory", "aebench.outs", "aebench.workspace"),
    }


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_without_proc_a_stage_imports_torch_itself(served):
    (served.workspace / "plugins/light.py").write_text(LIGHT)
    hidden = "unshare -m sh -c 'mount -t tmpfs none /proc && aebench plan --check'"
    done = served.workspace.run("sh", "-c", f"DVC_STAGE=plan {hidden}")
    assert done.stderr == "" and "prepare: no result" in done.stdout
