"""docs/plugins.md: every example on it runs as it stands."""

import json
import re
import shutil

import pytest
from conftest import ROOT, SMALL, make

PAGE = (ROOT / "docs/plugins.md").read_text()
CODE = "\n".join(re.findall("```python\n(.+?)```", PAGE, re.DOTALL))
SCORED = re.search("`(scored: .+?)`", PAGE)[1]
TRAINED = "plain", "ownloss", "start", "ownloop", "alone"  # benchmarks/wrapped.py: the others


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Planned and prepared: a run for each model of the page, of the data set of the page."""
    workspace = make(tmp_path_factory.mktemp("page") / "workspace", SMALL, plugins=False)
    (workspace / "plugins/kinds.py").write_text(CODE)
    runs = "".join(f"  {name}: {{model: {name}, latent: 8}}\n" for name in (*TRAINED, "means"))
    runs = runs.replace("means, latent: 8", "means")
    head = SMALL[: SMALL.index("runs:")].replace("dataset: digits", "dataset: stripes")
    head = head.replace("latent: 32", "latent: 8")
    (workspace / "params.yaml").write_text(f"{head}runs:\n{runs}")
    workspace.run("aebench", "plan")
    workspace.run("aebench", "prepare")
    return workspace


def results(workspace, run):
    for stage in ("train", "encode", "knn"):
        workspace.run("aebench", stage, run, "0")
        found = json.loads((workspace / f"results/{run}/0/{stage}.json").read_text())
        assert found["status"] == "ok"
        yield found


def test_the_page_is_short():
    assert len(PAGE.splitlines()) <= 160
    assert set(re.findall("```(.+)", PAGE)) == {"python"}  # all that is fenced is run here


@pytest.mark.parametrize("run", [*TRAINED, "means"])
def test_a_model_of_the_page_runs(workspace, run):
    train, encode, knn = results(workspace, run)
    assert (encode["mse"] is None) == (run == "alone") == train["labels_seen"]
    assert bool(train["losses"]) == (run != "means")
    assert knn["accuracy"] > 0.9


def test_own_weights_are_scored_as_they_are(workspace):
    *_, expected = results(workspace, "plain")
    weights = workspace / "runs/plain/0/weights.safetensors"
    shutil.copy(weights, workspace / "mine.safetensors")
    params = (workspace / "params.yaml").read_text()
    (workspace / "params.yaml").write_text(f"{params}  {SCORED}\n")
    workspace.run("aebench", "plan")
    train, _, found = results(workspace, "scored")
    assert train["begun_with"] == "mine.safetensors"
    assert found["accuracy"] == expected["accuracy"]


def test_a_package_is_told_by_the_entry_point_of_the_page(light, tmp_path):
    group, entry = re.search(r"`\[project\.entry-points\.(\w+)\]` and `(.+?)`", PAGE).groups()
    package = tmp_path / "packages"
    (package / "my_package").mkdir(parents=True)
    (package / "my_package/__init__.py").touch()
    (package / "my_package/kinds.py").write_text(CODE)
    info = package / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{entry}\n".replace('"', ""))
    light.env["PYTHONPATH"] = str(package)
    assert "my-package: my_package.kinds" in light.run("aebench", "list").stdout


def test_a_folder_is_a_plug_in_as_the_page_says(light):
    (light / "plugins/mine").mkdir()
    (light / "plugins/mine/__init__.py").write_text("from .kinds import register_models\n")
    (light / "plugins/mine/kinds.py").write_text(CODE)
    assert re.search(r"ownloop +plugins/mine", light.run("aebench", "list").stdout)
