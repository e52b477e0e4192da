"""PCA, the linear optimum: fitted in closed form."""

import math

import torch
from torch import nn

from aebench import hookimpl


class PCA(nn.Module):
    baseline = "pca"
    seedless = True

    def __init__(self, shape, latent):
        super().__init__()
        pixels = math.prod(shape)
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(pixels, latent))
        self.decoder = nn.Sequential(nn.Linear(latent, pixels), nn.Unflatten(1, shape))

    def fit(self, batches):
        encode, decode = self.encoder[1], self.decoder[0]
        count = sum(len(images) for images in batches)
        if count < encode.in_features:
            mean, variances, directions = from_products(batches, count, encode.out_features)
        else:
            mean, variances, directions = from_covariance(batches)
        rank = int((variances > 1e-12 * variances[-1]).sum())  # rounding of float64
        used = min(rank, encode.out_features)
        axes = torch.zeros(encode.weight.shape, dtype=torch.float64)
        axes[:used] = directions.T.flip(0)[:used]  # the largest first; zeros above the rank
        state = {"weight": axes, "bias": -axes @ mean}, {"weight": axes.T, "bias": mean}
        encode.load_state_dict(state[0])
        decode.load_state_dict(state[1])
        if rank < encode.out_features:
            self.note = f"the data has rank {rank}: the other codes are 0"


def from_covariance(batches):
    """The mean (d,), all variances, the smallest first, and their directions (d, d), float64."""
    count, total, products = 0, 0.0, 0.0
    for images in batches:
        rows = images.flatten(1).double()
        count, total = count + len(rows), total + rows.sum(0)
        products = products + rows.T @ rows
    mean = total / count
    return mean, *torch.linalg.eigh(products / count - mean.outer(mean))


def from_products(batches, count, latent):
    """The same of the `latent` largest, from the images' products (count, count): more pixels."""
    from scipy.linalg import eigh  # 0.1 s to import

    mean = sum(images.flatten(1).sum(0, dtype=torch.float64) for images in batches) / count
    products = torch.zeros(count, count, dtype=torch.float64)
    i = 0
    for images in batches:
        j = 0
        for others in batches:
            block = products[i : i + len(images), j : j + len(others)]
            for left, right, middle in in_columns(images, others, mean):
                block += (left - middle) @ (right - middle).T
            j += len(others)
            if j > i:  # the upper triangle is not read
                break
        i += len(images)
    largest = [max(0, count - latent), count - 1]
    # The transpose is in the order of Fortran: it needs no copy.
    variances, vectors = eigh(
        products.numpy().T, lower=False, subset_by_index=largest, overwrite_a=True
    )
    variances, vectors = map(torch.from_numpy, (variances / count, vectors))
    directions = torch.zeros(len(mean), len(variances), dtype=torch.float64)
    i = 0
    for images in batches:
        weights = vectors[i : i + len(images)]
        for left, block, middle in in_columns(images, directions.T, mean):
            block += weights.T @ (left - middle)
        i += len(images)
    return mean, variances, torch.linalg.qr(directions.flip(1))[0].flip(1)


def in_columns(one, other, mean, step=4096):
    """Blocks of columns of the rows of both, float64, and of the mean."""
    parts = (one.flatten(1).split(step, 1), other.flatten(1).split(step, 1), mean.split(step))
    return ((a.double(), b.double(), c) for a, b, c in zip(*parts, strict=True))


@hookimpl
def register_models(register):
    register("pca", PCA)
