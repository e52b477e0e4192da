"""Images of every source become the same arrays; bad ones are named."""

import functools
import gzip
import hashlib
import http.server
import io
import itertools
import json
import pickle
import struct
import sys
import tarfile
import threading

import numpy as np
import pytest
from conftest import ROOT, make
from PIL import Image

from aebench.plugins import load_plugin
from aebench.workspace import Workspace


def prepared(workspace, **params):
    workspace.params(**params)
    workspace.run("aebench", "plan")
    workspace.run("aebench", "prepare")
    meta = json.loads((workspace / "data/prepared/meta.json").read_text())
    arrays = {p.stem: np.load(p) for p in (workspace / "data/prepared").glob("*.npy")}
    return meta, arrays


def refused(workspace, **params):
    workspace.params(**params)
    workspace.run("aebench", "plan")
    done = workspace.run("aebench", "prepare", ok=False)
    assert not (workspace / "data").exists() or not list((workspace / "data").iterdir())
    assert done.stderr.startswith("aebench: error: ") and done.stderr.count("\n") == 1
    return done.stderr


def test_digits(light):
    meta, arrays = prepared(light)
    assert (meta["num_train"], meta["num_test"], meta["shape"]) == (1438, 359, [1, 8, 8])
    assert arrays["train_images"].dtype == np.uint8 and arrays["train_images"].max() == 255
    assert arrays["test_labels"].dtype == np.int64
    assert len(meta["examples"]) == 10
    assert arrays["test_labels"][meta["examples"]].tolist() == list(range(10))
    before = json.loads((ROOT / "tests/golden/results/data.json").read_text())  # of 0.1.0
    assert meta["data_hash"] == before["data_hash"]
    found = json.loads((light / "results/data.json").read_text())["near_duplicates"]
    assert found == {"rule": "distance", "count": 28, "recognised": 0}  # drawings alike, no copies
    near = np.load(light / "results/near_duplicates.npy")
    assert near.dtype == bool and near.shape == (359,) and near.sum() == 28


def sprite(workspace):
    picture = Image.open(workspace / "results/sprite.webp")
    return np.asarray(picture.convert("RGB"))


def test_small_images_stand_unblurred_in_one_picture(light):
    _, arrays = prepared(light)
    found = sprite(light)
    assert found.shape == (9 * 8, 40 * 8, 3)
    tiles = found[..., 0].reshape(9, 8, 40, 8).transpose(0, 2, 1, 3).reshape(360, 8, 8)
    assert (tiles[:359] == arrays["test_images"][:, 0]).all() and not tiles[359].any()
    assert (found == found[..., :1]).all()
    before = (light / "results/sprite.webp").read_bytes()
    light.run("aebench", "prepare")
    assert (light / "results/sprite.webp").read_bytes() == before


def test_large_images_are_scaled_down_in_one_picture(light, folder_data):
    folder_data(sizes=((200, 100),), count=45)
    _, arrays = prepared(light, dataset="pets")
    found = sprite(light)
    assert found.shape == (3 * 24, 40 * 48, 3)
    tiles = found.reshape(3, 24, 40, 48, 3).transpose(0, 2, 4, 1, 3).reshape(120, 3, -1)
    # Of 90 images; noise of 8 x 8 pixels, and what compression changes of it.
    means = arrays["test_images"].mean((2, 3))
    assert np.abs(tiles[:90].mean(2) - means).max() < 8 < np.ptp(means)
    assert tiles[90:].max() < 30


def test_of_many_images_a_thousand_are_in_the_picture(light):
    (light / "plugins/mine.py").write_text(
        "import numpy as np\nfrom aebench import hookimpl\n\n"
        "def load(root):\n"
        "    i = np.random.default_rng(0).integers(0, 256, (2500, 1, 8, 8), np.uint8)\n"
        "    l = np.zeros(2500, np.int64)\n"
        "    return dict(train=(i[:99], l[:99]), test=(i, l), classes=['a'])\n\n"
        "@hookimpl\ndef register_datasets(register):\n    register('mine', load)\n"
    )
    _, arrays = prepared(light, dataset="mine")
    found = sprite(light)
    assert found.shape == (25 * 8, 40 * 8, 3)
    last = arrays["test_images"][999 * 2500 // 1000, 0]
    assert (found[-8:, -8:, 0] == last).all()


def test_every_source_gives_one_data_hash(light, tmp_path):
    meta, arrays = prepared(light)
    for split in ("train", "test"):
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            folder = tmp_path / "data" / "mydigits" / split / str(label)
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[0]).save(folder / f"{len(images) - i}.png")
    again, _ = prepared(light, dataset="mydigits")
    assert again["data_hash"] == meta["data_hash"]


def as_set(images):
    return {image.tobytes() for image in images}


