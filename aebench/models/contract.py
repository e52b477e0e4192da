"""What every model promises, as named checks: of one fresh from `build`, and of a trained one.

In eval mode each half is a function of its input and its weights alone.
"""

import contextlib
import math
import pickle
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from aebench.errors import Failure, author_line, first_line, is_machine_failure
from aebench.models.autoencoder import Autoencoder, as_floats, expect
from aebench.models.rounding import EXEMPT, TOLERANCE, spread, tolerance
from aebench.models.signatures import OFFERED, check_method, is_closed_form
from aebench.records.train import BASELINES
from aebench.surroundings import restored

if TYPE_CHECKING:
    from aebench.plugins import Model

FEW = 8  # images: enough for the form of what comes out, and to be alone in turn


class Half(NamedTuple):
    """One half, and what it gave for the images that are looked at."""

    name: str
    inputs: str  # in words
    outputs: str
    run: "Callable[[Autoencoder, Candidate, Tensor], Tensor]"
    given: Tensor  # float32 (n, ...)
    found: Tensor  # float32 (n, ...)


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

    @property
    def few(self) -> Tensor:
        """Some of the images, from the first to the last."""
        return self.images[:: max(1, len(self.images) // FEW)][:FEW]

    @cached_property
    def halves(self) -> list[Half]:
        """The encoder, and the decoder if there is one. Computed when it is first asked for."""
        codes = encode(self.autoencoder, self, self.images)
        found = [Half("encoder", "images", "codes", encode, self.images, codes)]
        if self.autoencoder.decoder is not None:
            decoded = decode(self.autoencoder, self, codes)
            found.append(Half("decoder", "codes", "reconstructions", decode, codes, decoded))
        return found


def checks(candidate: Candidate) -> Iterator[tuple[str, Callable[[], None]]]:
    """Name and call of each check; a call raises Failure: what was got, what is allowed, the fix.

    To be called in this order. An exception of the model's own passes through.
    """
    for check in TRAINED if candidate.rebuilt else FRESH:
        yield check.__name__, partial(check, candidate)


def check_contract(model: "Model", candidate: Candidate) -> None:
    """Failure that names the plug-in and its model, for the first check that does not hold.

    What the model changes of the process meanwhile is undone.
    """
    candidate.autoencoder.eval()
    for name, check in checks(candidate):
        try:
            with restored():
                check()
        except Failure as failure:
            where = f"{model.plugin.name}: model {model.name!r}"
            # What the others found tells by itself what they are about.
            named = f"{name}: " if name in {pure.__name__ for pure in PURE} else ""
            told = Failure(f"{where}: {named}{failure}")
            told.check = name
            raise told from None


def few(images: Tensor) -> Tensor:
    """What to look at of uint8 (N, C, H, W), from the first to the last: float32 (n, C, H, W)."""
    return as_floats(images[spread(len(images))])


def methods(candidate: Candidate) -> None:
    """`loss`, `fit` and `optimize` are methods that ask for what there is."""
    for name in OFFERED:
        check_method(candidate.autoencoder, name)


def codes(candidate: Candidate) -> None:
    """The encoder gives float32 (B, latent)."""
    encode(candidate.autoencoder, candidate, candidate.few)


def reconstructions(candidate: Candidate) -> None:
    """The decoder, if there is one, gives float32 images of the shape that went in."""
    model = candidate.autoencoder
    found = encode(model, candidate, candidate.few)
    if model.decoder is not None:
        decode(model, candidate, found)


def unchanged_by_use(candidate: Candidate) -> None:
    """In eval mode it changes no parameter and no buffer."""
    before = {name: tensor.clone() for name, tensor in state(candidate.autoencoder)}
    reconstructions(candidate)
    changed = before.keys() ^ {name for name, _ in state(candidate.autoencoder)}
    for name, tensor in state(candidate.autoencoder):
        if name in before and not same(before[name], tensor):
            changed.add(name)
    if changed:
        raise Failure(
            f"in eval mode it changes {', '.join(sorted(changed)[:3])}; allowed in training mode "
            "alone: ask self.training"
        )


def finite(candidate: Candidate) -> None:
    """Codes and reconstructions hold no NaN and no infinity.

    A model that fits itself may hold anything before it does.
    """
    own = [getattr(candidate.autoencoder, name, None) for name in ("fit", "optimize")]
    if own != [None, None] and candidate.rebuilt is None:
        return
    for half in candidate.halves:
        wrong = int((~half.found.isfinite()).flatten(1).any(1).sum())
        if wrong:
            raise Failure(
                f"{half.outputs} with NaN or infinity, of {wrong} of {len(half.found)} images; "
                "allowed: finite numbers; mind divisions by 0, logarithms and exponentials"
            )


def repeatable(candidate: Candidate) -> None:
    """Asked again, each half gives the same, and draws no random number for it."""
    for half in candidate.halves:
        before = generators()
        again = half.run(candidate.autoencoder, candidate, half.given)
        if not same(half.found, again):
            raise Failure(
                f"other {half.outputs} of the same {half.inputs} when asked again"
                f"{by(half.found, again)}; draw random numbers, and change what it keeps, in "
                "training mode alone (self.training)"
            )
        drawn = [name for name, now in generators().items() if now != before[name]]
        if drawn:
            raise Failure(
                f"in eval mode the {half.name} draws random numbers from {' and '.join(drawn)}; "
                "allowed in training mode alone (self.training), or once, in build, into a buffer"
            )


def independent_of_history(candidate: Candidate) -> None:
    """Each half gives the same bits after other images went through it, or through the other."""
    model = candidate.autoencoder
    # As many others: what a half keeps of them fits in the place of the first.
    count = max(1, len(candidate.images) // 4)

    def remember(half: Half) -> tuple[Half, Callable[[], Tensor]]:
        """The half with its first inputs alone; what gives it the others."""
        first = half.given[:count]
        others = partial(half.run, model, candidate, half.given[-count:])
        return half._replace(given=first, found=half.run(model, candidate, first)), others

    def check(half: Half, since: str, fix: str) -> None:
        with named(f"the {half.name} refuses the same {half.inputs} after {since}", fix):
            again = half.run(model, candidate, half.given)
        if not same(half.found, again):
            raise Failure(
                f"other {half.outputs} of the same {half.inputs} after {since}"
                f"{by(half.found, again)}; allowed: the same bits; {fix}"
            )

    nothing = "keep nothing of earlier calls in eval mode: no counter, cache or running statistics"
    encoder, encode_others = remember(candidate.halves[0])
    remembered = [remember(half) for half in candidate.halves[1:]]
    encode_others()
    for decoder, decode_others in remembered:
        check(
            decoder,
            "the encoder has seen other images",
            "the decoder gets stored codes alone: keep nothing of what the encoder saw, let no "
            "connection pass the code",
        )
        decode_others()
        check(decoder, "others were decoded", nothing)
    check(encoder, "others were encoded", nothing)


def independent_of_batch(candidate: Candidate) -> None:
    """Alone, and in any batch and order, an image has the same code, a code the same image.

    Within `TOLERANCE` of each dimension's deviation over the images; all but `EXEMPT` of them.
    """
    fix = (
        "each row is computed by itself: normalise by running statistics (track_running_stats), "
        "and let rows not be sorted, counted, compared or attended to by one another"
    )
    for half in candidate.halves:
        allowed = tolerance(half.found)
        moved: dict[int, tuple[float, str]] = {}  # image -> how far, in which batch
        for rows in batches(len(half.given)):
            where = "alone" if len(rows) == 1 else f"in another batch, of {len(rows)}"
            with named(f"the {half.name} refuses {half.inputs} {where}", fix):
                again = half.run(candidate.autoencoder, candidate, half.given[rows])
            expected = half.found[rows]
            if again.shape != expected.shape:
                shapes = by(expected, again)
                raise Failure(f"other {half.outputs} of the same {half.inputs} {where}{shapes}")
            apart = (again - expected).abs()
            # What is not finite, but the same, is told by `finite`.
            equal = (again == expected) | (again.isnan() & expected.isnan())
            wrong = (~equal & ~(apart <= allowed)).flatten(1)
            for place in wrong.any(1).nonzero().flatten().tolist():
                most = float(apart[place].flatten()[wrong[place]].max())
                image = int(rows[place])
                moved[image] = max(moved.get(image, (0.0, "")), (most, where))
        if len(moved) > math.ceil(EXEMPT * len(half.given)):
            most, where = max(moved.values())
            raise Failure(
                f"other {half.outputs} of the same {half.inputs} {where}, by up to {most:.2g}, for "
                f"{len(moved)} of {len(half.given)}; allowed: {TOLERANCE} of each dimension's "
                f"deviation, for {1 - EXEMPT:.0%}; {fix}"
            )


def reloadable(candidate: Candidate) -> None:
    """Built anew and given the weights, it computes the same bits.

    It decodes before it encodes anything: as in another process, the codes are all it has.
    """
    assert candidate.rebuilt
    found = candidate.halves  # first: building another one may reset what the two share
    keep = "keep all state in parameters and buffers (register_buffer)"
    rebuilt = candidate.rebuilt()
    for half in reversed(found):
        with named(f"built again from its weights the {half.name} refuses its {half.inputs}", keep):
            again = half.run(rebuilt, candidate, half.given)
        if not same(half.found, again):
            lost = lost_attributes(candidate.autoencoder, rebuilt)
            kept = f"not in the weights: {', '.join(lost[:3])}" if lost else "some state is lost"
            raise Failure(
                f"built again from its weights it gives other {half.outputs}"
                f"{by(half.found, again)}; {kept}; {keep}"
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


def seedless(candidate: Candidate) -> None:
    """`seedless` is True or False, where it is there; True of what is fitted alone."""
    found = getattr(candidate.autoencoder, "seedless", False)
    if not isinstance(found, bool):
        raise Failure(f"seedless is {found!r}; allowed: True, or none: the seed changes nothing")
    if found and not is_closed_form(candidate.autoencoder):
        raise Failure("seedless is True; allowed for a class with `fit` and without `loss` alone")


def couples_batch(candidate: Candidate) -> None:
    """`couples_batch` is True or False, where it is there."""
    found = getattr(candidate.autoencoder, "couples_batch", False)
    if not isinstance(found, bool):
        raise Failure(f"couples_batch is {found!r}; allowed: True, or none: see `loss`")


PURE = (unchanged_by_use, finite, repeatable, independent_of_history, independent_of_batch)
# Fresh from `build`, a model may take its scales from the first images it sees, in any mode: here
# it takes them in `codes` and `reconstructions`. A trained one has no such images any more.
FRESH = (methods, couples_batch, codes, reconstructions, *PURE)
TRAINED = (methods, couples_batch, seedless, *PURE, reloadable, note, baseline)


@torch.no_grad()
def encode(autoencoder: Autoencoder, candidate: Candidate, images: Tensor) -> Tensor:
    """The codes of images. Failure for what are none."""
    found = autoencoder.encoder(images.clone())
    return stored(expect(found, "encoder", (len(images), candidate.latent)))


@torch.no_grad()
def decode(autoencoder: Autoencoder, candidate: Candidate, codes: Tensor) -> Tensor:
    """The reconstructions of codes. Failure for what are none."""
    assert autoencoder.decoder is not None
    found = autoencoder.decoder(codes.clone())
    return stored(expect(found, "decoder", (len(codes), *candidate.images.shape[1:])))


def stored(found: Tensor) -> Tensor:
    """The numbers alone, as if read from a file: no attribute, graph or memory that is shared."""
    return torch.from_numpy(found.numpy(force=True).copy())


@contextlib.contextmanager
def named(what: str, allowed: str) -> Iterator[None]:
    """An exception of the model's own inside is a Failure that begins with `what`."""
    try:
        yield
    except Failure:
        raise
    except Exception as error:
        if is_machine_failure(error):
            raise
        told = f"{type(error).__name__}: {first_line(error)}{author_line(error)}"
        raise Failure(f"{what}: {told}; {allowed}") from None


def batches(count: int) -> Iterator[Tensor]:
    """Rows 0 to `count` - 1 in other batches than all in order: int64 (n,).

    Some alone, some more, and all of them in another order, some twice: a larger batch.
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    yield from order[:FEW].split(1)
    if count > FEW:
        yield order[FEW : 2 * FEW + 3]
    yield torch.cat([order, order[: FEW - 3]])


def state(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Its parameters and buffers, by their names in the weights."""
    for name, value in module.state_dict().items():
        if isinstance(value, Tensor) and not is_lazy(value):
            yield name, value


def generators() -> dict[str, bytes]:
    """Whose they are -> the state of each global random generator."""
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy.random": pickle.dumps(np.random.get_state()),
        "random": pickle.dumps(random.getstate()),
    }


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
