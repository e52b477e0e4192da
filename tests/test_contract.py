"""Other people's models: right figures, or a row that says what is wrong and what is allowed."""

import json
import random

import numpy as np
import pytest
from conftest import ROOT, SMALL, make
from safetensors.torch import load_file

from aebench.models.encoding import BLOCK, blocks

# Each model is one encoder, a decoder where it needs its own, and what else it is.
MODELS = '''\
import asyncio
import os
import random

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from aebench import hookimpl


class Model(nn.Module):
    def __init__(self, shape, latent):
        super().__init__()
        self.wide = shape[0] * shape[1] * shape[2]
        self.encoder = nn.Sequential(*self.before(), nn.Flatten(), nn.Linear(self.wide, latent))
        self.decoder = nn.Sequential(nn.Linear(latent, self.wide), nn.Unflatten(1, shape))

    def before(self):
        return ()


class Layer(nn.Module):
    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, x):
        return self.change(x)


def variant(change):
    """The model with a layer before its encoder."""

    class Variant(Model):
        def before(self):
            return (Layer(change),)

    return Variant


# Pairs that must come to the same: the second may not reach what it is judged by.
PAIRS = {
    "zero": (lambda x: x * 0, lambda x: x.zero_()),
    "shift": (lambda x: x - 0.5, lambda x: x.sub_(0.5)),
    "hardtanh": (lambda x: functional.hardtanh(x, -0.2, 0.2), nn.Hardtanh(-0.2, 0.2, True)),
    "rows": (lambda x: torch.zeros_like(x), lambda x: x.copy_(torch.zeros(1))),
    "data": (lambda x: x.round(), lambda x: (setattr(x, "data", x.round()), x)[1]),
}


class Later(Model):
    """Keeps the images that it sees, and spoils them when it decodes."""

    def __init__(self, shape, latent, spoils=False):
        super().__init__(shape, latent)
        if spoils:
            self.encoder.register_forward_pre_hook(lambda module, args: self.seen.append(args[0]))
            self.decoder.register_forward_hook(lambda *_: [x.zero_() for x in self.seen] and None)
            self.seen = []


class Counts(Model):
    """Counts the forwards of training, and takes the mean of the first images it sees at all."""

    def __init__(self, shape, latent):
        super().__init__(shape, latent)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("first", torch.full((), -1.0))
        self.encoder.register_forward_pre_hook(self.count)

    def count(self, module, images):
        if self.first < 0:
            self.first.copy_(images[0].mean())
        self.steps += int(self.training)


class Lost(Model):
    """Learns an offset, and keeps it outside the state dict."""

    where = None

    def __init__(self, shape, latent):
        super().__init__(shape, latent)
        self.keep(torch.zeros(self.wide))
        self.encoder.insert(1, Layer(lambda x: x - self.offset()))

    def loss(self, images):
        self.keep(images.flatten(1).mean(0).detach())
        return functional.mse_loss(self.decoder(self.encoder(images)), images)


class LostAttribute(Lost):
    def keep(self, value):
        self.mean = value

    def offset(self):
        return self.mean


class LostArray(Lost):
    def keep(self, value):
        self.statistics = {"mean": value.numpy()}

    def offset(self):
        return torch.from_numpy(self.statistics["mean"])


class LostBuffer(Lost):
    def keep(self, value):
        self.register_buffer("mean", value, persistent=False)

    def offset(self):
        return self.mean


class LostGlobal(Lost):
    kept = []

    def __init__(self, shape, latent):
        self.kept.clear()
        super().__init__(shape, latent)

    def keep(self, value):
        self.kept[:] = [value]

    def offset(self):
        return self.kept[0]


LEARNT = torch.zeros(64)


class LostModule(Lost):
    """In a global that `build` does not touch."""

    def __init__(self, shape, latent):
        Model.__init__(self, shape, latent)
        self.encoder.insert(1, Layer(lambda x: x - LEARNT))

    def keep(self, value):
        global LEARNT
        LEARNT = value


class LostClass(LostModule):
    mean = 0.0

    def __init__(self, shape, latent):
        Model.__init__(self, shape, latent)
        self.encoder.insert(1, Layer(lambda x: x - type(self).mean))

    def keep(self, value):
        type(self).mean = value


class LostLayers(Model):
    def __init__(self, shape, latent):
        super().__init__(shape, latent)
        self.layers = [nn.Linear(self.wide, self.wide)]
        self.encoder.insert(1, Layer(lambda x: self.layers[0](x)))


class Noisy(Model):
    def before(self):
        return (Layer(lambda x: functional.dropout(x, 0.1, True)),)


class Drifts(Model):
    def __init__(self, shape, latent):
        super().__init__(shape, latent)
        self.register_buffer("seen", torch.zeros(()))
        self.encoder.register_forward_hook(lambda *_: self.seen.add_(1) and None)


class Masked(Model):
    """An attention mask that was infinite when built; a table that is built and not stored."""

    def __init__(self, shape, latent):
        super().__init__(shape, latent)
        self.register_buffer("mask", torch.full((latent, latent), -torch.inf).triu(1))
        self.register_buffer("table", torch.arange(latent), persistent=False)
        self.encoder.append(Layer(lambda x: torch.softmax(x[:, None] + self.mask, 2).mean(1)))
        self.encoder.append(Layer(lambda x: x[:, self.table]))


class Infinite(Model):
    def loss(self, images):
        with torch.no_grad():
            self.decoder[0].bias.fill_(torch.inf)
        return self.encoder(images).sum()


class Flat(nn.Flatten):
    """No pixels, though it is a Flatten."""

    def forward(self, x):
        return 0 * super().forward(x)


class Flattens(Model):
    def __init__(self, shape, latent=64):
        super().__init__(shape, 64)
        self.encoder = Flat()


class Thaws(Model):
    """A layer that becomes trainable, or is made, when the optimizer has its parameters."""

    def __init__(self, shape, latent, how="thawed"):
        super().__init__(shape, latent)
        self.how = how
        self.encoder.requires_grad_(how == "made")

    def loss(self, images):
        if self.how == "thawed":
            self.encoder.requires_grad_(True)
        if self.how == "made":
            self.encoder[-1].weight = nn.Parameter(self.encoder[-1].weight.detach().clone())
        return functional.mse_loss(self.decoder(self.encoder(images)), images)


class Half(Model):
    def __init__(self, shape, latent, kind="bfloat16"):
        super().__init__(shape, latent)
        self.head = nn.Parameter(torch.ones(3, 3, dtype=getattr(torch, kind)))


class Gradient(Model):
    """Its code is a step along a gradient."""

    def before(self):
        return (Layer(self.step),)

    def step(self, x):
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            return (x - torch.autograd.grad((x**4).sum(), x)[0]).detach()


class Fits(Model):
    def __init__(self, shape, latent, how="returns"):
        super().__init__(shape, latent)
        if how == "yields":
            self.fit = self.yields

    def yields(self, batches):
        yield from batches

    def fit(self, batches):
        return Model((1, 8, 8), 4)


class Moves(Model):
    """To another folder, and to an end that is no Exception."""

    def __init__(self, shape, latent, ends=False):
        super().__init__(shape, latent)
        self.ends = ends

    def loss(self, images):
        os.chdir("/")
        if self.ends:
            raise asyncio.CancelledError("enough")
        return functional.mse_loss(self.decoder(self.encoder(images)), images)

    def train(self, mode=True):
        super().train(mode)


class Batch(Model):
    def before(self):
        return (nn.BatchNorm2d(1, track_running_stats=False),)


class Lazy(Model):
    def before(self):
        return (nn.Flatten(), nn.LazyLinear(64), nn.LazyBatchNorm1d())


class Drawn(Model):
    """Initialised by the generators of NumPy and Python."""

    def __init__(self, shape, latent):
        super().__init__(shape, latent)
        scale = random.random()
        weight = np.random.normal(0, 0.1, (latent, self.wide)) * scale
        self.encoder[-1].weight.data = torch.from_numpy(weight.astype(np.float32))

    def loss(self, images):
        return functional.mse_loss(self.decoder(self.encoder(images)), images) * np.random.rand()


class Weighs(nn.Module):
    """An encoder whose multiplications are known; it keeps all pixels."""

    def __init__(self, shape, layer):
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(1, 2), LAYERS[layer](), nn.Flatten())
        self.decoder = nn.Unflatten(1, shape)


class First(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)[0]


class Twice(First):
    def forward(self, x):
        return self.layer(x, x)


LAYERS = {
    "transformer": lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
    "lstm": lambda: First(nn.LSTM(8, 8, batch_first=True)),
    "gru": lambda: First(nn.GRU(8, 8, batch_first=True)),
    "attention": lambda: Layer(lambda x: functional.scaled_dot_product_attention(x, x, x)),
    "vector": lambda: Layer(lambda x: x * (x.flatten(1) @ torch.ones(64))[:, None, None]),
    "distance": lambda: Layer(lambda x: torch.cdist(x, x, 3.0)),
    "bilinear": lambda: Twice(nn.Bilinear(8, 8, 8)),
    "spectrum": lambda: Layer(lambda x: torch.fft.fft(x).real),
    "inplace": lambda: Layer(lambda x: torch.zeros_like(x).baddbmm_(x, x)),
    "normal": lambda: Layer(lambda x: functional.normalize(x)),
}
# What a half or a loss returns instead.
CODES = {
    "1d": lambda x: x.mean(1),
    "3d": lambda x: x[:, :, None],
    "list": lambda x: x.tolist(),
    "ints": lambda x: x.round().int(),
    "tuple": lambda x: (x, x),
    "half": lambda x: x.half(),
    "double": lambda x: x.double(),
    "dict": lambda x: {"codes": x},
    "none": lambda x: None,
    "bool": lambda x: x > 0,
    "array": lambda x: x.detach().numpy(),
}
LOSSES = {
    "float": lambda x: 0.5,
    "pair": lambda x: (x.mean(), x.mean()),
    "batch": lambda x: x.square().mean((1, 2, 3)),
    "whole": lambda x: x.sum().long(),
    "constant": lambda x: x.mean(),
}


class Returns(Model):
    def __init__(self, shape, latent, codes=None, loss=None, images=None, attribute=None):
        super().__init__(shape, latent)
        if codes:
            self.encoder.append(Layer(CODES[codes]))
        if images:
            self.decoder.append(Layer(CODES[images]))
        if loss:
            self.loss = LOSSES[loss]
        if attribute == "module":
            self.loss = nn.MSELoss()
        if attribute == "number":
            self.loss = 0.0
        if attribute == "fit":
            self.fit = True


@hookimpl
def register_models(register):
    for name, changes in PAIRS.items():
        for half, change in zip(("apart", "inplace"), changes):
            register(f"{name}-{half}", variant(change))
    own = Later, Counts, LostAttribute, LostArray, LostBuffer, LostGlobal, LostLayers, Noisy
    own += Drifts, Masked, Infinite, Batch, Lazy, Drawn, Weighs, Returns, LostModule, LostClass
    for model in (*own, Thaws, Half, Gradient, Fits, Moves, Flattens):
        register(model.__name__.lower(), model)
'''
PAIRS = "zero", "shift", "hardtanh", "rows", "data"
CODES = "1d", "3d", "list", "ints", "tuple", "half", "double", "dict", "none", "bool", "array"
LOSSES = "float", "pair", "batch", "whole", "constant"
LATER = "later-false", "later-true"
MACS = (
    *("transformer", "lstm", "gru", "attention", "normal"),
    *("vector", "distance", "bilinear", "spectrum", "inplace"),
)
ALONE = (
    "counts lostattribute lostarray lostbuffer lostglobal lostmodule lostclass lostlayers noisy "
    "drifts masked infinite batch lazy drawn gradient moves"
)


