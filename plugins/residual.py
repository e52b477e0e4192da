"""Residual network: convolutions with batch normalisation, whose input is added to what they make.

K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", 2015,
arXiv:1512.03385; S. Ioffe, C. Szegedy, "Batch Normalization", 2015, arXiv:1502.03167.
"""

import math

from _convolutions import Residual, convolutions
from torch import nn

from aebench import Refused, hookimpl

WIDTH = 40


def build(shape, latent, depth):
    if depth == 1:
        raise Refused("residual needs depth >= 2: a convolution and the linear layer")
    (*before, first, _), (last, *after), inner = convolutions(shape, 1, WIDTH)
    linear = nn.Linear(math.prod(inner), latent), nn.Linear(latent, math.prod(inner))
    down, up = ([block() for _ in range(depth - 2)] for _ in range(2))
    encoder = nn.Sequential(*before, first, *down, *bend(), nn.Flatten(), linear[0])
    decoder = nn.Sequential(linear[1], nn.Unflatten(1, inner), *up, *bend(), last, *after)
    return encoder, decoder


def block():
    return Residual(*bend(), nn.Conv2d(WIDTH, WIDTH, 3, 1, 1))


def bend():
    return nn.BatchNorm2d(WIDTH), nn.GELU()


@hookimpl
def register_models(register):
    register("residual", build)
