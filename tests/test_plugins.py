"""The contract, for every registered model: a new file in plugins/ is tested as it is."""

import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import LIGHT, ROOT, SMALL, make

from aebench import load
from aebench.errors import AebenchError, Refused
from aebench.models.autoencoder import build_autoencoder
from aebench.models.contract import Candidate, check_contract
from aebench.models.execution import convolves_2d
from aebench.models.losses import reconstruction_loss
from aebench.models.signatures import asked, is_closed_form
from aebench.models.sizes import sizes
from aebench.plugins import load_plugins
from aebench.workspace import Workspace

REGISTRY = load_plugins(Workspace(ROOT))
MODELS = REGISTRY.models
SHAPES = [(1, 8, 8), (3, 32, 32), (3, 17, 13)]
LATENTS = [1, 1000]
DEPTHS = [1, 2, 3, 10]
BUILT_INS = {"mlp", "combo", "cnn", "pca", "pixels"}
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def cases():
    """The built-ins: all. Others: each depth in turn, with each shape and latent once."""
    for position, (name, model) in enumerate(sorted(MODELS.items())):
        uses, count = model.arguments, position
        for shape in SHAPES:
            for latent in LATENTS if "latent" in uses else [None]:
                if latent == 1000 and shape == (3, 32, 32) and name != "mlp":
                    continue  # seconds each, and nothing that 1000 elsewhere does not show
                depths = DEPTHS if "depth" in uses else [None]
                if name not in BUILT_INS:
                    depths = [depths[count % len(depths)]]
                    count += 1
                for depth in depths:
                    settings = {"latent": latent, "depth": depth}
                    given = {k: v for k, v in settings.items() if v is not None}
                    yield pytest.param(name, shape, given, id=f"{name}-{shape}-{given}")


def build(name, shape, given, seed=0):
    torch.manual_seed(seed)
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
    offered = {"labels": torch.arange(12) % 2, "progress": 0.5}
    if hasattr(autoencoder, "optimize"):
        assert all(found["loss"].isfinite() for found in autoencoder.train().optimize([images] * 2))
    elif not is_closed_form(autoencoder):
        autoencoder.train()
        told = {name: offered[name] for name in asked(autoencoder, "loss")}
        # Once a model as on a GPU, too: under autocast, channels last.
        for bfloat16 in (False, True) if shape == SHAPES[-1] else (False,):
            if bfloat16 and convolves_2d(autoencoder):
                autoencoder.to(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, bfloat16):
                loss = reconstruction_loss(autoencoder, images, **told)["loss"]
            assert loss.ndim == 0 and loss.isfinite()
            loss.backward()
            found = {n: p.grad for n, p in autoencoder.named_parameters() if p.grad is not None}
            assert found and [n for n, g in found.items() if not g.isfinite().all()] == []
    check_contract(MODELS[name], Candidate(autoencoder, images, given.get("latent")))


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("name", ["mlp", "combo", "cnn"])
def test_built_ins_have_exactly_their_depth(name, depth):
    found = sizes(build(name, (3, 32, 32), {"latent": 32, "depth": depth}), IMAGES)
    assert (found.encoder_layers, found.decoder_layers) == (depth, depth)


def test_sizes_of_a_model_counted_by_hand():
    found = sizes(build("mlp", (1, 8, 8), {"latent": 10, "depth": 2}), torch.rand(2, 1, 8, 8))
    # Even and odd half: of the pixels 32 each, of the layer between 512, of the code 7 and 3.
    encoder = 2 * 32 * 512 + 512 * 7 + 512 * 3
    assert found.encoder_params == encoder + 512 + 7
    assert found.decoder_params == encoder + 512 + 32
    assert found.model_bytes == 4 * found.num_params == 4 * (2 * encoder + 1024 + 39)
    assert (found.encoder_macs, found.macs) == (encoder, 2 * encoder)


def test_sizes_of_the_convolutional_models_counted_by_hand():
    folded, pixels = 3 * 4 * 4, 8 * 8  # channels of the maps, and pixels
    for name, width, far in (("combo", 40, 0), ("cnn", 64, 2)):
        found = sizes(build(name, (3, 32, 32), {"latent": 32, "depth": 3}), IMAGES)
        weights = 9 * folded * width + 9 * width * width + far * pixels * pixels * width
        weights += pixels * (width + far) * 32
        assert found.encoder_params == weights + 2 * width + 32, name
        # The decoder's first layer of combo has a bias per value of the map, cnn's one per channel.
        biases = width * pixels if name == "combo" else width + far
        assert found.decoder_params == weights + biases + width + folded, name


