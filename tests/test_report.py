"""What the report concludes: baselines, skill, ties, times, costs, origins."""

import csv
import io
import json
import re
from collections import Counter

import numpy as np
import pandas
import pytest
from conftest import ROOT
from ruamel.yaml import YAML
from sklearn.metrics import confusion_matrix
from synthetic import (
    MACHINE,
    cells,
    made,
    pca,
    pixels,
    report,
    results,
    section,
    short,
    sweep,
    titles,
    words,
)

from aebench.evaluation.uncertainty import of_accuracy, p_value
from aebench.report import conditions
from aebench.report.configurations import best_and_references
from aebench.report.document import CodeBlock, Figure, Table
from aebench.report.render import Report
from aebench.report.rows import results_csv
from aebench.schema import Recipe

COSTS = "Search cost"


@pytest.fixture(scope="module")
def seeded():
    """A sweep of two sizes with three seeds, and its baselines. Not to be changed."""
    return report(sweep())


def rows(found):
    """results.csv, as it is read again."""
    text = results_csv(found.results, found.configurations, found.baselines).decode()
    return list(csv.DictReader(io.StringIO(text)))


def strong(table, column):
    """The runs whose cell is in bold."""
    return [run for run, row in table.items() if row[column].strong]


def test_lines_for_missing_baselines_are_those_that_bring_them():
    trained = [made(), made("mlp-latent10", latent=10), pixels()]
    blocks = section(report(trained).document, "Lines to copy").blocks
    (block,) = [block for block in blocks if isinstance(block, CodeBlock)]
    runs = YAML(typ="safe", pure=True).load(block.code)
    assert runs == {
        "pca-latent32": {"model": "pca", "latent": 32},
        "pca-latent10": {"model": "pca", "latent": 10},
        "mlp-untrained": {"model": "mlp", "train": {"epochs": 0}},
    }
    added = [
        pca("pca-latent32"),
        pca("pca-latent10", latent=10),
        made("mlp-untrained", train={"epochs": 0}),
    ]
    complete = report(trained + added)
    assert "Baselines are missing" not in words(complete.document)
    assert all(row["mse_skill_score"] for row in rows(complete) if row["epochs"] == "5")


def test_missing_baselines_are_searched_alike_under_names_that_are_free():
    found = [made(knn={"k": 5}, options={"beta": 4}), made("pixels-5", model="other")]
    blocks = section(report(found).document, "Lines to copy").blocks
    (block,) = [block for block in blocks if isinstance(block, CodeBlock)]
    runs = YAML(typ="safe", pure=True).load(block.code)
    assert runs["pca-latent32-5"] == {"model": "pca", "latent": 32, "knn": {"k": 5}}
    assert runs["pixels-5-again"] == {"model": "pixels", "knn": {"k": 5}}
    assert runs["mlp-untrained-5"]["beta"] == 4


def test_baselines_are_told_by_their_role_and_by_no_name():
    linear = made("linear", model="optimum", baseline="pca", depth=None, train=False, mse=0.015)
    raw = pixels("raw", model="identity")
    namesakes = [made("pca", model="pca", mse=0.01), made("pixels", model="pixels", mse=0.01)]
    found = report([made(), linear, raw, *namesakes])
    table = cells(section(found.document, "Results"))
    for run in ("mlp", "pca", "pixels"):  # each against the model with the role
        assert table[run]["MSE vs PCA, %"].value is not None
    assert table["linear"]["MSE vs PCA, %"].value is None
    costs = cells(section(found.document, COSTS))
    assert [run for run, row in costs.items() if row["speed-up"].value is None] == ["raw"]
    only_namesakes = report([made(), *namesakes]).document
    assert "Baselines are missing" in words(only_namesakes)


def test_failed_baseline_has_the_role_of_its_model():
    failed = pca("pca-latent10", latent=10, status="failed: no", baseline=None)
    found = report([made(), pca(), failed])
    assert found.baselines.pcas.keys() == {(32, (10, "l2")), (10, (10, "l2"))}


def test_every_table_of_models_has_its_baselines_once(seeded):
    assert list(short(seeded.document)) == [
        *("pca-latent10", "mlp-latent10"),  # by size, and of each the reference first
        *("pca", "mlp-untrained", "mlp"),
        "pixels",
    ]
    names = list(cells(section(seeded.document, "Representation size")))
    assert sorted(names) == sorted(seeded.results.runs)


