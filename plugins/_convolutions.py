"""The convolutions that combo and cnn share."""

import math

from _normalise import Normalise
from torch import nn
from torch.nn import functional


def convolutions(shape, layers, width):
    """`layers` convolutions of `width` channels towards the code, as many back, for `shape`.

    All see maps of about 8 x 8 pixels, or half as wide as a smaller image: the image's are first
    folded into channels. From the third on they add to what they get, or ten of them would hardly
    train. Returns (down, up, shape of the map between them), two lists of modules.
    """
    colours, *pixels = shape
    fold = 2 ** max(1, round(math.log2(min(pixels) / 8)))
    size = [math.ceil(side / fold) for side in pixels]
    folded = colours * fold**2
    down, up = [Normalise(), Fold(fold)], [Unfold(fold, pixels), nn.Sigmoid()]
    for index in range(layers):
        inner = folded if index == 0 else width
        there, back = (nn.Conv2d(a, b, 3, 1, 1) for a, b in ((inner, width), (width, inner)))
        if index < 2:
            down, up = [*down, there, nn.GELU()], [back, *([nn.GELU()] * (index > 0)), *up]
        else:
            down, up = [*down, Residual(there, nn.GELU())], [Residual(back, nn.GELU()), *up]
    return down, up, (width if layers else folded, *size)


class Fold(nn.Module):
    """(B, C, H, W) -> (B, C * side^2, H / side, W / side); zeros where the side does not divide."""

    def __init__(self, side):
        super().__init__()
        self.side = side

    def forward(self, images):
        bottom, right = (-length % self.side for length in images.shape[2:])
        return functional.pixel_unshuffle(functional.pad(images, (0, right, 0, bottom)), self.side)


class Unfold(nn.Module):
    """Its mirror: back to images of `size`."""

    def __init__(self, side, size):
        super().__init__()
        self.side, self.size = side, size

    def forward(self, maps):
        height, width = self.size
        return functional.pixel_shuffle(maps, self.side)[:, :, :height, :width]


class Residual(nn.Sequential):
    """What the layers make of their input, added to it."""

    def forward(self, maps):
        return maps + super().forward(maps)


class WholeMapConv2d(nn.Conv2d):
    """A convolution whose kernel is as large as its input: (B, C, H, W) -> (B, latent, 1, 1).

    Computed as the matrix product that it is: a training step at latent 1000 takes 0.12 s instead
    of 0.45 s through the convolution (2-core AMD EPYC 7003, batch 128, 64 x 8 x 8).
    """

    def forward(self, images):
        codes = functional.linear(images.flatten(1), self.weight.flatten(1), self.bias)
        return codes[:, :, None, None]


class WholeMapConvTranspose2d(nn.ConvTranspose2d):
    """Its mirror: (B, latent, 1, 1) -> (B, C, H, W)."""

    def forward(self, codes):
        maps = codes.flatten(1) @ self.weight.flatten(1)
        return maps.unflatten(1, self.weight.shape[1:]) + self.bias[:, None, None]
