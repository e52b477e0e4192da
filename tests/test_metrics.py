"""Metrics of reconstructions: the hook, what encode keeps of them, and where a user sees them."""

import csv
import json
import re

import numpy as np
import pytest
import torch
from conftest import ROOT, SMALL, make
from skimage.metrics import structural_similarity
from synthetic import cells, made, pca, pixels, report, results, section, short, titles, words

from aebench.errors import Refused
from aebench.metrics import similarity
from aebench.plugins import is_column
from aebench.report.comparison import Comparisons
from aebench.report.results import read_results
from aebench.report.sides import Side
from aebench.workspace import Workspace as Here

METRICS = """\
import aebench


def edges(images, reconstructions):
    import torch
    assert not torch.is_grad_enabled() and images.dtype == reconstructions.dtype == torch.float32
    found = (images - reconstructions).diff(dim=3).abs().mean((1, 2, 3))
    images.zero_(), reconstructions.zero_()  # of copies
    return found


def drawn(images, reconstructions):
    import numpy, torch
    return numpy.random.rand(len(images)) + torch.rand(1).item()


def broken(images, reconstructions):
    raise ValueError("no such metric")


@aebench.hookimpl
def register_metrics(register):
    register("edges", edges)
    register("drawn", drawn, better="higher")
    register("broken", broken)
    register("scalar", lambda images, reconstructions: images.mean(), better="higher")
    register("infinite", lambda images, reconstructions: 1 / (images[:, 0, 0, 0] * 0))
    register("ends", lambda images, reconstructions: exit())
"""
FAULTS = {
    "broken": "no broken: ValueError: no such metric (metrics.py:18)",
    "scalar": "no scalar: returned float32 () for 359 images; allowed: a real number an image",
    "infinite": "no infinite: not finite for 359 of 359 images",
    "ends": "no ends: ended the process: SystemExit(None) (metrics.py:28)",
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """PCA with the metrics above."""
    workspace = make(tmp_path_factory.mktemp("metrics") / "workspace", SMALL)
    (workspace / "plugins/metrics.py").write_text(METRICS)
    workspace.params(runs={"pca": {"model": "pca"}})
    for stage in ("plan", "prepare"):
        workspace.run("aebench", stage)
    for stage in ("train", "encode", "knn"):
        workspace.run("aebench", stage, "pca", "0")
    return workspace


def encoded(workspace, run):
    return json.loads((workspace / f"results/{run}/0/encode.json").read_text())


def test_each_image_has_a_value_and_what_breaks_the_contract_is_blank(workspace):
    found, folder = encoded(workspace, "pca"), workspace / "results/pca/0"
    values, errors = (np.load(folder / f"{n}.npy") for n in ("metrics", "squared_errors"))
    assert values.dtype.names == ("psnr", "ssim", "drawn", "edges")
    assert values["psnr"] == pytest.approx(-10 * np.log10(errors), rel=1e-6)
    for name, better in {"ssim": "higher", "edges": "lower", "drawn": "higher"}.items():
        mean = pytest.approx(values[name].mean(), rel=1e-6)
        assert found["metrics"][name] == {"better": better, "mean": mean, "note": None}
    assert found["status"] == "ok" and 0.9 < found["metrics"]["ssim"]["mean"] < 1
    assert 0 < found["metrics"]["edges"]["mean"] < 0.2
    blank = {name: about for name, about in found["metrics"].items() if about["mean"] is None}
    assert {name: about["note"] for name, about in blank.items()} == FAULTS


def test_values_are_the_same_again_also_of_what_draws(workspace):
    before = (workspace / "results/pca/0/metrics.npy").read_bytes()
    workspace.run("aebench", "encode", "pca", "0")
    assert (workspace / "results/pca/0/metrics.npy").read_bytes() == before


def test_the_report_and_results_csv_have_them(workspace):
    workspace.run("aebench", "report")
    rows = workspace.rows()
    for name in ("ssim", "edges"):
        mean = encoded(workspace, "pca")["metrics"][name]["mean"]
        assert float(rows["pca"][name]) == mean and float(rows["pca"][f"{name}_ci95"]) > 0
    assert rows["pca"]["broken"] == "" and FAULTS["broken"] in rows["pca"]["note"]
    text = (workspace / "reports/report.md").read_text()
    assert FAULTS["broken"] in text and "- **edges** (lower is better)" in text
    kept = json.loads((workspace / "reports/metrics.json").read_text())
    assert kept["ssim"].keys() == {"pca"}


def test_a_damaged_file_hides_its_run(workspace):
    path = workspace / "results/pca/0/metrics.npy"
    before = path.read_bytes()
    path.write_bytes(before[:-1] + b"\1")
    hidden = read_results(Here(workspace.folder)).hidden
    path.write_bytes(before)
    assert len(hidden) == 1 and hidden[0].startswith("pca, seed 0: ") and "metrics.npy" in hidden[0]


LIGHT_METRIC = """\
from aebench import hookimpl

@hookimpl
def register_metrics(register):
    register(NAME, lambda images, reconstructions: 0, BETTER)
"""


def metric(workspace, name, better="'lower'", file="edges"):
    source = LIGHT_METRIC.replace("NAME", repr(name)).replace("BETTER", better)
    (workspace / f"plugins/{file}.py").write_text(source)


def test_a_new_metric_moves_the_plan_of_encode_alone(light):
    def plans():
        light.run("aebench", "plan")
        return {path.name: path.read_text() for path in (light / "plan/one").iterdir()}

    before = plans()
    assert "metrics" not in before["encode.json"]
    metric(light, "edges")
    after = plans()
    assert {name for name in after if after[name] != before[name]} == {"encode.json"}
    assert json.loads(after["encode.json"])["metrics"]["edges"]["plugin"] == "plugins/edges.py"
    assert re.search("edges +plugins/edges.py +lower\n", light.run("aebench", "list").stdout)
    assert plans() == after  # remembered
    (light / "plugins/edges.py").unlink()
    assert plans() == before


@pytest.mark.parametrize(
    ("name", "better", "told"),
    [
        ("Edges", "'lower'", "metric 'Edges': allowed: names like"),
        ("ssim", "'lower'", "metric 'ssim': results.csv has such a column; rename it"),
        ("edges", "'less'", "metric 'edges': better is 'less'; allowed: 'lower' or 'higher'"),
        ("edges", "unknown", "NameError: name 'unknown' is not defined (edges.py:5)"),
    ],
)
def test_what_cannot_be_registered_is_a_remark(light, name, better, told):
    metric(light, name, better)
    warned = light.run("aebench", "plan").stderr
    assert f"warning: not used: plugins/edges.py: {told}" in warned


def test_of_two_of_one_name_none_is_used(light):
    metric(light, "edges")
    metric(light, "edges", file="other")
    warned = light.run("aebench", "plan").stderr
    assert "metric 'edges' is registered by plugins/edges.py and plugins/other.py; rename" in warned
    assert "metrics" not in json.loads((light / "plan/one/encode.json").read_text())


def test_no_column_of_results_csv_can_be_a_metrics():
    with (ROOT / "tests/golden/reports/results.csv").open() as file:
        columns = next(csv.reader(file))
    assert [name for name in columns if not is_column(name)] == []
    assert not any(map(is_column, ("lpips", "edges", "mae", "ms_ssim", "fsim")))


MAE = "(images - reconstructions).abs().mean((1, 2, 3))"


@pytest.mark.parametrize(
    ("value", "better", "told"),
    [
        (MAE, "lower", "metric edges (lower is better)\n  1 x 8 x 8    ok\n"),
        (MAE, "higher", "  1 x 8 x 8    FAULT better: 0 of the images themselves, 0.0"),
        (f"{MAE}.mean().expand(len(images))", "lower", "FAULT alone: ["),
        (f"{MAE} + next(CALLS)", "lower", "FAULT again: other values of the same images"),
        ("0", "lower", "FAULT values: returned int64 () for 12 images; allowed: a real number an"),
    ],
)
def test_check_plugin_tries_metrics(light, value, better, told):
    source = LIGHT_METRIC.replace("NAME", "'edges'").replace("BETTER", repr(better))
    source = source.replace(": 0,", f": {value},") + "\nCALLS = iter(range(99))\n"
    (light / "plugins/edges.py").write_text(source)
    sound = (value, better) == (MAE, "lower")
    done = light.run("aebench", "check-plugin", "edges", ok=sound)
    assert told in done.stdout
    assert done.stdout.endswith("plugins/edges.py: keeps the contract\n") == sound


@pytest.mark.parametrize(
    ("shape", "window"), [((1, 8, 8), 7), ((3, 17, 13), 11), ((3, 32, 32), 11)]
)
def test_ssim_is_scikit_images_of_each_image(shape, window):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(5, *shape, generator=generator)
    others = (images + 0.2 * torch.randn(images.shape, generator=generator)).clamp(0, 1)
    papers = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    options = papers if window == 11 else {"win_size": 7}
    expected = [
        structural_similarity(a, b, channel_axis=0, data_range=1, **options)
        for a, b in zip(images.double().numpy(), others.double().numpy(), strict=True)
    ]
    assert similarity(images, others) == pytest.approx(expected, abs=1e-5)
    assert similarity(images, images) == pytest.approx(1)


def test_ssim_is_refused_where_no_window_fits():
    with pytest.raises(Refused, match="images of 6 x 9 pixels; SSIM needs 7 x 7"):
        similarity(torch.rand(2, 1, 6, 9), torch.rand(2, 1, 6, 9))


def suite(**better):
    """Two sizes and PCA; `better`: metric -> its means of mlp and of PCA."""
    of = [{name: values[place] for name, values in better.items()} for place in (0, 1)]
    ten = {"latent": 10, "mse": 0.03}
    return [
        *(made(seed=seed, further=of[0]) for seed in (0, 1, 2)),
        *(pca(seed=seed, further=of[1]) for seed in (0, 1, 2)),
        *(made("mlp10", seed, further=of[0], **ten) for seed in (0, 1, 2)),
        *(pca("pca10", seed, further=of[1], **ten) for seed in (0, 1, 2)),
        *(pixels(seed=seed, further=dict.fromkeys(better, 1.0)) for seed in (0, 1, 2)),
    ]


def test_better_decides_what_is_bold_and_which_gain_is_above_0():
    found = report(suite(ssim=(0.6, 0.4), edges=(0.3, 0.2)))
    table = cells(section(found.document, "Results"))
    assert table["mlp"]["SSIM"].strong and not table["pca"]["SSIM"].strong
    assert table["pca"]["edges"].strong and not table["mlp"]["edges"].strong
    assert words(table["mlp"]["SSIM over PCA"]).startswith("+0.2")
    assert words(table["mlp"]["edges over PCA"]).startswith("-0.1")
    assert table["mlp"]["edges over PCA"].tone == "bad"
    rows = list(csv.DictReader(found.files["results.csv"].decode().splitlines()))
    assert float(rows[0]["ssim_gain"]) == pytest.approx(0.2)
    assert float(rows[0]["edges_gain"]) == pytest.approx(-0.1)
    assert "SSIM" not in short(found.document)["mlp"]  # which is to stay narrow


def test_further_metrics_have_a_section_and_pictures():
    document = report(suite(ssim=(0.6, 0.4), edges=(0.3, 0.2))).document
    text = words(section(document, "Beyond MSE"))
    assert "SSIM (higher is better): with 10 floats best mlp10, with 32 floats best mlp." in text
    assert "edges (lower is better): with 10 floats best pca10, with 32 floats best pca." in text
    named = {figure.name: figure.title for figure in document.figures}
    assert {"ssim_over_bytes", "edges_over_bytes", "latent-edges"} <= named.keys()
    assert named["latent-ssim"].startswith("Representation size: SSIM is highest with mlp")
    study = cells(section(document, "Representation size"))
    assert study["mlp"]["SSIM"].strong and study["pca"]["edges"].strong


def test_results_of_before_have_a_blank_column():
    old = pca("old", latent=16, mse=0.02)
    table = cells(section(report([*suite(ssim=(0.6, 0.4)), old]).document, "Results"))
    assert words(table["old"]["SSIM"]) == "" and words(table["mlp"]["SSIM"]) != ""
    assert "Beyond MSE" not in titles(report([made(), pca()]).document)


def test_compare_tells_better_from_worse_by_the_direction():
    def side(name, **better):
        return Side(name, results(suite(**better)))

    old, new = side("HEAD", ssim=(0.6, 0.4), edges=(0.3, 0.2)), side("new", ssim=(0.5, 0.4))
    found = Comparisons([old, new])
    verdicts = {f.name: str(f.verdict) for f in found.figures}
    assert verdicts["SSIM of mlp"] == "worse" and verdicts["SSIM of pca"] == "same"
    assert not any("edges" in name for name in verdicts)
    again = Comparisons([old, side("new", ssim=(0.6, 0.4), edges=(0.1, 0.2))])
    assert {f.name: str(f.verdict) for f in again.figures}["edges of mlp"] == "better"


def test_a_metric_of_other_code_is_not_compared():
    sides = []
    for code in ("a", "b"):
        runs = suite(edges=(0.3, 0.2))
        for one in runs:
            one.code = {"encode metric edges": code}
        sides.append(Side(code, results(runs)))
    found = Comparisons(sides)
    assert {f.measure.column for f in found.figures} == {"accuracy", "mse"}
    assert "Not compared, as the metric's code changed: edges" in words(found.document)