def test_skill_is_against_pca_of_the_same_size_and_negative_in_words(seeded):
    found = rows(seeded)
    shown = cells(section(seeded.document, "Results"))
    mean = {
        run: np.mean([float(row["mse"]) for row in found if row["run"] == run]) for run in shown
    }
    for run, of in (("mlp", "pca"), ("mlp-latent10", "pca-latent10")):
        skill = 1 - mean[run] / mean[of]
        cell = shown[run]["MSE vs PCA, %"]
        assert skill < 0 and cell.value.mean == pytest.approx(skill, abs=1e-5)
        assert cell.tone == "bad" and words(cell).startswith(f"{100 * skill:+.1f} ± ")
        own = [float(row["mse_skill_score"]) for row in found if row["run"] == run]
        assert np.mean(own) == pytest.approx(skill)
    assert shown["pca"]["MSE vs PCA, %"].value is shown["pixels"]["MSE vs PCA, %"].value is None


def test_skill_that_is_not_told_from_pca_and_exact_pca_are_said_so():
    unclear = report([made(accuracy=0.5), pca(accuracy=0.5)]).document
    cell = cells(section(unclear, "Results"))["mlp"]["over PCA"]
    assert cell.tone == "" and cell.value.low < 0 < cell.value.high
    exact = report([made(), pca(mse=1e-9)])
    cell = cells(section(exact.document, "Results"))["mlp"]["MSE vs PCA, %"]
    assert (cell.value, words(cell)) == (None, "PCA is exact")
    assert rows(exact)[0]["mse_skill_score"] == "" != rows(exact)[0]["accuracy_gain"]


def test_figures_have_their_interval_and_number_of_seeds(seeded):
    shown = cells(section(seeded.document, "Results"))
    assert (words(shown["mlp"]["seeds"]), words(shown["pca"]["seeds"])) == ("3", "any")
    own = [one.outcomes for one in seeded.results.results if one.run == "mlp"]
    right = np.stack([o["label"] == o["prediction"] for o in own]).astype(float)
    accuracy = shown["mlp"]["accuracy, %"]
    assert accuracy.value == of_accuracy(right)
    mean, below, above = accuracy.value
    assert words(accuracy) == f"{100 * mean:.2f} ± {100 * above:.2f}"
    # Nearly at least what the images alone say: at 50 % a score interval is a little narrower.
    assert below == pytest.approx(above)  # at 50 %
    assert below + above >= 2 * 1.95 * right.mean(axis=0).std() / right.shape[1] ** 0.5
    assert "means of 3 seeds" in words(seeded.document)
    for column, name in (("MSE", "mse"), ("PSNR, dB", "psnr")):
        mean = np.mean([float(r[name]) for r in rows(seeded) if r["run"] == "mlp"])
        assert shown["mlp"][column].value.mean == pytest.approx(mean, rel=1e-5)


def test_one_seed_says_what_its_interval_leaves_out():
    found = report([made(accuracy=0.5), pca(), pixels()])
    assert "It leaves out that another seed" in words(found.document)
    half = float(rows(found)[0]["accuracy_ci95"])
    assert half == pytest.approx(1.967 * (0.25 / 360) ** 0.5, rel=0.01)


def test_run_with_one_seed_left_is_said_and_in_no_tie_group():
    found = sweep(mlp={"accuracy": 0.9})
    for one in found[1:3]:
        one.columns["status"] = "failed: no codes"
    document = report(found).document
    assert "Of mlp there is one seed: over images alone, and in no tie group." in words(document)
    table = cells(section(document, "Results"))
    assert words(table["mlp"]["seeds"]) == "1 of 3" and table["mlp"]["seeds"].value == 1
    assert not table["mlp"]["accuracy, %"].strong
    assert words(table["mlp"]["status"]) == "failed: no codes"
    failed = section(document, "Caveats")
    assert "2 of 18 results failed:" in words(failed)
    assert "seed 2: failed: no codes. Again: dvc repro -s -f train@mlp-2 && dvc repro" in words(
        failed
    )


