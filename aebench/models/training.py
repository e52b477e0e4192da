"""Training by gradient: the loop."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from aebench.errors import Failure, author_line, first_line
from aebench.models.autoencoder import Autoencoder, Shape, kind
from aebench.models.batches import Stream
from aebench.models.closed_form import FLOAT32, begin
from aebench.models.device import FORMATS, Execution, deterministic, exact_float32
from aebench.models.execution import execution
from aebench.models.finish import Epoch, Trained, finished
from aebench.models.group import Group
from aebench.models.losses import reconstruction_loss
from aebench.models.optimizers import (
    SHAMPOO_SIDES,
    SHORT_SIDE,
    fused_adamw,
    multiplying,
    muon,
    shampoo,
)
from aebench.models.own_loop import own_loop
from aebench.models.signatures import asked, is_closed_form, learns_from_labels, method
from aebench.models.snapshot import State
from aebench.models.start import started
from aebench.schema import Recipe
from aebench.surroundings import torch_restored
from aebench.timing import Stopwatch

if TYPE_CHECKING:
    from aebench.models.resume import Resume
    from aebench.plugins import Model
    from aebench.records.plan import Untrained

WARM_UP = 0.05  # of all steps: the learning rate rises linearly, then falls linearly to 0


def trained(
    model: "Model",
    shape: Shape,
    arguments: dict[str, Any],
    images: Tensor,
    labels: Tensor,
    seed: int,
    recipe: "Recipe | Untrained",
    checkpoint: Path | None = None,
    how: Execution | None = None,
    resume: "Resume | None" = None,
    group: Group | None = None,
) -> Trained:
    """The model, built and trained. `images` uint8 (N, C, H, W), `labels` int64 (N,).

    `checkpoint`: the state dict that it begins with. `how`: on what and in which precision; what
    the rule says for this machine unless given. `resume`: where a long training by the recipe is
    kept from being lost. `group`: of which this process is one; each returns the same. Failure for
    a loss or weights that are not finite and for a broken contract.
    """
    deterministic()
    autoencoder = started(model, shape, arguments, images, seed)
    stopwatch = Stopwatch()
    begun = begin(autoencoder, images, labels, checkpoint)
    curve: list[Epoch] = []
    if is_closed_form(autoencoder):
        how = FLOAT32
    else:
        how = how or execution(autoencoder)
        if method(autoencoder, "optimize"):  # what it multiplies in bfloat16 is its own affair
            how = dataclasses.replace(how, precision="float32")
        if isinstance(recipe, Recipe):
            learnt_from = labels if learns_from_labels(autoencoder) else None
            begun = begun._replace(labels_seen=begun.labels_seen or learnt_from is not None)
            curve = fit_by_gradient(
                autoencoder, images, learnt_from, seed, recipe, how, stopwatch, resume, group
            )
    autoencoder.to("cpu").to(memory_format=torch.contiguous_format)
    used = stopwatch.read()
    return finished(autoencoder, model, shape, arguments, images, how, used, begun, curve)


def fit_by_gradient(
    autoencoder: Autoencoder,
    images: Tensor,
    labels: Tensor | None,
    seed: int,
    recipe: Recipe,
    how: Execution,
    stopwatch: Stopwatch | None = None,
    resume: "Resume | None" = None,
    group: Group | None = None,
) -> list[Epoch]:
    """Train by the model's own loop, or by the recipe. What each epoch came to.

    `images` uint8 (N, C, H, W); `labels` int64 (N,), where the model asks for them; `stopwatch`:
    of the whole training. Failure for a loss that is not finite, and for a parameter that no step
    is made for.
    """
    if how.precision == "float32":
        exact_float32()
    stream = Stream(images, labels, seed, recipe, how, group)
    autoencoder.to(how.device).to(memory_format=FORMATS[how.memory_format]).train()
    stream.whole = stopwatch or stream.whole
    with torch_restored():
        if method(autoencoder, "optimize"):
            own_loop(autoencoder, stream)
        else:
            by_recipe(autoencoder, stream, resume)
    return stream.curve


def by_recipe(autoencoder: Autoencoder, stream: Stream, resume: "Resume | None" = None) -> None:
    """Muon and Shampoo for matrices, AdamW for the rest; linear warm-up, then linear decay to 0.

    On what `loss` gives, or the mean squared error. It goes on where `resume` has an earlier,
    killed process's state of it, and ends in the bits that this one would have ended in.
    """
    recipe, how, steps = stream.recipe, stream.how, len(stream)
    warm_up = max(1, round(WARM_UP * steps))
    parameters = trainable(autoencoder)
    decaying = multiplying(autoencoder)
    sides = {p: min(p.flatten(1).shape) for p in decaying if p.requires_grad}
    momenta = {
        p: torch.zeros_like(p)
        for p, side in sides.items()
        if side <= SHORT_SIDE or side in SHAMPOO_SIDES
    }
    grams = {
        p: (p.new_zeros(sides[p], sides[p]), p.new_zeros(sides[p], sides[p]))
        for p in momenta
        if sides[p] in SHAMPOO_SIDES
    }
    # The count is where the weights are, or the fused step refuses it on a GPU.
    moments = {
        p: (torch.zeros_like(p), torch.zeros_like(p), torch.zeros((), device=p.device))
        for p in parameters
        if p not in momenta
    }
    adamw = [
        (recipe.weight_decay, {p: state for p, state in moments.items() if p in decaying}),
        (0.0, {p: state for p, state in moments.items() if p not in decaying}),
    ]
    names = asked(autoencoder, "loss")
    loss = partial(reconstruction_loss, autoencoder)
    state = State(autoencoder, stream, momenta, grams, moments)
    group = stream.group
    if group:
        group.share(state.tensors().values())
        group.seed(stream.seed)
        loss = group.averaging(autoencoder) if parameters else loss
    if resume:
        resume.begin(state)
    for done, (images, labels) in enumerate(stream, stream.done):
        offered = {"labels": labels, "progress": done / max(1, steps - 1)}
        given = {name: offered[name] for name in names}
        with hinting(how):
            with torch.autocast(how.device, torch.bfloat16, how.precision == "bfloat16"):
                found = loss(images, **given)
            if not found["loss"].requires_grad:
                raise Failure("the loss depends on no parameter: there is nothing to train")
            found["loss"].backward()
        decay = (done - warm_up) / max(1, steps - warm_up)
        share = min((done + 1) / warm_up, 1 - decay)
        with torch.no_grad():
            for p, momentum in momenta.items():
                if p.grad is None:
                    continue
                rate, weight_decay = share * recipe.muon_learning_rate, recipe.weight_decay
                if p in grams:
                    shampoo(p, p.grad, momentum, *grams[p], done, rate, weight_decay)
                else:
                    muon(p, p.grad, momentum, rate, weight_decay)
            for weight_decay, those in adamw:
                fused_adamw(those, share * recipe.learning_rate, weight_decay)
        for p in parameters:
            p.grad = None
        stream.log(found)
        if group and done == 0:  # not only at the end, which may be hours away
            group.check_alike(state.digests())
        if resume and resume.is_due(done, group):
            with stream.untimed():
                resume.save(state)
    stream.close()
    if group:
        group.check_alike(state.digests())
    check_all_trained(autoencoder, parameters)


@contextlib.contextmanager
def hinting(how: Execution) -> Iterator[None]:
    """Failure with the way out where an operation refuses bfloat16."""
    try:
        yield
    except RuntimeError as error:
        if how.precision != "bfloat16" or "bfloat16" not in str(error).lower():
            raise
        raise Failure(
            f"{first_line(error)}{author_line(error)}; loss runs under bfloat16 autocast where "
            "that is faster: what it mixes needs .float()"
        ) from None


def check_all_trained(autoencoder: Autoencoder, trained: Sequence[nn.Parameter]) -> None:
    """Failure for a parameter that the optimizers were not given, as it was not there to train."""
    known = set(map(id, trained))
    new = [n for n, p in autoencoder.named_parameters() if p.requires_grad and id(p) not in known]
    if new:
        raise Failure(
            f"{', '.join(new[:3])} became trainable during training and was not trained; allowed: "
            "parameters that are made, and require gradients, in build"
        )


def trainable(autoencoder: Autoencoder) -> list[nn.Parameter]:
    """The parameters that require gradients. Failure for a type that no step is made for."""
    found = {n: p for n, p in autoencoder.named_parameters() if p.requires_grad}
    for name, parameter in found.items():
        if parameter.dtype not in (torch.float32, torch.float64):
            got = f"parameter {name} is {kind(parameter)}"
            raise Failure(f"{got}; allowed: float32, or not to be trained")
    return list(found.values())
