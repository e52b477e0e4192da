"""The batches of all epochs, and what each epoch came to."""

import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from aebench.errors import Failure
from aebench.models.autoencoder import as_floats
from aebench.models.device import FORMATS, Execution
from aebench.models.finish import Epoch
from aebench.progress import bar, say_epoch
from aebench.schema import Recipe
from aebench.timing import Stopwatch

MOST_SCALARS = 20  # that a loss may give: each is a curve of the report


class Stream:
    """Goes once through the batches of all epochs, float32 (B, C, H, W), and their labels.

    An epoch is every image once in a new random order; the images that do not fill a last batch
    are left out of it, other ones each time. `images` uint8 (N, C, H, W), `labels` int64 (N,) or
    None: batches are then without. What is told to `log` after each batch makes the `curve`. An
    epoch's time runs from when its first batch is asked for to when the next one's is, or `close`.
    """

    def __init__(
        self, images: Tensor, labels: Tensor | None, seed: int, recipe: Recipe, how: Execution
    ) -> None:
        self.images = images.to(how.device)  # once: 150 MB for CIFAR-10, and no copy on a CPU
        self.labels = None if labels is None else labels.to(how.device)
        self.recipe, self.how = recipe, how
        self.batch_size = min(recipe.batch_size, len(images))
        self.steps = len(images) // self.batch_size
        self.random = np.random.default_rng(seed)
        self.names: set[str] = set()
        self.totals: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.curve: list[Epoch] = []
        self.stopwatch = Stopwatch()

    def __len__(self) -> int:
        """Batches of all epochs."""
        return self.recipe.epochs * self.steps

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        size, epochs = self.batch_size, self.recipe.epochs
        for epoch in range(1, epochs + 1):
            if epoch > 1:
                self.close()
            self.stopwatch = Stopwatch()
            shuffled = torch.from_numpy(self.random.permutation(len(self.images)))
            shuffled = shuffled.to(self.how.device)
            for step in bar(range(self.steps), f"epoch {epoch}/{epochs}"):
                chosen = shuffled[step * size : (step + 1) * size]
                # uint8 until here: 1/4 of the bytes, and no DataLoader, which takes 10 ms a batch.
                batch = as_floats(self.images[chosen])
                if self.recipe.horizontal_flip and self.random.integers(2):
                    batch = batch.flip(-1)
                batch = batch.contiguous(memory_format=FORMATS[self.how.memory_format])
                yield batch, None if self.labels is None else self.labels[chosen]

    def log(self, found: Mapping[str, Tensor]) -> None:
        """Add what one batch gave. Read once an epoch: a GPU is not waited for at each step."""
        for name, value in found.items():
            if name not in self.totals:
                self.names.add(name)
                if len(self.names) > MOST_SCALARS:
                    raise Failure(
                        f"the loss gives more than {MOST_SCALARS} scalars, {name!r} among them; "
                        "give fewer, under the same names at each step"
                    )
                self.totals[name] = torch.zeros((), device=self.how.device)
            self.totals[name] += value.detach()
            self.counts[name] = self.counts.get(name, 0) + 1

    def close(self) -> None:
        """End an epoch. Failure for a loss that is not finite."""
        means = {name: total.item() / self.counts[name] for name, total in self.totals.items()}
        used = self.stopwatch.read()
        self.totals, self.counts = {}, {}
        self.curve.append(Epoch(means, used))
        epoch, loss = len(self.curve), means["loss"]
        if not math.isfinite(loss):
            raise Failure(f"the loss is {loss} in epoch {epoch}")
        say_epoch(epoch, self.recipe.epochs, loss, used.seconds)