def test_tie_group_of_each_size_is_in_bold():
    best = {"mse": 1e-5, "accuracy": 1.0}
    table = short(report(sweep(mlp=best)).document)
    assert strong(table, "accuracy, %") == ["mlp-latent10", "mlp"]
    assert strong(table, "MSE x 1000") == ["pca-latent10", "mlp"]
    tie = report(sweep(mlp={"mse": 0.015})).document
    assert strong(short(tie), "MSE x 1000") == ["pca-latent10", "pca", "mlp"]


def items_of(found):
    """The sentences of the summary."""
    (block,) = section(found.document, "In short").blocks
    return [words(item) for item in block.items]


def test_summary_says_what_is_best_and_what_it_is_held_against():
    found = sweep(mlp={"mse": 0.005, "accuracy": 0.99, "query_seconds": 1e-4})
    for one in found:
        one.columns["query_seconds"] *= 1 + 0.1 * one.seed
        if one.run == "pixels":
            one.columns |= {"query_seconds": 0.01, "encode_images_per_second": 1e9}
    items = items_of(report(found))
    assert items[0] == (
        "Best trade-off: mlp, 128 bytes for an image of 64, no saving and a query 9.0 ± 0.2 times "
        "as fast, finds the right class for 98.9 % of the test images; PCA of the same size "
        "50.0 %, raw pixels 60.0 %, chance 10.0 %."
    )
    assert items[1] == (
        "Nothing is tied with it in accuracy; lowest error: with 10 floats pca-latent10, with 32 "
        "floats mlp."
    )
    assert items[2].startswith("Worse than PCA: mlp-latent10 with 33.3 % more error; than PCA of ")
    assert items[2].endswith("1 of 2 have less error and 2 of 2 are right more often.")
    assert len(items) == 4


def test_summary_names_ties_the_smallest_of_which_is_the_best():
    runs = [made(accuracy=0.8), made("small", latent=10, accuracy=0.8), pca(), pixels()]
    items = items_of(report(runs))
    assert items[0].startswith("Best trade-off: small, 40 bytes for an image of 64, finds")
    assert items[1].startswith("Tied with it in accuracy: mlp; lowest error: ")


def test_losers_are_named_in_multiples_where_they_lose_far():
    runs = [made(mse=0.075), made("near", depth=2, mse=0.0151), pca(mse=0.015), pixels()]
    text = items_of(report(runs))[2]
    assert text.startswith("Worse than PCA: mlp with 5.0 times its error")
    table = short(report(runs).document)
    assert words(table["mlp"]["MSE vs PCA, %"]) == "5.0 times"
    assert words(table["mlp"]["MSE vs PCA, %"]) != words(table["near"]["MSE vs PCA, %"])
    even = items_of(report([made(accuracy=0.5, mse=0.0149), pca(), pixels()]))[2]
    assert even.startswith("No run is told to be worse than PCA; than PCA of as many floats, ")


def test_summary_of_one_run_claims_nothing_of_others():
    (only, of_protocol) = [*items_of(report([made()])), ""][:2]
    assert only.startswith(
        "The only codes: mlp, 128 bytes for an image of 64, no saving, finds the"
    )
    assert "PCA" not in only and of_protocol == ""


def several(run, seeds=(0, 1, 2), **facts):
    """Seeds of one run."""
    return [made(run, seed, **facts) for seed in seeds]


def test_a_run_of_one_seed_is_not_ranked_and_named_where_it_is_above():
    found = [*several("mlp"), *several("cnn", model="cnn", accuracy=0.9), pca(accuracy=0.45)]
    for one in found[4:6]:
        one.columns["status"] = "failed: no"
    items = items_of(report(found))
    assert items[0].startswith("Best trade-off: mlp, ")
    assert "; not ranked, of one seed: cnn 90.0 %" in items[1]
    assert "cnn" not in items[3] and items[3].startswith("The protocol does not decide: in all 6 ")
    below = [*several("mlp", accuracy=0.95), *found[3:]]
    assert "not ranked" not in items_of(report(below))[1]


def test_few_images_are_said_to_hold_less():
    whole = results([made()])
    assert "Squared errors are skewed" in words(Report(whole).document)
    whole.data.num_test = 400
    assert "Squared errors are skewed" not in words(Report(whole).document)