@pytest.mark.parametrize("width", [1, 7, 8])
@pytest.mark.parametrize("latent", [1, 10])
def test_mlp_makes_of_a_mirrored_image_the_mirrored_one(latent, width):
    model = build("mlp", (3, 5, width), {"latent": latent, "depth": 3})
    images = torch.rand(4, 3, 5, width)
    with torch.no_grad():
        found = model.decoder(model.encoder(images))
        mirrored = model.decoder(model.encoder(images.flip(3)))
    torch.testing.assert_close(mirrored, found.flip(3))
    assert latent == 1 or width == 1 or not torch.allclose(mirrored, found, atol=1e-3)


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_cnn_begins_as_a_random_projection(depth):
    model, other = (
        build("cnn", (3, 32, 32), {"latent": 32, "depth": depth}, seed) for seed in (0, 1)
    )
    one, two = 0.1 * (torch.rand(2, 4, 3, 32, 32) - 0.5)
    with torch.no_grad():
        codes, found, third = (model.encoder(0.5 + part) for part in (one, two, one + two))
        torch.testing.assert_close(third, codes + found, atol=1e-5, rtol=0)
        torch.testing.assert_close(model.encoder(model.decoder(codes)), codes, atol=1e-5, rtol=0)
        assert codes.norm() > 0.1 and (other.encoder(0.5 + one) - codes).norm() > 0.1
        pixels, clipped = torch.tensor([-1, 0.0, 0.3, 1, 3]), [-0.05, 0.0, 0.3, 1, 1.1]
        torch.testing.assert_close(model.decoder[-1](4 * pixels - 2), torch.tensor(clipped))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_macs_are_half_of_what_torch_counts(name):
    from torch.utils.flop_counter import FlopCounterMode

    settings = {"latent": 32, "depth": 3}
    autoencoder = build(
        name, (3, 32, 32), {k: v for k, v in settings.items() if k in MODELS[name].arguments}
    )
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        codes = autoencoder.encoder(torch.zeros(1, 3, 32, 32))
        if autoencoder.decoder:
            autoencoder.decoder(codes)
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
    "far_models/__init__.py": "import os\nos.chdir('/')\n",
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
    more = os.environ.get("PYTHONPATH", "")
    light.env["PYTHONPATH"] = f"{site}{os.pathsep}{more}".rstrip(os.pathsep)
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
    for command in ("plan", "prepare"):
        light.run("aebench", command)
    for run in ("tied", "wide"):
        for stage in ("train", "encode", "knn"):
            light.run("aebench", stage, run, "0")
    light.run("aebench", "report")
    assert (
        "Runs that differ in tags alone (['a'], ['b'])" in (light / "reports/report.md").read_text()
    )
    result = json.loads((light / "results/tied/0/encode.json").read_text())
    assert result["sizes"]["num_params"] == 64 * 5 and result["status"] == "ok"
    code = "import aebench; print(sum(p.numel() for p in aebench.load('tied').parameters()))"
    assert light.run("python", "-c", code).stdout == "320\n"


def test_load_names_what_is_wrong(baseline, monkeypatch):
    monkeypatch.chdir(baseline.folder)
    with pytest.raises(AebenchError, match=r"unknown run 'pixls' \(did you mean 'pixels'\?\)"):
        load("pixls")
    baseline.params(latent=7)
    baseline.run("aebench", "plan")
    said = r"^run 'mlp' was trained with other settings; run `dvc repro`$"
    with pytest.raises(AebenchError, match=said):
        load("mlp")


def test_seeds_decide_the_weights(baseline):
    def weights(seed):
        return Path(baseline / f"runs/mlp/{seed}/weights.safetensors").read_bytes()

    first = weights(0)
    baseline.params(seeds=[0, 1])
    baseline.run("aebench", "plan")
    baseline.run("aebench", "train", "mlp", "0")
    assert weights(0) == first
    baseline.run("aebench", "train", "mlp", "1")
    assert weights(1) != first


