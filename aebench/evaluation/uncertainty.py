"""Confidence intervals over seeds and test images, and tie groups, from per-image outcomes."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

LEVEL = 0.95
LEAST = 0.05  # p below which a difference is told
SMALLEST = 1e-150  # p that is looked for: its square and that of its t are floats


class Interval(NamedTuple):
    """mean - below to mean + above; both None where nothing can be said of it."""

    mean: float
    below: float | None = None
    above: float | None = None

    @property
    def half_width(self) -> float | None:
        """Half of the way from end to end."""
        if self.below is None or self.above is None:
            return None
        return self.below if self.below == self.above else (self.below + self.above) / 2

    @property
    def low(self) -> float:
        """The lower end; the mean where nothing can be said of it."""
        return self.mean - (self.below or 0)

    @property
    def high(self) -> float:
        """The upper end; the mean where nothing can be said of it."""
        return self.mean + (self.above or 0)

    @property
    def holds_zero(self) -> bool:
        """Whether 0 lies in it; not, where its ends are not known."""
        return self.below is not None and self.low <= 0 <= self.high


class Variance(NamedTuple):
    """Of a mean, from one source, with its degrees of freedom."""

    value: float
    degrees_of_freedom: int

    @property
    def t2(self) -> float:
        """The square of Student's quantile of a 95 % interval."""
        return float(special.stdtrit(self.degrees_of_freedom, (1 + LEVEL) / 2)) ** 2


def interval(values: np.ndarray) -> Interval:
    """95 % interval of the mean of `values` float64 (seeds, images).

    Seeds and images are crossed random effects: the variance of the mean is that of the seeds'
    means / seeds, plus that of the images' means / images. The half widths that each source would
    have alone, Student's, are added in squares (S. K. Banerjee, Sankhya 22, 1960). The chance that
    a squared half width holds a normal mean is concave in it, so the sum holds 95 % or more however
    the sources compare. One t with Satterthwaite's degrees of freedom is narrower, and held 87 %
    with 2 seeds, 92 % with 3 (benchmarks/coverage.txt). What is neither of seed nor of image alone
    counts in both, which errs to the wide side. One seed: over images only.
    """
    half = half_width(variances(values))
    return Interval(float(values.mean()), half, half)


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
    half = half_width(of_mean(found))
    return Interval(float(found.mean()), half, half)


def of_ratio(one: Sequence[float], other: Sequence[float]) -> Interval:
    """95 % interval of mean / mean of independent positive values, linearised (delta method).

    Without ends where either has one value alone.
    """
    top, below = np.array(one, np.float64), np.array(other, np.float64)
    ratio = float(top.mean() / below.mean())
    if min(len(top), len(below)) < 2:
        return Interval(ratio)
    half = half_width([*of_mean(top / top.mean()), *of_mean(below / below.mean())])
    half = None if half is None else half * ratio
    return Interval(ratio, half, half)


def of_accuracy(values: np.ndarray) -> Interval:
    """`interval` of the mean of `values` float64 (seeds, images) in [0, 1], within 0 and 1."""
    from_seeds, from_images = of_mean(values.mean(axis=1)), of_mean(values.mean(axis=0))
    return proportion(float(values.mean()), from_seeds, from_images, values.shape[1])


def of_accuracies(accuracies: Sequence[float], images: int) -> Interval:
    """`of_accuracy` where only each seed's is known: the images' variance is p (1 - p) / N.

    That is what one seed has; for the mean of several it is an upper limit.
    """
    found = np.array(accuracies, np.float64)
    mean = float(found.mean())
    from_images = Variance(mean * (1 - mean) / images, images)  # nobody estimated a spread
    return proportion(mean, of_mean(found), [from_images], images)


def proportion(
    mean: float, from_seeds: Sequence[Variance], from_images: Sequence[Variance], images: int
) -> Interval:
    """The score interval of a proportion, within 0 and 1, with seeds as a further source.

    E. B. Wilson's (JASA 22, 1927) holds each p with |mean - p| <= t sqrt(p (1 - p) / trials): a
    variance that is p's own does not vanish at the ends. The trials are those that give the images'
    variance at the mean, or their number where that is 0. Under the root stands what was found
    between the seeds, too, each source with its own t, as in `interval`.
    """
    own, spread = sum(source.value for source in from_images), mean * (1 - mean)
    trials = spread / own if own > 0 and spread > 0 else images
    f = (from_images[0] if from_images else Variance(0, images)).t2 / trials
    of_seeds = squared_half_width(from_seeds)
    half = (f * spread + f**2 / 4 + (1 + f) * of_seeds) ** 0.5
    moved = (0.5 - mean) * f  # of the centre, towards a half
    below, above = ((half - sign * moved) / (1 + f) for sign in (1, -1))
    return Interval(mean, min(max(below, 0.0), mean), min(max(above, 0.0), 1 - mean))


def of_gain(values: np.ndarray) -> Interval:
    """`interval` of a difference of accuracies, `values` float64 (seeds, images) in [-1, 1].

    It is what was gained minus what was lost, each a proportion with its own ends; of these it
    takes the ends of the difference, within -1 and 1 (R. G. Newcombe, Statistics in Medicine 17,
    1998; with any limits and correlation: G. Zou and A. Donner, ibid. 27, 2008).
    """
    gained, lost = np.maximum(values, 0), np.maximum(-values, 0)
    more, less = of_accuracy(gained), of_accuracy(lost)
    r = correlation(gained, lost)
    mean = float(values.mean())
    below = beyond(more.below or 0, less.above or 0, r)
    above = beyond(more.above or 0, less.below or 0, r)
    return Interval(mean, min(below, 1 + mean), min(above, 1 - mean))


