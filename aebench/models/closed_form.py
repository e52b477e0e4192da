"""Models that fit themselves in closed form, from all training images in order."""

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from aebench.errors import Failure
from aebench.models.autoencoder import Autoencoder, Shape, as_floats
from aebench.models.device import Execution, deterministic
from aebench.models.finish import Trained, finished
from aebench.models.start import started
from aebench.timing import Stopwatch

if TYPE_CHECKING:
    from aebench.plugins import Model

FIT_BATCH = 1000  # images per batch


def fitted(
    model: "Model", shape: Shape, arguments: dict[str, Any], images: Tensor, seed: int
) -> Trained:
    """The model, built and fitted. `images` uint8 (N, C, H, W). Failure for a broken contract."""
    deterministic()
    autoencoder = started(model, shape, arguments, images, seed)
    return fit(autoencoder, model, shape, arguments, images)


def fit(
    autoencoder: Autoencoder,
    model: "Model",
    shape: Shape,
    arguments: dict[str, Any],
    images: Tensor,
) -> Trained:
    """The result of the model's own `fit`, which computes on the CPU in float32."""
    stopwatch = Stopwatch()
    result = autoencoder.fit(Batches(images))  # type: ignore[operator]  # the caller has seen it
    used = stopwatch.read()
    other_model = isinstance(result, nn.Module) and result is not autoencoder
    if other_model or inspect.isgenerator(result) or inspect.iscoroutine(result):
        kind = type(result).__name__
        raise Failure(f"fit returned {kind}, which is not used; allowed: to fit the model itself")
    how = Execution("cpu", "float32", "contiguous")
    return finished(autoencoder, model, shape, arguments, images, how, used, [])


class Batches:
    """Re-iterable batches float32 (B, C, H, W) of all training images, in order."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __iter__(self) -> Iterator[Tensor]:
        for start in range(0, len(self.images), FIT_BATCH):
            yield as_floats(self.images[start : start + FIT_BATCH])
