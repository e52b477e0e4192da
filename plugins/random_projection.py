"""Random projection: a matrix of normal numbers encodes, the best linear answer to it decodes.

E. Bingham, H. Mannila, "Random Projection in Dimensionality Reduction: Applications to Image and
Text Data", KDD 2001.
"""

import torch
from _halves import linear_halves
from _principal import moments
from torch import nn

from aebench import hookimpl


class RandomProjection(nn.Module):
    def __init__(self, shape, latent):
        super().__init__()
        self.encoder, self.decoder = linear_halves(shape, latent)
        nn.init.normal_(self.encoder[1].weight, 0, latent**-0.5)  # distances stay, on average
        nn.init.zeros_(self.encoder[1].bias)

    @torch.no_grad()
    def fit(self, batches):
        """The decoder is the least squares' one over the training images."""
        codes, _, inner = moments((rows, rows) for rows in map(self.encoder, batches))
        pairs = ((images.flatten(1), self.encoder(images)) for images in batches)
        images, _, across = moments(pairs)
        # Codes of more floats than pixels leave the answer open: the smallest one.
        weight = across @ torch.linalg.pinv(inner, rtol=1e-9, hermitian=True)
        self.decoder[0].load_state_dict({"weight": weight, "bias": images - weight @ codes})


@hookimpl
def register_models(register):
    register("random-projection", RandomProjection)
