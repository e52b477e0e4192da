"""What a code is worth: reconstructions from the stored codes alone, and the bits they need."""

import json

import numpy as np
import pytest
from conftest import SMALL, make

from aebench.evaluation.discrete import MOST, code_bits
from aebench.evaluation.quantise import affine

# Each model is what its encoder does to (B, 64) pixels, and what its decoder does to codes.
MODELS = '''\
import os

import torch
from torch import nn

from aebench import hookimpl

MANY = 100  # more than a check would look at
KEPT = {}


class Layer(nn.Module):
    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, x):
        return self.change(x)


def pack(x):
    """Five pixels of 17 levels in one float32, which holds 24 bits."""
    levels = nn.functional.pad((x.double() * 16).round(), (0, 1)).view(len(x), 13, 5)
    return (levels * 17.0 ** torch.arange(5)).sum(2).float()


def unpack(codes):
    levels = codes.double()[:, :, None].div(17.0 ** torch.arange(5)).floor().fmod(17).flatten(1)
    return (levels[:, :64] * 255 / 16).round().float() / 255


def bits(x):
    return (x.view(-1, 8, 8)[:, 3:5, 2:6].flatten(1) > 0.4).float()


def blank(codes):
    return torch.zeros(len(codes), 64)


def bright(x):
    """Of whole thousandths."""
    return (x.mean(1, keepdim=True) * 1000).round()


def whole(codes):
    if (codes != codes.round()).any():
        raise ValueError("no such code")
    return blank(codes)


def keep_last(x):
    if len(x) > MANY:
        KEPT["last"] = x
    return bits(x)


def last(codes):
    return KEPT["last"] if len(codes) == len(KEPT.get("last", ())) else blank(codes)


def keep_all(x):
    codes = x[:, 16:48] + 0
    if len(x) > MANY:
        KEPT.update(zip(map(str, codes.tolist()), x))
    return codes


def looked_up(codes):
    images = [KEPT.get(str(code), torch.zeros(64)) for code in codes.tolist()]
    return torch.stack(images) if len(codes) > MANY else blank(codes)


def away(x):
    os.chdir("/")
    return bits(x)


HALVES = {
    "packed": (pack, unpack),
    "binary": (bits, blank),
    "mixed": (lambda x: torch.cat([bits(x), x.mean(1, keepdim=True)], 1), blank),
    "smooth": (lambda x: x.mean(1, keepdim=True), blank),
    "signs": (lambda x: (0.5 - bits(x)) * 0, lambda c: torch.signbit(c).float().repeat(1, 8)),
    "undone": (bright, lambda c: torch.where(c == c.round(), 0.0, torch.nan).repeat(1, 64)),
    "strict": (bright, whole),
    "last": (keep_last, last),
    "all": (keep_all, looked_up),
    "away": (away, blank),
    "alone": (bits, None),
    "crowd": (lambda x: bits(x) - x.mean() * (len(x) > 100), None),
}


def looks(kind="bare"):
    """An encoder of a type whose codes are the pixels, unless it was altered."""

    def build(shape):
        encoder = nn.Flatten()
        if kind == "forward":
            encoder.forward = lambda x: bits(x.flatten(1))
        if kind == "hook":
            encoder.register_forward_hook(lambda module, given, codes: bits(codes))
        return encoder, None

    return build


class Unusual(nn.Module):
    """Multiplies by a sparse matrix, and calls a lazy layer by keyword."""

    def __init__(self):
        super().__init__()
        self.lazy = nn.LazyLinear(8)
        self.register_buffer("mask", torch.eye(8))

    def forward(self, x):
        return torch.sparse.mm(self.mask.to_sparse(), self.lazy(input=x.flatten(1)).T).T


@hookimpl
def register_models(register):
    for name, halves in HALVES.items():
        register(name, built(*halves))
    for kind in ("forward", "hook", "bare"):
        register(f"looks-{kind}", looks(kind))
    register("unusual", lambda shape: (Unusual(), None))


def built(encode, decode):
    def build(shape):
        encoder = nn.Sequential(nn.Flatten(), Layer(encode))
        if decode is None:
            return encoder, None
        return encoder, nn.Sequential(Layer(decode), nn.Unflatten(1, shape))

    return build
'''
OWN = (
    *("packed", "binary", "mixed", "smooth", "signs", "undone", "strict", "last", "all", "away"),
    *("alone", "crowd", "looks-forward", "looks-hook", "looks-bare", "unusual"),
)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Planned and prepared: untrained runs of the models above, and short ones of built-in ones."""
    workspace = make(tmp_path_factory.mktemp("encode") / "workspace", SMALL)
    (workspace / "plugins/models.py").write_text(MODELS)
    runs = {name: {"model": name, "train": {"epochs": 0}} for name in OWN}
    workspace.params(runs=runs | {name: {"model": name} for name in ("mlp", "cnn", "pixels")})
    workspace.run("aebench", "plan")
    workspace.run("aebench", "prepare")
    return workspace


def encoded(workspace, run):
    """What encode.json says of it."""
    for stage in ("train", "encode"):
        workspace.run("aebench", stage, run, "0")
    return json.loads((workspace / f"results/{run}/0/encode.json").read_text())


def array(workspace, run, name):
    folder = "runs" if name.endswith("codes") else "results"
    return np.load(workspace / f"{folder}/{run}/0/{name}.npy")


def images(workspace, split="test"):
    return np.load(workspace / f"data/prepared/{split}_images.npy")


@pytest.mark.parametrize("run", ["mlp", "cnn"])
def test_eight_bits_hold_what_an_honest_float_holds(workspace, run):
    found = encoded(workspace, run)
    assert found["mse_8bit"] == pytest.approx(found["mse"], rel=0.002)
    assert found["mse_8bit"] != found["mse"]
    fewer = [found[name] for name in ("mse_4bit", "mse_pq")]
    assert fewer == pytest.approx([found["mse"]] * 2, rel=0.05)
    assert len({found["mse"], found["mse_8bit"], *fewer}) == 4
    assert found["code_bits"] is None


def test_eight_bits_show_pixels_packed_into_floats(workspace):
    found = encoded(workspace, "packed")
    assert (found["mse"], found["psnr"], found["metrics"]["ssim"]["mean"]) == (0, 100, 1)
    assert found["mse_8bit"] > 0.05
    meta = json.loads((workspace / "data/prepared/meta.json").read_text())
    shown = array(workspace, "packed", "examples")
    assert (shown == images(workspace)[meta["examples"]]).all()


def test_pixels_are_measured_where_they_are_the_codes(workspace):
    found = encoded(workspace, "pixels")
    assert found["mse"] == 0 < found["mse_8bit"] < 1e-5  # a pixel's range is not always 0 to 255
    train, test = (images(workspace, split).reshape(-1, 64) for split in ("train", "test"))
    assert found["code_bits"] == pytest.approx(bits_of(train, test, otherwise=8))


def bits_of(train, test, otherwise):
    """As `code_bits`, with sets."""
    values = [(set(a.tolist()), set(b.tolist())) for a, b in zip(train.T, test.T, strict=True)]
    return sum(np.log2(len(a)) if b <= a else otherwise for a, b in values)


@pytest.mark.parametrize(("run", "bits"), [("binary", 8), ("mixed", 40), ("smooth", None)])
def test_bits_of_discrete_codes_are_measured(workspace, run, bits):
    assert encoded(workspace, run)["code_bits"] == bits


def test_test_codes_of_other_values_are_not_discrete(workspace):
    """Most of the brightnesses have occurred before."""
    found = encoded(workspace, "undone")
    train, test = (array(workspace, "undone", f"{split}_codes") for split in ("train", "test"))
    assert len(np.unique(train)) < 400 and not set(test.flat) <= set(train.flat)
    assert found["code_bits"] is None


def test_the_decoder_gets_no_sign_of_a_zero(workspace):
    """Which are one value where bits are counted, and neighbours sought."""
    found = encoded(workspace, "signs")
    assert np.signbit(array(workspace, "signs", "test_codes")).any()
    assert found["code_bits"] == 0
    assert not array(workspace, "signs", "examples").any()


def test_images_that_are_lost_in_eight_bits_count_one(workspace):
    found = encoded(workspace, "undone")
    assert found["status"] == "ok"
    assert 0.5 < found["mse_8bit"] <= 1


def test_a_decoder_may_refuse_rounded_codes(workspace):
    found = encoded(workspace, "strict")
    assert found["status"] == "ok" and found["mse"] is not None
    assert [found[f"mse_{kind}"] for kind in ("8bit", "4bit", "pq")] == [None] * 3
    assert found["rounded_note"].startswith("no mse_8bit: ValueError: no such code (models.py:")


def test_codes_in_large_batches_are_those_in_small_ones(workspace):
    assert encoded(workspace, "crowd")["status"].startswith(
        "failed: other codes of the same train images in batches of 500 than of 64: 64 of 64; "
    )


@pytest.mark.parametrize("kind", ["forward", "hook", "bare"])
def test_what_only_looks_like_pixels_is_stored(workspace, kind):
    """The search would be of the pixels, under the name of the model."""
    found = encoded(workspace, f"looks-{kind}")
    assert found["status"] == "ok"
    rows = len(images(workspace)) * (kind != "bare")
    assert array(workspace, f"looks-{kind}", "test_codes").shape == (rows, 8 if rows else 64)


def test_sparse_weights_and_lazy_layers_by_keyword_are_counted(workspace):
    sizes = encoded(workspace, "unusual")["sizes"]
    assert sizes["encoder_params"] == 64 * 8 + 8
    assert sizes["uncounted_operations"]


@pytest.mark.parametrize("run", ["last", "all"])
def test_what_the_encoder_saw_does_not_reach_the_decoder(workspace, run):
    found = encoded(workspace, run)
    assert found["status"] == "ok"
    zeros = np.square(images(workspace) / 255).mean()
    assert found["mse"] == pytest.approx(zeros, rel=1e-6)


def test_an_encoder_may_move_to_another_folder(workspace):
    assert encoded(workspace, "away")["status"] == "ok"


def test_an_encoder_alone_has_all_but_reconstructions(workspace):
    found = encoded(workspace, "alone")
    assert found["status"] == "ok"
    assert [found[name] for name in ("mse", "psnr", "mse_8bit", "mse_4bit")] == [None] * 4
    assert (found["code_bits"], found["sizes"]["decoder_layers"]) == (8, 0)
    assert found["encode_images_per_second"] > 0
    assert array(workspace, "alone", "squared_errors").shape == (0,)
    assert found["metrics"] == {} and array(workspace, "alone", "metrics").shape == (0,)
    assert array(workspace, "alone", "examples").shape == (0, 1, 8, 8)
    assert array(workspace, "alone", "worst").shape == (2, 0, 1, 8, 8)
    assert array(workspace, "alone", "test_codes").shape == (len(images(workspace)), 8)


def test_the_worst_images_stand_beside_their_reconstructions(workspace):
    encoded(workspace, "mlp")
    errors, worst = array(workspace, "mlp", "squared_errors"), array(workspace, "mlp", "worst")
    order = np.argsort(-errors, kind="stable")[:10]
    assert (worst.dtype, worst.shape) == (np.uint8, (2, 10, 1, 8, 8))
    assert (worst[0] == images(workspace)[order]).all()
    again = np.square(worst[1] / 255 - worst[0] / 255).mean((1, 2, 3))
    assert again == pytest.approx(errors[order], abs=0.005)  # of rounded pixels
    assert errors[order[-1]] >= np.delete(errors, order).max()


def test_equal_errors_keep_the_order_of_the_images(workspace):
    encoded(workspace, "pixels")
    worst = array(workspace, "pixels", "worst")
    assert (worst[0] == worst[1]).all() and (worst[0] == images(workspace)[:10]).all()


@pytest.mark.parametrize("run", ["mlp", "alone"])
def test_codes_have_places_of_the_first_seed_two(workspace, run):
    encoded(workspace, run)
    first = array(workspace, run, "code_map")
    assert (first.dtype, first.shape) == (np.uint8, (2, 359, 2))
    workspace.params(seeds=[0, 1])
    workspace.run("aebench", "plan")
    for stage in ("train", "encode"):
        workspace.run("aebench", stage, run, "1")
    second = np.load(workspace / f"results/{run}/1/code_map.npy")
    assert second.shape == (1, 359, 2)
    assert (second == first[:1]).all() == (run != "mlp")  # no seed matters to the others


def test_equal_codes_have_one_place(workspace):
    encoded(workspace, "signs")
    assert (array(workspace, "signs", "code_map") == np.full((1, 359, 2), 128)).all()


def test_a_failed_run_has_neither_images_nor_places(workspace):
    assert encoded(workspace, "crowd")["status"].startswith("failed: ")
    for name in ("worst", "code_map"):
        assert (workspace / f"results/crowd/0/{name}.npy").stat().st_size == 0


def column(values, dtype=np.float32):
    return np.array(values, dtype)[:, None]


@pytest.mark.parametrize(
    ("train", "test", "bits"),
    [
        (np.arange(MOST), [0, 1], 12),
        (np.tile(np.arange(MOST), 3), [0, 1], 12),  # in several blocks
        (np.arange(MOST + 1), [0, 1], None),
        (np.repeat(np.arange(MOST + 1), 3), [0, 1], None),
        ([0.0, -0.0, 1.0], [-0.0], 1),
        ([3.5, 3.5], [3.5], 0),
        ([1, 2, 3, 4], [1, 5], None),
        ([np.float32(0.1), np.float32(0.1) * (1 + 2**-22)], [np.float32(0.1)], 1),
    ],
)
def test_what_is_discrete(train, test, bits):
    assert code_bits(column(train), column(test)) == bits


def test_bits_of_many_dimensions():
    random = np.random.default_rng(0)
    codes = random.integers(0, 4, (9000, 1100)).astype(np.float32)
    codes[:, 700] = random.random(9000)
    codes[-1, 800] = 4
    assert code_bits(codes[:8999], codes[8000:]) == 1098 * 2 + 2 * 32
    pixels = codes.astype(np.uint8)
    pixels[:, 700] = 0
    assert code_bits(pixels[:8999], pixels[8000:]) == 1098 * 2 + 8


def test_rounding_to_eight_bits():
    """Levels between the ends of the training codes; others become an end."""
    top = np.finfo(np.float32).max
    train = np.array([[0, 5, -top, 1e-45], [255, 5, 0, 0], [3, 5, top, 0]], np.float32)
    found = affine([train[:2], train[2:]])
    test = np.array(
        [[2.4, 7, top, 0], [2.5, 5, -top, 1], [-9, 5, 1e37, 0], [300, 4, -top, -1e-45]], np.float32
    )
    rounded = found.rounded(test)
    assert rounded.dtype == np.float32 and np.isfinite(rounded).all()
    assert rounded[:, 0].tolist() == [2, 2, 0, 255]
    assert rounded[:, 1].tolist() == [5] * 4
    assert rounded[[0, 1, 3], 2].tolist() == [top, -top, -top]
    assert abs(rounded[2, 2] - 1e37) <= top / 255
    assert rounded[:, 3].tolist() == [0, train[0, 3], 0, 0]