def test_where_nothing_can_be_tested_the_highest_is_named_and_nothing_said_of_ties():
    items = items_of(
        report([made("cnn", model="cnn", accuracy=0.3), *several("mlp", accuracy=0.8)])
    )
    assert items[0].startswith("Best trade-off: mlp, ") and "tied" not in " ".join(items)
    taught = {"labels_seen": True, "model": "sup"}
    found = [made("low", accuracy=0.3, **taught), made("high", accuracy=0.9, depth=4, **taught)]
    assert items_of(report(found))[0].startswith("Best trade-off: high (saw labels), ")


def test_what_is_tied_with_the_first_alone_is_not_tied_with_the_smallest():
    accuracies = {
        "top": (0.45, 0.6, 0.75),
        "small": (0.5, 0.503, 0.497),
        "mid": (0.56, 0.563, 0.557),
    }
    sizes = {"top": 32, "small": 4, "mid": 8}
    found = [
        made(run, seed, accuracy=accuracy, latent=sizes[run])
        for run, values in accuracies.items()
        for seed, accuracy in enumerate(values)
    ]
    items = items_of(report(found))
    # It is told from small, though top is not.
    assert items[0].startswith("Best trade-off: mid, ")
    assert items[1] == "Tied with it in accuracy: top."


def test_who_loses_to_an_exact_pca_is_named():
    text = items_of(report([made(accuracy=0.6), pca(mse=0.0, accuracy=0.5)]))[2]
    assert text.startswith("Worse than PCA: mlp with an error where PCA is exact; ")


def test_packed_codes_lead_no_ranking_of_the_error():
    packed = made("packed", mse=0.001, mse_8bit=0.2, options={"a": 1})
    found = report([made(mse=0.01), packed, pca(), pixels()])
    assert "than PCA of as many floats, 1 of 1 have less error and" in items_of(found)[2]
    assert json.loads(found.files["headline.json"])["best_mse_skill"] == pytest.approx(1 / 3)


def test_codes_that_no_8_bits_decode_are_as_packed_unless_their_values_are_few():
    why = {"mse": 0.001, "rounded_note": "no mse_8bit: ValueError: no such code"}
    strict = made("strict", options={"a": 1}, **why)
    found = report([made(mse=0.01), strict, pca(), pixels()])
    assert "than PCA of as many floats, 1 of 1 have less error and" in items_of(found)[2]
    assert f"in no ranking of the MSE ({why['rounded_note']})" in words(found.document)
    discrete = made("vq", options={"a": 1}, code_bits=20.0, **why)
    found = report([made(mse=0.01), discrete, pca(), pixels()])
    assert "than PCA of as many floats, 2 of 2 have less error and" in items_of(found)[2]


def test_a_protocol_that_none_of_the_best_has_names_nobody():
    left_out = dict.fromkeys(f"accuracy_whitened_cosine_k{k}" for k in (1, 10))
    found = report(sweep(pixels={"accuracy": 0.9} | left_out))
    assert items_of(found)[3].startswith("The protocol does not decide: in all 4 pairs")
    assert found.files["report.md"]


def test_a_name_of_columns_that_mean_several_things_is_defined_for_each():
    found = report([made(mse_8bit=0.0201, accuracy_8bit=0.49), pca(), pixels()])
    said = words(section(found.document, "Definitions"))
    assert "accuracy, % (Bytes): of the same kNN with bank and queries kept so" in said
    assert "accuracy, % (Results): " in said and "\nfloats: " in said


def test_a_protocol_decides_only_by_more_than_its_interval():
    close = sweep(mlp={"accuracy_whitened_cosine_k1": 0.61})  # pixels: 0.599
    assert items_of(report(close))[3].startswith("The protocol does not decide: in all 6 pairs")


def test_long_names_keep_the_end_in_which_they_differ():
    names = [f"autoencoder-convolutional-latent{n}" for n in (10, 20)]
    found = report([made(name, latent=n) for name, n in zip(names, (10, 20), strict=True)])
    shown = [words(row["run"]) for row in short(found.document).values()]
    assert shown == ["autoencod…latent10", "autoencod…latent20"]


