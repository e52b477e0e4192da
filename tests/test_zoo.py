"""The zoo: what makes each model that model, that it learns, and that a seed decides its bits."""

import ast
import copy
import json
import re

import numpy as np
import pytest
import torch
from conftest import ROOT, make
from scipy.fft import dctn
from torch.nn import functional

from aebench.errors import Refused
from aebench.models.autoencoder import as_floats, build_autoencoder
from aebench.models.device import Execution
from aebench.models.training import fit_by_gradient, trained
from aebench.plugins import load_plugins
from aebench.schema import Recipe
from aebench.workspace import Workspace

MODELS = load_plugins(Workspace(ROOT)).models
SHIPPED = {"mlp", "combo", "cnn", "pca", "pixels"}
ZOO = sorted(MODELS.keys() - SHIPPED)
CLOSED = {"dct", "random-projection"}
ALONE = {"simclr", "supervised"}
RECIPE = Recipe(
    epochs=2,
    batch_size=32,
    learning_rate=0.003,
    muon_learning_rate=0.03,
    weight_decay=0.1,
    horizontal_flip=False,
)
FLOAT32 = Execution("cpu", "float32", "contiguous")


@pytest.fixture(scope="module")
def digits():
    """uint8 images and int64 labels: of training, and of the test."""
    data = load_plugins(Workspace(ROOT)).datasets["digits"].load(ROOT)
    return [torch.from_numpy(array) for split in ("train", "test") for array in data[split]]


@pytest.fixture(scope="module")
def some(digits):
    """64 training images, float32."""
    return as_floats(digits[0][:64])


def module(name):
    plugin = MODELS[name].plugin
    plugin.activate()
    return plugin.load()


def made(name, shape=(1, 8, 8), latent=8, depth=3, seed=0, **options):
    settings = {"latent": latent, "depth": depth}
    given = {k: v for k, v in settings.items() if k in MODELS[name].arguments}
    torch.manual_seed(seed)
    return build_autoencoder(MODELS[name], shape, given | options)


def source(name):
    return ROOT / f"plugins/{name.replace('-', '_')}.py"


def reconstructed(model, images):
    with torch.inference_mode():
        return model.decoder(model.encoder(images))


# What they are as files


@pytest.mark.parametrize("name", ZOO)
def test_file_is_short_cites_its_paper_and_imports_helpers_alone(name):
    text = source(name).read_text()
    assert len([line for line in text.splitlines() if line.strip()]) <= 40
    tree = ast.parse(text)
    assert re.search(r"[A-Z]\. [A-Z].*\b(19|20)\d\d\b", ast.get_docstring(tree), re.DOTALL)
    imported = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    imported |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    roots = {m.split(".")[0] for m in imported}
    assert {root for root in roots if not root.startswith("_")} <= {"torch", "math", "aebench"}


def test_runs_of_the_zoo_plan_and_hold_every_model(tmp_path):
    params = (ROOT / "docs/zoo/params.yaml").read_text()
    workspace = make(tmp_path / "workspace", params)
    assert workspace.run("aebench", "plan").stderr == ""
    planned = [json.loads(p.read_text()) for p in workspace.folder.glob("plan/*/train.json")]
    assert {plan["model"] for plan in planned} == MODELS.keys()
    listed = workspace.run("aebench", "list").stdout
    assert all(name in listed for name in ZOO) and "beta" in listed
    # What a comment says of an option is its default.
    runs = re.findall(r"    model: (\S+)\n((?:    # .*\n)*)", params)
    for name, comments in runs:
        said = re.findall(r"# (\w+): (\S+)", comments)
        known = {k: v for k, v in MODELS[name].arguments.items() if v is not ...}
        assert {k: json.loads(v) for k, v in said} == (known if comments else {}), name


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vq", {"dim": 3}),
        ("vq", {"dim": 0}),
        ("vq", {"entries": 0}),
        ("fsq", {"levels": 1}),
        ("sparse", {"kept": 0.0}),
        ("sparse", {"kept": 1.5}),
        ("masked", {"hidden": 1.0}),
        ("masked", {"width": 0}),
        ("masked", {"width": 30}),
        ("residual", {"depth": 1}),
        ("pca-residual", {"shape": (3, 65, 64)}),
    ],
)
def test_what_cannot_be_is_refused_with_a_reason(name, options):
    with pytest.raises(Refused, match=rf"{name}|{next(iter(options))}"):
        made(name, **options)


