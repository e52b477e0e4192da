"""Convolutions and one linear layer to the code."""

import math

from _convolutions import convolutions
from torch import nn

from aebench import Refused, hookimpl


def build(shape, latent, depth):
    if depth == 1:
        raise Refused("combo needs depth >= 2: a convolution and the linear layer")
    down, up, inner = convolutions(shape, depth - 1, width=40)
    encoder = nn.Sequential(*down, nn.Flatten(), nn.Linear(math.prod(inner), latent))
    decoder = nn.Sequential(
        nn.Linear(latent, math.prod(inner)), nn.GELU(), nn.Unflatten(1, inner), *up
    )
    return encoder, decoder


@hookimpl
def register_models(register):
    register("combo", build)
