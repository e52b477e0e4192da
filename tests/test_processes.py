"""`train: {processes: N}`: what is refused, and that N processes train as one does."""

import json
import shutil
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import safetensors.numpy
from conftest import ROOT, make

from aebench.commands.verify import differences
from aebench.records.origin import Provenance

ROWS = """\
import torch
from torch import nn
from aebench import hookimpl

class Model(nn.Module):
    def __init__(self, shape, latent, fault="none"):
        super().__init__()
        pixels = shape[0] * shape[1] * shape[2]
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(pixels, latent))
        self.decoder = nn.Sequential(nn.Linear(latent, pixels), nn.Unflatten(1, shape))
        norm = {"norm": nn.BatchNorm1d, "sync": nn.SyncBatchNorm, "lazy": nn.LazyBatchNorm1d}
        if fault in norm:
            self.encoder.append(norm[fault](*[latent][fault == "lazy" :]))
        if fault.startswith("couples"):
            self.couples_batch = {"couples": True, "couples-much": "much"}[fault]
        if fault in ("fit", "optimize"):
            setattr(self, fault, lambda batches: None)

    def loss(self, images):
        return (self.decoder(self.encoder(images)) - images).square().mean()

@hookimpl
def register_models(register):
    register("rows", Model)
"""


def train(workspace, run, **options):
    """The record of the run."""
    workspace.run("aebench", "train", run, "0", **options)
    return json.loads((workspace / f"results/{run}/0/train.json").read_text())


def test_default_stands_in_no_plan_and_the_number_in_the_runs_that_train(light):
    def recipe(run="one"):
        light.run("aebench", "plan")
        return json.loads((light / f"plan/{run}/train.json").read_text())["train"]

    before = recipe()
    runs = {"one": {"model": "light"}, "same": {"model": "light", "train": {"processes": 1}}}
    light.params(runs=runs)
    assert recipe("same") == recipe() == before and "processes" not in before
    runs["same"]["train"] = {"processes": 2}
    runs["still"] = {"model": "light", "train": {"processes": 2, "epochs": 0}}
    light.params(runs=runs)
    assert recipe("same") == before | {"processes": 2} and recipe("still") == {"epochs": 0}
    done = light.run("aebench", "plan", "--check")
    assert "train@one-0: no result" in done.stdout


@pytest.mark.parametrize(
    ("defaults", "own", "expected"),
    [
        ({"processes": 3}, {}, "train.batch_size: got 128; allowed with 3 processes: multiples"),
        ({}, {"processes": 3}, "runs.one.train.batch_size: got 128; allowed with 3 processes:"),
        ({}, {"processes": 0}, "runs.one.train.processes: got 0; allowed: greater than or equal"),
        ({}, {"processes": 2.0}, "runs.one.train.processes: got 2.0; allowed: integer; write 2"),
        ({"processes": 3}, {"epochs": 0}, None),
        ({"processes": 4}, {}, None),
    ],
)
def test_plan_refuses_a_batch_that_the_processes_do_not_divide(light, defaults, own, expected):
    recipe = {"epochs": 1, "batch_size": 128, "learning_rate": 0.1, "muon_learning_rate": 0.1}
    recipe |= {"weight_decay": 0.1, "horizontal_flip": False}
    run = {"model": "light", "train": own}
    light.params(train=recipe | defaults, runs={"one": run} | ({} if own else {"two": run}))
    done = light.run("aebench", "plan", ok=expected is None)
    lines = done.stderr.splitlines()
    assert len(lines) == (expected is not None)
    assert not lines or lines[0].startswith(f"aebench: error: params.yaml: {expected}")


def test_one_batch_of_all_images_is_to_be_divided_too(light):
    light.params(runs={"one": {"model": "light", "train": {"processes": 4, "batch_size": 2000}}})
    light.run("aebench", "plan")
    light.run("aebench", "prepare")
    assert train(light, "one")["status"].startswith(
        "failed: a batch of 1438 images, all there are, is not divided by 4 processes; allowed:"
    )
    done = light.run("aebench", "plan", ok=False)  # which now knows the number
    words = "more than the 1438 training images, which 4 processes do not divide"
    assert f"runs.one.train.batch_size: got 2000, {words}; allowed: multiples" in done.stderr


