"""Build an autoencoder, and what its halves give."""

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
    encoder, decoder = getattr(built, "encoder", MISSING), getattr(built, "decoder", MISSING)
    if not (
        isinstance(built, nn.Module)
        and isinstance(encoder, nn.Module)
        and isinstance(decoder, nn.Module | None)
    ):
        got = type(built).__name__
        if isinstance(built, tuple):
            got += f" of {', '.join(type(part).__name__ for part in built)}"
        elif isinstance(built, nn.Module):
            halves = ("missing" if h is MISSING else type(h).__name__ for h in (encoder, decoder))
            got += f" with encoder and decoder {' and '.join(halves)}"
        raise Failure(
            f"{where}: build returned {got}; allowed: (encoder, decoder), or an nn.Module with "
            "these, each an nn.Module, or the decoder None: it does not reconstruct"
        )
    return cast(Autoencoder, built)  # it has the two halves


MISSING = object()


def expect(found: Any, half: str, shape: tuple[int | None, ...]) -> Tensor:
    """What a half returned: a float32 tensor of the shape, in which None is any number.

    Failure for anything else.
    """
    if isinstance(found, Tensor) and found.dtype == torch.float32 and found.ndim == len(shape):
        sizes = zip(found.shape, shape, strict=True)
        if all(allowed is None or size == allowed for size, allowed in sizes):
            return found
    known = ", ".join("latent" if size is None else str(size) for size in shape)
    given = "images" if half == "encoder" else "codes"
    told = f"{half} returned {words(found)} for {shape[0]} {given}, expected ({known})"
    raise Failure(f"{told}; {way_out(found, half, len(shape))}")


def way_out(found: Any, half: str, ndim: int) -> str:
    """How to mend what a half returned."""
    what = "codes" if half == "encoder" else "images"
    if not isinstance(found, Tensor):
        return f"return the {what} alone; what only training needs is computed in loss"
    if found.dtype != torch.float32:
        return "end it with .float()"
    if found.ndim > ndim:
        return "end it with nn.Flatten()"
    return f"{what} of this shape come from layers made for the shape that build is given"


def words(value: Any) -> str:
    """Of a tensor its shape, and its type if that is none to be expected; else what it is."""
    if not isinstance(value, Tensor):
        return f"{type(value).__name__}, no tensor,"
    other = "" if value.dtype == torch.float32 else f" of {kind(value)}, not float32,"
    return f"{tuple(value.shape)}{other}"


def kind(tensor: Tensor) -> str:
    """The type of its numbers: `float16`."""
    return str(tensor.dtype).removeprefix("torch.")


def as_floats(images: Tensor) -> Tensor:
    """uint8 in [0, 255] -> float32 in [0, 1], the same shape."""
    return images.float().div_(255)


def encodes_pixels(autoencoder: Autoencoder) -> bool:
    """Whether the codes are the pixels themselves: they are then not stored a second time."""
    encoder = autoencoder.encoder
    altered = encoder._forward_hooks or encoder._forward_pre_hooks or "forward" in vars(encoder)
    return type(encoder) in (nn.Flatten, nn.Identity) and not altered
