"""PCA, fitted and kept, and a network in each half for what it leaves, trained from 0 on.

K. Pearson, "On Lines and Planes of Closest Fit to Systems of Points in Space", 1901; adding to what
is there: K. He et al., "Deep Residual Learning for Image Recognition", 2015, arXiv:1512.03385.
"""

from _halves import halves, linear_halves
from _principal import principal_axes
from torch import nn
from torch.nn import functional

from aebench import Refused, hookimpl


class Sum(nn.Module):
    def __init__(self, linear, net):
        super().__init__()
        self.linear, self.net = linear.requires_grad_(False), net
        last = [m for m in net.modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
        nn.init.zeros_(last.weight), nn.init.zeros_(last.bias)

    def forward(self, inputs):
        return self.linear(inputs) + self.net(inputs)


class PCAResidual(nn.Module):
    def __init__(self, shape, latent, depth):
        super().__init__()
        linear, (encoder, decoder) = linear_halves(shape, latent), halves(shape, latent, depth)
        if linear[0][1].in_features > 12_288:
            raise Refused("pca-residual diagonalises a covariance: at most 12,288 pixels x colours")
        self.encoder = Sum(linear[0], encoder)
        self.decoder = Sum(linear[1], decoder[:-1])  # no sigmoid: PCA's part is not bounded

    def fit(self, batches):
        mean, axes = principal_axes(batches, len(self.encoder.linear[1].weight))
        self.encoder.linear[1].load_state_dict({"weight": axes, "bias": -axes @ mean})
        self.decoder.linear[0].load_state_dict({"weight": axes.T, "bias": mean})

    def loss(self, images):
        return functional.mse_loss(self.decoder(self.encoder(images)), images)


@hookimpl
def register_models(register):
    register("pca-residual", PCAResidual)
