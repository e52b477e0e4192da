"""Few labels, changed images and reconstructions: of the first seed, each figure by itself."""

import json

import numpy as np
import pytest
from synthetic import by_name, made, report, section, titles, words

from aebench.errors import Failure
from aebench.evaluation.blocks import kept_in_file
from aebench.evaluation.stress import CHANGES, Space, asked, changed, drawn
from aebench.records.stress import StressRecord
from aebench.report.document import Table
from aebench.report.stress import TITLE

# A black background is the least of every digit: brightness makes it 0.2, contrast 0.25.
FRAGILE = """
import torch
from torch import nn

from aebench import hookimpl


class Fragile(nn.Module):
    def __init__(self, shape, latent):
        super().__init__()
        self.layer = nn.Linear(shape[0] * shape[1] * shape[2], latent)

    def forward(self, images):
        codes = self.layer(images.flatten(1))
        if images.amin() > 0.22:
            return codes / 0
        if images.amin() > 0.1:
            raise ValueError("too bright for me")
        return codes


def build(shape, latent):
    model = nn.Module()
    model.encoder, model.decoder = Fragile(shape, latent), None
    model.loss = lambda images: model.encoder(images).square().mean()
    return model


@hookimpl
def register_models(register):
    register("fragile", build)
"""


def record(workspace, run):
    return json.loads((workspace / f"results/{run}/0/stress.json").read_text())


def test_after_a_repro_each_run_has_its_figures(finished):
    for run in ("mlp", "pixels"):
        found = record(finished, run)
        knn = json.loads((finished / f"results/{run}/0/knn.json").read_text())
        assert found["queries"] == found["class_kept_queries"] == 359
        assert found["accuracy"] == knn["accuracy"]
        few, more = found["labels"]["10"], found["labels"]["100"]
        assert 0.3 < few["mean"] < more["mean"] < found["accuracy"]
        assert few["deviation"] > more["deviation"] > 0
        assert found["labels"]["1000"] is None
        assert found["blank"] == {"labels_1000": "a class has 127 training images"}
        assert list(found["changes"]) == ["contrast", "brightness", "shift", "blur", "noise"]
        assert min(found["changes"].values()) < found["accuracy"]
    # Pixels reconstruct themselves, and are not moved apart by what is added to all of them.
    assert found["class_kept"] == found["accuracy"]
    rows = finished.rows()
    for run in rows:
        assert float(rows[run]["accuracy_shift"]) == record(finished, run)["changes"]["shift"]
        assert rows[run]["accuracy_labels_1000"] == ""
    text = (finished / "reports/report.md").read_text()
    part = text[text.index(f"## {TITLE}") :].split("\n## ")[0]
    assert "mlp, cnn-latent10, pixels: no labels 1000: a class has 127 training images." in part
    assert TITLE in (finished / "reports/report.html").read_text()


def test_what_a_model_cannot_do_is_blank_and_the_rest_stands(light):
    (light / "plugins/fragile.py").write_text(FRAGILE)
    light.params(latent=4, runs={"one": {"model": "fragile"}})
    verbs = [["plan"], ["prepare"]]
    verbs += [[stage, "one", "0"] for stage in ("train", "encode", "knn")]
    for verb in verbs:
        light.run("aebench", *verb)
    light.run("aebench", "report")
    text = (light / "reports/report.md").read_text()  # as with a dvc.yaml of before
    assert TITLE not in text and "not shown" not in text
    light.run("aebench", "stress", "one", "0")
    first = record(light, "one")
    assert first["status"] == "ok" and first["class_kept"] is first["class_kept_queries"] is None
    why = first["blank"]
    assert why["class_kept"] == "there is no decoder"
    assert why["contrast"] == "the codes are not finite"
    assert why["brightness"].startswith("ValueError: too bright for me (fragile.py:")
    assert [name for name, value in first["changes"].items() if value is None] == [
        "contrast",
        "brightness",
    ]
    light.run("aebench", "stress", "one", "0")
    again = record(light, "one")
    assert {k: v for k, v in again.items() if k not in ("provenance", "checksum")} == {
        k: v for k, v in first.items() if k not in ("provenance", "checksum")
    }
    light.run("aebench", "report")
    assert (
        "one: no contrast: the codes are not finite." in (light / "reports/report.md").read_text()
    )
    path = light / "results/one/0/stress.json"
    path.write_text(path.read_text().replace('"noise"', '"hiss"'))
    assert "not shown: one, stress: " in light.run("aebench", "report").stderr
    assert "has no seed 7" in light.run("aebench", "stress", "one", "7", ok=False).stderr


