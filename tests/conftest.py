"""Workspaces on disk, and the real `aebench` and `dvc` run in them."""

import contextlib
import csv
import functools
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image
from ruamel.yaml import YAML

from aebench import cli
from aebench.fingerprint import COMPUTING, known_fingerprint
from aebench.workspace import Workspace as Here

ROOT = Path(__file__).parent.parent
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As a background job of a script, which ignores Ctrl-C, as all would that tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Test processes run side by side: more threads than cores would wait for one another.
os.environ["OMP_NUM_THREADS"] = "1"
# As an activated venv would have it: DVC finds `aebench` on the path.
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
SMALL = """\
dataset: digits
image_size: null
channels: null
latent: 32
depth: 3
seeds:
  - 0
train:
  epochs: 1
  batch_size: 128
  learning_rate: 0.003
  muon_learning_rate: 0.02
  weight_decay: 0.1
  horizontal_flip: true
knn:
  k: 10
  metric: l2
  backend: faiss
runs:
  mlp:
    model: mlp
  cnn-latent10:
    model: cnn
    latent: 10
  pixels:
    model: pixels
"""
# Imports torch only when built: `aebench plan` takes 0.5 s with it instead of 4.
LIGHT = """\
from aebench import hookimpl

def build(shape, latent, beta=1.0):
    from torch import nn
    pixels = shape[0] * shape[1] * shape[2]
    return (
        nn.Sequential(nn.Flatten(), nn.Linear(pixels, latent)),
        nn.Sequential(nn.Linear(latent, pixels), nn.Unflatten(1, shape)),
    )

@hookimpl
def register_models(register):
    register("light", build)
"""


class Workspace:
    """A folder with params.yaml, plug-ins and DVC's files, in git."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.apart = False  # whether every command gets a process of its own
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("DVC_", "GIT_"))}
        self.env |= {
            "PATH": PATH,
            "AEBENCH_DATA": str(folder.parent / "data"),
            "PYTHONWARNINGS": "error::UserWarning:aebench",
            "GIT_AUTHOR_NAME": "test",
            "GIT_AUTHOR_EMAIL": "test@example.org",
            "GIT_COMMITTER_NAME": "test",
            "GIT_COMMITTER_EMAIL": "test@example.org",
        }

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def run(self, *command: str, ok: bool = True, **options) -> subprocess.CompletedProcess:
        """Run it here. Its output is part of the failure if the status is not the expected one."""
        same_packages = self.env.get("PYTHONPATH") == os.environ.get("PYTHONPATH")
        if command[0] == "aebench" and same_packages and not self.apart and not options:
            done = self.in_process(command[1:])
        else:
            done = subprocess.run(
                command, cwd=self.folder, env=self.env, capture_output=True, text=True, **options
            )
        assert (done.returncode == 0) == ok, f"{command}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def in_process(self, arguments: tuple[str, ...]) -> subprocess.CompletedProcess:
        """What the command line does, without a process: 0.05 s for `plan` instead of 0.5."""
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.chdir(self.folder),
            mock.patch.dict(os.environ, self.env),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            try:
                status = cli.run(list(arguments))
            except SystemExit as end:  # argparse
                status = end.code
        return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())

    def stages(self, *command: str, ok: bool = True) -> set[str]:
        """The stages that the DVC command really executed."""
        done = self.run(*command, ok=ok)
        return set(re.findall(r"Running stage '([^']+)':", done.stdout))

    def params(self, **changes) -> None:
        """Replace top-level keys of params.yaml."""
        yaml = YAML(typ="safe", pure=True)
        yaml.default_flow_style = False
        content = yaml.load((self / "params.yaml").read_text()) | changes
        with (self / "params.yaml").open("w") as file:
            yaml.dump(content, file)

    def rows(self) -> dict[str, dict[str, str]]:
        """Run -> its row of results.csv."""
        with (self / "reports/results.csv").open() as file:
            return {row["run"]: row for row in csv.DictReader(file)}

    def lock(self) -> dict[str, dict]:
        """Stage -> its dependencies and outputs with their hashes, from dvc.lock."""
        return YAML(typ="safe").load((self / "dvc.lock").read_text())["stages"]

    def commit(self) -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", "baseline")


@functools.cache
def remembered() -> bytes | None:
    """What `plan` remembers of aebench's code, in any workspace: parsing it takes 0.8 s.

    None where that is too new to be remembered.
    """
    with tempfile.TemporaryDirectory() as folder:
        for stage in COMPUTING:
            known_fingerprint(Here(Path(folder)), stage, remembering=True)
        path = Path(folder) / ".aebench/code.json"
        return path.read_bytes() if path.exists() else None


def make(folder: Path, params: str = SMALL, plugins: bool = True) -> Workspace:
    folder.mkdir(parents=True)
    for name in ("dvc.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    (folder / ".dvc").mkdir()
    if known := remembered():
        (folder / ".aebench").mkdir()
        (folder / ".aebench/code.json").write_bytes(known)
    shutil.copy(ROOT / ".dvc" / "config", folder / ".dvc")
    shutil.copy(ROOT / ".dvc" / ".gitignore", folder / ".dvc")
    shutil.copytree(ROOT / ".dvc" / "plots", folder / ".dvc" / "plots")
    if plugins:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "plugins", folder / "plugins", ignore=ignored)
    else:
        (folder / "plugins").mkdir()
    (folder / "params.yaml").write_text(params)
    workspace = Workspace(folder)
    workspace.run("git", "init", "-q")
    workspace.commit()
    return workspace


@pytest.fixture
def light(tmp_path):
    """Fresh, with one plug-in that loads fast and one run of it, and the data set digits."""
    params = SMALL[: SMALL.index("runs:")] + "runs:\n  one:\n    model: light\n"
    workspace = make(tmp_path / "workspace", params, plugins=False)
    (workspace / "plugins/light.py").write_text(LIGHT)
    shutil.copy(ROOT / "plugins/digits.py", workspace / "plugins")
    return workspace


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A workspace after `dvc repro` and a commit. Not to be changed: copy it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / "finished" / "workspace"
    with FileLock(f"{folder.parent}.lock"):  # made by the test process that is first
        if folder.is_dir():
            return Workspace(folder)
        workspace = make(folder)
        workspace.run("dvc", "repro")
        workspace.commit()
        return workspace


@pytest.fixture
def baseline(finished, tmp_path):
    """A copy of the finished workspace."""
    shutil.copytree(finished.folder, tmp_path / "workspace", symlinks=True)
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def folder_data(tmp_path):
    """Writes a folder data set below the workspaces' data root."""

    def write(name="pets", sizes=((12, 12),), modes=("RGB",), classes=("cat", "my dog"), count=6):
        random = np.random.default_rng(0)
        for split in ("train", "test"):
            for label, class_name in enumerate(classes):
                folder = tmp_path / "data" / name / split / class_name
                folder.mkdir(parents=True)
                for i in range(count * (3 if split == "train" else 1)):
                    wide, high = sizes[i % len(sizes)]
                    mode = modes[i % len(modes)]
                    shape = (high, wide, 3) if mode == "RGB" else (high, wide)
                    pixels = random.integers(0, 100, shape) + 100 * label
                    Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
        return tmp_path / "data" / name

    return write