def test_search_is_claimed_by_bytes_and_by_time_with_its_interval():
    found = sweep(mlp={"accuracy": 0.9}, mlp_latent10={"accuracy": 0.8})
    for one in found:
        one.columns["query_seconds"] *= 1 + 0.01 * one.seed
        if one.run == "pixels":
            one.columns |= {"query_seconds": 0.1, "encode_images_per_second": 1e9}
    head, by_bytes, by_time = section(report(found).document, COSTS).blocks[:3]
    assert words(by_bytes) == (
        "By bytes: mlp-latent10 is the smallest code that is right more often than raw pixels "
        "(paired test): 40 bytes instead of 64, accuracy 80.0 % against 60.0 %, +20.0 ± 3.8 "
        "points."
    )
    said = words(by_time)
    assert said.startswith("By time: mlp, 49.8 ± 0.6 times as fast as raw pixels, encoding incl")
    assert "not told from it: mlp-latent10. It pays for encoding the training images from" in said
    once = [one for one in found if one.seed == 0 or one.run != "pixels"]  # which are seedless
    assert "raw pixels were timed once" in words(section(report(once).document, COSTS))


def test_contended_time_is_marked_left_out_and_can_be_taken_again():
    found = sweep()
    for one in found[:3]:
        one.columns |= {"knn_contended": True, "knn_waited_share": 0.4}
    found[1].columns |= {"epoch_contended": True, "epoch_waited_share": 0.5}
    document = report(found).document
    cost = cells(section(document, "Results"))["mlp"]
    assert words(cost["epoch, s"]).endswith("(n = 2)")
    assert words(cost["search, s"]) == "0.100 contended"
    assert cost["speed-up"].value is cost["break-even queries"].value is None
    costs = section(document, "Caveats")
    blocks = section(document, "Lines to copy").blocks
    (command,) = [block.code for block in blocks if isinstance(block, CodeBlock)]
    assert {"train@mlp-1", "knn@mlp-0", "knn@mlp-1", "knn@mlp-2"} <= set(command.split())
    assert "The worst is train@mlp-1, which waited for a core in 50%" in words(costs)
    # A contended pixels run leaves nothing to compare with.
    for one in found:
        one.columns["knn_contended"] = one.run == "pixels"
    cost = cells(section(report(found).document, COSTS))
    assert not any("speed-up" in row for row in cost.values())


def test_time_of_a_resumed_training_is_marked_and_in_no_comparison():
    found = sweep()
    for one in found[:3]:  # of mlp
        one.columns["resumed"] = 1
    found[6].columns["resumed"] = 2  # of mlp-latent10
    document = report(found).document
    rows = cells(section(document, "Results"))
    assert words(rows["mlp"]["epoch, s"]) == "1.01 resumed"
    assert words(rows["mlp-latent10"]["epoch, s"]).endswith("(n = 2)")
    assert words(short(document)["mlp"]["epoch, s"]) == "resumed"
    assert "trainings mlp-0, mlp-1, mlp-2, mlp-latent10-0. W" in words(section(document, "Caveats"))
    # Its search took place in one piece.
    assert rows["mlp"]["speed-up"].value is not None


@pytest.mark.parametrize(
    "machine",
    ["Another 9000, 2 cores, 2 threads", f"{MACHINE}, threads waited quietly (passive)"],
)
def test_times_of_another_machine_are_in_no_comparison(machine):
    found = sweep()
    for one in found[:3]:
        one.columns |= {f"{stage}_machine": machine for stage in ("train", "encode", "knn")}
    document = report(found).document
    text = words(section(document, "Caveats"))
    assert f"{machine} (B). Those without a letter are of (A)" in text
    assert words(cells(section(document, "Results"))["mlp"]["epoch, s"]).endswith("(B)")
    cost = cells(section(document, "Results"))
    assert cost["mlp"]["speed-up"].value is cost["mlp"]["break-even queries"].value is None
    shown = cells(section(document, "Where the rows differ"))
    assert words(shown["mlp-0, mlp-1, mlp-2"]["train_machine"]) == machine


