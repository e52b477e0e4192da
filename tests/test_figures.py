"""What stands in the pictures, and that they are drawn whatever the results are."""

import io
import re
import warnings
import xml.dom.minidom
from functools import cache

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.text import Text
from PIL import Image
from synthetic import IMAGES, made, pca, pixels, report, sweep

from aebench.report import drawing
from aebench.report.charts import Charts, file_name, sideways
from aebench.report.document import Table
from aebench.report.looks import PALETTE, looks, nth
from aebench.report.losses import further_curves, losses
from aebench.report.pictures import Axis, Chart, CodeMap, HeatMap, Mosaic, Point, Series

HOSTILE = [
    "<script>alert(1)</script>",
    "a|b",
    "$x^$",
    "'q\" & `",
    "\u202eabc\u200f",
    "猫の画像",
    "W" * 300,
    "_under",
    "-->",
    "]]>",
    'style="fill: #b34a00"',
    'id="x" href="#x"',
    "\x00\x07x\n2",
    "مرحبا",
    "url(#x)",
]


def with_maps(found):
    """The same results with what newer ones have: maps, worst images, times of the epochs."""
    random = np.random.default_rng(0)
    for one in found:
        one.code_map = random.integers(0, 256, (2, IMAGES, 2), np.uint8)
        if one.columns["mse"] is not None:
            one.worst = np.stack([np.full((3, 1, 8, 8), value, np.uint8) for value in (9, 200)])
        one.epoch_seconds = [2.0] * len(one.losses)
    return found


def figures(found):
    return {figure.name: figure for figure in found.document.figures}


def chart(found, name) -> Chart:
    return figures(found)[name].picture


def by_card(picture):
    """Points of a chart by the card that they link to."""
    return {point.card: point for series in picture.series for point in series.points if point.card}


def tags(svg):
    return re.findall("<[^<>]+>", svg)


HOSTILE_RUNS = [
    made(name.replace("\x00", ""), model=name, options={name: place}, curves={name: [place, 1.0]})
    for place, name in enumerate(HOSTILE)
]
HOSTILE_RUNS += [
    made(f"m{i}-{j}", depth=4, options={HOSTILE[i]: j}) for i in range(5) for j in range(2)
]


@cache
def reports():
    """Results of all sorts."""
    perfect, guessed = sweep(seeds=[0]), sweep(seeds=[0])
    for one in perfect:
        one.outcomes["prediction"] = one.outcomes["label"]
    for one in guessed:
        one.outcomes["label"] = one.outcomes["prediction"] = 0
    single = made(train={"epochs": 1})
    single.losses = [0.02]
    many = [
        made(f"m{i}-l{n}", model=f"model-{i}", latent=n, accuracy=0.2 + i / 500, mse=0.02 + i / 900)
        for i in range(100)
        for n in (8, 16)
    ]
    letters = [f"{place} is a class" for place in range(26)]
    return {
        "sweep": report(with_maps(sweep())),
        "one": report(with_maps([made()])),
        "single epoch": report(with_maps([single])),
        "pca": report(with_maps([pca()])),
        "pixels": report(with_maps([pixels()])),
        "without baselines": report(with_maps([made(), made("mlp2", latent=8)])),
        "perfect": report(with_maps(perfect)),
        "one class": report(with_maps(guessed), classes=["only"]),
        "encoders": report(with_maps([made("s", mse=None), made("s2", mse=None, latent=10)])),
        "26 classes": report(with_maps(sweep(seeds=[0])), classes=letters),
        "hostile": report(with_maps([*HOSTILE_RUNS, pca(), pixels()]), classes=HOSTILE),
        "200 runs": report(with_maps([*many, pca(), pca("pca8", latent=8), pixels()])),
    }


@pytest.mark.parametrize("kind", reports())
def test_every_picture_is_drawn_and_its_words_lie_within_it(kind):
    for name, figure in figures(reports()[kind]).items():
        assert max(Image.open(io.BytesIO(drawing.png(figure.picture))).size) <= 3000, name
        with rc_context(drawing.STYLE):
            drawn = drawing.drawn(figure.picture)
            drawn.set_dpi(drawing.DPI)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Glyph")  # of letters that no font has
                drawn.draw_without_rendering()
        for text in drawn.findobj(Text):
            if text.get_visible() and text.get_text().strip() and text.figure:
                box = text.get_window_extent()
                inside = drawn.bbox.expanded(1.02, 1.02)
                assert inside.x0 <= box.x0 and box.x1 <= inside.x1, (name, text)
                assert inside.y0 <= box.y0 and box.y1 <= inside.y1, (name, text)
        assert figure.title and "\n" not in figure.title
        assert len({*figures(reports()[kind])}) == len(reports()[kind].document.figures)


