"""Contractive autoencoder: codes that move little when the image does.

S. Rifai, P. Vincent, X. Muller, X. Glorot, Y. Bengio, "Contractive Auto-Encoders", ICML 2011. Here
the penalty is met along one random direction an image, whose mean is the whole: J. Hoffman,
D. A. Roberts, S. Yaida, "Robust Learning with Jacobian Regularization", 2019, arXiv:1908.02729.
"""

import torch
from _halves import halves
from torch import nn
from torch.nn import functional

from aebench import hookimpl


class Contractive(nn.Module):
    def __init__(self, shape, latent, depth, penalty=0.0001):
        super().__init__()
        self.encoder, self.decoder = halves(shape, latent, depth)
        self.penalty = penalty

    def loss(self, images):
        images = images.clone().requires_grad_()
        codes = self.encoder(images).float()
        error = functional.mse_loss(self.decoder(codes), images.detach())
        norm = squared_norm(images, codes, torch.randn_like(codes))
        return {"loss": error + self.penalty * norm, "error": error, "jacobian": norm}


def squared_norm(images, codes, directions):
    """|directions' J|^2, a mean over images: on average |J|^2 where directions are normal."""
    (moved,) = torch.autograd.grad(codes, images, directions, create_graph=True)
    return moved.square().flatten(1).sum(1).mean()


@hookimpl
def register_models(register):
    register("contractive", Contractive)
