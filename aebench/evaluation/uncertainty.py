"""Confidence intervals over seeds and test images, and tie groups, from per-image outcomes."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.95


class Interval(NamedTuple):
    """mean - half_width to mean + half_width; None where nothing can be said of it."""

    mean: float
    half_width: float | None


class Variance(NamedTuple):
    """Of a mean, from one source, with its degrees of freedom."""

    value: float
    degrees_of_freedom: int


def interval(values: np.ndarray) -> Interval:
    """95 % interval of the mean of `values` float64 (seeds, images).

    Seeds and images are crossed random effects: the variance of the mean is that of the seeds'
    means / seeds, plus that of the images' means / images; its quantile is Student's with
    Satterthwaite's degrees of freedom (Biometrics Bulletin 2, 1946). What is neither of seed nor of
    image alone counts in both, which errs to the wide side. One seed: over images only.
    """
    return Interval(float(values.mean()), half_width(variances(values)))


def variances(values: np.ndarray) -> list[Variance]:
    """Of the mean of (seeds, images): from the seeds, if there are several, and from the images."""
    return [*of_mean(values.mean(axis=1)), *of_mean(values.mean(axis=0))]


def of_mean(values: np.ndarray) -> list[Variance]:
    """The variance of the mean of independent values; empty for a single one and for equal ones."""
    count = len(values)
    if np.ptp(values) == 0:  # var() of equal values is rounding
        return []
    return [Variance(float(values.var(ddof=1)) / count, count - 1)]


def over_seeds(values: Sequence[float]) -> Interval:
    """95 % interval of the mean over seeds alone, Student's t."""
    found = np.array(values, np.float64)
    return Interval(float(found.mean()), half_width(of_mean(found)))


def of_accuracies(accuracies: Sequence[float], images: int) -> Interval:
    """`interval` where only each seed's accuracy is known: the images' variance is p (1 - p) / N.

    That is what one seed has; for the mean of several it is an upper limit.
    """
    found = np.array(accuracies, np.float64)
    mean = float(found.mean())
    from_images = Variance(mean * (1 - mean) / images, images)  # nobody estimated a spread
    return Interval(mean, half_width([*of_mean(found), from_images]))


def half_width(sources: Sequence[Variance]) -> float | None:
    """Of the 95 % interval; None without any variance."""
    if (total := sum(source.value for source in sources)) == 0:
        return None
    return float(stats.t.ppf((1 + LEVEL) / 2, degrees_of_freedom(sources)) * total**0.5)


def degrees_of_freedom(sources: Sequence[Variance]) -> float:
    """Satterthwaite's degrees of freedom of a sum of variances."""
    squares = sum(source.value**2 / source.degrees_of_freedom for source in sources)
    return sum(source.value for source in sources) ** 2 / squares


def p_value(one: np.ndarray, other: np.ndarray) -> float:
    """Two-sided p of equal means of two models' values (seeds, the same images).

    Paired over the images, independent over the seeds: t = difference / its standard deviation,
    with the variances of `interval`.
    """
    difference = one.mean(axis=0) - other.mean(axis=0)
    sources = [
        *of_mean(one.mean(axis=1)),
        *of_mean(other.mean(axis=1)),
        *of_mean(difference),
    ]
    total = sum(source.value for source in sources)
    if total == 0:  # all images differ alike; of a single one nothing is known
        return 1.0 if difference.mean() == 0 or len(difference) < 2 else 0.0
    t = abs(difference.mean()) / total**0.5
    return float(2 * stats.t.sf(t, degrees_of_freedom(sources)))


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Adjusted p-values that keep the chance of any false rejection (S. Holm, 1979)."""
    found = np.array(p_values, np.float64)
    order = np.argsort(found)
    adjusted = np.maximum.accumulate(found[order] * np.arange(len(found), 0, -1))
    result = np.empty_like(found)
    result[order] = np.minimum(adjusted, 1)
    return result


def tied(means: Sequence[float], p_of: Callable[[int, int], float], largest: bool) -> list[int]:
    """The index of the best mean, then of those that are not significantly worse.

    `p_of(i, j)`: the p of equal means of models i and j < i. Holm's correction is over all pairs of
    models, as the best is chosen on the same images.
    """
    best = int(np.argmax(means) if largest else np.argmin(means))
    pairs = [(i, j) for i in range(len(means)) for j in range(i)]
    adjusted = holm([p_of(i, j) for i, j in pairs])
    worse = {
        i + j - best
        for (i, j), p in zip(pairs, adjusted, strict=True)
        if best in (i, j) and p < 0.05
    }
    return [best, *(i for i in range(len(means)) if i != best and i not in worse)]