def test_holdout_is_the_same_of_every_source_and_grows_with_the_share(light, tmp_path):
    _, whole = prepared(light)
    meta, tenth = prepared(light, holdout=0.1)
    assert (meta["num_train"], meta["num_test"]) == (1294, 144)
    for label in range(10):  # the first of each class, as the prepared images are ordered
        own = whole["train_images"][whole["train_labels"] == label]
        number = round(len(own) / 10)
        assert (tenth["test_images"][tenth["test_labels"] == label] == own[:number]).all()
        assert (tenth["train_images"][tenth["train_labels"] == label] == own[number:]).all()
    assert json.loads((light / "results/data.json").read_text())["plan"]["holdout"] == 0.1
    assert len(sprite(light)) == 4 * 8
    # A folder of the training images alone, in another order.
    for i, image in enumerate(whole["train_images"]):
        folder = tmp_path / "data/mine/train" / str(whole["train_labels"][i])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(folder / f"{2000 - i}.bmp")
    again, _ = prepared(light, dataset="mine")
    assert again == meta
    _, half = prepared(light, holdout=0.5)
    assert as_set(tenth["test_images"]) < as_set(half["test_images"])


def test_holdout_opens_no_test_image_of_a_folder(light, folder_data, tmp_path):
    folder = folder_data()
    (folder / "test").rename(tmp_path / "test")
    meta, _ = prepared(light, dataset="pets", holdout=0.1)
    plan = (light / "plan/data.json").read_bytes()
    assert (meta["num_train"], meta["num_test"]) == (32, 4)
    # Broken, of other classes, named as nobody may, without end: nobody looks.
    (folder / "test/no cat").mkdir(parents=True)
    (folder / "test/no cat/broken.png").write_bytes(b"")
    (folder / "test/no cat/gone.png").symlink_to("nowhere")
    (folder / "test/no cat/loop").symlink_to(folder / "test")
    (folder / "test/empty\nclass").mkdir()
    assert light.run("aebench", "plan").stderr == ""
    assert (light / "plan/data.json").read_bytes() == plan
    light.run("aebench", "prepare")
    (folder / "train/cat/0.png").unlink()
    light.run("aebench", "plan")
    assert (light / "plan/data.json").read_bytes() != plan


def test_holdout_drops_the_test_arrays_of_a_plugin_unread(light):
    source = (
        "import numpy as np\nfrom aebench import hookimpl\n\n"
        "def load(root):\n"
        "    i = np.arange(40 * 64).astype(np.uint8).reshape(40, 1, 8, 8) + np.arange(40)[:, None,"
        " None, None].astype(np.uint8)\n"
        "    return {'train': (i, np.arange(40) % 2), TEST 'classes': ['a', 'b']}\n\n"
        "@hookimpl\ndef register_datasets(register):\n    register('mine', load)\n"
    )
    for test in ("'test': (i[:, :, 1:], 0),", "'test': 'nothing',", ""):
        (light / "plugins/mine.py").write_text(source.replace("TEST", test))
        meta, _ = prepared(light, dataset="mine", holdout=0.2)
        assert (meta["num_train"], meta["num_test"]) == (32, 8)
    light.params(holdout=None)
    light.run("aebench", "plan")
    done = light.run("aebench", "prepare", ok=False)
    assert (
        "load returned ['train', 'classes']; allowed: a dict with ['train', 'test'" in done.stderr
    )


def test_holdout_keeps_equal_pixels_on_one_side(light, tmp_path):
    """Classes of two and three different images, each three times; of one that both have, too."""

    def first(grey):
        return hashlib.sha256(bytes([grey] * 64)).digest()

    b, both, a, last = sorted(range(256), key=first)[:4]
    for name, own in (("a", (both, a)), ("b", (b, both, last))):
        folder = tmp_path / "data/few/train" / name
        folder.mkdir(parents=True)
        for grey, copy in itertools.product(own, range(3)):
            Image.new("L", (8, 8), grey).save(folder / f"{grey}-{copy}.png")
    for share in (0.01, 0.5, 0.999):  # one at least, and not all
        _, arrays = prepared(light, dataset="few", holdout=share, knn=knn(1))
        greys = {split: arrays[f"{split}_images"][:, 0, 0, 0].tolist() for split in SPLITS}
        assert greys == {"test": [both] * 3 + [b] * 3 + [both] * 3, "train": [a] * 3 + [last] * 3}
        assert arrays["test_labels"].tolist() == [0] * 3 + [1] * 6


SPLITS = ("train", "test")


