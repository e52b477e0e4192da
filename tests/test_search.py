"""Search is exact at every scale and among equal codes; more floats than images are no matter."""

import json
import tracemalloc

import numpy as np
import pytest
from conftest import SMALL, make
from hypothesis import given, settings
from hypothesis import strategies as st
from test_knn import BACKENDS, reference

from aebench.evaluation import distinct as distinct_rows
from aebench.evaluation import fewer_bits, latent_space, search, shared
from aebench.evaluation.distinct import distinct
from aebench.evaluation.latent_space import bank_statistics, latent_health, moved, whitened
from aebench.evaluation.panel import evaluated
from aebench.evaluation.search import search as searched
from aebench.schema import Knn

BANK, QUERIES = 300, 40


def gaussian(random, count, floats=6):
    return random.standard_normal((count, floats))


def noisy_words(random, count, number=3):
    """Codewords that are equal but for float32's last digits."""
    found = np.random.default_rng(1).standard_normal((number, 6))[
        random.integers(number, size=count)
    ]
    return found * (1 + 1e-7 * random.standard_normal(found.shape))


def far_apart(random, count):
    """Two groups, whose distance eats all digits of those inside the one."""
    return gaussian(random, count) * 1e-20 + 1e15 * random.integers(2, size=(count, 1))


KINDS = {
    "1e-25": lambda random, count: gaussian(random, count) * 1e-25,
    "1e19": lambda random, count: gaussian(random, count) * 1e19,
    "subnormal": lambda random, count: gaussian(random, count) * 1e-43,
    "largest": lambda random, count: np.tanh(gaussian(random, count)) * 3.4e38,
    "dimensions": lambda random, count: gaussian(random, count) * np.logspace(-44, 38, 6),
    "rows": lambda random, count: (
        gaussian(random, count) * 10.0 ** random.integers(-44, 38, size=(count, 1))
    ),
    "far apart": far_apart,
    "far from 0": lambda random, count: 1e30 * (1 + 1e-6 * gaussian(random, count)),
    "equal": lambda random, count: np.full((count, 6), 0.3),
    "words": lambda random, count: np.eye(6)[random.integers(6, size=count)],
    "half zeros": lambda random, count: (
        gaussian(random, count) * random.integers(2, size=(count, 1))
    ),
    "signed zeros": lambda random, count: random.choice([-0.0, 0.0, 1.0], size=(count, 6)),
    "binary": lambda random, count: random.integers(2, size=(count, 9)),
    "noisy words": noisy_words,
    "one noisy word": lambda random, count: noisy_words(random, count, 1),
    "at the centre": lambda random, count: (
        np.sin(gaussian(random, count)) if count == BANK else 1e-9 * gaussian(random, count)
    ),
}


def drawn(kind, bank=BANK, queries=QUERIES):
    random = np.random.default_rng(0)
    return tuple(KINDS[kind](random, count).astype(np.float32) for count in (bank, queries))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_neighbours_are_those_of_float64(kind, backend):
    bank, queries = drawn(kind)
    for k in (1, 10, 50):
        assert (searched(bank, queries, k, backend) == reference(bank, queries, k)).all(), k


@pytest.mark.parametrize("kind", KINDS)
def test_shared_products_find_what_two_searches_find(kind, monkeypatch):
    monkeypatch.setattr(shared, "FEW", 1)
    monkeypatch.setattr(shared, "TILE", (16, 100))
    for bank, queries in (drawn(kind), drawn(kind, bank=12), drawn(kind)[::-1]):
        centre = bank.mean(axis=0, dtype=np.float64)
        units = latent_space.Units(bank, False, centre), latent_space.Units(queries, True, centre)
        for k in (1, 10):
            found = shared.l2_and_cosine(bank, queries, centre, k, "faiss")
            assert (found[0] == searched(bank, queries, k, "faiss")).all()
            assert (found[1] == searched(*units, k, "faiss")).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_many_floats_are_multiplied_once(dtype, monkeypatch):
    random = np.random.default_rng(0)
    bank, queries = (random.integers(256, size=(n, 300)).astype(dtype) for n in (BANK, QUERIES))
    centre = bank.mean(axis=0, dtype=np.float64)
    units = latent_space.Units(bank, False, centre), latent_space.Units(queries, True, centre)
    expected = searched(bank, queries, 50, "faiss"), searched(*units, 50, "faiss")
    monkeypatch.setattr(shared, "search", None)  # which is not asked
    found = shared.l2_and_cosine(bank, queries, centre, 50, "faiss")
    assert (found[0] == expected[0]).all() and (found[1] == expected[1]).all()


