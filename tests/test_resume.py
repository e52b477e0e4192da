"""A long training that was killed goes on from its checkpoint, and ends in the same bits."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, make
from safetensors import safe_open
from torch import nn

from aebench.models import batches, resume, training
from aebench.models.device import Execution
from aebench.models.snapshot import State
from aebench.plugins import warn_once
from aebench.workspace import Workspace

STEPS = 5  # an epoch: 1,438 images in batches of 256, 158 are left over
# Whatever may hold a state: each optimizer, batch norm, a buffer that no state dict has, tied
# weights, frozen ones that change, modes and flags that are set on the way, draws from all three
# generators, an epoch whose scalars differ.
MODEL = """\
import collections, random
import numpy as np
import torch
from torch import nn
import aebench

SEEN = 0

class Drawing:
    def __reduce__(self):  # called to see whether it changes
        random.random(), np.random.rand(), torch.rand(())
        return Drawing, ()

class Model(nn.Module):
    seen = 0

    def __init__(self, shape, latent, fault):
        super().__init__()
        pixels = shape[0] * shape[1] * shape[2]
        self.encoder = nn.Sequential(
            nn.Flatten(), nn.Linear(pixels, 140), nn.BatchNorm1d(140), nn.Dropout(0.1),
            nn.Linear(140, latent), nn.utils.spectral_norm(nn.Linear(latent, latent)),
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent, latent), nn.Linear(latent, 513), nn.ReLU(), nn.Linear(513, 514),
            nn.Linear(514, pixels), nn.Unflatten(1, shape),
        )
        self.decoder[0].weight = nn.Parameter(self.encoder[5].bias.new_zeros(latent, latent))
        self.tied = nn.Linear(latent, latent)
        self.tied.weight = self.decoder[0].weight
        self.teacher = nn.Linear(latent, latent).requires_grad_(False)
        self.register_buffer("memory", torch.zeros(3, pixels).t(), persistent=False)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.layers = [self.encoder[1], lambda x: x, shape, Drawing()]  # what does not change
        self.fault = fault
        self.queue, self.rows = collections.deque(maxlen=9), np.zeros(3)

    def loss(self, images, progress):
        if self.fault == "nan" and progress == 1.0:
            return self.decoder[1].bias.sum() * float("nan")
        if self.fault == "attribute":
            self.queue.append(0)
        elif self.fault == "hidden":
            self.rows[0] += 1
        elif self.fault == "class":
            Model.seen += 1
        elif self.fault == "global":
            global SEEN
            SEEN += 1
        self.steps += 1
        with torch.no_grad():
            self.memory.mul_(0.5).add_(images[:3].flatten(1).t())
            self.teacher.weight.lerp_(self.tied.weight, 0.1)
        if self.steps == 8:  # once
            self.encoder[2].eval()
            self.encoder[4].requires_grad_(False)
        codes = self.encoder(images)
        codes = codes + self.tied(codes) * random.gauss(0, 0.1) + 0.1 * torch.randn_like(codes)
        noise = np.random.normal() * self.teacher(codes) + self.memory.mean()
        error = (self.decoder(codes) - images).square().mean() + 0.01 * noise.square().mean()
        return {"loss": error, "noise": noise.mean()} if progress > 0.2 else {"loss": error}

def build(shape, latent, fault="none"):
    return Model(shape, latent, fault)

@aebench.hookimpl
def register_models(register):
    register("stateful", build)
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A workspace whose plans are made and whose images are prepared."""
    faults = "none", "attribute", "hidden", "class", "global", "nan"
    workspace = make(tmp_path_factory.mktemp("resume") / "workspace", plugins=False)
    (workspace / "plugins/stateful.py").write_text(MODEL)
    shutil.copy(ROOT / "plugins/digits.py", workspace / "plugins")
    recipe = {"epochs": 3, "batch_size": 256, "learning_rate": 0.003, "weight_decay": 0.1}
    recipe |= {"muon_learning_rate": 0.02, "horizontal_flip": True}
    runs: dict[str, Any] = {f: {"model": "stateful", "fault": f} for f in faults}
    runs["other"] = {"model": "stateful", "train": {"weight_decay": 0.2}}
    workspace.params(runs=runs, train=recipe, latent=4, seeds=[0, 1])
    workspace.run("aebench", "plan")
    workspace.run("aebench", "prepare")
    return workspace


@pytest.fixture
def kept(prepared):
    """The same, without an earlier test's files."""
    for name in ("runs", "results/none", ".aebench/checkpoints"):
        shutil.rmtree(prepared / name, ignore_errors=True)
    warn_once.cache_clear()
    return prepared


@pytest.fixture
def often(monkeypatch):
    """A checkpoint after each step."""
    for name, value in (("FIRST", 0.0), ("INTERVAL", 0.0), ("SHARE", float("inf"))):
        monkeypatch.setattr(resume, name, value)


@pytest.fixture(scope="module")
def undisturbed(prepared):
    """The outs of a training that wrote no checkpoint."""
    train(prepared)
    expected, record = outs(prepared)
    assert record["resumed"] is None and record["status"] == "ok"
    return expected


