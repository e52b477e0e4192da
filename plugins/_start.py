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
    the difference: GELU(x) - GELU(-x) = x. What adds to its input adds nothing yet, nor do channels
    beyond those of a map's own kernels.
    """
    there, back = ([m for m in half if hasattr(m, "weight")] for half in (encoder, decoder))
    for half in (encoder, decoder):
        for added in [m[0] for m in half if isinstance(m, Residual)]:
            nn.init.zeros_(added.weight), nn.init.zeros_(added.bias)
    for index, (down, up) in enumerate(zip(there, reversed(back), strict=True)):
        rows, inner, pixels = len(down.weight), down.weight.shape[1], kernel(down).shape[2]
        known = len(there[index - 1].weight) if index else inner  # further channels: not yet
        after, before = 1 + (down is not there[-1]), 1 + (index > 0)  # pairs there: 2
        matrix = nn.init.orthogonal_(torch.empty(rows // after, known * pixels // before))
        matrix = matrix.unflatten(1, (-1, pixels))
        matrix = torch.cat([matrix, -matrix][:before], 1)
        matrix = torch.cat([matrix, -matrix][:after])
        for layer in (down, up):
            nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)
        kernel(down)[:, :known].copy_(matrix)
        if isinstance(up, nn.ConvTranspose2d):
            kernel(up)[:, :known].copy_(matrix)
        else:
            kernel(up).copy_(matrix.transpose(0, 1))


def kernel(layer):
    """Of its weight the middle pixel, or all pixels where it is as large as the map: (O, I, P)."""
    weight = layer.weight
    if any(layer.padding):
        return weight[:, :, weight.shape[2] // 2, weight.shape[3] // 2, None]
    return weight.flatten(2)


class Clip(nn.Module):
    """Normalised pixels back to [0, 1]; beyond, a twentieth of the slope, so that all can learn."""

    def forward(self, images):
        pixels = images / 4 + 0.5
        within = pixels.clamp(0, 1)
        return within + 0.05 * (pixels - within)
