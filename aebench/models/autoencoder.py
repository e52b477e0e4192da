"""Build an autoencoder, and what it is trained on."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from aebench.errors import Failure
from aebench.models.signatures import method
from aebench.schema import LONGEST

if TYPE_CHECKING:
    from aebench.plugins import Model

Shape = tuple[int, int, int]


class Autoencoder(nn.Module):
    """The two halves of a plug-in that returns `(encoder, decoder)`."""

    encoder: nn.Module
    decoder: nn.Module | None  # None: an encoder alone
    shape: Shape  # (C, H, W), of a loaded one

    def __init__(self, encoder: nn.Module, decoder: nn.Module | None) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder


def build_autoencoder(model: "Model", shape: Shape, arguments: Mapping[str, Any]) -> Autoencoder:
    """A freshly initialised model with an encoder and a decoder, which may be None.

    Failure where one is missing; whatever `build` raises passes through.
    """
    where = f"{model.plugin.name}: model {model.name!r}"
    built = model.build(shape, **arguments)
    if (
        isinstance(built, tuple)
        and len(built) == 2
        and isinstance(built[0], nn.Module)
        and isinstance(built[1], nn.Module | None)
    ):
        built = Autoencoder(*built)
    # One that is not there is no None: it may have been forgotten, or be called otherwise.
    encoder, decoder = getattr(built, "encoder", None), getattr(built, "decoder", MISSING)
    if not (
        isinstance(built, nn.Module)
        and isinstance(encoder, nn.Module)
        and isinstance(decoder, nn.Module | None)
    ):
        kinds = " and ".join(
            "missing" if half is MISSING else type(half).__name__ for half in (encoder, decoder)
        )
        raise Failure(
            f"{where}: build returned {type(built).__name__} with encoder and decoder {kinds}; "
            "allowed: (encoder, decoder), or an nn.Module with these, each an nn.Module, or the "
            "decoder None: it does not reconstruct"
        )
    return cast(Autoencoder, built)  # it has the two halves


MISSING = object()


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
            kind = type(value).__name__
            raise Failure(f"{hook} returned {kind}{what}, expected a scalar tensor")
        elif value.ndim or value.is_complex() or (learnt and not value.is_floating_point()):
            kind = str(value.dtype).removeprefix("torch.")
            shape = tuple(value.shape)
            raise Failure(f"the {name} has shape {shape} and type {kind}, expected a scalar")
    return named


def as_floats(images: Tensor) -> Tensor:
    """uint8 in [0, 255] -> float32 in [0, 1], the same shape."""
    return images.float().div_(255)


def encodes_pixels(autoencoder: Autoencoder) -> bool:
    """Whether the codes are the pixels themselves: they are then not stored a second time."""
    encoder = autoencoder.encoder
    hooked = encoder._forward_hooks or encoder._forward_pre_hooks
    return type(encoder) in (nn.Flatten, nn.Identity) and not hooked
