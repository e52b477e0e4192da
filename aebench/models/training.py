"""Training by gradient: the loop."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from aebench.errors import Failure, author_line, first_line
from aebench.models.autoencoder import (
    Autoencoder,
    Shape,
    as_floats,
    reconstruction_loss,
)
from aebench.models.closed_form import fit
from aebench.models.device import FORMATS, Execution, deterministic
from aebench.models.execution import execution
from aebench.models.finish import Trained, finished
from aebench.models.optimizers import SHORT_SIDE, fused_adamw, muon
from aebench.models.start import started
from aebench.progress import bar, say_epoch
from aebench.schema import Recipe
from aebench.timing import Stopwatch, Usage

if TYPE_CHECKING:
    from aebench.plugins import Model
    from aebench.records.plan import Untrained

WARM_UP = 0.05  # of all steps: the learning rate rises linearly, then falls linearly to 0


def trained(
    model: "Model",
    shape: Shape,
    arguments: dict[str, Any],
    images: Tensor,
    seed: int,
    recipe: "Recipe | Untrained",
) -> Trained:
    """The model, built and trained. `images` uint8 (N, C, H, W).

    Failure for a loss or weights that are not finite and for a broken contract.
    """
    deterministic()
    autoencoder = started(model, shape, arguments, images, seed)
    # Of a model that is not registered as the class that has it.
    if getattr(autoencoder, "fit", None) is not None:
        return fit(autoencoder, model, shape, arguments, images)
    how = execution(autoencoder)
    stopwatch = Stopwatch()
    curve = []
    if isinstance(recipe, Recipe):
        try:
            curve = fit_by_gradient(autoencoder, images, seed, recipe, how)
        except RuntimeError as error:
            if how.precision != "bfloat16" or "bfloat16" not in str(error).lower():
                raise
            raise Failure(
                f"{first_line(error)}{author_line(error)}; loss runs under bfloat16 autocast where "
                "that is faster: what it mixes needs .float()"
            ) from None
    autoencoder.to("cpu").to(memory_format=torch.contiguous_format)
    return finished(autoencoder, model, shape, arguments, images, how, stopwatch.read(), curve)


def fit_by_gradient(
    autoencoder: Autoencoder, images: Tensor, seed: int, recipe: Recipe, how: Execution
) -> list[tuple[float, Usage]]:
    """The training loop. Mean loss and time of each epoch.

    Muon for the matrices, AdamW for the rest; linear warm-up, then linear decay to 0. An epoch is
    every image once in a new random order; the images that do not fill a last batch are left out
    of it, other ones each time. `images` uint8 (N, C, H, W). Failure for a loss that is not finite.
    """
    epochs = recipe.epochs
    batch_size = min(recipe.batch_size, len(images))
    steps = len(images) // batch_size
    warm_up = max(1, round(WARM_UP * epochs * steps))
    images = images.to(how.device)  # once: 150 MB for CIFAR-10, and no copy on a CPU
    autoencoder.to(how.device).to(memory_format=FORMATS[how.memory_format]).train()
    parameters = trainable(autoencoder)
    matrices = [p for p in parameters if p.ndim > 1 and min(p.flatten(1).shape) <= SHORT_SIDE]
    momenta = {p: torch.zeros_like(p) for p in matrices}
    # The count is where the weights are, or the fused step refuses it on a GPU.
    moments = {
        p: (torch.zeros_like(p), torch.zeros_like(p), torch.zeros((), device=p.device))
        for p in parameters
        if p not in momenta
    }
    random = np.random.default_rng(seed)
    curve: list[tuple[float, Usage]] = []
    for epoch in range(1, epochs + 1):
        stopwatch = Stopwatch()
        shuffled = torch.from_numpy(random.permutation(len(images))).to(how.device)
        total = torch.zeros((), device=how.device)
        for step in bar(range(steps), f"epoch {epoch}/{epochs}"):
            # uint8 until here: 1/4 of the bytes, and no DataLoader, which takes 10 ms a batch.
            batch = as_floats(images[shuffled[step * batch_size : (step + 1) * batch_size]])
            if recipe.horizontal_flip and random.integers(2):
                batch = batch.flip(-1)
            batch = batch.contiguous(memory_format=FORMATS[how.memory_format])
            with torch.autocast(how.device, torch.bfloat16, how.precision == "bfloat16"):
                loss = reconstruction_loss(autoencoder, batch)
            if not loss.requires_grad:
                raise Failure("the loss depends on no parameter: there is nothing to train")
            loss.backward()
            done = (epoch - 1) * steps + step
            decay = (done - warm_up) / max(1, epochs * steps - warm_up)
            share = min((done + 1) / warm_up, 1 - decay)
            with torch.no_grad():
                for p, momentum in momenta.items():
                    if p.grad is not None:
                        rate = share * recipe.muon_learning_rate
                        muon(p, p.grad, momentum, rate, recipe.weight_decay)
                fused_adamw(moments, share * recipe.learning_rate, recipe.weight_decay)
            for p in parameters:
                p.grad = None
            total += loss.detach()  # read once an epoch: a GPU is not waited for at each step
        mean, used = total.item() / steps, stopwatch.read()
        curve.append((mean, used))
        if not math.isfinite(mean):
            raise Failure(f"the loss is {mean} in epoch {epoch}")
        say_epoch(epoch, epochs, mean, used.seconds)
    check_all_trained(autoencoder, parameters)
    return curve


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
            kind = str(parameter.dtype).removeprefix("torch.")
            raise Failure(f"parameter {name} is {kind}; allowed: float32, or not to be trained")
    return list(found.values())