@pytest.mark.parametrize("kind", ["sweep", "hostile"])
def test_svg_can_stand_in_a_page(kind):
    seen = set()
    for name, figure in figures(reports()[kind]).items():
        svg = drawing.svg(figure.picture, f"{name}-")
        assert svg == drawing.svg(figure.picture, f"{name}-")
        assert svg.startswith("<svg role=") and svg.endswith("</svg>")
        xml.dom.minidom.parseString(svg)
        bare = "".join(re.sub('"[^"]*"', '""', tag) for tag in tags(svg))
        # A page may forbid style attributes and sheets; no link opens a window.
        assert not re.search("style|script|target|xlink|<!--|metadata|<title", bare)
        bare = re.sub(' aria-label="[^"]*"', "", "".join(tags(svg)))
        assert not re.search('"#[0-9a-f]{6}"', bare)
        assert set(re.findall(r'"var\(--(\w+)\)"', bare)) <= PALETTE.keys()
        ids = re.findall(' id="([^"]*)"', bare)
        used = set(re.findall(r'url\(#([^)]*)\)|<use href="#([^"]*)"', bare))
        assert {*ids} == {one or other for one, other in used} and len(ids) == len({*ids})
        assert not seen & {*ids}
        seen |= {*ids}


def test_points_link_to_cards_and_say_what_they_are():
    found = reports()["sweep"]
    svg = drawing.svg(chart(found, "accuracy_over_bytes"), "a-")
    links = re.findall(r'<a class="pt" href="#([^"]*)" tabindex="-1" aria-label="([^"]*)">', svg)
    assert {card for card, _ in links} == {one.card for one in found.configurations}
    words = dict(links)["run-mlp-latent10"]
    assert words.startswith("mlp-latent10: 40 bytes, 45.") and words.endswith(" %")
    assert svg.count("<a ") == len(links)
    assert re.match('<svg role="group" aria-label="kNN accuracy, %[^"]*, over bytes per code', svg)


def test_names_of_users_are_inert_in_svg():
    series = [Series(n, nth(i), [Point(i, i, card="c", tip=n)]) for i, n in enumerate(HOSTILE)]
    svg = drawing.svg(Chart(Axis("x"), Axis(HOSTILE[0]), series, legend=True), "p-")
    read = xml.dom.minidom.parseString(svg)
    texts = [one.firstChild.data for one in read.getElementsByTagName("text") if one.firstChild]
    said = [one.getAttribute("aria-label") for one in read.getElementsByTagName("a")]
    assert not read.getElementsByTagName("script")
    for name in ("<script>alert(1)</script>", "a|b", "$x^$", 'style="fill: #b34a00"', "url(#x)"):
        assert name in texts and name in said
    assert "abc" in texts and "x 2" in said  # without what turns or breaks a line


def test_long_names_are_told_apart_in_legends():
    names = [f"autoencoder-convolutional-latent{n}" for n in (10, 20)]
    series = [Series(name, nth(0), [Point(1, 1, tip=name)]) for name in names]
    svg = drawing.svg(Chart(Axis("x"), Axis("y"), series, legend=True), "p-")
    assert "latent10</text>" in svg and "latent20</text>" in svg


def test_colours_of_png_and_page_are_one_palette():
    light = [one for one, _ in PALETTE.values()]
    assert len({*light}) == len(light) and {*PALETTE} >= {f"c{n}" for n in range(8)}
    picture = Chart(Axis("x"), Axis("y"), [Series("a", nth(3), [Point(1, 1, tip="a")])])
    found = np.array(Image.open(io.BytesIO(drawing.png(picture))).convert("RGB"))
    colour = [int(PALETTE["c3"][0][place : place + 2], 16) for place in (1, 3, 5)]
    assert (found == colour).all(axis=-1).any()
    assert 'fill="var(--c3)"' in drawing.svg(picture, "")


def test_a_model_has_one_look_and_references_are_quiet():
    found = report([*sweep(), *(made(f"m{i}", model=f"m{i}", options={"a": i}) for i in range(80))])
    by_name = {one.name: look for one, look in looks(found.configurations).items()}
    assert by_name["mlp"] == by_name["mlp-latent10"]
    assert by_name["pca"] == by_name["pca-latent10"] != by_name["mlp"]
    assert (by_name["pca"].colour, by_name["pca"].marker, by_name["pca"].line) == ("ink", "s", "--")
    assert by_name["pixels"].colour == by_name["mlp-untrained"].colour == "quiet"
    assert by_name["mlp-untrained"].marker == by_name["mlp"].marker != by_name["pixels"].marker
    others = [by_name["mlp"], *(by_name[f"m{i}"] for i in range(80))]
    assert len({*others}) == 81 and not {"s", "X"} & {look.marker for look in others}
    assert len({look.colour for look in others[:8]}) == len({o.marker for o in others[:8]}) == 8
    # The first eight do not depend on the colour alone, nor do those after them.
    assert all(a.marker != b.marker for a, b in zip(others[:8], others[8:16], strict=True))


