"""How often the 95 % intervals of accuracies and of their differences hold the known truth.

    python benchmarks/coverage.py | tee benchmarks/coverage.txt

Each suite draws images, of which some are hard for every model, and seeds, which move a model as a
whole. The truth is the mean over all images and seeds there could be; `student` is the symmetric
interval of `interval`, beside it. `ends` are the lowest and highest end of any suite, in %.
"""

from collections.abc import Callable

import numpy as np
from _machine import arguments, note, show
from scipy import special

from aebench.evaluation.uncertainty import Interval, interval, of_accuracies, of_accuracy, of_gain

ACCURACIES = 0.3, 0.9, 0.99, 1.0
SEEDS = 1, 2, 3
IMAGES = 36, 359
SUITES = 4000
HARD, MOVED = 1.5, 0.15  # standard deviations over images and over seeds, in probits


def level(accuracy: float, spread: float) -> float:
    """The probit whose mean over images and seeds of that spread is the accuracy."""
    return float(special.ndtri(accuracy) * (1 + spread**2) ** 0.5) if accuracy < 1 else np.inf


def suite(
    random: np.random.Generator, accuracy: float, other: float, seeds: int, images: int
) -> tuple[np.ndarray, np.ndarray]:
    """Right or wrong float64 (seeds, images) of a model and, as of PCA, (1, images) of another.

    The seed of the other one, and a single one, moves nothing: how much it would is not known.
    """
    hard = random.normal(0, HARD, images)

    def right(mean: float, count: int, moved: float) -> np.ndarray:
        moves = random.normal(0, 1, (count, 1)) * moved
        limit = level(mean, (HARD**2 + moved**2) ** 0.5) + hard + moves
        return (limit > random.normal(0, 1, (count, images))).astype(np.float64)

    return right(accuracy, seeds, MOVED if seeds > 1 else 0.0), right(other, 1, 0.0)


def by_seed(values: np.ndarray) -> Interval:
    """From each seed's accuracy alone."""
    return of_accuracies(values.mean(axis=1), values.shape[1])


def covered(
    method: Callable[[np.ndarray], Interval], values: list[np.ndarray], truth: float
) -> dict[str, float | str]:
    """Share of the suites whose interval holds the truth, mean width and furthest ends in %."""
    found = [method(one) for one in values]
    low = np.array([one.low for one in found])
    high = np.array([one.high for one in found])
    holds = (low - 1e-12 <= truth) & (truth <= high + 1e-12)
    return {
        "covered, %": 100 * float(holds.mean()),
        "mean width": 100 * float((high - low).mean()),
        "ends": f"{100 * low.min():.2f} to {100 * high.max():.2f}",
    }


def main() -> None:
    asked = arguments(__doc__)
    alone, differences = [], []
    for images in IMAGES:
        for seeds in SEEDS:
            for accuracy in ACCURACIES:
                note(f"{images} images, {seeds} seeds, accuracy {accuracy}")
                random = np.random.default_rng(0)
                few = SUITES if images < 1000 else SUITES // 4
                other = max(accuracy - 0.05, 0.3)
                drawn = [suite(random, accuracy, other, seeds, images) for _ in range(few)]
                facts = {"images": images, "seeds": seeds, "accuracy": accuracy}
                values = [one for one, _ in drawn]
                for name, method in (
                    ("score", of_accuracy),
                    ("score, by seed", by_seed),
                    ("student", interval),
                ):
                    alone.append(facts | {"method": name} | covered(method, values, accuracy))
                gains = [one - against for one, against in drawn]
                for name, method in (("gained and lost", of_gain), ("student", interval)):
                    row = facts | {"method": name} | covered(method, gains, accuracy - other)
                    differences.append(row)
    show(asked.json, {"accuracy": alone, "difference from another model": differences})


if __name__ == "__main__":
    main()