def test_single_epoch_and_single_seed_are_marked_at_the_time_of_an_epoch():
    found = report([made(epochs_timed=1), made("cnn", model="cnn")]).document
    table = cells(section(found, "Results"))
    assert words(table["mlp"]["epoch, s"]) == "1.00*"
    assert words(table["cnn"]["epoch, s"]) == "1.00 (MAD 0.01)"
    assert table["cnn"]["epoch, s"].value == (1.0, None, None)


def test_origin_is_said_once_where_the_rows_agree():
    document = report(sweep(seeds=[0])).document
    assert "Where the rows differ" not in titles(document)
    assert "several" not in words(section(document, "Conditions"))


def test_what_differs_is_linked_from_the_conditions_and_says_the_folder():
    found = [made(), made("cnn", model="cnn", train={"epochs": 9}, source="bob")]
    found[1].columns["torch_version"] = "2.0"
    document = report(found).document
    shown = cells(section(document, "Where the rows differ"))
    assert words(shown["cnn-0 (bob)"]["torch_version"]) == "2.0"
    assert words(shown["mlp-0"]["epochs"]) == "5"
    assert "epochs several (see where the rows differ), batch 128" in words(document)


def test_recipe_key_of_the_schema_needs_no_edit_here(monkeypatch):
    class Wider(Recipe):
        warmup_share: float = 0.0

    monkeypatch.setattr(conditions, "Recipe", Wider)
    monkeypatch.setattr("aebench.report.differences.Recipe", Wider)
    found = [made(), made("cnn", model="cnn")]
    assert "warmup" not in words(report(found).document)  # no row has it
    for one in found:
        one.columns["warmup_share"] = 0.1
    assert "horizontal flips True, warmup share 0.1, products in" in words(report(found).document)
    found[1].columns["warmup_share"] = 0.2
    shown = cells(section(report(found).document, "Where the rows differ"))
    assert words(shown["cnn-0"]["warmup_share"]) == "0.2"


def test_what_is_not_shown_and_remarks_are_said():
    hidden = ["cnn, seed 0: no result of knn; run `dvc repro`"]
    found = report([made()], hidden=hidden, remarks=["Gathered from two folders."])
    text = words(section(found.document, "Caveats"))
    assert "Not shown:\ncnn, seed 0: no result of knn; run dvc repro" in text
    assert "Gathered from two folders." in text


def test_digits_and_an_experiment_are_named():
    found = report([made()], dataset="digits")
    found.experiment = "brave-name"
    assert words(found.document.blocks[0]) == "SMOKE: digits, not a benchmark."
    assert "; experiment brave-name. " in words(found.document.facts)
    assert "Experiment: brave-name." in words(section(found.document, "Conditions"))


def test_one_line_says_what_was_run():
    assert words(report(sweep()).document.facts) == (
        f"6 runs x 3 seeds; 1,438 training and 360 test images, 1 x 8 x 8, 10 classes; {MACHINE}; "
        "aebench 1.0 at commit aaaaaaaaaaaa; trained 2025-01-02. What this holds under: conditions."
    )


def test_search_pays_from_where_the_saved_seconds_reach_the_encoding():
    costs = {"query_seconds": 1e-3, "encode_images_per_second": 1000.0, "train_seconds": 3.0}
    raw = {"query_seconds": 5e-3, "encode_images_per_second": 1e9}
    row = cells(section(report(sweep(mlp=costs, pixels=raw)).document, "Results"))["mlp"]
    # A query: 1 ms to encode, 1 ms to search, 3 ms saved; the bank of 1,438 takes 1.438 s.
    assert (words(row["a query, ms"]), words(row["speed-up"])) == ("2.000", "2.5")
    assert words(row["break-even queries"]) == "480" and row["break-even queries"].value.mean == 480
    assert words(row["with training"]) == "1,480"
    raw["query_seconds"] = 1e-3
    row = cells(section(report(sweep(mlp=costs, pixels=raw)).document, "Results"))["mlp"]
    assert words(row["break-even queries"]) == "never"


def test_panel_correlation_tells_whether_the_ranking_holds(seeded):
    shown = cells(section(seeded.document, "Panel"))
    assert set(shown) == {*seeded.results.runs, "rank correlation"}
    taus = [cell.value for name, cell in shown["rank correlation"].items() if name != "run"]
    assert len(taus) == 8 and all(-1 <= tau <= 1 for tau in taus)
    assert shown["rank correlation"]["l2 10"].value == 1  # the headline with itself
    assert "whitened 10" in shown["mlp"]
    for probe in ("linear probe, %", "MLP probe, %"):
        assert shown["mlp"][probe].value.half_width


