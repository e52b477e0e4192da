"""CNN only: the code itself comes out of a convolution as large as the map it sees."""

from _convolutions import WholeMapConv2d, WholeMapConvTranspose2d, convolutions
from _start import Clip, mirrored
from _whole_map import FAR, SeeFar, ShowFar
from torch import nn

from aebench import hookimpl

WIDTH = 64


def build(shape, latent, depth):
    down, up, (channels, *size) = convolutions(shape, max(0, depth - 2), WIDTH)
    # A sigmoid bends what is nearly linear: depth 1 ended above PCA's error with it.
    up[-1] = Clip()
    if depth > 1:
        back = [ShowFar(WIDTH, channels, size), *([nn.GELU()] if depth > 2 else [])]
        down, up = [*down, SeeFar(channels, WIDTH, size), nn.GELU()], [nn.GELU(), *back, *up]
        channels = WIDTH + FAR
    encoder = nn.Sequential(*down, WholeMapConv2d(channels, latent, size), nn.Flatten())
    to_map = WholeMapConvTranspose2d(latent, channels, size)
    decoder = nn.Sequential(nn.Unflatten(1, (latent, 1, 1)), to_map, *up)
    mirrored(encoder, decoder)
    return encoder, decoder


@hookimpl
def register_models(register):
    register("cnn", build)
