"""JPEG and WebP on the same images: bytes, errors and neighbours are those of the definition."""

import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image, features

from aebench.errors import AebenchError
from aebench.evaluation import codecs
from aebench.evaluation.codecs import QUALITIES, SEARCHED, measured
from aebench.records.prepare import DataRecord
from aebench.report.results import read_codecs


def drawn(channels, count=60, side=16):
    """Smooth images of two classes that brightness tells apart, uint8, and their labels."""
    random = np.random.default_rng(channels)
    labels = np.arange(count) % 2
    corners = random.integers(0, 120, (count, 3, 4, 4)) + 110 * labels[:, None, None, None]
    images = np.empty((count, channels, side, side), np.uint8)
    for place, corner in enumerate(corners.astype(np.uint8)):
        picture = Image.fromarray(corner.transpose(1, 2, 0)).resize((side, side))
        images[place] = np.asarray(picture).transpose(2, 0, 1)[:channels]
    return images, labels


@pytest.mark.parametrize("channels", [1, 3])
def test_bytes_errors_and_neighbours_are_those_of_the_files(channels, tmp_path):
    (train, labels), (test, truth) = drawn(channels), drawn(channels, 20)
    found, notes = measured((train, test), (labels, truth), 3, tmp_path)
    assert notes == [] and list(tmp_path.iterdir()) == []
    assert [(one.codec, one.quality) for one in found] == [
        (codec, quality) for codec, qualities in QUALITIES.items() for quality in qualities
    ]
    for one in found:
        sizes, payloads, errors = [], [], []
        for image in test:
            picture = Image.fromarray(image[0] if channels == 1 else image.transpose(1, 2, 0))
            file, small = io.BytesIO(), io.BytesIO()
            picture = picture.convert("RGB") if one.codec == "WebP" else picture
            picture.save(file, one.codec, quality=one.quality)
            picture.save(small, one.codec, quality=one.quality, optimize=True)
            content = file.getvalue()
            smaller = len(small.getvalue() if one.codec == "JPEG" else content)
            sizes.append(smaller)
            # The scan's header is 6 + 2 bytes a channel after SOS, and EOI is 2.
            header = content.rfind(b"\xff\xda") + 2 + 6 + 2 * channels
            payloads.append(len(content) - (20 if one.codec == "WebP" else header + 2))
            back = Image.open(file).convert("L" if channels == 1 else "RGB")
            back = np.asarray(back).reshape(16, 16, channels).transpose(2, 0, 1)
            errors.append(np.square((back.astype(float) - image) / 255).mean())
        assert one.bytes == np.mean(sizes)
        # A WebP chunk of odd length is filled up by a byte that is not of it.
        assert abs(one.payload_bytes - np.mean(payloads)) <= (one.codec == "WebP")
        assert one.errors == pytest.approx(errors, rel=1e-5)
        assert (one.accuracy is not None) == ((one.codec, one.quality) in SEARCHED)
        assert one.accuracy in (None, 1.0)
    for codec in QUALITIES:
        of_codec = [one for one in found if one.codec == codec]
        assert (np.diff([one.payload_bytes for one in of_codec]) > 0).all()
        assert (np.diff([one.errors.mean() for one in of_codec]) < 0).all()


def test_what_cannot_be_tried_is_left_out_and_said(monkeypatch):
    images, labels = drawn(3)
    four = np.repeat(images[:, :1], 4, axis=1)
    found, notes = measured((four, four), (labels, labels), 1)
    assert (found, notes) == ([], ["images of 4 channels: JPEG and WebP are tried with 1 or 3"])
    monkeypatch.setattr(features, "check", lambda name: False)
    monkeypatch.setattr(codecs, "PRODUCTS", 1)
    found, notes = measured((images, images), (labels, labels), 1)
    assert {one.codec for one in found} == {"JPEG"} and {one.accuracy for one in found} == {None}
    assert notes[0].startswith("neighbours of images") and notes[1] == "WebP: this Pillow has none"

    def fails(*_):
        raise OSError("encoder error -2")

    monkeypatch.setattr(codecs, "written", fails)
    assert measured((images, images), (labels, labels), 1)[1][2] == "JPEG: encoder error -2"


def test_the_stage_writes_what_it_measured(finished):
    record = json.loads((finished / "results/codecs.json").read_text())
    errors = np.load(finished / "results/codecs.npy")
    assert (errors.dtype, errors.shape) == (np.float32, (len(record["codecs"]), 359))
    means = [one["mse"] for one in record["codecs"]]
    assert errors.mean(axis=1, dtype=float) == pytest.approx(means)
    assert record["plan"]["k"] == 10 and record["notes"] == []
    assert 0.5 < record["codecs"][0]["accuracy"] <= 1
    text = (finished / "reports/report.md").read_text()
    assert "## Bytes" in text and "WebP, quality 0" in text
    rows = finished.rows()
    assert float(rows["mlp"]["accuracy_4bit"]) > 0.1 and rows["mlp"]["pq_bytes"] == "16"


def test_only_what_the_stage_wrote_of_these_images_is_read(finished, tmp_path):
    results = tmp_path / "results"
    results.mkdir()
    for name in ("data.json", "codecs.json", "codecs.npy"):
        shutil.copy(finished / "results" / name, results)
    data = DataRecord.read(results / "data.json", "dvc repro")
    record, errors = read_codecs(results, data) or pytest.fail("not there")
    assert len(record.codecs) == len(errors)
    with pytest.raises(AebenchError, match="of other images or settings"):
        read_codecs(results, data, "another plan")
    np.save(results / "codecs.npy", errors + 1)
    with pytest.raises(AebenchError, match="codecs.npy"):
        read_codecs(results, data)
    (results / "codecs.json").unlink()
    assert read_codecs(results, data) is None