def test_panel_that_ranks_otherwise_says_so():
    found = sweep(mlp={"accuracy": 0.9, "accuracy_whitened_cosine_k1": 0.1})
    found[3].columns["accuracy_whitened_cosine_k1"] = 0.99  # of one seed of mlp-untrained
    text = words(section(report(found).document, "Does the protocol decide?"))
    assert "in 1 of 6 pairs of k and metric another is told to be first (pixels in 1);" in text
    assert "the highest accuracy of the panel has mlp, 89.9 % (l2, k = 1)." in text
    assert "agrees least with whitened-cosine, k = 1: Kendall's tau-b " in text
    steady = words(section(report(sweep()).document, "Does the protocol decide?"))
    assert steady.startswith("The protocol does not decide: in all 6 pairs of k and metric pixels")


def test_classes_come_from_the_outcomes(seeded):
    shown = cells(section(seeded.document, "Accuracy by class"))
    own = [one.outcomes for one in seeded.results.results if one.run == "mlp"]
    matrix = sum(confusion_matrix(o["label"], o["prediction"]) for o in own)
    for label in range(10):
        expected = matrix[label, label] / matrix[label].sum()
        assert shown[str(label)]["mlp"].value.mean == pytest.approx(expected)


def test_parameters_have_their_study_by_value_and_its_picture(seeded):
    found = [made(), *(made(f"mlp-{b}", options={"beta": b}) for b in (4, 0.5, 1))]
    document = report([*found, pca(), pixels()]).document
    study = section(document, "Parameter beta")
    assert "beta alone (0.5, 1, 4)" in words(study.blocks[0])
    assert [row["beta"].value for row in cells(study).values()][:3] == [0.5, 1, 4]
    drawn = [block for block in study.blocks if isinstance(block, Figure)]
    assert [figure.name for figure in drawn] == ["beta-accuracy", "beta-mse"]
    assert all(figure.picture.x.ticks == [0.5, 1, 4] for figure in drawn)
    assert "Representation size" not in titles(document)
    text = [made(f"mlp-{loss}", options={"loss": loss}) for loss in ("l1", "huber")]
    blocks = section(report(text).document, "Parameter loss").blocks
    assert not any(isinstance(block, Figure) for block in blocks)


def test_runs_with_equal_settings_are_one_and_seeds_count_once():
    found = [made("mlp", s) for s in (0, 1)] + [made("again", s) for s in (0, 1)]
    (one,) = report(found).configurations
    assert (one.name, len(one.results)) == ("mlp, again", 2)
    # What another workspace has of the same configuration adds its seeds.
    (one,) = report([made(), made(seed=0, source="bob"), made(seed=5, source="bob")]).configurations
    assert [result.seed for result in one.results] == [0, 5]


def test_metrics_are_flat_under_every_name():
    found = report([made(), made("again"), pca(status="failed: no")])
    content = json.loads(found.files["metrics.json"])
    assert content["mse"].keys() == content["accuracy"].keys() == {"mlp", "again"}


def test_all_runs_failed_is_a_report_too():
    document = report([made(status="failed: no"), pca(status="failed: no")]).document
    assert "2 of 2 results failed" in words(section(document, "Caveats"))
    assert words(short(document)["mlp"]["run"]) == "mlp" and "In short" not in titles(document)
    assert document.figures == []  # no run made anything of the images


def test_nothing_shown_is_a_report_too():
    files = report([], hidden=["mlp, seed 0: no result of train"], seeds=[0]).files
    assert b"no result of train" in files["report.md"]


def test_each_pair_is_tested_once(monkeypatch):
    tested = Counter()

    def counted(one, other):
        tested[id(one), id(other)] += 1
        return p_value(one, other)

    monkeypatch.setattr("aebench.report.ties.p_value", counted)
    runs = [made(f"mlp-{n}", options={"beta": n}) for n in range(12)]
    _ = report([*runs, pca(), pixels()]).document
    # Accuracy of all 14; MSE and PSNR of the 13 of one size. Several tables ask for them.
    assert len(tested) == 14 * 13 / 2 + 2 * 13 * 12 / 2
    assert set(tested.values()) == {1}


