"""Places of codes: they show what lies together, of any codes, always the same."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from aebench.evaluation.code_map import by_neighbours, code_map

LARGEST = np.finfo(np.float32).max


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape)


def whole(low, high, shape):
    return np.random.default_rng(0).integers(low, high, shape)


def groups(count, size, floats):
    """Codes around random centres, and which centre."""
    label = np.repeat(np.arange(count), size)
    return 2 * normal(count, floats)[label] + normal(len(label), floats), label


def together(found, label):
    """The share of the places whose nearest one is of the same group."""
    apart = np.square(found[:, None].astype(float) - found[None]).sum(2)
    np.fill_diagonal(apart, np.inf)
    return (label[apart.argmin(1)] == label).mean()


def test_the_plane_is_that_of_most_variance():
    codes = (normal(300, 8) * [9, 1, 1, 1, 5, 1, 1, 1]).astype(np.float32)
    expected = PCA(2).fit_transform(codes)
    for found in (code_map(codes, False)[0], code_map(np.pad(codes, ((0, 0), (0, 400))), False)[0]):
        at = found.astype(float) - 128
        slopes = (at * expected).sum(0) / np.square(expected).sum(0)
        assert abs(slopes[0]) == pytest.approx(abs(slopes[1]), rel=0.02)  # one scale
        inside = (found > 0) & (found < 255)
        shift = np.median(at - expected * slopes, axis=0)
        assert np.abs(at - expected * slopes - shift)[inside].max() < 2


def test_groups_lie_together_where_the_plane_mixes_them():
    codes, label = groups(20, 12, 30)
    first, second = code_map(codes.astype(np.float32), True)
    assert together(first, label) < 0.9 < 0.99 < together(second, label)


@pytest.mark.parametrize(
    ("codes", "maps"),
    [
        (np.full((50, 8), 3.3), 1),
        (np.zeros((50, 8)), 1),
        (normal(1, 8), 1),
        (normal(3, 3), 1),
        (normal(4, 3), 2),
        (normal(5, 900), 2),
        (normal(200, 1), 2),
        (np.outer(normal(200), normal(16)), 2),
        (LARGEST * np.sign(normal(100, 5)), 2),
        (normal(100, 5) * 1e-40, 2),
        (whole(0, 2, (300, 3)), 2),
        (np.concatenate([normal(99, 4), np.full((1, 4), 1e30)]), 2),
        (np.concatenate([np.full((400, 4), 1 / 3), np.full((1, 4), 5)]), 2),
        (np.concatenate([normal(99, 1) * 1e-20, normal(99, 1) * 1e20], axis=1), 2),
        (np.array([[1e-45], [0], [0], [1e-45], [0]]), 2),
    ],
)
def test_any_codes_have_places(codes, maps):
    codes = codes.astype(np.float32)
    with np.errstate(divide="raise", invalid="raise", over="raise"):
        found = code_map(codes, True)
    assert (found.dtype, found.shape) == (np.uint8, (maps, len(codes), 2))
    assert (code_map(codes, True) == found).all()
    assert ((found == 128).all()) == (maps == 1 and len(codes) != 3)


def test_pixels_have_places():
    pixels = whole(0, 256, (60, 64)).astype(np.uint8)
    assert (code_map(pixels, True) == code_map(pixels.astype(np.float32), True)).all()


def test_a_few_codes_far_off_do_not_press_the_others_together():
    codes = normal(500, 2)
    codes[:2] = [[1e6, 0], [0, 1e6]]
    (found,) = code_map(codes.astype(np.float32), False)
    assert found.max() == 255 and len(np.unique(found[2:], axis=0)) > 400


def test_codes_on_a_line_may_leave_it():
    line = np.linspace(-1, 1, 200)[:, None]
    found = by_neighbours(line, np.pad(line, ((0, 0), (0, 1))))
    assert found.std(0).min() > 0.01 * found.std(0).max()
