"""`aebench farm`: real schedulers, workers and remotes on this machine."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest
from conftest import ROOT, SMALL, Workspace, make
from distributed import Client

from aebench.errors import AebenchError
from aebench.farm import clusters, dispatch, suites
from aebench.farm.snapshot import Snapshot

# While the file of its option is there, its training waits; who trains says so in FILE.begun.
WAITING = """\
import os, time
from pathlib import Path
from aebench import hookimpl

def build(shape, latent, gate=""):
    from torch import nn
    pixels = shape[0] * shape[1] * shape[2]

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(pixels, latent))
            self.decoder = nn.Sequential(nn.Linear(latent, pixels), nn.Unflatten(1, shape))

        def loss(self, images):
            begin(gate)
            return (self.decoder(self.encoder(images)) - images).square().mean()

    return Net()

def begin(gate):
    if not gate or os.environ.get("DVC_STAGE", "")[:5] != "train":
        return
    with open(gate + ".begun", "a+") as file:
        file.seek(0)
        line = f"{os.environ['DVC_STAGE']} {os.getpid()}\\n"
        if line not in file.read():
            file.write(line)
    while Path(gate).exists():
        time.sleep(0.05)

@hookimpl
def register_models(register):
    register("NAME", build)
"""
DASK = [str(Path(sys.executable).with_name("dask"))]
ONE = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--death-timeout", "60"]


def package(folder: Path, source: str) -> Path:
    """An installed package with a plug-in of the model `strange`."""
    info = folder / "strange_net-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strange-net\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[aebench]\nstrange = strange_net\n")
    (folder / "strange_net.py").write_text(source)
    return folder


@pytest.fixture
def suite(tmp_path) -> Workspace:
    """Three runs, one of them of a package; all that is computed has one thread."""
    params = SMALL[: SMALL.index("runs:")] + (
        f"runs:\n  one:\n    model: waiting\n    gate: {tmp_path}/gate\n"
        "  two:\n    model: waiting\n    train:\n      epochs: 2\n"
        "  three:\n    model: strange\n"
    )
    workspace = make(tmp_path / "workspace", params, plugins=False)
    (workspace / "plugins/waiting.py").write_text(WAITING.replace("NAME", "waiting"))
    shutil.copy(ROOT / "plugins/digits.py", workspace / "plugins")
    source = WAITING.replace("NAME", "strange")
    workspace.env["PYTHONPATH"] = str(package(tmp_path / "packages", source))
    workspace.commit()
    workspace.env["DASK_CONFIG"] = str(tls(tmp_path / "tls"))
    return workspace


def tls(folder: Path) -> Path:
    """Dask's configuration by the commands of docs/scale.md."""
    folder.mkdir()
    block = re.search(r"```sh\n(openssl req.*?)```", (ROOT / "docs/scale.md").read_text(), re.S)
    subprocess.run(["sh", "-ec", block[1]], cwd=folder, check=True, capture_output=True)
    return folder


