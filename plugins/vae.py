"""Variational autoencoder. Its codes are the means.

D. P. Kingma, M. Welling, "Auto-Encoding Variational Bayes", 2013, arXiv:1312.6114; beta: I. Higgins
et al., "beta-VAE", ICLR 2017; warm-up: S. R. Bowman et al., "Generating Sentences from a Continuous
Space", 2015, arXiv:1511.06349.
"""

import math

import torch
from _halves import halves
from torch import nn
from torch.nn import functional

from aebench import hookimpl


class VAE(nn.Module):
    def __init__(self, shape, latent, depth, beta=1.0, warm_up=0.5, sigma=0.1):
        super().__init__()
        self.encoder, self.decoder = halves(shape, latent, depth)
        self.log_variance = nn.Linear(self.encoder[-1].in_features, latent)
        self.warm_up = warm_up  # the share of all steps in which beta rises
        # Pixels have deviation sigma: the bound in nats, times this, is the MSE and a KL term.
        self.weight = beta * 2 * sigma**2 / math.prod(shape)

    def posterior(self, images):
        features = self.encoder[:-1](images)
        return self.encoder[-1](features).float(), self.log_variance(features).float()

    def loss(self, images, progress):
        mean, log_variance = self.posterior(images)
        codes = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        error = functional.mse_loss(self.decoder(codes), images)
        kl = divergence(mean, log_variance)
        share = progress / self.warm_up if progress < self.warm_up else 1.0
        return {"loss": error + share * self.weight * kl, "error": error, "kl": kl}


def divergence(mean, log_variance):
    """KL of the codes' distributions from the standard normal one, in nats an image."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean() / 2


@hookimpl
def register_models(register):
    register("vae", VAE)
