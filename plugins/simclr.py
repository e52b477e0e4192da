"""SimCLR: an encoder alone; two views of an image get alike codes, those of other images differ.

T. Chen, S. Kornblith, M. Norouzi, G. Hinton, "A Simple Framework for Contrastive Learning of Visual
Representations", 2020, arXiv:2002.05709.
"""

import torch
from _halves import halves
from _views import view
from torch import nn
from torch.nn import functional

from aebench import hookimpl


class SimCLR(nn.Module):
    decoder = None
    couples_batch = True

    def __init__(self, shape, latent, depth, temperature=0.2):
        super().__init__()
        self.encoder, _ = halves(shape, latent, depth)
        self.head = nn.Sequential(nn.GELU(), nn.Linear(latent, 64))
        self.temperature = temperature

    def loss(self, images):
        one, other = (self.head(self.encoder(view(images))) for _ in range(2))
        return contrast(one, other, self.temperature)


def contrast(one, other, temperature):
    """How badly each row (n, d) is told to be the other's of that number, among all others."""
    rows = functional.normalize(torch.cat([one, other]).float())
    with torch.autocast(rows.device.type, enabled=False):
        alike = rows @ rows.T / temperature
    itself = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    partner = torch.arange(len(rows), device=rows.device).roll(len(one))
    return functional.cross_entropy(alike.masked_fill(itself, -1e9), partner)


@hookimpl
def register_models(register):
    register("simclr", SimCLR)
