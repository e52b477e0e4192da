"""What a model may bring of its own: loss, start, loop. Its signature says what it uses."""

import json

import numpy as np
import pytest
from conftest import ROOT, SMALL, make
from safetensors.torch import load_file

MODELS = '''\
import math

import torch
from torch import nn
from torch.nn import functional

from aebench import hookimpl


class Model(nn.Module):
    def __init__(self, shape, latent):
        super().__init__()
        self.pixels = math.prod(shape)
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(self.pixels, latent))
        self.decoder = nn.Sequential(nn.Linear(latent, self.pixels), nn.Unflatten(1, shape))

    def error(self, images):
        return functional.mse_loss(self.decoder(self.encoder(images)), images)


class Scalars(Model):
    """Gives what the option says."""

    def __init__(self, shape, latent, gives="dict"):
        super().__init__(shape, latent)
        self.gives = gives

    def loss(self, images, progress):
        loss = self.error(images)
        others = {"progress": progress, "nothing": torch.tensor(math.nan), "count": 3}
        if self.gives == "many":
            others = {f"n{i}": loss for i in range(20)}
        if self.gives == "renamed":
            others = {f"n{progress}": loss}
        kinds = {
            "dict": {"loss": loss, **others},
            "many": {"loss": loss, **others},
            "renamed": {"loss": loss, **others},
            "without": {"error": loss},
            "empty": {},
            "vector": {"loss": loss, "each": loss.repeat(3)},
            "text": {"loss": loss, "word": "good"},
            "unprintable": {"loss": loss, "a\\nb": loss},
            "number": {"loss": loss, 3: loss},
            "float": {"loss": loss.item()},
        }
        return kinds[self.gives]


class Labelled(Model):
    """Its losses are those that the suite must have given it: labels as the images have."""

    def loss(self, images, *, labels, progress=-1.0):
        loss = self.error(images)
        seen = (images.flatten(1) * WEIGHTS).sum(1).double()
        return {"loss": loss, "checksum": (seen * labels).sum(), "first": labels[0]}


WEIGHTS = torch.arange(64) / 64


class Asks(Model):
    """One method, with the signature that the option says."""

    def __init__(self, shape, latent, text="lambda images: 0"):
        super().__init__(shape, latent)
        name, _, lambda_ = text.partition("=")
        setattr(self, name, eval(lambda_, globals() | {"self": self}))


class Start(Model):
    """Its mean is found by `fit`, what is left by gradient."""

    def __init__(self, shape, latent):
        super().__init__(shape, latent)
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("fitted", torch.zeros(()))
        self.register_buffer("labels", torch.zeros(()))
        self.register_buffer("steps", torch.zeros(()))

    def fit(self, batches, labels):
        self.fitted += 1
        self.mean.copy_(torch.cat(list(batches)).mean(0))
        self.labels.copy_(labels.float().mean())

    def loss(self, images):
        self.steps += 1
        return self.error(images)


class Fits(Start):
    """Has no other training than `fit`."""

    loss = None


class Late(Fits):
    """Its loss is there when it was built, and not when it was registered."""

    def __init__(self, shape, latent):
        super().__init__(shape, latent)
        self.loss = self.error


class Own(Model):
    """Its own loop: plain descent. `how` says which rule of loops it breaks."""

    def __init__(self, shape, latent, how="right"):
        super().__init__(shape, latent)
        self.how = how
        self.register_buffer("average", torch.zeros(()))
        self.register_buffer("batches", torch.zeros(()))
        self.register_buffer("mode", torch.zeros(()))
        self.critic = nn.Linear(latent, 1)

    def loss(self, images):
        raise RuntimeError("not for a model with a loop of its own")

    def step(self, images):
        loss = self.error(images)
        loss.backward()
        with torch.no_grad():
            for p in self.parameters():
                if p.grad is not None:
                    p -= 0.1 * p.grad
                    p.grad = None
        return loss

    def optimize(self, batches):
        if self.how == "returns":
            return
        if self.how == "first":
            yield torch.tensor(0.0)
        self.mode += self.training + 2 * torch.is_autocast_enabled("cpu")
        total = len(batches)
        if self.how == "epochs":
            for _ in range(2):
                for images in batches:
                    yield self.step(images)
        if self.how == "list":
            batches = list(batches)
        if self.how == "stops":
            for _ in range(total + 1):
                yield self.step(next(batches))
        if self.how == "swallows":
            try:
                next(batches), next(batches)
            except Exception:
                pass
            yield self.step(torch.zeros(2, 1, 8, 8))
        if self.how == "memory":
            try:
                torch.Tensor.float, kept = exhausted, torch.Tensor.float
                next(batches)
            except Exception:
                pass
            torch.Tensor.float = kept
        if self.how == "nan swallowed":
            try:
                for images in batches:
                    yield torch.tensor(math.nan)
            except Exception:
                pass
        if self.how == "clings":
            try:
                for images in batches:
                    yield torch.tensor(math.nan)
            finally:
                yield torch.tensor(1.0)
        for images in batches:
            self.batches += 1
            loss = self.step(images)
            if self.how == "early" and self.batches == 5:
                return
            if self.how == "twice":
                yield loss
            if self.how == "gradients":
                torch.set_grad_enabled(False)
            if self.how == "dtype":
                torch.set_default_dtype(torch.float64)
            if self.how == "threads":
                torch.set_num_threads(torch.get_num_threads() + 1)
            if self.how == "inside":
                with torch.no_grad():
                    yield loss
            if self.how == "autocast":
                with torch.autocast("cpu", torch.bfloat16):
                    yield loss
            if self.how == "replaced":
                self.critic.weight = nn.Parameter(self.critic.weight.clone())
            if self.how == "made":
                self.critic.further = nn.Parameter(torch.ones(3))
            if self.how == "removed":
                self.critic.weight = None
            if self.how == "reshaped":
                self.critic.weight.data = torch.ones(3, 3)
            if self.how == "raises":
                raise ValueError("of its own")
            if self.how == "silent" and self.batches == total:
                return
            if self.how == "nan":
                loss = loss * math.nan
            yield loss.item() if self.how == "number" else {"loss": loss, "half": loss / 2}
        self.average.fill_(self.batches.item() / total)
        if self.how == "late":
            yield loss


def exhausted(tensor):
    raise MemoryError("no more")


class Pairs(Model):
    """Its own loop, over images and labels; without a decoder's help."""

    def optimize(self, batches, labels):
        optimizer = torch.optim.SGD(self.parameters(), 0.1)
        for images, digits in batches:
            seen = (images.flatten(1) * WEIGHTS).sum(1).double()
            optimizer.zero_grad()
            loss = self.error(images)
            loss.backward()
            optimizer.step()
            yield {"loss": loss, "checksum": (seen * digits).sum(), "all": len(labels)}


class Begun(Own):
    """`fit`, then its own loop."""

    def fit(self, batches):
        self.average.fill_(7)

    def optimize(self, batches):
        assert self.average == 7
        yield from super().optimize(batches)


class Alone(Model):
    """An encoder alone. `trains`: how it comes to weights."""

    def __init__(self, shape, latent, trains="loss"):
        super().__init__(shape, latent)
        self.decoder = None
        self.head = nn.Linear(latent, 10)
        if trains == "nothing":
            self.loss = None

    def loss(self, images, labels):
        return functional.cross_entropy(self.head(self.encoder(images)).float(), labels)


class Tied(Model):
    """One layer in both halves, and one of the encoder's that stands outside and is used."""

    def __init__(self, shape, latent, used=True):
        super().__init__(shape, latent)
        self.encoder.append(nn.Linear(latent, latent))
        self.decoder.insert(0, self.encoder[-1])
        self.scale = nn.Parameter(torch.ones(latent))
        self.critic = nn.Linear(latent, 1)
        if used:
            self.encoder.register_forward_hook(lambda module, given, codes: codes * self.scale)


class LazyHead(Model):
    def __init__(self, shape, latent):
        super().__init__(shape, latent)
        self.head = nn.LazyLinear(3)


class HalfDecoder(nn.Module):
    def __init__(self, shape, latent):
        super().__init__()
        self.encoder = nn.Flatten()


@hookimpl
def register_models(register):
    own = Scalars, Labelled, Asks, Start, Fits, Own, Pairs, Begun, Alone, Tied, LazyHead, Late
    for model in (*own, HalfDecoder):
        register(model.__name__.lower(), model)
    register("function", lambda shape, latent: Fits(shape, latent))
    register("pair", lambda shape, latent: (Model(shape, latent).encoder, None))
'''
HOWS = (
    *("right", "first", "epochs", "list", "stops", "swallows", "nan swallowed", "clings", "early"),
    *("twice", "gradients", "dtype", "threads", "inside", "autocast", "replaced", "made"),
    *("removed", "reshaped", "raises", "silent", "nan", "late", "number", "returns"),
    "memory",
)
GIVES = (
    *("dict", "many", "renamed", "without", "empty", "vector", "text", "unprintable", "number"),
    "float",
)
ASKS = {
    "unknown": "loss=lambda images, weight: 0",
    "misspelt": "fit=lambda batches, label: 0",
    "late": "optimize=lambda batches, progress: 0",
    "nothing": "loss=lambda: 0",
    "position": "loss=lambda images, labels, /: 0",
    "module": "optimize=nn.Linear(1, 1)",
    "defaults": "loss=lambda images, weight=1.0, **more: self.error(images)",
}
EPOCHS = 2


