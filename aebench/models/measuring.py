"""The values of registered metrics of reconstructions; what breaks the contract leaves a blank."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from aebench.errors import Failure, Refused, failure_reason
from aebench.models.device import seed_all

if TYPE_CHECKING:
    from aebench.plugins import Metric

IMAGES, NOISE = 12, 0.1  # of a trial: how many, and the deviation of what is added to them
TOLERANCE = 1e-5  # of a value among other images


class Measuring:
    """What each metric says of each image, block by block.

    `faults`: name -> why it is blank, from the first block on that broke the contract.
    """

    def __init__(self, metrics: "Iterable[Metric]") -> None:
        self.metrics = {metric.name: metric for metric in metrics}
        self.blocks: dict[str, list[np.ndarray]] = {name: [] for name in self.metrics}
        self.faults: dict[str, str] = {}

    def add(self, images: Tensor, reconstructions: Tensor) -> None:
        """Measure one block, both float32 (B, C, H, W) in [0, 1]."""
        for name in [name for name in self.metrics if name not in self.faults]:
            try:
                found = measured(self.metrics[name], images, reconstructions)
                self.blocks[name].append(found)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # SystemExit, too: a metric ends its column alone
                self.faults[name] = failure_reason(error)

    @property
    def values(self) -> np.ndarray:
        """Records (N,) of float32 under the names of the metrics that have no fault."""
        found = {
            name: np.concatenate([*blocks, np.empty(0, np.float32)])
            for name, blocks in self.blocks.items()
            if name not in self.faults
        }
        count = max(map(len, found.values()), default=0)
        records = np.empty(count, [(name, np.float32) for name in found])
        for name, values in found.items():
            records[name] = values
        return records


def measured(metric: "Metric", images: Tensor, reconstructions: Tensor) -> np.ndarray:
    """The metric's values of some images, float32 (B,). Failure for what is no such value."""
    seed_all(0)  # nothing in `encode` draws after it: see models/contract.py
    found = metric.measure(images.clone(), reconstructions.clone())
    values = found.detach().cpu() if isinstance(found, Tensor) else torch.as_tensor(found)
    if values.shape != images.shape[:1] or values.is_complex():
        got = f"{values.dtype} {tuple(values.shape)}".removeprefix("torch.")
        raise Failure(f"returned {got} for {len(images)} images; allowed: a real number an image")
    numbers = values.double().numpy().astype(np.float32)
    if wrong := int((~np.isfinite(numbers)).sum()):
        raise Failure(f"not finite for {wrong} of {len(images)} images")
    return numbers


def trial_fault(metric: "Metric", shape: tuple[int, int, int]) -> tuple[str, str] | None:
    """The first check that the metric does not pass on random images, and what was got.

    It is `refused` where the metric raises that. What the machine does wrong passes through.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(IMAGES, *shape, generator=generator)
    noise = torch.randn(images.shape, generator=generator)
    others = (images + NOISE * noise).clamp(0, 1)
    try:
        values = measured(metric, images, others)
        again = measured(metric, images, others)
        alone = measured(metric, images[:2], others[:2])
        best = measured(metric, images, images)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return "refused" if isinstance(error, Refused) else "values", failure_reason(error)
    if (again != values).any():
        return "again", "other values of the same images when it is called again; allowed: the same"
    if not np.allclose(alone, values[:2], rtol=TOLERANCE, atol=TOLERANCE):
        got = f"{alone.tolist()} among 2 images, {values[:2].tolist()} among {IMAGES}"
        return "alone", f"{got}; allowed: a function of its own image and reconstruction alone"
    sign = 1 if metric.better == "higher" else -1
    if sign * float(best.mean() - values.mean()) <= 0:
        got = f"{best.mean():.4g} of the images themselves, {values.mean():.4g} of noisy ones"
        return (
            "better",
            f"{got}, and {metric.better} is better; allowed: the former is; see `better`",
        )
    return None
