"""VQ-VAE: a code is some vectors of a codebook, which follows what the net gives by averages.

A. van den Oord, O. Vinyals, K. Kavukcuoglu, "Neural Discrete Representation Learning", 2017,
arXiv:1711.00937 (with its appendix's moving averages). Entries that nothing is near to start again
at what a random image gives: P. Dhariwal et al., "Jukebox", 2020, arXiv:2005.00341.
"""

from _codebook import Averages, Codebook
from _halves import halves
from torch import nn
from torch.nn import functional

from aebench import Refused, hookimpl


class VQ(nn.Module):
    def __init__(self, shape, latent, depth, entries=256, dim=2, commitment=0.25, decay=0.95):
        super().__init__()
        if min(entries, dim) < 1 or latent % dim:
            raise Refused("vq needs entries, and a dim that divides latent: the floats of an entry")
        net, self.decoder = halves(shape, latent, depth)
        self.encoder = nn.Sequential(net, Codebook(entries, dim))
        self.averages = Averages(entries, dim, decay)
        self.commitment = commitment

    def loss(self, images):
        net, codebook = self.encoder
        free = net(images).float()
        codes = codebook(free)
        if self.training:
            self.averages.move(codebook, free.detach())
        # The gradient passes the choice of an entry as if it were none.
        error = functional.mse_loss(self.decoder(free + (codes - free).detach()), images)
        distance = functional.mse_loss(free, codes)
        return {"loss": error + self.commitment * distance, "error": error, "distance": distance}


@hookimpl
def register_models(register):
    register("vq", VQ)
