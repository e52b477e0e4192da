"""Odd image files and folders: the right pixels, or one line that names the file and the cause."""

import io
import json
import os
import re
import shutil
import struct
import sys
import warnings
import zlib
from functools import cache
from unittest import mock

import numpy as np
import pytest
from conftest import LIGHT, SMALL, Workspace
from PIL import Image

import aebench
from aebench.errors import AebenchError
from aebench.fingerprint import stage_fingerprint
from aebench.workspace import data_root

RAMP = np.arange(64, dtype=np.int64).reshape(8, 8) * 4  # 0 to 252
DISC = (np.hypot(*np.mgrid[-4:4, -4:4]) < 3) * 255


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
    with mock.patch("aebench.fingerprint.stage_fingerprint", cache(stage_fingerprint)):
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


def save(path, values):
    Image.fromarray(np.asarray(values).astype(np.uint8)).save(path)


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


def in_alpha(colour, alpha=DISC):
    """Drawn in transparency alone."""
    image = Image.new("RGB", (8, 8), colour)
    image.putalpha(Image.fromarray(alpha.astype(np.uint8)))
    return image


def png(values, transparent=()):
    """A 16-bit PNG of (H, W, C) values, which Pillow cannot write."""
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2}[channels], 0, 0, 0)
    key = struct.pack(f">{len(transparent)}H", *transparent)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part))
        for kind, part in (
            (b"IHDR", head),
            (b"tRNS", key),
            (b"IDAT", zlib.compress(rows)),
            (b"IEND", b""),
        )
        if part or kind == b"IEND"
    )


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def array(values, kind=np.uint8):
    return Image.fromarray(np.asarray(values).astype(kind))


def palette():
    """A disc of palette entry 1, blue, on entry 0, which is transparent."""
    image = array(DISC > 0).convert("P")
    image.putpalette([0, 0, 0, 0, 0, 255])
    return image


GREYS = {  # name of the file: (its content, the 8-bit grey that it is)
    "alpha-black.png": (encoded(in_alpha("black"), "PNG"), 255 - DISC),
    "alpha-black.webp": (encoded(in_alpha("black"), "WEBP", lossless=True), 255 - DISC),
    "grey-alpha.png": (encoded(in_alpha("black").convert("LA"), "PNG"), 255 - DISC),
    "palette.gif": (encoded(palette(), "GIF", transparency=0), np.where(DISC, 29, 255)),
    "palette.png": (encoded(palette(), "PNG"), np.where(DISC, 29, 0)),
    "key.png": (encoded(array(RAMP), "PNG", transparency=0), np.where(RAMP, RAMP, 255)),
    "one-bit.png": (encoded(array(DISC > 0, bool), "PNG"), DISC),
    "one-bit.pbm": (encoded(array(DISC > 0, bool), "PPM"), DISC),
    "cmyk.tif": (encoded(array(RAMP).convert("RGB").convert("CMYK"), "TIFF"), RAMP),
    "phone.jfif": (encoded(array(RAMP * 0 + 77), "JPEG"), RAMP * 0 + 77),
    "UPPER.JPE": (encoded(array(RAMP * 0 + 78), "JPEG"), RAMP * 0 + 78),
    "int32.tif": (encoded(array(RAMP, np.int32), "TIFF"), RAMP),
    "8-in-16.png": (encoded(array(RAMP, np.uint16), "PNG"), RAMP),
    "12-in-16.tif": (encoded(array(RAMP * 16 + 9, np.uint16), "TIFF"), RAMP),
    "16.pgm": (encoded(array(RAMP * 257, np.uint16), "PPM"), RAMP),
    "16-colour.png": (png(np.dstack([RAMP * 257] * 3)), RAMP),
    "16-grey-alpha.png": (png(np.dstack([RAMP * 257, RAMP * 0 + 65535])), RAMP),
    "frames.gif": (
        encoded(array(RAMP), "GIF", save_all=True, append_images=[array(255 - RAMP)]),
        RAMP,
    ),
}


@pytest.mark.parametrize("name", GREYS)
def test_every_kind_of_pixels_becomes_its_8_bits(workspace, data, name):
    content, expected = GREYS[name]
    (data / "train/cat" / name).write_bytes(content)
    images, _ = prepared(workspace)
    assert len(images) == 7 and holds(images, expected)
    (data / "own").mkdir()
    (data / "own" / name).write_bytes(content)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        tensor, paths = aebench.read_images(data / "own", (1, 8, 8))
    rules = "transparency laid over white", "several frames", "16-bit grey read as"
    assert all(any(rule in str(warning.message) for rule in rules) for warning in said)
    assert said or name not in ("alpha-black.png", "8-in-16.png")
    assert [path.name for path in paths] == [name]
    assert np.array_equal(np.rint(tensor[0, 0].numpy() * 255), expected)