@contextlib.contextmanager
def killed_after(steps):
    """What a kill leaves behind after so many steps, and a checkpoint after the last of them."""
    save = resume.Resume.save

    def counting(self, state):
        nonlocal steps
        steps -= 1
        if steps == 0:
            save(self, state)
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resume, "FIRST", 0.0)
        patch.setattr(resume, "INTERVAL", 0.0)
        patch.setattr(resume.Resume, "save", counting)
        yield


def train(workspace, run="none", seed=0, kill=0):
    """Its output; with `kill` the training ends after so many steps."""
    if not kill:
        done = workspace.run("aebench", "train", run, str(seed))
        return done.stdout + done.stderr
    with killed_after(kill), contextlib.suppress(KeyboardInterrupt):
        workspace.run("aebench", "train", run, str(seed), ok=False)
    assert not (workspace / f"results/{run}/{seed}/train.json").exists()
    return ""


def outs(workspace, run="none"):
    """The weights, and what of the record is no time; the record."""
    record = json.loads((workspace / f"results/{run}/0/train.json").read_text())
    weights = (workspace / f"runs/{run}/0/weights.safetensors").read_bytes()
    return (weights, record["losses"], record["curves"]), record


def checkpoints(workspace):
    return sorted((workspace / ".aebench/checkpoints").glob("*"))


def test_writing_checkpoints_alters_nothing(kept, undisturbed, often):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resume.Resume, "files", lambda self: [])
        train(kept)
    assert outs(kept)[0] == undisturbed and len(checkpoints(kept)) == 1
    assert f"resumed at epoch 3/3, step {STEPS}\n" in train(kept)
    assert outs(kept)[0] == undisturbed and checkpoints(kept) == []


def test_many_images_come_in_shuffled_blocks_and_are_resumed_there(kept, undisturbed, monkeypatch):
    size = (kept / "data/prepared/train_images.npy").stat().st_size - 128  # without its header
    monkeypatch.setattr(batches, "LARGE", size)
    train(kept)
    assert outs(kept)[0] == undisturbed and outs(kept)[1]["order"] is None
    monkeypatch.setattr(batches, "LARGE", size - 1)
    train(kept)
    blocks, record = outs(kept)
    assert record["order"] == "shuffled blocks of 4,096" and blocks != undisturbed
    (kept / "results/none/0/train.json").unlink()
    for kill in (2, 3):
        train(kept, kill=kill)
    assert "resumed at epoch 1/3, step 5\n" in train(kept)
    assert outs(kept)[0] == blocks


