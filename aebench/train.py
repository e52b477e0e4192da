"""Train one run with one seed: images -> weights."""

import hashlib
import math
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

# The functional form: building a torch.optim.Adam object imports torch._dynamo, 1.9 s beside
# the 3.1 s of `import torch` (2-core AMD EPYC 7003, torch 2.14.1, medians of 3).
from torch.optim.adam import adam
from tqdm import tqdm

from aebench.autoencoder import (
    Autoencoder,
    Shape,
    as_floats,
    build_autoencoder,
    reconstruction_loss,
    sizes,
    weights_bytes,
)
from aebench.errors import Failure, failure_reason
from aebench.files import (
    PREPARED,
    Outs,
    file_hash,
    plan_path,
    read_json,
    result_path,
    run_path,
)
from aebench.plugins import load_model
from aebench.provenance import provenance

WARM_UP = 0.1  # of all steps: the learning rate rises linearly, then falls as a cosine to 0
FIT_BATCH = 1000  # images per batch of a model that fits itself


def train(run: str, seed: int) -> None:
    """Write runs/<run>/<seed>/weights.safetensors and results/<run>/<seed>/train.json.

    A model that diverges, raises or refuses leaves empty weights and its reason as the status.
    """
    plan_file = plan_path(run, "train")
    plan = read_json(plan_file, "aebench plan")
    meta = read_json(PREPARED / "meta.json", "aebench prepare")
    images = np.load(PREPARED / "train_images.npy", mmap_mode="r")
    status, weights = "ok", b""
    try:
        facts, weights = trained(plan, tuple(meta["shape"]), images, seed)
    except Exception as error:
        status, facts = f"failed: {failure_reason(error)}", {}
        print(f"aebench: train {run} {seed}: {status}", file=sys.stderr)
    with Outs() as outs:
        outs.write(run_path(run, seed, "weights.safetensors"), weights)
        origin = provenance(
            ["torch", "numpy"], seed=seed, threads=torch.get_num_threads(), precision="float32"
        )
        head = {
            "status": status,
            "plan_hash": file_hash(plan_file),
            "data_hash": meta["data_hash"],
            "weights_hash": hashlib.sha256(weights).hexdigest(),
        }
        outs.write_json(result_path(run, seed, "train.json"), head | facts | {"provenance": origin})


def trained(
    plan: dict[str, Any], shape: Shape, images: np.ndarray, seed: int
) -> tuple[dict[str, Any], bytes]:
    """What train.json says of the trained model, and its weights."""
    torch.manual_seed(seed)
    autoencoder = build_autoencoder(load_model(plan), shape, plan["build"])
    facts = sizes(autoencoder, shape)
    start = time.perf_counter()
    if hasattr(autoencoder, "fit"):
        autoencoder.fit(Batches(images))
        facts |= times([])
    else:
        facts |= times(fit_by_gradient(autoencoder, images, seed, plan["train"]))
    facts["train_seconds"] = time.perf_counter() - start
    if not all(t.isfinite().all() for t in autoencoder.state_dict().values()):
        raise Failure("the trained weights are not finite")
    check_reload(autoencoder, build_autoencoder(load_model(plan), shape, plan["build"]))
    return facts | {"note": getattr(autoencoder, "note", None)}, weights_bytes(autoencoder, shape)


def check_reload(trained: Autoencoder, fresh: Autoencoder) -> None:
    """Failure unless the weights fit a model that is built anew, as later stages do."""
    try:
        fresh.load_state_dict(trained.state_dict())
    except RuntimeError as error:
        raise Failure(
            "the trained state does not fit a newly built model; create every parameter and buffer "
            f"with its final shape in build ({' '.join(str(error).split())[:200]})"
        ) from None


class Batches:
    """Re-iterable batches float32 (B, C, H, W) of all training images, in order."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images

    def __iter__(self) -> Iterator[torch.Tensor]:
        for start in range(0, len(self.images), FIT_BATCH):
            yield as_floats(self.images[start : start + FIT_BATCH])


def fit_by_gradient(
    autoencoder: Autoencoder, images: np.ndarray, seed: int, recipe: dict[str, Any]
) -> list[tuple[float, float]]:
    """The training loop: Adam, linear warm-up, cosine decay. (mean loss, seconds) of each epoch.

    An epoch is every image once in a new random order; the images that do not fill a last batch
    are left out of it, other ones each time. Failure for a loss that is not finite.
    """
    epochs = recipe["epochs"]
    if epochs == 0:
        return []
    batch_size = min(recipe["batch_size"], len(images))
    steps = len(images) // batch_size
    warm_up = max(1, round(WARM_UP * epochs * steps))
    parameters = [p for p in autoencoder.parameters() if p.requires_grad]
    mean = [torch.zeros_like(p) for p in parameters]
    square = [torch.zeros_like(p) for p in parameters]
    counts = [torch.zeros(()) for _ in parameters]
    order = np.random.default_rng(seed)
    curve: list[tuple[float, float]] = []
    autoencoder.train()
    for epoch in range(1, epochs + 1):
        start = time.perf_counter()
        shuffled = order.permutation(len(images))
        total = torch.zeros(())
        for step in tqdm(range(steps), f"epoch {epoch}/{epochs}", leave=False, disable=None):
            batch = as_floats(images[shuffled[step * batch_size : (step + 1) * batch_size]])
            loss = reconstruction_loss(autoencoder, batch)
            if loss.ndim:
                raise Failure(f"the loss has shape {tuple(loss.shape)}, expected a scalar")
            loss.backward()
            done = (epoch - 1) * steps + step
            decay = (done - warm_up) / max(1, epochs * steps - warm_up)
            with torch.no_grad():
                # A parameter that the loss does not reach has no gradient and stays as it is.
                used = [i for i, p in enumerate(parameters) if p.grad is not None]
                gradients = [g for p in parameters if (g := p.grad) is not None]
                adam(
                    [parameters[i] for i in used],
                    gradients,
                    [mean[i] for i in used],
                    [square[i] for i in used],
                    [],
                    [counts[i] for i in used],
                    fused=True,
                    amsgrad=False,
                    beta1=0.9,
                    beta2=0.999,
                    lr=recipe["learning_rate"]
                    * min((done + 1) / warm_up, 0.5 + 0.5 * math.cos(math.pi * max(0.0, decay))),
                    weight_decay=0.0,
                    eps=1e-8,
                    maximize=False,
                )
            for p in parameters:
                p.grad = None
            total += loss.detach()
        curve.append((total.item() / steps, time.perf_counter() - start))
        if not math.isfinite(curve[-1][0]):
            raise Failure(f"the loss is {curve[-1][0]} in epoch {epoch}")
        if not sys.stderr.isatty():
            print(
                f"epoch {epoch}/{epochs}: loss {curve[-1][0]:.5f}, {curve[-1][1]:.1f} s", flush=True
            )
    return curve


def times(curve: list[tuple[float, float]]) -> dict[str, Any]:
    """epoch_seconds: the median without the first epoch (of one epoch: that one), and the spread.

    The spread is the median absolute deviation from that median; blank for a single epoch.
    """
    seconds = [s for _, s in curve]
    timed = seconds[1:] or seconds
    median = statistics.median(timed) if timed else None
    spread = statistics.median(abs(s - median) for s in timed) if timed[1:] and median else None
    return {
        "epoch_seconds": median,
        "epoch_seconds_mad": spread,
        "epochs_timed": len(timed),
        "all_epoch_seconds": seconds,
        "losses": [loss for loss, _ in curve],
    }
