"""What a report says of a model that is no plain autoencoder, and of codes that are no numbers."""

import csv
import io
import json

import pytest
import torch
from ruamel.yaml import YAML
from synthetic import cells, made, pca, pixels, report, section, short, sweep, titles, words

import aebench
from aebench.report.document import CodeBlock, Table
from aebench.report.rows import results_csv

COSTS = "Search cost"
RECONSTRUCTED = {"MSE", "MSE vs PCA, %", "PSNR, dB"}
UNUSUAL = """\
import torch
from torch import nn
from aebench import hookimpl

class Alone(nn.Module):
    def __init__(self, shape, latent):
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, latent))
        self.decoder = None
        self.head = nn.Linear(latent, 10)

    def loss(self, images, labels):
        codes = self.encoder(images)
        loss = nn.functional.cross_entropy(self.head(codes), labels)
        return {"loss": loss, "length": codes.norm(dim=1).mean()}

@hookimpl
def register_models(register):
    register("alone", Alone)
"""


def alone(run="simclr", seed=0, **changes):
    """An encoder alone."""
    return made(run, seed, **({"model": "simclr", "mse": None, "accuracy": 0.9} | changes))


def rows(found):
    """results.csv, as it is read again."""
    text = results_csv(found.results, found.configurations, found.baselines).decode()
    return list(csv.DictReader(io.StringIO(text)))


def architectures(found):
    return section(found.document, "Results")


def headers(found):
    """Of all tables of a document."""
    sections = [*found.document.sections, *found.document.appendix]
    blocks = [block for one in sections for block in one.blocks]
    return {h.name for block in blocks if isinstance(block, Table) for h in block.headers}


def saying(found):
    """The sentences of the summary, as one text."""
    return words(section(found.document, "In short").blocks[0])


def picture(found, name):
    return next(figure.picture for figure in found.document.figures if figure.name == name)


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_encoder_alone_is_blank_without_a_decoder_and_ranked_as_others(seeds):
    found = report([*sweep(seeds), *(alone(seed=seed) for seed in seeds)])
    row = cells(architectures(found))["simclr"]
    assert all(words(row[column]) == "" for column in RECONSTRUCTED)
    assert words(row["layers"]) == "3 + 0"
    assert row["over PCA"].value.mean > 0.3
    assert short(found.document)["simclr"]["accuracy, %"].strong
    said = words(architectures(found))
    assert "simclr: an encoder alone: what needs a reconstruction is blank." in said
    assert saying(found).startswith("Best trade-off: simclr, 128 bytes for an image of 64")
    own = [one for one in rows(found) if one["run"] == "simclr"]
    for one in own:
        blank = {key for key in one if key.startswith(("mse", "psnr")) and one[key] == ""}
        assert blank >= {"mse", "psnr", "mse_ci95", "psnr_ci95", "mse_skill_score"}
        assert float(one["accuracy_gain"]) > 0.3 and float(one["accuracy_ci95"]) > 0
    assert len(own) == len(seeds)
    assert "simclr" not in [s.name for s in picture(found, "reconstructions").strips]
    assert "simclr" in cells(section(found.document, "Latent space"))
    files = found.files
    content = json.loads(files["metrics.json"])
    assert "simclr" in content["accuracy"] and "simclr" not in content["mse"]
    for name in ("metrics.json", "results.csv", "report.md"):
        assert b"nan" not in files[name].lower().replace(b"dominant", b""), name


def test_encoder_alone_goes_through_all_stages(light):
    (light / "plugins/light.py").write_text(UNUSUAL)
    light.params(latent=4, runs={"one": {"model": "alone"}})
    for stage in (["plan"], ["prepare"], *([s, "one", "0"] for s in ("train", "encode", "knn"))):
        light.run("aebench", *stage)
    light.run("aebench", "report")
    text = (light / "reports/report.md").read_text()
    assert "| one (saw labels) |" in text and "figures/further_curves-" in text
    assert "reconstructions" not in text and "| MSE" not in text.replace("| MSE vs", "")
    row = light.rows()["one"]
    assert (row["status"], row["mse"], row["mse_8bit"], row["labels_seen"]) == (
        "ok",
        "",
        "",
        "True",
    )
    assert row["decoder_layers"] == row["decoder_bytes"] == row["decoder_macs"] == "0"
    model = aebench.load("one", workspace=light.folder)
    assert model.decoder is None and model.encoder(torch.zeros(2, *model.shape)).shape == (2, 4)


