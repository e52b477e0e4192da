"""Adversarial autoencoder: a critic tells codes from normal noise, and the encoder deceives it.

A. Makhzani, J. Shlens, N. Jaitly, I. Goodfellow, B. Frey, "Adversarial Autoencoders", 2015,
arXiv:1511.05644.
"""

import torch
from _halves import halves
from torch import nn
from torch.nn.functional import mse_loss, softplus

from aebench import hookimpl


class Adversarial(nn.Module):
    def __init__(self, shape, latent, depth, penalty=0.001, rate=0.003):
        super().__init__()
        self.encoder, self.decoder = halves(shape, latent, depth)
        self.critic = nn.Sequential(nn.Linear(latent, 128), nn.GELU(), nn.Linear(128, 1))
        self.penalty, self.rate = penalty, rate  # the rate falls to 0, as the suite's does

    def optimize(self, batches):
        both = nn.ModuleList([self.encoder, self.decoder])
        steps = [torch.optim.AdamW(m.parameters(), self.rate) for m in (both, self.critic)]
        for done, images in enumerate(batches):
            for step in steps:
                step.param_groups[0]["lr"] = self.rate * (1 - done / len(batches))
            codes = self.encoder(images)
            error = mse_loss(self.decoder(codes), images)
            caught = softplus(-self.critic(codes)).mean()
            update(steps[0], error + self.penalty * caught)
            real, made = self.critic(torch.randn_like(codes)), self.critic(codes.detach())
            confused = (softplus(-real) + softplus(made)).mean() / 2
            update(steps[1], confused)
            yield {"loss": error, "caught": caught, "confused": confused}


def update(optimizer, loss):
    optimizer.zero_grad()  # of what the other's loss has left, too
    loss.backward()
    optimizer.step()


@hookimpl
def register_models(register):
    register("adversarial", Adversarial)
