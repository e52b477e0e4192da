"""Approximate search: what is refused, what is measured; it costs nothing where it is off."""

import json

import numpy as np
import pytest
from synthetic import cells, made, pixels, report, section, words

from aebench.evaluation.approximate import Trial, measured, votes
from aebench.indexes import parsed
from aebench.records.index import IndexRecord, Searched
from aebench.records.origin import Provenance, Timing
from aebench.records.plan import Fingerprints, IndexPlan

REFUSED = {
    "bad": "allowed: IVF1024,CODE",
    "": "allowed: IVF1024,CODE",
    "IVF16": "allowed: IVF1024,CODE",
    "NSG32": "search_L",
    "IDMap,Flat": "numbers of one's own",
    "BIVF16": "its codes are bits",
    "Flat": "the exact search",
    "IVF0,Flat": "1 and more",
    "HNSW0": "allowed: HNSW2 and more",  # of which FAISS ends the process
    "PQ8x17": "1 to 16 bits",
    "PQ5": "fits the codes of no run (PQ5 cuts 32 floats into 5 parts; allowed: 1, 2, 4, 8, 16",
    "OPQ5,PQ8": "OPQ5 cuts 32 floats into 5 parts",
    "PCA64,SQ8": "PCA64 makes 64 floats of 32",
}
FITTING = [
    *("IVF16,Flat", "IVF16_HNSW8,SQ8", "HNSW16", "HNSW16,SQ8", "HNSW16_PQ8", "PQ8", "PQ8x4fs"),
    *("PQ8x10", "SQ4", "SQ6", "SQ8", "SQfp16", "SQbf16", "RaBitQ", "IVF16,RaBitQ", "PCA8,Flat"),
    *("OPQ8_16,IVF16,PQ8,RFlat", "PCAR16,RR8,PQ4x4", "SQ4,Refine(SQfp16)"),
]
UNFITTING = ["PQ5", "IVF16,PQ5", "HNSW16,PQ5", "OPQ5,SQ8", "PCA16,PQ32", "OPQ8_12,SQ8"]


def search(workspace, **indexes):
    workspace.params(search=indexes)


@pytest.mark.parametrize("factory", REFUSED)
def test_what_cannot_be_made_is_refused_in_a_line(light, factory):
    search(light, ivf=factory)
    lines = light.run("aebench", "plan", ok=False).stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("aebench: error: params.yaml: search.ivf: ")
    assert REFUSED[factory] in lines[0]


@pytest.mark.parametrize("value", [None, ["HNSW16"], {"my-ivf": "SQ8"}, {"ivf": 16}, {1: "SQ8"}])
def test_what_names_no_indexes_is_refused(light, value):
    light.params(search=value)
    assert "params.yaml: search" in light.run("aebench", "plan", ok=False).stderr


def test_more_training_points_than_images_are_refused_where_their_number_is_known(light):
    search(light, ivf="IVF1024,Flat")
    light.run("aebench", "plan")  # nobody has counted yet
    light.run("aebench", "prepare")
    text = light.run("aebench", "plan", ok=False).stderr
    assert "search.ivf: IVF1024,Flat needs 39,936 training points; there are 1,438" in text


def test_the_strings_that_are_allowed_are_those_of_faiss():
    import faiss

    for factory in FITTING:
        assert parsed(factory).misfit(32) is None, factory
        assert faiss.index_factory(32, factory).d == 32, factory
    for factory in UNFITTING:
        assert parsed(factory).misfit(32), factory
        with pytest.raises(RuntimeError):
            made = faiss.index_factory(32, factory)
            made.train(np.random.default_rng(0).normal(size=(700, 32)).astype(np.float32))


def test_off_it_costs_nothing(baseline):
    def keys():
        paths = (baseline / "plan").rglob("*.json")
        return {p: p.read_bytes() for p in paths if p.name != "sources.json"}  # is no key

    before = keys()
    with (baseline / "params.yaml").open("a") as file:
        file.write("search: {}\n")
    baseline.run("aebench", "plan")
    assert keys() == before
    assert not any("search" in json.loads(text) for text in before.values())
    assert "no result is stale" in baseline.run("aebench", "plan", "--check").stdout
    assert "index" not in baseline.run("dvc", "stage", "list").stdout
    assert "Search at scale" not in (baseline / "reports/report.md").read_text()
    assert not (baseline / "reports/plots/search.csv").exists()