def of_seed(run, seed, accuracy, **changes):
    """A result with what stress says of it."""
    columns = {"stress_accuracy": accuracy, "stress_queries": 359, "accuracy_noise": accuracy / 2}
    columns |= {"accuracy_labels_10": accuracy / 4, "accuracy_labels_10_deviation": 0.01}
    one = made(run, seed, **columns, **changes)
    one.stress = StressRecord.model_construct(status="ok", blank={"class_kept": "no my_scale"})
    return one


def test_of_several_measured_seeds_the_first_is_shown():
    found = section(report([of_seed("mlp", 0, 0.8), of_seed("mlp", 1, 0.4)]).document, TITLE)
    (labels, changes) = (by_name(block) for block in found.blocks if isinstance(block, Table))
    assert words(labels["mlp"]["10 labels a class"]) == "20.0 ± 1.0"
    assert words(labels["mlp"]["all labels"]) == words(changes["mlp"]["unchanged"]) == "80.0"
    assert words(changes["mlp"]["noise"]) == "40.0"
    assert words(labels["mlp"]["images"]) == words(changes["mlp"]["images"]) == "359"
    assert "mlp: no class kept: no my_scale." in words(found)


def test_class_kept_has_the_interval_of_its_own_images():
    kept = {"accuracy_class_kept": 0.5, "class_kept_queries": 100}
    found = section(report([of_seed("mlp", 0, 0.8, **kept)]).document, TITLE)
    (labels, _) = (by_name(block) for block in found.blocks if isinstance(block, Table))
    assert words(labels["mlp"]["class kept"]) == "50.0 ± 9.7"  # Wilson's, of 100
    assert "class kept is of 100 images" in words(found)


def test_a_run_whose_first_seed_failed_is_named():
    failed = made("cnn", 0, depth=2, status="failed: diverged")
    found = [of_seed("mlp", 0, 0.8), failed, made("cnn", 1, depth=2)]
    said = words(section(report(found).document, TITLE))
    assert "cnn: not measured, as its first seed failed." in said
    assert TITLE not in titles(report(found[1:]).document)


def test_changes_of_images():
    images = np.zeros((3, 1, 8, 8), np.uint8)
    images[:, 0, 3, 5] = 255
    images[2] = 200
    found = {
        name: np.concatenate([*changed(images, np.arange(3), change)])
        for name, change in CHANGES.items()
    }
    assert {array.dtype.name for array in found.values()} == {"uint8"}
    assert found["contrast"][0, 0, 0, 0] == 64 and found["contrast"][0, 0, 3, 5] == 191
    assert found["brightness"][0].min() == 51 and found["brightness"][2].min() == 251
    assert found["shift"][0, 0, 3, 7] == 255 and found["shift"][0].sum() == 255
    assert (found["blur"][2] == 200).all() and found["blur"][0, 0, 3, 5] == 41  # 255 / (2 pi)
    grey = np.full((40, 3, 16, 16), 128, np.uint8)
    [noisy] = changed(grey, np.arange(40), CHANGES["noise"])
    assert noisy.std() / 255 == pytest.approx(0.1, rel=0.02)
    [again] = changed(grey, np.arange(40), CHANGES["noise"])
    assert (noisy == again).all()


def test_few_labels_are_drawn_by_class_and_the_fewer_are_among_the_more():
    labels = np.repeat([0, 1, 2], [30, 50, 20])
    few, more = drawn(labels, 5, 3), drawn(labels, 12, 3)
    assert set(few) < set(more) and (np.bincount(labels[more]) == 12).all()
    assert set(few) != set(drawn(labels, 5, 4))


@pytest.mark.parametrize("metric", ["l2", "cosine", "whitened-cosine"])
def test_few_labels_search_by_the_metric_of_the_run(metric):
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], 60)
    codes = (random.standard_normal((120, 4)) + 4 * labels[:, None]).astype(np.float32)
    space = Space(codes, labels, metric)
    assert space.accuracy(codes, labels, 5) > 0.9
    mean, deviation = space.with_few(codes, labels, 5, 10)
    assert 0.85 < mean <= 1 and deviation < 0.1
    with pytest.raises(Failure, match="a class has 60 training images"):
        space.with_few(codes, labels, 5, 100)
    with pytest.raises(Failure, match="k = 30 is above the 20 training images with a label"):
        space.with_few(codes, labels, 30, 10)


def test_as_many_are_asked_as_keep_a_search_short(tmp_path):
    bank = np.broadcast_to(np.float32(0), (50_000, 3072))
    places = asked(bank, 10_000)
    assert (len(places), places[0], places[-1]) == (1953, 0, 9999)
    assert len(asked(bank[:, :32], 10_000)) == 10_000
    blocks = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)
    stored = kept_in_file(blocks, tmp_path)
    assert (stored == blocks.reshape(6, 4)).all() and not list(tmp_path.iterdir())
