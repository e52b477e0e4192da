"""Intervals cover what they say, and ties are broken falsely as rarely as they say."""

import numpy as np
import pytest
from scipy import stats

from aebench.evaluation.uncertainty import (
    Variance,
    difference,
    half_width,
    holm,
    interval,
    of_accuracies,
    of_accuracy,
    of_exclusion,
    of_gain,
    over_seeds,
    p_value,
    told,
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
        one = found(values)
        hits += one.low <= TRUTH[kind] <= one.high
    return hits / 1000


@pytest.mark.parametrize("seeds", [2, 3])
@pytest.mark.parametrize(("kind", "found"), [(errors, interval), (correct, of_accuracy)])
def test_interval_covers_the_mean_over_new_seeds_and_images(kind, found, seeds):
    # 95 %, and what adding squares and the double count add
    assert 0.94 <= coverage(kind, seeds, found) <= 0.995
    assert 0.94 <= coverage(kind, seeds, found, moved=0.12) <= 0.99


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("ratio", [0.1, 1.0, 3.0, 10.0])
def test_half_width_holds_however_seeds_and_images_compare(seeds, ratio):
    random = np.random.default_rng(seeds)
    means = random.normal(0, (1 + ratio**2) ** 0.5, 2000)
    drawn = ratio**2 * random.chisquare(seeds - 1, 2000) / (seeds - 1)
    halves = [half_width([Variance(v, seeds - 1), Variance(1.0, 358)]) for v in drawn.tolist()]
    assert 0.94 <= (np.abs(means) <= halves).mean() <= 0.995  # one t: 88 and 92 % at 3


@pytest.mark.parametrize(("kind", "found"), [(errors, interval), (correct, of_accuracy)])
def test_interval_of_one_seed_is_over_images_alone(kind, found):
    assert 0.93 <= coverage(kind, 1, found, moved=0.0) <= 0.97
    assert coverage(kind, 1, found, moved=0.1) < 0.7  # what the report says it leaves out


def test_interval_of_accuracies_needs_no_image():
    def summary(values):
        return of_accuracies(values.mean(axis=1), values.shape[1])

    assert 0.93 <= coverage(correct, 1, summary, moved=0.0) <= 0.97
    assert 0.94 <= coverage(correct, 3, summary) <= 0.998


def right(random, seeds, accuracy, hard):
    """Right or wrong (seeds, images): some images are hard, a seed moves the model as a whole."""
    moved = 0.15 if seeds > 1 else 0.0
    spread = (1 + 1.5**2 + moved**2) ** 0.5
    limit = stats.norm.ppf(accuracy) * spread + hard + random.normal(0, 1, (seeds, 1)) * moved
    return (limit > random.normal(0, 1, (seeds, IMAGES))).astype(np.float64)


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("accuracy", [0.02, 0.9, 0.99, 1.0])
def test_interval_of_an_accuracy_holds_the_truth_near_its_ends(accuracy, seeds):
    random = np.random.default_rng(seeds)
    held = {"one": 0, "gain": 0, "by seed": 0}
    for _ in range(300):
        hard = random.normal(0, 1.5, IMAGES)
        values, other = (right(random, n, accuracy, hard) for n in (seeds, 1))
        found = {
            "one": (of_accuracy(values), accuracy),
            "gain": (of_gain(values - other), 0.0),
            "by seed": (of_accuracies(values.mean(axis=1), IMAGES), accuracy),
        }
        for name, (one, truth) in found.items():
            held[name] += one.low - 1e-12 <= truth <= one.high + 1e-12
    assert min(held.values()) >= 0.93 * 300, held


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (2, 3), (3, 40), (5, 400)])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.97, 1.0])
def test_ends_of_accuracies_and_of_their_differences_are_possible(shape, share):
    random = np.random.default_rng(0)
    for _ in range(20):
        one, other = (random.random((2, *shape)) < share).astype(np.float64)
        other = other.mean(axis=0)
        for found in (of_accuracy(one), of_accuracies(one.mean(axis=1), shape[1])):
            assert 0 <= found.low <= found.mean <= found.high <= 1 and found.low < found.high
        for values in (one - other, other - one):
            found = of_gain(values)
            assert -1 <= found.low <= found.mean == values.mean() <= found.high <= 1
            assert found.low < found.high