def test_trade_off_has_all_codes_their_front_and_chance():
    picture = chart(report(sweep()), "accuracy_over_bytes")
    points = by_card(picture)
    assert len(points) == 6 and points["run-mlp"].y == pytest.approx(50)
    assert points["run-mlp"].below > 1 and picture.x.log is False
    # PCA of 128 bytes is as good as mlp, at the same size: it stands beside it.
    assert points["run-mlp"].x < 128 < points["run-pca"].x
    heights = [y for _, y in picture.front]
    assert heights == pytest.approx([45, 60, 60])  # pixels: 64 bytes
    labels = [label.text for label in picture.labels if label.needed]
    assert labels == ["pixels", "mlp-latent10"]
    assert picture.levels == [] and picture.y.label == "kNN accuracy, % (axis from 32)"
    low = chart(report(sweep(mlp_untrained={"accuracy": 0.15})), "accuracy_over_bytes")
    (level,) = low.levels
    assert (level.text, level.y) == ("chance", 10) and low.y.label == "kNN accuracy, %"


def test_guessing_is_called_what_it_is():
    figure = figures(report(sweep()))["accuracy_over_bytes"]
    assert figure.picture.levels == [] and figure.caption.endswith(" Chance: 10 %.")
    runs = [made(accuracy=0.95), made("low", latent=10, accuracy=0.6)]
    for one in runs:
        right = one.outcomes["label"] == one.outcomes["prediction"]
        one.outcomes["label"] = np.arange(IMAGES) % 10 == 0
        one.outcomes["prediction"] = one.outcomes["label"] ^ ~right
    uneven = figures(report(runs, classes=["a", "b"]))["accuracy_over_bytes"]
    (level,) = uneven.picture.levels
    assert (level.text, level.y) == ("always the commonest class", 90)
    assert "Chance" not in uneven.caption
    for one in runs:
        one.outcomes["prediction"] = one.outcomes["label"] ^ (np.arange(IMAGES) % 3 == 0)
    below = chart(report(runs, classes=["a", "b"]), "accuracy_over_bytes")
    assert below.levels[0].y == 90 < below.y.ends[1]


def test_what_saw_the_labels_is_on_no_front():
    seen = made("seen", model="seen", accuracy=0.95, labels_seen=True)
    figure = figures(report([*sweep(), seen]))["accuracy_over_bytes"]
    assert max(y for _, y in figure.picture.front) == pytest.approx(60)
    assert by_card(figure.picture)["run-seen"].y == pytest.approx(95, abs=1)
    assert "by what saw no labels" in figure.caption and "seen" not in figure.title
    alone = figures(report([seen]))["accuracy_over_bytes"]
    assert alone.picture.front == [] and "Line" not in alone.caption


def test_accuracies_of_another_search_are_not_beside_the_others():
    other = made("k1", knn={"k": 1})
    figure = figures(report([*sweep(), other]))["accuracy_over_bytes"]
    assert "run-k1" not in by_card(figure.picture)
    assert "1 run with another k or metric is left out" in figure.caption


def test_an_axis_that_begins_elsewhere_says_so_and_no_run_is_cut_off():
    runs = [made(f"m{n}", options={"a": n}, accuracy=0.9 + n / 200) for n in range(8)]
    for name, figure in figures(report(runs)).items():
        picture = figure.picture
        if isinstance(picture, Chart) and picture.y.ends:
            low, high = picture.y.ends
            begin = re.search(r"\(axis from (\d+)\)", picture.y.label)
            assert begin and int(begin[1]) == low > 70, name
            for point in by_card(picture).values():
                assert low < point.y - point.below and point.y + point.above < high


NEUTRAL = "kNN accuracy over bytes per code"


def thrice(run, **changes):
    """Three seeds of a model of that name."""
    return [made(run, seed, **({"model": run} | changes)) for seed in (0, 1, 2)]


@pytest.mark.parametrize(
    ("accuracy", "words"),
    [
        (0.4, "More bytes do not find more: small (40 bytes) has the best codes"),
        (0.85, "large (128 bytes) has the best codes"),
        (0.8, "small (40 bytes) has the best codes, tied with large"),
    ],
)
def test_title_of_the_trade_off_says_what_the_test_supports(accuracy, words):
    runs = [made("small", latent=10, accuracy=0.8), made("large", accuracy=accuracy)]
    assert figures(report(runs))["accuracy_over_bytes"].title == words
    alone = figures(report(runs[:1]))["accuracy_over_bytes"]
    assert alone.title == NEUTRAL


