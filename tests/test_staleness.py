"""`aebench plan --check` writes nothing and says why a stage is stale."""

import json
import shutil

import pytest
from conftest import ROOT


def check(workspace):
    """Its lines, after seeing that no file was touched."""
    before = state(workspace)
    lines = workspace.run("aebench", "plan", "--check").stdout.splitlines()
    assert state(workspace) == before
    return lines


def state(workspace):
    paths = [p for p in workspace.folder.rglob("*") if ".git" not in p.parts and p.is_file()]
    return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in paths}


def test_nothing_is_stale_after_a_run(baseline):
    assert check(baseline) == ["no result is stale"]


def test_settings_are_named_and_the_rest_follows(baseline):
    baseline.params(latent=16)
    first, second, third, fourth, report, total = check(baseline)
    assert first.startswith("train@mlp-0: latent 32 -> 16 (about ")
    assert second.startswith("encode@mlp-0: follows train@mlp-0 (about ")
    assert third.startswith("knn@mlp-0: follows encode@mlp-0 (about ")
    assert fourth.startswith("stress@mlp: follows encode@mlp-0 (about ")
    assert report == "report: follows"
    assert total.startswith("5 stages are stale or follow: at most about ")
    # Still so after the plan was written, though it is then the plan on the disk that is new.
    baseline.run("aebench", "plan")
    assert check(baseline)[0] == first


def test_search_settings_and_a_new_seed(baseline):
    baseline.params(knn={"k": 5, "metric": "l2", "backend": "sklearn"}, seeds=[0, 1])
    lines = check(baseline)
    changed = "knn.k 10 -> 5; knn.backend 'faiss' -> 'sklearn' (about "
    assert [line for line in lines if line.startswith(f"knn@mlp-0: {changed}")]
    assert [line for line in lines if line.startswith("train@mlp-1: no result (about ")]


def test_files_of_a_plugin_are_named(baseline):
    path = baseline / "plugins/_convolutions.py"
    path.write_text(path.read_text().replace("nn.GELU()", "nn.ReLU()"))
    lines = check(baseline)
    assert lines[0].startswith("train@cnn-latent10-0: plugins/_convolutions.py changed (about ")
    assert len(lines) == 6


def test_a_holdout_and_trials_are_told(baseline):
    text = (baseline / "params.yaml").read_text()
    said = text.replace("model: mlp", "model: mlp\n    trials: 12 settings")
    (baseline / "params.yaml").write_text(said)
    assert check(baseline)[0] == "report: trials.mlp is new ('12 settings')"
    baseline.params(holdout=0.1)
    first, second, *_ = check(baseline)
    assert first == "prepare: holdout is new (0.1)"
    assert "-0: follows prepare, if the images change (no earlier time" in second


def test_images_are_told(baseline):
    baseline.params(image_size=16)
    first, second, *_ = check(baseline)
    assert first == "prepare: image_size None -> 16"
    assert "-0: follows prepare, if the images change (no earlier time" in second


def test_what_only_the_report_shows(baseline):
    baseline.params(runs={"pixels": {"model": "pixels"}})
    assert check(baseline)[0].startswith("report: runs [")


def test_a_chain_that_is_broken(baseline):
    baseline.params(image_size=16)
    baseline.run("aebench", "plan")
    baseline.run("aebench", "prepare")
    baseline.params(image_size=None)
    baseline.run("aebench", "plan")
    (baseline / "results/mlp/0/encode.json").write_text("{")
    lines = check(baseline)
    assert lines[0] == "prepare: image_size 16 -> None"
    baseline.run("aebench", "prepare")
    lines = check(baseline)
    assert [line for line in lines if line.startswith("encode@mlp-0: no result")]
    assert [line for line in lines if line.startswith("knn@mlp-0: follows encode@mlp-0")]


def test_results_of_other_images_are_stale(baseline):
    path = baseline / "results/data.json"
    content = json.loads(path.read_text())
    del content["checksum"]
    path.write_text(json.dumps(content | {"data_hash": "0" * 64}))
    assert [line for line in check(baseline) if "train is of other images" in line]


def test_results_of_the_first_version_are_told(light):
    shutil.copytree(ROOT / "tests/golden/results", light / "results")
    (light / "results/mlp/0/train.json").unlink()
    (light / "results/mlp/1/train.json").write_text("{")
    light.params(runs={"mlp": {"model": "light"}}, seeds=[0, 1])
    lines = check(light)
    assert "encode@mlp-0: follows train@mlp-0 (no earlier time)" in lines
    light.run("aebench", "plan")
    path = light / "plugins/light.py"
    path.write_text(path.read_text().replace("beta=1.0", "beta=2.0"))
    light.run("aebench", "plan")


@pytest.mark.parametrize(
    ("path", "old", "new", "stages"),
    [
        ("evaluation/vote.py", "votes.max(", "votes.min(", "knn"),
        ("models/optimizers.py", "MOMENTUM = 0.95", "MOMENTUM = 0.9", "train"),
    ],
)
def test_modules_of_aebench_are_named(baseline, tmp_path, path, old, new, stages):
    code = tmp_path / "code" / "aebench"
    shutil.copytree(ROOT / "aebench", code)
    text = (code / path).read_text()
    assert old in text
    (code / path).write_text(text.replace(old, new))
    baseline.env["PYTHONPATH"] = str(code.parent)
    lines = [line for line in check(baseline) if "@mlp-0" in line]
    module = f"aebench.{path.removesuffix('.py').replace('/', '.')}"
    assert lines[0].startswith(f"{stages}@mlp-0: {module} changed (about ")
    # The pixels are fitted in closed form: no optimizer is in their key.
    assert not [line for line in check(baseline) if line.startswith("train@pixels-0")]


def test_faults_are_told_as_ever(baseline):
    baseline.params(latent=0)
    done = baseline.run("aebench", "plan", "--check", ok=False)
    assert done.stderr.startswith("aebench: error: params.yaml: latent: got 0")