FLOAT = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(max_examples=150, deadline=None, database=None, derandomize=True)
@given(
    elements=st.lists(FLOAT, min_size=1, max_size=5),
    exponents=st.lists(st.integers(-40, 0), min_size=1, max_size=4),
    floats=st.integers(1, 5),
    k=st.integers(1, 80),
    backend=st.sampled_from(BACKENDS),
)
def test_codes_of_any_few_numbers_are_searched_exactly(elements, exponents, floats, k, backend):
    """Ties, zeros of both signs, and every scale at once."""
    random = np.random.default_rng(len(elements))
    size = (120, floats)
    codes = random.choice(np.float32(elements), size=size)
    codes = codes * np.float32(10) ** random.choice(np.float32(exponents), size=size)
    bank, queries = codes[:100], codes[100:]
    assert (searched(bank, queries, k, backend) == reference(bank, queries, k)).all()


@pytest.mark.parametrize("metric", ["l2", "cosine", "whitened-cosine"])
@pytest.mark.parametrize("exponent", [-100, 100])
def test_powers_of_two_keep_the_neighbours(metric, exponent):
    random = np.random.default_rng(0)
    bank, queries = (gaussian(random, n).astype(np.float32) for n in (BANK, QUERIES))
    found = []
    for scale in (1, np.float32(2.0**exponent)):
        near, asked = moved(bank * scale, queries * scale, bank_statistics(bank * scale))[0][metric]
        found.append(searched(near, asked, 20, "faiss"))
    assert (found[0] == found[1]).all()


@pytest.mark.parametrize("kind", ["noisy words", "binary", "at the centre", "half zeros"])
def test_ties_are_not_ranked_by_the_whole_bank(kind, monkeypatch):
    """What is ranked in float64 does not grow with the number of codes that tie."""
    ranked = []
    original = search.squared_distances

    def counting(bank, queries):
        found = original(bank, queries)
        ranked.append(found.size)
        return found

    monkeypatch.setattr(search, "squared_distances", counting)
    bank, queries = drawn(kind, 20_000, 500)
    searched(bank, queries, 10, "faiss")
    assert sum(ranked) < 500 * 300


def in_small_blocks(monkeypatch):
    for name, floats in {
        "BANK": 6 * 70,
        "QUERIES": 6 * 9,
        "PRODUCTS": 6 * 30,
        "PAIRS": 6 * 50,
        "BLOCK": 6 * 20,
    }.items():
        monkeypatch.setattr(search, name, floats)
    for module in (distinct_rows, latent_space):
        monkeypatch.setattr(module, "BLOCK", 6 * 20)


@pytest.mark.parametrize("backend", BACKENDS)
def test_large_codes_are_searched_in_parts(backend, monkeypatch):
    in_small_blocks(monkeypatch)
    for kind in ("1e19", "noisy words", "half zeros"):
        bank, queries = drawn(kind)
        for k in (3, 100):
            assert (searched(bank, queries, k, backend) == reference(bank, queries, k)).all()


@pytest.mark.parametrize("kind", ["words", "half zeros", "noisy words", "1e-25"])
def test_small_blocks_give_the_same_neighbours_by_every_metric(kind, monkeypatch):
    bank, queries = drawn(kind)
    metrics, _ = moved(bank, queries, bank_statistics(bank))
    whole = {metric: searched(*pair, 30, "faiss") for metric, pair in metrics.items()}
    in_small_blocks(monkeypatch)
    metrics, _ = moved(bank, queries, bank_statistics(bank))
    for metric, pair in metrics.items():
        for backend in BACKENDS:
            assert (searched(*pair, 30, backend) == whole[metric]).all(), (metric, backend)


