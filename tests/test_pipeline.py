"""What runs again, and what does not: real `dvc` in a real workspace."""

import json
import re
import shutil

import numpy as np
import pytest
from conftest import ROOT, Workspace
from PIL import Image

RUNS = ("mlp", "cnn-latent10", "pixels")
EVERY = {"plan", "prepare", "codecs", "report"}  # but those of runs


def stages(*runs, seed=0, only=("train", "encode", "knn", "stress")):
    """DVC's names of them; `stress` is of the first seed alone."""
    found = {f"{stage}@{run}-{seed}" for stage in only for run in runs if stage != "stress"}
    return found | {f"stress@{run}" for run in runs if "stress" in only and seed == 0}


def executed(workspace: Workspace, *command: str) -> set[str]:
    """The executed stages, after checking that all others kept every hash."""
    before = workspace.lock()
    found = workspace.stages(*command)
    after = workspace.lock()
    # A stage that is cached is not executed, but it may be of other settings: compare the rest.
    kept = [s for s in before.keys() & after.keys() if s not in found]
    assert [s for s in kept if before[s] != after[s]] == []
    return found


def outdated(workspace: Workspace) -> set[str]:
    """The stages after `plan` whose dependencies are others, to which DVC adds what follows.

    Without running them: a repro takes 8 s.
    """
    workspace.run("aebench", "plan")
    status = json.loads(workspace.run("dvc", "status", "--json").stdout)
    return {
        stage
        for stage, changes in status.items()
        if any("changed deps" in change for change in changes if isinstance(change, dict))
    } - {"plan"}


def test_second_repro_does_nothing(baseline):
    assert executed(baseline, "dvc", "repro") == {"plan"}


def test_latent_moves_only_unpinned_runs_that_use_it_and_back_is_free(baseline):
    found = executed(baseline, "dvc", "exp", "run", "-S", "latent=4", "-n", "smaller")
    assert found == {"plan", "report"} | stages("mlp")
    # What changed can be read.
    per_run = ("--targets", "reports/metrics.json")
    diff = baseline.run("dvc", "metrics", "diff", *per_run, "--md").stdout
    rows = [line for line in diff.splitlines() if "mlp" in line]
    assert len(rows) == 3 and not [line for line in diff.splitlines() if "pixels" in line]
    diff = baseline.run("dvc", "metrics", "diff", "--md").stdout
    assert "best_accuracy" in diff and "mlp" not in diff
    drop = "^(plan/|data/|results|runs/|plugins|Executor|State)"
    shown = baseline.run("dvc", "exp", "show", "--only-changed", "--drop", drop, "--md").stdout
    assert drop in (ROOT / "README.md").read_text()
    assert "smaller" in shown
    header = shown.splitlines()[0]
    assert "latent" in header and "best_accuracy" in header and header.count("|") < 8, header
    assert max(map(len, shown.splitlines())) <= 100
    baseline.run("git", "restore", ".")
    assert baseline.stages("dvc", "repro") <= {"plan", "report"}
    assert [row["latent"] for row in baseline.rows().values()] == ["32", "10", "64"]


def test_plots_show_the_losses_the_quality_and_the_figures(baseline):
    (baseline / "params.yaml").write_text(
        (baseline / "params.yaml").read_text().replace("  epochs: 1", "  epochs: 2")
    )
    baseline.run("dvc", "repro")
    done = baseline.run(
        "dvc", "plots", "diff", "HEAD", "--html-template", ".dvc/plots/offline.html"
    )
    assert "dvc_plots" in done.stdout and done.stderr == ""
    page = (baseline / "dvc_plots/index.html").read_text()
    specs = [json.loads(text) for text in re.findall(r"var spec = (.*);", page)]
    names = ["loss by epoch", "loss by seconds", "accuracy", "mse", "ssim"]
    assert [spec["title"] for spec in specs] == names
    assert "<DVC_METRIC" not in page and "http" not in re.sub(r'"\$schema": "[^"]*"', "", page)
    for spec in specs:
        data = spec["data"]["values"]
        assert {row["rev"] for row in data} == {"HEAD", "workspace"}
        runs = {"mlp", "cnn-latent10"}
        assert {row["run"] for row in data} == runs | ({"pixels"} if "_low" in str(data) else set())
        fields = set(re.findall(r"datum\['(\w+)'\]", str(spec["transform"])))
        assert fields and fields <= data[0].keys()
    losses = specs[0]["data"]["values"]
    assert sum(row["run"] == "mlp" for row in losses) == 1 + 2
    pictures = {path.name for path in (baseline / "reports/figures").iterdir()}
    shown = {path.name for path in (baseline / "dvc_plots/static").iterdir()}
    here = {name for name in shown if name.startswith("workspace")}
    assert here == {f"workspace_reports_figures_{name}" for name in pictures}
    assert "HEAD_reports_figures_accuracy_over_bytes.png" in shown
    assert baseline.run("git", "status", "--short", "dvc_plots").stdout == ""


