"""Try a model as its author would: build it, train it a little, and look at what else it does."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from torch import Tensor, nn

from aebench.errors import Failure, Refused, failure_reason, first_line
from aebench.models.autoencoder import Autoencoder, Shape, as_floats, build_autoencoder
from aebench.models.contract import by, same
from aebench.models.device import deterministic
from aebench.models.execution import execution
from aebench.models.finish import Trained, reloaded
from aebench.models.signatures import method
from aebench.models.sizes import sizes
from aebench.models.start import started
from aebench.models.training import trained
from aebench.plugins import imported_anew
from aebench.records.encode import Sizes
from aebench.records.plan import Untrained
from aebench.schema import Recipe
from aebench.surroundings import watched

if TYPE_CHECKING:
    from aebench.plugins import Model

IMAGES, CLASSES = 24, 10
# Six steps. Without weight decay a weight that no gradient reaches stays as it is.
RECIPE = Recipe(
    epochs=2,
    batch_size=8,
    learning_rate=0.003,
    muon_learning_rate=0.03,
    weight_decay=0.0,
    horizontal_flip=False,
)
SEED = 0


@dataclass
class Trial:
    """What came of one shape and its arguments.

    `fault`: name of the check, and what was got, what is allowed, the fix; `refused`: the model's
    reason; `moved`: parameter -> whether its training by gradient moved it; `remarks`: what is no
    fault, by kind; `seconds`: of one training; `step`: the one that is taken.
    """

    step: str = "start"
    sizes: Sizes | None = None
    seconds: float = 0.0
    fault: tuple[str, str] | None = None
    refused: str | None = None
    moved: dict[str, bool] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)


def tried(model: "Model", shape: Shape, arguments: dict[str, Any], thoroughly: bool) -> Trial:
    """Build it, train it twice from one seed and reload it.

    `thoroughly`: train it twice in bfloat16, too, and see whether another seed makes a difference.
    What the machine does wrong passes through.
    """
    trial = Trial()
    deterministic()  # before the process is looked at: that is aebench's own change
    with watched(trial.remarks):
        try:
            attempt(trial, model, shape, arguments, thoroughly)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit, too: a model ends its trial alone
            reason = failure_reason(error)
            if isinstance(error, Refused):
                trial.refused = first_line(error)
            elif isinstance(error, Failure):
                text = reason.removeprefix(f"{model.plugin.name}: model {model.name!r}: ")
                check = error.check or trial.step
                trial.fault = check, text.removeprefix(f"{check}: ")
            else:
                allowed = "allowed: any shape, latent and depth, or aebench.Refused from build"
                trial.fault = trial.step, f"{reason}; {allowed}"
    return trial


def attempt(
    trial: Trial, model: "Model", shape: Shape, arguments: dict[str, Any], thoroughly: bool
) -> None:
    """Fill the trial in. Failure for the first check that does not hold."""
    images, labels = structured(shape)
    first = started(model, shape, arguments, images, SEED)
    outside = sum(p.numel() for p in without_halves(first))
    begun = {name: p.detach().clone() for name, p in learning(first).items()}
    trial.step = "training"
    recipe = RECIPE
    hooks = [hook for hook in ("loss", "fit", "optimize") if method(first, hook)]
    if not hooks and (not begun or first.decoder is None):
        trial.remarks["untrained"] = "there is nothing to train: its runs need `train: {epochs: 0}`"
        recipe = Untrained()
    how = execution(first)
    del first

    def train(model: "Model", precision: str) -> Trained:
        own = replace(how, precision=precision)
        return trained(model, shape, arguments, images, labels, SEED, recipe, how=own)

    start = time.perf_counter()
    result = train(model, "float32")
    trial.seconds = time.perf_counter() - start
    check_same(result, lambda: train(imported_anew(model), "float32"))
    if result.curve:
        weights = safetensors.torch.load(result.weights)
        trial.moved = {name: not same(p, weights[name]) for name, p in begun.items()}
    if result.curve and thoroughly:
        check_same(train(model, "bfloat16"), lambda: train(imported_anew(model), "bfloat16"))
        other = learning(started(model, shape, arguments, images, SEED + 1))
        if begun and all(name in other and same(p, other[name]) for name, p in begun.items()):
            trial.remarks["seeds"] = (
                f"seeds {SEED} and {SEED + 1} start with equal weights, so runs of several seeds "
                "are alike; draw them from the global generators of torch, NumPy or Python"
            )
    if outside:
        trial.remarks["outside"] = (
            f"parameters outside encoder and decoder, trained and not counted: {outside:,}"
        )
    fresh = reloaded(build_autoencoder(model, shape, arguments), result.weights)
    trial.sizes = sizes(fresh, as_floats(images[:2]))


def structured(shape: Shape) -> tuple[Tensor, Tensor]:
    """Images uint8 (IMAGES, C, H, W), smooth noise of some contrast, and labels int64."""
    random = torch.Generator().manual_seed(0)
    channels, height, width = shape
    coarse = torch.rand(IMAGES, channels, 4, 4, generator=random)
    smooth = nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    fine = torch.rand(IMAGES, *shape, generator=random)
    images = (0.8 * smooth + 0.2 * fine).mul(255).round().to(torch.uint8)
    return images, torch.arange(IMAGES) % CLASSES


def check_same(result: Trained, train: Callable[[], Trained]) -> None:
    """Failure unless the training gives the result's bits again."""
    one = safetensors.torch.load(result.weights)
    again = safetensors.torch.load(train().weights)
    for name, tensor in one.items():
        if not same(tensor, again[name]):
            failure = Failure(
                f"trained twice from one seed in {result.how.precision}, {name} differs"
                f"{by(tensor, again[name])}; allowed: the same bits; draw random numbers from the "
                "global generators of torch, NumPy or Python alone, which each run seeds, and "
                "keep nothing between trainings"
            )
            failure.check = "reproducible"
            raise failure


def learning(autoencoder: Autoencoder) -> dict[str, nn.Parameter]:
    """Name -> parameter, of those that are to be trained."""
    return {name: p for name, p in autoencoder.named_parameters() if p.requires_grad}


def without_halves(autoencoder: Autoencoder) -> list[nn.Parameter]:
    """The parameters to be trained that are in neither half."""
    halves = [half for half in (autoencoder.encoder, autoencoder.decoder) if half is not None]
    inside = {id(p) for half in halves for p in half.parameters()}
    return [p for p in learning(autoencoder).values() if id(p) not in inside]
