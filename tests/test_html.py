"""report.html without a browser: what stands in it, and what may not."""

import base64
import hashlib
import io
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from conftest import ROOT
from pages import CLASSES, HOSTILE, NAMES, images, page, pictured, rich, runs
from PIL import Image
from synthetic import IMAGES, made, pca, report

from aebench.evaluation.uncertainty import Interval, half_width, interval, of_mean, p_value
from aebench.report import looks
from aebench.report import page as page_module
from aebench.report.configurations import configurations
from aebench.report.document import Cell, Document, Header, Link, Paragraph, Section, Table
from aebench.report.elements import MARKERS
from aebench.report.gather import gather
from aebench.report.html import order
from aebench.report.images import LARGEST, Images
from aebench.report.page import ASSETS, ASSETS_HASH
from aebench.report.pairs import Pairs, differences
from aebench.report.render import Report
from aebench.report.rows import headline
from aebench.report.summary import trade_off
from aebench.report.texts import on_one_line

VOID = {"meta", "link", "input", "img", "br"}
DATA_TABLES = "38017a5586acd9c6eb6bbfe8b6938e1a25bdc717c5acfcb07e0c9d663282c59d"


class Read(HTMLParser):
    """Elements (tag, attributes, its own text and that of what it holds), as a browser has them."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), attrs
        self.elements.append((tag, dict(attrs), []))
        if tag not in VOID:
            self.open.append(self.elements[-1])

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for _, _, text in self.open:
            text.append(data)

    def all(self, tag, **wanted):
        return [
            (attributes, " ".join("".join(text).split()))
            for name, attributes, text in self.elements
            if name == tag and all(attributes.get(k.rstrip("_")) == v for k, v in wanted.items())
        ]

    def inside(self, id):
        """The text of the element of that id."""
        (found,) = [text for _, attributes, text in self.elements if attributes.get("id") == id]
        return " ".join(" ".join(found).split())


@pytest.fixture(scope="module")
def hostile():
    """A report in which all that users name is hostile, and its page."""
    found = rich()
    return found, page(found)


@pytest.fixture(scope="module")
def read(hostile):
    return Read(hostile[1])


def test_the_same_bytes_when_rendered_again(hostile):
    assert page(rich()) == hostile[1]


def test_it_asks_for_nothing(read):
    for tag, attributes, _ in read.elements:
        for name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
            if (value := attributes.get(name)) is not None:
                assert value.startswith(("#", "data:image/", "data:,")), (tag, name, value[:80])
        assert not any(name.startswith("on") or name == "style" for name in attributes)
    css = "".join(text for _, text in read.all("style"))
    assert "url(" not in css and "@import" not in css


def test_the_policy_allows_its_own_scripts_and_styles_alone(hostile):
    policy = re.search('Content-Security-Policy" content="([^"]+)"', hostile[1])[1]
    policy = policy.replace("&#39;", "'")
    assert policy.startswith("default-src 'none'; img-src data:;")
    for tag, directive, count in (("script", "script-src", 2), ("style", "style-src", 1)):
        contents = re.findall(f"<{tag}>(.*?)</{tag}>", hostile[1], re.DOTALL)
        digests = [hashlib.sha256(content.encode()).digest() for content in contents]
        hashes = [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests]
        assert len(contents) == count
        assert f"{directive} {' '.join(hashes)};" in policy


def test_what_users_name_is_text_and_nothing_else(read):
    kinds = [attributes.get("type") for attributes, _ in read.all("script")]
    assert kinds.count(None) == 2 and {*kinds} == {None, "application/json"}
    assert not read.all("img", src="x") and not read.all("i", onclick="x")
    assert [attributes["id"] for attributes, _ in read.all("img")] == ["sprite"]
    headings = [text for _, text in read.all("h3")]
    for name in NAMES:
        assert " ".join(on_one_line(name).split()) in headings
    assert HOSTILE["seen"] in headings and "49" not in headings
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", "".join(headings))


def test_every_link_leads_somewhere_and_no_id_is_there_twice(read):
    ids = [a["id"] for _, a, _ in read.elements if "id" in a]
    assert len(ids) == len({*ids})
    links = [a["href"][1:] for _, a, _ in read.elements if a.get("href", "").startswith("#")]
    named = [a["aria-labelledby"] for _, a, _ in read.elements if "aria-labelledby" in a]
    assert {*links, *named} <= {*ids}
    assert all(re.fullmatch("[A-Za-z0-9_.:-]+", id) for id in ids)


def test_every_run_has_a_card_that_its_names_lead_to(hostile, read):
    for one in hostile[0].configurations:
        links = read.all("a", href=f"#{one.card}")
        assert len(links) >= 2, one.name  # in a sentence and in the table
    text = read.inside("run-cnn")
    assert "70.00 +" in text and "MSE 0.01100" in text  # of the table
    assert "Training loss from 0.2 to 0.1 in 2 epochs" in text
    for words in ("learning rate", "train machine Processor 1", "aebench version 1.0"):
        assert words.replace("learning rate", "train.learning_rate 0.003") in text
    assert "aebench verify cnn" in text and "dvc repro -s -f train@cnn-0 && dvc repro" in text
    card = next(c for c in re.split("<section ", hostile[1]) if c.startswith('id="run-cnn"'))
    assert card.count('class="pixels"') == 4  # shown and worst, each with its originals


def test_a_failed_run_says_why_and_how_to_try_again(read):
    text = read.inside("run-broken")
    assert "seed 0, 1 : failed: <b>not</b> on a Monday" in text
    assert "Again: dvc repro -s -f train@broken-0 && dvc repro" in text


def test_each_picture_is_written_once(hostile, read):
    written = [attributes["href"] for attributes, _ in read.all("image")]
    assert len(written) == len({*written})
    originals = Images().uri(hostile[0].results.originals)[0]
    assert written.count(originals) == 1
    place = next(a["id"] for a, _ in read.all("image") if a["href"] == originals)
    decoding = [one for one in hostile[0].configurations if one.ok and "mse" in one.images]
    assert len(read.all("use", href=f"#{place}")) == len(decoding)  # the gallery has the first


def test_the_whole_table_with_its_groups(read):
    tables = [attributes for attributes, _ in read.all("table") if attributes.get("class")]
    assert [attributes["class"] for attributes in tables] == ["results"]
    classes: dict[str, str] = {}
    for attributes, text in read.all("th", scope="col"):
        classes.setdefault(text, attributes.get("class"))
    assert (classes["accuracy, %"], classes["params"]) == ("k0", "k1")
    assert (classes["run"], classes["floats"]) == ("text", None)
    buttons = [a for a, _ in read.all("input") if a.get("type") == "radio"]
    assert [a["class"] for a in buttons] == ["g0", "g1", "g2"] and "checked" in buttons[0]
    assert ({"colspan": "13", "scope": "rowgroup"}, "32 floats") in read.all("th")
    cell = next(text for _, text in read.all("td", class_="k0") if "so it is" in text)
    assert cell == "0.01100 ± 0.00070, so it is" or re.fullmatch(r"[\d.]+ ± [\d.]+, so it is", cell)


def test_cells_are_sorted_by_their_values(read):
    orders = [a["data-order"] for a, _ in read.all("td", class_="k0")]
    accuracies = [float(order) for order in orders[::2] if order]
    assert max(accuracies) == pytest.approx(0.7, abs=0.01)
    assert "" in orders  # without a figure


def test_what_is_no_finite_number_is_sorted_by_what_it_is(read):
    cells = read.all("td", class_="k1")
    assert {a["data-order"] for a, text in cells if text == "never"} == {"Infinity"}
    numbers = {None: "", math.nan: "", -math.inf: "-Infinity", 2: "2.0", Interval(1.5): "1.5"}
    assert {value: order(Cell(value)) for value in numbers} == numbers


def test_what_saw_labels_is_named_so_however_long_its_name_is():
    name = "a-network-of-many-letters-that-was-given-the-labels-" + "x" * 300
    found = rich([*runs(), made(name, model="taught", labels_seen=True, accuracy=0.9, mse=0.001)])
    # Its title, links in every table, choices of maps, pairs and rows; pictures and points.
    text = Read(page(found))
    words = [said for tag in ("h3", "bdi", "a", "option") for _, said in text.all(tag)]
    words += [a["aria-label"] for _, a, _ in text.elements if "aria-label" in a]
    named = [said for said in words if "a-network" in said]
    assert len(named) > 20
    assert [said for said in named if "(saw labels)" not in said] == []
    # And one that is not too long.
    assert sum("xxxx (saw labels)" in said for said in named) > 10


def test_what_stands_in_the_whole_table_is_not_there_again():
    found = rich()
    whole = next(s for s in found.document.sections if s.title == "Results").blocks[0].whole
    part = Table(whole.headers[:3], [row[:3] for row in whole.cells])
    said = [Paragraph(["See ", Link("one", "Part"), " and ", Link("two", "Other"), "."])]
    other = Table([*whole.headers[:1], Header("more")], [[Cell("a"), Cell(1)]])
    appendix = [Section("Part", [part]), Section("Other", [other]), Section("Words", said)]
    found.document = replace(found.document, appendix=appendix)
    text = Read(page(found))
    titles = [words for _, words in text.all("h3")]
    assert "Part" not in titles and {"Other", "Words"} <= {*titles}
    assert "See one and two ." in text.inside("to-words")
    assert text.all("a", href="#to-other") and not text.all("a", href="#to-part")


def test_the_first_figures_are_those_of_the_sentences():
    large = [made("large", s, model="large", latent=512, accuracy=0.505) for s in (0, 1)]
    unranked = [made("once", 0, model="once", accuracy=0.9, mse=0.001, latent=64)]
    small = [made("small", s, model="small", accuracy=0.5, mse=0.012) for s in (0, 1)]
    broken = [made("broken", s, model="broken", status="failed: no") for s in (0, 1)]
    references = [pca(seed=s, latent=n, run=f"pca{n}") for s in (0, 1) for n in (32, 64)]
    found = rich([*large, *unranked, *small, *broken, *references])
    known = trade_off(found)
    assert known.best.name == "small"
    tiles = [" ".join(f"{name} {text}".split()) for name, text in headline_of(page(found))]
    assert tiles[0].startswith("Accuracy of the best trade-off 50.0") and "small" in tiles[0]
    assert tiles[1].startswith("Its gain over PCA of its size") and "small" in tiles[1]
    # Of the default size, as in headline.json.
    skill = headline(found)["best_mse_skill"]
    assert tiles[2].startswith(f"Lowest MSE against PCA's, 32 floats {1 - skill:.2f}")
    assert "small" in tiles[2] and tiles[3] == "Failed 2 of 11 runs and seeds"


def headline_of(text):
    """Name and the rest of each of the first figures."""
    (found,) = re.findall('<dl class="headline">(.*?)</dl>', text, re.DOTALL)
    read = Read(f"<dl>{found}</dl>")
    return [
        (name, words) for (_, name), (_, words) in zip(read.all("dt"), read.all("dd"), strict=True)
    ]


def test_a_true_minus_and_no_negative_zero(read):
    texts = [text for _, text in read.all("td")]
    assert "\u22128.0" in texts and "+8.0" in texts
    assert not [text for text in texts if re.match(r"-\d", text) or text == "\u22120.0"]


def test_a_title_that_is_there_twice_has_two_ids(read):
    ids = [attributes["id"] for _, attributes, _ in read.elements if "id" in attributes]
    assert {"to-results", "to-results-2"} <= {*ids}
    assert read.all("a", href="#to-results", class_=None)
    assert "to-quotes" in ids


def test_it_stays_small_and_says_what_it_leaves_out():
    def suite(count, seeds, shape):
        found = [made(f"run{n}", seed, model=f"m{n}") for n in range(count) for seed in seeds]
        return rich(found, shape=shape)

    # Noise: nothing takes more room.
    few = page(suite(15, (0, 1, 2), (10, 3, 32)))
    assert len(few) < 10e6 and "others are left out" not in few
    many = page(suite(60, (0,), (10, 3, 32)))
    assert len(many) < 10e6
    left = int(re.search(r"those of (\d+) others are left out", many)[1])
    text = Read(many)
    with_images = many.split('class="cards"')[1].count('aria-label="10 images: reconstructed')
    assert with_images + left == 60 and with_images > 15
    assert len(text.all("section", class_="card")) == 60


def test_large_images_are_made_smaller():
    uri, width, height = Images().uri(images(0, 3, 3, 200))
    assert height == LARGEST and uri.startswith("data:image/webp;base64,")
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        assert image.size == (width, height)
    small = images(0, 2, 1, 8)
    uri, *_ = Images().uri(small)
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        pixels = np.asarray(image)
    assert (pixels[:, :8, 0] == small[0, 0]).all() and (pixels[:, -8:, 0] == small[1, 0]).all()
    assert (pixels[:, 8, -1] == 0).all()  # the gap is clear


def test_results_of_an_earlier_version_have_their_page():
    found = Report(gather([ROOT / "tests/golden"]))
    text = Read(page(found))
    assert not text.all("img") and len(text.all("section", class_="card")) == 9


@pytest.mark.parametrize(
    "found",
    [
        [],
        [made()],
        [pca()],
        [made(status="failed: no"), made(seed=1, status="failed: no")],
        [made(mse=None), made("other", mse=None, accuracy=0.4)],
    ],
    ids=["nothing", "one", "a reference alone", "failed", "encoders"],
)
def test_little_makes_a_page_too(found):
    made_of = report(found)
    text = Read(page(made_of))
    assert len(text.all("section", class_="card")) == len(made_of.configurations)
    for _, a, _ in text.elements:
        if a.get("href", "").startswith("#"):
            assert text.inside(a["href"][1:]) is not None


def test_the_page_is_among_the_files():
    found = report([made()])
    assert found.files["report.html"].decode() == page(found)


def some(seeds=(0, 1, 2)):
    return [
        *(made("a", seed, mse=0.011, accuracy=0.6) for seed in seeds),
        *(made("b", seed, model="b", mse=0.012, accuracy=0.55) for seed in seeds),
        *(made("alone", seed, model="alone", mse=None) for seed in seeds),
        *(pca(seed=seed) for seed in seeds),
        *(pca("pca-again", seed, options={"solver": "full"}) for seed in seeds),
    ]


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_intervals_of_pairs_are_those_of_the_paired_test(seeds):
    pairs = Pairs(configurations(some(seeds)))
    for measure, found in zip(pairs.measures, pairs.differences, strict=True):
        column = measure.column
        for i, one in enumerate(pairs.ones):
            for j, other in enumerate(pairs.ones):
                a, b = one.images.get(column), other.images.get(column)
                if a is None or b is None:
                    assert found.interval(i, j) is None
                    continue
                if i == j:
                    continue
                apart = a.mean(axis=0) - b.mean(axis=0)
                sources = [*of_mean(a.mean(axis=1)), *of_mean(b.mean(axis=1)), *of_mean(apart)]
                mean, half = found.interval(i, j).mean, found.interval(i, j).below
                assert mean == pytest.approx(a.mean() - b.mean(), abs=1e-12)
                expected = half_width(sources)
                if one.name[:3] == other.name[:3] == "pca":  # equal outcomes
                    assert half is None and expected is None
                    continue
                assert half == pytest.approx(expected, rel=1e-6)
                assert (p_value(a, b) < 0.05) == (abs(mean) > half)


def test_one_model_against_a_constant_is_its_own_interval():
    values = np.random.default_rng(0).gamma(2, 1, (3, 50))
    found = differences([values, np.zeros((1, 50))], 50)
    assert found.interval(0, 1).below == pytest.approx(interval(values).below)


def test_what_each_of_two_gets_right_alone():
    pairs = Pairs(configurations(some((0,))))
    a, b = (one.images["accuracy"][0] for one in pairs.ones[:2])
    assert pairs.gained[0, 1] == ((a == 1) & (b == 0)).sum()
    assert pairs.gained[1, 0] == ((a == 0) & (b == 1)).sum()
    table = {row[0].value: row for row in pairs.table.cells}
    assert pairs.ones[pairs.best].name == "a" and "a" not in table
    assert table["b"][3].value == pairs.gained[0, 1]
    assert pairs.ones[pairs.rival].is_pca


def test_pairs_are_the_best_and_the_references_of_many(monkeypatch):
    monkeypatch.setattr("aebench.report.pairs.MOST", 3)
    found = rich(some((0,)))
    text = Read(page(found))
    assert "3 of 5 runs can be chosen" in text.inside("to-two-runs-side-by-side")
    assert len(text.all("option")) > 6
    best = text.inside("to-two-runs-side-by-side")
    assert "a against the others" in best


def test_what_is_shipped_is_what_was_looked_at():
    library = (ASSETS / "dataTables.min.js").read_bytes()
    assert hashlib.sha256(library).hexdigest() == DATA_TABLES
    assert "MIT License" in (ASSETS / "dataTables.LICENSE.txt").read_text()
    assert b"</script" not in library
    digest = hashlib.sha256()
    for path in sorted(ASSETS.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    # Otherwise a report of older assets would stay.
    assert digest.hexdigest() == ASSETS_HASH, "write it into aebench/report/page.py"


def test_cards_without_room_have_no_images(monkeypatch):
    monkeypatch.setattr(page_module, "IMAGE_BYTES", 0)
    found = [pictured(one, 0) for one in runs()]
    text = page(report(found))
    assert "those of 6 others are left out" in text


def test_classes_are_named_in_the_map(hostile, read):
    words = [" ".join(on_one_line(name).split()) for name in CLASSES]
    words = [one if len(one) <= 60 else f"{one[:59]}…" for one in words]
    options = [text for _, text in read.all("option")]
    assert options[options.index("all") + 1 :][: len(words)] == words
    items = [text for _, text in read.all("li")]
    assert items[items.index(words[0]) :][: len(words)] == words  # beside their marks


def test_every_class_of_many_has_its_mark_in_the_map():
    names = [f"class {letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
    found = [pictured(one, place) for place, one in enumerate(runs())]
    for one in found:
        one.outcomes["label"] = np.arange(len(one.outcomes)) % len(names)
    text = page(rich(found, classes=names))
    drawn = dict(re.findall('<path id="(m[0-9]+)" d="([^"]+)"', text))
    dots = re.findall('<use href="#(m[0-9]+)" x="[0-9]+" y="[0-9]+" class="(c[0-7])', text)
    assert len(dots) == IMAGES
    marks = [(colour, drawn[id]) for id, colour in dots]
    assert len({*marks}) == len(names) and marks[: len(names)] == marks[26:52]
    # As the list below it and the picture of the report have them.
    listed = re.search('<ul class="classes">(.*?)</ul>', text)[1]
    keys = re.findall(r'class="key (c[0-7])"[^>]*><path d="([^"]+)"', listed)
    assert keys == marks[: len(names)]
    assert keys == [(looks.nth(n).colour, MARKERS[looks.nth(n).marker]) for n in range(len(names))]


def test_every_mark_can_be_drawn():
    assert {*looks.MARKERS, looks.PCA.marker, looks.PIXELS.marker} == {*MARKERS}


def test_without_findings_there_is_no_empty_list():
    text = Read(page_module.page(Document("a", [Paragraph("b")], [])).decode())
    assert not text.all("dl") and not text.all("nav")