def test_documented_line_of_pandas_reads_compact_outcomes(finished):
    page = (ROOT / "docs/report.md").read_text()
    lines = re.search(r"```python\n(frame = .*?)```", page, re.DOTALL)[1]
    names = {"pandas": pandas, "numpy": np}
    exec(lines.replace("results/cnn/0", str(finished / "results/mlp/0")), names)
    frame = names["frame"]
    assert list(frame.columns) == ["label", "prediction", "squared_error", "ssim"]
    assert len(frame) == 359
    assert np.load(finished / "results/mlp/0/outcomes.npy").itemsize == 2
    accuracy = (frame.label == frame.prediction).mean()
    assert accuracy == pytest.approx(float(finished.rows()["mlp"]["accuracy"]))


@pytest.fixture(scope="module")
def many():
    """229 runs: 50 curves, 40 sizes, 30 studies, 60 failures, 30 names of one run, 1,000 classes.

    Not to be changed.
    """
    runs = [
        made(f"m{i}-l{latent}", model=f"model-{i}", latent=latent, accuracy=0.2 + 0.01 * i)
        for i in range(50)
        for latent in (8, 16)
    ]
    runs += [made(f"size{n}", latent=n) for n in range(20, 60)]
    on = [{f"option{j}": int(i == j) for j in range(30)} for i in range(31)]
    runs += [made(f"o{i}", options=options) for i, options in enumerate(on)]
    bad = "failed: no " + 1000 * "x"
    runs += [made(f"bad{n}", options={"bad": f"{n % 7}{n}"}, status=bad) for n in range(60)]
    for n, one in enumerate(runs):
        one.columns |= {"note": f"note {n}", "knn_contended": True, "knn_waited_share": 0.5}
    runs += [made(f"same{n}", options={"beta": 1}) for n in range(30)]
    for one in runs:  # every row of a commit of its own
        one.columns["train_commit"] = one.run
    baselines = [pca(), pca("pca8", latent=8, accuracy=0.31), pixels()]
    hidden = [f"gone{n}, seed 0: no result of knn; run `dvc repro`" for n in range(90)]
    runs += baselines
    return report(runs, classes=[f"class {i}" for i in range(1000)], hidden=hidden)


def test_sentences_of_many_runs_are_bounded_and_tables_have_them_all(many):
    text = many.files["report.md"].decode()
    lines = text.splitlines()
    assert max(len(line) for line in lines if not line.startswith("|")) < 1600
    assert max(map(len, lines)) < 2500
    named_in_tables = "\n".join(line for line in lines if line.startswith("|"))
    for one in many.configurations:
        assert f"| {one.name} " in named_in_tables
    assert len(rows(many)) == len(many.results.results)
    assert text.count("dvc repro -s -f train@bad") == 20 and "40 more failed" in text
    assert "70 more results: not shown" in text
    assert "same0, same1, same2, same3 and 26 others" in text
    sizes = words(section(many.document, "Representation size").blocks[0])
    assert "(8, 16, 20, 21, " in sizes and " others), then" in sizes


def test_many_studies_and_classes_are_bounded(many):
    document = many.document
    studies = [name for name in titles(document) if name.startswith(("Parameter", "Repr"))]
    assert len(studies) == 12
    rest = cells(section(document, "Further parameters"))
    assert len(rest) + len(studies) == 32 and words(rest["bad"]["runs"]) == "60"
    assert words(rest["bad"]["values"]).endswith(" and 48 others")
    found = section(document, "Accuracy by class")
    (table,) = [block for block in found.blocks if isinstance(block, Table)]
    assert (len(table.cells), len(table.headers)) == (100, 13)
    assert "Of 1,000 classes, the 100 that " in words(found.blocks[0])


def test_a_choice_is_none_where_there_is_room():
    found = report(sweep())
    assert [one.name for one in best_and_references(found.configurations, 6)] == [
        one.name for one in found.configurations
    ]
    assert " runs: the best" not in found.files["report.md"].decode()
