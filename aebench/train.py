"""Train one run with one seed: images -> weights."""

import dataclasses
import hashlib
import math
import statistics
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

# The functional form: building a torch.optim.AdamW object imports torch._dynamo, 1.9 s beside
# the 3.1 s of `import torch` (2-core AMD EPYC 7003, torch 2.14.1, medians of 3).
from torch.optim.adamw import adamw
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
from aebench.device import (
    FORMATS,
    Execution,
    deterministic,
    execution,
    gpu_name,
    keep_freed_memory,
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
from aebench.timing import Stopwatch, Usage, facts

WARM_UP = 0.05  # of all steps: the learning rate rises linearly, then falls linearly to 0
FIT_BATCH = 1000  # images per batch of a model that fits itself
# Muon's Newton-Schulz polynomial and momentum: K. Jordan, "Muon: an optimizer for hidden layers in
# neural networks", kellerjordan.github.io/posts/muon, 2024.
QUINTIC = 3.4445, -4.7750, 2.0315
MOMENTUM = 0.95
# A matrix with more than that on its shorter side is left to AdamW: making it orthogonal costs the
# cube of that side. A step of the mlp, whose largest is 512 x 3072, would take 4 times as long.
SHORT_SIDE = 128


def train(run: str, seed: int) -> None:
    """Write runs/<run>/<seed>/weights.safetensors and results/<run>/<seed>/train.json.

    A model that diverges, raises or refuses leaves empty weights and its reason as the status.
    """
    plan_file = plan_path(run, "train")
    plan = read_json(plan_file, "aebench plan")
    meta = read_json(PREPARED / "meta.json", "aebench prepare")
    # Mapped, whatever its size; "c" because torch warns of memory that it must not write.
    images = torch.from_numpy(np.load(PREPARED / "train_images.npy", mmap_mode="c"))
    keep_freed_memory()
    deterministic()
    status, weights = "ok", b""
    try:
        found, weights, chosen = trained(plan, tuple(meta["shape"]), images, seed)
        how = dataclasses.asdict(chosen)
    except Exception as error:
        status, found, how = f"failed: {failure_reason(error)}", {}, {}
        print(f"aebench: train {run} {seed}: {status}", file=sys.stderr)
    with Outs() as outs:
        outs.write(run_path(run, seed, "weights.safetensors"), weights)
        origin = provenance(
            ["torch", "numpy"], seed=seed, threads=torch.get_num_threads(), gpu=gpu_name(), **how
        )
        head = {
            "status": status,
            "plan_hash": file_hash(plan_file),
            "data_hash": meta["data_hash"],
            "weights_hash": hashlib.sha256(weights).hexdigest(),
        }
        outs.write_json(result_path(run, seed, "train.json"), head | found | {"provenance": origin})


def trained(
    plan: dict[str, Any], shape: Shape, images: Tensor, seed: int
) -> tuple[dict[str, Any], bytes, Execution]:
    """What train.json says of the trained model, its weights, and how it was computed."""
    torch.manual_seed(seed)
    autoencoder = build_autoencoder(load_model(plan), shape, plan["build"])
    found = sizes(autoencoder, shape)
    how = execution(autoencoder)
    whole = Stopwatch()
    if hasattr(autoencoder, "fit"):
        how = Execution("cpu", "float32", "contiguous")
        autoencoder.fit(Batches(images))
        curve = []
    else:
        curve = fit_by_gradient(autoencoder, images, seed, plan["train"], how)
        autoencoder.to("cpu")
    used = whole.read()
    found |= times(curve) | {"train_seconds": used.seconds, "train_contended": used.contended}
    if not all(t.isfinite().all() for t in autoencoder.state_dict().values()):
        raise Failure("the trained weights are not finite")
    check_reload(autoencoder, build_autoencoder(load_model(plan), shape, plan["build"]))
    found["note"] = getattr(autoencoder, "note", None)
    return found, weights_bytes(autoencoder, shape), how


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

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __iter__(self) -> Iterator[Tensor]:
        for start in range(0, len(self.images), FIT_BATCH):
            yield as_floats(self.images[start : start + FIT_BATCH])


def fit_by_gradient(
    autoencoder: Autoencoder, images: Tensor, seed: int, recipe: dict[str, Any], how: Execution
) -> list[tuple[float, Usage]]:
    """The training loop. Mean loss and time of each epoch.

    Muon for the matrices, AdamW for the rest; linear warm-up, then linear decay to 0. An epoch is
    every image once in a new random order; the images that do not fill a last batch are left out
    of it, other ones each time. `images` uint8 (N, C, H, W). Failure for a loss that is not finite.
    """
    epochs = recipe["epochs"]
    if epochs == 0:
        return []
    batch_size = min(recipe["batch_size"], len(images))
    steps = len(images) // batch_size
    warm_up = max(1, round(WARM_UP * epochs * steps))
    images = images.to(how.device)  # once: 150 MB for CIFAR-10, and no copy on a CPU
    autoencoder.to(how.device, memory_format=FORMATS[how.layout]).train()
    parameters = [p for p in autoencoder.parameters() if p.requires_grad]
    matrices = [p for p in parameters if p.ndim > 1 and min(p.flatten(1).shape) <= SHORT_SIDE]
    momenta = {p: torch.zeros_like(p) for p in matrices}
    # The count is where the weights are, or the fused step refuses it on a GPU.
    moments = {
        p: (torch.zeros_like(p), torch.zeros_like(p), torch.zeros((), device=p.device))
        for p in parameters
        if p not in momenta
    }
    random = np.random.default_rng(seed)
    curve: list[tuple[float, Usage]] = []
    for epoch in range(1, epochs + 1):
        stopwatch = Stopwatch()
        shuffled = torch.from_numpy(random.permutation(len(images))).to(how.device)
        total = torch.zeros((), device=how.device)
        for step in tqdm(range(steps), f"epoch {epoch}/{epochs}", leave=False, disable=None):
            # uint8 until here: 1/4 of the bytes, and no DataLoader, which takes 10 ms a batch.
            batch = as_floats(images[shuffled[step * batch_size : (step + 1) * batch_size]])
            if recipe["horizontal_flip"] and random.integers(2):
                batch = batch.flip(-1)
            batch = batch.contiguous(memory_format=FORMATS[how.layout])
            with torch.autocast(how.device, torch.bfloat16, how.precision == "bfloat16"):
                loss = reconstruction_loss(autoencoder, batch)
            if loss.ndim:
                raise Failure(f"the loss has shape {tuple(loss.shape)}, expected a scalar")
            loss.backward()
            done = (epoch - 1) * steps + step
            decay = (done - warm_up) / max(1, epochs * steps - warm_up)
            share = min((done + 1) / warm_up, 1 - decay)
            with torch.no_grad():
                for p, momentum in momenta.items():
                    if p.grad is not None:
                        rate = share * recipe["muon_learning_rate"]
                        muon(p, p.grad, momentum, rate, recipe["weight_decay"])
                fused_adamw(moments, share * recipe["learning_rate"], recipe["weight_decay"])
            for p in parameters:
                p.grad = None
            total += loss.detach()  # read once an epoch: a GPU is not waited for at each step
        mean, used = total.item() / steps, stopwatch.read()
        curve.append((mean, used))
        if not math.isfinite(mean):
            raise Failure(f"the loss is {mean} in epoch {epoch}")
        if not sys.stderr.isatty():
            print(f"epoch {epoch}/{epochs}: loss {mean:.5f}, {used.seconds:.1f} s", flush=True)
    return curve


def fused_adamw(
    moments: dict[Tensor, tuple[Tensor, Tensor, Tensor]], rate: float, weight_decay: float
) -> None:
    """One step of AdamW, in place, with the mean, the square and the count of each parameter.

    A parameter that the loss does not reach has no gradient and stays as it is.
    """
    used = [(p, p.grad, *state) for p, state in moments.items() if p.grad is not None]
    if not used:
        return
    weights, gradients, means, squares, counts = map(list, zip(*used, strict=True))
    adamw(
        weights,
        gradients,
        means,
        squares,
        [],
        counts,
        fused=True,
        amsgrad=False,
        beta1=0.9,
        beta2=0.999,
        lr=rate,
        weight_decay=weight_decay,
        eps=1e-8,
        maximize=False,
    )


def muon(p: Tensor, gradient: Tensor, momentum: Tensor, rate: float, weight_decay: float) -> None:
    """One step of Muon, in place: the momentum of `p`, made orthogonal, times the rate.

    Kernels count as matrices (first dimension, the others); a tall one gets larger steps. The first
    dimension of a transposed convolution is its input.
    """
    momentum.lerp_(gradient, 1 - MOMENTUM)
    update = orthogonal(gradient.lerp(momentum, MOMENTUM).flatten(1))
    rows, columns = update.shape
    p.mul_(1 - rate * weight_decay)
    p.add_(update.view_as(p), alpha=-rate * max(1, rows / columns) ** 0.5)


def orthogonal(matrix: Tensor) -> Tensor:
    """float32 (rows, columns) with the same singular vectors, the singular values near 1.

    Five Newton-Schulz steps X <- (a + b XX' + c (XX')^2) X. They are taken on the product of their
    factors and on XX', whose side is the shorter one, and X is multiplied once: as exact, and 5
    times less work for 64 x 576 (a 3 x 3 convolution of 64 channels).
    """
    wide = matrix if len(matrix) <= matrix.shape[1] else matrix.T
    wide = wide / (wide.norm() + 1e-7)
    a, b, c = QUINTIC
    gram = wide @ wide.T
    one = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    product = one
    for _ in range(5):
        factor = torch.addmm(b * gram, gram, gram, alpha=c).add_(one, alpha=a)
        product = factor @ product
        gram = factor @ gram @ factor
    result = product @ wide
    return result if len(matrix) <= matrix.shape[1] else result.T


def times(curve: list[tuple[float, Usage]]) -> dict[str, Any]:
    """epoch_seconds: the median without the first epoch (of one epoch: that one), and the spread.

    The spread is the median absolute deviation from that median; blank for a single epoch.
    """
    usages = [used for _, used in curve]
    timed = usages[1:] or usages
    seconds = [used.seconds for used in timed]
    median = statistics.median(seconds) if seconds else None
    spread = statistics.median(abs(s - median) for s in seconds) if seconds[1:] and median else None
    return {
        "epoch_seconds": median,
        "epoch_seconds_mad": spread,
        "epochs_timed": len(timed),
        "all_epoch_seconds": [used.seconds for used in usages],
        "losses": [loss for loss, _ in curve],
        "timing": facts(timed),
    }