# What makes each model that model


@pytest.mark.parametrize("name", ["denoising", "contractive", "vae", "wae", "adversarial"])
@pytest.mark.parametrize("depth", [2, 3])
def test_the_shared_net_is_combos_bit_for_bit(name, depth):
    ours, combo = made(name, depth=depth), made("combo", depth=depth)
    for half in ("encoder", "decoder"):
        expected = getattr(combo, half).state_dict()
        state = getattr(ours, half).state_dict()
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[key], expected[key]) for key in expected)
        assert str(getattr(ours, half)) == str(getattr(combo, half))


def test_denoising_compares_with_the_clean_image(some):
    model, seen = made("denoising", noise=0.3), []
    model.encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    loss = model.loss(some)
    noise = seen[0] - some
    assert abs(noise.std() - 0.3) < 0.01 and abs(noise.mean()) < 0.02
    decoded = model.decoder(model.encoder(seen[0]))
    torch.testing.assert_close(loss, functional.mse_loss(decoded, some))


def test_vae_divergence_is_that_of_a_sample():
    mean, log_variance = torch.tensor([[0.5, -1.0, 0.0]]), torch.tensor([[0.2, -1.0, 0.7]])
    posterior = torch.distributions.Normal(mean, (log_variance / 2).exp())
    torch.manual_seed(0)
    codes = posterior.sample((400_000,))
    sampled = posterior.log_prob(codes) - torch.distributions.Normal(0, 1).log_prob(codes)
    exact = module("vae").divergence(mean, log_variance)
    assert abs(sampled.sum(2).mean() - exact) < 0.01 * exact


def test_vae_warms_up_by_progress_and_scores_the_mean(some):
    model = made("vae", beta=2.0, warm_up=0.5)

    def weight(progress):
        found = model.loss(some, progress)
        assert found.keys() == {"loss", "error", "kl"}
        return ((found["loss"] - found["error"]) / found["kl"]).item()

    full = 2.0 * 2 * 0.1**2 / 64  # beta, in units of the mean squared error
    assert [weight(p) / full for p in (0.0, 0.125, 0.25, 0.5, 1.0)] == pytest.approx(
        [0, 0.25, 0.5, 1, 1], abs=1e-3
    )
    assert torch.equal(model.encoder(some), model.posterior(some)[0])


def test_wae_discrepancy_is_zero_on_average_for_equal_distributions_alone():
    torch.manual_seed(0)
    discrepancy = module("wae").discrepancy

    def found(change):
        pairs = (torch.randn(2, 100, 8) for _ in range(30))
        return torch.stack([discrepancy(one, change(other)) for one, other in pairs])

    equal = found(lambda x: x)
    assert abs(equal.mean()) < 3 * equal.std() / 30**0.5
    for change in (lambda x: x + 0.5, lambda x: 2 * x, lambda x: x.abs()):
        assert found(change).min() > equal.max()


def test_contractive_penalty_is_the_finite_differences_jacobian(some):
    squared_norm = module("contractive").squared_norm
    model = made("contractive", latent=4).double()
    images = some[:3].double().requires_grad_()
    codes = model.encoder(images)
    step = 1e-5 * torch.eye(64, dtype=torch.float64).reshape(64, 1, 1, 8, 8)
    with torch.no_grad():
        moved = [model.encoder(images + s) - model.encoder(images - s) for s in step]
    expected = (torch.stack(moved) / 2e-5).square().sum((0, 2)).mean()
    units = torch.eye(4, dtype=torch.float64)
    whole = sum(squared_norm(images, codes, unit.expand_as(codes)) for unit in units)
    torch.testing.assert_close(whole, expected, rtol=1e-6, atol=0)
    torch.manual_seed(0)
    drawn = [squared_norm(images, codes, torch.randn_like(codes)).item() for _ in range(500)]
    assert abs(np.mean(drawn) - whole.item()) < 4 * np.std(drawn) / 500**0.5


