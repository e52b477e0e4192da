"""`aebench new-plugin`: a file that works and a run of it, or nothing at all."""

import errno
import json
import shutil

import pytest
from conftest import LIGHT, ROOT, SMALL, make

from aebench.commands import check_plugin, new_plugin
from aebench.outs import Outs

SHIPPED = (ROOT / "params.yaml").read_text()
ONE = SMALL[: SMALL.index("runs:")] + "runs:\n  one:\n    model: light\n"


@pytest.fixture
def fast(light, monkeypatch):
    """The light workspace; what is written is checked at one shape."""
    monkeypatch.setattr(check_plugin, "CASES", check_plugin.CASES[:1])
    return light


def files(workspace):
    """Name -> content of all but git's."""
    paths = [path for path in workspace.folder.rglob("*") if ".git" not in path.parts]
    return {path: path.read_bytes() if path.is_file() else None for path in paths}


def test_new_plugin_is_written_checked_and_ready_to_train(tmp_path, monkeypatch):
    monkeypatch.setattr(check_plugin, "CASES", check_plugin.CASES[:-1])  # the last is large
    workspace = make(tmp_path / "workspace", SHIPPED)
    said = workspace.run("aebench", "new-plugin", "my-model").stdout
    assert "plugins/my_model.py: keeps the contract\nnext: dvc repro" in said
    assert said.count(" ok ") == len(check_plugin.CASES) and "warning" not in said
    added = "  my-model:\n    model: my-model\n"
    assert (workspace / "params.yaml").read_text() == SHIPPED + added
    source = (workspace / "plugins/my_model.py").read_text()
    assert all(word in source for word in ("loss(", "fit(", "optimize(", "decoder = None", "docs/"))
    workspace.run("aebench", "plan")
    plan = json.loads((workspace / "plan/my-model/train.json").read_text())
    assert (plan["model"], plan["plugin"]) == ("my-model", "plugins/my_model.py")
    assert plan["build"] == {"width": 256, "latent": 32, "depth": 3}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (ONE, ONE + "  mine:\n    model: mine\n"),
        (ONE.replace("\n", "\r\n"), (ONE + "  mine:\n    model: mine\n").replace("\n", "\r\n")),
        (ONE.rstrip(), ONE + "  mine:\n    model: mine\n"),
        (ONE + "\n# mine:\n\n", ONE + "  mine:\n    model: mine\n\n# mine:\n\n"),
        (ONE + "...\n", ONE + "  mine:\n    model: mine\n...\n"),
        (
            "# über\nruns: # all\n\n    one: # first\n        model: 'light' # c\n    # last\n"
            + SMALL[: SMALL.index("runs:")],
            "# über\nruns: # all\n\n    one: # first\n        model: 'light' # c\n"
            "    mine:\n        model: mine\n    # last\n" + SMALL[: SMALL.index("runs:")],
        ),
        (
            ONE + '  "two": {model: light, beta: 2.0}  # short\n',
            ONE + '  "two": {model: light, beta: 2.0}  # short\n  mine:\n    model: mine\n',
        ),
        (
            ONE + "    train: {epochs: 0,\n      batch_size: 8}\n",
            ONE + "    train: {epochs: 0,\n      batch_size: 8}\n  mine:\n    model: mine\n",
        ),
        (
            ONE + "    note: |\n      a\n\n      b\n\n# end\n",
            ONE + "    note: |\n      a\n\n      b\n\n  mine:\n    model: mine\n# end\n",
        ),
        (
            ONE + "    tags:\n    - 1\n    -   - 2\n",
            ONE + "    tags:\n    - 1\n    -   - 2\n  mine:\n    model: mine\n",
        ),
    ],
)
def test_every_other_byte_of_params_yaml_stays(fast, before, after):
    (fast / "params.yaml").write_bytes(before.encode())
    fast.run("aebench", "new-plugin", "mine")
    assert (fast / "params.yaml").read_bytes().decode() == after


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("taken", "plugins/taken.py: is there already; nothing is overwritten"),
        ("under-score", "plugins/under_score.py: is there already"),
        ("folder", "plugins/folder: is there already"),
        ("dangling", "plugins/dangling.py: is there already"),
        ("one", "params.yaml: runs.one: is there already"),
        ("light-2", "plugins/taken.py: registers a model 'light-2' already"),
        ("My_Model", "error: My_Model: got 'My_Model'; allowed: names like ^[a-z0-9]"),
        ("My Model", "; as my-model"),
        ("ü-3d", "; as model-3d"),
        ("../mine", "got '../mine'; allowed: names like"),
        ("mine.py", "got 'mine.py'; allowed: names like"),
        ("_mine", "got '_mine'; allowed: names like"),
        ("", "allowed: names like"),
        ("m" * 101, "allowed: names like"),
        ("null", "got null, which is not text in YAML; allowed: names like"),
        ("class", "class.py could not be imported in Python; allowed: a name that begins with a l"),
        ("class", "; as model-class"),
        ("3d", "could not be imported in Python; allowed: a name that begins with a letter"),
    ],
)
def test_name_that_is_taken_or_none_is_a_line_and_nothing_is_written(fast, name, words):
    (fast / "plugins/taken.py").write_text(LIGHT.replace('"light"', '"light-2"'))
    (fast / "plugins/under_score.py").write_text("")
    (fast / "plugins/folder").mkdir()
    (fast / "plugins/dangling.py").symlink_to("nowhere")
    before = files(fast)
    (line,) = fast.run("aebench", "new-plugin", "--", name, ok=False).stderr.splitlines()
    assert line.startswith("aebench: error: ") and words in line
    assert files(fast) == before


