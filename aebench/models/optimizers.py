"""The optimizers: Muon for matrices and kernels, AdamW for the rest."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

# The functional form: building a torch.optim.AdamW object imports torch._dynamo, 1.9 s beside
# the 3.1 s of `import torch` (2-core AMD EPYC 7003, torch 2.14.1, medians of 3).
from torch.optim.adamw import adamw

# Muon's Newton-Schulz polynomial and momentum: K. Jordan, "Muon: an optimizer for hidden layers in
# neural networks", kellerjordan.github.io/posts/muon, 2024.
QUINTIC = 3.4445, -4.7750, 2.0315
MOMENTUM = 0.95
# A matrix with more than that on its shorter side is left to AdamW: making it orthogonal costs the
# cube of that side. A step of the mlp, whose largest is 512 x 3072, would take 4 times as long.
SHORT_SIDE = 128


# Their weights scale what is already normal, also where they have more than one dimension.
NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def multiplying(module: nn.Module) -> dict[nn.Parameter, None]:
    """The parameters that are matrices or kernels, in order: they alone decay, or go to Muon.

    Not biases, norms, and what a parametrization makes a weight of: torch's `orthogonal` keeps
    signs on the diagonal, rounded towards 0, so that any decay, or a step of Muon, which has no
    zeros, makes the weight singular.
    """
    others = {
        id(p)
        for part in module.modules()
        if isinstance(part, (*NORMS, ParametrizationList))
        for p in part.parameters()
    }
    return {p: None for p in module.parameters() if p.ndim > 1 and id(p) not in others}


def fused_adamw(
    moments: Mapping[nn.Parameter, tuple[Tensor, Tensor, Tensor]], rate: float, weight_decay: float
) -> None:
    """One step of AdamW, in place, with the mean, the square and the count of each parameter.

    A parameter that the loss does not reach has no gradient and stays as it is.
    """
    used = [(p, p.grad, *state) for p, state in moments.items() if p.grad is not None]
    if not used:
        return
    weights, gradients, means, squares, counts = map(list, zip(*used, strict=True))
    adamw(
        weights,
        gradients,
        means,
        squares,
        [],
        counts,
        fused=True,
        amsgrad=False,
        beta1=0.9,
        beta2=0.999,
        lr=rate,
        weight_decay=weight_decay,
        eps=1e-8,
        maximize=False,
    )


def muon(p: Tensor, gradient: Tensor, momentum: Tensor, rate: float, weight_decay: float) -> None:
    """One step of Muon, in place: the momentum of `p`, made orthogonal, times the rate.

    Kernels count as matrices (first dimension, the others); a tall one gets larger steps. The first
    dimension of a transposed convolution is its input.
    """
    momentum.lerp_(gradient, 1 - MOMENTUM)
    update = orthogonal(gradient.lerp(momentum, MOMENTUM).flatten(1))
    rows, columns = update.shape
    p.mul_(1 - rate * weight_decay)
    p.add_(update.view_as(p), alpha=-rate * max(1, rows / columns) ** 0.5)


def orthogonal(matrix: Tensor) -> Tensor:
    """float32 (rows, columns) with the same singular vectors, the singular values near 1.

    Five Newton-Schulz steps X <- (a + b XX' + c (XX')^2) X. They are taken on the product of their
    factors and on XX', whose side is the shorter one, and X is multiplied once: as exact, and 5
    times less work for 64 x 576 (a 3 x 3 convolution of 64 channels).
    """
    wide = matrix if len(matrix) <= matrix.shape[1] else matrix.T
    wide = wide / (wide.norm() + 1e-7)
    a, b, c = QUINTIC
    gram = wide @ wide.T
    one = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    product = one
    for _ in range(5):
        factor = torch.addmm(b * gram, gram, gram, alpha=c).add_(one, alpha=a)
        product = factor @ product
        gram = factor @ gram @ factor
    result = product @ wide
    return result if len(matrix) <= matrix.shape[1] else result.T