def test_contractive_penalty_makes_the_jacobian_smaller(digits, some):
    def norm(penalty):
        model = made("contractive", penalty=penalty)
        fit_by_gradient(model, digits[0][:256], None, 0, RECIPE, FLOAT32)
        images = some.clone().requires_grad_()
        codes = model.encoder(images)
        torch.manual_seed(0)
        return module("contractive").squared_norm(images, codes, torch.randn_like(codes)).item()

    assert norm(1.0) < norm(0.0) / 10


@pytest.mark.parametrize(("latent", "kept", "count"), [(16, 0.25, 4), (3, 0.1, 1), (8, 1.0, 8)])
def test_sparse_keeps_the_largest(some, latent, kept, count):
    model = made("sparse", latent=latent, kept=kept).eval()
    codes, dense = model.encoder(some), model.encoder[:-1](some)
    assert ((codes != 0).sum(1) == count).all()
    is_kept = codes != 0
    assert torch.equal(codes[is_kept], dense[is_kept])
    least = dense.masked_fill(~is_kept, torch.inf).amin(1)
    assert (least >= dense.masked_fill(is_kept, -torch.inf).amax(1)).all()


def test_vq_codes_come_from_the_codebook_which_moves_in_training_alone(some):
    model = made("vq", entries=16, dim=2).eval()
    entries = model.encoder[1].entries

    def all_from_the_codebook():
        found = model.encoder(some).reshape(-1, 2)
        return (found[:, None] == entries).all(2).any(1).all()

    assert all_from_the_codebook()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.loss(some)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.train().loss(some)["loss"].backward()
    assert not torch.equal(entries, before["encoder.1.entries"]) and entries.grad is None
    assert all(p.grad.abs().sum() > 0 for p in model.encoder[0].parameters())
    assert model.eval() and all_from_the_codebook()


def test_vq_entries_become_the_means_of_what_is_near_and_dead_ones_live_again():
    model = made("vq", latent=6, entries=4, dim=2, decay=0.5)
    codebook, clusters = model.encoder[1], torch.tensor([[0.0, 0], [10, 0], [0, 10]])
    codebook.entries.copy_(torch.cat([clusters + 1, torch.tensor([[1e6, 1e6]])]))
    torch.manual_seed(0)
    codes = (clusters + 0.1 * torch.randn(50, 3, 2)).flatten(1)
    vectors = codes.reshape(-1, 2)
    model.averages.move(codebook, codes)
    torch.testing.assert_close(codebook.entries[:3], codes.mean(0).reshape(3, 2))
    assert torch.cdist(codebook.entries[3:], vectors).min() == 0
    for _ in range(20):
        model.averages.move(codebook, codes)
    assert len(codebook.nearest(vectors).unique()) == 4


@pytest.mark.parametrize("levels", [2, 5, 8])
def test_fsq_codes_have_a_few_values_and_the_bounds_gradient(some, levels):
    model = made("fsq", levels=levels).eval()
    codes = model.encoder(some)
    steps = (codes + 1) * (levels - 1) / 2
    torch.testing.assert_close(steps, steps.round(), atol=1e-5, rtol=0)
    assert codes.abs().max() <= 1
    assert max(len(column.unique()) for column in codes.T) <= levels
    torch.testing.assert_close(model.train().encoder(some), codes)
    free = torch.randn(5, requires_grad=True)
    model.encoder[-1](free).sum().backward()
    bound = 2 * torch.sigmoid(free) * (1 - torch.sigmoid(free))
    torch.testing.assert_close(free.grad, bound.detach())