@contextmanager
def started(command, workspace, **changes):
    """A process, ended at the end."""
    with (workspace.folder.parent / "processes.log").open("a") as log:
        process = subprocess.Popen(
            command,
            cwd=workspace.folder.parent,
            env=workspace.env | changes,
            stdout=log,
            stderr=log,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def until(found, what, farm=None):
    """Wait for it, as long as the farm runs."""
    end = time.monotonic() + 300
    while not (value := found()):
        assert time.monotonic() < end, farm and farm.said()
        assert farm is None or farm.poll() is None, farm.said()
        time.sleep(0.05)
    return value


class Farm(subprocess.Popen):
    """`aebench farm` in the background, its output in a file; killed at the end."""

    def __init__(self, workspace, *arguments):
        self.log = workspace.folder.parent / f"farm-{time.monotonic_ns()}.log"
        with self.log.open("w") as log:
            super().__init__(
                ["aebench", "farm", *arguments],
                cwd=workspace.folder,
                env=workspace.env,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __exit__(self, *error):
        self.kill()
        super().__exit__(*error)

    def said(self):
        """Its output up to now."""
        return self.log.read_text()

    def finished(self, status=0):
        """Its output, after that end."""
        until(lambda: self.poll() is not None, "the end")
        assert self.returncode == status, self.said()
        return self.said()

    def interrupt(self, words):
        """Ctrl-C, and its answer."""
        os.killpg(self.pid, signal.SIGINT)
        until(lambda: words in self.said(), words, self)


def contents(workspace):
    """File -> hash, of what has the same bits wherever it is computed."""
    names = "*/*/*.safetensors", "*/*/*.npy"
    return {
        str(path.relative_to(workspace.folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for top in ("runs", "results")
        for name in names
        for path in sorted((workspace / top).glob(name))
    }


def git_state(workspace):
    """What git knows: branches, index, files."""
    commands = ["for-each-ref"], ["rev-parse", "HEAD"], ["ls-files", "-s"], ["status", "--short"]
    return [workspace.run("git", *command).stdout for command in commands]


@pytest.mark.slow
def test_a_cluster_with_a_killed_worker_and_a_killed_coordinator(suite, tmp_path):
    (suite / "notes.txt").write_text("not committed")
    params = (suite / "params.yaml").read_text()
    (suite / "params.yaml").write_text(params.replace("latent: 32", "latent: 16"))
    before = git_state(suite)
    gate, file = tmp_path / "gate", tmp_path / "scheduler.json"
    gate.touch()
    other = package(tmp_path / "others", WAITING.replace("NAME", "strange") + "\nOTHER = 1\n")
    scheduler = [*DASK, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    worker = [*DASK, "worker", "--scheduler-file", file, *ONE, "--local-directory", tmp_path]
    with ExitStack() as stack:

        def start(command, **changes):
            return stack.enter_context(started(command, suite, **changes))

        start([*scheduler, "--protocol", "tls", "--scheduler-file", file])
        until(file.exists, "a scheduler")
        first = start([*worker, "--name", "a"])
        start([*worker, "--name", "strange"], PYTHONPATH=str(other))
        address = json.loads(file.read_text())["address"]
        assert address.startswith("tls://")
        begun = Path(f"{gate}.begun")
        with Farm(suite, address) as killed:
            until(begun.exists, "a training", killed)
        start([*worker, "--name", "b"])
        again = stack.enter_context(Farm(suite, address))
        until(lambda: ":b" in again.said(), "what the second worker computed", again)
        trains = psutil.Process(int(begun.read_text().split()[-1]))
        os.kill(first.pid, signal.SIGKILL)
        trains.wait(60)  # it ends with its worker
        until(lambda: len(begun.read_text().splitlines()) == 2, "a second try", again)
        gate.unlink()
        said = again.finished()
    assert "strange gets no chain: " in said and "three/train.json" in said
    assert len(begun.read_text().splitlines()) == 2  # of the first run; the others have no gate
    assert "all else came from the cache" in said
    assert [line.split(":")[0] for line in said.splitlines() if ":b, " in line].count("one 0") == 1
    tracked = git_state(suite)
    assert tracked[:3] == before[:3]
    assert suite.stages("dvc", "repro") == {"plan"}
    serial = Workspace(tmp_path / "serial")
    shutil.copytree(suite.folder, serial.folder, ignore=shutil.ignore_patterns("cache", "tmp"))
    serial.env = suite.env | {"OMP_NUM_THREADS": "1"}
    for name in ("runs", "results", "data", "reports"):
        shutil.rmtree(serial / name)
    assert len(serial.stages("dvc", "repro")) == 12
    assert contents(serial) == contents(suite)


@pytest.mark.slow
def test_a_folder_as_remote_a_queued_experiment_and_ctrl_c(suite, tmp_path):
    suite.run("dvc", "exp", "run", "--queue", "--name", "five", "-S", "knn.k=5")
    gate = tmp_path / "gate"
    gate.touch()
    command = "--remote", str(tmp_path / "remote"), "--workers", "1", "--threads", "1"
    with Farm(suite, *command) as first:
        until(Path(f"{gate}.begun").exists, "a training", first)
        first.interrupt("Ctrl-C: no new chains; 1 end first")
        gate.unlink()
        assert first.finished(130).count(" s\n") == 1  # of the chain that had begun
    with Farm(suite, *command) as second:
        said = second.finished()
    assert "\none 0: " not in said
    assert len(Path(f"{gate}.begun").read_text().splitlines()) == 1
    assert "five: one 0: knn" in said and "all else came from the cache" in said
    shown = json.loads(suite.run("dvc", "exp", "show", "--json").stdout)
    five = [found for found in shown[1]["experiments"] if found["name"] == "five"]
    assert five[0]["revs"][0]["data"]["params"]["params.yaml"]["data"]["knn"]["k"] == 5
    assert suite.stages("dvc", "repro") == {"plan"}
    assert not (suite / ".aebench/farm").exists()


@pytest.mark.slow
def test_s3_as_remote_and_ctrl_c_twice(suite, tmp_path):
    pytest.importorskip("moto.server")
    pytest.importorskip("dvc_s3")
    gate = tmp_path / "gate"
    gate.touch()
    text = (suite / "params.yaml").read_text()
    (suite / "params.yaml").write_text(text[: text.index("  two:")])
    suite.env |= {"AWS_ACCESS_KEY_ID": "someone", "AWS_SECRET_ACCESS_KEY": "secret"}
    server = [sys.executable, "-c", SERVER, tmp_path / "address"]
    with started(server, suite):
        address = until(lambda: text_of(tmp_path / "address"), "a server")
        suite.run("dvc", "remote", "add", "store", "s3://bucket/suite")
        suite.run("dvc", "remote", "modify", "store", "endpointurl", address)
        command = "--remote", "store", "--workers", "1"
        with Farm(suite, *command) as first:
            until(Path(f"{gate}.begun").exists, "a training", first)
            pid = int(Path(f"{gate}.begun").read_text().split()[-1])
            first.interrupt("Ctrl-C: ")
            first.interrupt("Ctrl-C again: stopped")
            first.finished(130)
        until(lambda: not psutil.pid_exists(pid), "the end of the training")
        gate.unlink()
        with Farm(suite, *command) as second:
            assert "one 0: train, encode, knn" in second.finished()
    assert suite.rows()["one"]["status"] == "ok"


SERVER = """\
import sys, time
from pathlib import Path
import boto3
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0)
server.start()
host, port = server.get_host_and_port()
address = f"http://{host}:{port}"
boto3.client("s3", endpoint_url=address, region_name="us-east-1").create_bucket(Bucket="bucket")
part = Path(sys.argv[1] + ".part")
part.write_text(address)
part.rename(sys.argv[1])
time.sleep(1e6)
"""


def text_of(path):
    """What is in the file, "" without one."""
    return path.read_text() if path.exists() else ""


def test_a_scheduler_without_workers_and_its_end(light, tmp_path, monkeypatch, capsys):
    file = tmp_path / "scheduler.json"
    scheduler = [*DASK, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    chain = suites.Chain("", "one", 0, ("train", "encode", "knn"), "chain-one", "chain-training")
    suite = suites.Suite("", None, Snapshot("head", "tree", "", (), b""), [chain])
    monkeypatch.setattr(dispatch, "PATIENCE", 0)
    said = dispatch.Dispatch.say
    with started([*scheduler, "--scheduler-file", file], light) as process:
        until(file.exists, "a scheduler")
        address = json.loads(file.read_text())["address"]
        clusters.quiet()
        with Client(address, timeout=2) as client:
            found = dispatch.Dispatch(
                client, [suite], suites.Store("cache"), "", {"python": "3"}, None, False, {}
            )

            def say(self, line):
                said(self, line)
                process.kill()

            monkeypatch.setattr(dispatch.Dispatch, "say", say)
            with pytest.raises(AebenchError, match=f"^{address}: the scheduler has gone"):
                found.run()
    assert capsys.readouterr().out == f"no worker: waiting for one at {address}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tcp://127.0.0.1:1", "--workers", "2"], "a scheduler has its own workers"),
        (["--adapt", "0:4"], "--adapt is of a job queue"),
        (["--slurm", "queue.yaml"], "queue.yaml: No such file"),
        (["tcp://127.0.0.1:1"], "allowed: tcp://HOST:PORT, or tls://HOST:PORT"),
        (["--remote", "nowhere"], "allowed: one that DVC knows (none"),
        (["--remote", "http://here/store"], "allowed: any but http(s)"),
    ],
)
def test_what_is_refused(light, arguments, words, monkeypatch):
    monkeypatch.setattr("aebench.farm.clusters.WAIT", 1)
    done = light.run("aebench", "farm", *arguments, ok=False)
    assert words in done.stderr and done.stdout == ""


def test_what_dvc_would_trip_over_is_removed(tmp_path):
    runs = tmp_path / "runs"
    whole, left, begun = runs / "ab" / "whole", runs / "ab" / "left", runs / "cd" / "begun"
    for folder in (whole, left, begun):
        folder.mkdir(parents=True)
    (whole / "entry").touch()
    for folder in (whole, left):
        os.utime(folder, (0, 0))
    suites.sweep(str(tmp_path))
    assert [folder.exists() for folder in (whole, left, begun)] == [True, False, True]


def test_what_a_workspace_lacks(light):
    shutil.rmtree(light / ".dvc")
    assert "no DVC repository; `aebench init`" in light.run("aebench", "farm", ok=False).stderr
    shutil.rmtree(light / ".git")
    assert "not a git repository" in light.run("aebench", "farm", ok=False).stderr


@pytest.mark.parametrize(
    "arguments", [["--workers", "0"], ["--adapt", "4"], ["--slurm", "a", "--pbs", "b"]]
)
def test_what_is_no_option(light, arguments):
    assert "error: argument --" in light.run("aebench", "farm", *arguments, ok=False).stderr


def test_a_fault_of_the_plan_is_told_once(light):
    text = (light / "params.yaml").read_text()
    light.commit()
    (light / "params.yaml").write_text(text.replace("latent: 32", "latent: none"))
    done = light.run("aebench", "farm", ok=False)
    assert done.stderr.startswith("aebench: error: params.yaml: latent: got 'none'")
    assert len(done.stderr.splitlines()) == 1
    assert light.run("git", "status", "--short").stdout == " M params.yaml\n"
