"""Discrete cosine transform, also across colours: the coefficients that vary most are the code.

N. Ahmed, T. Natarajan, K. R. Rao, "Discrete Cosine Transform", IEEE Trans. Computers, 1974.
"""

import math

import torch
from _halves import linear_halves
from torch import nn

from aebench import hookimpl


class DCT(nn.Module):
    seedless = True

    def __init__(self, shape, latent):
        super().__init__()
        self.encoder, self.decoder = linear_halves(shape, latent)
        self.shape = shape

    def fit(self, batches):
        """Which coefficients vary most is all that it learns, and the mean of the others."""
        axes = [waves(side) for side in self.shape]
        mean = sum(images.double().sum(0) for images in batches) / sum(map(len, batches))
        squares = sum(
            torch.einsum("nchw,ic,jh,kw->nijk", images - mean, *axes).square().sum(0)
            for images in batches
        )
        encode, decode = self.encoder[1], self.decoder[0]
        used = squares.flatten().argsort(descending=True, stable=True)[: encode.out_features]
        of_each = [a[i] for a, i in zip(axes, torch.unravel_index(used, self.shape), strict=True)]
        rows = torch.zeros_like(encode.weight, dtype=torch.float64)
        rows[: len(used)] = torch.einsum("nc,nh,nw->nchw", *of_each).flatten(1)
        mean = mean.flatten()
        encode.load_state_dict({"weight": rows, "bias": torch.zeros(len(rows))})
        decode.load_state_dict({"weight": rows.T, "bias": mean - rows.T @ (rows @ mean)})


def waves(side):
    """The orthonormal DCT-II of `side` values, a matrix whose rows are its waves, float64."""
    places = torch.arange(side, dtype=torch.float64)
    rows = torch.cos(math.pi / side * places[:, None] * (places + 0.5))
    rows[0] /= math.sqrt(2)
    return rows * math.sqrt(2 / side)


@hookimpl
def register_models(register):
    register("dct", DCT)
