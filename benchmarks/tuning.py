"""Try an architecture and a recipe on held-out training images.

    python benchmarks/tuning.py cnn                          # params.yaml's recipe, latent, depth
    python benchmarks/tuning.py cnn latent=10 epochs=5 learning_rate=0.001 beta=4

In a workspace whose prepared images are of a holdout (`dvc exp run -S holdout=0.1 prepare`). Any
registered model, so a candidate is a file in plugins/; keys of `train:` go to the recipe, others to
the model. The figures are the report's, on the images held out. What was tried is in tuning.md.
"""

import sys

import numpy as np
import torch
from ruamel.yaml import YAML

from aebench.errors import AebenchError
from aebench.evaluation.search import search
from aebench.evaluation.vote import vote
from aebench.models.autoencoder import as_floats, build_autoencoder
from aebench.models.finish import reloaded
from aebench.models.process import keep_freed_memory
from aebench.models.training import trained
from aebench.plugins import load_plugins
from aebench.records.prepare import DataRecord
from aebench.schema import Recipe
from aebench.workspace import Workspace

SPLITS = ("train", "test")


def main() -> None:
    name, *settings = sys.argv[1:] or sys.exit(__doc__)
    with open("params.yaml") as file:
        params = YAML(typ="safe").load(file)
    here = Workspace()
    images, labels = prepared(here)
    model = load_plugins(here).models[name]
    recipe = params["train"]
    arguments = {k: params[k] for k in ("latent", "depth") if k in model.arguments}
    for setting in settings:
        key, value = setting.split("=")
        (recipe if key in recipe else arguments)[key] = YAML(typ="safe").load(value)
    bank, queries = (torch.from_numpy(images[split]) for split in SPLITS)
    shape = tuple(images["train"].shape[1:])
    keep_freed_memory()
    told = torch.from_numpy(labels["train"])
    found = trained(model, shape, arguments, bank, told, 0, Recipe(**recipe))
    autoencoder = reloaded(build_autoencoder(model, shape, arguments), found.weights)
    decoder = autoencoder.decoder
    assert decoder, f"{name} has no decoder"
    with torch.inference_mode():
        codes = [
            torch.cat([autoencoder.encoder(as_floats(part)) for part in split.split(500)])
            for split in (bank, queries)
        ]
        errors = [
            (decoder(part).clamp(0, 1) - as_floats(truth)).square().mean((1, 2, 3))
            for part, truth in zip(codes[1].split(500), queries.split(500), strict=True)
        ]
    neighbours = search(codes[0].numpy(), codes[1].numpy(), 10, "faiss")
    accuracy = np.mean(vote(labels["train"][neighbours]) == labels["test"])
    print(
        f"{' '.join(sys.argv[1:])}: MSE {torch.cat(errors).mean():.5f}, "
        f"accuracy {accuracy:.2%}, {found.used.seconds:.0f} s ({found.how.precision})"
    )


def prepared(here: Workspace) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Images and labels of each split; `test` are those held out. Ends where none are."""
    try:
        data = DataRecord.read(here.data_record, "dvc exp run -S holdout=0.1 prepare")
    except AebenchError as error:
        sys.exit(str(error))
    if not data.holdout:
        sys.exit(
            "the prepared images are of the test set, on which nothing is tuned; hold out training "
            "images: dvc exp run -S holdout=0.1 prepare"
        )
    images, labels = (
        {split: np.load(here.prepared / f"{split}_{what}.npy") for split in SPLITS}
        for what in ("images", "labels")
    )
    return images, labels


if __name__ == "__main__":
    main()