def test_blocks_are_of_all_classes_and_give_every_image_once(monkeypatch):
    for name, value in (("LARGE", 0), ("BLOCK", 512), ("RUN", 16)):
        monkeypatch.setattr(batches, name, value)
    images = torch.zeros(2000, 1, 1, 1, dtype=torch.uint8)  # sorted by label, 200 of each
    first, second = (batches.epoch_order(np.random.default_rng(seed), images) for seed in (0, 1))
    for order in (first, second):
        assert sorted(order) == list(range(2000))
        for start in range(0, 1536, 512):
            block = order[start : start + 512]
            assert len(set(block // 16)) <= 512 / 16 + 1  # pieces that are read whole
            for batch in block.reshape(4, 128):
                assert len(set(batch // 200)) >= 7
    assert (first != second).any()


def test_a_resumed_training_ends_in_the_same_bits(kept, undisturbed):
    # Within an epoch, after its last step, after the first of the next; Shampoo's means are taken
    # at steps 0, 4, 8 and 12, their roots at 0 and 12.
    for kill in (2, 3, 1, 3, 4):
        train(kept, kill=kill)
        (path,) = checkpoints(kept)
    with safe_open(path, "numpy") as file:
        (root,) = [file.get_tensor(name) for name in file.offset_keys() if name[:5] == "root "]
    assert len(root.view("float32")) == 513**2  # of the decoder's third layer alone
    assert f"resumed at epoch 3/3, step {13 - 2 * STEPS}\n" in train(kept)
    found, record = outs(kept)
    assert found == undisturbed
    assert record["resumed"] == 5 and len(record["all_epoch_seconds"]) == 3
    assert record["train_seconds"] > sum(record["all_epoch_seconds"]) > 0
    assert checkpoints(kept) == []


def test_one_resumed_in_the_other_precision_does_too(kept, undisturbed, monkeypatch):
    usual = training.execution(nn.Linear(1, 1)).precision  # this processor's
    other = {"bfloat16": "float32", "float32": "bfloat16"}[usual]
    train(kept, kill=7)
    monkeypatch.setattr(training, "execution", lambda _: Execution("cpu", other, "contiguous"))
    assert "resumed" not in train(kept)
    expected, record = outs(kept)
    assert expected[0] != undisturbed[0] and record["provenance"]["precision"] == other
    (kept / "results/none/0/train.json").unlink()
    train(kept, kill=7)
    assert f"resumed at epoch 2/3, step {7 - STEPS}\n" in train(kept)
    assert outs(kept)[0] == expected


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("attribute", "attribute queue of the model"),
        ("hidden", "attribute rows of the model"),
        ("class", "attribute of class Model seen"),
        ("global", "global aebench_plugins.stateful SEEN"),
    ],
)
def test_state_that_no_checkpoint_would_hold_is_named_and_none_is_written(
    kept, often, fault, words
):
    said = train(kept, fault)
    line = f"aebench: warning: no checkpoint: {words} changes in training; allowed: buffers"
    assert said.count(line) == said.count("checkpoint") == 1
    assert not checkpoints(kept) and outs(kept, fault)[1]["status"] == "ok"


@pytest.mark.parametrize("how", ["flipped", "header", "cut", "empty", "longer"])
def test_a_damaged_checkpoint_is_ignored(kept, undisturbed, how):
    train(kept, kill=3)
    (path,) = checkpoints(kept)
    content = bytearray(path.read_bytes())
    content[{"flipped": len(content) // 2, "header": 20}.get(how, 0)] ^= 1
    whole = path.read_bytes()
    others = {"cut": whole[:-1], "empty": b"", "longer": whole + b"x"}
    path.write_bytes(others.get(how, content))
    line = f"{path.relative_to(kept.folder)}: damaged; the training begins anew"
    assert train(kept).count(f"aebench: warning: {line}") == 1
    found, record = outs(kept)
    assert found == undisturbed and record["resumed"] is None and checkpoints(kept) == []


def test_a_checkpoint_of_other_settings_seed_packages_or_form_is_ignored(
    kept, undisturbed, monkeypatch
):
    train(kept, "other", kill=3)
    train(kept, "none", seed=1, kill=3)
    assert "resumed" not in train(kept) and outs(kept)[0] == undisturbed
    left = checkpoints(kept)
    assert len(left) == 2 and resume.leftovers(Workspace(kept.folder)) == []
    gone = left[0].with_name("x" + left[0].name[1:])
    shutil.copy(left[0], gone)
    assert resume.leftovers(Workspace(kept.folder)) == [gone]
    (kept / "results/none/0/train.json").unlink()
    train(kept, kill=3)
    with monkeypatch.context() as patch:
        patch.setattr("numpy.__version__", "1.0")
        assert ": of another version of numpy; the training begins anew" in train(kept)
    assert outs(kept)[0] == undisturbed
    (kept / "results/none/0/train.json").unlink()
    train(kept, kill=3)
    with monkeypatch.context() as patch:
        patch.setattr(State, "layout", lambda self: [])
        assert ": of a model that was built otherwise; the training begins anew" in train(kept)
    assert outs(kept)[0] == undisturbed


def test_a_checkpoint_that_cannot_be_written_alters_nothing(kept, undisturbed, often, monkeypatch):
    (kept / ".aebench").mkdir(exist_ok=True)
    (kept / ".aebench/checkpoints").write_text("in the way")
    assert train(kept).count("no checkpoint: [Errno 17] File exists") == 1
    assert outs(kept)[0] == undisturbed
    (kept / ".aebench/checkpoints").unlink()
    usage = shutil.disk_usage(kept.folder)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert train(kept).count("the disk is almost full") == 1
    assert outs(kept)[0] == undisturbed and checkpoints(kept) == []


def test_a_failed_training_leaves_no_checkpoint(kept):
    train(kept, "nan", kill=13)
    assert len(checkpoints(kept)) == 1
    assert "resumed at epoch 3/3, step 3" in train(kept, "nan")
    assert outs(kept, "nan")[1]["status"] == "failed: the loss is nan in epoch 3"
    assert checkpoints(kept) == []


def test_a_checkpoint_that_breaks_off_as_it_is_put_back_ends_the_stage(kept, undisturbed):
    def broken(*_):
        raise RuntimeError("a part of the machine")

    train(kept, kill=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(State, "put_back", broken)
        done = kept.run("aebench", "train", "none", "0", ok=False)
    line = "was not put back (RuntimeError: a part of the machine) and is removed; run `dvc repro`"
    assert line in done.stderr and done.stderr.count("\n") == 1
    assert not list(kept.folder.glob("r*s/none/0/*")) and checkpoints(kept) == []
    train(kept)
    assert outs(kept)[0] == undisturbed


# Hangs in the midst of writing the fourth checkpoint.
DRIVER = """
import time
import aebench.models.resume as resume
from aebench.cli import run
from aebench.models.snapshot import State
resume.FIRST, resume.INTERVAL, resume.SHARE = 0, 0, float("inf")
written, values = [], State.values

def hanging(state):
    written.append(0)
    for value in values(state):
        yield value
        if len(written) == 4:
            print("writing", flush=True)
            time.sleep(600)

State.values = hanging
run(["train", "none", "0"])
"""


def test_a_killed_process_is_gone_on_from(kept, undisturbed):
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER],
        cwd=kept.folder,
        env=kept.env,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert "writing\n" in iter(process.stdout.readline, "")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL and len(checkpoints(kept)) == 2  # a part of one
    assert "resumed at epoch 1/3, step 3\n" in train(kept)
    assert outs(kept)[0] == undisturbed and checkpoints(kept) == []
