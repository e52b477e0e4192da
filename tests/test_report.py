"""What the report concludes: baselines, skill, ties, times, costs, origins."""

import csv
import json
import re
import shutil

import numpy as np
import pandas
import pytest
from conftest import ROOT, Workspace
from sklearn.metrics import confusion_matrix

SWEEP = {
    "mlp": {"model": "mlp"},
    "mlp-untrained": {"model": "mlp", "train": {"epochs": 0}},
    "mlp-latent10": {"model": "mlp", "latent": 10},
    "pca": {"model": "pca"},
    "pca-latent10": {"model": "pca", "latent": 10},
    "pixels": {"model": "pixels"},
}


@pytest.fixture(scope="module")
def seeded(finished, tmp_path_factory):
    """A sweep of two sizes with three seeds, its baselines, and its report. Not to be changed."""
    folder = tmp_path_factory.mktemp("seeded") / "workspace"
    shutil.copytree(finished.folder, folder, symlinks=True)
    workspace = Workspace(folder)
    workspace.params(runs=SWEEP, seeds=[0, 1, 2])
    workspace.run("dvc", "repro")
    # Tests run side by side: what they time is contended or not by chance.
    for path in (workspace / "results").glob("*/*/*.json"):
        edit(path, timing={"contended": False})
        if path.name == "train.json":
            edit(path, train_contended=False)
    return workspace


def copy(workspace, path):
    shutil.copytree(workspace.folder, path / "workspace", symlinks=True)
    return Workspace(path / "workspace")


def edit(path, **changes):
    content = json.loads(path.read_text())
    for key, value in changes.items():
        content[key] = content.get(key, {}) | value if isinstance(value, dict) else value
    path.unlink()  # a link into DVC's cache must not be written through
    path.write_text(json.dumps(content))


def text_of(workspace):
    workspace.run("aebench", "report")
    return (workspace / "reports/report.md").read_text()


def section(text, heading):
    return text.split(f"## {heading}\n")[1].split("\n## ")[0]


def cells(text, heading):
    """Run -> header -> cell of the first table of the section."""
    lines = [line for line in section(text, heading).splitlines() if line.startswith("|")]
    header, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)
    return {row[0]: dict(zip(header, row, strict=True)) for row in rows}


def table_rows(workspace):
    with (workspace / "reports/results.csv").open() as file:
        return list(csv.DictReader(file))


def test_lines_for_missing_baselines_are_those_that_bring_them(baseline):
    text = (baseline / "reports/report.md").read_text()
    block = re.search(r"Baselines are missing.*?```yaml\n(.*?)```", text, re.DOTALL)[1]
    assert block.count("model: pca") == 2 and "epochs: 0" in block and "pixels" not in block
    with (baseline / "params.yaml").open("a") as params:
        params.write(block)
    baseline.run("dvc", "repro")
    text = (baseline / "reports/report.md").read_text()
    assert "Baselines are missing" not in text
    assert all(row["mse_skill"] for row in table_rows(baseline) if row["epochs"] == "1")


def test_every_table_of_models_has_its_baselines_once(seeded):
    text = (seeded / "reports/report.md").read_text()
    assert list(cells(text, "Architectures")) == ["mlp", "mlp-untrained", "pca", "pixels"]
    names = re.findall(r"^\| ([\w-]+) ", section(text, "Representation size"), re.MULTILINE)
    assert sorted(names) == sorted(["run", *SWEEP])


def test_skill_is_against_pca_of_the_same_size_and_negative_in_words(seeded):
    rows = table_rows(seeded)
    mean = {run: np.mean([float(row["mse"]) for row in rows if row["run"] == run]) for run in SWEEP}
    shown = cells((seeded / "reports/report.md").read_text(), "Representation size")
    for run, pca in (("mlp", "pca"), ("mlp-latent10", "pca-latent10")):
        skill = 1 - mean[run] / mean[pca]
        assert skill < 0  # one epoch
        assert shown[run]["skill, %"].startswith(f"{100 * skill:+.1f} ± ")
        assert shown[run]["skill, %"].endswith("**worse than PCA**")
        own = [float(row["mse_skill"]) for row in rows if row["run"] == run]
        assert np.mean(own) == pytest.approx(skill)
    assert shown["pca"]["skill, %"] == shown["pixels"]["skill, %"] == ""