# What plug-ins do to their process, and what is said where it is done at import.
CHANGES = {
    "import os; os.chdir('/')": "the working directory",
    "import os, tempfile; os.chdir(d := tempfile.mkdtemp()); os.rmdir(d)": "the working directory",
    "import os; os.environ.update(HOME='/nope', AEBENCH_DATA='/nope', OMP_NUM_THREADS='7')": (
        "the environment (AEBENCH_DATA, HOME, OMP_NUM_THREADS)"
    ),
    "import os; del os.environ['PATH']; os.environ['GIT_DIR'] = '/nope'": (
        "the environment (GIT_DIR, PATH)"
    ),
    "import torch; torch.set_default_dtype(torch.float16)": "torch's default dtype",
    "import torch; torch.set_default_device('meta')": "torch's default device",
    "import torch; torch.set_num_threads(2)": "torch's number of threads",
    "import torch; torch.set_grad_enabled(False)": "torch's grad mode",
    "import torch; torch.set_float32_matmul_precision('medium')": "torch's matmul precision",
    "import torch; torch.autograd.set_detect_anomaly(True)": "torch's anomaly detection",
    "import torch; torch.set_deterministic_debug_mode('error')": "torch's deterministic mode",
    "import torch; torch.backends.cudnn.benchmark = True": "torch's cuDNN benchmark",
    "import sys; sys.path.insert(0, '/nope'); sys.path = sys.path[:1]": None,
    "import warnings; warnings.simplefilter('error')": None,
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)": None,
    "import logging; logging.basicConfig(level=0, force=True); logging.disable()": None,
    "import numpy; numpy.seterr(all='raise')": None,
    "import sys; sys.stdout = sys.stderr = sys.excepthook = None": None,
}
PRINTED = "print('hello'); import sys; sys.stdout.write('there\\n')"
SEEDED = "import random, numpy, torch; [s.seed(0) for s in (random, numpy.random)]; torch.seed()"


def state():
    """What plug-ins may have changed here."""
    return (
        os.getcwd(),
        dict(os.environ),
        sys.path[: len(PATH_BEFORE)],
        sys.stdout,
        sys.stderr,
        [rule for rule in warnings.filters if rule[0] == "error"],
        signal.getsignal(signal.SIGINT),
        (logging.root.level, list(logging.root.handlers), logging.root.manager.disable),
        np.geterr(),
        (torch.get_default_dtype(), torch.get_default_device(), torch.get_num_threads()),
        (torch.is_grad_enabled(), torch.get_float32_matmul_precision()),
        (torch.is_anomaly_enabled(), torch.backends.cudnn.benchmark),
    )


