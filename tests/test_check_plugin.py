"""`aebench check-plugin`: each kind of fault by the name of its check, warnings apart."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

import pytest
from conftest import LIGHT, ROOT, SMALL, Workspace, make

from aebench.commands import check_plugin

# A model to be spoilt: what stands at each name in capitals is replaced.
MODEL = """\
import os, random, sys, time
import torch
from torch import nn
from torch.nn import functional
import aebench
IMPORT

class Layer(nn.Module):
    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, x):
        return self.change(self, x)


class Model(nn.Module):
    def __init__(self, shape, latent, depth OPTIONS):
        super().__init__()
        pixels = shape[0] * shape[1] * shape[2]
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(pixels, latent))
        self.decoder = nn.Sequential(nn.Linear(latent, pixels), nn.Unflatten(1, shape))
        self.depth = depth
        BUILD

    def loss(self, images LABELS):
        LOSS
        return functional.mse_loss(self.decoder(self.encoder(images)), images)

@aebench.hookimpl
def register_models(register):
    register("light", Model)
"""


def model(**parts):
    """The source, with these parts."""
    source = MODEL
    for name in ("IMPORT", "OPTIONS", "BUILD", "LABELS", "LOSS"):
        source = source.replace(
            name, parts.pop(name.lower(), "pass" if name in "BUILD LOSS" else "")
        )
    assert not parts
    return source


def layer(change):
    """One more layer of the encoder; `self` is the layer, `x` what it is given."""
    return f"self.encoder.append(Layer(lambda self, x: {change}))"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """With one plug-in, which each test writes."""
    params = SMALL[: SMALL.index("runs:")] + "runs:\n  one:\n    model: light\n    latent: 4\n"
    params += "  two:\n    model: gone\n"
    workspace = make(tmp_path_factory.mktemp("check") / "workspace", params, plugins=False)
    shutil.copy(ROOT / "plugins/digits.py", workspace / "plugins")
    return workspace


@pytest.fixture
def check(workspace, monkeypatch):
    """Checks the source at the first shapes; what is printed, and the line of the error."""

    def checked(source, ok=True, cases=2, name="light"):
        monkeypatch.setattr(check_plugin, "CASES", check_plugin.CASES[:cases])
        (workspace / "plugins/light.py").write_text(source)
        done = workspace.run("aebench", "check-plugin", name, ok=ok)
        return done.stdout, done.stderr

    return checked


@pytest.mark.parametrize("name", ["combo", "pca", "pixels"])
def test_what_is_shipped_keeps_the_contract(tmp_path, monkeypatch, name):
    monkeypatch.setattr(check_plugin, "CASES", check_plugin.CASES[:6])  # the others are large
    workspace = make(tmp_path / "workspace", SMALL)
    said = workspace.run("aebench", "check-plugin", name).stdout
    assert said.endswith(f"plugins/{name}.py: keeps the contract\n")
    assert "FAULT" not in said and "warning" not in said
    refused = re.findall(r"(depth \d)  refused: combo needs", said)
    assert refused == (["depth 1"] * 2 if name == "combo" else [])
    lines = re.findall(r" ok +[\d,]+ params +[\d.,]+ kB +[\d.]+ MMACs +[\d.]+ s\n", said)
    assert len(lines) == (2 if name == "pixels" else 6 - len(refused))


def test_cases_pair_each_two_values_once():
    for i, j in ((0, 1), (0, 2), (1, 2)):
        cases = [
            (shape, "more" if latent > math.prod(shape) else latent, depth)
            for shape, latent, depth in check_plugin.CASES
        ]
        assert {case[1] for case in cases} == {1, 16, "more"}
        assert len({(case[i], case[j]) for case in cases}) == len(cases) == 9


def test_a_sound_plugin_has_neither_faults_nor_warnings(check):
    for source in (model(), LIGHT.replace("latent, beta=1.0", "latent"), model(labels=", labels")):
        said, errors = check(source)
        assert errors == "" and "warning" not in said and "FAULT" not in said


FAULTS = {
    "import": ({"import": "import nosuch"}, "ModuleNotFoundError: No module named 'nosuch' (light"),
    "import: exit": ({"import": "exit()"}, "a plug-in must not end the process"),
    "options": ({"options": ", width"}, "width has no default; allowed: one that JSON can hold"),
    "options: object": ({"options": ", act=nn.ReLU"}, "act has the default <class 'torch.nn"),
    "start": ({"build": "self.encoder[2].bias"}, "IndexError: index 2 is out of range (light.py:"),
    "start: exit": ({"build": "sys.exit(3)"}, "ended the process: SystemExit(3) (light.py:"),
    "start: halves": ({"build": "del self.encoder"}, "build returned Model with encoder and"),
    "methods": ({"build": "self.fit = 3"}, "fit is int; allowed: a method, or none"),
    "codes": ({"build": layer("x[:, :, None]")}, "encoder returned (8, 16, 1) for 8 images, expec"),
    "reconstructions": (
        {"build": "self.decoder = nn.Identity()"},
        "decoder returned (8, 16) for 8 codes, expected (8, 1, 8, 8)",
    ),
    "repeatable": ({"build": layer("x + torch.rand_like(x)")}, "asked again, by up to"),
    "unchanged_by_use": (
        {
            "build": "self.register_buffer('seen', torch.zeros(()))\n        "
            "self.encoder.register_forward_hook(lambda *_: self.seen.add_(1) and None)"
        },
        "in eval mode it changes seen; allowed in training mode alone",
    ),
    "reloadable": (
        {
            "build": "self.kept = 1.0; self.encoder.register_forward_hook("
            "lambda m, i, x: x * self.kept)",
            "loss": "self.kept = 2.0",
        },
        "not in the weights: kept",
    ),
    "note": ({"build": "self.note = 3"}, "note is int; allowed: str"),
    "training": ({"loss": "return images.mean()"}, "the loss depends on no parameter"),
    "training: raises": ({"loss": "1 / 0"}, "ZeroDivisionError: division by zero (light.py:"),
    "training: exit": ({"loss": "exit()"}, "ended the process: SystemExit(None) (light.py:"),
    "training: nan": ({"loss": "return self.encoder(images).sum() * float('nan')"}, "the loss is"),
    "training: bfloat16": (
        {
            "loss": "codes = self.encoder(images); "
            "torch.zeros(8, codes.shape[1])[torch.arange(8)] = codes"
        },
        "loss runs under bfloat16 autocast where that is faster: what it mixes needs .float()",
    ),
    "training: float32 alone": (
        {"loss": "self.encoder(images).detach().numpy()"},
        "ScalarType BFloat16 (light.py:27); under bfloat16 autocast, after float32 went well; call "
        "what needs float32 on .float()",
    ),
    "training: labels": (
        {"labels": ", labels", "loss": "functional.one_hot(labels, 5)"},
        "; the labels tried here are of 10 classes, 0 to 9; allowed: an option `classes`, whose",
    ),
    "start: library": ({"build": "import nosuch"}, "(light.py:24); install nosuch"),
    "reproducible: build": (
        {"build": "self.decoder[0].bias.data.fill_(time.time() % 1)"},
        "built twice from one seed, decoder.0.bias differs, by up to",
    ),
    "reproducible": (
        {"build": "self.own = torch.Generator(); self.own.seed()",
         "loss": "images = images * torch.rand(images.shape, generator=self.own)"},
        "trained twice from one seed in float32, ",
    ),
    "reproducible: time": (
        {"loss": "images = images * (time.time() % 1)"}, "trained twice from one seed in float32, "
    ),
    "refused": ({"build": "raise aebench.Refused('no')"}, "refuses every one of these; allowed:"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_told_by_the_name_of_its_check(check, fault):
    parts, words = FAULTS[fault]
    said, errors = check(model(**parts), ok=False)
    name = fault.split(":")[0]
    (line,) = [line for line in said.splitlines() if f"FAULT {name}: " in line][:1]
    assert words in line
    # The same at the second shape, whatever its numbers are.
    assert name not in ("repeatable", "note") or said.count(f"FAULT {name}, as above\n") == 1
    assert errors.startswith("aebench: error: plugins/light.py: a fault (")
    assert f"({name}" in errors and errors.count("\n") == 1


def test_ctrl_c_ends_it(check, workspace):
    (workspace / "plugins/light.py").write_text(model(loss="raise KeyboardInterrupt"))
    assert workspace.in_process(("check-plugin", "light")).returncode == 130


def test_several_faults_are_counted_by_model(check):
    two = '    register("light", Model)\n    register("other", lambda shape: 3)\n'
    source = model(build="self.note = 3").replace('    register("light", Model)\n', two)
    said, errors = check(source, ok=False)
    assert "2 faults (note of light, start of other); mend it and check it again" in errors


WARNINGS = {
    "prints at import": ({"import": "print('hello')"}, "it prints 'hello'"),
    "prints in build": ({"build": "print('hello', latent)"}, "it prints 'hello 16'"),
    "prints in loss": ({"loss": "print('hello', file=sys.stderr)"}, "it prints 'hello'"),
    "changes at import": ({"import": "os.chdir('/')"}, "importing it changed the working directo"),
    "changes in build": ({"build": "os.chdir('/')"}, "it changes the working directory: undone"),
    "changes in loss": (
        {"loss": "torch.set_num_threads(3)"},
        "built or used, it changes torch's number of threads: undone",
    ),
    "seeds": (
        {"build": "[nn.init.constant_(p, 0.01) for p in self.parameters()]"},
        "seeds 0 and 1 start with equal weights",
    ),
    "own seed": ({"build": "torch.manual_seed(1); self.encoder[1].reset_parameters(); "
                  "self.decoder[0].reset_parameters()"}, "start with equal weights"),
    "still": (
        {"build": "self.encoder.append(Layer(lambda self, x: x)); "
         "self.encoder[-1].scale = nn.Parameter(torch.ones(()))"},
        "no gradient moves encoder.2.scale: never trained",
    ),
    "unused": ({"options": ", width=3"}, "width is named and not used"),
    "untrained": (
        {"build": "self.decoder = None; self.loss = None"},
        "there is nothing to train: its runs need `train: {epochs: 0}`",
    ),
}  # fmt: skip


@pytest.mark.parametrize("warning", WARNINGS)
def test_each_warning_is_apart_from_faults(check, warning):
    parts, words = WARNINGS[warning]
    said, errors = check(model(**parts))
    warnings = [line for line in said.splitlines() if line.startswith("  warning: ")]
    assert errors == "" and said.endswith("keeps the contract\n")
    assert [line for line in warnings if words in line], said
    # Of a seed each process says a line once.
    assert len(warnings) <= (2 if warning == "own seed" else 1), warnings


def test_what_is_in_neither_half_is_a_note(check):
    said, _ = check(
        model(
            build="self.head = nn.Linear(9, 1)",
            loss="images = images + self.head(images[..., :1, :1].expand(-1, 1, 1, 9))",
        )
    )
    assert "  note: parameters outside encoder and decoder, not counted: 10\n" in said
    assert "warning" not in said


def test_one_fault_of_all_shapes_is_told_once(check):
    build = "getattr(self, 'decoder' if latent == 1 else 'encoder')[latent != 1].bias.data.fill_("
    said, _ = check(model(build=build + "time.time() % 1)"), ok=False)
    assert said.count("built twice") == said.count("FAULT reproducible, as above\n") == 1


def test_model_that_is_hardly_tried_is_a_warning(check):
    source = model(build="if latent != 16 or depth != 2: raise aebench.Refused('no')")
    said, _ = check(source, cases=9)
    assert "  warning: tried at 1 of 9 only: it refuses the others\n" in said


def test_option_called_classes_says_how_many_are_tried(check):
    parts = {"options": ", classes=3", "labels": ", labels"}
    build = "self.classes = classes"
    source = model(**parts, build=build, loss="functional.one_hot(labels, self.classes)")
    said, errors = check(source)
    assert errors == "" and said.endswith("keeps the contract\n")


def test_plugin_that_ends_the_process_is_named_before(workspace, monkeypatch):
    monkeypatch.setattr(workspace, "apart", True)
    for parts, last in (
        ({"import": "os._exit(3)"}, "plugins/light.py: importing ... "),
        ({"loss": "os._exit(3)"}, "  1 x 8 x 8    latent 16    depth 2  "),
    ):
        (workspace / "plugins/light.py").write_text(model(**parts))
        assert workspace.run("aebench", "check-plugin", "light", ok=False).stdout.endswith(last)
    (workspace / "plugins/other.py").write_text("import os; os._exit(3)")
    (workspace / "plugins/light.py").write_text(model())
    said = workspace.run("aebench", "check-plugin", "light", ok=False).stdout
    (workspace / "plugins/other.py").unlink()
    assert said.endswith(" s\nimporting all plug-ins ...\n")


def test_sigterm_leaves_no_temporary_folder(check, workspace, tmp_path, monkeypatch):
    monkeypatch.setattr(check_plugin, "CASES", check_plugin.CASES[:1])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    loss = "import signal; len(images) > 8 and os.kill(os.getpid(), signal.SIGTERM)"
    (workspace / "plugins/light.py").write_text(model(loss=loss))
    before = signal.getsignal(signal.SIGTERM)
    done = workspace.in_process(("check-plugin", "light", "--run"))
    assert done.returncode == 130 and "training light on digits" in done.stdout
    assert list(tmp_path.iterdir()) == [] and signal.getsignal(signal.SIGTERM) == before


def test_slow_import_is_a_warning(check, monkeypatch):
    monkeypatch.setattr(check_plugin, "SLOW", 0.05)
    said, _ = check(model(**{"import": "time.sleep(0.1)"}))
    assert "warning: importing it takes 0 s, and every stage of its runs waits" in said


@pytest.mark.parametrize("name", ["Light", "plugins/light.py", "./plugins/light.py", "one", "mine"])
def test_names_of_file_run_and_model_are_found(check, name):
    source = model().replace('"light"', '"mine"') if name == "mine" else model()
    said, _ = check(source, name=name, cases=1)
    assert said.endswith("plugins/light.py: keeps the contract\n")


def test_file_outside_the_workspace_and_outside_any(check, workspace, tmp_path, monkeypatch):
    monkeypatch.setattr(check_plugin, "CASES", check_plugin.CASES[:1])
    path = tmp_path / "away.py"
    path.write_text("from _width import WIDTH\n" + LIGHT.replace("latent, beta=1.0", "latent"))
    (tmp_path / "_width.py").write_text("WIDTH = 1\n")
    said = workspace.run("aebench", "check-plugin", str(path)).stdout
    assert said.endswith(f"{path}: keeps the contract\n")
    monkeypatch.chdir(tmp_path)
    assert "keeps" in Workspace(tmp_path).run("aebench", "check-plugin", "away.py").stdout


def test_what_is_not_there_is_a_line(workspace):
    (workspace / "plugins/light.py").write_text(LIGHT)
    for name, words in (
        ("lihgt", "lihgt: no such plug-in (did you mean 'light'?); allowed: a file *.py, a folder"),
        (
            "zzz",
            "zzz: no such plug-in; allowed: a file *.py, a folder, a name (`aebench list` show",
        ),
        ("nosuch.py", "nosuch.py: no such file; allowed"),
        ("plugins/light", "plugins/light: no such file; allowed"),
        ("plugins", "plugins: the folder has no __init__.py; add one, or name a file in it"),
        ("two", "run two: its model 'gone' is not registered; is its package installed?"),
        ("numpy", "numpy: the package is installed and has no plug-in; add an entry point"),
    ):
        (line,) = workspace.run("aebench", "check-plugin", name, ok=False).stderr.splitlines()
        assert line.startswith("aebench: error: ") and words in line


def test_folder_is_found_by_name_and_path_here_and_elsewhere(workspace, tmp_path, monkeypatch):
    monkeypatch.setattr(check_plugin, "CASES", check_plugin.CASES[:1])
    for folder in (workspace / "plugins/my_vit", tmp_path / "far_vit"):
        folder.mkdir()
        (folder / "__init__.py").write_text("from .model import register_models\n")
        (folder / "model.py").write_text(model().replace('"light"', '"vit"'))
    for name in ("plugins/my_vit/", str(tmp_path / "far_vit")):
        said = workspace.run("aebench", "check-plugin", name).stdout
        assert said.endswith("vit: keeps the contract\n"), name
    monkeypatch.setattr(check_plugin, "BESIDE", ("pca",))
    said = workspace.run("aebench", "check-plugin", "my-vit", "--run").stdout
    assert "| vit " in said and said.endswith("keeps the contract\n")
    shutil.rmtree(workspace / "plugins/my_vit")


def test_data_sets_are_named_and_not_loaded(workspace):
    said = workspace.run("aebench", "check-plugin", "digits").stdout
    assert said.splitlines()[-1] == (
        "plugins/digits.py: the data set digits is not checked here; next: aebench prepare with "
        "`dataset: digits` in params.yaml"
    )
    assert "keeps the contract" not in said


def test_a_name_that_another_plugin_has_is_a_warning(check, workspace):
    (workspace / "plugins/other.py").write_text(LIGHT)
    said, _ = check(model())
    (workspace / "plugins/other.py").unlink()
    assert "warning: model 'light' is registered by plugins/light.py and plugins/other.py; " in said


def test_run_prints_its_row_beside_others(check, workspace, monkeypatch):
    monkeypatch.setattr(check_plugin, "BESIDE", ("pca",))
    monkeypatch.setattr(check_plugin, "CASES", check_plugin.CASES[:1])
    (workspace / "plugins/light.py").write_text(model())
    before = sorted(workspace.folder.rglob("*"))
    said = workspace.run("aebench", "check-plugin", "light", "--run").stdout
    assert "\ndigits, by the settings that `aebench init` writes, 12 epochs\n" in said
    head, _, *rows = said[said.index("| run") :].splitlines()
    assert [cell.strip() for cell in head.split("|")[1:-1]] == [
        "run", "floats", "params", "epoch, s", "MSE", "accuracy, %", "SSIM"
    ]  # fmt: skip
    light, pca = ([cell.strip() for cell in row.split("|")[1:-1]] for row in rows[:2])
    assert light[:2] == ["light", "32"] and pca[:2] == ["pca", "32"]
    assert float(light[5].split()[0]) > 80 and float(pca[4].split()[0]) < 0.003
    assert sorted(workspace.folder.rglob("*")) == before


def test_run_that_fails_is_a_fault(check, workspace, monkeypatch):
    monkeypatch.setattr(check_plugin, "BESIDE", ("pca",))
    monkeypatch.setattr(check_plugin, "CASES", check_plugin.CASES[:1])
    source = model(loss="if len(images) > 8: return self.encoder(images).sum() * float('nan')")
    (workspace / "plugins/light.py").write_text(source)
    done = workspace.run("aebench", "check-plugin", "light", "--run", ok=False)
    assert "failed: the loss is nan in epoch 1" in done.stdout
    assert done.stderr.splitlines()[-1].startswith("aebench: error: run light: failed: the loss is")


PACKAGE = {
    "pyproject.toml": """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "far-models"