def test_what_several_processes_would_train_otherwise_is_a_row_with_its_reason(light):
    expected = {
        "fit": "fit: its start is of one process, got 2; allowed: `train: {processes: 1}`",
        "optimize": "optimize: its own loop is of one process, got 2; allowed: `train:",
        "couples": "couples_batch: its loss compares the images of a batch, of which each of 2",
        "couples-much": "plugins/rows.py: model 'rows': couples_batch is 'much'; allowed: True",
        "norm": "encoder.2 is BatchNorm1d in training: its statistics would be of each process's",
        "lazy": "encoder.2 is BatchNorm1d in training: its statistics",
        "sync": "encoder.2 is SyncBatchNorm in training: its statistics",
    }
    (light / "plugins/rows.py").write_text(ROWS)
    two = {"train": {"processes": 2}, "latent": 4, "model": "rows"}
    light.params(runs={fault: two | {"fault": fault} for fault in expected})
    light.run("aebench", "plan")
    light.run("aebench", "prepare")
    for fault, words in expected.items():
        record = train(light, fault)
        assert record["status"].startswith(f"failed: {words}"), record["status"]
        assert record["provenance"]["processes"] == 2
    assert (light / "runs/fit/0/weights.safetensors").read_bytes() == b""


def test_options_of_torchrun_that_do_not_fit_are_one_line(light):
    light.params(runs={"one": {"model": "light", "train": {"processes": 2}}})
    light.run("aebench", "plan")
    light.run("aebench", "prepare")
    for value, words in (
        ("--nnodes 1:2", "got '1:2'; allowed: options of torchrun, --nnodes N"),
        ("--nnodes=3", "got 3 machines for 2 processes; allowed: a number of machines"),
        ("--nnodes '2", 'got "--nnodes \'2"; allowed: options of torchrun'),
    ):
        light.env["AEBENCH_TORCHRUN"] = value
        (line,) = light.run("aebench", "train", "one", "0", ok=False).stderr.splitlines()
        assert line.startswith(f"aebench: error: $AEBENCH_TORCHRUN: {words}")
    assert not (light / "results/one").exists()


def test_machines_agree_in_their_number_of_processes():
    def origin(**facts):
        return Provenance(
            cpu="x", cores=2, threads=1, versions={}, commit=None, dirty=None, date="", **facts
        )

    assert differences(origin(), origin(processes=2)) == [("processes", None, 2)]
    assert "2 processes" in origin(processes=2).machine


# The cnn in the precision that the option says, whatever the processor is fast at.
EXACT = """\
import os, signal, torch
from pathlib import Path
from torch import distributed, nn
from _cnn import build
from aebench import hookimpl
from aebench.models import resume

class Half(nn.Module):
    def __init__(self, half, kind):
        super().__init__()
        self.inner, self.kind = half.to(kind), kind

    def forward(self, x):
        return self.inner(x.to(self.kind)).float()

class Exact(nn.Module):
    def __init__(self, shape, latent, depth, kind="float32", fault="none"):
        super().__init__()
        self.kind, self.fault = getattr(torch, kind), fault
        self.encoder, self.decoder = (Half(h, self.kind) for h in build(shape, latent, depth))
        self.unused = nn.Linear(3, 3)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64), persistent=False)
        self.register_buffer("seen", torch.zeros(()))
        if fault == "killed":
            resume.FIRST, resume.INTERVAL, resume.SHARE = 0.0, 0.0, float("inf")

    def loss(self, images):
        self.steps += 1
        second = distributed.is_initialized() and distributed.get_rank() == 1
        if self.fault == "killed" and second and self.steps == 12 and Path("kill").exists():
            Path("kill").rename("done")
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "raises" and second and self.steps == 3:
            raise ValueError("this part alone")
        if self.fault == "keeps":
            self.seen += images.mean()
        with torch.autocast(images.device.type, enabled=False):
            images = images.to(self.kind)
            decoded = self.decoder.inner(self.encoder.inner(images))
            return {"loss": (decoded - images).square().mean(), "mean": images.mean()}

@hookimpl
def register_models(register):
    register("exact", Exact)
"""


