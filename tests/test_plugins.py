"""The contract, for every registered model: a new file in plugins/ is tested as it is."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import LIGHT, ROOT

from aebench.errors import Refused
from aebench.models.autoencoder import build_autoencoder, reconstruction_loss
from aebench.models.contract import Candidate, check_contract
from aebench.models.execution import convolves_2d
from aebench.models.sizes import sizes
from aebench.plugins import load_plugins
from aebench.workspace import Workspace

REGISTRY = load_plugins(Workspace(ROOT))
MODELS = REGISTRY.models
SHAPES = [(1, 8, 8), (3, 32, 32), (3, 17, 13)]
LATENTS = [1, 1000]
DEPTHS = [1, 2, 3, 10]
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def cases():
    for name, model in sorted(MODELS.items()):
        uses = model.arguments
        for shape in SHAPES:
            for latent in LATENTS if "latent" in uses else [None]:
                if latent == 1000 and shape == (3, 32, 32) and name != "mlp":
                    continue  # seconds each, and nothing that 1000 elsewhere does not show
                for depth in DEPTHS if "depth" in uses else [None]:
                    settings = {"latent": latent, "depth": depth}
                    given = {k: v for k, v in settings.items() if v is not None}
                    yield pytest.param(name, shape, given, id=f"{name}-{shape}-{given}")


def build(name, shape, given):
    torch.manual_seed(0)
    try:
        return build_autoencoder(MODELS[name], shape, given)
    except Refused as reason:
        pytest.skip(f"refused: {reason}")


@pytest.mark.parametrize(("name", "shape", "given"), list(cases()))
def test_model_keeps_the_contract(name, shape, given):
    autoencoder = build(name, shape, given)
    images = torch.rand(12, *shape, generator=torch.Generator().manual_seed(1))
    if hasattr(autoencoder, "fit"):
        autoencoder.fit([images[:6], images[6:]])
    else:
        autoencoder.train()
        # Once a model as on a GPU, too: under autocast, channels last.
        for bfloat16 in (False, True) if shape == SHAPES[-1] else (False,):
            if bfloat16 and convolves_2d(autoencoder):
                autoencoder.to(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, bfloat16):
                loss = reconstruction_loss(autoencoder, images)
            assert loss.ndim == 0 and loss.isfinite()
            loss.backward()
            found = {n: p.grad for n, p in autoencoder.named_parameters() if p.grad is not None}
            assert found and [n for n, g in found.items() if not g.isfinite().all()] == []
    check_contract(MODELS[name], Candidate(autoencoder, images, given.get("latent")))
    with torch.inference_mode():
        codes = autoencoder.encoder(images)
        alone = torch.cat([autoencoder.encoder(image[None]) for image in images])
        decoded = autoencoder.decoder(codes)
    assert torch.allclose(codes, alone, atol=1e-5), "codes depend on the batch they are in"
    assert decoded.isfinite().all()


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("name", ["mlp", "combo", "cnn"])
def test_built_ins_have_exactly_their_depth(name, depth):
    found = sizes(build(name, (3, 32, 32), {"latent": 32, "depth": depth}), IMAGES)
    assert (found.encoder_layers, found.decoder_layers) == (depth, depth)


def test_sizes_of_a_model_counted_by_hand():
    found = sizes(build("mlp", (1, 8, 8), {"latent": 10, "depth": 2}), torch.rand(2, 1, 8, 8))
    encoder = 64 * 512 + 512 * 10
    assert found.encoder_params == encoder + 512 + 10
    assert found.decoder_params == encoder + 512 + 64
    assert found.model_bytes == 4 * found.num_params == 4 * (2 * encoder + 1024 + 74)
    assert (found.encoder_macs, found.macs) == (encoder, 2 * encoder)


@pytest.mark.parametrize(("name", "width"), [("combo", 40), ("cnn", 64)])
def test_sizes_of_the_convolutional_models_counted_by_hand(name, width):
    found = sizes(build(name, (3, 32, 32), {"latent": 32, "depth": 3}), IMAGES)
    folded = 3 * 4 * 4  # channels of the 8 x 8 maps
    weights = 9 * folded * width + 9 * width * width + 64 * width * 32
    assert found.encoder_params == weights + 2 * width + 32
    # The decoder's first layer of combo has a bias per value of the map, cnn's one per channel.
    biases = width * (64 if name == "combo" else 1)
    assert found.decoder_params == weights + biases + width + folded


@pytest.mark.parametrize("name", sorted(MODELS))
def test_macs_are_half_of_what_torch_counts(name):
    from torch.utils.flop_counter import FlopCounterMode

    settings = {"latent": 32, "depth": 3}
    autoencoder = build(
        name, (3, 32, 32), {k: v for k, v in settings.items() if k in MODELS[name].arguments}
    )
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        autoencoder.decoder(autoencoder.encoder(torch.zeros(1, 3, 32, 32)))
    assert sizes(autoencoder, IMAGES).macs == counter.get_total_flops() // 2


def test_nothing_shipped_fails_to_load():
    assert REGISTRY.broken == REGISTRY.duplicates == {}
    assert {"digits", "cifar10", "cifar100", "mnist", "fashion_mnist"} <= REGISTRY.datasets.keys()


def test_plugin_files_are_short():
    for name in ("mlp", "combo", "cnn", "pixels"):
        lines = (ROOT / f"plugins/{name}.py").read_text().splitlines()
        assert len([line for line in lines if line.strip()]) <= 25, name


PACKAGE = {
    "pyproject.toml": """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "far-models"
