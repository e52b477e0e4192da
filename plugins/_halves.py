"""The net that the zoo shares: combo's. Rows differ by what trains it, not by the net."""

import math

from _convolutions import convolutions
from torch import nn


def halves(shape, latent, depth):
    """(encoder, decoder) of `depth` layers each, whose linear ones are next to the code.

    From depth 2 on they are combo's, number by number; those of depth 1 are linear up to a sigmoid.
    """
    down, up, inner = convolutions(shape, depth - 1, width=40)
    encoder = nn.Sequential(*down, nn.Flatten(), nn.Linear(math.prod(inner), latent))
    bend = [nn.GELU()] * (depth > 1)
    decoder = nn.Sequential(nn.Linear(latent, math.prod(inner)), *bend, nn.Unflatten(1, inner), *up)
    return encoder, decoder


def linear_halves(shape, latent):
    """(encoder, decoder), a matrix each."""
    pixels = math.prod(shape)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(pixels, latent))
    return encoder, nn.Sequential(nn.Linear(latent, pixels), nn.Unflatten(1, shape))
