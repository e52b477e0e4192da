"""The rule of device, precision and layout, and the optimizer's own arithmetic."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

from aebench.models.autoencoder import Autoencoder
from aebench.models.device import Execution
from aebench.models.execution import choose, convolves_2d, cpu_has_fast_bfloat16
from aebench.models.optimizers import QUINTIC, ROOT_EVERY, orthogonal, shampoo
from aebench.models.training import fit_by_gradient
from aebench.schema import Recipe


@pytest.mark.parametrize(
    ("machine", "convolutions", "expected"),
    [
        (("cpu", False), True, ("float32", "contiguous")),
        (("cpu", True), True, ("bfloat16", "contiguous")),
        (("cpu", True), False, ("bfloat16", "contiguous")),
        (("cuda", False), True, ("float32", "channels_last")),
        (("cuda", True), True, ("bfloat16", "channels_last")),
        (("cuda", True), False, ("bfloat16", "contiguous")),
    ],
)
def test_rule_of_precision_and_layout(machine, convolutions, expected):
    assert choose(*machine, convolutions) == Execution(machine[0], *expected)


def test_channels_last_is_for_models_with_2d_convolutions_alone():
    assert convolves_2d(nn.Conv2d(1, 1, 3)) and not convolves_2d(nn.Linear(1, 1))
    assert not convolves_2d(nn.Sequential(nn.Conv2d(1, 1, 3), nn.Conv3d(1, 1, 3)))


@pytest.mark.parametrize(
    ("vendor", "flags", "fast"),
    [
        ("GenuineIntel", "fpu avx2", False),
        ("GenuineIntel", "fpu avx512f avx512_bf16", False),  # at float32's rate
        ("GenuineIntel", "fpu avx512_bf16 amx_bf16", True),
        ("AuthenticAMD", "fpu avx512f avx512_bf16", True),
        ("AuthenticAMD", "fpu avx2", False),
    ],
)
def test_processors_with_fast_bfloat16(tmp_path, vendor, flags, fast):
    path = tmp_path / "cpuinfo"
    path.write_text(f"processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: {flags}\n")
    assert cpu_has_fast_bfloat16(path) == fast
    assert not cpu_has_fast_bfloat16(tmp_path / "elsewhere")


@pytest.mark.parametrize("shape", [(64, 576), (576, 64), (128, 128), (1, 64)])
def test_orthogonal_is_five_newton_schulz_steps(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    singular = torch.linalg.svdvals(orthogonal(matrix))
    assert singular.min() > 0.2 and singular.max() < 1.3  # the polynomial's own spread
    a, b, c = QUINTIC
    expected = matrix.double() / matrix.double().norm()
    for _ in range(5):
        gram = expected @ expected.T
        expected = a * expected + (b * gram + c * gram @ gram) @ expected
    torch.testing.assert_close(orthogonal(matrix).double(), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("shape", "taller"), [((16, 4, 9), 1), ((48, 16), 3**0.5)])
def test_shampoo_divides_by_the_root_of_the_mean_gram(shape, taller):
    random = torch.Generator().manual_seed(0)
    gradients = [torch.randn(shape, generator=random) for _ in range(ROOT_EVERY + 1)]
    p, momentum = torch.ones(shape), torch.zeros(shape)
    grams = torch.zeros(2, 16, 16)
    turned = [g.flatten(1) if shape[0] == 16 else g.T for g in gradients]
    mean, average, root = torch.zeros(16, 16), torch.zeros_like(turned[0]), torch.empty(0)
    for step, wide in enumerate(turned):
        before = p.clone()
        shampoo(p, gradients[step], momentum, *grams, step, 0.1, 0.2)
        average = 0.95 * average + 0.05 * wide
        if step % 4 == 0:
            mean = 0.9 * mean + 0.1 * wide @ wide.T
        if step in (0, ROOT_EVERY):
            u, s, _ = torch.linalg.svd(mean / (1 - 0.9 ** (step // 4 + 1)))
            root = u @ s.rsqrt().diag() @ u.T
        moved = root @ (0.05 * wide + 0.95 * average)
        moved = moved if shape[0] == 16 else moved.T
        expected = before * (1 - 0.1 * 0.2) - 0.1 * taller * moved.view(shape)
        torch.testing.assert_close(p, expected, atol=1e-5, rtol=1e-4)
    # What the root, two steps old, has not seen moves the weights no further than Muon would.
    before = p.clone()
    shampoo(p, 1e6 * gradients[0], momentum, *grams, 1, 0.1, 0.0)
    assert torch.isclose((p - before).norm(), torch.tensor(0.1 * taller * 4), rtol=1e-4)


def test_optimizers_take_the_steps_they_are_said_to():
    """Three steps against torch's AdamW, and Muon written out: who trains what, at which rate."""
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(192, 130, bias=False))  # too large for Muon
    kept = nn.utils.parametrizations.orthogonal(nn.Linear(6, 5, bias=False))
    decoder = nn.Sequential(
        nn.Linear(130, 6), nn.Linear(5, 192), nn.Unflatten(1, (3, 8, 8)), nn.LayerNorm([3, 8, 8])
    ).insert(1, kept)
    decoder.unused = nn.Parameter(torch.ones(3, 3))  # the loss does not reach it
    trained = Autoencoder(encoder, decoder)
    expected = copy.deepcopy(trained)
    images = torch.randint(256, (10, 3, 8, 8), dtype=torch.uint8)
    recipe = Recipe(
        epochs=3,
        batch_size=16,
        learning_rate=0.01,
        muon_learning_rate=0.1,
        weight_decay=0.2,
        horizontal_flip=False,
    )
    fit_by_gradient(trained, images, None, 0, recipe, Execution("cpu", "float32", "contiguous"))

    first, second, last, _, norm = expected.decoder
    matrices = [first.weight, last.weight]
    # Biases, norms and parametrizations do not decay.
    spared = [first.bias, last.bias, norm.weight, norm.bias, *second.parameters()]
    groups = [{"params": [expected.encoder[1].weight]}, {"params": spared, "weight_decay": 0}]
    adamw = torch.optim.AdamW(groups, weight_decay=0.2)
    momenta = [torch.zeros_like(p) for p in matrices]
    floats = images.float() / 255  # one batch of all, whose order does not matter
    for share in (1.0, 1.0, 0.5):  # one step of warm-up, then the decay
        expected.zero_grad()
        nn.functional.mse_loss(expected.decoder(expected.encoder(floats)), floats).backward()
        for group in adamw.param_groups:
            group["lr"] = 0.01 * share
        adamw.step()
        for p, momentum in zip(matrices, momenta, strict=True):
            momentum.mul_(0.95).add_(p.grad, alpha=0.05)
            update = orthogonal(0.05 * p.grad + 0.95 * momentum)
            tall = max(1, p.shape[0] / p.shape[1]) ** 0.5
            p.data = p.data * (1 - 0.1 * share * 0.2) - 0.1 * share * tall * update
    for name, p in expected.state_dict().items():
        torch.testing.assert_close(trained.state_dict()[name], p, atol=1e-4, rtol=1e-3)
    assert torch.equal(trained.decoder.unused, torch.ones(3, 3))
    singular = torch.linalg.svdvals(trained.decoder[1].weight)
    torch.testing.assert_close(singular, torch.ones(5), atol=1e-4, rtol=0)


