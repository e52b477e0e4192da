"""Two workspaces in one process, and files that are there whole or not at all."""

import json

import numpy as np
import pytest
from conftest import LIGHT, SMALL, make

import aebench
from aebench.stages.encode import encode
from aebench.stages.knn import knn
from aebench.stages.plan import plan
from aebench.stages.prepare import prepare
from aebench.stages.report import report
from aebench.stages.train import train
from aebench.workspace import Outs, Workspace

HELPED = (
    "from _width import WIDTH\nfrom _far.width import FAR\nassert FAR == WIDTH\n"
    + LIGHT.replace(
        "nn.Linear(pixels, latent)", "nn.Linear(pixels, WIDTH), nn.Linear(WIDTH, latent)"
    )
)


def test_two_workspaces_in_one_process(tmp_path):
    params = SMALL[: SMALL.index("runs:")] + "runs:\n  one:\n    model: light\n"
    found = []
    for width in (5, 7):
        folder = make(tmp_path / str(width), params).folder
        (folder / "plugins/_width.py").write_text(f"WIDTH = {width}\n")
        (folder / "plugins/_far").mkdir()
        (folder / "plugins/_far/__init__.py").touch()
        (folder / "plugins/_far/width.py").write_text(f"FAR = {width}\n")
        (folder / "plugins/light.py").write_text(HELPED)
        found.append(Workspace(folder))
    for stage in (plan, prepare, train, encode, knn, report):
        for workspace in found:
            stage(workspace, *(("one", 0) if stage in (train, encode, knn) else ()))
    for workspace, width in zip(found, (5, 7), strict=True):
        model = aebench.load("one", workspace=workspace.root)
        assert model.encoder[1].weight.shape == (width, 64)
        assert "| one " in (workspace.reports / "report.md").read_text()
        encoded = json.loads(workspace.result_path("one", 0, "encode.json").read_text())
        assert encoded["sizes"]["encoder_params"] == 65 * width + (width + 1) * 32


def test_outs_appear_together_or_never(tmp_path):
    one, other = tmp_path / "a/one", tmp_path / "b/other"
    with pytest.raises(ValueError), Outs() as outs:
        outs.write(one, b"1")
        np.save(outs.open(other), np.ones(3))
        raise ValueError
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    with Outs() as outs:
        outs.write(one, b"1")
        outs.write(one, b"begun anew")
        np.save(outs.open(other), np.ones(3))
    assert one.read_bytes() == b"begun anew" and np.load(other).sum() == 3
