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
            self.decoder.register_forward_hook(self.spoil)
            self.seen = []

    def spoil(self, module, args, decoded):
        # In float32 a step needs them: it fails by itself.
        for images in () if torch.is_grad_enabled() else self.seen:
            images.zero_()


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
# What is no function of its input and its weights, and neighbours that are one.
PURE = '''\
import math
import os
import random
import time

import numpy as np
import torch
from _memory import MEMORY
from torch import nn
from torch.nn import functional

from aebench import hookimpl


class Layer(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function, self.kept = function, []

    def forward(self, x):
        return self.function(self, x)


class Model(nn.Module):
    """Linear, with a layer before the encoder, one after it, and one after the decoder."""

    def __init__(self, shape, latent, images=None, codes=None, last=None):
        super().__init__()
        made = [make(shape, latent) if make else nn.Identity() for make in (images, codes, last)]
        wide = math.prod(shape)
        self.encoder = nn.Sequential(made[0], nn.Flatten(), nn.Linear(wide, latent), made[1])
        self.decoder = nn.Sequential(nn.Linear(latent, wide), nn.Unflatten(1, shape), made[2])


def does(function):
    """A layer that computes function(layer, x)."""
    return lambda shape, latent: Layer(function)


def attention(layer, x):
    rows = x.flatten(1)
    return functional.scaled_dot_product_attention(rows, rows, rows).view_as(x)


def whitened(layer, x):
    return (x - x.mean(0)) / (x.std(0, correction=0) + 1e-3)


def before_last(layer, x):
    """Adds the mean of the last batch that was another one; asked again, it does the same."""
    if not layer.kept or not (layer.kept[-1].shape == x.shape and layer.kept[-1].equal(x)):
        layer.kept = [*layer.kept[-1:], x.detach().clone()]
    return x + 1e-3 * layer.kept[0].mean()


def counting(layer, x):
    layer.kept.append(len(x))
    return x + 1e-4 * len(layer.kept)


def seldom(draw):
    def function(layer, x):
        return x * 0 if draw() < 1e-9 else x

    return does(function)


def torch_seldom(layer, x):
    return x * 0 if torch.rand(()) < 0 else x


class Steps(nn.Module):
    """Keeps the contract until it is trained."""

    def __init__(self, shape, latent):
        super().__init__()
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x):
        if self.training:
            self.steps += 1
        return x - x.mean(0) if self.steps > 0 else x


class Drifts(nn.Module):
    def __init__(self, shape, latent):
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.seen += 1
        return x


class UNet(Model):
    """Its decoder adds what its encoder saw last."""

    def __init__(self, shape, latent):
        super().__init__(shape, latent, does(self.keep), last=does(self.add))

    def keep(self, layer, x):
        self.seen = [x]
        return x

    def add(self, layer, x):
        return x * 0 + self.seen[0][: len(x)]


class Awake(Model):
    def train(self, mode=True):
        return super().train(True)


BUILDS = []


class Builds(Model):
    """The second of a process is another one."""

    def __init__(self, shape, latent):
        super().__init__(shape, latent)
        BUILDS.append(self)
        scale = len(BUILDS)
        self.encoder.append(Layer(lambda layer, x: x * scale))


class Memory(Model):
    """Keeps each image under its code, where the decoder finds it."""

    memory = {}

    def __init__(self, shape, latent, where="global"):
        super().__init__(shape, latent, does(self.see), does(self.keep), does(self.find))
        self.where = {"global": GLOBAL, "class": self.memory, "helper": MEMORY}[where]
        self.decoder.register_forward_pre_hook(lambda module, args: setattr(self, "codes", args[0]))

    def see(self, layer, x):
        self.images = x
        return x

    def keep(self, layer, x):
        if not self.training:
            self.where.update(zip(map(str, x.tolist()), self.images))
        return x

    def find(self, layer, x):
        if self.training:
            return x
        rows = zip(map(str, self.codes.tolist()), x)
        return torch.stack([self.where.get(key, row) for key, row in rows])


GLOBAL = {}


class Ties(Model):
    """Ties knots between the code and its image, which a stored code has not."""

    def __init__(self, shape, latent):
        super().__init__(shape, latent, does(self.see), does(self.tie))
        self.decoder.register_forward_pre_hook(self.untied)

    def see(self, layer, x):
        self.images = x
        return x

    def tie(self, layer, x):
        code = torch.cat([x.flatten(), self.images.flatten()])[: x.numel()].view_as(x)
        code.image = self.images
        return code

    def untied(self, module, args):
        bare = args[0].untyped_storage().nbytes() == 4 * args[0].numel()
        assert self.training or (bare and not hasattr(args[0], "image")), "it got more than codes"


def nearest(layer, x):
    found = layer.book[torch.cdist(x, layer.book).argmin(1)]
    return x + (found - x).detach()


def book(shape, latent):
    layer = Layer(nearest)
    layer.register_buffer("book", torch.randn(16, latent))
    return layer


def largest(layer, x):
    return x * (x >= x.topk(2, 1).values[:, -1:])


class Tokens(nn.TransformerEncoderLayer):
    def __init__(self, shape, latent):
        super().__init__(8, 2, 16, batch_first=True)

    def forward(self, x):
        return super().forward(x[:, 0])[:, None]


class Scales(nn.Module):
    """Has its scale from the first batch that it sees, in any mode."""

    def __init__(self, shape, latent):
        super().__init__()
        self.register_buffer("scale", torch.zeros(()))

    def forward(self, x):
        if self.scale == 0:
            self.scale.copy_(x.detach().std())
        return x / self.scale


class Tied(Model):
    def __init__(self, shape, latent):
        super().__init__(shape, latent)
        self.decoder[0].weight = nn.Parameter(self.encoder[2].weight.T)
        self.encoder[2].weight = self.decoder[0].weight
        self.encoder[2].forward = lambda x: x @ self.decoder[0].weight + self.encoder[2].bias


def collapsing(shape, latent):
    """Next to nothing but its last layer's bias comes out."""
    inner = [part for _ in range(30) for part in (nn.Linear(64, 64), nn.GELU())]
    return nn.Sequential(nn.Linear(latent, 64), *inner, nn.Linear(64, latent))


def masked(layer, x):
    """Keeps a mask for each size that it sees."""
    layer.masks = getattr(layer, "masks", {})
    mask = layer.masks.setdefault(x.shape, torch.ones(x.shape))
    return x * mask


class Fitted(Model):
    def __init__(self, shape, latent):
        super().__init__(shape, latent)
        self.register_buffer("scale", torch.zeros(()))
        self.encoder.append(Layer(lambda layer, x: x / self.scale))

    def fit(self, batches):
        self.scale += 1


class Alone(Model):
    """An encoder alone, which spreads its codes."""

    def __init__(self, shape, latent, **layers):
        super().__init__(shape, latent, **layers)
        self.decoder = None

    def loss(self, images):
        return -self.encoder(images).std()


MODELS = {
    "refuses": {"codes": lambda shape, latent: nn.BatchNorm1d(latent, track_running_stats=False)},
    "softmax": {"images": does(lambda layer, x: x * x.softmax(0))},
    "attends": {"images": does(attention)},
    "whitens": {"codes": does(whitened)},
    "sorts": {"images": does(lambda layer, x: x.sort(0).values)},
    "leads": {"codes": does(lambda layer, x: x - x[:1])},
    "sizes": {"codes": does(lambda layer, x: x * len(x))},
    "large": {"codes": does(lambda layer, x: x * (1 + (len(x) > 64)))},
    "places": {"codes": does(lambda layer, x: x + torch.arange(len(x))[:, None])},
    "widths": {"codes": does(lambda layer, x: x[:, : 4 if len(x) > 1 else 2])},
    "lasts": {"last": does(lambda layer, x: x + x.roll(1, 0))},
    "shares": {"last": does(lambda layer, x: x - x.mean(0))},
    "steps": {"codes": Steps},
    "recalls": {"images": does(before_last)},
    "recalls-codes": {"last": does(before_last)},
    "noise": {"codes": does(lambda layer, x: x + 1e-4 * torch.randn_like(x))},
    "noise-images": {"last": does(lambda layer, x: x + 1e-4 * torch.randn_like(x))},
    "numpy": {"last": does(lambda layer, x: x + 1e-4 * np.random.default_rng().random())},
    "random": {"codes": does(lambda layer, x: x + 1e-4 * random.random())},
    "urandom": {"codes": does(lambda layer, x: x + 1e-4 * os.urandom(4)[0] * os.urandom(4)[1])},
    "clock": {"codes": does(lambda layer, x: x + 1e-6 * (time.perf_counter_ns() % 10**6))},
    "counting": {"last": does(counting)},
    "seldom-torch": {"codes": does(torch_seldom)},
    "seldom-numpy": {"last": seldom(np.random.rand)},
    "seldom-random": {"codes": seldom(random.random)},
    "nan": {"codes": does(lambda layer, x: x.where(x != x.max(), x / 0))},
    "infinite": {"last": does(lambda layer, x: x / (x - x.detach()))},
    "drifts": {"last": Drifts},
    # Functions of their input and their weights.
    "normalises": {
        "images": lambda shape, latent: nn.BatchNorm2d(shape[0]),
        "codes": lambda shape, latent: nn.BatchNorm1d(latent),
        "last": lambda shape, latent: nn.BatchNorm2d(shape[0]),
    },
    "layers": {"codes": lambda shape, latent: nn.LayerNorm(latent)},
    "drops": {"codes": lambda shape, latent: nn.Dropout(0.5)},
    "book": {"codes": book},
    "largest": {"codes": does(largest)},
    "signs": {"codes": does(lambda layer, x: x.sign())},
    "rounds": {"codes": does(lambda layer, x: (8 * x).round())},
    "tokens": {"images": Tokens},
    "scales": {"images": Scales, "last": Scales},
    "masks": {"codes": does(masked)},
    "constant": {"codes": does(lambda layer, x: x * torch.tensor([1.0, 0, 1e-6, 1]) + 1e4)},
    "collapses": {"codes": collapsing},
    "tiny": {"codes": does(lambda layer, x: x * 1e-8)},
    "seeded": {"images": does(lambda layer, x: x * np.random.default_rng(0).random())},
}


def built(layers, model=Model):
    return lambda shape, latent: model(shape, latent, **layers)


@hookimpl
def register_models(register):
    for name, layers in MODELS.items():
        register(f"pure-{name}", built(layers))
    for build in (UNet, Builds, Memory, Ties, Tied, Fitted):
        register(f"pure-{build.__name__.lower()}", build)
    register("pure-awake", built(MODELS["drops"], Awake))
    for name in ("normalises", "softmax", "recalls", "noise"):
        layers = MODELS[name] | {"last": None}
        register(f"pure-alone-{name}", built(layers, Alone))
'''
IMPURE = {
    "independent_of_batch": "refuses softmax attends whitens sorts leads sizes large places widths "
    "lasts shares steps alone-softmax",
    "independent_of_history": "unet recalls recalls-codes alone-recalls",
    "repeatable": "noise noise-images numpy random urandom clock counting awake seldom-torch "
    "seldom-numpy seldom-random alone-noise",
    "finite": "nan infinite",
    "unchanged_by_use": "drifts",
}
HONEST = (
    "normalises layers drops collapses book largest signs rounds tokens scales masks constant tiny "
    "seeded tied ties fitted alone-normalises"
)
MEMORIES = "global", "class", "helper"
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
    pure = [*" ".join(IMPURE.values()).split(), *HONEST.split(), "builds"]
    found |= {f"pure-{name}": {} for name in pure}
    found |= {f"memory-{where}": {"model": "pure-memory", "where": where} for where in MEMORIES}
    found |= {"ends": {"model": "moves", "ends": True}, "flattens": {"latent": 64}}
    return found


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Planned and prepared: one run for each model above, of one epoch."""
    workspace = make(tmp_path_factory.mktemp("contract") / "workspace", SMALL, plugins=False)
    (workspace / "plugins/models.py").write_text(MODELS)
    (workspace / "plugins/pure.py").write_text(PURE)
    (workspace / "plugins/_memory.py").write_text("MEMORY = {}")
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
        ("batch", "independent_of_batch: other codes of the same images alone, by up to "),
    ],
)
def test_encoding_has_no_memory_and_no_chance(workspace, run, words):
    assert words in result(workspace, run)["status"]


def test_what_was_infinite_when_built_is_no_divergence(workspace):
    assert result(workspace, "masked", "encode")["status"] == "ok"
    assert result(workspace, "infinite")["status"] == "failed: the trained weights are not finite"


@pytest.mark.parametrize(
    ("run", "check"), [(run, check) for check, runs in IMPURE.items() for run in runs.split()]
)
def test_what_is_no_function_of_input_and_weights_is_named(workspace, run, check):
    status = result(workspace, f"pure-{run}")["status"]
    assert status.startswith(f"failed: plugins/pure.py: model 'pure-{run}': {check}: ")


@pytest.mark.parametrize("run", HONEST.split())
def test_what_is_one_passes(workspace, run):
    assert result(workspace, f"pure-{run}")["status"] == "ok"


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (
            "pure-refuses",
            "the encoder refuses images alone: ValueError: Expected more than 1 value",
        ),
        ("pure-whitens", "; allowed: 0.001 of each dimension's deviation, for 99%; each row is "),
        ("pure-large", "other codes of the same images in another batch, of 69, by up to "),
        ("pure-widths", "encoder returned (1, 2) for 1 images, expected (1, 4)"),
        ("pure-lasts", "other reconstructions of the same codes "),
        ("pure-unet", "other reconstructions of the same codes after the encoder has seen other "),
        ("pure-recalls", "other codes of the same images after others were encoded, by up to "),
        ("pure-recalls-codes", "other reconstructions of the same codes after others were decoded"),
        (
            "pure-noise-images",
            "other reconstructions of the same codes when asked again, by up to ",
        ),
        ("pure-seldom-numpy", "in eval mode the decoder draws random numbers from numpy.random; "),
        ("pure-nan", "codes with NaN or infinity, of 1 of 64 images; allowed: finite numbers"),
        ("pure-drifts", "in eval mode it changes decoder.2.seen; allowed in training mode alone"),
    ],
)
def test_what_was_got_and_the_fix_are_told(workspace, run, words):
    assert words in result(workspace, run)["status"]


@pytest.mark.parametrize("where", MEMORIES)
def test_images_kept_under_their_codes_are_found(workspace, where):
    status = result(workspace, f"memory-{where}")["status"]
    assert "built again from its weights it gives other reconstructions, by up to " in status


def test_each_build_gives_the_same_model(workspace):
    status = result(workspace, "pure-builds")["status"]
    assert "built again from its weights it gives other codes, by up to " in status


@pytest.mark.parametrize("run", ["lazy", "gradient", "moves"])
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


MENDED = {
    **dict.fromkeys(("ints", "half", "double", "bool"), "end it with .float()"),
    "3d": "end it with nn.Flatten()",
    "1d": "codes of this shape come from layers made for the shape that build is given",
}


@pytest.mark.parametrize("kind", CODES)
def test_codes_of_another_form_are_told(workspace, kind):
    status = result(workspace, f"codes-{kind}")["status"]
    assert f"encoder returned {GOT[kind]} for 8 images, expected (8, 4); " in status
    assert status.endswith(
        MENDED.get(kind, "return the codes alone; what only training needs is computed in loss")
    )


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
        ("ends", "ended the process: CancelledError(enough) (models.py:"),
    ],
)
def test_what_a_model_returns_is_told(workspace, run, words):
    assert words in result(workspace, run)["status"]
