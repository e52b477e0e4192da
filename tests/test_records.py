"""Files that cross a stage: typed, with a version; the recipe is told once."""

import json
import random
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT
from mutations import changed_json

from aebench.errors import AebenchError
from aebench.records.encode import EncodeRecord
from aebench.records.knn import KnnRecord
from aebench.records.plan import DataPlan, EncodePlan, KnnPlan, ReportPlan, Sources, TrainPlan
from aebench.records.prepare import DataRecord, Prepared
from aebench.records.record import Record
from aebench.records.train import TrainRecord
from aebench.schema import Knn, Recipe

KINDS = {
    "plan/data.json": DataPlan,
    "plan/mlp/train.json": TrainPlan,
    "plan/mlp/encode.json": EncodePlan,
    "plan/mlp/knn.json": KnnPlan,
    "plan/report.json": ReportPlan,
    "plan/sources.json": Sources,
    "data/prepared/meta.json": Prepared,
    "results/data.json": DataRecord,
    "results/mlp/0/train.json": TrainRecord,
    "results/mlp/0/encode.json": EncodeRecord,
    "results/mlp/0/knn.json": KnnRecord,
}


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_every_json_file_is_the_bytes_of_its_record(finished, name, kind: type[Record]):
    path = finished / name
    assert kind.read(path, "dvc repro").json_bytes() == path.read_bytes()


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_a_file_that_cannot_be_read_is_one_line(finished, tmp_path, name, kind: type[Record]):
    content = json.loads((finished / name).read_text())
    content.pop("checksum", None)
    path = tmp_path / "file.json"
    broken = {
        "of a later aebench (format 9": json.dumps(content | {"format": 9}),
        "nosuch: Extra inputs are not permitted": json.dumps(content | {"nosuch": 1}),
        "not a record of aebench": "[]",
        "not JSON (": json.dumps(content)[:-5],
        "not JSON (maximum recursion": "[" * 100_000,
    }
    for words, text in broken.items():
        path.write_text(text)
        with pytest.raises(AebenchError) as error:
            kind.read(path, "dvc repro")
        (line,) = str(error.value).splitlines()
        assert line.startswith(f"{path}: {words}") and ("dvc repro" in line or "pip" in line), line


def test_a_stage_refuses_a_later_format(baseline):
    path = baseline / "plan/mlp/train.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    (line,) = baseline.run("aebench", "train", "mlp", "0", ok=False).stderr.splitlines()
    assert "plan/mlp/train.json: of a later aebench (format 2, this one reads up to 1)" in line


def test_a_further_key_of_the_recipe_needs_no_other_edit(light, tmp_path):
    """It stands in plan, CSV and report where it is set, and nowhere at its neutral default."""
    light.run("aebench", "plan")
    plans = {path: path.read_bytes() for path in (light / "plan/one").rglob("*.json")}
    code = tmp_path / "code"
    shutil.copytree(ROOT / "aebench", code / "aebench")
    path = code / "aebench/schema.py"
    last = next(line for line in path.read_text().splitlines() if "horizontal_flip:" in line)
    path.write_text(path.read_text().replace(last, f"{last}\n    clip: float = 0.0"))

    def run(*verbs):
        script = "import sys; from aebench.cli import run\n"
        script += f"sys.exit(max(run(verb.split()) for verb in {verbs}))"
        environment = light.env | {"PYTHONPATH": str(code)}
        command = [sys.executable, "-c", script]
        subprocess.run(command, check=True, cwd=light.folder, env=environment)

    run("plan")
    assert {path: path.read_bytes() for path in plans} == plans
    params = (light / "params.yaml").read_text()
    (light / "params.yaml").write_text(params.replace("train:\n", "train:\n  clip: 0.5\n"))
    run("plan", "prepare", "train one 0", "encode one 0", "knn one 0", "report")
    assert json.loads((light / "plan/one/train.json").read_text())["train"]["clip"] == 0.5
    assert light.rows()["one"]["clip"] == "0.5"
    assert "clip 0.5" in (light / "reports/report.md").read_text()


def test_neutral_defaults_are_for_ever():
    """A further key: add its default here, and never change it: older results hold at it."""
    neutral = {
        f"{kind.__name__}.{name}": field.default
        for kind in (Recipe, Knn)
        for name, field in kind.model_fields.items()
        if not field.is_required()
    }
    assert neutral == {"Recipe.processes": 1}


def test_what_every_training_depends_on_keeps_its_form(finished):
    """A key or a format more in meta.json would train every run again."""
    content = json.loads((finished / "data/prepared/meta.json").read_text())
    names = ["format", "shape", "classes", "num_train", "num_test", "data_hash", "examples"]
    assert list(content) == names and content["format"] == 2
    plan = json.loads((finished / "plan/mlp/train.json").read_text())
    assert list(plan) == ["format", "model", "plugin", "build", "fingerprints", "train"]
    assert plan["format"] == 1


def test_the_recipe_says_how_the_report_words_it():
    assert [n for n, f in Recipe.model_fields.items() if "{}" not in (f.description or "")] == []


@pytest.mark.parametrize("name", KINDS)
def test_changed_file_is_read_or_refused_in_a_line(finished, name, tmp_path):
    draw = random.Random(name)
    good = json.loads((finished / name).read_bytes())
    path = tmp_path / "changed.json"
    refused = 0
    for _ in range(60):
        path.write_text(changed_json(good, draw))
        try:
            KINDS[name].read(path, "dvc repro")
        except AebenchError as error:
            refused += 1
            assert str(error).isprintable() and len(str(error)) < 2000
    assert refused > 20
