"""Names and texts of users, through the command line: classes, options, notes, refusals, YAML."""

import csv
import json
import shutil

import pytest
from conftest import ROOT, SMALL, make
from markdown_it import MarkdownIt
from PIL import Image
from ruamel.yaml import YAML
from synthetic import made, pca, pixels, report, section

from aebench.report.document import CodeBlock

NAMES = {
    "bars": "a|b||c",
    "lines": "two\nlines\r\nand a third",
    "dollars": "US$5_$10 $\\frac{1}{0}$",
    "html": "<b onclick=x>bold</b><!-- ",
    "ticks": "`tick` ``",
    "backslash": "C:\\new\\|table\\",
    "control": "bell\x07 escape\x1b[31m c1\x9b end",
    "long": "very " * 200,
    "arabic": "قطة | سوداء",
    "override": "abc\u202egnp.exe\u2066",
    "combining": "Z̸̡̨̧a̴̛͒l̷̎go e\u0301",
    "ideographs": "猫と犬",
    "emoji": "😀👩‍👩‍👧 🏳️‍🌈",
    "formula": "=1+1|cmd",
    "at": "@SUM(A1)",
    "underscore": "_private_",
    "list": "1. - # > item",
    "link": "[a](b) ![c](d) [e]: f",
    "astral": "𓃠𝔠𝔞𝔱",
    "tag": "</sub></td>&lt;&#124;",
}
NOT_CLASSES = {"bars", "ticks", "backslash", "long", "at", "list", "link", "tag"}
CLASSES = [name for key, name in NAMES.items() if key not in NOT_CLASSES]  # 12 have their names
PLUGIN = """\
import numpy as np
import aebench

NAMES = {names!r}

def load(root):
    count = len(NAMES)
    labels = np.repeat(np.arange(count), 2)
    pixels = np.random.default_rng(0).integers(0, 256, (2 * count, 1, 8, 8)).astype(np.uint8)
    return {{"train": (pixels, labels), "test": (pixels[::-1], labels[::-1]), "classes": NAMES}}

def build(shape, latent, text="", refuses=False):
    from torch import nn
    if refuses:
        raise aebench.Refused(text)
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, latent))
            self.decoder = nn.Sequential(nn.Linear(latent, 64), nn.Unflatten(1, shape))
            self.note = text
    return Model()

@aebench.hookimpl
def register_datasets(register):
    register("named", load)

@aebench.hookimpl
def register_models(register):
    register("named", build)
"""


def one_line(text):
    return " ".join(text.split())


def seen(text):
    """As a reader sees it: on one line, without controls, and not all of a long text."""
    hidden = dict.fromkeys(map(ord, "\x07\x1b\x9b\u202e\u2066"))
    return one_line(text.translate(hidden))[:250]


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """After all stages: a run of each name as option and note, or, every third one, as refusal."""
    params = SMALL[: SMALL.index("runs:")].replace("digits", "named") + "runs:\n  a: {}\n"
    workspace = make(tmp_path_factory.mktemp("named") / "workspace", params, plugins=False)
    (workspace / "plugins/named.py").write_text(PLUGIN.format(names=CLASSES))
    runs = {
        f"r-{key}": {"model": "named", "text": text, "refuses": number % 3 == 2}
        for number, (key, text) in enumerate(NAMES.items())
    }
    workspace.params(latent=4, runs=runs, train=YAML(typ="safe").load(SMALL)["train"])
    workspace.run("aebench", "plan")
    workspace.run("aebench", "prepare")
    for run in runs:
        for stage in ("train", "encode", "knn"):
            workspace.run("aebench", stage, run, "0")
    workspace.run("aebench", "report")
    return workspace


@pytest.fixture(scope="module")
def read(named):
    """The text of each paragraph, heading, item and cell of the report, and its tables' widths."""
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    tokens = parser.parse((named / "reports/report.md").read_text())
    texts, widths = [], []
    for token in tokens:
        if token.type == "inline":
            texts.append(one_line("".join(t.content for t in token.children)))
            assert not [
                t for t in token.children if t.type == "html_inline" and "sub>" not in t.content
            ]
        elif token.type == "table_open":
            widths.append([])
        elif token.type == "tr_open":
            widths[-1].append(0)
        elif token.type in ("td_open", "th_open"):
            widths[-1][-1] += 1
    return texts, widths


@pytest.mark.parametrize("key", NAMES)
def test_texts_are_read_as_they_are(named, read, key):
    texts, widths = read
    name, number = NAMES[key], [*NAMES].index(key)
    # A value stands in a table that has to stay narrow, without those that failed.
    value = any(text.startswith(seen(name)[:39]) for text in texts)
    assert value or number % 3 == 2, "class or value"
    said = "failed: refused: " if number % 3 == 2 else f"r-{key}: "
    first = seen(name.splitlines()[0]) if number % 3 == 2 else seen(name)
    assert any(said + first in text for text in texts), "note or refusal"
    assert all(len(set(rows)) == 1 for rows in widths)


@pytest.mark.parametrize("key", NAMES)
def test_texts_are_whole_in_results_csv(named, key):
    with (named / "reports/results.csv").open(newline="") as file:
        (row,) = [row for row in csv.DictReader(file) if row["run"] == f"r-{key}"]
    name = NAMES[key]
    assert json.loads(row["options"])["text"] == name
    if row["status"] == "ok":
        plain = name.replace("\r\n", "\n")
        assert row["note"] == (f"'{plain}" if plain[0] in "=@" else plain)


