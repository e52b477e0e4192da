"""`aebench farm`: real schedulers, workers and remotes on this machine, and what it refuses."""

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
from conftest import ROOT, SMALL, make
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


def path(folder: Path) -> str:
    """PYTHONPATH with it."""
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))


@pytest.fixture
def gated(tmp_path):
    """A workspace of one run whose training waits while tmp_path/gate is there, as it is now."""
    params = SMALL[: SMALL.index("runs:")] + (
        f"runs:\n  one:\n    model: waiting\n    gate: {tmp_path}/gate\n"
    )
    workspace = make(tmp_path / "workspace", params, plugins=False)
    (workspace / "plugins/waiting.py").write_text(WAITING.replace("NAME", "waiting"))
    shutil.copy(ROOT / "plugins/digits.py", workspace / "plugins")
    workspace.commit()
    workspace.apart = True
    (tmp_path / "gate").touch()
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


def until(found, farm=None):
    """Wait until it is, as long as the farm runs; what it is."""
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
        until(lambda: self.poll() is not None)
        assert self.returncode == status, self.said()
        return self.said()

    def interrupt(self, words):
        """Ctrl-C, and its answer."""
        os.killpg(self.pid, signal.SIGINT)
        until(lambda: words in self.said(), self)


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
    """Branches, commit and index."""
    commands = ["for-each-ref"], ["rev-parse", "HEAD"], ["ls-files", "-s"]
    return [workspace.run("git", *command).stdout for command in commands]


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


@pytest.mark.slow
def test_a_cluster_with_a_killed_worker_a_killed_coordinator_and_ctrl_c(gated, tmp_path):
    gate, begun, file = tmp_path / "gate", tmp_path / "gate.begun", tmp_path / "scheduler.json"
    source = WAITING.replace("NAME", "strange")
    packages = package(tmp_path / "packages", source)
    other = package(tmp_path / "others", f"{source}\nOTHER = 1\n")
    gated.env |= {"PYTHONPATH": path(packages), "DASK_CONFIG": str(tls(tmp_path / "tls"))}
    # Not committed: a setting, a run of a package's model, a file.
    with (gated / "params.yaml").open("a") as params:
        params.write("    latent: 16\n  two:\n    model: strange\n")
    (gated / "notes.txt").write_text("not committed")
    before = git_state(gated)
    scheduler = [*DASK, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    worker = [*DASK, "worker", "--scheduler-file", file, *ONE, "--local-directory", tmp_path]
    with ExitStack() as stack:

        def start(command, **changes):
            return stack.enter_context(started(command, gated, **changes))

        start([*scheduler, "--protocol", "tls", "--scheduler-file", file])
        until(file.exists)
        first = start([*worker, "--name", "a"])
        start([*worker, "--name", "strange"], PYTHONPATH=path(other))
        address = json.loads(file.read_text())["address"]
        assert address.startswith("tls://")
        command = address, "--remote", str(tmp_path / "remote")
        with Farm(gated, *command) as killed:
            until(begun.exists, killed)
        start([*worker, "--name", "b"])
        again = stack.enter_context(Farm(gated, *command))
        until(lambda: ":b, " in again.said(), again)  # it has computed the other run
        trains = psutil.Process(int(begun.read_text().split()[-1]))
        os.kill(first.pid, signal.SIGKILL)
        trains.wait(60)  # it ends with its worker
        until(lambda: len(begun.read_text().splitlines()) == 2, again)
        again.interrupt("Ctrl-C: no new chains; 1 end first")
        gate.unlink()
        said = again.finished(130)
    assert "strange gets no chain: " in said and "two/train.json" in said
    assert len(begun.read_text().splitlines()) == 2
    computed = r"(one|two) 0: train, encode, knn: .*:b, "
    assert sorted(re.findall(computed, said)) == ["one", "two"]
    said = gated.run("aebench", "farm", "--remote", str(tmp_path / "remote")).stdout
    assert "chains" not in said and "all else came from the cache" in said
    assert git_state(gated) == before
    assert gated.stages("dvc", "repro") == {"plan"}
    rows = gated.rows()
    assert rows["one"]["latent"] == "16" and rows["two"]["status"] == "ok"


@pytest.mark.slow
def test_ctrl_c_twice_then_a_queued_experiment_and_s3_as_remote(gated, tmp_path):
    gate, begun = tmp_path / "gate", tmp_path / "gate.begun"
    command = "--workers", "1", "--threads", "1"
    with Farm(gated, *command) as farm:
        until(begun.exists, farm)
        trains = int(begun.read_text().split()[-1])
        farm.interrupt("Ctrl-C: no new chains; 1 end first")
        farm.interrupt("Ctrl-C again: stopped")
        farm.finished(130)
    until(lambda: not psutil.pid_exists(trains))
    gate.unlink()
    gated.env |= {"AWS_ACCESS_KEY_ID": "someone", "AWS_SECRET_ACCESS_KEY": "secret"}
    address = tmp_path / "address"
    with started([sys.executable, "-c", SERVER, address], gated):
        until(address.exists)
        gated.run("dvc", "remote", "add", "store", "s3://bucket/suite")
        gated.run("dvc", "remote", "modify", "store", "endpointurl", address.read_text())
        gated.run("dvc", "exp", "run", "--queue", "--name", "five", "-S", "knn.k=5")
        with Farm(gated, *command, "--remote", "store") as farm:
            said = farm.finished()
    assert "\none 0: train, encode, knn: " in said and "\nfive: one 0: knn: " in said
    assert "all else came from the cache" in said
    shown = json.loads(gated.run("dvc", "exp", "show", "--json").stdout)
    (five,) = [found for found in shown[1]["experiments"] if found["name"] == "five"]
    data = five["revs"][0]["data"]
    assert data["params"]["params.yaml"]["data"]["knn"]["k"] == 5 and data["metrics"]
    assert not (gated / ".aebench/farm").exists()
    # The same bits as a serial run: of what holds no times.
    before = contents(gated)
    serially = "train@one-0", "encode@one-0", "knn@one-0"
    gated.env["OMP_NUM_THREADS"] = "1"
    assert len(gated.stages("dvc", "repro", "-sf", "--no-run-cache", *serially)) == 3
    assert len(before) > 3 and contents(gated) == before


def test_what_is_in_the_cache_is_not_computed(baseline):
    """Nor where DVC does not remember how it was: after `dvc pull`, say."""
    shutil.rmtree(baseline / ".dvc/cache/runs")
    said = baseline.run("aebench", "farm").stdout
    assert "chains" not in said and "all else came from the cache" in said


@pytest.mark.slow
def test_a_scheduler_without_workers_and_its_end(light, tmp_path, monkeypatch, capsys):
    file = tmp_path / "scheduler.json"
    scheduler = [*DASK, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    chain = suites.Chain("", "one", 0, ("train", "encode", "knn"), "chain-one", "chain-training")
    suite = suites.Suite("", None, Snapshot("head", "tree", "", (), b""), [chain])
    monkeypatch.setattr(dispatch, "PATIENCE", 0)
    said = dispatch.Dispatch.say
    with started([*scheduler, "--scheduler-file", file], light) as process:
        until(file.exists)
        address = json.loads(file.read_text())["address"]
        clusters.quiet()
        with Client(address, timeout=2) as client:
            found = dispatch.Dispatch(
                client,
                [suite],
                suites.Store("cache"),
                "",
                {"python": "3"},
                None,
                False,
                {},
                {chain.key},
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
