"""Two workspaces in one process, plans made at once, odd terminals."""

import json
import subprocess
import sys

import pytest
from conftest import LIGHT, SMALL, make

import aebench
from aebench.errors import AebenchError
from aebench.plugins import activate
from aebench.stages.encode import encode
from aebench.stages.knn import knn
from aebench.stages.plan import plan
from aebench.stages.prepare import prepare
from aebench.stages.report import report
from aebench.stages.train import train
from aebench.workspace import Workspace, file_hash, read_bytes

HELPED = (
    "from _width import WIDTH\nfrom _far.width import FAR\nfrom . import _width\n"
    "from ._far.width import FAR as NEAR\nassert FAR == WIDTH == NEAR == _width.WIDTH\n"
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


def test_load_refuses_other_weights_and_other_code(light):
    for command in (["plan"], ["prepare"], ["train", "one", "0"]):
        light.run("aebench", *command)
    aebench.load("one", workspace=light.folder)
    weights = light / "runs/one/0/weights.safetensors"
    content = weights.read_bytes()
    for damaged in (content[:-1] + bytes([content[-1] ^ 1]), content[:-1], b""):
        weights.write_bytes(damaged)
        with pytest.raises(AebenchError, match="weights.safetensors: .*recorded.*`dvc repro"):
            aebench.load("one", workspace=light.folder)
    weights.write_bytes(content)
    plugin = light / "plugins/light.py"
    plugin.write_text(plugin.read_text().replace("nn.Flatten()", "nn.Flatten(), nn.Tanh()"))
    with pytest.raises(AebenchError, match="plugins/light.py: other code than run 'one' was"):
        aebench.load("one", workspace=light.folder)


def test_a_folder_that_was_put_back_on_the_path_hides_no_other(tmp_path):
    """As where a stage's surroundings are restored after another folder became the active one."""
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
        (folder / "_mine.py").write_text(f"NAME = {folder.name!r}\n")
    seen = []
    for number in (0, 1, 2, 0):
        before = list(sys.path)
        activate(str(folders[number]))
        from _mine import NAME

        seen.append(NAME)
        package = sys.modules["aebench_plugins"]
        assert package.__path__ == [str(folders[number])]
        added = [path for path in sys.path if path not in before]
        sys.path[:] = before + added
    assert seen == ["a", "b", "c", "a"]


def test_plans_made_at_once(light):
    command = [sys.executable, "-m", "aebench", "plan"]
    for runs in (["one", "two"], ["one"]):
        light.params(runs={run: {"model": "light"} for run in runs})
        together = [
            subprocess.Popen(command, cwd=light.folder, env=light.env, stderr=subprocess.PIPE)
            for _ in range(3)
        ]
        assert [process.communicate()[1] for process in together] == [b""] * 3
        assert [process.returncode for process in together] == [0] * 3
        assert sorted(p.name for p in (light / "plan").iterdir() if p.is_dir()) == runs
    assert not list(light.folder.rglob("*.part"))


@pytest.mark.parametrize("encoding", ["ascii", "iso8859-5:strict"])
def test_output_that_cannot_show_a_name(light, encoding):
    light.apart = True
    light.env["PYTHONIOENCODING"] = encoding
    (light / "plugins/light.py").write_text(LIGHT.replace('"light"', '"l\u00efght"'))
    light.params(runs={"one": {"model": "l\u00efght", "latent": 3}})
    assert "l\\xefght    plugins/light.py" in light.run("aebench", "list").stdout
    light.params(runs={"one": {"model": "\u65e5\u672c"}})
    assert "unknown model '\\u65e5\\u672c'" in light.run("aebench", "plan", ok=False).stderr


def test_folder_that_was_deleted(tmp_path):
    command = f"rmdir {tmp_path}; {sys.executable} -m aebench train one 0"
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr == "aebench: error: the folder you are in was deleted; cd into another\n"
    assert done.returncode == 1


@pytest.mark.parametrize("read", [read_bytes, file_hash])
def test_a_file_that_the_disk_does_not_give_is_named(tmp_path, read):
    path = tmp_path / "link"
    path.symlink_to("/proc/self/mem")  # opened, and then an input/output error
    with pytest.raises(OSError, match="link"):
        read(path)