def trade_off_title(*found):
    return figures(report([one for ones in found for one in ones]))["accuracy_over_bytes"].title


def test_title_of_the_trade_off_knows_all_that_stands_above():
    best = thrice("small", latent=10, accuracy=0.8), thrice("large", accuracy=0.4)
    words = "small (40 bytes) has the best codes"
    assert trade_off_title(*best) == f"More bytes do not find more: {words}"
    # One seed beside several is in no ranking, wherever it stands.
    single = made("single", model="single", latent=64, accuracy=0.9)
    for seeds in ([single], [single, *thrice("single", status="failed: no")[1:]]):
        assert trade_off_title(*best, seeds) == NEUTRAL
    low = made("single", model="single", latent=64, accuracy=0.2)
    assert trade_off_title(*best, [low]) == words
    # Raw pixels are no codes.
    assert trade_off_title(*best, [pixels(accuracy=0.95)]) == NEUTRAL
    assert trade_off_title(*best, [pixels(accuracy=0.803)]).endswith(words)
    seen = thrice("seen", latent=64, accuracy=0.95, labels_seen=True)
    assert trade_off_title(*best, seen) == f"{words} without labels"
    only = thrice("seen2", latent=8, accuracy=0.5, labels_seen=True)
    assert trade_off_title(seen, only) == "seen (saw labels) (256 bytes) has the best codes"
    # What is searched otherwise is not in the picture.
    other = thrice("k1", latent=8, accuracy=0.9, knn={"k": 1})
    assert trade_off_title(*best, other) == NEUTRAL


def test_equal_sizes_stand_apart_and_in_order():
    places = sideways([128.0, 40.0, 128.0, 128.0, 160.0], log=True)
    assert places[1] == pytest.approx(40) and places[4] == pytest.approx(160)
    assert 100 < places[0] < places[2] < places[3] < 160
    assert sideways([5.0, 5.0], log=False)[0] < 5 < sideways([5.0, 5.0], log=False)[1]


def test_error_over_time_compares_one_size_and_comparable_times():
    slow = [made("slow", s, options={"a": 1}, mse=0.01, train_seconds=90.0) for s in (0, 1, 2)]
    found = [*sweep(), *slow]
    names = figures(report(found))
    assert "mse_over_seconds-10" not in names  # of one run
    figure = names["mse_over_seconds-32"]
    points = by_card(figure.picture)
    assert {card: point.x for card, point in points.items()} == {"run-mlp": 5, "run-slow": 90}
    (level,) = figure.picture.levels
    assert level.y == pytest.approx(0.015) and level.look.line == "--"
    assert figure.picture.x.log and figure.title == "32 floats: slow has the smallest error"
    assert figure.picture.front[-1] == (90, points["run-slow"].y)
    for one in slow:
        one.columns["train_contended"] = True
    assert "mse_over_seconds-32" not in figures(report(found))


def test_nobody_reaches_pca_is_said_where_it_is_told():
    runs = [made("a", mse=0.03), made("b", options={"a": 1}, mse=0.04), pca(mse=0.02)]
    assert figures(report(runs))["mse_over_seconds-32"].title == (
        "32 floats: no run reaches PCA's error"
    )


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ([], "mlp has the smallest error"),
        ([pca(mse=0.03)], "mlp has the smallest error"),
        ([pca(mse=0.005)], "no run reaches PCA's error"),
        # What has no comparable time, was not trained, is packed or of one seed is not in it.
        (thrice("good", mse=0.001, train_contended=True), None),
        ([*thrice("good", mse=0.001, train_contended=True), pca(mse=0.005)], None),
        (thrice("odd", mse=0.001, train={"epochs": 0}), None),
        ([*thrice("packed", mse=0.001, mse_8bit=0.2), pca(mse=0.005)], None),
        ([made("once", model="once", mse=0.001)], None),
        (thrice("other", latent=10, mse=0.001), "mlp has the smallest error"),
    ],
)
def test_smallest_error_is_that_of_all_that_decode(more, words):
    runs = [*thrice("mlp", mse=0.01), *thrice("cnn", mse=0.02), *more]
    figure = figures(report(runs))["mse_over_seconds-32"]
    assert figure.title == f"32 floats: {words or 'test MSE over training time'}"


