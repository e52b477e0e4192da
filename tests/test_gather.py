"""Results of an earlier version and of several folders, rendered as one report."""

import csv
import json
import shutil
import sys
from collections import Counter

import numpy as np
import pytest
from conftest import ROOT

from aebench.errors import AebenchError
from aebench.report.gather import gather
from aebench.report.render import files

hooks = []  # an audit hook cannot be taken away again
sys.addaudithook(lambda event, arguments: [hook(event, arguments) for hook in hooks])
# Results as aebench 0.1.0 wrote them (plan/ and results/) and what this version makes of them.
# To renew: cd tests/golden && aebench report --results .
GOLDEN = ROOT / "tests/golden"


def test_results_of_the_first_version_are_rendered_as_ever():
    found = files(gather([GOLDEN]))
    for name in ("report.md", "results.csv", "metrics.json"):
        assert found[name].decode() == (GOLDEN / "reports" / name).read_text(), name


def test_report_command_renders_a_folder(light):
    done = light.run("aebench", "report", "--results", str(GOLDEN))
    assert done.stderr == "aebench: 2 of 20 runs failed\n"
    text = (light / "reports/report.md").read_bytes()
    assert text == (GOLDEN / "reports/report.md").read_bytes()
    assert (light / "reports/figures/reconstructions.png").stat().st_size > 1000


def test_each_file_is_read_once():
    opened = Counter()

    def watch(event, arguments):
        if event == "open" and str(GOLDEN / "results") in str(arguments[0]):
            opened[str(arguments[0])] += 1

    hooks.append(watch)
    files(gather([GOLDEN]))
    hooks.remove(watch)
    assert len(opened) > 80
    # encode.json of the first version asks train.json for the sizes.
    assert {path for path, count in opened.items() if count > 1} == {
        path for path in opened if path.endswith("/train.json")
    }


@pytest.fixture
def copies(tmp_path):
    """Anna's and Ben's results: equal copies to be changed."""
    for name in ("anna", "ben"):
        shutil.copytree(GOLDEN, tmp_path / name)
    return [tmp_path / "anna", tmp_path / "ben"]


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def only(folder, run, *seeds):
    """Remove all other results."""
    for path in folder.glob("results/*/*/"):
        if path.parent.name != run:
            shutil.rmtree(path.parent, ignore_errors=True)
        elif int(path.name) not in seeds:
            shutil.rmtree(path)


def test_seeds_of_two_people_are_one_configuration(copies):
    anna, ben = copies
    only(anna, "mlp", 0)
    only(ben, "mlp", 1)
    found = gather(copies)
    assert found.seeds == [0, 1] and found.runs == ["mlp"] and not found.hidden
    assert found.remarks == ["1 results are from anna.", "1 results are from ben."]
    text = files(found)["report.md"].decode()
    assert "figures are means of 2 seeds" in text and "1 results are from ben." in text


def test_what_is_there_twice_is_shown_once(copies):
    anna, ben = copies
    outcomes = ben / "results/mlp/0/outcomes.npy"
    votes = np.load(outcomes)
    votes["prediction"] = 0
    np.save(outcomes, votes)
    found = gather(copies)
    assert len(found.results) == 20
    assert "mlp, seed 0, of ben: other outcomes as that of anna, which is shown" in found.hidden
    assert "mlp, seed 1, of ben: the same outcomes as that of anna, which is shown" in found.hidden


def test_equal_names_of_other_settings_are_told_apart(copies):
    anna, ben = copies
    only(anna, "mlp", 0)
    only(ben, "mlp-latent8", 0)
    shutil.move(ben / "results/mlp-latent8", ben / "results/mlp")
    for stage in ("train", "encode", "knn"):
        shutil.move(ben / f"plan/mlp-latent8/{stage}.json", ben / f"plan/mlp/{stage}.json")
    found = gather(copies)
    assert found.runs == ["mlp", "mlp (ben)"]
    rows = list(csv.DictReader(files(found)["results.csv"].decode().splitlines()))
    assert [(row["run"], row["latent"]) for row in rows] == [("mlp", "16"), ("mlp (ben)", "8")]


def test_other_data_and_other_protocols_are_not_mixed_in(copies, tmp_path):
    anna, ben = copies
    edit(ben / "results/data.json", data_hash="f" * 64, dataset="pets")
    found = gather(copies)
    assert found.hidden == ["all of ben: of other data (pets, hash ffffffffffff)"]
    assert {result.source for result in found.results} == {"anna"}
    only(anna, "mlp", 0)
    shutil.copytree(anna, tmp_path / "carl")
    path = tmp_path / "carl/results/mlp/0/train.json"
    origin = json.loads(path.read_text())["provenance"]
    edit(path, provenance=origin | {"protocol": 9})
    found = gather([anna, tmp_path / "carl"])
    assert found.hidden == ["mlp, seed 0, of carl: of protocol 9"]


def test_versions_and_machines_that_differ_are_in_the_report(copies):
    anna, ben = copies
    only(anna, "mlp", 0)
    only(ben, "mlp", 1)
    path = ben / "results/mlp/1/train.json"
    origin = json.loads(path.read_text())["provenance"]
    versions = origin["versions"] | {"torch": "9.9"}
    edit(path, provenance=origin | {"cpu": "Another 9000", "versions": versions})
    text = files(gather(copies))["report.md"].decode()
    table = text.split("## Where the rows differ")[1]
    assert "torch_version" in table and "9.9" in table and "Another 9000" in table


@pytest.mark.parametrize("name", ["train.json", "outcomes.npy"])
def test_what_is_broken_or_missing_is_said(copies, name):
    path = copies[0] / "results/mlp/0" / name
    path.unlink()
    (hidden,) = gather(copies[:1]).hidden if name != "train.json" else ["mlp, seed 0"]
    assert hidden.startswith("mlp, seed 0")


def test_results_without_their_plan_are_not_shown(copies):
    shutil.rmtree(copies[0] / "plan")
    found = gather(copies[:1])
    assert found.results == [] and len(found.hidden) == 20
    assert "its settings are not known" in found.hidden[0]


def test_folder_without_results_is_one_line(tmp_path):
    with pytest.raises(AebenchError, match=r"data.json: not there; run `dvc repro` first"):
        gather([tmp_path])
