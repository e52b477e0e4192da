"""Finite scalar quantisation: each float of a code is bounded, and rounded to one of a few values.

F. Mentzer, D. Minnen, E. Agustsson, M. Tschannen, "Finite Scalar Quantization: VQ-VAE Made Simple",
2023, arXiv:2309.15505.
"""

import torch
from _halves import halves
from torch import nn

from aebench import Refused, hookimpl


class Round(nn.Module):
    """Any floats -> `levels` values from -1 to 1; the gradient is that of the bound alone."""

    def __init__(self, levels):
        super().__init__()
        self.steps = levels - 1

    def forward(self, values):
        bounded = torch.sigmoid(values.float())
        rounded = (bounded * self.steps).round() / self.steps
        return 2 * (bounded + (rounded - bounded).detach() if self.training else rounded) - 1


def build(shape, latent, depth, levels=5):
    if levels < 2:
        raise Refused(f"levels is {levels}: a float needs at least 2 values")
    encoder, decoder = halves(shape, latent, depth)
    return encoder.append(Round(levels)), decoder


@hookimpl
def register_models(register):
    register("fsq", build)
