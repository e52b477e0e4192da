"""Test images that have a near-duplicate among the training images, and what accuracy loses."""

import csv
import hashlib
import io

import numpy as np
import pytest
from synthetic import IMAGES, cells, made, pca, report, section, titles, words

from aebench.datasets import Split, Spool
from aebench.evaluation import near_duplicates as module
from aebench.evaluation.cifair import LISTED
from aebench.evaluation.near_duplicates import alike, near_duplicates, patterns, small
from aebench.records.prepare import NearDuplicates
from aebench.report.near_duplicates import TITLE
from aebench.report.results import Near
from aebench.report.rows import results_csv

RANDOM = np.random.default_rng(0)
NOISE = RANDOM.integers(60, 180, (40, 3, 32, 32), np.uint8)


def split(images):
    return Split(images.shape[1:], np.zeros(len(images), np.int64), lambda rows: images[rows])


def searched(tmp_path, train, test):
    """What is said, and which test images it is said of."""
    splits = {"train": split(train), "test": split(test)}
    with Spool(tmp_path) as spool:
        about, found = near_duplicates(splits, {k: v.hashes() for k, v in splits.items()}, spool)
    assert about.count == found.sum() and found.shape == (len(test),) and found.dtype == bool
    return about, found.tolist()


def test_other_brightness_and_contrast_are_near_and_other_pictures_are_not(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 3)  # several blocks
    one, other = NOISE[37].astype(float), NOISE[38].astype(float)
    test = [
        NOISE[5],
        one + 40,
        other * 0.5,
        one + RANDOM.normal(0, 5, one.shape),
        255 - one,
        np.roll(one, 9, axis=2),
        RANDOM.integers(0, 256, one.shape),
    ]
    about, found = searched(tmp_path, NOISE, np.clip(test, 0, 255).astype(np.uint8))
    assert found == [True] * 4 + [False] * 3
    assert (about.rule, about.recognised) == ("distance", 0)


def test_flat_images_are_near_to_flat_ones_alone(tmp_path):
    grey = np.full((1, 3, 32, 32), 7, np.uint8)
    assert searched(tmp_path, NOISE, grey)[1] == [False]
    assert searched(tmp_path, np.concatenate([NOISE, grey + 90]), grey)[1] == [True]


def test_what_float32_cannot_tell_is_decided_in_float64(monkeypatch):
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (200, 1, 8, 8), np.uint8)
    found = patterns(images)
    products = np.sort(found[:100] @ found[100:].T, axis=1)
    # As near as can be to the correlation of one pair, from both sides.
    for row, step in [(3, -1e-12), (3, 1e-12), (70, -1e-12), (70, 1e-12)]:
        monkeypatch.setattr(module, "ALIKE", products[row, -1] + step)
        assert alike(found[100:], found[:100])[row] == (step < 0)


@pytest.mark.parametrize(("high", "wide"), [(8, 8), (11, 16), (64, 33)])
def test_images_shrink_to_means(high, wide):
    images = RANDOM.integers(0, 256, (2, 3, high, wide), np.uint8)
    found = small(images)
    assert found.shape == (2, 3, 8, 8)
    rows, columns = ([i * n // 8 for i in range(9)] for n in (high, wide))
    for i, j in [(0, 0), (3, 7), (7, 2)]:
        part = images[..., rows[i] : rows[i + 1], columns[j] : columns[j + 1]]
        assert np.abs(found[..., i, j] - part.mean((2, 3))).max() <= 0.5


def test_more_pairs_than_anybody_looks_at(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PAIRS", 40 * 3 - 1)
    about, found = searched(tmp_path, NOISE, NOISE[:3])
    assert about.rule is None and found == [False] * 3


def test_the_list_holds_for_its_very_images_alone(tmp_path, monkeypatch):
    assert len(set(LISTED.split())) == 286 and {len(bytes.fromhex(h)) for h in LISTED.split()} == {
        8
    }
    test = RANDOM.integers(0, 256, (9, 3, 32, 32), np.uint8)
    hashes = [hashlib.sha256(image.tobytes()).hexdigest()[:16] for image in test]
    monkeypatch.setattr(module, "LISTED", f"{hashes[1]}\n{hashes[6]}")
    monkeypatch.setattr(module, "TRAINING", module.content(split(NOISE).hashes()))
    about, found = searched(tmp_path, NOISE[::-1], test)  # in any order
    assert np.flatnonzero(found).tolist() == [1, 6]
    assert (about.rule, about.recognised) == ("list", 2)
    for train, tested, recognised in [(NOISE[1:], test, 2), (NOISE, test[:6], 1)]:
        about, found = searched(tmp_path, train, tested)
        assert (about.rule, about.recognised) == ("distance", recognised) and not any(found)


def near(rule="list", count=36, recognised=286):
    """The first of the images."""
    return Near(
        NearDuplicates(rule=rule, count=count, recognised=recognised), np.arange(IMAGES) < count
    )


def column(found):
    """Run -> its accuracy without them in results.csv."""
    text = results_csv(found.results, found.configurations, found.baselines).decode()
    rows = csv.DictReader(io.StringIO(text))
    return {row["run"]: row["accuracy_without_near_duplicates"] for row in rows}


def test_what_each_run_loses():
    runs = [made(seed=0), made(seed=1), pca(), made("broken", latent=5, status="failed: nan")]
    found = report(runs, near=near())
    rows = cells(section(found.document, TITLE))
    assert list(rows) == ["mlp", "pca"]
    for one in found.configurations[:2]:
        right = one.images["accuracy"]
        shown = rows[one.name]
        assert shown["without them, %"].value.mean == pytest.approx(right[:, 36:].mean())
        assert shown["on them, %"].value.mean == pytest.approx(right[:, :36].mean())
        lost = shown["lost, points"].value
        assert lost.mean == pytest.approx(right.mean() - right[:, 36:].mean()) and lost.half_width
    said = words(section(found.document, TITLE))
    assert "36 of 360 test images (10.0 %) have a near-duplicate" in said and "ciFAIR" in said
    known = column(found)
    assert float(known["pca"]) == pytest.approx(
        found.configurations[1].images["accuracy"][0, 36:].mean()
    )
    assert known["broken"] == ""


def test_what_the_distance_cannot_tell_is_said():
    found = report([made(), pca()], near=near("distance", recognised=7))
    said = words(section(found.document, TITLE))
    assert (
        "28 of the 359 test images of digits" in said and "7 images of CIFAR-10's published" in said
    )


@pytest.mark.parametrize("count", [0, IMAGES])
def test_without_any_and_with_nothing_else_there_is_no_table(count):
    found = report([made(), pca()], near=near("distance", count))
    assert f"{count:,} of 360 test images" in words(section(found.document, TITLE))
    assert "lost" not in words(section(found.document, TITLE))
    assert bool(column(found)["pca"]) == (count == 0)


def test_where_nobody_looked_no_figure_is_shown():
    found = report([made(), pca()], near=near(None, 0, 0))
    assert "Nobody looked" in words(section(found.document, TITLE)) and column(found)["pca"] == ""
    of_before = report([made(), pca()])
    assert TITLE not in titles(of_before.document) and column(of_before)["pca"] == ""
