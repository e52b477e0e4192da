"""What Python programs use of a workspace."""

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from aebench.errors import AebenchError, nearest
from aebench.folders import SUFFIXES, Walk, check
from aebench.images import read_each
from aebench.inputs import FIX, Inputs
from aebench.plugins import EXECUTED, load_model
from aebench.records.plan import TrainPlan
from aebench.records.train import TrainRecord
from aebench.workspace import Workspace

if TYPE_CHECKING:
    from torch import Tensor

    from aebench.models.autoencoder import Autoencoder


def load(run: str, seed: int = 0, workspace: str | Path = ".") -> "Autoencoder":
    """The trained autoencoder of a run, for your own images.

    An `nn.Module` in eval mode, without gradients, with `.encoder`: float32 (B, C, H, W) in [0, 1]
    -> codes (B, latent), `.decoder` back (None of an encoder alone), and `.shape` (C, H, W).
    `workspace`: its folder, after `dvc repro`. AebenchError for an unknown, failed or outdated run.
    """
    from aebench.models.weights import read_weights, restore

    found = Workspace(Path(workspace))
    plan_file = found.plan_path(run, "train")
    if not os.path.lexists(plan_file):
        known = sorted(path.parent.name for path in found.plan.glob("*/train.json"))
        raise AebenchError(
            f"unknown run {run!r}{nearest(run, known)}: there is no {plan_file}; "
            f"runs: {', '.join(known) or 'none'}; after a new one: `dvc repro` in the workspace"
        )
    plan, plan_hash = TrainPlan.read_with_hash(plan_file, "aebench plan")
    record = found.result_path(run, seed, "train.json")
    if not os.path.lexists(record):
        seeds = sorted(path.parent.name for path in found.results.glob(f"{run}/*/train.json"))
        have = f"seeds: {', '.join(seeds)}; " if seeds else ""
        raise AebenchError(f"run {run!r} has no result of seed {seed}; {have}{FIX}")
    result = TrainRecord.read(record, "dvc repro")
    if not result.is_of(plan_hash):
        raise AebenchError(f"run {run!r} was trained with other settings; run `dvc repro`")
    if result.status != "ok":
        that = "; load that seed" if result.is_elsewhere else ""
        raise AebenchError(f"run {run!r}, seed {seed}: {result.status}{that}")
    weights, inputs = found.run_path(run, seed, "weights.safetensors"), Inputs()
    inputs.check(weights, result.weights_hash, FIX)
    EXECUTED.clear()  # in a notebook: of what was loaded before
    model = load_model(found, plan.plugin, plan.model)
    if model.plugin.fingerprint() != plan.fingerprints.plugin or model.plugin.changed():
        raise AebenchError(f"{plan.plugin}: other code than run {run!r} was trained with; {FIX}")
    stored = read_weights(weights)
    inputs.check_unchanged()
    autoencoder = restore(model, plan.build, stored)
    autoencoder.shape = stored.shape
    return autoencoder


def read_images(folder: str | Path, shape: tuple[int, int, int]) -> "tuple[Tensor, list[Path]]":
    """Every image below `folder`, made to fit a model: float32 (N, C, H, W) in [0, 1], and paths.

    `shape` is `model.shape` of a loaded model; images are scaled and centre-cropped to it, and made
    8 bits by the rules of `aebench.images`, as those of a data set: transparency laid over white,
    16-bit grey by the bits that the largest value in the folder takes. Links are followed, hidden
    files left out. AebenchError for a folder without images, and for what is no whole image.
    """
    import numpy as np
    import torch

    if not Path(folder).is_dir():
        raise AebenchError(f"{folder}: no such folder")
    walk = Walk(folder)
    paths = walk.images(os.fspath(folder))
    check(sorted(walk.faults))
    if not paths:
        raise AebenchError(f"{folder}: no image in it; allowed: {', '.join(SUFFIXES)}")
    channels, height, width = shape
    images = np.empty((len(paths), *shape), np.uint8)

    def put(place: int, image: np.ndarray) -> None:
        if image.shape != tuple(shape):
            raise AebenchError(f"{paths[place]}: got {image.shape}; the model takes {tuple(shape)}")
        images[place] = image

    for rule in read_each(paths, height if height == width else None, channels, put):
        # A data set of other bits has other values for the same file.
        warnings.warn(f"{folder}: {rule}", stacklevel=2)
    return torch.from_numpy(images).float().div_(255), [Path(path) for path in paths]
