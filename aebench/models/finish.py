"""What every training ends with: a trained model that later stages can build again."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import safetensors.torch
from torch import Tensor

from aebench.errors import Failure
from aebench.models.autoencoder import Autoencoder, Shape, build_autoencoder
from aebench.models.contract import Candidate, check_contract, few
from aebench.models.device import Execution
from aebench.models.weights import weights_bytes
from aebench.plugins import imported_anew
from aebench.records.train import Baseline
from aebench.timing import Usage

if TYPE_CHECKING:
    from aebench.plugins import Model


@dataclass(frozen=True)
class Epoch:
    """The mean over its steps of each scalar that the loss gave, `loss` among them; its time."""

    means: dict[str, float]
    used: Usage


class Begun(NamedTuple):
    """Whether the model's own `fit` ran, and whether training gave it the labels."""

    fitted: bool
    labels_seen: bool


@dataclass
class Trained:
    """The weights as safetensors, how they were computed, and what the model says of itself.

    `curve`: what each epoch came to; `used`: time of the whole training.
    """

    weights: bytes
    how: Execution
    used: Usage
    note: str | None
    baseline: Baseline | None
    begun: Begun
    curve: list[Epoch]


def finished(
    autoencoder: Autoencoder,
    model: "Model",
    shape: Shape,
    arguments: dict[str, Any],
    images: Tensor,
    how: Execution,
    used: Usage,
    begun: Begun,
    curve: list[Epoch],
) -> Trained:
    """The trained autoencoder's result. `images` uint8 (N, C, H, W), those of the training.

    Failure for weights that are not finite and for a broken contract, such as one that does not
    compute the same when it is built again and gets the weights, as later stages do.
    """
    weights = weights_bytes(autoencoder, shape)

    def rebuilt() -> Autoencoder:
        return reloaded(build_autoencoder(imported_anew(model), shape, arguments), weights)

    state = autoencoder.state_dict()
    infinite = [name for name, tensor in state.items() if not tensor.isfinite().all()]
    if infinite:
        built = build_autoencoder(model, shape, arguments).state_dict()
        if not all(as_built(state[name], built.get(name)) for name in infinite):
            raise Failure("the trained weights are not finite")
    candidate = Candidate(autoencoder, few(images), arguments.get("latent"), rebuilt)
    check_contract(model, candidate)
    note, baseline = (getattr(autoencoder, name, None) for name in ("note", "baseline"))
    return Trained(weights, how, used, note, baseline, begun, curve)


def reloaded(fresh: Autoencoder, weights: bytes) -> Autoencoder:
    """A model that was built anew, with the weights. Failure where they do not fit."""
    try:
        fresh.load_state_dict(safetensors.torch.load(weights))
    except RuntimeError as error:
        raise Failure(
            "the trained state does not fit a newly built model; create every parameter and buffer "
            f"with its final shape in build ({' '.join(str(error).split())[:200]})"
        ) from None
    fresh.eval()
    return fresh


def as_built(trained: Tensor, built: Tensor | None) -> bool:
    """Whether what is not finite was built so and has stayed: the mask of an attention."""
    return built is not None and bool((trained.isfinite() | (trained == built)).all())