version = "1.0"
[project.entry-points.aebench]
near = "far_models.near"
far = "far_models.far"
""",
    "far_models/__init__.py": "",
    "far_models/near.py": LIGHT.replace('"light"', '"near"').replace(", beta=1.0", ""),
    "far_models/far.py": "from far_models import other\n" + model().replace('"light"', '"far"'),
    "far_models/other.py": "",
}


@pytest.mark.slow
def test_wheel_is_installed_listed_checked_run_and_uninstalled(tmp_path):
    for name, text in PACKAGE.items():
        path = tmp_path / "package" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def pip(*arguments):
        subprocess.run([sys.executable, "-m", "pip", "-q", *map(str, arguments)], check=True)

    pip("wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path, tmp_path / "package")
    (wheel,) = tmp_path.glob("far_models-*.whl")
    site = tmp_path / "site"
    pip("install", "--no-deps", "--no-index", "--target", site, wheel)
    workspace = make(
        tmp_path / "workspace", SMALL[: SMALL.index("runs:")] + "runs:\n  two:\n    model: far\n"
    )
    alone = workspace.env
    more = os.environ.get("PYTHONPATH", "")
    workspace.env = alone | {"PYTHONPATH": f"{site}{os.pathsep}{more}".rstrip(os.pathsep)}
    listed = workspace.run("aebench", "list").stdout
    assert "far-models: far_models.far" in listed and "far-models: far_models.near" in listed
    said = workspace.run("aebench", "check-plugin", "far_models", "--run").stdout
    assert said.endswith(
        "far-models: far_models.far, far-models: far_models.near: keeps the contract\n"
    )
    rows = [row.split("|")[1].strip() for row in said.splitlines() if row.startswith("| ")]
    assert rows == ["run", "far", "near", "pca", "mlp", "combo", "cnn"]
    for stage in (["plan"], ["prepare"], ["train", "two", "0"]):
        workspace.run("aebench", *stage)
    assert json.loads((workspace / "results/two/0/train.json").read_text())["status"] == "ok"
    shutil.rmtree(site)  # pip uninstalls nothing from a target
    workspace.env = alone
    (line,) = workspace.run("aebench", "plan", ok=False).stderr.splitlines()
    assert line.startswith("aebench: error: params.yaml: runs.two.model: unknown model 'far'")
    (line,) = workspace.run("aebench", "check-plugin", "far-models", ok=False).stderr.splitlines()
    assert "far-models: no such plug-in" in line