def test_adversarial_critic_and_halves_do_not_move_each_other(some, monkeypatch):
    model = made("adversarial", penalty=0.5)
    critic = set(map(id, model.critic.parameters()))
    moved, step = [], torch.optim.AdamW.step

    def watched(self, *given):
        own = {id(p) for group in self.param_groups for p in group["params"]}
        before = [p.detach().clone() for p in model.parameters()]
        assert {id(p) in critic for p in model.parameters() if id(p) in own} in ({True}, {False})
        gradients = {id(p): p.grad.clone() for p in model.parameters() if id(p) in own}
        step(self, *given)
        for p, old in zip(model.parameters(), before, strict=True):
            assert torch.equal(p, old) == (id(p) not in own)
        moved.append(gradients)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    twin = copy.deepcopy(model)
    torch.manual_seed(1)
    found = next(model.optimize([some]))
    assert found.keys() == {"loss", "caught", "confused"} and len(moved) == 2
    # The gradients are of the own loss alone, each taken apart on a twin.
    codes = twin.encoder(some)
    error = functional.mse_loss(twin.decoder(codes), some)
    halves = error + 0.5 * functional.softplus(-twin.critic(codes)).mean()
    same(gradients(halves, twin.encoder), moved[0], model.encoder)
    twin.encoder.load_state_dict(model.encoder.state_dict())
    torch.manual_seed(1)
    real, fake = twin.critic(torch.randn_like(codes)), twin.critic(codes.detach())
    told = (functional.softplus(-real) + functional.softplus(fake)).mean() / 2
    same(gradients(told, twin.critic), moved[1], model.critic)


def gradients(loss, part):
    return torch.autograd.grad(loss, list(part.parameters()), retain_graph=True)


def same(expected, found, part):
    for gradient, p in zip(expected, part.parameters(), strict=True):
        torch.testing.assert_close(found[id(p)], gradient)


def test_residual_normalises_by_running_statistics_when_used(some):
    model = made("residual", depth=4)
    in_training = model.encoder(some)
    buffers = {name: b.clone() for name, b in model.named_buffers()}
    assert not torch.allclose(in_training[:8], model.encoder(some[:8]), atol=1e-3)
    assert any(not torch.equal(b, buffers[name]) for name, b in model.named_buffers())
    buffers = {name: b.clone() for name, b in model.eval().named_buffers()}
    torch.testing.assert_close(model.encoder(some)[:8], model.encoder(some[:8]))
    assert all(torch.equal(b, buffers[name]) for name, b in model.named_buffers())


def test_pca_residual_begins_at_pca_and_adds_to_it(digits):
    images = as_floats(digits[0])
    model, pca = made("pca-residual"), made("pca")
    for one in (model, pca):
        one.fit([images[:700], images[700:]])
    errors = [functional.mse_loss(reconstructed(m, images), images).item() for m in (model, pca)]
    assert errors[0] == pytest.approx(errors[1], rel=1e-5)
    kept = copy.deepcopy(model.encoder.linear.state_dict())
    fit_by_gradient(model, digits[0], None, 0, RECIPE, FLOAT32)
    assert all(torch.equal(model.encoder.linear.state_dict()[k], v) for k, v in kept.items())
    assert functional.mse_loss(reconstructed(model, images), images).item() < 0.9 * errors[1]


@pytest.mark.parametrize(("count", "latent"), [(40, 8), (40, 64), (200, 64)])
def test_principal_axes_are_pcas_for_few_images_and_above_the_rank(digits, count, latent):
    images = as_floats(digits[0][:count])
    model, pca = made("pca-residual", latent=latent), made("pca", latent=latent)
    for one in (model, pca):
        one.fit([images[:30], images[30:]])
    decoded = [reconstructed(one, images) for one in (model, pca)]
    torch.testing.assert_close(*decoded, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 8)])
