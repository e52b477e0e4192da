"""Neighbours are exact and the same for both backends; the vote's ties are decided."""

import json

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from aebench.evaluation.fewer_bits import PRODUCTS, fewer_bits
from aebench.evaluation.latent_space import bank_statistics, latent_health, moved
from aebench.evaluation.probe import mlp_probe, probe
from aebench.evaluation.product import LARGEST, product
from aebench.evaluation.quantise import affine, narrowed
from aebench.evaluation.search import search
from aebench.evaluation.vote import vote
from aebench.schema import Backend, Knn

BACKENDS: list[Backend] = ["faiss", "sklearn"]
KINDS = ["grid", "collapsed", "far", "near ties", "normal", "digits", "digits, PCA"]


def reference(bank, queries, k):
    """By definition: float64 distances, equal ones by lower index."""
    found = []
    for query in queries.astype(np.float64):
        distances = np.square(bank.astype(np.float64) - query).sum(axis=1)
        found.append(np.lexsort((np.arange(len(bank)), distances))[:k])
    return np.array(found)


def codes(kind):
    """(bank, queries), float32."""
    random = np.random.default_rng(0)
    if kind == "grid":  # few distinct distances: ties everywhere
        return (random.integers(0, 3, (n, 3)).astype(np.float32) for n in (400, 60))
    if kind == "collapsed":
        return np.ones((300, 8), np.float32), np.ones((20, 8), np.float32)
    if kind == "far":  # the common offset eats float32's digits
        return (random.normal(1e4, 1e-2, (n, 16)).astype(np.float32) for n in (500, 50))
    if kind.startswith("digits"):  # real ones: whole numbers tie often, principal axes nearly
        from sklearn.datasets import load_digits

        images = load_digits().data
        if kind == "digits, PCA":
            images = (images - images.mean(axis=0)) @ np.linalg.eigh(np.cov(images.T))[1][:, -10:]
        return images[:1500].astype(np.float32), images[1500:1600].astype(np.float32)
    if kind == "near ties":  # distances that differ in the last digit
        bank = np.repeat(random.normal(0, 1, (30, 12)), 20, axis=0)
        bank += random.normal(0, 3e-8, bank.shape)
        return bank.astype(np.float32), bank[::11].astype(np.float32)
    return (random.normal(0, 1, (n, 32)).astype(np.float32) for n in (1000, 100))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 10, 250])
@pytest.mark.parametrize("backend", BACKENDS)
def test_neighbours_are_those_of_the_definition(kind, k, backend):
    bank, queries = codes(kind)
    assert (search(bank, queries, k, backend) == reference(bank, queries, k)).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_k_may_be_the_whole_bank(backend):
    bank, queries = codes("grid")
    found = search(bank, queries, len(bank), backend)
    assert (found == reference(bank, queries, len(bank))).all()


def test_vote_ties_go_to_the_nearest_of_the_tied():
    labels = np.array([[2, 1, 1, 2], [3, 1, 1, 0], [0, 2, 1, 3], [1, 2, 2, 0], [3, 0, 2, 0]])
    assert vote(labels).tolist() == [2, 1, 0, 2, 0]


def cosine_similarities(bank, queries, whiten):
    centre = bank.mean(axis=0, dtype=np.float64)
    bank, queries = bank - centre, queries - centre
    if whiten:
        values, vectors = np.linalg.eigh(np.cov(bank.T, bias=True))
        kept = values > 1e-6 * values.max()
        bank, queries = (a @ vectors[:, kept] / np.sqrt(values[kept]) for a in (bank, queries))
    lengths = [np.linalg.norm(a, axis=1) for a in (bank, queries)]
    products = queries @ bank.T
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(products / np.outer(lengths[1], lengths[0]))