PATH_BEFORE = list(sys.path)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A workspace with prepared images; `trained(source)` is what training a plug-in gives."""
    params = SMALL[: SMALL.index("runs:")] + "runs:\n  one:\n    model: light\n"
    workspace = make(tmp_path_factory.mktemp("plain") / "workspace", params, plugins=False)
    shutil.copy(ROOT / "plugins/digits.py", workspace / "plugins")
    (workspace / "plugins/light.py").write_text(LIGHT)
    workspace.run("aebench", "plan")
    workspace.run("aebench", "prepare")
    return workspace


def trained(workspace, source):
    """Standard error of planning and of training, and the weights."""
    (workspace / "plugins/light.py").write_text(source)
    planned = workspace.run("aebench", "plan")
    done = workspace.run("aebench", "train", "one", "0")
    assert planned.stdout == "" and "hello" not in done.stdout
    status = json.loads((workspace / "results/one/0/train.json").read_text())["status"]
    assert status == "ok"
    return planned.stderr, done.stderr, (workspace / "runs/one/0/weights.safetensors").read_bytes()


def inside(line):
    """A plug-in that does it when a model is built."""
    return LIGHT.replace("    from torch", f"    {line}\n    from torch", 1)


@pytest.mark.parametrize(("line", "words"), CHANGES.items())
def test_what_importing_a_plugin_does_to_its_process_is_undone(plain, line, words):
    (plain / "plugins/light.py").write_text(f"{line}\n{LIGHT}")
    before = state()
    said = plain.run("aebench", "plan").stderr
    assert state() == before
    told = f"aebench: warning: plugins/light.py: importing it changed {words}: undone\n"
    assert said == (told if words else "")


def test_what_plugins_do_to_their_process_changes_no_weights(plain):
    *_, expected = trained(plain, LIGHT)
    before = state()
    assert trained(plain, "\n".join([*CHANGES, LIGHT]))[2] == expected
    harmless = [line for line in CHANGES if "dtype" not in line and "device" not in line]
    _, said, weights = trained(plain, inside("; ".join(harmless)))
    assert said == "" and state() == before and weights == expected


def test_what_a_plugin_prints_or_seeds_at_import_changes_nothing(plain):
    *_, expected = trained(plain, LIGHT)
    planned, said, weights = trained(plain, f"{PRINTED}\n{inside(PRINTED)}")
    assert planned == "hello\nthere\n" and "hello" in said and weights == expected
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    drawn = random.random(), np.random.rand(), torch.rand(1)
    (plain / "plugins/light.py").write_text(f"{SEEDED}\n{LIGHT}")
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    plain.run("aebench", "plan")
    assert (random.random(), np.random.rand(), torch.rand(1)) == drawn


def test_torch_that_a_plugin_imports_is_put_back_to_how_it_comes(plain):
    (plain / "plugins/light.py").write_text(f"import torch\ntorch.set_grad_enabled(False)\n{LIGHT}")
    plain.apart = True
    said = plain.run("aebench", "plan").stderr
    plain.apart = False
    assert said.endswith("plugins/light.py: importing it changed torch's grad mode: undone\n")
    assert said.count("\n") == 1


def test_a_model_that_seeds_itself_is_told(plain):
    _, said, _ = trained(plain, inside("import torch; torch.manual_seed(4)"))
    assert (
        said.count("plugins/light.py: build sets torch's seed: runs of several seeds start alike")
        == 1
    )
    forked = "with torch.random.fork_rng(): torch.manual_seed(4)"
    assert trained(plain, inside(f"import torch\n    {forked}"))[1] == ""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("exit()", "ended the process: SystemExit(None) (light.py:4)"),
        ("import sys; sys.exit(3)", "ended the process: SystemExit(3) (light.py:4)"),
        ("raise GeneratorExit('x')", "ended the process: GeneratorExit('x') (light.py:4)"),
        ("open('nosuch.pt')", "No such file or directory: 'nosuch.pt' (light.py:4)"),
        ("import os; os.listdir('setup.py')", "directory: 'setup.py' (light.py:4)"),
        ("import json; json.loads('{')", "(char 1) (light.py:4)"),
        ("import aebench; raise aebench.AebenchError('of mine')", "AebenchError: of mine (light"),
        ("import aebench; aebench.read_images('away', shape)", "away: no such folder (light.py:4)"),
    ],
)
def test_build_that_ends_or_opens_is_a_failed_row(plain, line, expected):
    (plain / "plugins/light.py").write_text(inside(line))
    plain.run("aebench", "plan")
    said = plain.run("aebench", "train", "one", "0").stderr
    assert said.startswith("aebench: train one 0: failed: ") and expected in said


SHAPE_FIRST = "allowed: build(shape, ...), which is given the image shape (C, H, W) by position"
KEY = "which is a key of params.yaml; rename it, as to"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("beta=1.0", "channels=64", f"build has an option 'channels', {KEY} 'inner_channels'"),
        ("beta=1.0", "*, train=True", f"build has an option 'train', {KEY} 'inner_train'"),
        ("beta=1.0", "model='vit'", f"build has an option 'model', {KEY} 'inner_model'"),
        ("shape, latent, beta=1.0", "latent, depth", f"build is 'latent'; {SHAPE_FIRST}"),
        ("shape, latent, beta=1.0", "*, shape, latent", f"build is 'shape'; {SHAPE_FIRST}"),
        ("shape, latent, beta", "shape, latent, /, beta", "build takes 'latent' by position alone"),
        ("latent, beta=1.0", "latent, *layers", "model 'light': build must be build(shape, ...)"),
        ("shape, latent, beta=1.0", "", "model 'light': build must be build(shape, ...)"),
        ('"light", build', '"light", 3', "build is int; allowed: a function or a class"),
        ('"light", build', "build", "register() missing 1 required positional argument: 'build'"),
        ('"light", build', '"light", dict', "model 'light': "),
        ('"light"', "b'light'", "model b'light': the name must be a str"),
        ('"light"', "None", "model None: the name must be a str"),
        ('"light"', '" "', "model ' ': allowed: 1 to 100 printable characters; rename it"),
        ('"light"', '"a\\nb"', "model 'a\\nb': allowed: 1 to 100 printable characters"),
        ('"light"', '"a" * 101', "aaa': allowed: 1 to 100 printable characters"),
        ("LAST", "exit()", "SystemExit: None (light.py:14); a plug-in must not end the process"),
        ("LAST", "raise KeyError('x')", "KeyError: 'x' (light.py:14)"),
        ("LAST", "import asyncio; raise asyncio.CancelledError()", "CancelledError: no message ("),
        ("LAST", "open('nosuch.csv')", "No such file or directory: 'nosuch.csv' (light.py:14)"),
    ],
)
def test_odd_registration_is_one_line_before_anything_trains(plain, old, new, expected):
    source = (LIGHT + "LAST").replace(old, new, 1)
    (plain / "plugins/light.py").write_text(source.removesuffix("LAST"))
    unknown, line = plain.run("aebench", "plan", ok=False).stderr.splitlines()
    assert "unknown model 'light'" in unknown
    assert line.startswith("aebench: error: not loaded: plugins/light.py: ") and expected in line


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("'a/b', build", "data set 'a/b': allowed: names like ^[A-Za-z0-9]"),
        ("'', build", "data set '': allowed: 1 to 100 printable characters; rename it"),
        ("3, build", "data set 3: the name must be a str"),
        ("'icons', {}", "data set 'icons': load is dict; allowed: a function or a class"),
        ("load=build", "register() missing 1 required positional argument: 'name'"),
    ],
)
def test_odd_registration_of_data_is_one_line(plain, arguments, expected):
    source = LIGHT.replace("register_models", "register_datasets")
    source = source.replace('"light", build', arguments)
    (plain / "plugins/light.py").write_text(source)
    _, line = plain.run("aebench", "plan", ok=False).stderr.splitlines()
    assert line.startswith("aebench: error: not loaded: plugins/light.py: ") and expected in line


def test_name_that_is_text_of_another_kind(plain):
    kind = "import enum\nclass Name(str, enum.Enum):\n    A = 'light'\n"
    (plain / "plugins/light.py").write_text(kind + LIGHT.replace('"light"', "Name.A"))
    plain.run("aebench", "plan")
    assert json.loads((plain / "plan/one/train.json").read_text())["model"] == "light"


WAYS = {
    "bare": "from _width import WIDTH",
    "name": "from ._width import WIDTH",
    "module": "from . import _width as w\nWIDTH = w.WIDTH",
    "through": "from ._through import WIDTH",
    "absolute": "from aebench_plugins._width import WIDTH",
    "late": "class WIDTH:\n    def __rmul__(self, x):\n        from ._width import WIDTH\n"
    "        return x * WIDTH\nWIDTH = WIDTH()",
}


def test_helpers_can_be_imported_relatively_and_count(light):
    for way, line in WAYS.items():
        source = line + "\n" + LIGHT.replace('"light"', repr(way))
        source = source.replace("nn.Flatten()", "*[nn.Flatten()] * WIDTH")
        (light / f"plugins/{way}.py").write_text(source)
    (light / "plugins/_through.py").write_text("from . import _width\nWIDTH = _width.WIDTH\n")
    (light / "plugins/_width.py").write_text("WIDTH = 2\n")
    light.params(runs={way: {"model": way} for way in (*WAYS, "light")})

    def plans():
        light.run("aebench", "plan")
        return {way: (light / f"plan/{way}/train.json").read_text() for way in (*WAYS, "light")}

    before = plans()
    light.run("aebench", "prepare")
    light.run("aebench", "train", "late", "0")
    assert json.loads((light / "results/late/0/train.json").read_text())["status"] == "ok"
    (light / "plugins/_width.py").write_text("WIDTH = 3\n")
    after = plans()
    assert {way for way in after if after[way] != before[way]} == set(WAYS)
    assert "plugins/_width.py changed" in light.run("aebench", "plan", "--check").stdout


def test_edit_of_the_same_size_and_second_is_noticed(light, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    light.params(runs={"one": {"model": "light", "beta": 2.0}})
    light.run("aebench", "plan")
    path = light / "plugins/light.py"
    before = path.stat()
    path.write_text(path.read_text().replace("beta", "zeta"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert "runs.one.beta: unknown key" in light.run("aebench", "plan", ok=False).stderr
    assert not (light / "plugins/__pycache__").exists() and not sys.dont_write_bytecode


FOLDER = {
    "__init__.py": "from .layers import build\nfrom .inner import register_models\n",
    "layers.py": "from .._width import WIDTH\n\nMADE = []\n\n"
    + LIGHT[: LIGHT.index("@hookimpl")].replace("beta=1.0", "gamma=1.0"),
    "inner/__init__.py": "from aebench import hookimpl\nfrom ..layers import build\n\n@hookimpl\n"
    "def register_models(register):\n    register('vit', build)\n",
    "inner/unused.py": "ONE = 1\n",
    "table.json": "[1]",
}


def write_folder(folder, files=FOLDER):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_folder_is_a_plugin_whose_whole_content_counts(light):
    write_folder(light / "plugins/vit")
    (light / "plugins/_width.py").write_text("WIDTH = 1\n")
    uses = "from .vit.layers import WIDTH\n" + LIGHT.replace('"light"', '"uses"')
    (light / "plugins/uses.py").write_text(uses)
    runs = ("light", "vit", "uses")
    light.params(runs={run: {"model": run} for run in runs})

    def plans():
        assert light.run("aebench", "plan").stderr == ""
        return {run: (light / f"plan/{run}/train.json").read_text() for run in runs}

    before = plans()
    plan = json.loads(before["vit"])
    assert plan["plugin"] == "plugins/vit" and plan["build"] == {"gamma": 1.0, "latent": 32}
    assert "vit      plugins/vit " in light.run("aebench", "list").stdout
    light.run("aebench", "prepare")
    light.run("aebench", "train", "vit", "0")
    assert json.loads((light / "results/vit/0/train.json").read_text())["status"] == "ok"
    assert "no result" in light.run("aebench", "plan", "--check").stdout
    for name, text, moved in (
        ("vit/layers.py", FOLDER["layers.py"].replace("gamma=1.0", "gamma=2.0"), {"vit", "uses"}),
        ("vit/inner/unused.py", "ONE = 2\n", {"vit"}),
        ("vit/new.py", "", {"vit"}),
        ("vit/table.json", "[2]", {"vit"}),
        ("_width.py", "WIDTH = 2\n", {"vit", "uses"}),
        ("vit/layers.py", "# why\n" + FOLDER["layers.py"].replace("1.0", "2.0"), set()),
        ("vit/.hidden.py", "ONE = 1\n", set()),
        ("vit/__pycache__/layers.cpython-311.pyc", "x", set()),
    ):
        write_folder(light / "plugins", {name: text})
        after = plans()
        assert {run for run in runs if after[run] != before[run]} == moved, name
        before = after
    assert json.loads(before["vit"])["build"]["gamma"] == 2.0
    said = light.run("aebench", "plan", "--check").stdout
    changed = [f"plugins/{name}" for name in ("_width.py", "vit/inner/unused.py", "vit/layers.py")]
    assert f"train@vit-0: gamma 1.0 -> 2.0; {', '.join(changed)}, plugins/vit/new.py" in said
    (light / "plugins/vit.py").write_text(LIGHT)
    said = light.run("aebench", "plan", ok=False).stderr
    assert "not loaded: plugins/vit: plugins/vit.py has the same name; rename one" in said


def test_modules_of_a_folder_are_imported_anew_for_the_check(light):
    """What a module or a helper has learnt is not there when the model is built again."""
    learning = FOLDER["layers.py"].replace("MADE = []", "from .._made import MADE")
    learning = learning.replace("    return", "    MADE.append(1)\n    return")
    learning = learning.replace("nn.Flatten(), ", "nn.Flatten(), *[nn.Identity()] * len(MADE), ")
    own = learning.replace("from .._made import MADE", "MADE = []")
    light.params(runs={"one": {"model": "vit"}})
    (light / "plugins/_width.py").write_text("WIDTH = 1\n")
    (light / "plugins/_made.py").write_text("MADE = []\n")
    for source in (learning, own):
        write_folder(light / "plugins/vit", FOLDER | {"layers.py": source})
        for command in (("plan",), ("prepare",), ("train", "one", "0")):
            light.run("aebench", *command)
        status = json.loads((light / "results/one/0/train.json").read_text())["status"]
        assert "the trained state does not fit a newly built model" in status


STRANGE = {
    "a file of its name": (
        {"vit/__init__.py": "", "vit.py": LIGHT},
        "plugins/vit: plugins/vit.py has the same name; rename one",
    ),
    "no __init__": (
        {"vit/layers.py": LIGHT},
        "plugins/vit: has no __init__.py, so it is no plug-in; add one, or call the folder _vit if",
    ),
    "helpers": (
        {"vit/__init__.py": "ONE = 1\n"},
        "plugins/vit: registers nothing; decorate `register_models(register)` with @aebench.hook",
    ),
    "a broken module": (
        {"vit/__init__.py": "from .layers import x", "vit/layers.py": "\nx = ("},
        "plugins/vit: SyntaxError: '(' was never closed (line 2 of layers.py)",
    ),
    "a module that raises": (
        {"vit/__init__.py": "from .layers import x", "vit/layers.py": "\n1 / 0"},
        "plugins/vit: ZeroDivisionError: division by zero (layers.py:2)",
    ),
}


@pytest.mark.parametrize(("files", "expected"), STRANGE.values(), ids=STRANGE)
def test_folder_that_is_no_plugin_is_told_in_a_line(light, files, expected):
    write_folder(light / "plugins", files)
    light.params(runs={"one": {"model": "vit"}})
    lines = [x for x in light.run("aebench", "plan", ok=False).stderr.splitlines() if expected in x]
    assert len(lines) == 1
    assert light.run("aebench", "list").stdout.count(expected) == 1


def test_folders_of_helpers_and_of_installed_names(light):
    """A folder called like an installed package is a plug-in and stands in for nothing."""
    write_folder(light / "plugins/_nets", {"__init__.py": "", "sizes.py": "WIDTH = 1\n"})
    write_folder(light / "plugins/loose", {"more.py": "WIDTH = 1\n"})
    write_folder(light / "plugins/.old", {"__init__.py": "nonsense ("})
    (light / "plugins/.#light.py").symlink_to("nowhere")  # an editor's lock
    imports = "from _nets.sizes import WIDTH\nfrom ..loose.more import WIDTH as W\nimport torch\n"
    source = imports + LIGHT.replace('"light"', '"net"').replace("nn.Flatten()", "nn.Flatten(W)")
    write_folder(light / "plugins/torch", {"__init__.py": source})
    light.params(runs={"one": {"model": "light"}, "net": {"model": "torch:net"}})
    light.apart = True
    assert light.run("aebench", "plan").stderr == ""
    light.apart = False
    light.run("aebench", "prepare")
    light.apart = True
    light.run("aebench", "train", "net", "0")
    assert json.loads((light / "results/net/0/train.json").read_text())["status"] == "ok"
    light.apart = False
    before = (light / "plan/net/train.json").read_text()
    (light / "plugins/_nets/sizes.py").write_text("WIDTH = 2\n")
    light.run("aebench", "plan")
    assert (light / "plan/net/train.json").read_text() != before


CLOSED = """\
import torch
from torch import nn
from aebench import hookimpl

