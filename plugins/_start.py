"""Where a net begins that goes to the code and back by maps that mirror each other."""

import torch
from _convolutions import Residual
from torch import nn


@torch.no_grad()
def mirrored(encoder, decoder):
    """Let the halves begin as a random projection to the code and the transposed one back.

    To be given halves of GELUs and maps of which each in the decoder mirrors one of the encoder.
    Each map becomes random and orthogonal, its mirror the transposed one, kernels but in their
    middle 0. Channels that a GELU follows are pairs of opposite sign, of which the next map takes
    the difference: GELU(x) - GELU(-x) = x. What adds to its input adds nothing yet.
    """
    there, back = ([m for m in half if hasattr(m, "weight")] for half in (encoder, decoder))
    for half in (encoder, decoder):
        for added in [m[0] for m in half if isinstance(m, Residual)]:
            nn.init.zeros_(added.weight), nn.init.zeros_(added.bias)
    for index, (down, up) in enumerate(zip(there, reversed(back), strict=True)):
        matrix = middle(down)
        rows, columns = matrix.shape
        after, before = 1 + (down is not there[-1]), 1 + (index > 0)  # pairs there: 2
        matrix = nn.init.orthogonal_(torch.empty(rows // after, columns // before))
        matrix = torch.cat([matrix, -matrix][:before], 1)
        matrix = torch.cat([matrix, -matrix][:after])
        for layer in (down, up):
            nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)
        middle(down).copy_(matrix)
        middle(up).copy_(matrix if isinstance(up, nn.ConvTranspose2d) else matrix.T)


def middle(layer):
    """The middle of a small kernel, or all of one as large as the map: a matrix, the memory's."""
    weight = layer.weight
    if any(layer.padding):
        return weight[:, :, weight.shape[2] // 2, weight.shape[3] // 2]
    return weight.flatten(1)


class Clip(nn.Module):
    """Normalised pixels back to [0, 1]; beyond, a twentieth of the slope, so that all can learn."""

    def forward(self, images):
        pixels = images / 4 + 0.5
        within = pixels.clamp(0, 1)
        return within + 0.05 * (pixels - within)
