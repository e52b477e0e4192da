"""An epoch of aebench's training loop against the usual notebook loop, and the share of the
machine's matrix product that each run of the suite reaches.

    dvc exp run -S dataset=cifar10    # prepared images, and the runs whose times are read
    python benchmarks/training.py | tee benchmarks/training.txt

The notebook's loop: Dataset, ToTensor, DataLoader, float32, Adam, loss.item() at each step, at the
best of 0, 1, 2 worker processes and 1 or all threads. Both train the same modules from the same
weights in the same order of batches; "Adam": aebench's loop with Adam for all weights at the
notebook's rates, so that the losses can be compared; "recipe": with params.yaml's.
"""

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from _machine import arguments, median, need_cifar10, note, show
from ruamel.yaml import YAML

from aebench.records.plan import ReportPlan, TrainPlan
from aebench.records.train import TrainRecord
from aebench.schema import Recipe
from aebench.workspace import Workspace

if TYPE_CHECKING:
    from aebench.models.autoencoder import Autoencoder

HERE = Workspace()
EPOCHS, REPEATS, BATCH, RATE, PROBE = 2, 3, 128, 1e-3, 60
MODELS = ("mlp", "combo", "cnn")


def main() -> None:
    asked = arguments(__doc__)
    data_hash = need_cifar10().data_hash
    rows = []
    for model in MODELS:
        probes = {}
        for workers, threads in itertools.product((0, 1, 2), (1, os.cpu_count() or 1)):
            probes[workers, threads] = worker("notebook", model, workers, threads, PROBE)["steps"]
            note(f"{model}: {workers} workers, {threads} threads: {probes[workers, threads]:.4f}")
        workers, threads = min(probes, key=lambda key: probes[key])
        found: dict[str, list[dict[str, float]]] = {"notebook": [], "Adam": [], "recipe": []}
        for _ in range(REPEATS):
            found["notebook"].append(worker("notebook", model, workers, threads, 0))
            found["Adam"].append(worker("Adam", model))
            found["recipe"].append(worker("recipe", model))
            note(f"{model}: { {k: v[-1] for k, v in found.items()} }")
        seconds = {k: median([run["epoch"] for run in runs]) for k, runs in found.items()}
        loss = {k: runs[0]["loss"] for k, runs in found.items()}
        rows.append(
            {
                "model": model,
                "workers": workers,
                "threads": threads,
                "notebook, s": seconds["notebook"],
                "Adam, s": seconds["Adam"],
                "recipe, s": seconds["recipe"],
                "Adam, x": seconds["notebook"] / seconds["Adam"],
                "recipe, x": seconds["notebook"] / seconds["recipe"],
                "notebook loss": loss["notebook"],
                "Adam loss": loss["Adam"],
                "recipe loss": loss["recipe"],
            }
        )
    peaks = json.loads(run("peaks"))
    tables = {f"Seconds an epoch, medians of {REPEATS} alternating runs": rows}
    tables["Share of the GEMM peak in training"] = list(shares(peaks, data_hash))
    show(asked.json, tables, gemm_gflops=peaks)


def shares(peaks: dict[str, float], data_hash: str) -> Iterator[dict[str, Any]]:
    """What an epoch multiplies, without the optimizer, over epoch_seconds and the peak."""
    for name in ReportPlan.read(HERE.plan / "report.json", "dvc repro").runs:
        result = TrainRecord.read(HERE.result_path(name, 0, "train.json"), "dvc repro")
        if result.data_hash != data_hash:
            sys.exit(f"{name}: its result is of other images; run `dvc repro`")
        precision = result.provenance.precision
        if result.epoch_seconds and precision and result.provenance.device == "cpu":
            rate = 1e-9 * json.loads(run("flops", name)) * 50_000 / result.epoch_seconds
            yield {
                "run": name,
                "precision": precision,
                "epoch, s": result.epoch_seconds,
                "GFLOP/s": rate,
                "share of peak, %": 100 * rate / peaks[precision],
            }


def worker(*words: object) -> dict[str, float]:
    return json.loads(run(*words))


def run(*words: object) -> str:
    """The last line that this script prints as a process of its own."""
    command = [sys.executable, __file__, "--worker", *map(str, words)]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}  # both loops on the processor
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return done.stdout.splitlines()[-1]


