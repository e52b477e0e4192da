"""Try an architecture and a recipe on a validation split of the training images.

    python benchmarks/tuning.py cnn                          # params.yaml's recipe, latent, depth
    python benchmarks/tuning.py cnn latent=10 epochs=5 learning_rate=0.001 beta=4

In a workspace with prepared images (`dvc repro prepare`). Any registered model, so a candidate is a
file in plugins/; keys of `train:` go to the recipe, the others to the model. Every tenth training
image is held out, the others train; the figures are the report's, on those held out. The test
images are not read: no test file is opened here. What was tried is in tuning.md.
"""

import sys
import time

import numpy as np
import torch
from ruamel.yaml import YAML

from aebench.evaluation.search import search
from aebench.evaluation.vote import vote
from aebench.models.autoencoder import as_floats, build_autoencoder
from aebench.models.execution import execution
from aebench.models.process import keep_freed_memory
from aebench.models.training import fit_by_gradient
from aebench.plugins import load_plugins
from aebench.schema import Recipe
from aebench.workspace import Workspace

EVERY = 10  # images are ordered by class: the split keeps the classes' shares


def main() -> None:
    name, *settings = sys.argv[1:] or sys.exit(__doc__)
    with open("params.yaml") as file:
        params = YAML(typ="safe").load(file)
    here = Workspace()
    model = load_plugins(here).models[name]
    recipe = params["train"]
    arguments = {k: params[k] for k in ("latent", "depth") if k in model.arguments}
    for setting in settings:
        key, value = setting.split("=")
        (recipe if key in recipe else arguments)[key] = YAML(typ="safe").load(value)
    images = np.load(here.prepared / "train_images.npy")
    labels = np.load(here.prepared / "train_labels.npy")
    held_out = np.arange(len(images)) % EVERY == EVERY - 1
    bank, queries = (torch.from_numpy(images[rows]) for rows in (~held_out, held_out))
    keep_freed_memory()
    torch.manual_seed(0)
    autoencoder = build_autoencoder(model, tuple(images.shape[1:]), arguments)
    how = execution(autoencoder)
    start = time.perf_counter()
    if hasattr(autoencoder, "fit"):
        autoencoder.fit([as_floats(part) for part in bank.split(1000)])
    else:
        fit_by_gradient(autoencoder, bank, 0, Recipe(**recipe), how)
    seconds = time.perf_counter() - start
    with torch.inference_mode():
        autoencoder.eval().to("cpu")
        codes = [
            torch.cat([autoencoder.encoder(as_floats(part)) for part in split.split(500)])
            for split in (bank, queries)
        ]
        errors = [
            (autoencoder.decoder(part).clamp(0, 1) - as_floats(truth)).square().mean((1, 2, 3))
            for part, truth in zip(codes[1].split(500), queries.split(500), strict=True)
        ]
    neighbours = search(codes[0].numpy(), codes[1].numpy(), 10, "faiss")
    accuracy = np.mean(vote(labels[~held_out][neighbours]) == labels[held_out])
    print(
        f"{' '.join(sys.argv[1:])}: MSE {torch.cat(errors).mean():.5f}, "
        f"accuracy {accuracy:.2%}, {seconds:.0f} s ({how.precision})"
    )


if __name__ == "__main__":
    main()