def test_encoder_alone_leaves_the_ranking_of_the_others_as_it_is():
    without, beside = report(sweep()), report([*sweep(), *(alone(seed=s) for s in range(3))])
    before, after = cells(architectures(without)), cells(architectures(beside))
    for run, row in before.items():
        assert {k: after[run][k] for k in RECONSTRUCTED} == {k: row[k] for k in RECONSTRUCTED}


def test_encoder_alone_beside_failed_seeds():
    found = [*sweep(), *(alone(seed=seed) for seed in range(3))]
    found[-1].columns["status"] = "failed: no codes"
    row = cells(architectures(report(found)))["simclr"]
    assert words(row["seeds"]) == "2 of 3" and words(row["MSE"]) == ""
    assert words(row["status"]) == "failed: no codes" and row["accuracy, %"].value.mean == 0.9


def test_where_nothing_is_reconstructed_no_column_and_no_picture_is_empty():
    runs = [
        alone(),
        alone("simclr-latent10", latent=10),
        alone("bad", options={"a": 1}, status="failed: x"),
    ]
    found = report(runs)
    assert not headers(found) & {*RECONSTRUCTED, "MSE at 8 bits"}
    names = [figure.name for figure in found.document.figures]
    assert "reconstructions" not in names and "latent-mse" not in names
    assert len(picture(found, "latent-accuracy").series) == 1
    assert json.loads(found.files["metrics.json"])["mse"] == {}


def test_a_study_of_encoders_alone_is_drawn_beside_those_that_decode():
    found = report([*sweep(), *(alone(f"s{n}", s, latent=n) for n in (10, 32) for s in range(3))])
    accuracy, mse = (picture(found, f"latent-{what}").series for what in ("accuracy", "mse"))
    assert {curve.name for curve in accuracy} - {curve.name for curve in mse} == {"simclr", "pca"}
    assert all(curve.points for curve in mse)


def test_pca_without_a_decoder_is_not_called_exact():
    found = report([made(), alone("linear", baseline="pca", depth=None, train=False)])
    row = cells(architectures(found))["mlp"]
    assert "MSE vs PCA, %" not in row and row["over PCA"].value.mean < 0
    assert rows(found)[0]["mse_skill_score"] == ""


def test_a_decoder_that_one_seed_alone_has_is_no_traceback():
    found = report([made(seed=0), made(seed=1, mse=None), pca(), pixels()])
    assert found.files["report.md"] and len(rows(found)) == 4


def test_what_saw_labels_is_never_named_without_that():
    taught = made("taught", accuracy=0.95, options={"a": 1}, labels_seen=True)
    found = report([*sweep((0,)), taught])
    text = found.files["report.md"].decode()
    name = "taught (saw labels)"
    assert text.count("taught") == text.count(name) > 9
    assert short(found.document)[name]["accuracy, %"].strong
    said = words(architectures(found))
    assert f"{name}: saw the labels of the training images: no rival in accuracy" in said
    assert saying(found).startswith("Best trade-off: mlp, ")
    assert f"; with labels: {name} 95.0 %; " in saying(found)
    assert [one["labels_seen"] for one in rows(found) if one["run"] == "taught"] == ["True"]


def test_what_saw_labels_is_said_to_be_best_nowhere():
    seen = {"labels_seen": True, "accuracy": 0.95, "options": {"a": 1}}
    taught = made("taught", query_seconds=1e-5, **seen)
    slow = {"query_seconds": 0.1}
    found = report([*sweep((0,), mlp={"accuracy": 0.9}, pixels=slow), taught])
    text = words(section(found.document, "Does the protocol decide?"))
    assert text.startswith("The protocol does not decide: in all 6 pairs of k and metric mlp, or")
    assert "the highest accuracy of the panel has mlp, 89.9 % (l2, k = 1)." in text
    by_bytes, by_time = map(words, section(found.document, "Search cost").blocks[1:3])
    assert by_bytes.startswith("By bytes: mlp is the smallest code that is right more often than")
    assert by_time.startswith("By time: mlp, ")
    assert not any("taught" in figure.title for figure in found.document.figures)
    panel = picture(found, "protocol")
    assert [panel.rows[place][0] for place in panel.marked.any(axis=1).nonzero()[0]] == ["mlp"]
    alone = words(section(report([taught, pixels()]).document, "Search cost"))
    assert "By bytes: taught (saw labels) is the smallest" in alone


def test_labels_are_no_subject_where_they_do_not_lead():
    runs = [*sweep((0,)), made("taught", accuracy=0.2, depth=2, labels_seen=True)]
    assert "ccuracy without labels" not in words(report(runs).document)
    assert "; with labels: taught (saw labels) 20.0 %; " in saying(report(runs))
    assert "labels" not in saying(report(sweep((0,))))


