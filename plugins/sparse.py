"""k-sparse autoencoder: the largest floats of a code are kept, the others are 0.

A. Makhzani, B. Frey, "k-Sparse Autoencoders", 2013, arXiv:1312.5663.
"""

import torch
from _halves import halves
from torch import nn

from aebench import Refused, hookimpl


class Largest(nn.Module):
    def __init__(self, count):
        super().__init__()
        self.count = count

    def forward(self, codes):
        values, places = codes.topk(self.count, 1)
        return torch.zeros_like(codes).scatter(1, places, values)


def build(shape, latent, depth, kept=0.25):
    if not 0 < kept <= 1:
        raise Refused(f"kept is {kept}: the share of a code's floats, above 0 and at most 1")
    encoder, decoder = halves(shape, latent, depth)
    return encoder.append(Largest(max(1, round(kept * latent)))), decoder


@hookimpl
def register_models(register):
    register("sparse", build)