def test_figures_have_their_interval_and_number_of_seeds(seeded):
    text = (seeded / "reports/report.md").read_text()
    shown = cells(text, "Architectures")
    assert (shown["mlp"]["seeds"], shown["pca"]["seeds"]) == ("3", "any")
    values = np.stack([np.load(seeded / f"results/mlp/{s}/outcomes.npy") for s in range(3)])
    right = values["label"] == values["prediction"]
    mean, half = shown["mlp"]["accuracy, %"].strip("*").split(" ± ")
    assert mean == f"{100 * right.mean():.2f}"
    # At least what the images alone say, less than two more seeds could explain.
    alone = 196 * right.mean(axis=0).std() / right.shape[1] ** 0.5
    assert alone <= float(half) + 0.01
    assert "means of 3 seeds" in text
    for column, name in (("MSE", "mse"), ("PSNR, dB", "psnr")):
        mean = np.mean([float(r[name]) for r in table_rows(seeded) if r["run"] == "mlp"])
        got, _ = shown["mlp"][column].strip("*").split(" ± ")
        assert float(got) == pytest.approx(mean, abs=0.01 if name == "psnr" else 1e-5)


def test_one_seed_says_what_its_interval_leaves_out(finished):
    text = (finished / "reports/report.md").read_text()
    assert "It leaves out that another seed" in text
    row = finished.rows()["mlp"]
    p, n = float(row["accuracy"]), 359
    assert float(row["accuracy_ci95"]) == pytest.approx(1.967 * (p * (1 - p) / n) ** 0.5, rel=0.01)


def test_run_with_one_seed_left_is_said_and_in_no_tie_group(seeded, tmp_path):
    workspace = copy(seeded, tmp_path)
    for seed in (1, 2):
        edit(workspace / f"results/mlp/{seed}/knn.json", status="failed: no codes")
    text = text_of(workspace)
    assert "Of mlp one seed is left: over images alone, and in no tie group." in text
    shown = cells(text, "Architectures")
    assert shown["mlp"]["seeds"] == "1 of 3" and "**" not in shown["mlp"]["accuracy, %"]
    assert "2 of 18 runs failed" in text


def test_tie_group_is_in_bold_and_in_words(seeded, tmp_path):
    workspace = copy(seeded, tmp_path)
    for path in (workspace / "results").glob("*/*/outcomes.npy"):
        outcomes = np.load(path)
        outcomes["prediction"] = outcomes["label"]
        if path.parent.parent.name == "mlp":  # better than all others
            outcomes["squared_error"] /= 1000
        else:
            outcomes["prediction"][:60] = 9 - outcomes["label"][:60]
        path.unlink()
        np.save(path, outcomes)
    text = text_of(workspace)
    assert "Accuracy: best **mlp**. MSE with 32 floats: best **mlp**." in section(
        text, "Architectures"
    )
    shown = cells(text, "Architectures")
    assert [run for run in shown if "**" in shown[run]["accuracy, %"]] == ["mlp"]
    assert [run for run in shown if "**" in shown[run]["MSE"]] == ["mlp"]


def test_contended_time_is_marked_left_out_and_can_be_taken_again(seeded, tmp_path):
    workspace = copy(seeded, tmp_path)
    folder = workspace / "results/mlp"
    for seed in range(3):
        edit(folder / f"{seed}/knn.json", timing={"contended": True, "waited_share": 0.4})
    edit(folder / "1/train.json", timing={"contended": True, "waited_share": 0.5})
    text = text_of(workspace)
    assert cells(text, "Architectures")["mlp"]["epoch, s"].endswith("(n = 2)")
    cost = cells(text, "kNN on codes against raw pixels")["mlp"]
    assert cost["search, s"].endswith("contended")
    assert cost["x pixels"] == cost["pays from"] == ""
    command = re.search(r"dvc repro -s -f (.*) && dvc repro\n```", text)[1]
    stages = command.split()
    assert {"train@mlp-1", "knn@mlp-0", "knn@mlp-1", "knn@mlp-2"} <= set(stages)
    assert "The worst is train@mlp-1, which waited for a core in 50%" in text
    # A contended pixels run leaves nothing to compare with.
    for seed in range(3):
        edit(workspace / f"results/pixels/{seed}/knn.json", timing={"contended": True})
    cost = cells(text_of(workspace), "kNN on codes against raw pixels")
    assert {row["x pixels"] for row in cost.values()} == {""}