@pytest.mark.parametrize("metric", ["cosine", "whitened-cosine"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_cosine_ranks_by_similarity_and_a_zero_code_has_none(metric, backend):
    random = np.random.default_rng(1)
    bank = random.normal(0, [1, 3, 0.1, 0, 2], (201, 5)) @ random.normal(0, 1, (5, 5))
    bank -= bank.mean(axis=0)
    bank = np.vstack([bank, np.zeros((1, 5))])  # the mean stays 0: a zero code
    queries = np.vstack([random.normal(0, 2, (30, 5)), np.zeros((1, 5))])
    similar = cosine_similarities(bank, queries, metric == "whitened-cosine")
    near, asked = moved(bank, queries, bank_statistics(bank))[0][metric]
    found = search(near, asked, 20, backend)
    expected = np.sort(similar, axis=1)[:, ::-1][:, :20]
    got = np.take_along_axis(similar, found, axis=1)
    assert np.abs(got - expected).max() < 1e-5


def test_pixels_are_not_stored_twice_and_both_backends_agree(baseline):
    assert np.load(baseline / "runs/pixels/0/train_codes.npy").shape == (0, 64)
    before = np.load(baseline / "results/pixels/0/outcomes.npy")
    baseline.params(knn={"k": 10, "metric": "l2", "backend": "sklearn"})
    baseline.run("aebench", "plan")
    baseline.run("aebench", "knn", "pixels", "0")
    assert (np.load(baseline / "results/pixels/0/outcomes.npy") == before).all()


def accuracy(nearest, labels, truth):
    return float(np.mean(vote(labels[nearest]) == truth))


def test_panel_probe_and_health_are_those_of_the_codes(finished):
    found = json.loads((finished / "results/cnn-latent10/0/knn.json").read_text())
    assert found["panel"]["l2"]["10"] == found["accuracy"]
    bank, queries = (
        np.load(finished / f"runs/cnn-latent10/0/{split}_codes.npy").astype(np.float64)
        for split in ("train", "test")
    )
    labels, truth = (
        np.load(finished / f"data/prepared/{split}_labels.npy") for split in ("train", "test")
    )
    bank, queries = bank - bank.mean(axis=0), queries - bank.mean(axis=0)
    factor = np.linalg.cholesky(np.linalg.inv(bank.T @ bank / len(bank)))
    for metric, similarity in {
        "l2": -np.square(queries[:, None] - bank).sum(axis=2),
        "cosine": cosine_similarity(queries, bank),
        "whitened-cosine": cosine_similarity(queries @ factor, bank @ factor),
    }.items():
        order = np.argsort(-similarity, axis=1)
        for k in (1, 5, 10, 20, 50):
            expected = accuracy(order[:, :k], labels, truth)
            # One image whose neighbours are equally far may fall to either side.
            assert abs(found["panel"][metric][str(k)] - expected) < 1.5 / len(truth), (metric, k)
    singular = np.linalg.svd(bank, compute_uv=False)
    shares = singular / singular.sum()
    assert found["effective_rank"] == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
    norms = np.linalg.norm(bank, axis=1)
    assert found["norm_coefficient_of_variation"] == pytest.approx(norms.std() / norms.mean())
    assert found["collapsed_dimensions"] == 0
    assert 0.5 < found["probe_accuracy"] < found["mlp_probe_accuracy"] < 1


def accuracy_of(predicted, truth):
    return float(np.mean(predicted == truth))


def test_health_of_constructed_codes():
    angles = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles), 1e-4 * np.sin(angles), 0 * angles], axis=1)
    found = latent_health(bank_statistics(circle))
    assert found["effective_rank"] == pytest.approx(2, abs=1e-3)
    assert found["collapsed_dimensions"] == 2
    assert found["norm_coefficient_of_variation"] == pytest.approx(0, abs=1e-7)


def test_equal_codes_are_searched_and_probed_all_the_same():
    codes = np.full((60, 4), 0.3, np.float32)
    shape = bank_statistics(codes)
    assert latent_health(shape) == {
        "effective_rank": 0,
        "collapsed_dimensions": 4,
        "norm_coefficient_of_variation": 0,
    }
    metrics, coordinates = moved(codes, codes[:5], shape)
    assert coordinates is not None
    bank, queries = coordinates
    for near, asked in metrics.values():
        assert (search(near, asked, 3, "faiss") == [0, 1, 2]).all()
    labels = np.repeat([0, 1, 1], 20)
    for fitted in (probe, mlp_probe):
        assert (fitted(bank, labels, queries) == 1).all()  # the largest class
        assert fitted(bank, np.ones(60, int), queries) is None


def test_the_mlp_probe_learns_what_no_linear_layer_can_and_gives_the_same_bits_again():
    random = np.random.default_rng(0)
    codes = random.standard_normal((1200, 5)).astype(np.float32)
    labels = (codes[:, 0] * codes[:, 1] > 0).astype(int)
    bank, queries, truth = codes[:1000], codes[1000:], labels[1000:]
    found = mlp_probe(bank, labels[:1000], queries)
    assert accuracy_of(probe(bank, labels[:1000], queries), truth) < 0.65
    assert accuracy_of(found, truth) > 0.85
    assert (mlp_probe(bank, labels[:1000], queries) == found).all()
    far = mlp_probe(bank, labels[:1000], np.full((1, 5), 3e38, np.float32))
    assert far is not None and far[0] in (0, 1)  # and nothing overflows: a warning would fail


