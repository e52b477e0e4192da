"""Odd image files and folders: the right pixels, or one line that names the file and the cause."""

import os
from functools import cache
from unittest import mock

import numpy as np
import pytest
from conftest import LIGHT, SMALL, Workspace
from PIL import Image

import aebench
from aebench.errors import AebenchError
from aebench.fingerprint import stage_fingerprint

RAMP = np.arange(64, dtype=np.int64).reshape(8, 8) * 4  # 0 to 252


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """One for the whole file: each test has a data set of its own."""
    folder = tmp_path_factory.mktemp("images") / "workspace"
    (folder / "plugins").mkdir(parents=True)
    runs = "runs:\n  one:\n    model: light\nknn:\n  k: 1\n"
    text = SMALL[: SMALL.index("knn:")].replace("channels: null", "channels: 1") + runs
    (folder / "params.yaml").write_text(text + "  metric: l2\n  backend: faiss\n")
    (folder / "plugins/light.py").write_text(LIGHT)
    # The code is the same for every test, and hashing it half of a plan's time.
    with mock.patch("aebench.planning.stage_fingerprint", cache(stage_fingerprint)):
        yield Workspace(folder)


@pytest.fixture
def data(workspace, tmp_path):
    """The folder of a data set with two classes, three sound images in each class and split."""
    workspace.env["AEBENCH_DATA"] = str(tmp_path)
    random = np.random.default_rng(0)
    for place in ("train/cat", "train/dog", "test/cat", "test/dog"):
        folder = tmp_path / "pets" / place
        folder.mkdir(parents=True)
        for name in "abc":
            save(folder / f"{name}.png", random.integers(0, 256, (8, 8)))
    workspace.params(dataset="pets", channels=1)
    return tmp_path / "pets"


def save(path, values, mode=None, kind=np.uint8, **options):
    image = Image.fromarray(np.asarray(values).astype(kind))
    (image.convert(mode) if mode else image).save(path, **options)


def prepared(workspace):
    """The training images (N, 8, 8) and all that was printed."""
    said = workspace.run("aebench", "plan").stderr + workspace.run("aebench", "prepare").stderr
    return np.load(workspace / "data/prepared/train_images.npy")[:, 0], said


def refused(workspace):
    """The one line that says why."""
    done = workspace.in_process(("plan",))
    if done.returncode == 0:
        done = workspace.run("aebench", "prepare", ok=False)
    assert done.stderr.startswith("aebench: error: ") and done.stderr.count("\n") == 1
    return done.stderr


def holds(images, values):
    return any(np.array_equal(image, values) for image in images)


def link(path, target):
    path.symlink_to(target)


FOLDER_FAULTS = {  # what: (how it comes about, what is said)
    "broken link": (
        lambda d: link(d / "train/cat/z.png", "gone.png"),
        "z.png: a broken link (to g",
    ),
    "broken class": (lambda d: link(d / "train/bird", "/gone"), "bird: a broken link (to /gone)"),
    "link to itself": (lambda d: link(d / "train/cat/z.png", "z.png"), "z.png: not readable (Too"),
    "loop": (lambda d: link(d / "train/cat/all", ".."), "cat/all: a link back to"),
    "class loop": (lambda d: link(d / "train/dog/x", d / "train/dog"), "dog/x: a link back to"),
    "pipe": (lambda d: os.mkfifo(d / "train/cat/z.png"), "z.png: neither a file nor a folder"),
    "latin-1 class": (
        lambda d: [(d / s / "cat").rename(d / s / os.fsdecode(b"caf\xe9")) for s in SPLITS],
        r"class 'caf\xe9': the name is not UTF-8",
    ),
    "NFC and NFD": (
        lambda d: [(d / s / "cat").rename(d / s / n) for s, n in zip(SPLITS, CAFES, strict=True)],
        r"class 'café' is spelt in two ways that look alike (Unicode: NFC is 'caf\xe9')",
    ),
    "NFC beside NFD": (
        lambda d: (
            [(d / s / "cat").rename(d / s / CAFES[0]) for s in SPLITS]
            and [(d / s / "dog").rename(d / s / CAFES[1]) for s in SPLITS]
        ),
        "class 'café' is spelt in two ways that look alike",
    ),
}
SPLITS = "train", "test"
CAFES = "caf\xe9", "cafe\u0301"


@pytest.mark.parametrize("what", FOLDER_FAULTS)
def test_fault_of_a_folder_is_one_line_of_plan(workspace, data, what):
    change, said = FOLDER_FAULTS[what]
    change(data)
    done = workspace.run("aebench", "plan", ok=False)
    assert said in done.stderr and done.stderr.count("\n") == 1


def test_thousands_of_broken_links_are_a_few_lines(workspace, data):
    for i in range(2000):
        link(data / f"train/cat/{i}.png", f"../.git/annex/objects/{i}")
    done = workspace.run("aebench", "plan", ok=False)
    assert done.stderr.count("a broken link (to ../.git/annex/objects/") == 10
    assert "aebench: error: and 1,990 more faults like these\n" in done.stderr


def test_links_are_followed_and_what_is_passed_over_is_named(workspace, data, tmp_path):
    more = tmp_path / "more" / "deeper"
    more.mkdir(parents=True)
    save(more / "x.png", RAMP)
    link(data / "train/cat/more", tmp_path / "more")
    link(data / "train/cat/linked.png", more / "x.png")
    (data / "train/cat/.ipynb_checkpoints").mkdir()
    save(data / "train/cat/.ipynb_checkpoints/a-checkpoint.png", 255 - RAMP)
    (data / "train/cat/.DS_Store").touch()
    (data / "train/dog/notes.txt").touch()
    save(data / "train/loose.png", RAMP)
    (data / "valid/cat").mkdir(parents=True)
    images, said = prepared(workspace)
    assert len(images) == 8 and holds(images, RAMP) and not holds(images, 255 - RAMP)
    assert said.splitlines()[0] == (
        "aebench: warning: pets: passed over: 2 hidden (train/cat/.DS_Store, train/cat/.ipynb_"
        "checkpoints), 1 beside the class folders (train/loose.png), 1 without the ending of an "
        "image (train/dog/notes.txt), 1 beside train and test (valid)"
    )


def test_file_name_that_is_not_utf8_is_taken_and_said(workspace, data):
    save(data / "train/cat" / os.fsdecode(b"caf\xe9.png"), RAMP)
    images, said = prepared(workspace)
    assert holds(images, RAMP)
    assert r"1 with a name that is not UTF-8 (train/cat/caf\xe9.png): taken" in said


def test_file_replaced_at_its_size_and_date_is_noticed(workspace, data):
    path = data / "train/cat/a.bmp"
    save(path, RAMP)
    assert holds(prepared(workspace)[0], RAMP)
    before = path.stat()
    save(path, 255 - RAMP)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert "changed since `aebench plan`" in workspace.run("aebench", "prepare", ok=False).stderr
    assert holds(prepared(workspace)[0], 255 - RAMP)


def test_own_images_that_are_not_there(workspace, data):
    with pytest.raises(AebenchError, match="no such folder"):
        aebench.read_images(data / "gone", (1, 8, 8))
    (data / "own/.hidden").mkdir(parents=True)
    save(data / "own/.hidden/a.png", RAMP)
    with pytest.raises(AebenchError, match="own: no image in it"):
        aebench.read_images(data / "own", (1, 8, 8))
