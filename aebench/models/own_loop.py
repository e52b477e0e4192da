"""A model's own training loop: `optimize`, over the suite's batches, and what it must keep to."""

import contextlib
from collections.abc import Generator, Iterator
from typing import Any

import torch
from torch import nn

from aebench.errors import Failure, author_line
from aebench.models.autoencoder import Autoencoder
from aebench.models.batches import Stream
from aebench.models.losses import scalars
from aebench.models.signatures import given


def own_loop(autoencoder: Autoencoder, stream: Stream) -> None:
    """Let the model train itself by its `optimize`; what it yields is logged to the stream.

    Failure where it does not keep to one yield a batch, leaves another mode or other parameters
    behind, or gives no loss: also where the loop swallowed the exception that told it.
    """
    batches = OnePass(stream)
    before = modes(stream.how.device)
    parameters = {name: (p, p.device, p.shape) for name, p in autoencoder.named_parameters()}
    loop = optimize(autoencoder, batches)
    try:
        for found in steps(loop):
            batches.answer()
            stream.log(scalars(found, "optimize"))
            check_modes(before, modes(stream.how.device))
        batches.end()
        check_modes(before, modes(stream.how.device))
        check_parameters(parameters, autoencoder)
        stream.close()
    except BaseException:
        with contextlib.suppress(Exception):  # it is told to end, whatever it makes of that
            loop.close()
        raise


class OnePass:
    """What `optimize` is given: one iterator over the batches of all epochs.

    float32 (B, C, H, W) on the device; pairs of these and int64 (B,) where labels are asked for.
    A batch is given when the one before was answered by a yield. Failure otherwise; it is kept for
    `answer` and `end`, as a loop may swallow it.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.batches = iter(stream)
        self.pulled = self.answered = 0
        self.iterated = False
        self.failure: Exception | None = None

    def __len__(self) -> int:
        """Batches of all epochs."""
        return len(self._stream)

    def __iter__(self) -> Iterator[Any]:
        if self.failure:
            raise self.failure
        if self.iterated and self.pulled:
            raise self.broken(
                "optimize goes through the batches a second time; they are those of all "
                f"{self._stream.recipe.epochs} epochs: leave out the loop over epochs"
            )
        self.iterated = True
        return self

    def __next__(self) -> Any:
        if self.failure:
            raise self.failure
        if self.pulled > self.answered:
            raise self.broken(
                f"optimize takes batch {self.pulled + 1} before it has yielded for batch "
                f"{self.pulled}; yield once for each batch: after its updates, and also where it "
                "only adds to the gradient"
            )
        try:
            batch, labels = next(self.batches)
        except StopIteration:
            raise
        except Exception as failure:  # an epoch's NaN, the machine's memory
            self.failure = failure
            raise
        self.pulled += 1
        return batch if labels is None else (batch, labels)

    def broken(self, text: str) -> Failure:
        """The failure, which is kept."""
        self.failure = Failure(text)
        return self.failure

    def answer(self) -> None:
        """The loop has yielded. Failure where there was one before, or this was not its turn."""
        if self.failure:
            raise self.failure
        if self.pulled == self.answered:
            what = f"again for batch {self.pulled}" if self.pulled else "before it took a batch"
            raise Failure(f"optimize yields {what}; yield once for each batch, after its updates")
        self.answered += 1

    def end(self) -> None:
        """The loop has returned. Failure where there was one before, or it was too early."""
        if self.failure:
            raise self.failure
        if self.answered < len(self):
            last = " without a yield for the last" if self.pulled > self.answered else ""
            raise Failure(
                f"optimize ended after {self.pulled} of {len(self)} batches{last}; go through all "
                "of them: `for images in batches:`, with a yield at the end"
            )


def optimize(autoencoder: Autoencoder, batches: OnePass) -> Generator[Any, None, None]:
    """The model's loop, not begun. Failure for what is none."""
    offered = given(autoencoder, "optimize", labels=batches._stream.labels)
    loop = autoencoder.optimize(batches, **offered)  # type: ignore[operator]  # it has one
    if not isinstance(loop, Generator):
        kind = type(loop).__name__
        raise Failure(
            f"optimize returned {kind}; allowed: a generator, which yields what loss returns after "
            "each update (`yield`, or `yield from` another)"
        )
    return loop


def steps(loop: Generator[Any, None, None]) -> Iterator[Any]:
    """What the loop yields. Failure that names a StopIteration inside, which Python renames."""
    try:
        yield from loop
    except RuntimeError as error:
        if not isinstance(error.__cause__, StopIteration):
            raise
        raise Failure(
            f"StopIteration in optimize{author_line(error.__cause__)}: `next()` of what was at its "
            "end; the batches are given once, as many as len(batches)"
        ) from None


def modes(device: str) -> dict[str, Any]:
    """torch's modes in which a step computes, by their names."""
    return {
        "gradients": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "autocast": torch.is_autocast_enabled(device),
        "default dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
    }


def check_modes(before: dict[str, Any], now: dict[str, Any]) -> None:
    """Failure for a mode that is not the one of before."""
    for name, value in now.items():
        if value != before[name]:
            raise Failure(
                f"optimize leaves {name} at {value}, it was {before[name]}; put it back before "
                "each yield and the end: yield outside of `with torch.no_grad():` and the like"
            )


def check_parameters(
    before: dict[str, tuple[nn.Parameter, torch.device, torch.Size]], autoencoder: nn.Module
) -> None:
    """Failure where a parameter is another object, elsewhere, of another shape, gone or new."""
    now = dict(autoencoder.named_parameters())
    for name in [*before, *(now.keys() - before.keys())]:
        known, found = before.get(name), now.get(name)
        if known is None or found is None:
            what = "made" if known is None else "removed"
        elif found is not known[0]:
            what = "replaced"
        elif (found.device, found.shape) != known[1:]:
            what = "moved" if found.device != known[1] else "reshaped"
        else:
            continue
        raise Failure(
            f"optimize {what} parameter {name}; allowed: to change its values in place (an "
            "optimizer's step, `.copy_()` under no_grad); what is new is made in build, or kept in "
            "a variable of the loop"
        )
