"""Models that fit themselves from all training images in order: in closed form, or as a start."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from aebench.errors import Failure
from aebench.models.autoencoder import Autoencoder, Shape, as_floats
from aebench.models.checkpoint import begin_with
from aebench.models.device import Execution, deterministic
from aebench.models.finish import Begun, Trained, finished
from aebench.models.signatures import asked, given, is_closed_form, method
from aebench.models.start import started
from aebench.surroundings import torch_restored
from aebench.timing import Stopwatch

if TYPE_CHECKING:
    from aebench.plugins import Model

FIT_BATCH = 1000  # images per batch


def fitted(
    model: "Model",
    shape: Shape,
    arguments: dict[str, Any],
    images: Tensor,
    labels: Tensor,
    seed: int,
    checkpoint: Path | None = None,
) -> Trained:
    """The model, built and fitted. `images` uint8 (N, C, H, W), `labels` int64 (N,).

    `checkpoint`: the state dict that it begins with. Failure for a broken contract.
    """
    deterministic()
    autoencoder = started(model, shape, arguments, images, seed)
    if not is_closed_form(autoencoder):  # such as a loss that `__init__` sets: no plan saw it
        raise Failure(
            "fit is followed by training, of which the registered class says nothing; define loss "
            "or optimize in the class, as methods"
        )
    stopwatch = Stopwatch()
    begun = begin(autoencoder, images, labels, checkpoint)
    used = stopwatch.read()
    return finished(autoencoder, model, shape, arguments, images, FLOAT32, used, begun, [])


FLOAT32 = Execution("cpu", "float32", "contiguous")


def begin(
    autoencoder: Autoencoder, images: Tensor, labels: Tensor, checkpoint: Path | None
) -> Begun:
    """Let the model fit itself, where it does, on the CPU.

    `images` uint8 (N, C, H, W), `labels` int64 (N,). With a `checkpoint` of its whole state there
    is nothing left to fit; of parts, these are afterwards as the file has them. Failure for one
    that does not fit the model, and where `fit` returns what looks as if it was to be used.
    """
    whole = checkpoint is not None and begin_with(autoencoder, checkpoint)
    fit = method(autoencoder, "fit")
    if fit is None or whole:
        return Begun(fitted=False, labels_seen=False)
    with torch_restored():
        result = fit(InOrder(images), **given(autoencoder, "fit", labels=labels.clone()))
    other_model = isinstance(result, nn.Module) and result is not autoencoder
    if other_model or inspect.isgenerator(result) or inspect.iscoroutine(result):
        kind = type(result).__name__
        raise Failure(
            f"fit returned {kind}, which is not used; allowed: to fit the model itself; a loop of "
            "one's own that yields is called optimize"
        )
    if checkpoint is not None:
        begin_with(autoencoder, checkpoint)
    return Begun(fitted=True, labels_seen="labels" in asked(autoencoder, "fit"))


class InOrder:
    """Re-iterable batches float32 (B, C, H, W) of all training images, in order."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __iter__(self) -> Iterator[Tensor]:
        for start in range(0, len(self.images), FIT_BATCH):
            yield as_floats(self.images[start : start + FIT_BATCH])
