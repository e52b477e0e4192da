"""The study of bytes: each form of a code beside the codecs, and what is best with so many."""

import numpy as np
from synthetic import IMAGES, cells, made, pca, pixels, report, section, titles, words

from aebench.records.codecs import Codec, CodecsRecord
from aebench.report.document import Figure

FEWER = {"mse_8bit": 0.0201, "mse_4bit": 0.022, "accuracy_8bit": 0.49, "accuracy_4bit": 0.45}
CODECS = [("WebP", 0, 94.0, 74.0, 0.007, 0.35), ("JPEG", 0, 307.0, 30.0, 0.014, None)]


def codecs(*rows, notes=()):
    errors = [np.random.default_rng(0).gamma(2, mse / 2, IMAGES) for *_, mse, _ in rows]
    keys = "codec", "quality", "bytes", "payload_bytes", "mse", "accuracy"
    found = [Codec(**dict(zip(keys, row, strict=True))) for row in rows]
    record = CodecsRecord.model_construct(codecs=found, notes=list(notes))
    return record, np.array(errors, np.float32)


def study(found, **changes):
    return section(report(found, **changes).document, "Bytes")


def rows(found):
    """(name, form) -> header -> cell."""
    table = next(block for block in found.blocks if hasattr(block, "headers"))
    names = [header.name for header in table.headers]
    return {
        (words(row[0]), words(row[1])): dict(zip(names, row, strict=True)) for row in table.cells
    }


def test_each_form_has_its_bytes_and_figures():
    one = made("mlp", **FEWER, mse_pq=0.021, accuracy_pq=0.48, pq_bytes=17, latent=33)
    found = rows(study([one], codecs=codecs(*CODECS)))
    bytes_of = {key: cell["bytes an image"].value for key, cell in found.items()}
    assert bytes_of == {
        ("mlp", "float32"): 132,
        ("mlp", "8 bits"): 33,
        ("mlp", "4 bits"): 17,
        ("mlp", "product quantisation"): 17,
        ("WebP, quality 0", "whole file"): 94,
        ("WebP, quality 0", "payload"): 74,
        ("JPEG, quality 0", "whole file"): 307,
        ("JPEG, quality 0", "payload"): 30,
    }
    four, webp = found["mlp", "4 bits"], found["WebP, quality 0", "whole file"]
    assert (four["MSE x 1000"].value.mean, four["accuracy, %"].value.mean) == (0.022, 0.45)
    assert webp["MSE x 1000"].value.below > 0 and webp["accuracy, %"].value.mean == 0.35
    assert found["JPEG, quality 0", "payload"]["accuracy, %"].value is None


def test_the_best_with_so_many_bytes_is_named_codecs_included():
    found = [made("mlp", **FEWER), pca(mse_8bit=0.0151, accuracy_8bit=0.3, accuracy=0.4)]
    said = words(study(found, codecs=codecs(*CODECS)))
    most, fewer = (line for line in said.splitlines() if line.startswith("At most"))
    assert most.startswith("At most 128 bytes: lowest mean error: WebP, quality 0 (whole file, 94")
    assert "of the runs pca (float32, 128 bytes), MSE 0.01500" in most
    assert "most found: mlp (float32, 128 bytes)" in most
    assert fewer.startswith("At most 32 bytes: lowest mean error: JPEG, quality 0 (payload, 30")
    assert "of the runs pca (8 bits, 32 bytes), MSE 0.01510" in fewer
    assert "most found: mlp (8 bits, 32 bytes), 49.0 %" in fewer


def test_packed_floats_labels_and_pixels_win_nothing():
    packed = made("packed", mse=0.001, options={"a": 1}, **FEWER | {"mse_8bit": 0.2})
    labelled = made("labelled", options={"a": 2}, accuracy=0.9, labels_seen=True, **FEWER)
    found = [packed, labelled, made("mlp", **FEWER), pixels(latent=16, accuracy=0.8)]
    said = words(study(found)).splitlines()
    (most, *_) = (line for line in said if line.startswith("At most 128"))
    assert "packed (float32" not in most and "labelled (float32, 128 bytes), 90" not in most
    assert "pixels" not in most