def test_smallest_error_is_not_said_below_that_of_pca():
    near = [made("mlp", seed, mse=0.0152 + 0.0006 * (seed - 1)) for seed in (0, 1, 2)]
    found = report([*near, *thrice("cnn", mse=0.03), pca()])
    assert figures(found)["mse_over_seconds-32"].title == "32 floats: test MSE over training time"


def test_error_over_time_counts_what_is_left_out():
    packed = thrice("packed", mse=0.001, mse_8bit=0.2)
    runs = [*thrice("mlp"), *thrice("cnn"), *packed, *thrice("slow", train_contended=True)]
    runs += [*thrice("late", train_contended=True), pca(), pixels()]
    caption = figures(report(runs))["mse_over_seconds-32"].caption
    assert "2 runs whose times may not be compared are left out." in caption
    assert "1 run whose floats hold more than a number is left out." in caption
    assert "left out" not in figures(report(runs[:6]))["mse_over_seconds-32"].caption


def test_error_of_a_sweep_is_that_of_pca_where_there_is_one():
    names = figures(report(sweep()))
    picture = names["latent-mse"].picture
    assert [series.name for series in picture.series] == ["mlp"]
    values = {point.x: point.y for point in picture.series[0].points}
    assert values == {10: pytest.approx(4 / 3), 32: pytest.approx(4 / 3)}
    assert picture.shaded == (1.0, "worse than PCA") and picture.levels[0].y == 1
    assert picture.y.label == "test MSE / MSE of PCA of the same size"
    assert "has 33.3 % more error than PCA, and 1 more loses to PCA" in names["latent-mse"].title
    accuracies = [series.name for series in names["latent-accuracy"].picture.series]
    assert accuracies == ["mlp", "pca"]
    good = report(sweep(mlp={"mse": 0.01}, mlp_latent10={"mse": 0.02}))
    assert figures(good)["latent-mse"].title.endswith("every error is below PCA's")
    assert figures(good)["latent-mse"].picture.shaded is None


@pytest.mark.parametrize("changes", [{"mse": 0.05}, {"mse": 0.01, "mse_8bit": 0.2}])
def test_every_error_is_that_of_all_that_is_drawn(changes):
    good = sweep(mlp={"mse": 0.01}, mlp_latent10={"mse": 0.02})
    more = [made("more", latent=64 if "mse_8bit" not in changes else 10, **changes)]
    if "mse_8bit" in changes:
        more = [made("packed", latent=n, model="packed", **changes) for n in (10, 32)]
    figure = figures(report([*good, *more]))["latent-mse"]
    assert figure.title == "Representation size: test MSE"
    assert ("1 run has no PCA of as many floats" in figure.caption) == (len(more) == 1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mse": 1e-9}, "PCA of as many floats is exact for 2 runs"),
        ({"mse": None}, "2 runs have no PCA of as many floats"),
    ],
)
def test_error_of_a_sweep_is_its_own_where_there_is_no_pca_to_divide_by(changes, words):
    found = report(sweep(pca=changes, pca_latent10=changes))
    figure = figures(found)["latent-mse"]
    assert figure.picture.y.label.startswith("test MSE") and "/" not in figure.picture.y.label
    assert by_card(figure.picture)["run-mlp"].y == pytest.approx(0.02)
    assert words in figure.caption
    assert figure.title == "Representation size: test MSE"


def test_depth_has_the_line_of_pca():
    runs = [made(f"d{n}", depth=n, accuracy=0.4 + n / 10) for n in (1, 2, 4)]
    names = figures(report([*runs, pca(), pixels()]))
    levels = {level.text: level.y for level in names["depth-accuracy"].picture.levels}
    assert levels["PCA of this size"] == pytest.approx(50) and levels["raw pixels"] == 60
    assert names["depth-accuracy"].title == "Depth: accuracy is highest at 4"
    assert names["depth-mse"].picture.x.ticks == [1, 2, 4]


def test_title_of_a_sweep_names_what_is_bold_in_its_table():
    raw = made("raw", train={"epochs": 0}, accuracy=0.3)
    beside = [pca(accuracy=0.3), pixels(accuracy=0.3), raw]
    counts = set()
    for best in np.linspace(0.5, 0.62, 13):
        given = enumerate((0.3, 0.5, float(best)), start=1)
        ones = [made(f"d{depth}", depth=depth, accuracy=accuracy) for depth, accuracy in given]
        found = report([*ones, *beside])
        [section] = [one for one in found.document.sections if one.title == "Depth"]
        [table] = [block for block in section.blocks if isinstance(block, Table)]
        bold = {str(row[1].value) for row in table.cells if row[2].strong}
        depths = figures(found)["depth-accuracy"].title.partition(" at ")[2]
        assert {*depths.split(" or ")} == bold
        counts.add(len(bold))
    assert counts == {1, 2}