def test_dvc_makes_each_index_once_and_without_the_others(baseline):
    runs = {"mlp": {"model": "mlp"}}
    baseline.params(runs=runs, search={"ivf": "IVF8,Flat"})
    assert baseline.stages("dvc", "repro") == {"plan", "index@mlp-ivf", "report"}
    assert "Search at scale" in (baseline / "reports/report.md").read_text()
    baseline.params(search={"ivf": "IVF8,Flat", "sq": "SQ8"})
    baseline.run("aebench", "plan")
    dry = baseline.stages("dvc", "repro", "--dry")
    assert {stage for stage in dry if "@" in stage} == {"index@mlp-sq"}
    baseline.params(search={})
    baseline.run("aebench", "plan")
    assert not list((baseline / "plan").glob("*/index-*"))
    table = baseline.run("aebench", "clean").stdout
    assert "index-ivf of mlp, not in params.yaml" in table


def test_codes_beside_pixels(baseline):
    search(baseline, ivf="IVF16,Flat", pq="PQ16x4")
    told = baseline.run("aebench", "plan").stderr
    assert "search.pq: PQ16x4 does not fit the codes of cnn-latent10 (PQ16 cuts 10" in told
    check = baseline.run("aebench", "plan", "--check").stdout
    assert "index@mlp-ivf: no result" in check and "knn@" not in check
    for run in ("mlp", "pixels"):
        baseline.run("aebench", "index", run, "0", "ivf")
        folder = baseline / "results" / run / "0"
        found = json.loads((folder / "index-ivf.json").read_text())
        knn = json.loads((folder / "knn.json").read_text())
        assert found["exact"]["accuracy"] == knn["accuracy"]
        assert found["exact"]["recall"] > 0.999
        recalls = [one["recall"] for one in found["searched"]]
        assert recalls == sorted(recalls) and recalls[0] < 0.95 and recalls[-1] > 0.999
        assert [one["setting"]["nprobe"] for one in found["searched"]] == [1, 4, 16]
        assert found["searched"][-1]["accuracy"] == pytest.approx(knn["accuracy"], abs=0.003)
        floats = {"mlp": 32, "pixels": 64}[run]
        assert found["bank_bytes"] == 1438 * floats * 4 < found["index_bytes"]
        assert found["train_points"] == 1438 and found["queries"] == found["single_queries"] == 359
        assert all(0 < one["p50_seconds"] <= one["p99_seconds"] for one in found["searched"])
    baseline.run("aebench", "index", "cnn-latent10", "0", "pq")
    done = baseline.run("aebench", "report")
    assert "not shown: mlp, index pq: no result; run `dvc repro`" in done.stderr
    text = (baseline / "reports/report.md").read_text()
    assert "IVF16,Flat (nprobe 4)" in text
    assert "**Left out**: cnn-latent10 (pq): PQ16 cuts 10 floats into 16 parts" in text
    rows = (baseline / "reports/plots/search.csv").read_text().splitlines()
    assert len(rows) == 1 + 2 * 4 + 1
    path = baseline / "results/mlp/0/index-ivf.json"
    path.chmod(0o644)
    path.write_text(path.read_text().replace('"recall": 0', '"recall": 1'))
    assert "not shown: mlp, index ivf: " in baseline.run("aebench", "report").stderr
    baseline.params(knn={"k": 5, "metric": "l2", "backend": "faiss"})
    check = baseline.run("aebench", "plan", "--check").stdout
    assert "index@pixels-ivf: k 10 -> 5 (about" in check


def test_an_unknown_index_or_another_seed_is_told(baseline):
    search(baseline, ivf="IVF16,Flat")
    baseline.run("aebench", "plan")
    error = baseline.run("aebench", "index", "mlp", "0", "ifv", ok=False).stderr
    assert error == "aebench: error: unknown index 'ifv' (did you mean 'ivf'?); known: ivf\n"
    assert "has no seed 7" in baseline.run("aebench", "index", "mlp", "7", "ivf", ok=False).stderr


def trial(bank, queries, k):
    labels, truth = np.zeros(len(bank), np.int64), np.zeros(len(queries), np.int64)
    return Trial(bank, labels, queries, truth, k)


def test_of_equally_distant_codes_each_is_right():
    bank = np.repeat(np.eye(4, dtype=np.float32), 5, axis=0)  # each code five times
    found = trial(bank, bank[::5].copy(), 2)
    assert found.neighbours.tolist() == [[0, 1], [5, 6], [10, 11], [15, 16]]
    assert found.recall(np.array([[4, 3], [9, 8], [14, 13], [19, 18]])) == 1
    assert found.recall(np.array([[0, 5], [5, -1], [-1, -1], [15, 16]])) == 0.5