def test_holdout_of_a_class_with_one_different_image_is_refused(light, folder_data):
    folder = folder_data(count=1)
    (first, *others) = sorted((folder / "train/cat").iterdir())
    for other in others:
        other.write_bytes(first.read_bytes())
    text = refused(light, dataset="pets", holdout=0.5, knn=knn(1))
    assert text == (
        "aebench: error: params.yaml: holdout: got 0.5, which leaves nothing of class 'cat' of "
        "pets to train on (different training images of it: 1); allowed: two and more of each "
        "class; add some, remove the class, or set holdout: null\n"
    )
    # Of a class how many are left is known only now.
    light.params(dataset="digits", knn=knn(720))
    light.run("aebench", "plan")
    done = light.run("aebench", "prepare", ok=False)
    assert "knn.k of run one: got 720; allowed: 1 to 717, the number of tr" in done.stderr


def knn(k):
    return {"k": k, "metric": "l2", "backend": "faiss"}


def test_images_that_disagree_need_a_parameter(light, folder_data):
    folder_data(sizes=((12, 12), (16, 9)), modes=("RGB", "L"))
    text = refused(light, dataset="pets")
    assert "all must agree; set image_size=9 and channels=3 in params.yaml" in text
    meta, arrays = prepared(light, image_size=8, channels=3)
    assert meta["shape"] == [3, 8, 8] and meta["classes"] == ["cat", "my dog"]
    assert arrays["test_labels"].tolist() == [0] * 6 + [1] * 6


def test_oblong_images_stay_as_they_are(light, folder_data):
    folder_data(sizes=((16, 10),))
    assert prepared(light, dataset="pets")[0]["shape"] == [3, 10, 16]


def test_resize_is_shorter_side_then_centre_crop(light, tmp_path):
    picture = np.zeros((8, 24), np.uint8)
    picture[:, 8:16] = 255  # the centre square
    for split in ("train", "test"):
        for name in "ab":
            folder = tmp_path / "data" / "wide" / split / name
            folder.mkdir(parents=True)
            for i in range(10):
                Image.fromarray(picture).save(folder / f"{i}.png")
    _, arrays = prepared(light, dataset="wide", image_size=8)
    assert arrays["train_images"].min() == 255


def test_16_bit_palette_and_turned_images(light, tmp_path):
    folder = tmp_path / "data" / "odd"
    wide = Image.new("L", (8, 16), 128)
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side: 8 x 16 stored, 16 x 8 seen
    for split in ("train", "test"):
        (folder / split / "a").mkdir(parents=True)
        for i in range(10):
            wide.save(folder / split / "a" / f"turned{i}.jpg", exif=exif)
        deep = Image.fromarray(np.full((8, 16), 129 * 256, np.uint16))
        deep.save(folder / split / "a" / "deep.png")
    meta, arrays = prepared(light, dataset="odd")
    assert meta["shape"] == [1, 8, 16]
    assert np.abs(arrays["train_images"].astype(int) - 128).max() <= 1


@pytest.mark.skipif(sys.platform != "linux", reason="measures a process as Linux does")
def test_memory_grows_neither_with_the_images_nor_with_photographs(light, tmp_path):
    for split, count in (("train", 1500), ("test", 20)):
        folder = tmp_path / "data" / "many" / split / "a"
        folder.mkdir(parents=True)
        for i in range(count):
            pixels = np.arange(64, dtype=np.uint8).reshape(8, 8) ^ (i & 255) ^ (i >> 8)
            Image.fromarray(pixels).save(folder / f"{i}.bmp")
        for i in range(3):  # 80 MB each as Pillow holds them
            Image.new("RGB", (5000, 4000), (i, 0, 0)).save(folder / f"{i}.png", compress_level=1)
    light.params(dataset="many", image_size=192, channels=3)
    light.run("aebench", "plan")
    # In between: a process inherits the peak of the one that forks it.
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = [sys.executable, "-m", "aebench", "prepare"]
    said = light.run(sys.executable, "-c", code, *command).stdout
    assert (light / "data/prepared/train_images.npy").stat().st_size > 150 * 2**20
    assert int(said.split()[-1]) < 256 * 2**10  # KiB


def test_without_room_for_the_waiting_images_nothing_is_written(light):
    light.params(image_size=32)
    light.run("aebench", "plan")
    command = f"ulimit -f 100; exec {sys.executable} -m aebench prepare"
    done = light.run("sh", "-c", command, ok=False)
    assert "nothing was written; make room there" in done.stderr and "'.aebench'" in done.stderr
    assert not (light / "data").exists() and not list(light.folder.glob("results/*"))


def test_corrupt_image_is_named(light, folder_data):
    path = folder_data() / "train" / "cat" / "0.png"
    path.write_bytes(path.read_bytes()[:60])
    assert "train/cat/0.png: not a whole image (" in refused(light, dataset="pets")