class Fitted(nn.Module):
    def __init__(self, shape, latent):
        super().__init__()
        pixels = shape[0] * shape[1] * shape[2]
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(pixels, latent))
        self.decoder = nn.Sequential(nn.Linear(latent, pixels), nn.Unflatten(1, shape))
    def fit(self, batches): pass

class Quiet(Fitted):
    loss = optimize = None
class Lossy(Fitted):
    def loss(self, images): return (self.decoder(self.encoder(images)) - images).abs().mean()
class Looped(Fitted):
    def optimize(self, batches): yield from ()
class NoFit(Lossy):
    fit = None

@hookimpl
def register_models(register):
    for kind in (Fitted, Quiet, Lossy, Looped, NoFit):
        register(kind.__name__, kind)
"""


def test_only_a_class_with_nothing_to_train_is_a_closed_form(light):
    (light / "plugins/closed.py").write_text(CLOSED)
    names = ("Fitted", "Quiet", "Lossy", "Looped", "NoFit")
    light.params(runs={name.lower(): {"model": name} for name in names})
    for _ in range(2):  # the second time it is remembered
        light.run("aebench", "plan")
        plans = {n: json.loads((light / f"plan/{n.lower()}/train.json").read_text()) for n in names}
        assert [n for n in names if plans[n]["train"] is None] == ["Fitted", "Quiet"]