def test_pictures_of_any_names_are_drawn(named):
    for name in ("reconstructions", "accuracy_over_bytes", "confusion"):
        with Image.open(named / f"reports/figures/{name}.png") as picture:
            assert max(picture.size) < 3000


def test_halves_of_characters_are_written():
    text = "half \ud83d"
    found = [made(f"r{n}", model=text, options={"beta": n}, note=text) for n in range(2)]
    found += [pca(status=f"failed: {text}"), pixels()]
    files = report(found, classes=[f"{text} {n}" for n in range(10)]).files
    assert "half \ufffd" in files["report.md"].decode() and len(files) > 5
    assert "half \ufffd" in files["results.csv"].decode()


def printed(found):
    """The YAML that a report prints for missing baselines."""
    blocks = section(report(found).document, "Lines to copy").blocks
    return next(block.code for block in blocks if isinstance(block, CodeBlock))


@pytest.fixture(scope="module")
def planning(tmp_path_factory):
    """A workspace whose plug-ins are the shipped ones and one with an option. Only its plan."""
    workspace = make(tmp_path_factory.mktemp("planning") / "workspace", SMALL, plugins=False)
    for name in ("digits", "pca", "pixels"):
        shutil.copy(ROOT / f"plugins/{name}.py", workspace / "plugins")
    text = PLUGIN.format(names=["a"])
    (workspace / "plugins/named.py").write_text(text.replace('"named", build', '"on-off", build'))
    return workspace


ODD = [
    *NAMES.values(),
    "",
    " ",
    "yes",
    "null",
    "1e5",
    "0x1F",
    "2020-01-01",
    "a: b # c",
    "&a *a !a %a @a",
    "trailing\n\n",
    "\u2028\x85\ufeff",
    1e-05,
    1e300,
    -(2**63),
    True,
    None,
    [],
    {},
    [1, ["yes", {"null": "a: b", "1": [None]}]],
    {"on": {"猫": "\t"}, "a b": 0.1},
]


@pytest.mark.parametrize("value", ODD, ids=lambda value: ascii(value)[:20])
def test_printed_baselines_keep_odd_options(value):
    text = printed([made("one", model="null", options={"on": [value]}), pixels()])
    runs = YAML(typ="safe", pure=True).load(text)
    untrained = {"model": "null", "on": [value], "train": {"epochs": 0}}
    assert runs["null-untrained"] == untrained
    assert text.isascii() and text.replace("\n", "").isprintable()


def test_printed_baselines_are_accepted_with_all_odd_options(planning):
    trained = made("one", model="on-off", latent=24, depth=None, options={"text": ODD})
    runs = planned(planning, printed([trained, pixels()]), {"one": {"model": "on-off"}})
    assert runs["on-off-untrained"]["latent"] == runs["pca-latent24"]["latent"] == 24
    build = json.loads((planning / "plan/on-off-untrained/train.json").read_text())["build"]
    assert build["text"] == ODD and build["latent"] == 24


TAKEN = {
    "names that are taken": ["pca-latent32", "pca-latent32-again", "pixels", "on-off-untrained"],
    "names as long as they may be": [f"{'x' * 99}1"],
    "free names": ["null-", "on"],
}


@pytest.mark.parametrize("taken", TAKEN.values(), ids=TAKEN)
@pytest.mark.parametrize("knn", [{}, {"k": 3}, {"metric": "whitened-cosine", "backend": "sklearn"}])
def test_printed_baselines_have_names_of_their_own(planning, taken, knn):
    own = {"model": "on-off", "depth": None}
    found = [made(name, knn=knn, latent=32 + i, **own) for i, name in enumerate(taken)]
    found += [made("both", knn={"backend": "faiss", "k": 3}, **own)]
    found += [made("other", knn={"backend": "sklearn", "k": 3}, latent=1000, **own)]
    there = {one.run: {"model": "on-off"} for one in found}
    runs = planned(planning, printed(found), there)
    assert not runs.keys() & there.keys()
    for one in found:  # each is held against PCA of its size, searched alike
        like = [run for run in runs.values() if run.get("latent") == one.settings["latent"]]
        assert any(run["model"] == "pca" and k_of(run) == one.settings["knn.k"] for run in like)


def k_of(run):
    return run.get("knn", {}).get("k", 10)


def planned(workspace, text, there):
    """The printed runs, after `aebench plan` took them beside those that are there."""
    path = workspace / "params.yaml"
    workspace.params(runs=there)
    path.write_text(path.read_text().replace("\nruns:\n", f"\nruns:\n{text}\n"))
    workspace.run("aebench", "plan")
    runs = YAML(typ="safe", pure=True).load(path.read_text())["runs"]
    return {name: run for name, run in runs.items() if name not in there}


def test_a_baseline_is_of_the_model_in_its_role():
    found = [made(latent=8), pca("mine", model="my-pca"), pixels(knn={"k": 3})]
    runs = YAML(typ="safe", pure=True).load(printed(found))
    assert runs["pca-latent8"]["model"] == "my-pca"