def test_discrete_codes_stand_at_what_their_values_need():
    found = study([made("vq", code_bits=20.0, **FEWER)], codecs=codecs(*CODECS))
    assert rows(found)["vq", "its own values"]["bytes an image"].value == 3
    (error, _) = (block for block in found.blocks if isinstance(block, Figure))
    (own,) = (one for one in error.picture.series if one.name == "vq")
    assert [point.x for point in own.points] == [3, 128]
    assert {one.name for one in error.picture.series} == {
        "vq",
        *(f"{codec}, {form}" for codec in ("WebP", "JPEG") for form in ("whole file", "payload")),
    }


def test_the_pictures_have_the_best_of_each_size():
    found = [
        made(f"{kind}-{latent}-{number}", model=kind, latent=latent, options={"a": number}, **own)
        for latent in (10, 100)
        for number in range(4)
        for kind, own in {
            "mlp": {"mse": 0.01 + number * 0.001, "accuracy": 0.5 + number * 0.1},
            "pca": {"mse": 0.02 + number * 0.001, "baseline": "pca", "train": False},
        }.items()
    ]
    found += [made(f"small-{n}", depth=n + 1, latent=2, mse=n + 0.5, accuracy=0.1) for n in (0, 1)]
    blocks = study(found, codecs=codecs(*CODECS)).blocks
    pictures = [block for block in blocks if isinstance(block, Figure)]
    shown = [
        {one.name for one in block.picture.series if ", " not in one.name} for block in pictures
    ]
    firsts = {"small-0", "mlp-10-0", "mlp-100-0", "pca-10-0", "pca-100-0"}
    assert firsts <= shown[0] and len(shown[0]) == 8 and "small-1" not in shown[0]
    assert {"mlp-10-3", "mlp-100-3"} <= shown[1] and len(shown[1]) == 8
    assert "8 of 18 runs: the best run and the best reference of each size" in pictures[0].caption


def test_of_many_sizes_the_pictures_have_the_smallest_and_the_largest():
    found = [made(f"mlp-{n}", latent=n, mse=1 / n, accuracy=0.3) for n in range(2, 12)]
    found += [pca(f"pca-{n}", latent=n, mse=2 / n) for n in range(2, 12)]
    taught = made("taught", latent=2, options={"a": 1}, accuracy=0.9, labels_seen=True)
    alone = made("alone", latent=1, mse=None, accuracy=0.9)  # without an error to draw
    study_of = study([*found, taught, alone], codecs=codecs(*CODECS))
    errors, accuracies = (block for block in study_of.blocks if isinstance(block, Figure))
    shown = {one.name for one in errors.picture.series}
    assert {"mlp-2", "pca-2", "mlp-11", "pca-11"} <= shown and "alone" not in shown
    assert "8 of 22 runs" in errors.caption
    assert "reference of sizes from the smallest to the largest." in errors.caption
    shown = {one.name for one in accuracies.picture.series}
    assert {"alone", "mlp-11"} <= shown and not any("taught" in name for name in shown)


def test_a_collapsed_float_takes_no_point_from_the_pictures():
    found = study([made("mlp", code_bits=31 * 32.0, **FEWER)])
    for picture in (block.picture for block in found.blocks if isinstance(block, Figure)):
        (own,) = (one for one in picture.series if one.name == "mlp")
        assert [point.x for point in own.points] == [16, 32, 124, 128]


def test_what_is_left_out_is_said_and_how_to_get_it():
    why = "codes of 64 floats are not searched again in fewer bits: it takes minutes"
    lost = "no mse_8bit: ValueError: no such code"
    vq = made("vq", options={"a": 1}, code_bits=20.0, rounded_note=lost)
    said = words(study([made("mlp", **FEWER), vq, pixels(fewer_bits_note=why)]))
    assert f"vq: {lost}." in said
    assert f"pixels: {why}." in said and "aebench init --upgrade" in said
    said = words(study([made("mlp")], codecs=codecs(CODECS[1], notes=["WebP: it has none"])))
    assert "WebP: it has none." in said and "--upgrade" not in said


def test_results_of_before_have_no_study():
    assert "Bytes" not in titles(report([made("mlp"), pca()]).document)


def test_of_many_runs_the_appendix_has_all():
    many = [made(f"run-{n}", latent=n, **FEWER) for n in range(1, 10)]
    document = report(many, codecs=codecs(*CODECS)).document
    assert len(rows(section(document, "Bytes"))) < len(rows(section(document, "Bytes, in full")))
    assert cells(section(document, "Bytes, in full")).keys() >= {one.run for one in many}