@pytest.mark.parametrize("count", [0, 1, 4, 180, 355, 359])
def test_interval_of_one_seed_is_wilsons(count):
    values = (np.arange(359) < count).astype(np.float64)[None]
    low, high = stats.binomtest(count, 359).proportion_ci(method="wilson")
    for found in (of_accuracy(values), of_accuracies([count / 359], 359)):
        assert (found.low, found.high) == pytest.approx((low, high), abs=4e-4)  # Student's t


def test_interval_of_a_gain_is_newcombes_where_nothing_is_lost():
    values = np.zeros((1, 200))
    assert of_gain(values).low == -of_gain(values).high < 0  # alike on all images: nearly the same
    values[0, :6] = 1
    gain, alone = of_gain(values), of_accuracy(values)
    assert alone.low < alone.mean == gain.mean and gain.low < alone.low < gain.high


def test_interval_of_a_gain_in_the_middle_is_that_of_the_difference():
    random = np.random.default_rng(0)
    shares = np.array([[0.5], [0.55], [0.62]])  # what a seed gains and loses goes together
    one, other = random.random((3, 20000)) < shares, random.random((1, 20000)) < 0.5
    found, plain = of_gain(one - other.astype(float)), difference(1.0 * one, 1.0 * other)
    assert (found.below, found.above) == pytest.approx((plain.below, plain.above), rel=0.02)


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
    assert p_value(one, one) == 1 and p_value(one, one + 1) < 1e-9
    few = np.ones((1, 3))  # alike, so that no variance is known: the sign test
    assert p_value(few, 0 * few) == 0.25


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
    first = int(np.argmax(means) if largest else np.argmin(means))
    apart = told(len(values), lambda i, j: p_value(values[i], values[j]))
    return [first, *(i for i in range(len(values)) if i != first and {i, first} not in apart)]


def test_tie_group_is_the_best_and_what_is_not_clearly_worse():
    random = np.random.default_rng(2)
    a, b, c = errors(random, 3, models=3, moved=0.001)
    assert tie_group([c + 1, a, b + 0.001], largest=False) in ([1, 2], [2, 1])
    assert tie_group([-c - 1, -a, -b - 0.5], largest=True) == [1]
    assert tie_group([a], largest=True) == [0]


def test_the_interval_is_that_of_the_test():
    random = np.random.default_rng(0)
    one, other = random.random((3, 200)), random.random((2, 200)) + 0.02
    found = difference(one, other)
    assert found.mean == pytest.approx(one.mean() - other.mean())
    assert found.holds_zero == (p_value(one, other) > 0.05)
    shift = found.high  # one end at 0: p is exactly that of the interval
    assert p_value(one - shift, other) == pytest.approx(0.05)


@pytest.mark.parametrize("images", [1, 2, 40])
@pytest.mark.parametrize("seeds", [(1, 1), (2, 1), (2, 2), (3, 2)])
def test_p_is_below_the_level_where_the_interval_holds_no_zero(seeds, images):
    random = np.random.default_rng(images)
    for shift in (0.0, 0.1, 0.5, 2.0, 30.0, 1e9):
        one, other = (random.normal(0, 1, (n, images)) for n in seeds)
        for values in (one + shift, one * 1e-9 + shift, one.round() + shift, 0 * one + shift):
            for against in (other, other.round(), 0 * other):
                p, found = p_value(values, against), difference(values, against)
                assert 0 <= p <= 1 and p == pytest.approx(p_value(against, values))
                if found.below is not None:
                    assert found.holds_zero == (p >= 0.05)
    centred = one - one.mean() + other.mean()
    assert p_value(centred, other) == pytest.approx(1)
    assert p_value(one, one) == p_value(0 * one, 0 * other) == 1


@pytest.mark.parametrize("seeds", [1, 3])
def test_intervals_of_what_an_exclusion_loses(seeds):
    """Of images, a tenth are left out, which are right more often: 0.8 against 0.4."""
    random = np.random.default_rng(seeds)
    hits, draws = 0, 1000
    for _ in range(draws):
        left_out = random.random(IMAGES) < 0.1
        right = random.random((seeds, IMAGES)) < np.where(left_out, 0.8, 0.4)
        values = right.astype(np.float64)
        found = of_exclusion(values, ~left_out)
        assert found.mean == pytest.approx(values.mean() - values[:, ~left_out].mean())
        hits += found.low <= 0.1 * 0.8 + 0.9 * 0.4 - 0.4 <= found.high
    assert hits > 0.935 * draws
    # Paired: far narrower than the difference of two figures that are independent.
    assert found.half_width < interval(values).half_width / 2
