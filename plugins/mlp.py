"""MLP only: linear layers, their widths falling from 512 to 128 towards the code."""

import numpy as np
from _normalise import Normalise
from torch import nn

from aebench import hookimpl


def build(shape, latent, depth):
    pixels = int(np.prod(shape))
    hidden = np.geomspace(max(512, latent), max(128, latent), depth - 1).round().astype(int)
    widths = [pixels, *hidden.tolist(), latent]
    encoder, decoder = linear(widths), linear(widths[::-1])
    return (
        nn.Sequential(Normalise(), nn.Flatten(), *encoder),
        nn.Sequential(*decoder, nn.Sigmoid(), nn.Unflatten(1, shape)),
    )


def linear(widths):
    layers = [nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False)]
    return [part for layer in layers for part in (layer, nn.GELU())][:-1]


@hookimpl
def register_models(register):
    register("mlp", build)
