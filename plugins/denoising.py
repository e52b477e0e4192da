"""Denoising autoencoder: it is shown noisy images, and asked for the clean ones.

P. Vincent, H. Larochelle, Y. Bengio, P.-A. Manzagol, "Extracting and Composing Robust Features with
Denoising Autoencoders", ICML 2008.
"""

import torch
from _halves import halves
from torch import nn
from torch.nn import functional

from aebench import hookimpl


class Denoising(nn.Module):
    def __init__(self, shape, latent, depth, noise=0.2):
        super().__init__()
        self.encoder, self.decoder = halves(shape, latent, depth)
        self.noise = noise  # its standard deviation

    def loss(self, images):
        noisy = images + self.noise * torch.randn_like(images)
        return functional.mse_loss(self.decoder(self.encoder(noisy)), images)


@hookimpl
def register_models(register):
    register("denoising", Denoising)