def sweep_title(found, name="latent-accuracy"):
    return figures(report(found))[name].title.partition(": ")[2]


def test_highest_accuracy_of_a_sweep_is_that_of_a_run():
    low = thrice("mlp10", model="mlp", latent=10, accuracy=0.3)
    mid = thrice("mlp20", model="mlp", latent=20, accuracy=0.3)
    high = thrice("mlp", accuracy=0.5)
    assert sweep_title([*low, *mid, *high]) == "accuracy is highest at 32"
    pcas = [pca(accuracy=0.3), pca("pca10", latent=10, accuracy=0.5)]
    words = "accuracy is highest with pca10 at 10 or mlp at 32"
    assert sweep_title([*low, *mid, *high, *pcas]) == words
    # At each value one is tied with the best, but not every run.
    assert sweep_title([*low, *high, *pcas]) == words
    assert sweep_title([*low, *mid]) == "no value is told from the best accuracy"
    single = made("once", latent=64, accuracy=0.95)
    assert sweep_title([*low, *mid, *high, single]) == "kNN accuracy"
    lower = made("once", latent=64, accuracy=0.3)
    assert sweep_title([*low, *mid, lower]) == "accuracy is highest at 10 or 20"
    many = [one for n in range(2, 8) for one in thrice(f"m{n}", model="mlp", latent=n)]
    assert sweep_title([*many, *low]) == "6 runs share the highest accuracy"


def test_levels_are_of_the_search_of_the_points():
    runs = [made(f"k{k}", knn={"k": k}) for k in (1, 5, 10)]
    found = report([*runs, pca(), pixels()])
    assert [level.text for level in chart(found, "knn.k-accuracy").levels] == []
    deep = [made(f"d{n}", depth=n, knn={"k": 5}) for n in (1, 2)]
    texts = [level.text for level in chart(report([*deep, pixels()]), "depth-accuracy").levels]
    assert texts == []
    alike = pixels("pixels5", knn={"k": 5, "backend": "other"})
    levels = chart(report([*deep, pixels(), alike]), "depth-accuracy").levels
    assert [level.text for level in levels] == ["raw pixels"]


def test_values_that_reach_far_are_on_a_log_axis_and_other_parameters_have_no_picture():
    runs = [made(f"b{b}", options={"beta": b}) for b in (0.01, 0.1, 1)]
    assert chart(report(runs), "beta-accuracy").x == Axis("beta (log)", True, [0.01, 0.1, 1])
    for values in (("l1", "l2"), (True, False), (1, None)):
        runs = [made(f"r{n}", options={"loss": value}) for n, value in enumerate(values)]
        assert not any(name.startswith("loss-") for name in figures(report(runs)))
    names = figures(report([made("k1", knn={"k": 1}), made("k5", knn={"k": 5})]))
    assert "knn.k-accuracy" in names and "knn.k-mse" not in names


def test_files_of_parameters_are_their_own():
    assert file_name("latent") == "latent" and file_name("a/b") != file_name("a|b")
    assert (
        re.fullmatch(r"[\w.-]+", file_name("../" + "x" * 300)) and len(file_name("é" * 300)) < 100
    )


def trained(run="mlp", losses=(0.2, 0.03, 0.025, 0.022), seconds=2.0, **changes):
    one = made(run, **({"model": run} | changes))
    one.losses, one.epoch_seconds = [*losses], [seconds] * len(losses)
    return one


def test_losses_have_a_chart_for_each_size_and_unit():
    runs = [trained(), trained("mlp10", latent=10), pca(), pca("pca10", latent=10, mse=0.03)]
    names = [name for name in figures(report(runs)) if name.startswith("loss_curves")]
    sizes = [f"loss_curves-{size}-{unit}" for size in (10, 32) for unit in ("epochs", "seconds")]
    assert names == sizes
    picture = chart(report(runs), "loss_curves-32-seconds")
    (level,) = picture.levels
    assert (level.text, level.y) == ("PCA's test MSE", pytest.approx(0.015))
    # The first epoch would take most of the height.
    assert picture.y.label == "training loss (from epoch 2)"
    assert [point.x for point in picture.series[0].points] == [4, 6, 8]
    assert [point.card for point in picture.series[0].points] == ["", "", "run-mlp"]
    even = chart(report([trained(losses=(0.03, 0.025, 0.02))]), "loss_curves-32-epochs")
    assert even.y.label == "training loss" and len(even.series[0].points) == 3