def runs():
    found = {f"{name}-{half}": {} for name in PAIRS for half in ("apart", "inplace")}
    found |= {name: {} for name in ALONE.split()}
    found |= {f"later-{s}".lower(): {"model": "later", "spoils": s} for s in (False, True)}
    found |= {f"codes-{kind}": {"model": "returns", "codes": kind} for kind in CODES}
    found |= {f"images-{kind}": {"model": "returns", "images": kind} for kind in ("half", "tuple")}
    found |= {f"loss-{kind}": {"model": "returns", "loss": kind} for kind in LOSSES}
    kinds = "module", "number", "fit"
    found |= {f"own-{kind}": {"model": "returns", "attribute": kind} for kind in kinds}
    found |= {f"thaws-{how}": {"model": "thaws", "how": how} for how in ("thawed", "made")}
    found |= {f"half-{kind}": {"model": "half", "kind": kind} for kind in ("bfloat16", "complex64")}
    found |= {f"fits-{how}": {"model": "fits", "how": how} for how in ("returns", "yields")}
    found |= {"ends": {"model": "moves", "ends": True}, "flattens": {"latent": 64}}
    return found


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Planned and prepared: one run for each model above, of one epoch."""
    workspace = make(tmp_path_factory.mktemp("contract") / "workspace", SMALL, plugins=False)
    (workspace / "plugins/models.py").write_text(MODELS)
    (workspace / "plugins/digits.py").write_text((ROOT / "plugins/digits.py").read_text())
    light = {"train": {"epochs": 0}}
    given = {run: {"model": run, "latent": 4} | about for run, about in runs().items()}
    given |= {f"macs-{name}": {"model": "weighs", "layer": name} | light for name in MACS}
    workspace.params(runs=given)
    workspace.run("aebench", "plan")
    workspace.run("aebench", "prepare")
    return workspace


def result(workspace, run, stage="train"):
    """What the stage says of the run, and those before it."""
    for step in ("train", "encode")[: 1 + (stage == "encode")]:
        workspace.run("aebench", step, run, "0")
    return json.loads((workspace / f"results/{run}/0/{stage}.json").read_text())


def weights(workspace, run):
    return load_file(workspace / f"runs/{run}/0/weights.safetensors")


@pytest.mark.parametrize("pair", [*((f"{p}-apart", f"{p}-inplace") for p in PAIRS), LATER])
def test_model_cannot_change_what_it_is_judged_by(workspace, pair):
    apart, inplace = (result(workspace, run, "encode") for run in pair)
    keys = "status", "mse", "weights_hash", "codes_hash"
    assert [apart[k] for k in keys] == [inplace[k] for k in keys]
    assert apart["status"] == "ok"


def test_codes_are_what_the_encoder_gives(workspace):
    """A Flatten is not stored a second time; what only descends from it is."""
    assert result(workspace, "flattens", "encode")["status"] == "ok"
    assert not np.load(workspace / "runs/flattens/0/train_codes.npy").any()
    assert len(np.load(workspace / "runs/flattens/0/train_codes.npy")) > 0


def test_model_sees_its_training_alone(workspace):
    assert result(workspace, "counts", "encode")["status"] == "ok"
    seen = weights(workspace, "counts")
    images = np.load(workspace / "data/prepared/train_images.npy").astype(np.float32) / 255
    assert seen["steps"] == len(images) // 128
    assert seen["first"] == pytest.approx(first_batch(images).mean(), abs=1e-6)


def first_batch(images):
    """Of the first epoch under seed 0; a horizontal flip leaves its mean as it is."""
    return images[np.random.default_rng(0).permutation(len(images))[:128]]


@pytest.mark.parametrize(
    ("run", "what"),
    [
        ("lostattribute", "; not in the weights: mean; "),
        ("lostarray", "; not in the weights: statistics; "),
        ("lostbuffer", "; not in the weights: mean; "),
        ("lostlayers", "; not in the weights: layers; "),
        ("lostglobal", "; some state is lost; "),
        ("lostmodule", "; some state is lost; "),
        ("lostclass", "; some state is lost; "),
    ],
)
def test_state_that_is_not_in_the_weights_is_named(workspace, run, what):
    status = result(workspace, run)["status"]
    where = f"failed: plugins/models.py: model '{run}': "
    assert status.startswith(f"{where}built again from its weights it gives other codes, by up to ")
    assert status.endswith(f"{what}keep all state in parameters and buffers (register_buffer)")


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ("noisy", "other codes of the same images when asked again, by up to"),
        ("drifts", "in eval mode it changes seen; allowed in training mode alone"),
    ],
)
def test_encoding_has_no_memory_and_no_chance(workspace, run, words):
    assert words in result(workspace, run)["status"]


def test_what_was_infinite_when_built_is_no_divergence(workspace):
    assert result(workspace, "masked", "encode")["status"] == "ok"
    assert result(workspace, "infinite")["status"] == "failed: the trained weights are not finite"


@pytest.mark.parametrize("run", ["batch", "lazy", "gradient", "moves"])
def test_layers_with_wishes_are_met(workspace, run):
    assert result(workspace, run, "encode")["status"] == "ok"


@pytest.mark.parametrize("count", [0, 1, 2, BLOCK, BLOCK + 1, BLOCK + 2, 2 * BLOCK + 1])
def test_no_image_is_encoded_alone(count):
    covered = np.concatenate([np.arange(count)[block] for block in blocks(count)])
    assert covered.tolist() == list(range(count))
    assert count < 2 or min(len(np.arange(count)[block]) for block in blocks(count)) > 1


def test_seed_reaches_every_generator(workspace):
    hashes = set()
    for state in (1, 2):
        np.random.seed(state)
        random.seed(state)
        hashes.add(result(workspace, "drawn")["weights_hash"])
    assert len(hashes) == 1


@pytest.mark.parametrize(
    ("layer", "macs", "uncounted"),
    [
        # Eight rows of eight: projections, attention, output, two layers of 16.
        ("transformer", 8 * 8 * 24 + 2 * 8**3 + 8**3 + 2 * 8 * 8 * 16, None),
        ("lstm", 8 * 4 * 8 * (8 + 8), None),
        ("gru", 8 * 3 * 8 * (8 + 8), None),
        ("attention", 2 * 8**3, None),
        ("vector", None, "aten.mv"),
        ("distance", None, "aten._cdist_forward"),
        ("bilinear", None, "aten._trilinear"),
        ("spectrum", None, "aten._fft_r2c"),
        ("inplace", None, "aten.baddbmm_"),
        ("normal", 0, None),
    ],
)
def test_macs_are_whole_or_blank(workspace, layer, macs, uncounted):
    sizes = result(workspace, f"macs-{layer}", "encode")["sizes"]
    assert (sizes["encoder_macs"], sizes["uncounted_operations"]) == (macs, uncounted)
    assert (sizes["macs"], sizes["decoder_macs"]) == (macs, 0)


GOT = {
    "1d": "(8,)",
    "3d": "(8, 4, 1)",
    "list": "list, no tensor,",
    "ints": "(8, 4) of int32, not float32,",
    "tuple": "tuple, no tensor,",
    "half": "(8, 4) of float16, not float32,",
    "double": "(8, 4) of float64, not float32,",
    "dict": "dict, no tensor,",
    "none": "NoneType, no tensor,",
    "bool": "(8, 4) of bool, not float32,",
    "array": "ndarray, no tensor,",
}


@pytest.mark.parametrize("kind", CODES)
def test_codes_of_another_form_are_told(workspace, kind):
    status = result(workspace, f"codes-{kind}")["status"]
    assert status.endswith(f"encoder returned {GOT[kind]} for 8 images, expected (8, 4)")


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ("images-half", "decoder returned (8, 1, 8, 8) of float16, not float32, for 8 codes, "),
        ("images-tuple", "decoder returned tuple, no tensor, for 8 codes, expected (8, 1, 8, 8)"),
        ("loss-float", "loss returned float, expected a scalar tensor"),
        ("loss-pair", "loss returned tuple, expected a scalar tensor"),
        ("loss-batch", "the loss has shape (128,) and type float32, expected a scalar"),
        ("loss-whole", "the loss has shape () and type int64, expected a scalar"),
        ("loss-constant", "the loss depends on no parameter: there is nothing to train"),
        ("own-module", "loss is MSELoss; allowed: a method, or none; rename the attribute"),
        ("own-number", "loss is float; allowed: a method, or none; rename the attribute"),
        ("own-fit", "fit is bool; allowed: a method, or none; rename the attribute"),
        ("thaws-thawed", "encoder.1.weight, encoder.1.bias became trainable during training"),
        ("thaws-made", "encoder.1.weight became trainable during training"),
        ("half-bfloat16", "parameter head is bfloat16; allowed: float32, or not to be trained"),
        ("half-complex64", "parameter head is complex64; allowed: float32, or not to be trained"),
        ("fits-returns", "fit returned Model, which is not used; allowed: to fit the model itself"),
        ("fits-yields", "fit returned generator, which is not used"),
        ("ends", "ended the process: CancelledError('enough') (models.py:"),
    ],
)
def test_what_a_model_returns_is_told(workspace, run, words):
    assert words in result(workspace, run)["status"]
