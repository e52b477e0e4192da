"""Intervals cover what they say, and ties are broken falsely as rarely as they say."""

import numpy as np
import pytest
from scipy import stats

from aebench.evaluation.uncertainty import (
    holm,
    interval,
    of_accuracies,
    over_seeds,
    p_value,
    tied,
)

IMAGES = 400


def errors(random, seeds, models=1, moved=0.05):
    """Squared errors (seeds, images) of equally good models, whose true mean is 1.

    A hard image is hard for every model; a seed moves a model as a whole, and each image.
    """
    hard = random.gamma(2, 0.5, IMAGES)
    return [
        hard + random.normal(0, moved, (seeds, 1)) + random.normal(0, 0.3, (seeds, IMAGES))
        for _ in range(models)
    ]


def correct(random, seeds, models=1, moved=0.03):
    """As `errors`, for 0 and 1: the true mean is that of a beta distribution, 0.5."""
    easy = random.beta(1, 1, IMAGES)
    return [
        (
            random.random((seeds, IMAGES))
            < np.clip(easy + random.normal(0, moved, (seeds, 1)), 0, 1)
        ).astype(np.float64)
        for _ in range(models)
    ]


TRUTH = {errors: 1.0, correct: 0.5}


def coverage(kind, seeds, found=interval, **options):
    """How often of 1000 times the interval holds the true mean."""
    random = np.random.default_rng(seeds)
    hits = 0
    for _ in range(1000):
        (values,) = kind(random, seeds, **options)
        mean, half = found(values)
        hits += abs(mean - TRUTH[kind]) <= half
    return hits / 1000


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("kind", TRUTH)
def test_interval_covers_the_mean_over_new_seeds_and_images(kind, seeds):
    assert 0.92 <= coverage(kind, seeds) <= 0.985  # 95 %, and what the double count adds


@pytest.mark.parametrize("kind", TRUTH)
def test_interval_of_one_seed_is_over_images_alone(kind):
    assert 0.93 <= coverage(kind, 1, moved=0.0) <= 0.97
    assert coverage(kind, 1, moved=0.1) < 0.7  # what the report says it leaves out


def test_interval_of_accuracies_needs_no_image():
    def summary(values):
        return of_accuracies(values.mean(axis=1), values.shape[1])

    assert 0.93 <= coverage(correct, 1, summary, moved=0.0) <= 0.97
    assert 0.93 <= coverage(correct, 3, summary) <= 0.99


def test_one_seed_and_seeds_alone_are_students():
    values = np.random.default_rng(0).normal(0, 1, 50)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    for found in (interval(values[None]), over_seeds(values)):
        assert found.mean - found.half_width == pytest.approx(low)
        assert found.mean + found.half_width == pytest.approx(high)
    assert over_seeds([1.0]).half_width is None and over_seeds([1.0, 1.0]).half_width is None


def test_p_value_of_one_seed_is_the_paired_t_test():
    one, other = np.random.default_rng(0).normal(0, 1, (2, 1, 60))
    assert p_value(one, other) == pytest.approx(stats.ttest_rel(one[0], other[0]).pvalue)
    assert p_value(one, one) == 1 and p_value(one, one + 1) == 0


def test_holm_adjusts_as_he_wrote():
    assert holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]).tolist() == [1, 1]
    assert holm([]).tolist() == []


@pytest.mark.parametrize(("seeds", "moved"), [(1, 0.0), (3, 0.05)])
def test_equal_models_are_told_apart_as_rarely_as_said(seeds, moved):
    random = np.random.default_rng(1)
    wrong = sum(
        len(tie_group(errors(random, seeds, models=5, moved=moved), largest=False)) < 5
        for _ in range(400)
    )
    assert wrong / 400 < 0.07


def tie_group(values, largest):
    """Of per-image values (seeds, images) of each model, as the report forms it."""
    means = [float(v.mean()) for v in values]
    return tied(means, lambda i, j: p_value(values[i], values[j]), largest)


def test_tie_group_is_the_best_and_what_is_not_clearly_worse():
    random = np.random.default_rng(2)
    a, b, c = errors(random, 3, models=3, moved=0.001)
    assert tie_group([c + 1, a, b + 0.001], largest=False) in ([1, 2], [2, 1])
    assert tie_group([-c - 1, -a, -b - 0.5], largest=True) == [1]
    assert tie_group([a], largest=True) == [0]
