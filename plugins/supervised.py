"""An encoder alone that is told the labels: how much of them a code of this size could keep.

J. Goldberger, S. Roweis, G. Hinton, R. Salakhutdinov, "Neighbourhood Components Analysis", NeurIPS
2004; with a network as in R. Salakhutdinov, G. Hinton, "Learning a Nonlinear Embedding by
Preserving Class Neighbourhood Structure", AISTATS 2007.
"""

import torch
from _halves import halves
from torch import nn

from aebench import hookimpl


class Supervised(nn.Module):
    decoder = None
    couples_batch = True

    def __init__(self, shape, latent, depth):
        super().__init__()
        self.encoder, _ = halves(shape, latent, depth)

    def loss(self, images, labels):
        codes = self.encoder(images).float()
        itself = torch.eye(len(codes), dtype=torch.bool, device=codes.device)
        nearness = -torch.cdist(codes, codes).square().masked_fill(itself, 1e9)
        # Each image asks one other, the nearer the likelier: how likely is it of the same class?
        alike = (labels[:, None] == labels) & ~itself
        right = (nearness.softmax(1) * alike).sum(1)
        return {"loss": -right.clamp_min(1e-6).log().mean(), "right": right.mean()}


@hookimpl
def register_models(register):
    register("supervised", Supervised)
