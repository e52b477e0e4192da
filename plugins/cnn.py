"""CNN only: the code itself comes out of a convolution as large as the map it sees."""

from _convolutions import pyramid
from torch import nn

from aebench import hookimpl


def build(shape, latent, depth):
    down, up, (channels, height, width) = pyramid(shape, depth - 1)
    to_code = nn.Conv2d(channels, latent, (height, width))
    from_code = nn.ConvTranspose2d(latent, channels, (height, width))
    encoder = nn.Sequential(*down, to_code, nn.Flatten())
    between = [nn.BatchNorm2d(channels), nn.GELU()] if depth > 1 else []
    decoder = nn.Sequential(nn.Unflatten(1, (latent, 1, 1)), from_code, *between, *up)
    return encoder, decoder


@hookimpl
def register_models(register):
    register("cnn", build)
