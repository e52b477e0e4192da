"""The processes that train one model together, each on its part of every batch."""

import hashlib
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn

from aebench.errors import Failure
from aebench.models.autoencoder import Autoencoder
from aebench.models.device import seed_all
from aebench.models.losses import reconstruction_loss
from aebench.models.signatures import method

ONE = "allowed: `train: {processes: 1}`"


class Loss(nn.Module):
    """What is trained on, as a module: torch averages the gradients of modules."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, images: Tensor, **given: Any) -> dict[str, Tensor]:
        """As `reconstruction_loss`; what is drawn beside the loss has no graph.

        Which would let torch wait for gradients that never come.
        """
        found = reconstruction_loss(self.autoencoder, images, **given)
        return {k: value if k == "loss" else value.detach() for k, value in found.items()}


@dataclass(frozen=True)
class Group:
    """This one among `size` processes, of which torch's process group has been made.

    All take each step: the mean of their gradients is that of the whole batch, as their parts are
    of equal size and the loss is a mean over images.
    """

    rank: int
    size: int

    def part(self, rows: Tensor) -> Tensor:
        """Of the rows of a batch those of this process."""
        return rows[self.rank :: self.size]

    def seed(self, seed: int) -> None:
        """Let each process draw numbers of its own, where all have drawn the same so far.

        The images that the others take would have the same noise.
        """
        if self.rank:
            own = hashlib.sha256(f"{seed} {self.rank}".encode()).digest()
            seed_all(int.from_bytes(own[:8], "little"))

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Give all processes the values that the first one has."""
        with torch.no_grad():
            for tensor in tensors:
                value = tensor.contiguous()
                distributed.broadcast(value, 0)
                if value is not tensor:
                    tensor.copy_(value)

    def gathered(self, value: Any) -> list[Any]:
        """What each process has, by rank."""
        found: list[Any] = [None] * self.size
        distributed.all_gather_object(found, value)
        return found

    def averaging(self, autoencoder: Autoencoder) -> nn.Module:
        """What to call for the loss: gradients are then the mean over all processes.

        Parameters that the loss of no process reaches have none, as in one process: torch has to
        look for them at each step, 0.8 ms more for a cnn of 40 (depth 10). Buffers are not copied
        from the first process at each step: `check_alike` tells where that would be needed.
        """
        with warnings.catch_warnings(action="ignore", category=FutureWarning):  # of a new name
            return nn.parallel.DistributedDataParallel(
                Loss(autoencoder),
                broadcast_buffers=False,
                init_sync=False,
                find_unused_parameters=True,
            )

    def summed(self, sums: Mapping[str, tuple[float, int]]) -> dict[str, tuple[float, int]]:
        """The sums and counts of all processes, by name: equal in each of them."""
        found: dict[str, tuple[float, int]] = {}
        for one in self.gathered(dict(sums)):
            for name, (total, count) in one.items():
                before = found.get(name, (0.0, 0))
                found[name] = before[0] + total, before[1] + count
        return found

    def check_alike(self, digests: Mapping[str, str]) -> None:
        """Failure for a tensor, told by name and digest, that is another one elsewhere."""
        for other in self.gathered(dict(digests)):
            for name in [*digests, *other]:
                if digests.get(name) != other.get(name):
                    raise Failure(
                        f"{name} differs between the {self.size} processes: each changes it by its "
                        f"own part of the batch, or at random; {ONE}, or to change in training "
                        "only what the gradient's steps change"
                    )


def check_divisible(autoencoder: Autoencoder, processes: int, batch_size: int) -> None:
    """Failure for what several processes would train otherwise than one. The model: to be trained.

    `batch_size`: that of a step.
    """
    for name, what in (("fit", "its start"), ("optimize", "its own loop")):
        if method(autoencoder, name):
            raise Failure(f"{name}: {what} is of one process, got {processes}; {ONE}")
    if getattr(autoencoder, "couples_batch", False):
        raise Failure(
            f"couples_batch: its loss compares the images of a batch, of which each of {processes} "
            f"processes sees a part; {ONE}"
        )
    for name, module in autoencoder.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
            kind = type(module).__name__
            raise Failure(
                f"{name} is {kind} in training: its statistics would be of each process's part of "
                f"the batch, got {processes} processes; {ONE}, GroupNorm, or statistics that stay "
                "(eval mode, kept by its train method)"
            )
    if batch_size % processes:
        raise Failure(
            f"a batch of {batch_size} images, all there are, is not divided by {processes} "
            "processes; allowed: a train.batch_size that it is, up to that number"
        )
