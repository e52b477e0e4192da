"""PCA, the linear optimum: fitted in closed form from the covariance of the pixels."""

import math

import torch
from torch import nn

from aebench import hookimpl


class PCA(nn.Module):
    baseline = "pca"

    def __init__(self, shape, latent):
        super().__init__()
        pixels = math.prod(shape)
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(pixels, latent))
        self.decoder = nn.Sequential(nn.Linear(latent, pixels), nn.Unflatten(1, shape))

    def fit(self, batches):
        count, total, products = 0, 0.0, 0.0
        for images in batches:
            rows = images.flatten(1).double()
            count, total = count + len(rows), total + rows.sum(0)
            products = products + rows.T @ rows
        mean = total / count
        variances, directions = torch.linalg.eigh(products / count - mean.outer(mean))
        rank = int((variances > 1e-12 * variances[-1]).sum())  # rounding of float64
        encode, decode = self.encoder[1], self.decoder[0]
        used = min(rank, encode.out_features)
        axes = torch.zeros(encode.weight.shape, dtype=torch.float64)
        axes[:used] = directions.T.flip(0)[:used]  # the largest first; zeros above the rank
        state = {"weight": axes, "bias": -axes @ mean}, {"weight": axes.T, "bias": mean}
        encode.load_state_dict(state[0])
        decode.load_state_dict(state[1])
        if rank < encode.out_features:
            self.note = f"the data has rank {rank}: the other codes are 0"


@hookimpl
def register_models(register):
    register("pca", PCA)