@pytest.fixture(scope="module")
def exact(tmp_path_factory):
    """A workspace with runs of 4 epochs by one process and by two."""
    workspace = make(tmp_path_factory.mktemp("processes") / "workspace", plugins=False)
    (workspace / "plugins/exact.py").write_text(EXACT)
    for path in [*(ROOT / "plugins").glob("_*.py"), ROOT / "plugins/digits.py"]:
        shutil.copy(path, workspace / "plugins")
    shutil.copy(ROOT / "plugins/cnn.py", workspace / "plugins/_cnn.py")
    recipe = {"epochs": 4, "batch_size": 256, "learning_rate": 0.003, "weight_decay": 0.1}
    recipe |= {"muon_learning_rate": 0.02, "horizontal_flip": True}
    model, two = {"model": "exact"}, {"train": {"processes": 2}}
    runs = {"one": model, "two": model | two}
    runs |= {f"{name}64": run | {"kind": "float64", "depth": 2} for name, run in runs.items()}
    runs |= {name: model | two | {"fault": name} for name in ("killed", "raises", "keeps")}
    workspace.params(runs=runs, train=recipe, latent=4)
    workspace.run("aebench", "plan")
    workspace.run("aebench", "prepare")
    return workspace


def weights(workspace, run):
    return (workspace / f"runs/{run}/0/weights.safetensors").read_bytes()


def apart(workspace, run, other):
    """Relative L2 distance of their weights."""
    found = [safetensors.numpy.load(weights(workspace, name)) for name in (run, other)]
    one, two = (np.concatenate([t.ravel() for _, t in sorted(f.items())]) for f in found)
    return np.linalg.norm(one - two) / np.linalg.norm(one)


@pytest.fixture(scope="module")
def two(exact):
    """The record of the run by two processes."""
    return train(exact, "two")


@pytest.mark.slow
def test_two_processes_train_as_one_does(exact, two):
    one = train(exact, "one")
    assert one["status"] == two["status"] == "ok"
    assert 0 < apart(exact, "one", "two") < 1e-4
    np.testing.assert_allclose(one["losses"], two["losses"], rtol=1e-4)
    np.testing.assert_allclose(one["curves"]["mean"], two["curves"]["mean"], rtol=1e-5)
    assert two["plan"]["train"]["processes"] == two["provenance"]["processes"] == 2
    assert two["provenance"]["threads"] == 1 and one["provenance"]["processes"] is None


@pytest.mark.slow
def test_in_float64_they_differ_by_rounding_alone(exact):
    assert train(exact, "one64")["status"] == train(exact, "two64")["status"] == "ok"
    assert 0 < apart(exact, "one64", "two64") < 1e-12


@pytest.mark.slow
def test_two_machines_train_the_same_bits_and_the_other_writes_nothing(exact, two, tmp_path):
    before, port = weights(exact, "two"), free_port()
    shutil.copytree(exact.folder, tmp_path / "copy", symlinks=True)
    shutil.rmtree(tmp_path / "copy/runs")
    where = f"--nnodes 2 --master-addr 127.0.0.1 --master-port {port} --node-rank"
    command = f"-m torch.distributed.run {where} 1 --nproc-per-node 1 -m aebench.models.rank two 0"
    env = exact.env | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen([sys.executable, *command.split()], cwd=tmp_path / "copy", env=env) as it:
        try:
            exact.env["AEBENCH_TORCHRUN"] = f"{where} 0"
            assert train(exact, "two")["status"] == "ok"
            assert it.wait(60) == 0
        finally:
            exact.env.pop("AEBENCH_TORCHRUN")
            it.kill()
    assert weights(exact, "two") == before
    assert not (tmp_path / "copy/runs").exists()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.slow
def test_a_killed_process_ends_the_stage_and_the_next_one_goes_on(exact, two):
    (exact / "kill").touch()
    done = exact.run("aebench", "train", "killed", "0", ok=False)
    assert time.time() - (exact / "done").stat().st_ctime < 30  # 10 s on a machine of its own
    (line,) = done.stderr.splitlines()
    assert line.startswith("aebench: error: one of the 2 processes: ") and "SIGKILL" in line
    assert not list(exact.folder.glob("r*s/killed/0/*"))
    assert len(list((exact / ".aebench/checkpoints").iterdir())) == 1
    assert train(exact, "killed")["resumed"] == 1
    assert weights(exact, "killed") == weights(exact, "two")
    assert not list((exact / ".aebench/checkpoints").iterdir())


@pytest.mark.slow
def test_what_goes_wrong_in_one_process_is_a_row(exact):
    status = train(exact, "raises")["status"]
    assert status.startswith("failed: ValueError: this part alone (exact.py:")
    assert train(exact, "keeps")["status"].startswith(
        "failed: buffer seen differs between the 2 processes: each changes it by its own part"
    )
