"""Try a model as its author would: build it, train it a little, and look at what else it does."""

import re
import time
from collections.abc import Callable, Mapping
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
from aebench.models.signatures import asked, method
from aebench.models.sizes import halves, sizes
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
    fault, by kind; `seconds`: of one training; `step`: the one that is taken; `precision`: of the
    training; `classes`: of the labels, where the model is given them.
    """

    step: str = "start"
    precision: str = "float32"
    classes: int | None = None
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
                hint = f"; {FLOAT}" if half(trial) and "bfloat16" not in text else ""
                trial.fault = check, f"{text.removeprefix(f'{check}: ')}{hint}"
            else:
                trial.fault = trial.step, f"{reason}; {mend(error, trial)}"
    return trial


FLOAT = "under bfloat16 autocast, after float32 went well; call what needs float32 on .float()"


def half(trial: Trial) -> bool:
    """Whether it trains under bfloat16 autocast."""
    return trial.precision == "bfloat16"


def mend(error: BaseException, trial: Trial) -> str:
    """What is allowed in place of the error, or how to be rid of it."""
    if isinstance(error, ModuleNotFoundError):
        return f"install {error.name}"
    if half(trial):
        return FLOAT
    if trial.classes and re.search("out of (bounds|range)|num_classes|size of tensor", str(error)):
        return (
            f"the labels tried here are of {trial.classes} classes, 0 to {trial.classes - 1}; "
            "allowed: an option `classes`, whose default is tried"
        )
    if not isinstance(error, Exception):
        return "allowed: to raise an error"
    return "allowed: any shape, latent and depth, or aebench.Refused from build"


def attempt(
    trial: Trial, model: "Model", shape: Shape, arguments: dict[str, Any], thoroughly: bool
) -> None:
    """Fill the trial in. Failure for the first check that does not hold."""
    images, labels = structured(shape, arguments.get("classes"))
    first = started(model, shape, arguments, images, SEED)
    outside = sum(p.numel() for p in without_halves(first))
    if any("labels" in asked(first, hook) for hook in ("loss", "fit", "optimize")):
        trial.classes = int(labels.max()) + 1
    begun = {name: p.detach().clone() for name, p in learning(first).items()}
    trial.step = "training"
    recipe = RECIPE
    hooks = [hook for hook in ("loss", "fit", "optimize") if method(first, hook)]
    if not hooks and (not begun or first.decoder is None):
        trial.remarks["untrained"] = "there is nothing to train: its runs need `train: {epochs: 0}`"
        recipe = Untrained()
    how = execution(first)
    del first

    def build(model: "Model") -> Autoencoder:
        return started(model, shape, arguments, images, SEED)

    def train(model: "Model", precision: str) -> Trained:
        trial.precision = precision
        own = replace(how, precision=precision)
        result = trained(model, shape, arguments, images, labels, SEED, recipe, how=own)
        trial.precision = "float32"
        return result

    def check(result: Trained) -> None:
        again = imported_anew(model)
        other = train(again, result.how.precision)
        check_same(result, other, lambda: (build(model), build(again)))

    start = time.perf_counter()
    result = train(model, "float32")
    trial.seconds = time.perf_counter() - start
    check(result)
    if result.curve:
        weights = safetensors.torch.load(result.weights)
        trial.moved = {name: not same(p, weights[name]) for name, p in begun.items()}
    if result.curve and thoroughly:
        check(train(model, "bfloat16"))
        other = learning(started(model, shape, arguments, images, SEED + 1))
        if begun and all(name in other and same(p, other[name]) for name, p in begun.items()):
            trial.remarks["seeds"] = (
                f"seeds {SEED} and {SEED + 1} start with equal weights, so runs of several seeds "
                "are alike; draw them from the global generators of torch, NumPy or Python"
            )
    if outside:
        trial.remarks["outside"] = (
            f"parameters outside encoder and decoder, not counted: {outside:,}"
        )
    fresh = reloaded(build_autoencoder(model, shape, arguments), result.weights)
    trial.sizes = sizes(fresh, as_floats(images[:2]))


def structured(shape: Shape, classes: Any) -> tuple[Tensor, Tensor]:
    """Images uint8 (IMAGES, C, H, W), smooth noise of some contrast, and labels int64.

    `classes`: how many there are to be, if it is a number; else CLASSES.
    """
    random = torch.Generator().manual_seed(0)
    channels, height, width = shape
    coarse = torch.rand(IMAGES, channels, 4, 4, generator=random)
    smooth = nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    fine = torch.rand(IMAGES, *shape, generator=random)
    images = (0.8 * smooth + 0.2 * fine).mul(255).round().to(torch.uint8)
    count = classes if isinstance(classes, int) and classes > 0 else CLASSES
    return images, torch.arange(IMAGES) % count


def check_same(
    result: Trained, other: Trained, build: Callable[[], tuple[Autoencoder, Autoencoder]]
) -> None:
    """Failure unless both trainings gave the same bits.

    `build` makes their models again, untrained: where these differ already, it says so.
    """
    one, two = (safetensors.torch.load(found.weights) for found in (result, other))
    told = f"trained twice from one seed in {result.how.precision}, ", difference(one, two)
    if not told[1]:
        return
    built = [autoencoder.state_dict() for autoencoder in build()]
    if differs := difference(*built):
        told = "built twice from one seed, ", differs
    failure = Failure(
        f"{''.join(told)}; allowed: the same bits; draw random numbers from the global generators "
        "of torch, NumPy or Python alone, which each run seeds, and keep nothing between one model "
        "and the next"
    )
    failure.check = "reproducible"
    raise failure


def difference(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> str:
    """The first tensor in which they differ, and by how much; empty where in none."""
    for name, tensor in one.items():
        if not same(tensor, other[name]):
            return f"{name} differs{by(tensor, other[name])}"
    return ""


def learning(autoencoder: Autoencoder) -> dict[str, nn.Parameter]:
    """Name -> parameter, of those that are to be trained."""
    return {name: p for name, p in autoencoder.named_parameters() if p.requires_grad}


def without_halves(autoencoder: Autoencoder) -> list[nn.Parameter]:
    """The parameters to be trained that are in neither half."""
    inside = {id(p) for half in halves(autoencoder).values() for p in half.parameters()}
    return [p for p in learning(autoencoder).values() if id(p) not in inside]
