"""What a model is trained on: its own loss, or the mean squared error."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from aebench.errors import Failure
from aebench.models.autoencoder import Autoencoder, kind
from aebench.models.signatures import method
from aebench.schema import LONGEST


def reconstruction_loss(
    autoencoder: Autoencoder, images: Tensor, **given: Any
) -> dict[str, Tensor]:
    """What the model's own loss gives, or the mean squared error over all elements, as `loss`.

    `given`: what its signature asks for. Failure for what is no scalar to learn from.
    """
    if (own := method(autoencoder, "loss")) is not None:
        return scalars(own(images, **given), "loss")
    if autoencoder.decoder is None:
        raise Failure(
            "there is nothing to train on: no decoder, and no loss of its own; give the model a "
            "loss, fit or optimize, or the run `train: {epochs: 0}`"
        )
    # The encoder gets a copy: one that works in place would change what it is judged by.
    decoded = autoencoder.decoder(autoencoder.encoder(images.clone()))
    return {"loss": nn.functional.mse_loss(decoded, images)}


def scalars(found: Any, hook: str) -> dict[str, Tensor]:
    """What a loss gave, by name: `loss`, and what is drawn beside it.

    Failure for what is no scalar tensor, and for a dict of such without "loss".
    """
    named = dict(found) if isinstance(found, Mapping) else {"loss": found}
    if "loss" not in named:
        names = ", ".join(map(repr, named)) or "nothing"
        raise Failure(
            f"{hook} gave {names}; allowed: a scalar tensor, or a dict with one as 'loss'"
        )
    for name, value in named.items():
        if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= LONGEST:
            text = f"1 to {LONGEST} printable characters"
            raise Failure(f"{hook} gave a scalar called {name!r:.{LONGEST}}; allowed: {text}")
        learnt = name == "loss" and hook == "loss"  # else it is shown alone: a number will do
        if not learnt and isinstance(value, int | float):
            named[name] = torch.tensor(float(value))
        elif not isinstance(value, Tensor):
            what = "" if name == "loss" else f" as {name!r}"
            got = type(value).__name__
            raise Failure(f"{hook} returned {got}{what}, expected a scalar tensor")
        elif value.ndim or value.is_complex() or (learnt and not value.is_floating_point()):
            got = f"shape {tuple(value.shape)} and type {kind(value)}"
            raise Failure(f"the {name} has {got}, expected a scalar")
    return named