def test_rules_that_were_applied_are_said(workspace, data):
    for name in ("alpha-black.png", "frames.gif", "12-in-16.tif", "8-in-16.png"):
        (data / "train/cat" / name).write_bytes(GREYS[name][0])
    images, said = prepared(workspace)
    assert "1 image with transparency laid over white (alpha-black.png)" in said
    assert "1 image of several frames, the first taken (frames.gif)" in said
    assert "2 images of 16-bit grey read as 12 bits (12-in-16.tif, ...)" in said
    assert holds(images, RAMP) and holds(images, RAMP >> 4)  # one scale for all files
    record = json.loads((workspace / "results/data.json").read_text())
    assert len(record["remarks"]) == 3


BROKEN_AVIF = bytearray(encoded(array(RAMP), "AVIF"))
BROKEN_AVIF[-30:] = b"\xff" * 30
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
REFUSED = {  # name of the file: (its content, what is said of it)
    "float.tif": (encoded(array(RAMP / 255, np.float32), "TIFF"), "pixels are floats, 0 to 0.98"),
    "float.pfm": (encoded(array(RAMP, np.float32), "PPM"), "pixels are floats, 0 to 252"),
    "int32.tif": (encoded(array(RAMP * 300, np.int32), "TIFF"), "pixels are 0 to 75600; allowed"),
    "ct.tif": (encoded(array(RAMP - 99, np.int32), "TIFF"), "pixels are -99 to 153; allowed: 0"),
    "negative.tif": (
        encoded(array(RAMP, np.uint16), "TIFF", tiffinfo={262: 0}),
        "white is 0 in it (TIFF's MinIsWhite), in 16 bits",
    ),
    "dark.png": (png(np.dstack([RAMP] * 3)), "16-bit colour without a value above 255"),
    "key.png": (png(RAMP[..., None] * 257, [0]), "16 bits with one value as transparent"),
    "keys.png": (png(np.dstack([RAMP * 257] * 3), [0] * 3), "16 bits with one value as transp"),
    "broken.avif": (bytes(BROKEN_AVIF), "not a whole image (Failed to decode"),
    "cut.png": (encoded(array(RAMP), "PNG")[:55], "not a whole image ("),
    "cut.jp2": (encoded(array(RAMP), "JPEG2000")[:-20], "not a whole image ("),
    "pointer.jpg": (LFS, "a pointer of Git LFS, not the image; run `git lfs pull`"),
    "page.jpg": (b"<!DOCTYPE html><p>404", "no image that Pillow can read: it begins with b'<!DOC"),
    "annex.png": (
        b"/annex/objects/MD5-s9--1",
        "no image that Pillow can read: it",
    ),
    "empty.png": (b"", "an empty file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_image_is_named_with_its_cause(workspace, data, name):
    content, cause = REFUSED[name]
    (data / "train/cat" / name).write_bytes(content)
    shown = name.replace("\n", r"\n")
    assert f"train/cat/{shown}: {cause}" in refused(workspace)
    with pytest.raises(AebenchError, match=f"train/cat/{re.escape(shown)}: "):
        aebench.read_images(data / "train/cat", (1, 8, 8))


@pytest.mark.parametrize("factor", [1.5, 3])  # Pillow warns above its limit, and refuses from twice
def test_decompression_bomb(workspace, data, monkeypatch, factor):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    save(data / "train/cat/bomb.png", np.zeros((20, int(50 * factor))))
    assert "train/cat/bomb.png: too large (Image size (" in refused(workspace)


def test_image_too_long_to_be_scaled(workspace, data):
    save(data / "train/cat/wire.png", np.zeros((1, 50000)))
    workspace.params(dataset="pets", channels=1, image_size=64)
    text = refused(workspace)
    workspace.params(image_size=None)
    assert "train/cat/wire.png: 50000 x 1 pixels are 204,800,000 where the shorter side is" in text


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
    assert "exact duplicates: 1 within train\n" in said


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


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_images_that_come_out_all_alike_are_refused_by_name(workspace, data, kind):
    for i, path in enumerate(list(data.rglob("*.png"))):
        drawn = in_alpha("white", np.roll(DISC, i, 1))  # on white nothing is left of it
        path.with_suffix(f".{kind.lower()}").write_bytes(encoded(drawn, kind))
        if kind != "PNG":
            path.unlink()
    text = refused(workspace)
    assert f"cat/a.{kind.lower()}: comes out as the same pixels as" in text
    assert "though the files differ" in text


def test_class_that_comes_out_alike_and_black_images_are_said(workspace, data):
    for i, path in enumerate(data.glob("*/cat/*.png")):
        path.write_bytes(encoded(in_alpha("white", np.roll(DISC, i, 1)), "PNG"))
    assert "all images of class 'cat' come out alike though the files" in prepared(workspace)[1]
    for i, path in enumerate(data.rglob("*.png")):
        save(path, np.roll(DISC > 0, i, 1))
    assert "99.9 % of the pixels are below 4 of 255" in prepared(workspace)[1]


def test_bright_pixel_does_not_hide_the_dark(workspace, data):
    for i, path in enumerate(data.rglob("*.png")):
        Image.fromarray(np.roll(RAMP.astype(np.uint16), i, 1)).save(path)
    assert "below 4 of 255" not in prepared(workspace)[1]
    Image.fromarray(np.full((60, 60), 65535, np.uint16)).save(data / "test/cat/hot.png")
    workspace.params(image_size=8)
    try:
        assert "99.9 % of the pixels are below 4 of 255" in prepared(workspace)[1]
    finally:
        workspace.params(image_size=None)


def test_figures_of_one_class_are_said_to_say_nothing(workspace, data):
    for split in ("train", "test"):
        shutil.rmtree(data / split / "dog")
    assert "one class: every accuracy is 100 %" in prepared(workspace)[1]


def test_large_colour_profile_is_no_fault(workspace, data):
    image, profile = array(RAMP), bytes(2 * 2**20)
    (data / "train/cat/profile.png").write_bytes(encoded(image, "PNG", icc_profile=profile))
    assert holds(prepared(workspace)[0], RAMP)


def test_names_are_utf8_whatever_the_locale(workspace, data, monkeypatch):
    for split in ("train", "test"):
        (data / split / "dog").rename(data / split / "caf\u00e9")
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    monkeypatch.setattr(workspace, "env", workspace.env | locale)
    for verb in ("plan", "prepare"):
        workspace.run(sys.executable, "-m", "aebench", verb)
    meta = json.loads((workspace / "data/prepared/meta.json").read_text())
    assert meta["classes"] == ["caf\u00e9", "cat"]


def test_what_a_killed_prepare_left_is_removed(workspace, data):
    prepared(workspace)
    names = {path.name for path in (workspace / "data/prepared").iterdir()}
    for name in (".train_images.npy.12ab.part", "older.npy", "folder/file"):
        path = workspace / "data/prepared" / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    prepared(workspace)
    assert {path.name for path in (workspace / "data/prepared").iterdir()} == names


def test_duplicates_are_counted(workspace, data):
    for place in ("train/cat/y", "train/cat/z", "train/dog/z", "test/cat/z", "test/cat/y"):
        save(data / f"{place}.png", RAMP)
    _, said = prepared(workspace)
    assert (
        "aebench: warning: pets: exact duplicates: 2 within train, 1 within test, "
        "2 of the test images in train, 1 under several labels\n"
    ) in said
    record = json.loads((workspace / "results/data.json").read_text())
    assert record["duplicates"] == {"train": 2, "test": 1, "across": 2, "two_labels": 1}
    assert record["near_duplicates"]["count"] >= 2  # they are near, too


def test_own_images_that_are_not_there(workspace, data):
    with pytest.raises(AebenchError, match="no such folder"):
        aebench.read_images(data / "gone", (1, 8, 8))
    (data / "own/.hidden").mkdir(parents=True)
    save(data / "own/.hidden/a.png", RAMP)
    with pytest.raises(AebenchError, match="own: no image in it"):
        aebench.read_images(data / "own", (1, 8, 8))


PLUGIN = """\
import numpy as np
from aebench import hookimpl

def load(root):
    i = np.arange(30 * 81, dtype=np.uint8).reshape(30, 1, 9, 9)
    l = np.arange(30) % 2
    c = ["a", "b"]
    {statement}

@hookimpl
def register_datasets(register):
    register("mine", load)
"""


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("return None", "load returned NoneType; allowed: a dict with"),
        ("return dict(train=(i, l), test=None, classes=c)", "test is no pair of numpy arrays"),
        ("return dict(train=(i, l), test=(i, None), classes=c)", "test is no pair of numpy arr"),
        ("return dict(train=(i, l), test=(i, l), classes=list(l[:2]))", "classes are [np.int64(0)"),
        (
            "return dict(train=(i, l), test=(i, l), classes=i[0, 0, :2])",
            "classes are [[ 0 1",
        ),
        ("return dict(train=(i, l), test=(i, l), classes=[])", "classes are []; allowed: a list"),
        (
            "return dict(train=(i, l), test=(i, l), classes=['a', 'a'])",
            "classes ['a', 'a']; al",
        ),
        ("return dict(train=(i, l), test=(i, l), classes=['a', '\\udce9'])", "class '\\udce9'; al"),
        ("return dict(train=(i[:0], l[:0]), test=(i, l), classes=c)", "train images are uint8 (0,"),
        ("return dict(train=(i, l / 1), test=(i, l), classes=c)", "train labels are float64 (30,)"),
        ("return dict(train=(i, l[:, None]), test=(i, l), classes=c)", "train labels are int64 (3"),
        (
            "return dict(train=(i * 0, l), test=(i * 0, l), classes=c)",
            "all images are the sa",
        ),
        ("exit(3)", "ended the process: SystemExit(3) ("),
        (
            "open('/nowhere/mine.npz')",
            "FileNotFoundError: [Errno 2] No such f",
        ),
        ("raise IndexError('x\\ny')", "IndexError: x (mine.py:8)"),
    ],
)
def test_data_set_that_breaks_its_contract(workspace, data, statement, said):
    (workspace / "plugins/mine.py").write_text(PLUGIN.format(statement=statement))
    workspace.params(dataset="mine", channels=None)
    text = refused(workspace)
    assert f"plugins/mine.py: data set 'mine': {said}" in text
    assert "network" not in text


