"""Files for programs: what DVC draws and compares."""

import csv
import io
import json

import pytest
from conftest import ROOT, Workspace
from synthetic import made, pca, pixels, report, results, sweep

from aebench.report import render
from aebench.report.render import Report


def table(found, name):
    """The rows of a CSV file of the report, without a word that is no number to readers of CSV."""
    text = found.files[name].decode()
    assert "nan" not in text.lower() and "inf" not in text.lower() and "None" not in text
    return list(csv.DictReader(io.StringIO(text)))


def test_losses_by_epoch_and_by_seconds():
    one, other = made(seed=0), made(seed=1)
    one.losses, one.epoch_seconds = [0.5, 0.25, 0.125], [2.0, 1.0, 1.5]
    other.losses, other.epoch_seconds = [0.5], []  # of a version that kept no times
    found = table(report([one, other, pca()]), "plots/loss.csv")
    assert [tuple(row.values()) for row in found] == [
        ("mlp", "0", "1", "2.0", "0.5"),
        ("mlp", "0", "2", "3.0", "0.25"),
        ("mlp", "0", "3", "4.5", "0.125"),
        ("mlp", "1", "1", "", "0.5"),
    ]
    assert list(found[0]) == ["run", "seed", "epoch", "seconds", "loss"]


def test_quality_has_intervals_of_each_run_that_did_not_fail():
    runs = [made(), made("twin"), made("broken", latent=5, status="failed: nan"), pixels()]
    runs.append(made("alone", latent=7, mse=None))
    shown = report(runs)
    found = {row["run"]: row for row in table(shown, "plots/quality.csv")}
    assert list(found) == ["mlp", "twin", "pixels", "alone"]
    assert found["mlp"] == found["twin"] | {"run": "mlp"}  # of equal settings
    one = shown.configurations[0]
    for column in ("accuracy", "mse"):
        low, mean, high = (float(found["mlp"][f"{column}{end}"]) for end in ("_low", "", "_high"))
        assert low < mean < high and mean == pytest.approx(one.mean(column))
    assert [found["alone"][name] for name in ("mse", "mse_low", "mse_high")] == [""] * 3
    figures = ("accuracy", "mse", "ssim")  # the last one blank: dvc.yaml draws it
    columns = [f"{name}{end}" for name in figures for end in ("", "_low", "_high")]
    assert list(found["mlp"]) == ["run", *columns] and found["mlp"]["ssim"] == ""


@pytest.mark.parametrize("name", ["mlp (a,b)", 'mlp ("\n")', "mlp (=1+1)", "mlp (猫 | $x^$)"])
def test_names_of_folders_come_back_from_a_table(name):
    one = made(name)
    one.losses, one.epoch_seconds = [0.5], [1.0]
    found = report([one])
    for file in ("plots/loss.csv", "plots/quality.csv"):
        assert [row["run"] for row in table(found, file)] == [name]


def headline(found, **changes):
    return json.loads(Report(results(found, **changes)).files["headline.json"])


def test_the_headline_is_of_the_best_codes_without_labels():
    runs = sweep(seeds=(0,), mlp={"mse": 0.0135, "accuracy": 0.55})  # PCA: 0.015, and 0.5
    runs.append(made("seen", latent=8, accuracy=0.9, labels_seen=True))
    runs.append(made("wide", latent=64, mse=0.001, accuracy=0.4))  # of another size
    runs.append(made("broken", latent=5, status="failed: nan"))
    found = headline(runs)
    assert list(found) == ["best_accuracy", "best_mse_skill", "failed_runs"]
    assert found["best_accuracy"] == pytest.approx(0.55, abs=0.002)  # pixels: 0.6
    assert found["best_mse_skill"] == pytest.approx(0.1)
    assert found["failed_runs"] == 1


def test_a_headline_without_codes_is_blank():
    assert headline([pixels()]) == {"best_accuracy": None, "best_mse_skill": None, "failed_runs": 0}


def test_the_report_stage_ends_with_the_page_to_open(tmp_path, monkeypatch):
    golden = ROOT / "tests/golden"
    folder = tmp_path / "my bench"
    folder.mkdir()
    common = Workspace(folder)
    monkeypatch.setattr(render, "files", lambda *_: {"report.html": b"<p>"})
    done = common.run("aebench", "report", "--results", str(golden))
    assert done.stdout.splitlines()[-1] == f"open file://{tmp_path}/my%20bench/reports/report.html"
    assert (folder / "reports/report.html").read_bytes() == b"<p>"