def of_exclusion(values: np.ndarray, kept: np.ndarray) -> Interval:
    """`interval` of mean(values) - mean(values of the kept images), `values` (seeds, images).

    Whether an image is kept, bool (images,), is as much of chance as its values are: the second
    mean is a ratio, linearised (delta method).
    """
    every = values.mean(axis=1, keepdims=True)
    left = values[:, kept].mean(axis=1, keepdims=True)
    moved = (values - every) - (values - left) * kept / kept.mean()
    return interval(every - left + moved)


def beyond(one: float, other: float, r: float) -> float:
    """How far a difference may be off where its terms, of correlation r, are by these."""
    return max(0.0, one**2 - 2 * r * one * other + other**2) ** 0.5


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Of the means of two figures of the same (seeds, images), each source by its t, squared.

    So the half width of their difference is that of `interval`. 0 where one does not vary.
    """
    squares = [squared_half_width(variances(values)) for values in (one, other)]
    if 0 in squares:
        return 0.0
    pairs = [(one.mean(axis=axis), other.mean(axis=axis)) for axis in (1, 0)]
    shared = [
        Variance(float(np.cov(*pair)[0, 1]) / n, n - 1) for pair in pairs if (n := len(pair[0])) > 1
    ]
    r = squared_half_width(shared) / (squares[0] * squares[1]) ** 0.5
    return min(1.0, max(-1.0, r))


def half_width(sources: Sequence[Variance]) -> float | None:
    """Of the 95 % interval; None without any variance."""
    return squared_half_width(sources) ** 0.5 or None


def squared_half_width(sources: Sequence[Variance]) -> float:
    """Of the 95 % interval: those that each source would have alone, in squares, added."""
    return sum(source.t2 * source.value for source in sources)


def p_value(one: np.ndarray, other: np.ndarray) -> float:
    """Two-sided p of equal means of two models' values (seeds, the same images).

    Paired over the images, independent over the seeds, with the variances of `difference`: 1 minus
    the level of the interval that ends at 0, so that 95 % holds 0 where p >= 0.05.
    """
    mean = abs(float((one.mean(axis=0) - other.mean(axis=0)).mean()))
    sources = of_difference(one, other)
    total = sum(source.value for source in sources)
    if total == 0:  # all images differ alike, and no variance is known: by the sign test
        return 1.0 if mean == 0 else float(min(1.0, 2 * 0.5 ** one.shape[1]))
    t = mean / total**0.5
    # The sources' t, squared and weighted, make t^2: p lies between those of t in each of them.
    alone = [2 * float(special.stdtr(source.degrees_of_freedom, -t)) for source in sources]
    low, high = max(min(alone), SMALLEST), max(alone)
    if low >= high:
        return high

    def excess(log_p: float) -> float:
        quantiles = special.stdtrit([nu for _, nu in sources], math.exp(log_p) / 2).tolist()
        squares = (q**2 * value for q, (value, _) in zip(quantiles, sources, strict=True))
        return math.log1p(sum(squares) / total) - math.log1p(t**2)

    from scipy.optimize import brentq  # 0.2 s to import

    low, high = math.log(low), math.log(high)
    if excess(low) <= 0 or excess(high) >= 0:  # at an end, but for rounding
        return math.exp(low if excess(low) <= 0 else high)
    return math.exp(brentq(excess, low, high, xtol=1e-13))


def difference(one: np.ndarray, other: np.ndarray) -> Interval:
    """95 % interval of mean(one) - mean(other), of values as in `p_value`, and by its variances."""
    half = half_width(of_difference(one, other))
    return Interval(float((one.mean(axis=0) - other.mean(axis=0)).mean()), half, half)


def of_difference(one: np.ndarray, other: np.ndarray) -> list[Variance]:
    """The variance of mean(one) - mean(other): of the seeds of each, and of the shared images."""
    images = one.mean(axis=0) - other.mean(axis=0)
    return [*of_mean(one.mean(axis=1)), *of_mean(other.mean(axis=1)), *of_mean(images)]


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Adjusted p-values that keep the chance of any false rejection (S. Holm, 1979)."""
    found = np.array(p_values, np.float64)
    order = np.argsort(found)
    adjusted = np.maximum.accumulate(found[order] * np.arange(len(found), 0, -1))
    result = np.empty_like(found)
    result[order] = np.minimum(adjusted, 1)
    return result


def told(count: int, p_of: Callable[[int, int], float]) -> set[frozenset[int]]:
    """The pairs among so many models that a test tells apart, of 5 % with Holm's correction.

    `p_of(i, j)`: the p of equal means of models i and j < i. The correction is over all pairs, as
    the best is chosen on the same images.
    """
    pairs = [(i, j) for i in range(count) for j in range(i)]
    adjusted = holm([p_of(i, j) for i, j in pairs])
    return {frozenset(pair) for pair, p in zip(pairs, adjusted, strict=True) if p < LEAST}
