"""Reference numbers on digits that need no training, the same on every machine.

They check data, split, scaling, clipping, search, vote and panel in one go. Each was computed with
scikit-learn as well, from its own copy of the images.
"""

import json

import numpy as np
import pytest
from ruamel.yaml import YAML
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

TEST_IMAGES = 359
# Of 359 test images, those that k neighbours (L2) get right.
PIXELS_RIGHT = {1: 356, 5: 354, 10: 355, 20: 352, 50: 344}
PCA_10_RIGHT = {1: 352, 10: 356}
PCA_10_MSE = 0.018306  # not clipped: 0.019326
PCA_10_PSNR = 17.7292
MEAN_IMAGE_MSE = 0.071362


@pytest.fixture(scope="module")
def digits():
    """Train and test images float64 (N, 64) in [0, 255] and their labels, from scikit-learn."""
    data = load_digits()
    images, test = np.rint(data.data * 255 / 16), np.arange(len(data.data)) % 5 == 4
    return images[~test], images[test], data.target[~test], data.target[test]


def result(workspace, run, stage):
    return json.loads((workspace / f"results/{run}/0/{stage}.json").read_text())


def right(knn, metric, k):
    return round(knn["panel"][metric][str(k)] * TEST_IMAGES)


def test_images_are_those_of_digits(finished):
    meta = json.loads((finished / "data/prepared/meta.json").read_text())
    assert (meta["num_train"], meta["num_test"]) == (1438, TEST_IMAGES)
    assert meta["data_hash"].startswith("9ae0d999978e218c3beca890f755f5a0")


def test_raw_pixels(finished, digits):
    knn = result(finished, "pixels", "knn")
    counts = {k: right(knn, "l2", k) for k in (1, 5, 10, 20, 50)}
    assert counts == PIXELS_RIGHT
    bank, queries, labels, truth = digits
    nearest = KNeighborsClassifier(1).fit(bank, labels).predict(queries)
    assert (nearest == truth).sum() == counts[1]


def test_pca(baseline, digits):
    path = baseline / "params.yaml"
    runs = YAML(typ="safe").load(path.read_text())["runs"]
    baseline.params(runs=runs | {"pca-latent10": {"model": "pca", "latent": 10}})
    baseline.run("aebench", "plan")
    for stage in ("train", "encode", "knn"):
        baseline.run("aebench", stage, "pca-latent10", "0")
    encode = result(baseline, "pca-latent10", "encode")
    knn = result(baseline, "pca-latent10", "knn")
    assert encode["mse"] == pytest.approx(PCA_10_MSE, abs=5e-7)
    assert encode["psnr"] == pytest.approx(PCA_10_PSNR, abs=1e-4)
    assert {k: right(knn, "l2", k) for k in (1, 10)} == PCA_10_RIGHT
    bank, queries, _, _ = (a / 255 for a in digits)
    model = PCA(10, svd_solver="full").fit(bank)
    decoded = np.clip(model.inverse_transform(model.transform(queries)), 0, 1)
    assert encode["mse"] == pytest.approx(np.square(decoded - queries).mean(), abs=5e-7)


def test_mean_image(finished):
    train, test = (
        np.load(finished / f"data/prepared/{split}_images.npy") / 255 for split in ("train", "test")
    )
    assert np.square(test - train.mean(axis=0)).mean() == pytest.approx(MEAN_IMAGE_MSE, abs=5e-7)
