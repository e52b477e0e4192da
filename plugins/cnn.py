"""CNN only: the code itself comes out of a convolution as large as the map it sees."""

from _convolutions import WholeMapConv2d, WholeMapConvTranspose2d, convolutions
from _start import Clip, mirrored
from torch import nn

from aebench import hookimpl


def build(shape, latent, depth):
    down, up, (channels, *size) = convolutions(shape, depth - 1, width=64)
    encoder = nn.Sequential(*down, WholeMapConv2d(channels, latent, size), nn.Flatten())
    decoder = nn.Sequential(
        nn.Unflatten(1, (latent, 1, 1)),
        WholeMapConvTranspose2d(latent, channels, size),
        *([nn.GELU()] if depth > 1 else []),
        *up[:-1],
        Clip(),  # a sigmoid bends what is nearly linear: depth 1 ended above PCA's error with it
    )
    mirrored(encoder, decoder)
    return encoder, decoder


@hookimpl
def register_models(register):
    register("cnn", build)