def test_memory_does_not_grow_with_the_floats_of_the_bank(tmp_path, monkeypatch):
    """Mapped codes: a few numbers a row are held, not its floats."""
    for module, name in ((search, "BANK"), (search, "QUERIES"), (search, "PAIRS")):
        monkeypatch.setattr(module, name, 2**16)
    monkeypatch.setattr(fewer_bits, "SAMPLE", 2000)
    random = np.random.default_rng(0)
    knn = Knn(k=3, metric="l2", backend="faiss")
    peaks = {}
    for count in (5_000, 5_000, 20_000):  # the first one imports
        path = tmp_path / f"{count}.npy"
        np.save(path, random.standard_normal((count, 256), np.float32))
        bank = np.load(path, mmap_mode="c")
        labels = np.arange(count) % 2
        tracemalloc.start()
        evaluated(bank, labels, bank[:30], labels[:30], knn, tmp_path)
        peaks[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[20_000] - peaks[5_000] < 250 * 15_000


def test_pixels_are_searched_as_they_are():
    random = np.random.default_rng(0)
    bank, queries = (random.integers(0, 256, (n, 30), np.uint8) for n in (BANK, QUERIES))
    bank[::7] = bank[3]
    expected = reference(bank, queries, 20)
    for codes in (bank, bank.astype(np.float32)):
        assert (searched(codes, queries.astype(codes.dtype), 20, "faiss") == expected).all()


def test_rows_of_one_hash_stay_apart(monkeypatch):
    monkeypatch.setattr(
        "aebench.evaluation.distinct.row_hashes", lambda codes: np.zeros(len(codes), np.uint64)
    )
    bank, queries = drawn("words")
    assert len(distinct(bank)) > 1
    assert (searched(bank, queries, 60, "faiss") == reference(bank, queries, 60)).all()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A workspace of one run whose codes a test writes."""
    params = SMALL[: SMALL.index("runs:")] + "runs:\n  pixels:\n    model: pixels\n"
    workspace = make(tmp_path_factory.mktemp("search") / "workspace", params)
    for stage in (["plan"], ["prepare"], ["train", "pixels", "0"], ["encode", "pixels", "0"]):
        workspace.run("aebench", *stage)
    return workspace


def knn(workspace, codes):
    """knn.json and the predictions of these codes in place of the run's."""
    for split, array in codes.items():
        np.save(workspace / f"runs/pixels/0/{split}_codes.npy", array)
    path = workspace / "results/pixels/0/encode.json"
    content = json.loads(path.read_text())
    content = {k: v for k, v in content.items() if k not in ("files", "checksum")}
    content["sizes"]["code_floats"] = codes["train"].shape[1]
    path.write_text(json.dumps(content))
    workspace.run("aebench", "knn", "pixels", "0")
    found = json.loads((workspace / "results/pixels/0/knn.json").read_text())
    return found, np.load(workspace / "results/pixels/0/outcomes.npy")["prediction"]


def test_the_stage_does_not_see_the_scale(prepared):
    random = np.random.default_rng(0)
    codes = {split: gaussian(random, n).astype(np.float32) for split, n in COUNTS.items()}
    found, predictions = knn(prepared, codes)
    for exponent in (-90, 70):
        scaled = {split: array * np.float32(2.0**exponent) for split, array in codes.items()}
        again, others = knn(prepared, scaled)
        assert (predictions == others).all()
        for key in ("panel", "probe_accuracy", "mlp_probe_accuracy", "collapsed_dimensions"):
            assert again[key] == found[key], key
        assert again["effective_rank"] == pytest.approx(found["effective_rank"])


COUNTS = {"train": 1438, "test": 359}


@pytest.mark.parametrize("shape", [(40, 90), (90, 40)])
def test_fewer_images_than_floats_give_the_same_figures(shape):
    """Against the singular values, whichever matrix was taken."""
    random = np.random.default_rng(0)
    bank = (gaussian(random, *shape) * np.linspace(0.1, 3, shape[1])).astype(np.float32)
    bank[:, 5] = 0.5
    queries = gaussian(random, 7, shape[1]).astype(np.float32)
    found = bank_statistics(bank)
    centred = bank - bank.mean(axis=0, dtype=np.float64)
    _, singular, directions = np.linalg.svd(centred, full_matrices=False)
    kept = singular > 1e-3 * singular[0]
    shares = singular[kept] / singular[kept].sum()
    health = latent_health(found)
    assert health["effective_rank"] == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
    assert health["collapsed_dimensions"] == 1
    whiten = directions[kept].T / singular[kept] * np.sqrt(len(bank))
    for codes in (bank, queries):
        expected = (codes - bank.mean(axis=0, dtype=np.float64)) @ whiten
        products = whitened(codes, False, found).coordinates
        assert products.shape == expected.shape
        assert products @ products.T == pytest.approx(expected @ expected.T, rel=1e-4, abs=1e-3)


def test_what_is_too_large_to_whiten_is_blank_and_says_so(prepared, monkeypatch):
    monkeypatch.setattr(latent_space, "LARGEST", 63)
    nothing = {split: np.empty((0, 64), np.float32) for split in COUNTS}  # the pixels themselves
    found, _ = knn(prepared, nothing)
    assert found["status"] == "ok" and found["panel"]["cosine"]["10"] > 0.9
    assert set(found["panel"]["whitened-cosine"].values()) == {None}
    assert found["probe_accuracy"] is None and found["effective_rank"] is None
    assert found["mlp_probe_accuracy"] is None
    assert found["collapsed_dimensions"] == 3
    assert found["note"].startswith("1,438 training codes of 64 floats are too many of both")
    prepared.run("aebench", "report")
    assert f"pixels: {found['note']}." in (prepared / "reports/report.md").read_text()
    prepared.params(knn={"k": 10, "metric": "whitened-cosine", "backend": "faiss"})
    prepared.run("aebench", "plan")
    prepared.run("aebench", "knn", "pixels", "0")
    record = json.loads((prepared / "results/pixels/0/knn.json").read_text())
    assert record["status"] == f"failed: knn.metric whitened-cosine: {found['note']}"


def test_few_large_images_go_through_all_stages(tmp_path, folder_data):
    folder_data(sizes=((160, 128),), count=4)  # 24 for training, 8 for tests
    params = SMALL[: SMALL.index("runs:")] + "runs:\n  pca:\n    model: pca\n"
    params += "  pca-latent4:\n    model: pca\n    latent: 4\n"
    params = params.replace("dataset: digits", "dataset: pets").replace("k: 10", "k: 3")
    workspace = make(tmp_path / "workspace", params + "  pixels:\n    model: pixels\n")
    workspace.run("aebench", "plan")
    workspace.run("aebench", "prepare")
    for run in ("pca", "pca-latent4", "pixels"):
        for stage in ("train", "encode", "knn"):
            workspace.run("aebench", stage, run, "0")
    workspace.run("aebench", "report")
    rows = workspace.rows()
    assert rows["pca"]["note"] == "the data has rank 23: the other codes are 0"
    images = (np.load(workspace / f"data/prepared/{s}_images.npy") / 255 for s in COUNTS)
    train, test = (array.reshape(len(array), -1) for array in images)
    mean = train.mean(axis=0)
    directions = np.linalg.svd(train - mean, full_matrices=False)[2]
    for run, axes in {"pca": directions[:23], "pca-latent4": directions[:4]}.items():
        decoded = np.clip((test - mean) @ axes.T @ axes + mean, 0, 1)
        expected = np.square(decoded - test).mean()
        assert float(rows[run]["mse"]) == pytest.approx(expected, rel=1e-4)
    assert all(float(row["effective_rank"]) > 1 for row in rows.values())
    assert all(row["accuracy_whitened_cosine_k5"] for row in rows.values())


@pytest.mark.parametrize("far", [1e10, 3e38])
def test_a_code_far_from_all_others_is_no_end(far):
    random = np.random.default_rng(0)
    bank = (random.standard_normal((60, 4)) * 1e-30).astype(np.float32)
    queries = bank[:5].copy()
    queries[0] = far
    knn = Knn(k=3, metric="l2", backend="faiss")
    labels = np.arange(60) % 3
    found = evaluated(bank, labels, queries, labels[:5], knn)
    assert found.probe_accuracy is not None and found.mlp_probe_accuracy is not None
    assert len(found.predictions) == 5