def test_times_of_another_machine_are_in_no_comparison(seeded, tmp_path):
    workspace = copy(seeded, tmp_path)
    for seed in range(3):
        for stage in ("train", "encode", "knn"):
            path = workspace / f"results/mlp/{seed}/{stage}.json"
            edit(path, provenance={"cpu": "Another 9000"})
    text = text_of(workspace)
    assert re.search(r"Another 9000, .* \(B\)\. Those without a letter are of \(A\)", text)
    assert cells(text, "Architectures")["mlp"]["epoch, s"].endswith("(B)")
    cost = cells(text, "kNN on codes against raw pixels")
    assert cost["mlp"]["x pixels"] == cost["mlp"]["pays from"] == ""
    shown = section(text, "Where the rows differ")
    assert "| Another 9000" in shown and "mlp-1, mlp-2 " in shown


def test_origin_is_said_once_where_the_rows_agree(finished):
    text = (finished / "reports/report.md").read_text()
    assert "Where the rows differ" not in text and "several" not in text.split("## ")[0]


def test_search_pays_from_where_the_saved_seconds_reach_the_encoding(seeded, tmp_path):
    workspace = copy(seeded, tmp_path)
    for run, query, rate in (("mlp", 1e-3, 1000.0), ("pixels", 5e-3, 1e9)):
        for seed in range(3):
            folder = workspace / f"results/{run}/{seed}"
            edit(folder / "knn.json", query_seconds=query, timing={"contended": False})
            edit(
                folder / "encode.json",
                encode_images_per_second=rate,
                timing={"contended": False},
            )
    edits = {"train_seconds": 3.0, "train_contended": False}
    for seed in range(3):
        edit(workspace / f"results/mlp/{seed}/train.json", **edits)
    row = cells(text_of(workspace), "kNN on codes against raw pixels")["mlp"]
    # A query: 1 ms to encode, 1 ms to search, 3 ms saved; the bank of 1,438 takes 1.438 s.
    assert (row["a query, ms"], row["x pixels"]) == ("2.000", "2.5")
    assert (row["pays from"], row["with training"]) == ("480", "1,480")


def test_panel_correlation_tells_whether_the_ranking_holds(seeded):
    text = section((seeded / "reports/report.md").read_text(), "Does the protocol decide?")
    shown = cells(f"## x\n{text}", "x")
    assert set(shown) == {*SWEEP, "*rank correlation*"}
    taus = [float(v) for k, v in shown["*rank correlation*"].items() if k != "run" and v]
    assert taus and all(-1 <= tau <= 1 for tau in taus)
    assert shown["*rank correlation*"]["l2 10"] == "1.00"  # the headline with itself


def test_classes_come_from_the_outcomes(seeded):
    shown = cells((seeded / "reports/report.md").read_text(), "Classes")
    outcomes = [np.load(seeded / f"results/mlp/{s}/outcomes.npy") for s in range(3)]
    matrix = sum(confusion_matrix(o["label"], o["prediction"]) for o in outcomes)
    for label in range(10):
        expected = 100 * matrix[label, label] / matrix[label].sum()
        assert shown[str(label)]["mlp"].split(" ± ")[0] == f"{expected:.1f}"


def test_documented_line_of_pandas_reads_compact_outcomes(finished):
    line = re.search(r"`(pandas\.DataFrame\(.*?\))`", (ROOT / "README.md").read_text())[1]
    path = finished / "results/mlp/0/outcomes.npy"
    line = line.replace("results/cnn/0/outcomes.npy", str(path))
    frame = eval(line, {"pandas": pandas, "numpy": np})
    assert list(frame.columns) == ["label", "prediction", "squared_error"]
    assert len(frame) == 359 and np.load(path).itemsize == 6
    accuracy = (frame.label == frame.prediction).mean()
    assert accuracy == pytest.approx(float(finished.rows()["mlp"]["accuracy"]))
