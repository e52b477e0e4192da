"""MLP only: linear layers, their widths falling from 1,024 to 256 towards the code.

They treat an image and its mirror image alike: see _mirror.py.
"""

import math

import numpy as np
from _mirror import Halve, Join, Part, Restore, layers
from _normalise import Normalise
from torch import nn

from aebench import hookimpl


def build(shape, latent, depth):
    channels, height, width = shape
    pixels = (channels * height * (width - width // 2), channels * height * (width // 2))
    hidden = np.geomspace(max(1024, latent), max(256, latent), depth - 1) / 2
    even = math.ceil(latent * 5 / 8)  # what differs between left and right varies less
    widths = [pixels, *((n, n) for n in hidden.round().astype(int).tolist())]
    widths.append((even, latent - even))
    encoder = nn.Sequential(Normalise(), Part(), *layers(widths), Join())
    decoder = (Halve(even), *layers(widths[::-1]), Restore(shape), nn.Sigmoid())
    return encoder, nn.Sequential(*decoder)


@hookimpl
def register_models(register):
    register("mlp", build)