def runs():
    names = "labelled start late fits pairs begun alone tied lazyhead halfdecoder function pair"
    found = {name: {} for name in names.split()}
    found |= {f"own-{how.replace(' ', '-')}": {"model": "own", "how": how} for how in HOWS}
    found |= {f"scalars-{gives}": {"model": "scalars", "gives": gives} for gives in GIVES}
    found |= {f"asks-{name}": {"model": "asks", "text": text} for name, text in ASKS.items()}
    untrained = {"train": {"epochs": 0}}
    for name in "start", "begun", "alone", "pair":
        found[f"{name}-untrained"] = {"model": name} | untrained
    found["alone-nothing"] = {"model": "alone", "trains": "nothing"}
    found["tied-unused"] = {"model": "tied", "used": False}
    return found


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Planned and prepared: one run for each model above."""
    workspace = make(tmp_path_factory.mktemp("methods") / "workspace", SMALL, plugins=False)
    (workspace / "plugins/models.py").write_text(MODELS)
    (workspace / "plugins/digits.py").write_text((ROOT / "plugins/digits.py").read_text())
    recipe = {"epochs": EPOCHS, "batch_size": 128, "learning_rate": 0.003}
    recipe |= {"muon_learning_rate": 0.02, "weight_decay": 0.1, "horizontal_flip": False}
    given = {run: {"model": run, "latent": 4} | about for run, about in runs().items()}
    workspace.params(runs=given, train=recipe)
    workspace.run("aebench", "plan")
    workspace.run("aebench", "prepare")
    return workspace


def result(workspace, run, stage="train"):
    for step in ("train", "encode")[: 1 + (stage == "encode")]:
        workspace.run("aebench", step, run, "0")
    return json.loads((workspace / f"results/{run}/0/{stage}.json").read_text())


def state(workspace, run):
    return load_file(workspace / f"runs/{run}/0/weights.safetensors")


def images_and_labels(workspace):
    images = np.load(workspace / "data/prepared/train_images.npy").astype(np.float32) / 255
    return images, np.load(workspace / "data/prepared/train_labels.npy")


def checksums(workspace, batch=128):
    """Of images and labels that belong together: their mean over the batches of each epoch."""
    images, labels = images_and_labels(workspace)
    order, found = np.random.default_rng(0), []
    for _ in range(EPOCHS):
        chosen = order.permutation(len(images))[: len(images) // batch * batch]
        rows = images[chosen].reshape(len(chosen), -1) * (np.arange(64, dtype=np.float32) / 64)
        found.append((rows.sum(1) * labels[chosen]).sum() / (len(chosen) // batch))
    return found


def test_further_scalars_become_curves(workspace):
    found = result(workspace, "scalars-dict")
    assert found["status"] == "ok" and len(found["losses"]) == EPOCHS
    steps = len(images_and_labels(workspace)[0]) // 128 * EPOCHS
    progress = np.arange(steps).reshape(EPOCHS, -1).mean(1) / (steps - 1)
    assert found["curves"].keys() == {"progress", "nothing", "count"}
    assert found["curves"]["progress"] == pytest.approx(progress.tolist(), abs=1e-6)
    assert found["curves"]["nothing"] == [None] * EPOCHS
    assert found["curves"]["count"] == [3.0] * EPOCHS


@pytest.mark.parametrize(
    ("gives", "words"),
    [
        ("many", "the loss gives more than 20 scalars, 'n19' among them; give fewer, under"),
        ("renamed", "the loss gives more than 20 scalars, 'n0."),
        ("without", "loss gave 'error'; allowed: a scalar tensor, or a dict with one as 'loss'"),
        ("empty", "loss gave nothing; allowed: "),
        ("vector", "the each has shape (3,) and type float32, expected a scalar"),
        ("text", "loss returned str as 'word', expected a scalar tensor"),
        ("unprintable", r"loss gave a scalar called 'a\nb'; allowed: 1 to 100 printable"),
        ("number", "loss gave a scalar called 3; allowed: 1 to 100 printable characters"),
        ("float", "loss returned float, expected a scalar tensor"),
    ],
)
def test_a_loss_that_gives_something_else_is_told(workspace, gives, words):
    assert words in result(workspace, f"scalars-{gives}")["status"]


@pytest.mark.parametrize("run", ["labelled", "pairs"])
def test_labels_are_those_of_the_images(workspace, run):
    found = result(workspace, run)
    assert (found["status"], found["labels_seen"]) == ("ok", True)
    assert found["curves"]["checksum"] == pytest.approx(checksums(workspace), rel=1e-4)


def test_who_sees_no_labels_says_so(workspace):
    assert result(workspace, "scalars-dict")["labels_seen"] is False
    assert result(workspace, "alone-untrained")["labels_seen"] is False
    assert result(workspace, "alone")["labels_seen"] is True
    assert result(workspace, "fits")["labels_seen"] is True


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ("unknown", "loss asks for 'weight'; allowed after images: labels, progress"),
        (
            "misspelt",
            "fit asks for 'label' (did you mean 'labels'?); allowed after batches: labels",
        ),
        ("late", "optimize asks for 'progress'; allowed after batches: labels"),
        ("nothing", "loss takes nothing; allowed: loss(images), and of labels, progress"),
        ("position", "loss takes 'labels' by position alone; remove the `/`"),
        ("module", "optimize is Linear; allowed: a method, or none; rename the attribute"),
    ],
)
def test_a_method_that_asks_for_what_there_is_not_is_told(workspace, run, words):
    assert words in result(workspace, f"asks-{run}")["status"]


def test_further_parameters_with_defaults_are_the_models_own(workspace):
    assert result(workspace, "asks-defaults")["status"] == "ok"


@pytest.mark.parametrize(("run", "steps"), [("start", True), ("start-untrained", False)])
def test_fit_with_a_loss_is_the_start(workspace, run, steps):
    found = result(workspace, run)
    assert (found["status"], len(found["losses"])) == ("ok", EPOCHS if steps else 0)
    images, labels = images_and_labels(workspace)
    kept = state(workspace, run)
    assert np.allclose(kept["mean"], images.mean(0), atol=1e-5)
    assert kept["labels"] == pytest.approx(labels.mean(), abs=1e-4)
    assert kept["fitted"] == 1
    assert kept["steps"] == (len(images) // 128 * EPOCHS if steps else 0)


@pytest.mark.parametrize("run", ["fits", "function"])
def test_fit_without_a_loss_is_all_the_training(workspace, run):
    found = result(workspace, run)
    assert (found["status"], found["losses"], found["epoch_seconds"]) == ("ok", [], None)
    assert state(workspace, run)["fitted"] == 1


def test_training_that_no_plan_knows_of_is_told(workspace):
    words = "fit is followed by training, of which the registered class says nothing"
    assert words in result(workspace, "late")["status"]


@pytest.mark.parametrize("run", ["own-right", "own-number", "begun"])
def test_a_loop_of_its_own_is_timed_and_shown(workspace, run):
    found = result(workspace, run)
    assert found["status"] == "ok"
    assert len(found["losses"]) == len(found["all_epoch_seconds"]) == EPOCHS
    assert found["losses"][1] < found["losses"][0]
    assert found["provenance"]["precision"] == "float32"
    if run != "own-number":
        assert found["curves"]["half"] == pytest.approx([x / 2 for x in found["losses"]])
    kept = state(workspace, run)
    assert kept["batches"] == len(images_and_labels(workspace)[0]) // 128 * EPOCHS
    assert (kept["average"], kept["mode"]) == (1, 1)  # what follows the last batch runs


def test_a_loop_of_its_own_gives_the_same_bits_again(workspace):
    hashes = {result(workspace, "own-right")["weights_hash"] for _ in range(2)}
    assert len(hashes) == 1


def test_a_loop_of_its_own_is_not_called_without_epochs(workspace):
    assert result(workspace, "begun-untrained")["status"] == "ok"
    assert state(workspace, "begun-untrained")["batches"] == 0
    assert state(workspace, "begun-untrained")["average"] == 7


LOOPS = {
    "returns": "optimize ended after 0 of 22 batches; go through all",
    "first": "optimize yields before it took a batch; yield once for each batch",
    "epochs": "optimize goes through the batches a second time; they are those of all 2 epochs",
    "list": "optimize takes batch 2 before it has yielded for batch 1; yield once",
    "stops": "StopIteration in optimize (models.py:",
    "swallows": "optimize takes batch 2 before it has yielded for batch 1; yield once",
    "nan swallowed": "the loss is nan in epoch 1",
    "clings": "the loss is nan in epoch 1",
    "nan": "the loss is nan in epoch 1",
    "early": "optimize ended after 5 of 22 batches without a yield for the last; go through all",
    "silent": "optimize ended after 22 of 22 batches without a yield for the last",
    "twice": "optimize yields again for batch 1; yield once for each batch",
    "late": "optimize yields again for batch 22; yield once for each batch",
    "gradients": "optimize leaves gradients at False, it was True; put it back before",
    "inside": "optimize leaves gradients at False, it was True; put it back before",
    "autocast": "optimize leaves autocast at True, it was False",
    "dtype": "optimize leaves default dtype at torch.float64, it was torch.float32",
    "threads": "optimize leaves threads at",
    "replaced": "optimize replaced parameter critic.weight; allowed: to change its values",
    "made": "optimize made parameter critic.further",
    "removed": "optimize removed parameter critic.weight",
    "reshaped": "optimize reshaped parameter critic.weight",
    "raises": "ValueError: of its own (models.py:",
}


@pytest.mark.parametrize("how", LOOPS)
def test_a_loop_that_breaks_its_rules_is_told(workspace, how):
    found = result(workspace, f"own-{how.replace(' ', '-')}")
    assert LOOPS[how] in found["status"]
    # What it left behind is not left to the next.
    assert result(workspace, "own-number")["status"] == "ok"


def test_the_machines_failure_is_no_result_though_the_loop_swallowed_it(workspace):
    said = workspace.run("aebench", "train", "own-memory", "0", ok=False).stderr
    assert "the machine failed, not the model: MemoryError: no more" in said
    assert not (workspace / "results/own-memory/0/train.json").exists()


def test_an_encoder_alone_needs_something_to_learn_from(workspace):
    words = "there is nothing to train on: no decoder, and no loss of its own; "
    assert words in result(workspace, "alone-nothing")["status"]
    assert words in result(workspace, "pair")["status"]
    assert result(workspace, "pair-untrained")["status"] == "ok"


def test_a_decoder_that_is_not_there_is_not_none(workspace):
    words = "build returned HalfDecoder with encoder and decoder Flatten and missing; allowed: "
    assert words in result(workspace, "halfdecoder")["status"]


def test_what_no_half_uses_is_trained_and_not_counted(workspace):
    encoder, shared, decoder = 64 * 4 + 4, 4 * 4 + 4, 4 * 64 + 64
    found = result(workspace, "tied-unused", "encode")["sizes"]
    assert found["num_params"] == encoder + shared + decoder
    assert (found["encoder_params"], found["decoder_params"]) == (
        encoder + shared,
        shared + decoder,
    )
    assert found["model_bytes"] == 4 * found["num_params"]
    found = result(workspace, "tied", "encode")["sizes"]
    assert found["num_params"] == encoder + shared + decoder + 4
    assert found["encoder_params"] == encoder + shared + 4
    assert found["model_bytes"] == 4 * found["num_params"]


def test_a_lazy_layer_that_no_half_uses_is_told(workspace):
    assert (
        "is lazy, and neither half uses it; give its sizes"
        in result(workspace, "lazyhead")["status"]
    )