@pytest.mark.parametrize(
    "statement",
    [
        "return dict(train=(i, l), test=(i, l), classes=c)",
        "return dict(train=(i, l.astype(np.uint8)), test=(i, l.astype('>i2')), classes=c)",
        "return dict(train=[i, l], test=[i, l.astype(np.uint64)], classes=tuple(np.array(c)))",
        "import os; os.chdir('/'); return dict(train=(i, l), test=(i, l), classes=c)",
    ],
)
def test_what_is_harmless_of_a_data_set(workspace, data, statement):
    (workspace / "plugins/mine.py").write_text(PLUGIN.format(statement=statement))
    workspace.params(dataset="mine", channels=None)
    prepared(workspace)
    labels = np.load(workspace / "data/prepared/test_labels.npy")
    assert labels.dtype == np.int64 and labels.tolist() == [0] * 15 + [1] * 15


def test_images_of_one_row_are_made_to_fit(workspace, data):
    statement = "i = i[:, :, :1].repeat(3, 1); return dict(train=(i, l), test=(i, l), classes=c)"
    (workspace / "plugins/mine.py").write_text(PLUGIN.format(statement=statement))
    workspace.params(dataset="mine", channels=None, image_size=8)
    assert prepared(workspace)[0].shape == (30, 8, 8)
    workspace.params(image_size=None)


