"""Masked autoencoder: a vision transformer that is shown some patches, and asked for the others.

K. He, X. Chen, S. Xie, Y. Li, P. Dollar, R. Girshick, "Masked Autoencoders Are Scalable Vision
Learners", 2021, arXiv:2111.06377. Other than there, what decodes sees the code and not the tokens:
so the code is all that is known of an image, and its MSE, of whole images, says what it keeps.
"""

import math

import torch
from _transformer import HEADS, Block, Encoder, Images
from torch import nn

from aebench import Refused, hookimpl


class Masked(nn.Module):
    def __init__(self, shape, latent, depth, hidden=0.5, width=64):
        super().__init__()
        if not 0 < hidden < 1 or width < 1 or width % HEADS:
            raise Refused(f"masked needs hidden above 0 and below 1, and width in steps of {HEADS}")
        colours, *size = shape
        self.side = max(2, min(size) // 8)
        self.rows, columns = (math.ceil(pixels / self.side) for pixels in size)
        count, patch = self.rows * columns, colours * self.side**2
        self.hidden = max(1, int(hidden * count))
        self.encoder = Encoder(self.side, patch, count, latent, depth, width)
        self.decoder = nn.Sequential(
            *(nn.Linear(latent, count * width), nn.Unflatten(1, (count, width))),
            *[Block(width) for _ in range(depth)],
            *(nn.LayerNorm(width), nn.Linear(width, patch), Images(self.side, size, self.rows)),
        )

    def loss(self, images):
        count = len(self.encoder.place)
        order = torch.rand(len(images), count, device=images.device).argsort(1)
        hidden, visible = order.split([self.hidden, count - self.hidden], 1)
        asked = torch.zeros(order.shape, device=images.device).scatter(1, hidden, 1.0)
        asked = asked.unflatten(1, (1, self.rows, -1))
        for axis, pixels in ((2, images.shape[2]), (3, images.shape[3])):
            asked = asked.repeat_interleave(self.side, axis).narrow(axis, 0, pixels)
        error = (self.decoder(self.encoder(images, visible)).float() - images).square()
        return (error * asked).sum() / (asked.sum() * images.shape[1])


@hookimpl
def register_models(register):
    register("masked", Masked)
