"""The batches of all epochs, and what each epoch came to."""

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aebench.errors import Failure
from aebench.models.autoencoder import as_floats
from aebench.models.device import FORMATS, Execution
from aebench.models.finish import Epoch
from aebench.models.group import Group
from aebench.progress import bar, say_epoch
from aebench.schema import Recipe
from aebench.timing import NOTHING, Stopwatch, Usage

MOST_SCALARS = 20  # that a loss may give: each is a curve of the report
LARGE = 4 * 2**30  # bytes of images above which an epoch goes through shuffled blocks
BLOCK, RUN = 4096, 64  # images of a block, and of the pieces of neighbours that it is made of
FREE = 0.5  # of a GPU's free memory: the images' largest share, the rest is the training's


class Stream:
    """Goes once through the batches of all epochs, float32 (B, C, H, W), and their labels.

    An epoch is every image once in a new random order (of many: see `epoch_order`); the images that
    do not fill a last batch are left out of it, other ones each time. `images` uint8 (N, C, H, W),
    `labels` int64 (N,) or None: batches are then without. What is told to `log` after each batch
    makes the `curve`. An epoch's time runs from when its first batch is asked for to when the next
    one's is, or `close`. `position` is where it is between two batches; another one goes on from
    there: `go_on`. `whole`: the time of the whole training. `group`: gives this process's part of
    each batch alone; the curve is that of all parts.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor | None,
        seed: int,
        recipe: Recipe,
        how: Execution,
        group: Group | None = None,
    ) -> None:
        self.group = group
        # At once where they fit: 150 MB for CIFAR-10, and no copy on a CPU.
        self.images = images.to(how.device) if fits(images, how.device) else images
        self.labels = None if labels is None else labels.to(how.device)
        self.recipe, self.how, self.seed = recipe, how, seed
        self.batch_size = min(recipe.batch_size, len(images))
        self.steps = len(images) // self.batch_size
        self.random = np.random.default_rng(seed)
        self.names: set[str] = set()
        self.totals: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.curve: list[Epoch] = []
        self.stopwatch, self.whole = Stopwatch(), Stopwatch()
        self.given = 0  # batches of the running epoch
        self.order = self.flips = self.random.bit_generator.state  # as that began; now
        self.used = NOTHING  # of the running epoch, before it was interrupted

    def __len__(self) -> int:
        """Batches of all epochs."""
        return self.recipe.epochs * self.steps

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        size, epochs = self.batch_size, self.recipe.epochs
        first = len(self.curve) + 1
        for epoch in range(first, epochs + 1):
            if epoch > first:
                self.close()
            self.stopwatch = Stopwatch(self.used)
            self.order = self.random.bit_generator.state
            shuffled = torch.from_numpy(epoch_order(self.random, self.images))
            shuffled = shuffled.to(self.images.device)
            if self.given:
                self.random.bit_generator.state = self.flips
            for step in bar(range(self.given, self.steps), f"epoch {epoch}/{epochs}"):
                chosen = shuffled[step * size : (step + 1) * size]
                if self.group:
                    chosen = self.group.part(chosen)
                # uint8 until here: 1/4 of the bytes, and no DataLoader, which takes 10 ms a batch.
                batch = as_floats(self.images[chosen].to(self.how.device))
                if self.recipe.horizontal_flip and self.random.integers(2):
                    batch = batch.flip(-1)
                batch = batch.contiguous(memory_format=FORMATS[self.how.memory_format])
                self.given = step + 1
                yield batch, None if self.labels is None else self.labels[chosen.to(batch.device)]

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
        sums = {name: (total.item(), self.counts[name]) for name, total in self.totals.items()}
        if self.group:
            sums = self.group.summed(sums)
        means = {name: total / count for name, (total, count) in sums.items()}
        used = self.stopwatch.read()
        self.totals, self.counts = {}, {}
        self.given, self.used = 0, NOTHING
        self.curve.append(Epoch(means, used))
        epoch, loss = len(self.curve), means["loss"]
        if not math.isfinite(loss):
            raise Failure(f"the loss is {loss} in epoch {epoch}")
        say_epoch(epoch, self.recipe.epochs, loss, used.seconds)

    @property
    def done(self) -> int:
        """Batches that were given, of all epochs."""
        return len(self.curve) * self.steps + self.given

    @contextlib.contextmanager
    def untimed(self) -> Iterator[None]:
        """What is done inside does not count as time of the epoch."""
        if self.how.device == "cuda":
            torch.cuda.synchronize()
        used = self.stopwatch.read()
        yield
        self.stopwatch.restart(used)

    def position(self) -> dict[str, Any]:
        """As JSON has it, with NaN: all that the further batches and curve depend on."""
        return {
            "given": self.given,
            "order": self.order,
            "flips": self.random.bit_generator.state,
            "names": sorted(self.names),
            "totals": {name: total.item() for name, total in self.totals.items()},
            "counts": self.counts,
            "curve": [[epoch.means, vars(epoch.used)] for epoch in self.curve],
            "used": vars(self.stopwatch.read()),
            "whole": vars(self.whole.read()),
        }

    def go_on(self, position: Mapping[str, Any]) -> None:
        """Let the coming iteration begin at this position, of a stream of the same arguments."""
        self.given, self.counts = position["given"], dict(position["counts"])
        self.random.bit_generator.state, self.flips = position["order"], position["flips"]
        self.names = set(position["names"])
        self.totals = {
            name: torch.zeros((), device=self.how.device).fill_(total)
            for name, total in position["totals"].items()
        }
        self.curve = [Epoch(means, Usage(**used)) for means, used in position["curve"]]
        self.used = Usage(**position["used"])
        self.whole.restart(Usage(**position["whole"]))


def in_blocks(images: Tensor) -> bool:
    """Whether an epoch goes through shuffled blocks: a rule of the size alone."""
    return images.nbytes > LARGE


def epoch_order(random: np.random.Generator, images: Tensor) -> np.ndarray:
    """int64 (N,): every image once. Of many, block after block, each shuffled.

    Rows that are not in memory are then read as pieces of neighbours, not one by one. Such pieces
    from everywhere make up a block: prepared images are sorted by label.
    """
    count = len(images)
    if not in_blocks(images):
        return random.permutation(count)
    pieces = random.permutation(-(-count // RUN))
    order = (pieces[:, None] * RUN + np.arange(RUN)).ravel()
    order = order[order < count]
    for start in range(0, count, BLOCK):
        random.shuffle(order[start : start + BLOCK])
    return order


def fits(images: Tensor, device: str) -> bool:
    """Whether all of the images may lie on the device."""
    return device != "cuda" or images.nbytes <= FREE * torch.cuda.mem_get_info()[0]