def classes(count, floats):
    """Codes around the corners of a cube, and which corner: of few extremes a dimension each."""
    random = np.random.default_rng(0)
    labels = random.integers(8, size=count)
    corners = np.stack([(labels >> axis) % 2 for axis in range(floats)], axis=1)
    found = corners + random.normal(0, 0.3, (count, floats))
    found[0] += 50
    return found.astype(np.float32), labels


@pytest.mark.parametrize("metric", ["l2", "cosine", "whitened-cosine"])
def test_codes_in_fewer_bits_are_searched_as_they_are_kept(metric):
    """An odd number of floats: the last byte has one alone."""
    (bank, labels), (queries, truth) = classes(1000, 3), classes(200, 3)
    queries, truth = queries[1:], truth[1:]
    knn = Knn(k=5, metric=metric, backend="faiss")
    found = fewer_bits(bank, labels, queries, truth, knn, bank_statistics(bank))
    assert found["pq_bytes"] == 2 and "fewer_bits_note" not in found
    # By all pairs, with what is kept.
    four = narrowed(affine([bank]), bank, 4)
    kinds = {"8bit": affine([bank]), "4bit": four}
    pairs = {k: (q.rounded(bank), q.rounded(queries)) for k, q in kinds.items()}
    pairs["pq"] = product(bank).rounded(bank), queries
    for kind, (near, asked) in pairs.items():
        metrics, _ = moved(near, asked, bank_statistics(bank))
        if metric == "whitened-cosine":  # by the directions of the codes as they were
            near, asked = (one - bank.mean(axis=0) for one in (near, asked))
            directions = bank_statistics(bank).whiten
            similar = cosine_similarity(*(one @ directions for one in (asked, near)))
            nearest = np.argsort(-similar, axis=1, kind="stable")[:, :5]
        else:
            nearest = search(*metrics[metric], 5, "faiss")
        assert found[f"accuracy_{kind}"] == pytest.approx(
            accuracy(nearest, labels, truth), abs=0.01
        )


def test_sixteen_values_are_not_spent_on_a_few_codes():
    codes, _ = classes(2000, 4)
    whole = affine([codes])
    four = narrowed(whole, codes, 4)
    lost = [np.square(one.rounded(codes) - codes)[1:].mean() for one in (four, whole)]
    spent = type(whole)(whole.low, whole.span, 4)
    assert lost[1] < lost[0] < np.square(spent.rounded(codes) - codes)[1:].mean() / 4
    binary = np.float32(codes > 0.5)  # whose ends are kept: nothing is lost
    assert (narrowed(affine([binary]), binary, 4).rounded(binary) == binary).all()


def test_what_is_not_searched_in_fewer_bits_says_why():
    knn = Knn(k=5, metric="l2", backend="faiss")

    def tried(bank, queries):
        labels = np.zeros(len(bank), np.int64), np.zeros(len(queries), np.int64)
        statistics = bank_statistics(bank[:2])
        return fewer_bits(bank, labels[0], queries, labels[1], knn, statistics)

    few = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    found = tried(few, few)
    why = "product quantisation needs 256 training codes; there are 100"
    assert found == {"accuracy_8bit": 1, "accuracy_4bit": 1, "fewer_bits_note": why}
    wide = np.zeros((300, LARGEST + 1), np.float32)
    assert "at most 2,048" in tried(wide, wide[:3])["fewer_bits_note"]
    many = np.broadcast_to(np.float32(0), (10**6, 1000))
    assert many.size * 2000 > PRODUCTS
    found = tried(many, np.broadcast_to(np.float32(0), (2000, 1000)))
    assert found.keys() == {"fewer_bits_note"}


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_product_quantisation_does_not_mind_where_codes_lie(scale):
    codes, _ = classes(600, 5)
    codes = np.float32(scale) * (codes + 100)
    kept = product(codes)
    assert kept.encoded(codes).shape == (600, kept.code_bytes) == (600, 3)
    lost = np.square((kept.rounded(codes) - codes)[1:] / np.float32(scale)).mean()
    assert lost < 0.02
    assert (product(codes).encoded(codes) == kept.encoded(codes)).all()
    assert (product(0 * codes).rounded(0 * codes) == 0).all()
    fixed = np.pad(codes, ((0, 0), (4, 1)), constant_values=np.float32(scale))  # cost no byte
    wide = product(fixed)
    assert wide.code_bytes == 3
    np.testing.assert_array_equal(wide.rounded(fixed)[:, 4:9], kept.rounded(codes))
    np.testing.assert_array_equal(wide.rounded(fixed)[:, [0, 9]], np.float32(scale))
