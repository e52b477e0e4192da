"""A run that begins with a file: scored as it is, trained on, or refused with the reason."""

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
from conftest import LIGHT, ROOT, SMALL, Workspace, make

from aebench import memory, weights_file
from aebench.commands import verify
from aebench.errors import Failure
from aebench.models.checkpoint import begin_with
from aebench.workspace import file_hash

UNTRAINED = {"epochs": 0}
# Beside the linear one: a critic, tied halves, lazy layers, a closed form, a start, a mask.
KINDS = """\
import torch
from torch import nn
from aebench import hookimpl


class Critic(nn.Module):
    def __init__(self, shape, latent):
        super().__init__()
        pixels = shape[0] * shape[1] * shape[2]
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(pixels, 6), nn.Linear(6, latent))
        self.decoder = nn.Sequential(nn.Linear(latent, pixels), nn.Unflatten(1, shape))
        self.critic = nn.Linear(latent, 1)
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))


class Tied(nn.Module):
    def __init__(self, shape, latent):
        super().__init__()
        linear = nn.Linear(shape[0] * shape[1] * shape[2], latent, bias=False)
        self.encoder = nn.Sequential(nn.Flatten(), linear)
        self.decoder = Mirror(linear, shape)


class Mirror(nn.Module):
    def __init__(self, linear, shape):
        super().__init__()
        self.linear, self.shape = linear, shape

    def forward(self, codes):
        return (codes @ self.linear.weight).unflatten(1, self.shape)


class Fitted(Critic):
    def fit(self, batches):
        for half in (self.encoder, self.decoder):
            nn.init.constant_(half[-1 if half is self.encoder else 0].weight, 0.125)


class Started(Fitted):
    def loss(self, images):
        return (self.decoder(self.encoder(images)) - images).square().mean()


def lazy(shape, latent):
    pixels = shape[0] * shape[1] * shape[2]
    return (
        nn.Sequential(nn.Flatten(), nn.LazyLinear(latent)),
        nn.Sequential(nn.LazyLinear(pixels), nn.Unflatten(1, shape)),
    )


@hookimpl
def register_models(register):
    for build in (Critic, Tied, Fitted, Started, lazy):
        register(build.__name__.lower(), build)
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """With prepared images, the linear model trained, and its weights copied to weights/."""
    params = SMALL[: SMALL.index("runs:")].replace("latent: 32", "latent: 4")
    params += "runs:\n  taken:\n    model: light\n"
    workspace = make(tmp_path_factory.mktemp("weights") / "workspace", params, plugins=False)
    shutil.copy(ROOT / "plugins/digits.py", workspace / "plugins")
    (workspace / "plugins/light.py").write_text(LIGHT)
    (workspace / "plugins/kinds.py").write_text(KINDS)
    for command in (("plan",), ("prepare",), ("train", "taken", "0")):
        workspace.run("aebench", *command)
    (workspace / "weights").mkdir()
    shutil.copy(
        workspace / "runs/taken/0/weights.safetensors", workspace / "weights/it.safetensors"
    )
    return workspace


def state(workspace, run="taken"):
    return safetensors.torch.load_file(workspace / f"runs/{run}/0/weights.safetensors")


def trained(workspace, content=None, **run):
    """train.json of a run that begins with the content; what was said is in `said`."""
    if content is not None:
        torch.save(content, workspace / "weights/x.pt")
        run["weights"] = "weights/x.pt"
    workspace.params(runs={"x": {"model": "light", "train": UNTRAINED} | run})
    workspace.run("aebench", "plan")
    said = workspace.run("aebench", "train", "x", "0").stderr
    return json.loads((workspace / "results/x/0/train.json").read_text()) | {"said": said}


def test_a_whole_file_is_scored_as_it_is_and_trained_on(prepared, monkeypatch):
    mine = prepared / "mine.safetensors"
    shutil.copy(prepared / "runs/taken/0/weights.safetensors", mine)
    begun = {"model": "light", "weights": "./mine.safetensors"}
    runs = {"taken": {"model": "light"}, "same": begun | {"train": UNTRAINED}, "on": begun}
    prepared.params(runs=runs)
    prepared.run("aebench", "plan")
    for stage in ("encode", "knn"):
        prepared.run("aebench", stage, "taken", "0")
    checked = prepared.run("aebench", "plan", "--check").stdout
    assert "train@same-0: no result" in checked and "@taken-0" not in checked
    assert "weights=./mine.safetensors" in prepared.run("aebench", "list").stdout
    for stage in ("train", "encode", "knn"):
        prepared.run("aebench", stage, "same", "0")
    prepared.run("aebench", "train", "on", "0")

    def result(run, stage):
        return json.loads((prepared / f"results/{run}/0/{stage}.json").read_text())

    first, same, on = (result(run, "train") for run in ("taken", "same", "on"))
    assert same["begun_with"] == "mine.safetensors" and first["begun_with"] is None
    assert same["weights_hash"] == first["weights_hash"] != on["weights_hash"]
    assert on["losses"][0] < first["losses"][0]
    for key in ("codes_hash", "mse"):
        assert result("same", "encode")[key] == result("taken", "encode")[key]
    prepared.params(runs={run: runs[run] for run in ("taken", "same")})
    for command in ("plan", "report"):
        prepared.run("aebench", command)
    assert prepared.rows()["same"]["begun_with"] == "mine.safetensors"
    # Found by `verify`, too, which computes in a folder of its own; here without processes.
    monkeypatch.setattr(
        verify, "call", lambda folder, words, *_: Workspace(folder).run("aebench", *words)
    )
    said = prepared.run("aebench", "verify", "same").stdout
    assert "matches bit for bit" in said
    mine.write_bytes(mine.read_bytes() + b"x")
    (line,) = prepared.run("aebench", "verify", "same", ok=False).stderr.splitlines()
    assert "the result of train is of other settings" in line
    checked = prepared.run("aebench", "plan", "--check").stdout
    assert "train@same-0: mine.safetensors changed (" in checked
    (line,) = prepared.run("aebench", "train", "same", "0", ok=False).stderr.splitlines()
    assert line.endswith("mine.safetensors: changed since `aebench plan`; run `dvc repro` again")


def test_plans_of_other_runs_stay_and_the_hash_enters_the_key(prepared):
    prepared.params(runs={"x": {"model": "light"}})
    prepared.run("aebench", "plan")
    text = (prepared / "plan/x/train.json").read_text()
    assert "weights" not in text
    encode = (prepared / "plan/x/encode.json").read_text()
    prepared.params(runs={"x": {"model": "light", "weights": "weights//it.safetensors"}})
    prepared.run("aebench", "plan")
    plan = json.loads((prepared / "plan/x/train.json").read_text())
    digest = file_hash(prepared / "weights/it.safetensors")
    assert plan.pop("weights") == {"file": "weights/it.safetensors", "hash": digest}
    assert plan == json.loads(text) and (prepared / "plan/x/encode.json").read_text() == encode


def test_a_file_is_hashed_again_only_after_a_change(prepared, monkeypatch):
    hashed = []
    monkeypatch.setattr(memory, "SETTLED", -1.0)
    monkeypatch.setattr(weights_file, "file_hash", lambda p: hashed.append(p) or file_hash(p))
    (prepared / ".aebench/weights.json").unlink(missing_ok=True)  # of other tests
    path = prepared / "weights/again.safetensors"
    shutil.copy(prepared / "weights/it.safetensors", path)
    prepared.params(runs={"x": {"model": "light", "weights": "weights/again.safetensors"}})
    prepared.run("aebench", "plan", "--check")
    assert len(hashed) == 1 and not (prepared / ".aebench/weights.json").exists()
    for count in (2, 2):
        prepared.run("aebench", "plan")
        assert len(hashed) == count
    before, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)  # of the same size and date
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    prepared.run("aebench", "plan")
    assert len(hashed) == 3
    (prepared / ".aebench/weights.json").write_text('["not", "it"]')
    prepared.run("aebench", "plan")
    assert len(hashed) == 4
    # What has just changed may change once more at the same time.
    monkeypatch.setattr(memory, "SETTLED", 1e9)
    (prepared / ".aebench/weights.json").unlink()
    for count in (5, 6):
        prepared.run("aebench", "plan")
        assert len(hashed) == count


OUTSIDE = (
    "allowed: a path in the workspace, which others have elsewhere; copy or link the file into"
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, "got 3; allowed: string"),
        ("", "got ''; allowed: the path of a file in the workspace"),
        ("/tmp/it.pt", f"got '/tmp/it.pt'; {OUTSIDE} it (ln -s) and write its name there, as weig"),
        ("~/it.pt", f"got '~/it.pt'; {OUTSIDE}"),
        ("a/../../it.pt", f"got 'a/../../it.pt'; {OUTSIDE}"),
        ("C:/it.pt", f"got 'C:/it.pt'; {OUTSIDE}"),
        ("https://host/it.pt", f"got 'https://host/it.pt'; {OUTSIDE}"),
        ("weights\\it.pt", "allowed: forward slashes; write weights/it.pt"),
        ("runs/taken/0/weights.safetensors", "which `dvc repro` writes; copy it out of runs/"),
        (
            "weights/ti.safetensors",
            "weights/ti.safetensors: not there (did you mean 'it.safetensors'?)",
        ),
        ("weigths/it.safetensors", "not there (did you mean 'weights'?)"),
        ("weights/qqqq.pth", "weights/qqqq.pth: not there; there are "),
        ("weights/kept.pt", "not there; DVC has it: dvc checkout weights/kept.pt.dvc (or dvc pull"),
        ("stored/a/b.pt", "not there; DVC has it: dvc checkout stored.dvc (or dvc pull)"),
        ("weights", "weights: a folder; allowed: a file, as weights/"),
        ("params.yaml", "params.yaml: allowed: names that end in .safetensors, .pt, .pth; torch."),
        ("params.yaml/it.pt", "params.yaml/it.pt: not there"),
        ("weights/empty.pt", "weights/empty.pt: an empty file; replace it"),
        ("weights/link.pt", "weights/link.pt: a broken link (to nowhere); mend it"),
        ("weights/pipe.pt", "weights/pipe.pt: neither a file nor a folder; allowed: a file"),
    ],
)
def test_plan_says_what_is_wrong_with_the_file(prepared, value, expected):
    folder = prepared / "weights"
    (folder / "empty.pt").touch()
    (folder / "kept.pt.dvc").touch()
    (prepared / "stored.dvc").touch()
    if not (folder / "pipe.pt").exists():
        (folder / "link.pt").symlink_to("nowhere")
        os.mkfifo(folder / "pipe.pt")
    prepared.params(runs={"x": {"model": "light", "weights": value}})
    (line,) = prepared.run("aebench", "plan", ok=False).stderr.splitlines()
    assert line.startswith("aebench: error: params.yaml: runs.x.weights: ") and expected in line


def test_a_link_out_of_the_workspace_is_followed(prepared, tmp_path):
    shutil.copy(prepared / "weights/it.safetensors", tmp_path / "far.safetensors")
    link = prepared / "weights/linked.safetensors"
    link.symlink_to(tmp_path / "far.safetensors")
    result = trained(prepared, weights="weights/linked.safetensors")
    link.unlink()
    assert result["weights_hash"] == file_hash(prepared / "weights/it.safetensors")


def test_parts_are_loaded_and_the_rest_stays_as_built(prepared):
    assert trained(prepared, model="critic")["status"] == "ok"
    built = state(prepared, "x")
    other = {key: torch.full_like(value, 0.5) for key, value in built.items() if key != "mask"}
    for kept in (
        ["encoder.1.weight", "encoder.1.bias"],
        [key for key in other if key.startswith("encoder.")],
        [key for key in other if not key.startswith("critic.")],
        ["critic.weight", "critic.bias", "mask"],
        list(built),
    ):
        given = {key: other.get(key, built[key]) for key in kept}
        result = trained(prepared, given, model="critic")
        assert result["status"] == "ok"
        assert not {k for k, v in state(prepared, "x").items() if not v.equal((built | given)[k])}


def test_a_tensor_of_two_names_needs_one_of_them(prepared):
    assert trained(prepared, model="tied")["status"] == "ok"
    (encoder, decoder) = state(prepared, "x")
    half = {encoder: torch.full((4, 64), 0.5)}
    assert trained(prepared, half, model="tied")["status"] == "ok"
    assert all((value == 0.5).all() for value in state(prepared, "x").values())
    status = trained(prepared, half | {decoder: torch.zeros(4, 64)}, model="tied")["status"]
    assert "are one tensor in the model, but differ in the file" in status


def test_lazy_layers_get_their_weights(prepared):
    assert trained(prepared, model="lazy")["status"] == "ok"
    given = {key: value + 1 for key, value in state(prepared, "x").items()}
    assert trained(prepared, given, model="lazy")["status"] == "ok"
    assert all(value.equal(given[key]) for key, value in state(prepared, "x").items())


@pytest.mark.parametrize("model", ["fitted", "started"])
def test_what_the_file_gives_stays_after_fit(prepared, model):
    assert trained(prepared, model=model)["status"] == "ok"
    fitted = state(prepared, "x")
    assert (fitted["encoder.2.weight"] == 0.125).all()
    whole = {k: v if k == "mask" else torch.full_like(v, 0.5) for k, v in fitted.items()}
    assert trained(prepared, whole, model=model)["status"] == "ok"
    assert all(value.equal(whole[key]) for key, value in state(prepared, "x").items())
    part = {key: value for key, value in whole.items() if key.startswith("encoder.")}
    assert trained(prepared, part, model=model)["status"] == "ok"
    found = state(prepared, "x")
    assert all(found[key].equal(value) for key, value in part.items())
    assert (found["decoder.0.weight"] == 0.125).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_take_the_models_type(prepared, dtype):
    given = {key: value.to(dtype) for key, value in state(prepared).items()}
    result = trained(prepared, given)
    assert all(v.equal(given[k].float()) for k, v in state(prepared, "x").items())
    name = str(dtype).removeprefix("torch.")
    assert f"warning: weights/x.pt: {name} is converted to the model's type" in result["said"]


def changed(**values):
    """A state dict of the linear model in which these tensors are others."""

    def content(state):
        return state | {key.replace("_", "."): value for key, value in values.items()}

    return content


def named(prefix):
    return lambda state: {f"{prefix}{key}": value for key, value in state.items()}


class Foreign:
    """Its pickle would touch a file."""

    def __reduce__(self):
        return Path.touch, (Path("pwned"),)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (lambda s: s | {"encoder.1.wieght": s["encoder.1.bias"]}, "(did you mean 'encoder.1.wei"),
        (lambda s: s | {"head.0": torch.ones(1)}, "holds head.0, which the model lacks; allowed: "),
        (lambda s: {"encoder.1.bias": s["encoder.1.bias"]}, "but lacks encoder.1.weight; allowed"),
        (lambda s: {k: v for k, v in s.items() if k != "decoder.0.bias"}, "lacks decoder.0.bias;"),
        (changed(encoder_1_bias=torch.ones(5)), "other shapes than the model: encoder.1.bias (5,"),
        (changed(encoder_1_bias=torch.ones(4, dtype=torch.int64)), "is int64; allowed: any floats"),
        (changed(encoder_1_bias=torch.full((4,), torch.nan)), "encoder.1.bias holds NaN or infin"),
        (
            changed(encoder_1_bias=torch.full((4,), 1e300, dtype=torch.float64)),
            "infinity as float32; allowed:",
        ),
        (changed(encoder_1_bias=torch.ones(4).to_sparse()), "encoder.1.bias is sparse, quantised"),
        (changed(encoder_1_bias=torch.ones(4, device="meta")), "or without values; allowed: plain"),
        (named("module."), "its keys have 'module.' in them (of DataParallel); save without it: {"),
        (named("_orig_mod."), "its keys have '_orig_mod.' in them (of torch.compile)"),
        (named("net."), "its keys begin with 'net.', which the model's do not; save without it"),
        (lambda s: {"1.bias": s["encoder.1.bias"]}, "those of a part alone; put 'encoder.' before"),
        (lambda s: {"state_dict": s, "epoch": 3}, "which x['state_dict'] may be; save that alone:"),
        (lambda s: {"a": {"model": s}, "ema": s}, "x['a']['model'] and x['ema'] may be; save that"),
        (
            lambda s: s | {"epoch": 3},
            "holds 'epoch' (int); allowed: names with their tensors alone",
        ),
        (lambda s: {1: torch.ones(1)}, "holds 1 (Tensor); allowed: names with their tensors alone"),
        (lambda s: {}, "holds an empty state dict; save that of a model: torch.save(model.state_d"),
        (lambda s: [torch.ones(1)], "holds list, no state dict; save that alone"),
        (lambda s: torch.nn.Linear(1, 1), "holds torch.nn.modules.linear.Linear, and reading that"),
        (lambda s: {"x": Foreign()}, "reading that would run code of the file, which is never don"),
    ],
)
def test_a_file_that_does_not_fit_is_a_failed_row(prepared, content, expected):
    status = trained(prepared, content(state(prepared)))["status"]
    assert status.startswith("failed: weights/x.pt: ") and expected in status
    assert "\n" not in status and not (prepared / "pwned").exists()


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("x.safetensors", lambda b: b[:-1], "cannot be read as .safetensors (Error while deser"),
        ("x.safetensors", lambda b: b[:3], "header too small); copy it again if it is not whole"),
        ("x.safetensors", lambda b: b"PK\x03\x04", "a file of torch.save; let its name end in .pt"),
        ("x.pt", lambda b: b, "a file of safetensors; let its name end in .safetensors"),
        ("x.pth", lambda b: b"PK\x03\x04" + b, "cannot be read as .pth ("),
        ("x.pt", lambda b: b"<html>", "cannot be read as .pt (Unsupported operand 60); copy it ag"),
        ("x.pt", lambda b: b"version https://git-lfs.github.com/", "a pointer of Git LFS, not the"),
        ("x.pt", lambda b: pickle.dumps({"x": Foreign()}), "cannot be read as .pt ("),
        ("x.pt", lambda b: pickle.dumps({"x": Foreign()}, 2), "reading that would run code of the"),
    ],
)
def test_a_file_that_is_none_is_a_failed_row(prepared, name, change, expected):
    path = prepared / "weights" / name
    path.write_bytes(change((prepared / "weights/it.safetensors").read_bytes()))
    status = trained(prepared, weights=f"weights/{name}")["status"]
    assert status.startswith(f"failed: weights/{name}: ") and expected in status
    assert not (prepared / "pwned").exists()


def test_an_option_cannot_be_called_weights(prepared):
    source = LIGHT.replace("light", "timm").replace("beta=1.0", "weights='imagenet'")
    (prepared / "plugins/timm.py").write_text(source)
    prepared.params(runs={"x": {"model": "timm"}})
    said = prepared.run("aebench", "plan", ok=False).stderr
    (prepared / "plugins/timm.py").unlink()
    assert (
        "has an option 'weights', which is a key of params.yaml; rename it, as to 'inner_w" in said
    )


def test_a_batch_norm_may_lack_its_count(tmp_path):
    """As of converters; nothing is computed from it in a batch norm with a momentum."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
    state = {k: v + 1.0 for k, v in model.state_dict().items() if v.is_floating_point()}
    safetensors.torch.save_file(state, tmp_path / "it.safetensors")
    begin_with(model, tmp_path / "it.safetensors")
    assert torch.equal(model[1].weight, state["1.weight"])
    safetensors.torch.save_file(
        {k: v for k, v in state.items() if k != "1.bias"}, tmp_path / "it.safetensors"
    )
    with pytest.raises(Failure, match=r"lacks 1\.bias"):
        begin_with(model, tmp_path / "it.safetensors")
