"""What every model promises, as named checks: of one fresh from `build`, and of a trained one."""

import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from aebench.errors import Failure
from aebench.models.autoencoder import Autoencoder, as_floats
from aebench.models.signatures import OFFERED, check_method
from aebench.records.train import BASELINES

if TYPE_CHECKING:
    from aebench.plugins import Model

FEW = 8  # training images that a check looks at


@dataclass(frozen=True)
class Candidate:
    """A model under check, in eval mode. One fresh from `build` is thrown away afterwards.

    `images` float32 (n, C, H, W) in [0, 1]: of the training set; `latent`: floats that a code must
    have, None where the model chooses; `rebuilt`: of a trained model, makes the one that later
    stages compute with, built anew and given the weights.
    """

    autoencoder: Autoencoder
    images: Tensor
    latent: int | None
    rebuilt: Callable[[], Autoencoder] | None = None


def checks(candidate: Candidate) -> Iterator[tuple[str, Callable[[], None]]]:
    """Name and call of each check; a call raises Failure: what was got, what is allowed, the fix.

    An exception of the model's own passes through.
    """
    for check in (*ALWAYS, *(TRAINED if candidate.rebuilt else ())):
        yield check.__name__, partial(check, candidate)


def check_contract(model: "Model", candidate: Candidate) -> None:
    """Failure that names the plug-in and its model, for the first check that does not hold."""
    candidate.autoencoder.eval()
    for _, check in checks(candidate):
        try:
            check()
        except Failure as failure:
            where = f"{model.plugin.name}: model {model.name!r}"
            raise Failure(f"{where}: {failure}") from None


def few(images: Tensor) -> Tensor:
    """Some of uint8 (N, C, H, W), from the first to the last, as float32 (n, C, H, W)."""
    return as_floats(images[:: max(1, len(images) // FEW)][:FEW])


def methods(candidate: Candidate) -> None:
    """`loss`, `fit` and `optimize` are methods that ask for what there is."""
    for name in OFFERED:
        check_method(candidate.autoencoder, name)


def codes(candidate: Candidate) -> None:
    """The encoder gives float32 (B, latent)."""
    encode(candidate.autoencoder, candidate)


def reconstructions(candidate: Candidate) -> None:
    """The decoder gives float32 images of the shape that went in."""
    reconstruct(candidate.autoencoder, candidate)


def repeatable(candidate: Candidate) -> None:
    """Asked again, it gives the same: nothing in eval mode is random."""
    for what, run in OUTPUTS.items():
        first, second = (run(candidate.autoencoder, candidate) for _ in range(2))
        if not same(first, second):
            raise Failure(
                f"other {what} of the same images when asked again{by(first, second)}; draw "
                "random numbers, and change what it keeps, in training mode alone (self.training)"
            )


def unchanged_by_use(candidate: Candidate) -> None:
    """In eval mode it changes no parameter and no buffer."""
    model = candidate.autoencoder
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    reconstruct(model, candidate)
    after = model.state_dict()
    changed = [name for name in before if not same(before[name], after[name])]
    if changed:
        raise Failure(
            f"in eval mode it changes {', '.join(changed[:3])}; allowed in training mode alone: "
            "ask self.training"
        )


def reloadable(candidate: Candidate) -> None:
    """Built anew and given the weights, it computes the same bits."""
    assert candidate.rebuilt
    # First: building another one may reset what the two share.
    expected = {what: run(candidate.autoencoder, candidate) for what, run in OUTPUTS.items()}
    rebuilt = candidate.rebuilt()
    for what, trained in expected.items():
        again = OUTPUTS[what](rebuilt, candidate)
        if not same(trained, again):
            lost = lost_attributes(candidate.autoencoder, rebuilt)
            kept = f"not in the weights: {', '.join(lost[:3])}" if lost else "some state is lost"
            raise Failure(
                f"built again from its weights it gives other {what}{by(trained, again)}; {kept}; "
                "keep all state in parameters and buffers (register_buffer)"
            )


def note(candidate: Candidate) -> None:
    """`note` is a str, where there is one."""
    found = getattr(candidate.autoencoder, "note", None)
    if found is not None and not isinstance(found, str):
        raise Failure(f"note is {type(found).__name__}; allowed: str")


def baseline(candidate: Candidate) -> None:
    """`baseline` is a known one, where there is one."""
    found = getattr(candidate.autoencoder, "baseline", None)
    if found not in (None, *BASELINES):
        raise Failure(f"baseline is {found!r}; allowed: {', '.join(BASELINES)}, or none")


ALWAYS = (methods, codes, reconstructions, repeatable)
# Fresh from `build`, a model may take its scales from the first images it sees, in any mode.
TRAINED = (unchanged_by_use, reloadable, note, baseline)


@torch.no_grad()
def encode(autoencoder: Autoencoder, candidate: Candidate) -> Tensor:
    """The codes of the candidate's images. Failure for what are none."""
    found = autoencoder.encoder(candidate.images.clone())
    return expect(found, "encoder", (len(candidate.images), candidate.latent))


@torch.no_grad()
def reconstruct(autoencoder: Autoencoder, candidate: Candidate) -> Tensor:
    """The reconstructions of the candidate's images. Failure for what are none."""
    decoded = autoencoder.decoder(encode(autoencoder, candidate))
    return expect(decoded, "decoder", candidate.images.shape)


OUTPUTS = {"codes": encode, "reconstructions": reconstruct}


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
    raise Failure(f"{half} returned {words(found)} for {shape[0]} {given}, expected ({known})")


def words(value: Any) -> str:
    """Of a tensor its shape, and its type if that is none to be expected; else what it is."""
    if not isinstance(value, Tensor):
        return f"{type(value).__name__}, no tensor,"
    kind = str(value.dtype).removeprefix("torch.")
    return f"{tuple(value.shape)}" + ("" if kind == "float32" else f" of {kind}, not float32,")


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold equal values; NaN equals NaN."""
    fits = one.shape == other.shape and one.dtype == other.dtype
    return fits and torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)


def by(one: Tensor, other: Tensor) -> str:
    """How far apart they are, in words."""
    if one.shape != other.shape:
        return f": {tuple(one.shape)} and {tuple(other.shape)}"
    return f", by up to {(one - other).abs().max():.2g}"


def lost_attributes(trained: nn.Module, rebuilt: nn.Module) -> list[str]:
    """Names of attributes and buffers outside the state dict in which the two differ."""
    others = dict(rebuilt.named_modules())
    return [
        f"{path}.{name}".lstrip(".")
        for path, module in trained.named_modules()
        for name, value in outside_state(module).items()
        if path in others and differ(value, outside_state(others[path]).get(name))
    ]


def outside_state(module: nn.Module) -> dict[str, Any]:
    """The module's own attributes, and its buffers that are not persistent."""
    own = {name: value for name, value in vars(module).items() if name not in vars(nn.Module())}
    passing = module._non_persistent_buffers_set
    return own | {n: b for n, b in module.named_buffers(recurse=False) if n in passing}


def differ(one: Any, other: Any) -> bool:
    """Whether two attributes of any type hold other values, as far as pickle can tell."""
    try:
        return pickle.dumps(one) != pickle.dumps(other)
    except Exception:  # whatever the attribute's own code raises: a function, a lock
        return False