def test_k_searches_again_but_trains_and_encodes_nothing(baseline):
    text = (baseline / "params.yaml").read_text()
    (baseline / "params.yaml").write_text(text.replace("k: 10", "k: 5"))
    assert outdated(baseline) == {"codecs", "report"} | stages(*RUNS, only=["knn", "stress"])


def test_pinning_one_run_moves_that_run(baseline):
    text = (baseline / "params.yaml").read_text()
    (baseline / "params.yaml").write_text(text.replace("model: mlp", "model: mlp\n    latent: 64"))
    assert outdated(baseline) == {"report"} | stages("mlp", only=["train", "encode", "stress"])


def test_another_seed_trains_only_that_seed(baseline):
    found = executed(baseline, "dvc", "exp", "run", "-S", "seeds=[0,1]")
    # Fitted again: with several seeds, whether these change nothing is looked at.
    again = stages("pixels", only=["train"])
    assert found == {"plan", "report"} | stages(*RUNS, seed=1) | again
    for stage in ("train", "encode", "knn"):
        skipped = json.loads((baseline / f"results/pixels/1/{stage}.json").read_bytes())
        assert skipped["status"] == "as of seed 0, which changes nothing"
    rows = (baseline / "reports/results.csv").read_text().splitlines()
    assert [sum(row.startswith(run) for row in rows) for run in RUNS] == [2, 2, 1]
    maps = [np.load(baseline / f"results/mlp/{seed}/code_map.npy") for seed in (0, 1)]
    assert [len(found) for found in maps] == [2, 1]
    text = (baseline / "reports/report.md").read_text()
    assert "means of 2 seeds" in text and re.search(r"\| pixels +\| +any", text)
    assert "failed" not in text


def test_epochs_retrain_what_is_trained_by_gradient(baseline):
    text = (baseline / "params.yaml").read_text()
    (baseline / "params.yaml").write_text(text.replace("epochs: 1", "epochs: 2"))
    assert outdated(baseline) == {"report"} | stages("mlp", "cnn-latent10", only=["train"])


def test_own_images_by_name_alone_then_one_replaced(baseline, folder_data):
    folder = folder_data(sizes=((12, 12), (20, 14)), modes=("RGB", "L"))
    chosen = ("dataset=pets", "image_size=10", "channels=1")
    command = ["dvc", "exp", "run", *(word for c in chosen for word in ("-S", c))]
    # pixels too: nothing is fitted, but its result is of other images.
    assert executed(baseline, *command) == EVERY | stages(*RUNS)
    text = (baseline / "reports/report.md").read_text()
    assert "36 training and 12 test images, 1 x 10 x 10, 2 classes" in text
    assert "SMOKE" not in text
    image = folder / "train" / "cat" / "0.png"
    image.rename(folder / "train" / "cat" / "renamed.png")  # the same pixels: nothing to train
    assert executed(baseline, "dvc", "repro") == {"plan", "prepare", "report"}
    Image.new("RGB", (12, 12), "red").save(image)
    assert baseline.stages("dvc", "repro", "prepare") == {"plan", "prepare"}
    assert outdated(baseline) == {"codecs", "report"} | stages(*RUNS)


def test_new_plugin_runs_alone_and_loads(baseline):
    source = (baseline / "plugins/mlp.py").read_text().replace('"mlp"', '"mine"')
    (baseline / "plugins/mine.py").write_text(source)
    with (baseline / "params.yaml").open("a") as params:
        params.write("  mine:\n    model: mine\n")
    assert executed(baseline, "dvc", "repro") == {"plan", "report"} | stages("mine")
    assert "| mine " in (baseline / "reports/report.md").read_text()
    code = (
        "import aebench; m = aebench.load('mine'); import torch;"
        "x = torch.rand(2, *m.shape); print(*m.decoder(m.encoder(x)).shape, m.training)"
    )
    assert baseline.run("python", "-c", code).stdout == "2 1 8 8 False\n"


def test_plugin_code_and_its_helpers_move_their_runs_and_comments_nothing(baseline):
    for path, old, new in (
        ("plugins/mlp.py", "import numpy", "# a comment\nimport numpy"),
        ("plugins/_convolutions.py", '"""The convolutions', '"""Some convolutions'),
        ("params.yaml", "latent: 32", "latent: 32  # floats"),
        ("dvc.yaml", "stages:", "# a comment\nstages:"),
    ):
        text = (baseline / path).read_text()
        assert old in text
        (baseline / path).write_text(text.replace(old, new, 1))
    assert outdated(baseline) == set()
    moved: set[str] = set()
    for path, old, new, run in (
        ("plugins/mlp.py", "nn.Sigmoid()", "nn.Identity()", "mlp"),
        ("plugins/_convolutions.py", "nn.GELU()", "nn.ReLU()", "cnn-latent10"),
    ):
        (baseline / path).write_text((baseline / path).read_text().replace(old, new))
        moved |= stages(run, only=["train", "encode", "stress"])
        assert outdated(baseline) == {"report"} | moved


