"""What does not depend on the seed is computed once, if that is true."""

import json
import shutil

import pytest

import aebench
from aebench.errors import AebenchError

MODELS = """\
import math

from torch import nn

from aebench import hookimpl


class Sure(nn.Module):
    seedless = True

    def __init__(self, shape, latent):
        super().__init__()
        pixels = math.prod(shape)
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(pixels, latent))
        self.decoder = nn.Sequential(nn.Linear(latent, pixels), nn.Unflatten(1, shape))

    def fit(self, batches):
        for weights in self.parameters():
            nn.init.constant_(weights, 0.01)


class Liar(Sure):
    def fit(self, batches):
        pass  # its weights are the random ones of the start


class Trained(Sure):
    fit = None

    def loss(self, images):
        return (self.decoder(self.encoder(images)) - images).square().mean()


class Likely(Sure):
    seedless = "probably"


@hookimpl
def register_models(register):
    for model in (Sure, Liar, Trained, Likely):
        register(model.__name__.lower(), model)
"""
FAILURES = {
    "liar": "says seedless = True, and seeds 3 and 4 gave other weights; remove that from",
    "trained": "seedless is True; allowed for a class with `fit` and without `loss` alone",
    "likely": "seedless is 'probably'; allowed: True, or none",
}


@pytest.fixture
def prepared(light):
    (light / "plugins/light.py").write_text(MODELS)
    light.params(runs={name: {"model": name} for name in ("sure", *FAILURES)}, seeds=[3, 1])
    for command in ("plan", "prepare"):
        light.run("aebench", command)
    return light


def test_first_of_several_seeds_alone_is_computed_if_the_others_are_equal(prepared):
    def result(run, seed, stage):
        return json.loads((prepared / f"results/{run}/{seed}/{stage}.json").read_bytes())

    for seed in ("3", "1"):
        for stage in ("train", "encode", "knn"):
            prepared.run("aebench", stage, "sure", seed)
    assert result("sure", 3, "knn")["status"] == "ok"
    for stage in ("train", "encode", "knn"):
        found = result("sure", 1, stage)
        assert found["status"] == "as of seed 3, which changes nothing"
    for name in ("weights.safetensors", "test_codes.npy"):
        assert (prepared / f"runs/sure/1/{name}").read_bytes() == b""
    for run, words in FAILURES.items():
        prepared.run("aebench", "train", run, "3")
        assert words in result(run, 3, "train")["status"]
    prepared.params(runs={"sure": {"model": "sure"}})
    assert "no result is stale" not in prepared.run("aebench", "plan", "--check").stdout
    for command in ("plan", "report"):
        prepared.run("aebench", command)
    text = (prepared / "reports/report.md").read_text()
    assert "SMOKE" in text and "failed" not in text and "Not shown" not in text
    (line,) = prepared.run("aebench", "verify", "sure", "1", ok=False).stderr.splitlines()
    assert "run 'sure', seed 1: as of seed 3, which changes nothing: nothing to verify" in line
    with pytest.raises(AebenchError, match="as of seed 3, which changes nothing; load that seed"):
        aebench.load("sure", 1, prepared.folder)
    # Gathered without a plan beside them, they are as silent.
    elsewhere = prepared.folder.parent / "elsewhere"
    shutil.copytree(prepared / "results", elsewhere / "results")
    for run in FAILURES:
        shutil.rmtree(elsewhere / "results" / run)
    (elsewhere / "common").mkdir()
    prepared.folder = elsewhere / "common"
    prepared.run("aebench", "report", "--results", "../results")
    text = (prepared / "reports/report.md").read_text()
    assert "| sure" in text and "failed" not in text and "Not shown" not in text


def test_with_one_seed_nothing_is_fitted_twice(prepared):
    prepared.params(runs={"liar": {"model": "liar"}}, seeds=[3])
    for command in (["plan"], ["train", "liar", "3"]):
        prepared.run("aebench", *command)
    assert "only_seed" not in (prepared / "plan/liar/train.json").read_text()
    train = json.loads((prepared / "results/liar/3/train.json").read_bytes())
    assert train["status"] == "ok"
