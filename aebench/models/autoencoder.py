"""Build an autoencoder, and what it is trained on."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, nn

from aebench.errors import Failure

if TYPE_CHECKING:
    from aebench.plugins import Model

Shape = tuple[int, int, int]


class Autoencoder(nn.Module):
    """The two halves of a plug-in that returns `(encoder, decoder)`."""

    encoder: nn.Module
    decoder: nn.Module
    shape: Shape  # (C, H, W), of a loaded one

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder


def build_autoencoder(model: "Model", shape: Shape, arguments: Mapping[str, Any]) -> Autoencoder:
    """A freshly initialised model with two halves.

    Failure where one is missing; whatever `build` raises passes through.
    """
    where = f"{model.plugin.name}: model {model.name!r}"
    built = model.build(shape, **arguments)
    if (
        isinstance(built, tuple)
        and len(built) == 2
        and all(isinstance(b, nn.Module) for b in built)
    ):
        built = Autoencoder(*built)
    halves = [getattr(built, half, None) for half in ("encoder", "decoder")]
    if not isinstance(built, nn.Module) or not all(isinstance(h, nn.Module) for h in halves):
        kinds = " and ".join(type(half).__name__ for half in halves)
        raise Failure(
            f"{where}: build returned {type(built).__name__} with encoder and decoder {kinds}; "
            "allowed: (encoder, decoder), or an nn.Module with these, each an nn.Module"
        )
    return cast(Autoencoder, built)  # it has the two halves


def reconstruction_loss(autoencoder: Autoencoder, images: Tensor) -> Tensor:
    """The model's own loss, or the mean squared error over all elements.

    Failure for a loss of its own that is no scalar to learn from.
    """
    own = getattr(autoencoder, "loss", None)
    if own is None:
        # The encoder gets a copy: one that works in place would change what it is judged by.
        decoded = autoencoder.decoder(autoencoder.encoder(images.clone()))
        return nn.functional.mse_loss(decoded, images)
    loss = own(images)
    if not isinstance(loss, Tensor):
        raise Failure(f"loss returned {type(loss).__name__}, expected a scalar tensor")
    if loss.ndim or not loss.is_floating_point():
        kind = str(loss.dtype).removeprefix("torch.")
        raise Failure(f"the loss has shape {tuple(loss.shape)} and type {kind}, expected a scalar")
    return loss


def as_floats(images: Tensor) -> Tensor:
    """uint8 in [0, 255] -> float32 in [0, 1], the same shape."""
    return images.float().div_(255)


def encodes_pixels(autoencoder: Autoencoder) -> bool:
    """Whether the codes are the pixels themselves: they are then not stored a second time."""
    encoder = autoencoder.encoder
    hooked = encoder._forward_hooks or encoder._forward_pre_hooks
    return type(encoder) in (nn.Flatten, nn.Identity) and not hooked
