"""The input scale that the built-in networks share."""

from torch import nn


class Normalise(nn.Module):
    """Pixels in [0, 1] to about mean 0 and deviation 1 (natural images: 0.47 and 0.25)."""

    def forward(self, images):
        return images * 4 - 2