def test_dct_of_all_coefficients_is_exact_and_keeps_the_norm(shape):
    images = torch.rand(30, *shape, generator=torch.Generator().manual_seed(0))
    model = made("dct", shape, latent=images[0].numel() + 5)
    model.fit([images[:20], images[20:]])
    codes = model.encoder(images)
    torch.testing.assert_close(reconstructed(model, images), images)
    torch.testing.assert_close(codes.square().sum(1), images.square().sum((1, 2, 3)))
    assert (codes[:, -5:] == 0).all()
    expected = dctn(images.double().numpy(), axes=(1, 2, 3), norm="ortho").reshape(30, -1)
    for code, row in zip(codes[:3, :-5].detach(), expected, strict=False):
        np.testing.assert_allclose(np.sort(code), np.sort(row), atol=1e-5)


def test_dct_keeps_what_varies_most_and_the_mean_of_the_rest(digits):
    images = as_floats(digits[0][:300])
    model = made("dct", latent=10)
    model.fit([images])
    found = dctn(images.double().numpy(), axes=(1, 2, 3), norm="ortho").reshape(300, -1)
    lost = np.sort(found.var(0))[:-10].sum() / 64
    assert functional.mse_loss(reconstructed(model, images), images).item() == pytest.approx(lost)


@pytest.mark.parametrize("latent", [5, 100])
def test_random_projections_decoder_is_the_least_squares_one(digits, latent):
    images = as_floats(digits[0][:300])
    model = made("random-projection", latent=latent)
    weight = model.encoder[1].weight.detach().clone()
    model.fit([images[:200], images[200:]])
    assert torch.equal(model.encoder[1].weight, weight)
    rows, codes = (
        images.flatten(1).double().numpy(),
        model.encoder(images).detach().double().numpy(),
    )
    bank = np.column_stack([codes, np.ones(300)])
    best = bank @ np.linalg.lstsq(bank, rows, rcond=1e-9)[0]
    decoded = reconstructed(model, images).flatten(1).numpy()
    np.testing.assert_allclose(decoded, best, atol=1e-4)
    if latent == 100:  # more than the pixels: nothing is lost
        np.testing.assert_allclose(decoded, rows, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 17, 13)])
def test_masked_is_shown_some_patches_and_asked_for_the_others_alone(shape):
    model = made("masked", shape, hidden=0.5)
    images = torch.rand(4, *shape, generator=torch.Generator().manual_seed(0))
    encode, shown = model.encoder.forward, []

    def reaches(loss):
        """Which pixels have a gradient."""
        (gradient,) = torch.autograd.grad(loss, pixels)
        return (gradient != 0).any(1)

    def forward(images, visible):
        shown.append(visible)
        return encode(images.detach(), visible)

    pixels = images.clone().requires_grad_()
    model.encoder.forward = forward
    asked = reaches(model.loss(pixels))  # as targets: what the encoder sees is cut off
    seen = reaches(encode(pixels, shown[0]).square().sum())
    assert (asked ^ seen).all() and 0.3 < asked.float().mean() < 0.7
    hidden = torch.where(asked[:, None], torch.rand(images.shape), images)
    assert torch.equal(encode(hidden, shown[0]), encode(images, shown[0]))
    assert reaches(encode(pixels).square().sum()).all()  # in use, it sees the whole image


def test_simclr_loss_falls_where_views_agree_and_views_differ(some):
    contrast, view = module("simclr").contrast, module("simclr").view
    torch.manual_seed(0)
    one, other = torch.randn(2, 20, 8)
    losses = [contrast(one, one + s * other, 0.2) for s in (0.0, 0.3, 1.0, 100.0)]
    assert losses == sorted(losses)
    for images in (some, some[:, :, :, :5].repeat(1, 3, 1, 1)):
        first, second = view(images), view(images)
        assert first.shape == images.shape and first.isfinite().all()
        assert (first - second).flatten(1).abs().amax(1).min() > 0.01  # of every image
        alike = functional.cosine_similarity(first.flatten(1), second.flatten(1)).mean()
        strange = functional.cosine_similarity(first.flatten(1), second.roll(1, 0).flatten(1))
        assert alike > strange.mean() + 0.05