def test_loss_of_its_own_scale_is_not_held_against_the_error():
    odd = trained("odd", losses=(90.0, 70.0, 60.0), options={"a": 1})
    further = trained("vae", options={"a": 2}, curves={"kl": [3.0, 2.0, 1.0, 1.0]})
    encoder = trained("simclr", mse=None, options={"a": 3})
    names = figures(report([trained(), odd, further, encoder, pca()]))
    assert [series.name for series in names["loss_curves-32-epochs"].picture.series] == ["mlp"]
    own = names["loss_curves-own-epochs"].picture
    assert [series.name for series in own.series] == ["odd", "vae", "simclr"] and own.levels == []


def test_losses_over_time_are_of_times_that_may_be_compared():
    runs = [trained(), trained("other", options={"a": 1}, train_contended=True)]
    figure = figures(report(runs))["loss_curves-32-seconds"]
    assert [series.name for series in figure.picture.series] == ["mlp"]
    assert "1 run whose times may not be compared is left out" in figure.caption
    for one in runs:
        one.epoch_seconds = []  # of an older result
    names = figures(report(runs))
    assert "loss_curves-32-epochs" in names and "loss_curves-32-seconds" not in names


def test_runs_of_one_model_are_told_apart_by_their_lines():
    runs = [trained(f"d{n}", model="cnn", depth=n) for n in (1, 2, 3)]
    found = chart(report(runs), "loss_curves-32-epochs").series
    assert len({(one.look.colour, one.look.marker) for one in found}) == 1
    assert len({one.look.line for one in found}) == 3


def test_losses_that_no_axis_can_show_are_left_out():
    runs = [trained(), trained("huge", losses=(1.7e308, 1e308), options={"a": 1})]
    assert not any("own" in name for name in figures(report(runs)))
    assert drawing.png(chart(report(runs), "loss_curves-32-epochs"))


def test_a_gap_is_no_point_and_the_epochs_are_all_there():
    found = report([made(curves={"kl": [None, 1.0, None, 3.0, None]})])
    picture = chart(found, "further_curves-kl")
    assert [point.y for point in picture.series[0].points] == [None, 1.0, None, 3.0, None]
    assert picture.x.ends and picture.x.ends[0] < 1 and picture.x.ends[1] > 5
    # What stands between gaps is on no line: it is marked.
    assert drawing.svg(picture, "p-").count("<use") > drawing.svg(
        chart(report([made(curves={"kl": [2.0, 1.0, 2.0, 3.0, 2.0]})]), "further_curves-kl"), "p-"
    ).count("<use")


def test_further_curves_have_a_chart_each():
    runs = [
        made("vae", options={"beta": 1}, curves={"kl": [1.0, 2.0], "recon": [0.2, 0.1]}),
        made("vae4", options={"beta": 4}, curves={"kl": [None, 1.0, None], "lost": [None, None]}),
        made("critic", options={"beta": 9}, curves={"critic": [1e308, -1e300, 0.5]}),
        made("plain", options={"beta": 2}),
    ]
    names = {n: f for n, f in figures(report(runs)).items() if n.startswith("further")}
    found = {n: [series.name for series in f.picture.series] for n, f in names.items()}
    assert found == {
        "further_curves-kl": ["vae", "vae4"],
        "further_curves-recon": ["vae"],
        "further_curves-critic": ["critic"],
    }
    many = made(curves={f"c{n}": [1.0, 2.0] for n in range(30)})
    curves = [f for n, f in figures(report([many])).items() if n.startswith("further")]
    assert len(curves) == 12 and "12 of 30 curves" in curves[0].caption


def test_gallery_is_by_error_and_says_it():
    packed = made("packed", options={"a": 1}, mse=0.001, mse_8bit=0.2)
    found = report(with_maps([*sweep(), packed, made("simclr", mse=None, options={"a": 2})]))
    picture = figures(found)["reconstructions"].picture
    assert isinstance(picture, Mosaic)
    names = [strip.name for strip in picture.strips]
    wanted = ["original", "packed", "pca", "mlp", "pca-latent10", "mlp-latent10", "mlp-untrained"]
    assert names == wanted  # neither pixels nor what decodes nothing
    assert (
        picture.strips[1].note == "MSE 0.00100, packed" and picture.strips[1].card == "run-packed"
    )
    assert picture.columns == ["0", "1"]  # the classes of the test images 0 and 1
    several = "Images are of the first seed, the MSE is the mean over the seeds."
    assert all(several in figures(found)[name].caption for name in ("reconstructions", "worst"))
    assert "t-SNE of the codes of the first seed" in figures(found)["code_map"].caption
    once = figures(report(with_maps([made(), pca(), pca(seed=1)])))  # PCA's seeds are one
    names = "reconstructions", "worst", "code_map"
    assert not any("first seed" in once[name].caption for name in names)
    without = report([made()], originals=None)
    assert [strip.name for strip in figures(without)["reconstructions"].picture.strips] == ["mlp"]


