"""The convolutions that combo and cnn share: a pyramid down, and its mirror up."""

import math

from torch import nn


def pyramid(shape, layers):
    """`layers` convolutions down and as many transposed ones up, for images of `shape`.

    Each of the first ones halves the image while it stays 4 pixels or more; the others keep its
    size. Returns (down, up, shape of the map between them), two lists of modules.
    """
    channels, height, width = shape
    halvings = min(layers, int(math.log2(min(height, width) / 4)))
    down, up = [], []
    for index in range(layers):
        wider = 32 * 2 ** min(index, 1)
        if index < halvings:
            odd = (height % 2, width % 2)  # a halved odd side needs its last row back
            down += [nn.Conv2d(channels, wider, 4, 2, 1)]
            back = nn.ConvTranspose2d(wider, channels, 4, 2, 1, output_padding=odd)
            height, width = height // 2, width // 2
        else:
            down += [nn.Conv2d(channels, wider, 3, 1, 1)]
            back = nn.ConvTranspose2d(wider, channels, 3, 1, 1)
        down += [nn.BatchNorm2d(wider), nn.GELU()]
        up = [back, nn.BatchNorm2d(channels), nn.GELU(), *up]
        channels = wider
    return down, [*up[:-2], nn.Sigmoid()], (channels, height, width)