def test_supervised_learns_from_labels_and_nothing_from_shuffled_ones(digits):
    images, labels, new, truth = digits
    shuffled = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    right = []
    for told in (labels, shuffled):
        model = made("supervised")
        fit_by_gradient(model, images, told, 0, RECIPE, FLOAT32)
        with torch.inference_mode():
            right.append(model.eval().loss(as_floats(new), truth)["right"].item())
    assert right[0] > 0.8 and right[1] < 0.4


# That each learns, through the command line


FEW = {"epochs": 2, "batch_size": 32, "horizontal_flip": False}
SIZE = {"latent": 8, "depth": 2}


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """A workspace with a run of every model of the zoo, and digits."""
    workspace = make(tmp_path_factory.mktemp("zoo") / "workspace")
    runs = {}
    for name in ZOO:
        size = {key: value for key, value in SIZE.items() if key in MODELS[name].arguments}
        runs[name] = {"model": name} | size | ({} if name in CLOSED else {"train": FEW})
    # Slower: after 2 epochs 0.6 of the mean image's MSE, and 0.77 of PCA's.
    runs["sparse"]["train"] = runs["pca-residual"]["train"] = FEW | {"epochs": 3}
    workspace.params(runs=runs)
    for stage in ("plan", "prepare"):
        workspace.run("aebench", stage)
    return workspace


def measured(workspace, name, *stages):
    """What the last stage of the command line says of the run."""
    for stage in stages:
        workspace.run("aebench", stage, name, "0")
    found = json.loads((workspace / f"results/{name}/0/{stages[-1]}.json").read_text())
    assert found["status"] == "ok"
    return found


@pytest.mark.parametrize("name", sorted(set(ZOO) - ALONE))
def test_it_learns_to_reconstruct(planned, digits, name):
    """More than the mean image: a half and more of the variance; and than what it was as built."""
    images, new = as_floats(digits[0]), as_floats(digits[2])
    mse = measured(planned, name, "train", "encode")["mse"]
    assert mse < 0.7 * (images.mean(0) - new).square().mean()
    if name not in CLOSED:
        untrained = made(name, **SIZE).eval()
        if hasattr(untrained, "fit"):
            untrained.fit([images])
        before = (reconstructed(untrained, new).clamp(0, 1) - new).square().mean()
        assert mse < 0.75 * before


@pytest.mark.parametrize("name", sorted(ALONE))
def test_it_learns_to_tell_classes(planned, digits, name):
    """By 0.15: more than five standard errors of 359 images."""
    images, labels, new, truth = digits
    untrained = made(name, **SIZE).eval()
    with torch.inference_mode():
        bank, asked = untrained.encoder(as_floats(images)), untrained.encoder(as_floats(new))
    nearest = torch.cdist(asked, bank).topk(10, largest=False).indices
    before = (labels[nearest].mode(1).values == truth).float().mean()
    assert measured(planned, name, "train", "encode", "knn")["accuracy"] > before + 0.15


# That its bits are its seed's


@pytest.mark.parametrize("name", ZOO)
def test_a_seed_decides_the_bits(digits, name):
    given = {k: v for k, v in {"latent": 8, "depth": 2}.items() if k in MODELS[name].arguments}
    recipe = RECIPE.model_copy(update={"epochs": 1})

    def weights(seed):
        data = digits[0][:64], digits[1][:64]  # 2 steps
        return trained(MODELS[name], (1, 8, 8), given, *data, seed, recipe, how=FLOAT32).weights

    first = weights(0)
    assert weights(0) == first
    if name != "dct":  # which draws nothing
        assert weights(1) != first