ROOTS = {  # $AEBENCH_DATA: what is said of it when a folder is looked for
    "/dev/null/data": "(the data root /dev/null/data: Not a directory; $AEBENCH_DATA sets it)",
    "/proc/no": "(the data root /proc/no: No such file or directory; $AEBENCH_DATA sets it)",
    "x" * 300: "File name too long; $AEBENCH_DATA sets it)",
}


@pytest.mark.parametrize("root", ROOTS)
def test_data_root_that_is_broken(workspace, data, root):
    workspace.env["AEBENCH_DATA"] = root
    workspace.params(dataset="pets")
    done = workspace.run("aebench", "plan", ok=False)
    assert ROOTS[root] in done.stderr and done.stderr.count("error: ") == 1
    (workspace / "plugins/mine.py").write_text(
        PLUGIN.format(statement="return dict(train=(i, l), test=(i, l), classes=c)")
    )
    workspace.params(dataset="mine", channels=None)
    prepared(workspace)  # needs no data root
    (workspace / "plugins/mine.py").write_text(
        PLUGIN.format(statement="(root / 'downloads').mkdir(parents=True)")
    )
    assert f"{root} cannot be written: set AEBENCH_DATA to a folder that can" in refused(workspace)


def test_data_root_of_home_and_relative_to_the_workspace(workspace, data, monkeypatch):
    workspace.env |= {"AEBENCH_DATA": "~", "HOME": str(data.parent)}
    assert len(prepared(workspace)[0]) == 6
    relative = os.path.relpath(data.parent, workspace.folder)
    workspace.env["AEBENCH_DATA"] = relative
    images, said = prepared(workspace)
    assert len(images) == 6
    assert f"AEBENCH_DATA: {relative!r} is relative to the workspace (now /" in said
    monkeypatch.delenv("AEBENCH_DATA", raising=False)
    monkeypatch.setenv("HOME", "/dev/null")
    assert data_root().is_absolute()
