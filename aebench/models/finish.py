"""What every training ends with: a trained model that later stages can build again."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aebench.errors import Failure
from aebench.models.autoencoder import Autoencoder, Shape, build_autoencoder
from aebench.models.device import Execution
from aebench.models.weights import weights_bytes
from aebench.records.train import BASELINES, Baseline
from aebench.timing import Usage

if TYPE_CHECKING:
    from aebench.plugins import Model


@dataclass
class Trained:
    """The weights as safetensors, how they were computed, and what the model says of itself.

    `curve`: mean loss and time of each epoch; `used`: time of the whole training.
    """

    weights: bytes
    how: Execution
    used: Usage
    note: str | None
    baseline: Baseline | None
    curve: list[tuple[float, Usage]] = field(default_factory=list)


def finished(
    autoencoder: Autoencoder,
    model: "Model",
    shape: Shape,
    arguments: dict[str, Any],
    how: Execution,
    used: Usage,
    curve: list[tuple[float, Usage]],
) -> Trained:
    """The trained autoencoder's result. Failure for weights that are not finite or do not fit."""
    if not all(t.isfinite().all() for t in autoencoder.state_dict().values()):
        raise Failure("the trained weights are not finite")
    check_reload(autoencoder, build_autoencoder(model, shape, arguments))
    baseline = getattr(autoencoder, "baseline", None)
    if baseline not in (None, *BASELINES):
        raise Failure(f"baseline is {baseline!r}; allowed: {', '.join(BASELINES)}, or none")
    note = getattr(autoencoder, "note", None)
    if note is not None and not isinstance(note, str):
        raise Failure(f"note is {type(note).__name__}; allowed: str")
    return Trained(weights_bytes(autoencoder, shape), how, used, note, baseline, curve)


def check_reload(trained: Autoencoder, fresh: Autoencoder) -> None:
    """Failure unless the weights fit a model that is built anew, as later stages do."""
    try:
        fresh.load_state_dict(trained.state_dict())
    except RuntimeError as error:
        raise Failure(
            "the trained state does not fit a newly built model; create every parameter and buffer "
            f"with its final shape in build ({' '.join(str(error).split())[:200]})"
        ) from None