def test_weights_of_elsewhere_are_said_and_no_untrained_reference():
    file = "w/a|b.pt"
    runs = [
        made("more", model="own", begun_with=file, options={"weights": f"{file} (0a1b2c3d)"}),
        made("as-is", model="own", begun_with=file, train={"epochs": 0}, accuracy=0.8),
    ]
    found = report([*runs, pca(), pixels()])
    said = words(architectures(found))
    assert f"more: began with {file}." in said
    assert f"as-is: the weights of {file}, scored as they are." in said
    row = cells(architectures(found))["as-is"]
    assert row["over PCA"].value.mean > 0.2 and row["MSE vs PCA, %"].value is not None
    blocks = section(found.document, "Lines to copy").blocks
    (block,) = [block for block in blocks if isinstance(block, CodeBlock)]
    runs = YAML(typ="safe", pure=True).load(block.code)
    assert runs == {"own-untrained": {"model": "own", "train": {"epochs": 0}}}


@pytest.mark.parametrize(
    ("bits", "said"),
    [
        (20, "20 (2.5 bytes)"),
        (19.931568569324174, "20 (2.5 bytes)"),
        (16 * 1.584962500721156, "25.4 (3.2 bytes)"),
        (0.0, "0 (0 bytes)"),
        (12345.6, "12,345.6 (1,543.2 bytes)"),
    ],
)
def test_bits_of_discrete_codes_are_an_upper_bound_beside_their_bytes(bits, said):
    found = report([made("fsq", 0, code_bits=bits / 2), made("fsq", 1, code_bits=bits), pca()])
    shown = cells(architectures(found))
    assert words(shown["fsq"]["bits, at most"]) == said  # of the seed that takes more
    assert words(shown["fsq"]["bytes"]) == "128" and words(shown["pca"]["bits, at most"]) == ""
    assert "bits, at most" not in headers(report([made(), pca()]))


@pytest.mark.parametrize(
    ("mse", "rounded", "packed"),
    [
        (0.0, 0.159, True),
        (0.02, 0.0401, True),
        (0.02, 0.0399, False),
        (1e-5, 1.05e-4, False),
        (1e-5, 1.2e-4, True),
        (0.02, 0.02, False),
        (0.02, None, False),
        (None, None, False),
    ],
)
def test_floats_that_hold_more_than_numbers_are_said_so(mse, rounded, packed):
    runs = [made("one", mse=mse, mse_8bit=rounded), made("two", options={"a": 1}), pca(mse=0.03)]
    found = report(runs)
    said = words(architectures(found))
    assert ("its floats may hold more than a number each" in said) == packed
    if packed:
        assert f"MSE {mse:.5f} as float32, {rounded:.5f} rounded to 8 bits" in said
        assert not short(found.document)["one"]["MSE x 1000"].strong
        assert "with 32 floats two" in saying(found)
    elif mse == 1e-5:
        assert short(found.document)["one"]["MSE x 1000"].strong
    shown = cells(section(found.document, "Latent space"))["one"]
    if rounded is None:
        assert "MSE at 8 bits" not in shown
    else:
        assert shown["MSE at 8 bits"].value.mean == rounded


def test_bits_are_blank_where_a_seed_needs_all():
    found = report(
        [made("fsq", 0, code_bits=9.0), made("fsq", 1), made("b", code_bits=8.0, depth=2)]
    )
    shown = cells(architectures(found))
    assert words(shown["fsq"]["bits, at most"]) == "" and words(shown["b"]["bits, at most"]) != ""


def test_notes_of_models_push_out_no_other_sentence():
    runs = [made(f"m{n}", options={"a": n}, note=f"note {n}") for n in range(30)]
    text = words(architectures(report([*runs, made("p", options={"a": 99}, mse_8bit=0.5)])))
    assert "p: its floats may hold more than a number each" in text and "11 more notes" in text


def test_a_sentence_of_several_rows_is_said_once():
    runs = [alone(f"s{n}", options={"a": n}) for n in range(8)]
    text = words(architectures(report(runs)))
    assert text.count("an encoder alone") == 1
    assert "s0, s1, s2, s3 and 4 others: an encoder alone" in text


def test_results_without_what_is_new_have_none_of_its_columns():
    found = report(sweep())
    assert not headers(found) & {"bits, at most", "MSE at 8 bits"}
    assert "Latent space" in titles(found.document)