version = "1.0"
[project.entry-points.aebench]
far = "far_models.plugin"
""",
    "far_models/__init__.py": "",
    "far_models/plugin.py": "from far_models import widths\n"
    + LIGHT.replace('"light"', '"far"')
    .replace("latent, beta", "latent, beta")
    .replace("pixels = shape[0]", "pixels = widths.ONE * shape[0]"),
    "far_models/widths.py": "ONE = 1\n",
}


def test_installed_package_is_a_plugin_and_its_helpers_count(light, tmp_path):
    for name, text in PACKAGE.items():
        path = tmp_path / "package" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", site, tmp_path / "package"], check=True, capture_output=True)
    light.env["PYTHONPATH"] = str(site)
    light.params(runs={"one": {"model": "light"}, "two": {"model": "far"}})
    assert "far-models: far_models.plugin" in light.run("aebench", "list").stdout
    light.run("aebench", "plan")
    before = {run: (light / f"plan/{run}/train.json").read_text() for run in ("one", "two")}
    assert json.loads(before["two"])["plugin"] == "far-models: far_models.plugin"
    light.run("aebench", "prepare")
    light.run("aebench", "train", "two", "0")
    assert json.loads((light / "results/two/0/train.json").read_text())["status"] == "ok"
    (site / "far_models" / "widths.py").write_text("ONE = 1 + 0\n")
    light.run("aebench", "plan")
    assert (light / "plan/one/train.json").read_text() == before["one"]
    assert (light / "plan/two/train.json").read_text() != before["two"]


TIED = """\
from torch import nn
from torch.nn import functional
from aebench import hookimpl

class Tied(nn.Module):
    def __init__(self, shape, latent, noise=0.0, tags=("a",)):
        super().__init__()
        self.noise = noise
        linear = nn.Linear(shape[0] * shape[1] * shape[2], latent, bias=False)
        self.encoder = nn.Sequential(nn.Flatten(), linear)
        self.decoder = Mirror(linear, shape)

    def loss(self, images):
        noisy = images + self.noise * images.new_ones(images.shape)
        return functional.l1_loss(self.decoder(self.encoder(noisy)), images)

class Mirror(nn.Module):
    def __init__(self, linear, shape):
        super().__init__()
        self.linear, self.shape = linear, shape

    def forward(self, codes):
        return (codes @ self.linear.weight).unflatten(1, self.shape)

@hookimpl
def register_models(register):
    register("tied", Tied)
"""


def test_module_with_own_loss_option_and_tied_weights(light):
    (light / "plugins/tied.py").write_text(TIED)
    light.params(
        runs={
            "tied": {"model": "tied", "latent": 5, "noise": 0.1},
            "wide": {"model": "tied", "latent": 5, "noise": 0.1, "tags": ["b"]},
        }
    )
    light.run("dvc", "repro")
    assert (
        "Runs that differ in tags alone (['a'], ['b'])" in (light / "reports/report.md").read_text()
    )
    result = json.loads((light / "results/tied/0/encode.json").read_text())
    assert result["sizes"]["num_params"] == 64 * 5 and result["status"] == "ok"
    code = "import aebench; print(sum(p.numel() for p in aebench.load('tied').parameters()))"
    assert light.run("python", "-c", code).stdout == "320\n"


def test_load_names_what_is_wrong(baseline):
    code = "import aebench, sys\ntry: aebench.load(sys.argv[1])\nexcept aebench.AebenchError as e:"
    code += " print(e)"
    said = baseline.run("python", "-c", code, "pixls").stdout
    assert "unknown run 'pixls' (did you mean 'pixels'?)" in said
    baseline.params(latent=7)
    baseline.run("aebench", "plan")
    said = baseline.run("python", "-c", code, "mlp").stdout
    assert said == "run 'mlp' was trained with other settings; run `dvc repro`\n"


def test_seeds_decide_the_weights(baseline):
    def weights(seed):
        return Path(baseline / f"runs/mlp/{seed}/weights.safetensors").read_bytes()

    first = weights(0)
    baseline.run("aebench", "train", "mlp", "0")
    assert weights(0) == first
    baseline.run("aebench", "train", "mlp", "1")
    assert weights(1) != first