TOP = SMALL[: SMALL.index("runs:")]


@pytest.mark.parametrize(
    "params",
    [
        TOP + "runs: {}\n",
        TOP + "runs: {one: {model: light}}\n",
        TOP + "runs:\n",
        TOP + "runs: 3\n",
        TOP,
        TOP.replace("knn:", "knn: &all") + "runs: *all\n",
        TOP + "runs: &all\n  one: &one\n    model: light\n  two: *one\n",
        "? runs\n: one: {model: light}\n",
        "{runs: {one: {model: light}}}\n",
        TOP + "runs:\n  one: !!map\n    model: light\n    model: light\n",
        TOP + "runs:\n\tone:\n",
        "[]\n",
        "",
    ],
)
def test_params_yaml_that_takes_no_line_is_a_line_or_is_right(fast, params):
    (fast / "params.yaml").write_text(params)
    before = files(fast)
    done = fast.in_process(("new-plugin", "mine"))
    if done.returncode == 0:
        text = (fast / "params.yaml").read_text()
        assert text.replace("  mine:\n    model: mine\n", "") == params
        return
    (line,) = done.stderr.splitlines()
    assert line.startswith("aebench: error: params.yaml: ")
    assert files(fast) == before


def test_outside_a_workspace(fast):
    (fast / "params.yaml").unlink()
    said = fast.run("aebench", "new-plugin", "mine", ok=False).stderr
    assert "params.yaml: not there; make this folder a workspace: aebench init" in said
    assert not (fast / "plugins/mine.py").exists()


def test_both_files_or_none(fast, monkeypatch):
    write = Outs.write

    def full(outs, path, content):
        if path.name == "params.yaml":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(outs, path, content)

    before = files(fast)
    monkeypatch.setattr(Outs, "write", full)
    (line,) = fast.run("aebench", "new-plugin", "mine", ok=False).stderr.splitlines()
    assert "No space left on device" in line and files(fast) == before


def test_linked_params_yaml_stays_a_link(fast):
    (fast / "params.yaml").rename(fast / "shared.yaml")
    (fast / "params.yaml").symlink_to("shared.yaml")
    fast.run("aebench", "new-plugin", "mine")
    assert (fast / "params.yaml").is_symlink()
    assert "  mine:\n" in (fast / "shared.yaml").read_text()


def test_missing_folder_of_plugins_is_made(fast):
    shutil.rmtree(fast / "plugins")
    fast.run("aebench", "new-plugin", "torch")
    assert (fast / "plugins/torch.py").read_text() == new_plugin.SOURCE.replace("MODEL", "torch")
    assert "keeps the contract" in fast.run("aebench", "check-plugin", "torch").stdout
