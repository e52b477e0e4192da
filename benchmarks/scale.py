"""Time and memory against the number of images.

    dvc exp run -S dataset=cifar10    # prepared images, repeated with noise to the sizes below
    python benchmarks/scale.py | tee benchmarks/scale.txt

Two epochs of training, the second timed, encoding, and searching 10,000 queries of 32 floats, in a
temporary folder with 4 GB. Memory is the peak of RssAnon, what a process has for itself; mapped
images are not in it, the system takes their pages back when it needs them. Linux.
"""

import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from _machine import arguments, need_cifar10, note, show
from ruamel.yaml import YAML

from aebench.evaluation.search import BACKENDS, search
from aebench.workspace import Workspace

PREPARED = Workspace().prepared
SIZES = 10_000, 50_000, 600_000
BANKS = 50_000, 500_000
MODELS = "mlp", "cnn"


def main() -> None:
    asked = arguments(__doc__)
    need_cifar10()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("plugins", "params.yaml"):
            copy = shutil.copytree if Path(part).is_dir() else shutil.copy
            copy(part, folder / part)
        yaml = YAML()
        params = yaml.load(folder / "params.yaml")
        params["train"]["epochs"] = 2  # the first is not timed
        params["runs"] = {model: {"model": model} for model in MODELS}
        yaml.dump(params, folder / "params.yaml")
        for size in SIZES:
            prepared(folder / PREPARED, size)
            measured(folder, "plan")
            for model in MODELS:
                row: dict[str, object] = {"model": model, "images": size}
                for stage in ("train", "encode"):
                    _, gib = measured(folder, stage, model, "0")
                    row[f"{stage}, GiB"] = gib
                results = folder / "results" / model / "0"
                train, encode = (
                    json.loads((results / f"{stage}.json").read_text())
                    for stage in ("train", "encode")
                )
                row["epoch, s"] = train["epoch_seconds"]
                row["epoch, us an image"] = 1e6 * train["epoch_seconds"] / size
                row["encode, us an image"] = 1e6 / encode["encode_images_per_second"]
                rows.append(row)
                note(str(row))
    show(asked.json, {"Training and encoding": rows, "Exact search": searches()})


def prepared(folder: Path, size: int) -> None:
    """Images as `prepare` leaves them: `size` for training, 10,000 for tests."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(PREPARED, folder)
    images, labels = (np.load(PREPARED / f"train_{kind}.npy") for kind in ("images", "labels"))
    random = np.random.default_rng(0)
    shape = (size, *images.shape[1:])
    out = np.lib.format.open_memmap(folder / "train_images.npy", "w+", np.uint8, shape)
    for start in range(0, size, 10_000):
        rows = np.arange(start, start + 10_000) % len(images)
        noise = random.integers(0, 8, (10_000, *images.shape[1:]), np.uint8)
        out[start : start + 10_000] = images[rows] // 8 * 8 + noise
    out.flush()
    np.save(folder / "train_labels.npy", np.resize(labels, size))
    meta = json.loads((folder / "meta.json").read_text()) | {"num_train": size}
    (folder / "meta.json").write_text(json.dumps(meta))


def measured(folder: Path, *words: str) -> tuple[float, float]:
    """Seconds of `aebench words`, and its peak of anonymous memory in GiB."""
    start, peak = time.perf_counter(), 0
    process = subprocess.Popen(["aebench", *words], cwd=folder, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            break
        for line in status.splitlines():
            if line.startswith("RssAnon"):
                peak = max(peak, int(line.split()[1]))
        time.sleep(0.01)
    if process.wait():
        raise SystemExit(f"aebench {' '.join(words)} failed")
    return time.perf_counter() - start, peak / 2**20


def searches() -> list[dict[str, object]]:
    random = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    queries = random.standard_normal((10_000, 32), np.float32)
    BACKENDS["faiss"](queries[:1], queries[:1], 1)
    for size in BANKS:
        bank = random.standard_normal((size, 32), np.float32)
        start = time.perf_counter()
        search(bank, queries, 10, "faiss")
        seconds = time.perf_counter() - start
        rows.append({"bank": size, "seconds": seconds, "ns a pair": 1e9 * seconds / size / 1e4})
    return rows


if __name__ == "__main__":
    main()
