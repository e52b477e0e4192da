"""How far what a half gives may move with the batch that it is computed in."""

import torch
from torch import Tensor

LOOKED_AT = 64  # images
# How far an output may move with its batch, as float32 rounds otherwise: by this part of its
# dimension's deviation over the images (2e-5 were seen: pca, cnn, vae, 12 attention layers); and
# where that is next to nothing, in an mlp of 40 layers, by this part of the numbers' size (1.3e-6
# were seen).
TOLERANCE = 1e-3
ROUNDING = 1e-5
EXEMPT = 0.01  # of the images, rounded up: rounding may flip a discrete code


def spread(count: int) -> Tensor:
    """Rows to look at of so many, from the first to the last: int64."""
    return torch.linspace(0, count - 1, min(count, LOOKED_AT)).long()


def tolerance(found: Tensor) -> Tensor:
    """How far each dimension of float32 (n, ...) may move with the batch: float32 (...)."""
    rows = found.nan_to_num(0, 0, 0).double()
    deviation = rows.std(0, correction=0)
    # What was added up may be larger than its sum: the others tell how large. The median, as one
    # huge dimension is to excuse no other.
    sizes = rows.abs().amax(0)
    typical = torch.maximum(sizes.median(), deviation.max())
    return torch.maximum(TOLERANCE * deviation, ROUNDING * sizes.maximum(typical)).float()
