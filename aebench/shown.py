"""Which test images are shown, and not only counted.

Keys cover this: what is stored of these images is of the rules that stand here.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

MAPPED = 1000  # of the map of the codes
WORST = 10  # with the largest errors


def mapped(count: int) -> list[int]:
    """The test images of the map, evenly over all `count` of them: at most MAPPED."""
    shown = min(count, MAPPED)
    return [place * count // shown for place in range(shown)]


def worst(errors: "np.ndarray") -> "np.ndarray":
    """Places of the largest errors (N,), the largest first, equal ones in their order."""
    return (-errors).argsort(kind="stable")[:WORST]