def test_the_vote_of_fewer_neighbours_than_k():
    labels = np.array([0, 1, 1])
    found = np.array([[0, 1, 2], [0, -1, -1], [1, 0, -1], [-1, -1, -1]])
    assert votes(labels, found).tolist() == [1, 0, 1, -1]


@pytest.mark.parametrize("factory", ["HNSW16", "PQ8x4fs,RFlat", "PCA8,SQ8"])
def test_settings_go_from_near_to_far_and_end_where_all_is_found(factory):
    random = np.random.default_rng(0)
    bank, queries = (random.normal(size=(n, 16)).astype(np.float32) for n in (900, 60))
    labels, truth = (random.integers(0, 3, n) for n in (900, 60))
    found = measured(bank, labels, queries, truth, factory, 5)["searched"]
    recalls = [one.recall for one in found]
    settings = [one.setting for one in found]
    assert recalls == sorted(recalls) and all(recall < 0.999 for recall in recalls[:-1])
    expected = {"HNSW16": {"efSearch": 16}, "PCA8,SQ8": {}}.get(factory, {"k_factor_rf": 10})
    assert settings[0] == expected


def record(factory="IVF16,Flat", times=2.0, contended=False, **changes):
    """Twice as many queries as the exact search at recall 0.96, eight times at 0.6."""

    def searched(recall, rate, **setting):
        return Searched(
            setting=setting,
            recall=recall,
            accuracy=0.5 * recall,
            queries_per_second=1000 * rate,
            queries_per_second_1=500 * rate,
            p50_seconds=0.002 / rate,
            p99_seconds=0.004 / rate,
        )

    sweep = [(0.6, 4 * times, 1), (0.96, times, 4), (1.0, times / 4, 16)]
    facts = {
        "plan_hash": "",
        "status": "ok",
        "data_hash": "",
        "plan": IndexPlan(index=factory, k=10, fingerprints=Fingerprints(aebench="")),
        "exact": searched(1.0, 1),
        "searched": [searched(recall, rate, nprobe=n) for recall, rate, n in sweep],
        "bank_bytes": 4000,
        "index_bytes": 5000,
        "queries": 360,
        "single_queries": 360,
        "timing": Timing(contended=contended),
        "provenance": Provenance(commit=None, dirty=None, versions={}, cpu="P", cores=2, date=""),
    }
    return IndexRecord(**(facts | changes))


def test_the_study_says_what_was_measured():
    mlp, raw = made(), pixels()
    mlp.indexes = {"ivf": record()}
    raw.indexes = {"ivf": record(times=1.5)}
    found = report([mlp, raw]).document
    study = section(found, "Search at scale")
    text = words(study)
    assert "mlp in IVF16,Flat (nprobe 4) answers most queries in a batch: 2,000 per" in text
    assert "2.0 times as many as exact search of raw pixels; recall 96.0 %" in text
    whole = section(found, "Search at scale, in full")
    assert "mlp | IVF16,Flat (nprobe 4) | 96.0 | 48.0 | 2,000 | 1,000 | 2.0 | 1.000" in words(whole)
    assert "mlp | exact | 100.0 | 50.0 | 1,000 | 500 |  | 2.000 | 4.000" in words(whole)
    assert cells(whole)  # a table
    figures = [f for f in found.figures if f.name.startswith("scale")]
    assert [f.name for f in figures] == ["scale-ivf"]
    chart = figures[0].picture
    assert [one.name for one in chart.series] == ["mlp", "pixels"]
    assert [(p.x, p.y) for p in chart.series[0].points] == [(100, 500), (96, 2000), (60, 8000)]
    assert chart.y.log and [level.text for level in chart.levels] == [
        "exact, raw pixels",
        "exact, mlp",
    ]


def test_what_others_disturbed_is_compared_with_nothing():
    mlp = made()
    mlp.indexes = {"ivf": record(contended=True)}
    found = report([mlp]).document
    text = words(section(found, "Search at scale"))
    assert "most queries" not in text and "IVF16,Flat (nprobe 4), contended" in text
    assert "dvc repro -s -f index@mlp-ivf" in text
    assert not [f for f in found.figures if f.name.startswith("scale")]
