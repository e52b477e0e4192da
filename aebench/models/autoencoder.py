"""The plug-in contract: build an autoencoder and check what it promises."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import torch
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
    """A freshly initialised model that kept its contract for two images.

    Failure where it did not; whatever `build` raises passes through.
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
        raise Failure(
            f"{where}: build returned {type(built).__name__}, expected (encoder, decoder) "
            "or an nn.Module with .encoder and .decoder"
        )
    autoencoder = cast(Autoencoder, built)  # it has the two halves
    check_contract(autoencoder, shape, arguments.get("latent"), where)
    return autoencoder


@torch.no_grad()
def check_contract(autoencoder: Autoencoder, shape: Shape, latent: int | None, where: str) -> None:
    """Failure unless images -> codes (B, latent) -> images keep their shapes."""
    autoencoder.eval()
    images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    codes = autoencoder.encoder(images)
    expected = f"(2, {latent or 'latent'})"
    whole = isinstance(codes, Tensor) and codes.ndim == 2
    if not whole or codes.shape != (2, latent or codes.shape[-1]):
        raise Failure(f"{where}: encoder returned {words(codes)} for 2 images, expected {expected}")
    decoded = autoencoder.decoder(codes)
    if not isinstance(decoded, Tensor) or decoded.shape != images.shape:
        raise Failure(
            f"{where}: decoder returned {words(decoded)} for 2 codes, "
            f"expected {tuple(images.shape)}"
        )


def words(value: Any) -> str:
    """The shape of a tensor, the type of anything else."""
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__


def reconstruction_loss(autoencoder: Autoencoder, images: Tensor) -> Tensor:
    """The model's own loss, or the mean squared error over all elements."""
    own = getattr(autoencoder, "loss", None)
    if callable(own):
        return cast(Tensor, own(images))
    return nn.functional.mse_loss(autoencoder.decoder(autoencoder.encoder(images)), images)


def as_floats(images: Tensor) -> Tensor:
    """uint8 in [0, 255] -> float32 in [0, 1], the same shape."""
    return images.float().div_(255)


def encodes_pixels(autoencoder: Autoencoder) -> bool:
    """Whether the codes are the pixels themselves: they are then not stored a second time."""
    return isinstance(autoencoder.encoder, nn.Flatten | nn.Identity)
