"""A long training that was killed goes on from its checkpoint, and ends in the same bits."""

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from aebench.models import resume, training
from aebench.models.device import Execution

STEPS = 11  # an epoch: 1,438 images in batches of 128, 30 are left over
# Whatever may hold a state: batch norm, a buffer that no state dict has, tied weights, frozen ones
# that change, modes and flags that are set on the way, draws from all three generators, an epoch
# whose scalars differ.
MODEL = """\
import collections, random
import numpy as np
import torch
from torch import nn
import aebench

SEEN = 0

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
            nn.Linear(latent, latent), nn.Linear(latent, 140), nn.ReLU(), nn.Linear(140, pixels),
            nn.Unflatten(1, shape),
        )
        self.decoder[0].weight = nn.Parameter(self.encoder[5].bias.new_zeros(latent, latent))
        self.tied = nn.Linear(latent, latent)
        self.tied.weight = self.decoder[0].weight
        self.teacher = nn.Linear(latent, latent).requires_grad_(False)
        self.register_buffer("memory", torch.zeros(3, pixels).t(), persistent=False)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.layers = [self.encoder[1], lambda x: x, shape]  # what does not change
        self.fault = fault
        self.queue, self.rows = collections.deque(maxlen=9), np.zeros(3)

    def loss(self, images, progress):
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
        if progress > 0.5:
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


@pytest.fixture
def kept(light, monkeypatch):
    """A workspace whose plans are made; checkpoints are written after each step."""
    (light / "plugins/stateful.py").write_text(MODEL)
    faults = {
        f: {"model": "stateful", "fault": f}
        for f in ("none", "attribute", "hidden", "class", "global")
    }
    recipe = {"epochs": 3, "batch_size": 128, "learning_rate": 0.003, "weight_decay": 0.1}
    recipe |= {"muon_learning_rate": 0.02, "horizontal_flip": True}
    light.params(runs=faults, train=recipe, latent=4)
    light.run("aebench", "plan")
    light.run("aebench", "prepare")
    monkeypatch.setattr(resume, "FIRST", 0.0)
    monkeypatch.setattr(resume, "INTERVAL", 0.0)
    monkeypatch.setattr(resume, "SHARE", float("inf"))
    return light


@contextlib.contextmanager
def killed_after(saves):
    """What a kill leaves behind after so many checkpoints."""
    save = resume.Resume.save

    def counting(self, state):
        nonlocal saves
        save(self, state)
        saves -= 1
        if saves == 0:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resume.Resume, "save", counting)
        yield


def train(workspace, run="none", kill=0):
    """Its output; with `kill` the training ends after so many checkpoints."""
    if not kill:
        done = workspace.run("aebench", "train", run, "0")
        return done.stdout + done.stderr
    with killed_after(kill), contextlib.suppress(KeyboardInterrupt):
        workspace.run("aebench", "train", run, "0", ok=False)
    assert not (workspace / f"results/{run}/0/train.json").exists()
    return ""


def outs(workspace, run="none"):
    """The weights, and what of the record is no time; the record."""
    record = json.loads((workspace / f"results/{run}/0/train.json").read_text())
    weights = (workspace / f"runs/{run}/0/weights.safetensors").read_bytes()
    for name in ("runs", "results"):
        shutil.rmtree(workspace / f"{name}/{run}")
    return (weights, record["losses"], record["curves"], record["status"]), record


def checkpoints(workspace):
    return sorted((workspace / ".aebench").glob("checkpoints/*"))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_resumed_training_ends_in_the_same_bits(kept, monkeypatch, precision):
    how = Execution("cpu", precision, "contiguous")
    monkeypatch.setattr(training, "execution", lambda _: how)
    with monkeypatch.context() as patch:
        patch.setattr(resume, "FIRST", 600.0)
        train(kept)
    expected, record = outs(kept)
    assert record["resumed"] is None and expected[3] == "ok"
    train(kept)  # writing checkpoints alters nothing
    assert outs(kept)[0] == expected and checkpoints(kept) == []
    # Within an epoch, after the last step of one, after the first of the next, and the very last.
    said = []
    for kill in (4, 7, 1, 20, 1):
        train(kept, kill=kill)
        assert len(checkpoints(kept)) == 1
    said = train(kept)
    found, record = outs(kept)
    assert found == expected
    assert f"resumed at epoch 3/3, step {STEPS}\n" in said
    assert record["resumed"] == 5 and len(record["all_epoch_seconds"]) == 3
    assert record["train_seconds"] > sum(record["all_epoch_seconds"]) > 0
    assert checkpoints(kept) == []