def measure_peaks() -> dict[str, float]:
    """GFLOP/s of a 2048 x 2048 x 2048 product, the best of torch's float32 paths."""
    import torch

    peaks: dict[str, float] = {"float32": 0.0}
    for setting in ("highest", "medium", "bfloat16"):
        kind = torch.bfloat16 if setting == "bfloat16" else torch.float32
        torch.set_float32_matmul_precision("highest" if setting == "bfloat16" else setting)
        a = torch.randn(2048, 2048).to(kind)
        times = []
        for _ in range(20):
            start = time.perf_counter()
            _ = a @ a
            times.append(time.perf_counter() - start)
        name = "bfloat16" if setting == "bfloat16" else "float32"
        peaks[name] = max(peaks.get(name, 0.0), 2e-9 * 2048**3 / median(times))
    return peaks


def flops_an_image(name: str) -> float:
    """Floating-point operations of the forward and the backward pass of one image."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from aebench.models.autoencoder import build_autoencoder
    from aebench.models.losses import reconstruction_loss
    from aebench.plugins import load_model

    plan = TrainPlan.read(HERE.plan_path(name, "train"), "aebench plan")
    model = load_model(HERE, plan.plugin, plan.model)
    autoencoder = build_autoencoder(model, (3, 32, 32), plan.build).train()
    with FlopCounterMode(display=False) as counter:
        reconstruction_loss(autoencoder, torch.rand(8, 3, 32, 32))["loss"].backward()
    return counter.get_total_flops() / 8


def built(model: str) -> "Autoencoder":
    import torch

    from aebench.models.autoencoder import build_autoencoder
    from aebench.plugins import load_plugins

    arguments = {"latent": 32, "depth": 3}
    torch.manual_seed(0)
    return build_autoencoder(load_plugins(HERE).models[model], (3, 32, 32), arguments)


def notebook(model: str, workers: int, threads: int, probe: int) -> dict[str, float]:
    """Seconds of the last epoch and its mean loss; with `probe`, seconds of so many steps."""
    import torch
    from PIL import Image
    from torch.nn import functional
    from torch.utils.data import DataLoader, Dataset
    from torchvision.transforms import ToTensor

    from aebench.models.training import WARM_UP

    class Cifar10(Dataset):
        def __init__(self) -> None:
            self.transform = ToTensor()
            images = np.load(HERE.prepared / "train_images.npy")
            self.images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
            self.labels = np.load(HERE.prepared / "train_labels.npy")

        def __len__(self) -> int:
            return len(self.images)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])

    torch.set_num_threads(threads)
    autoencoder = built(model).train()
    decoder = autoencoder.decoder
    assert decoder  # both models have one
    data = Cifar10()
    steps = len(data) // BATCH
    optimizer = torch.optim.Adam(autoencoder.parameters(), RATE)
    warm_up = round(WARM_UP * EPOCHS * steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda done: min(
            (done + 1) / warm_up,
            1 - (done - warm_up) / (EPOCHS * steps - warm_up),
        ),
    )
    random = np.random.default_rng(0)
    seconds, total = 0.0, 0.0
    for _ in range(EPOCHS):
        order = random.permutation(len(data)).tolist()
        loader = DataLoader(data, BATCH, sampler=order, num_workers=workers, drop_last=True)
        start, total = time.perf_counter(), 0.0
        for step, (images, _) in enumerate(loader):
            loss = functional.mse_loss(decoder(autoencoder.encoder(images)), images)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
            if probe and step == 20:
                start = time.perf_counter()
            if probe and step == 20 + probe:
                return {"steps": time.perf_counter() - start}
        seconds = time.perf_counter() - start
    return {"epoch": seconds, "loss": total / steps}


def aebench(model: str, recipe: str) -> dict[str, float]:
    """Seconds of the last epoch and its mean loss."""
    import torch

    from aebench.models import training
    from aebench.models.execution import execution
    from aebench.models.process import keep_freed_memory

    settings = YAML(typ="safe").load(Path("params.yaml"))["train"] | {"epochs": EPOCHS}
    settings["batch_size"] = BATCH
    if recipe == "Adam":
        training.SHORT_SIDE = 0  # no matrix is left to Muon
        settings |= {"learning_rate": RATE, "weight_decay": 0.0, "horizontal_flip": False}
    keep_freed_memory()
    autoencoder = built(model)
    images = torch.from_numpy(np.load(HERE.prepared / "train_images.npy", mmap_mode="c"))
    how = execution(autoencoder)
    curve = training.fit_by_gradient(autoencoder, images, None, 0, Recipe(**settings), how)
    return {"epoch": curve[-1].used.seconds, "loss": curve[-1].means["loss"]}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        match sys.argv[2:]:
            case ["notebook", model, *numbers]:
                result = notebook(model, *map(int, numbers))
            case ["peaks"]:
                result = measure_peaks()
            case ["flops", name]:
                result = flops_an_image(name)
            case [recipe, model]:
                result = aebench(model, recipe)
            case _:
                sys.exit(__doc__)
        print(json.dumps(result))
    else:
        main()