def test_bfloat16_trains_to_about_the_same_loss(baseline):
    # The processor of these tests may choose float32: here the loop gets both.
    code = """
import json, numpy, torch
from aebench.models.autoencoder import build_autoencoder
from aebench.models.device import Execution
from aebench.models.training import fit_by_gradient
from aebench.schema import Recipe
from aebench.plugins import load_plugins
from aebench.workspace import Workspace
recipe = json.load(open("plan/cnn-latent10/train.json"))["train"] | {"epochs": 3}
recipe = Recipe(**recipe)
images = torch.from_numpy(numpy.load("data/prepared/train_images.npy"))
for how in (("float32", "contiguous"), ("bfloat16", "channels_last")):
    torch.manual_seed(0)
    model = load_plugins(Workspace()).models["cnn"]
    autoencoder = build_autoencoder(model, (1, 8, 8), {"latent": 10, "depth": 3})
    curve = fit_by_gradient(autoencoder, images, None, 0, recipe, Execution("cpu", *how))
    print(json.dumps([curve[-1].means["loss"], str(next(autoencoder.parameters()).dtype)]))
"""
    lines = baseline.run("python", "-c", code).stdout.splitlines()
    (exact, kind), (rounded, other) = (json.loads(line) for line in lines if line[0] == "[")
    assert kind == other == "torch.float32"
    assert np.isclose(exact, rounded, rtol=0.03) and exact != rounded


def test_train_says_how_it_computed(baseline):
    result = json.loads((baseline / "results/cnn-latent10/0/train.json").read_text())
    origin = result["provenance"]
    assert (origin["device"], origin["threads"]) == ("cpu", 1) or origin["device"] == "cuda"
    assert origin["precision"] in ("float32", "bfloat16") and origin["memory_format"]
    row = baseline.rows()["cnn-latent10"]
    assert [row[key] for key in ("device", "precision", "memory_format")] == [
        origin[key] for key in ("device", "precision", "memory_format")
    ]