def test_code_of_aebench_moves_the_stages_that_import_it(baseline, tmp_path):
    code = tmp_path / "code" / "aebench"
    shutil.copytree(ROOT / "aebench", code, ignore=shutil.ignore_patterns("__pycache__"))
    baseline.env["PYTHONPATH"] = str(code.parent)

    def edit(path, old, new):
        text = (code / path).read_text()
        assert old in text
        (code / path).write_text(text.replace(old, new, 1))

    edit("models/training.py", "import torch", "# a comment\nimport torch")
    edit("stages/train.py", "Write runs/", "Writes runs/")  # a docstring
    edit("errors.py", "(did you mean", "(perhaps")
    assert outdated(baseline) == set()
    edit("report/render.py", "what a representation costs", "what codes cost")
    moved = {"report"}
    assert outdated(baseline) == moved
    edit("metrics.py", "PSNR_CAP = 100.0", "PSNR_CAP = 99.0")
    # Another error searches nothing again, but what encodes changed images is as stale.
    moved |= stages(*RUNS, only=["encode", "stress"])
    assert outdated(baseline) == moved
    edit("evaluation/search.py", "EXTRA = 16", "EXTRA = 17")
    moved |= stages(*RUNS, only=["knn", "stress"]) | {"codecs"}
    assert outdated(baseline) == moved


def test_removed_run_leaves_the_report(baseline):
    text = (baseline / "params.yaml").read_text()
    (baseline / "params.yaml").write_text(text.replace("  mlp:\n    model: mlp\n", ""))
    assert outdated(baseline) == {"report"}
    baseline.run("aebench", "report")
    assert "mlp" not in (baseline / "reports/report.md").read_text()
    assert not (baseline / "plan/mlp").exists()


def test_reports_hold_what_the_results_say(finished):
    rows = finished.rows()
    first = (
        "run,model,latent,depth,seed,status,num_params,model_bytes,epoch_seconds,mse,psnr,accuracy,"
    )
    assert (finished / "reports/results.csv").read_text().startswith(first)
    assert list(rows) == list(RUNS)
    pixels = rows["pixels"]
    assert (float(pixels["mse"]), float(pixels["psnr"])) == (0.0, 100.0)
    metrics = json.loads((finished / "reports/metrics.json").read_text())
    assert metrics["accuracy"]["pixels"] == float(pixels["accuracy"]) > 0.95
    outcomes = np.load(finished / "results/mlp/0/outcomes.npy")
    assert np.mean(outcomes["label"] == outcomes["prediction"]) == float(rows["mlp"]["accuracy"])
    errors = np.load(finished / "results/mlp/0/squared_errors.npy")
    assert errors.mean(dtype=float) == pytest.approx(float(rows["mlp"]["mse"]))
    text = (finished / "reports/report.md").read_text()
    assert "SMOKE: digits, not a benchmark" in text
    for heading in ("## In short", "## Results", "## Search cost", "## Appendix"):
        assert heading in text
    for name in ("reconstructions", "accuracy_over_bytes"):
        assert f"(figures/{name}.png)" in text
        Image.open(finished / f"reports/figures/{name}.png").verify()


def test_no_result_holds_nan_and_weights_hold_no_time(finished):
    for path in (finished / "results").rglob("*.json"):
        json.loads(path.read_text(), parse_constant=pytest.fail)  # NaN, Infinity
    header = (finished / "runs/mlp/0/weights.safetensors").read_bytes()[:2000]
    assert b"date" not in header and b"seconds" not in header


def test_retraining_with_equal_weights_reruns_the_report_alone(baseline):
    assert baseline.stages("dvc", "repro", "-s", "-f", "train@mlp-0") == {"train@mlp-0"}
    assert executed(baseline, "dvc", "repro") == {"plan", "report"}


def test_result_of_other_settings_is_not_shown(baseline):
    baseline.params(latent=16)
    baseline.run("dvc", "repro", "-s", "plan")
    baseline.run("dvc", "repro", "-s", "report")
    text = (baseline / "reports/report.md").read_text()
    assert "mlp, seed 0: the result of train is of other settings; run `dvc repro`" in text
    assert "| mlp " not in text


def test_readme_lines_encode_a_folder_and_search_it(baseline, folder_data):
    folder = folder_data()
    readme = (ROOT / "README.md").read_text()
    lines = readme[readme.index("model = aebench.load") :].split("```")[0]
    lines = lines.replace('"cnn"', '"cnn-latent10"').replace("holiday", str(folder / "test"))
    code = f"import aebench, faiss\n{lines}\nprint(len(paths), nearest[:, 0].tolist())"
    assert baseline.run("python", "-c", code).stdout == f"12 {list(range(12))}\n"