def test_tiny_images_are_refused(light, folder_data):
    folder_data(sizes=((7, 9),))
    assert "allowed: 8 and more; set image_size" in refused(light, dataset="pets")


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        ("[]", "load returned list; allowed: a dict with"),
        ("dict(train=(i / 2, l), test=(i, l), classes=['a'])", "train images are float64"),
        ("dict(train=(i, l), test=(i, l), classes=['a', 'b'])", "train labels: missing or unknown"),
        ("dict(train=(i, [0]), test=(i, l), classes=['a'])", "train is no pair of numpy arrays"),
        ("dict(train=(i, l), test=(i[..., :-1], l), classes=['a'])", "train images are (1, 9, 9)"),
        ("dict(train=(i, l), test=(i, l), classes=[0])", "classes are [0]; allowed: a list of str"),
        ("dict(train=None, test=(i, l), classes=['a'])", "train is no pair of numpy arrays"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_data_set_plugin_that_breaks_its_contract(light, returned, expected):
    (light / "plugins/mine.py").write_text(
        "import numpy as np\nfrom aebench import hookimpl\n\n"
        "def load(root):\n"
        "    i, l = np.zeros((30, 1, 9, 9), np.uint8), np.zeros(30, np.int64)\n"
        f"    return {returned}\n\n"
        "@hookimpl\ndef register_datasets(register):\n    register('mine', load)\n"
    )
    assert f"plugins/mine.py: data set 'mine': {expected}" in refused(light, dataset="mine")


def test_missing_network_is_one_line(tmp_path):
    workspace = make(tmp_path / "workspace")
    workspace.apart = True  # urllib keeps the proxies that it finds first
    closed = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    workspace.env |= closed | {name.upper(): value for name, value in closed.items()}
    text = refused(workspace, dataset="cifar10")
    assert "plugins/downloads.py: data set 'cifar10': " in text
    assert "check the network, or put its images into" in text
    assert "cifar10/{train,test}/<class>/*.png" in text


@pytest.fixture
def served(tmp_path):
    """A local web server; yields its folder and address."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def md5(content):
    return hashlib.md5(content).hexdigest()


def load_dataset(name, root):
    """Through the registry, as `prepare` does."""
    return load_plugin(Workspace(ROOT), "plugins/downloads.py")[1][name].load(root)


def test_cifar10_is_downloaded_once(served, tmp_path, monkeypatch):
    from torchvision import datasets

    folder, address = served
    random = np.random.default_rng(0)
    names = [f"class{i}" for i in range(10)]
    archive = io.BytesIO()
    lists = {"train_list": [], "test_list": []}
    pixels = {}
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for batch in ["data_batch_1", "test_batch", "batches.meta"]:
            data = random.integers(0, 256, (10, 3072), np.uint8)
            content = pickle.dumps(
                {"label_names": names}
                if batch == "batches.meta"
                else {"data": data, "labels": list(range(10))}
            )
            pixels[batch] = data.reshape(10, 3, 32, 32)
            info = tarfile.TarInfo(f"cifar-10-batches-py/{batch}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
            if batch == "batches.meta":
                meta = {"filename": batch, "key": "label_names", "md5": md5(content)}
                monkeypatch.setattr(datasets.CIFAR10, "meta", meta)
            else:
                lists["test_list" if "test" in batch else "train_list"].append(
                    [batch, md5(content)]
                )
    (folder / "tiny.tar.gz").write_bytes(archive.getvalue())
    for key, value in lists.items():
        monkeypatch.setattr(datasets.CIFAR10, key, value)
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{address}/tiny.tar.gz")
    monkeypatch.setattr(datasets.CIFAR10, "filename", "tiny.tar.gz")
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5(archive.getvalue()))
    loaded = load_dataset("cifar10", tmp_path / "root")
    assert loaded["classes"] == names
    images, labels = loaded["train"]
    assert (images == pixels["data_batch_1"]).all() and labels.tolist() == list(range(10))
    assert (loaded["test"][0] == pixels["test_batch"]).all()
    (folder / "tiny.tar.gz").unlink()
    load_dataset("cifar10", tmp_path / "root")  # from the data root


def test_mnist_is_downloaded(served, tmp_path, monkeypatch):
    from torchvision import datasets

    folder, address = served
    resources = []
    images = np.arange(10 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(10, 28, 28)
    for split in ("train", "t10k"):
        for kind, header, content in (
            ("images-idx3", struct.pack(">IIII", 2051, 10, 28, 28), images.tobytes()),
            ("labels-idx1", struct.pack(">II", 2049, 10), bytes(range(10))),
        ):
            packed = gzip.compress(header + content)
            name = f"{split}-{kind}-ubyte.gz"
            (folder / name).write_bytes(packed)
            resources.append((name, md5(packed)))
    monkeypatch.setattr(datasets.MNIST, "mirrors", [f"{address}/"])
    monkeypatch.setattr(datasets.MNIST, "resources", resources)
    loaded = load_dataset("mnist", tmp_path / "root")
    assert (loaded["test"][0][:, 0] == images).all()
    assert loaded["train"][1].tolist() == list(range(10))
