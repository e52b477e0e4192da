"""How far a stage is: a bar on a terminal, plain lines elsewhere."""

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def bar(items: Iterable[Any], label: str, total: int | None = None) -> Iterable[Any]:
    """The items; while they are taken, a bar on a terminal."""
    return tqdm(items, label, total, leave=False, disable=None)


def say_epoch(epoch: int, epochs: int, loss: float, seconds: float) -> None:
    """A line, where there is no bar."""
    if not sys.stderr.isatty():
        print(f"epoch {epoch}/{epochs}: loss {loss:.5f}, {seconds:.1f} s", flush=True)