def test_worst_images_stand_above_what_is_made_of_them():
    found = report(with_maps(sweep()))
    figure = figures(found)["worst"]
    strips = figure.picture.strips
    assert [strip.name for strip in strips] == ["original", "mlp", "original", "pca"]
    assert strips[0].images.max() == 9 and strips[1].images.max() == 200
    errors = np.sort(found.configurations[0].ok[0].outcomes["squared_error"])[::-1]
    assert strips[1].notes == [f"{error:.3g}" for error in errors[:3]]
    assert figure.title == "The worst images of mlp and pca"
    assert "worst" not in figures(report(sweep()))


def test_confusion_is_that_of_the_best_run_and_what_pca_does_otherwise():
    names = figures(report(sweep(mlp={"accuracy": 0.7})))
    own, less = names["confusion"].picture, names["confusion_pca"].picture
    assert isinstance(own, HeatMap) and own.values.sum() == pytest.approx(1000)
    assert names["confusion"].title == "What mlp takes the classes for"
    assert less.diverging and less.low == -less.high and less.values.sum() == pytest.approx(0)
    assert less.values.trace() == pytest.approx(200, abs=5)  # 20 points of each of 10 classes
    many = figures(report(sweep(), classes=[str(n) for n in range(1000)]))["confusion"]
    assert many.picture.values.shape == (100, 100) and "Of 1,000 classes, the 100" in many.caption
    assert "confusion_pca" not in figures(report([made()]))


def test_panel_marks_the_highest_of_each_column():
    figure = figures(report(sweep(mlp={"accuracy": 0.9})))["protocol"]
    picture = figure.picture
    assert [name for name, _ in picture.rows][0] == "mlp" and picture.rows[0][1] == "run-mlp"
    assert picture.groups == [("l2", 2), ("cosine", 2), ("whitened-cosine", 2)]
    assert picture.columns == ["1", "10"] * 3
    assert picture.marked.sum(axis=0).tolist() == [1] * 6 and picture.marked[0].all()
    assert figure.title == "mlp, or a run not told from it, is first by every metric and k"
    other = sweep(mlp={"accuracy": 0.9, "accuracy_whitened_cosine_k1": 0.1})
    assert (
        figures(report(other))["protocol"].title
    ) == "In 1 of 6 pairs of metric and k another run is told to be first: pixels"


def test_map_shows_the_best_run_and_holds_all():
    found = report(with_maps(sweep()))
    figure = figures(found)["code_map"]
    picture = figure.picture
    assert isinstance(picture, CodeMap) and len(picture.maps) == 12
    assert [(name, how) for name, _, how, _, _ in picture.maps[:2]] == [
        ("mlp", "t-SNE"),
        ("mlp", "PCA"),
    ]
    assert picture.maps[0][1] == "run-mlp" and len(picture.labels) == len(picture.maps[0][3]) == 360
    assert figure.title == "Where the codes of mlp lie" and figure.caption.startswith("t-SNE of ")
    first = with_maps([made()])
    first[0].code_map = first[0].code_map[:1]  # without t-SNE
    (only,) = figures(report(first))["code_map"].picture.maps
    assert only[2] == "PCA"
    assert "code_map" not in figures(report([made()]))


def test_pictures_of_many_runs_show_the_best_and_the_references():
    names = figures(reports()["200 runs"])
    points = by_card(names["accuracy_over_bytes"].picture)
    assert len(points) == 60 and {"run-pca", "run-pixels", "run-m99-l8"} <= {*points}
    assert "60 of 203 runs: the best and the references." in names["accuracy_over_bytes"].caption
    curves = [series.name for series in names["latent-accuracy"].picture.series]
    assert len(curves) == 10 and {"pca", "model-99"} <= {*curves}
    assert "10 of 101 curves: PCA's and the best." in names["latent-accuracy"].caption
    assert len(names["reconstructions"].picture.strips) == 25
    assert len(names["loss_curves-8-epochs"].picture.series) == 12


def test_nothing_is_drawn_of_nothing():
    failed = report([made(status="failed: no"), pca(status="failed: no")])
    assert failed.document.figures == []
    charts = Charts(report([]))
    assert charts.accuracy_over_bytes() == losses(charts) == further_curves(charts) == []


def test_failed_seeds_and_runs_are_in_no_picture():
    runs = [*sweep(), made("bad", options={"a": 1}, status="failed: no")]
    assert "run-bad" not in by_card(chart(report(runs), "accuracy_over_bytes"))
