"""Wasserstein autoencoder: the codes of a batch, together, are drawn to a normal distribution.

I. Tolstikhin, O. Bousquet, S. Gelly, B. Schoelkopf, "Wasserstein Auto-Encoders", 2017,
arXiv:1711.01558 (WAE-MMD with its sum of inverse multiquadratic kernels).
"""

import torch
from _halves import halves
from torch import nn
from torch.nn import functional

from aebench import hookimpl


class WAE(nn.Module):
    couples_batch = True

    def __init__(self, shape, latent, depth, penalty=0.01):
        super().__init__()
        self.encoder, self.decoder = halves(shape, latent, depth)
        self.penalty = penalty

    def loss(self, images):
        codes = self.encoder(images).float()
        error = functional.mse_loss(self.decoder(codes), images)
        distance = discrepancy(codes, torch.randn_like(codes))
        return {"loss": error + self.penalty * distance, "error": error, "mmd": distance}


def discrepancy(one, other):
    """Squared maximum mean discrepancy of two samples (n, d): 0 on average where they agree."""
    return mean_kernel(one) + mean_kernel(other) - 2 * kernel(one, other).mean()


def mean_kernel(rows):
    """Of different rows: with the diagonal, whose value is 7, samples would look too alike."""
    count = len(rows)
    return (kernel(rows, rows).sum() - 7 * count) / (count * max(1, count - 1))


def kernel(one, other):
    squares = torch.cdist(one, other).square() / (2 * one.shape[1])
    return sum(scale / (scale + squares) for scale in (0.1, 0.2, 0.5, 1, 2, 5, 10))


@hookimpl
def register_models(register):
    register("wae", WAE)
