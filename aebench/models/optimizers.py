"""The optimizers: Muon for matrices and kernels, Shampoo for large ones, AdamW for the rest."""

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


# Shampoo's: V. Gupta, T. Koren, Y. Singer, "Shampoo: preconditioned stochastic tensor
# optimization", ICML 2018, on the shorter side alone, with the exponent -1/2 that makes the update
# orthogonal on average, as Muon's. It serves the layers beside a code of that many floats. It
# would the mlp's 512 x 3072, too, for twice its time.
SHAMPOO_SIDES = range(513, 1025)
GRAM_DECAY = 0.9  # of a mean over batches of 256: of fewer than 1,024 images it would be singular
GRAM_EVERY, ROOT_EVERY = 4, 12  # steps
SMALLEST = 1e-7  # of eigenvalues, by the largest: float32 gradients hold no smaller ones

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


def shampoo(
    p: Tensor,
    gradient: Tensor,
    momentum: Tensor,
    gram: Tensor,
    root: Tensor,
    step: int,
    rate: float,
    weight_decay: float,
) -> None:
    """One step of Shampoo, in place: the momentum of `p`, times the root of its gradients' gram.

    `gram`: the running mean of gradient times its transpose, over the shorter side; `root`: its
    power of -1/2, of up to `ROOT_EVERY` steps ago; `step`: from 0, of the training. A direction in
    which gradients are small moves as far as the others, and one in which they are mostly noise
    less, unlike Muon's. All else is Muon's.
    """
    momentum.lerp_(gradient, 1 - MOMENTUM)
    update = gradient.lerp(momentum, MOMENTUM).flatten(1)
    rows, columns = update.shape
    wide = gradient.flatten(1) if rows <= columns else gradient.flatten(1).T
    if step % GRAM_EVERY == 0:
        gram.lerp_(wide @ wide.T, 1 - GRAM_DECAY)
    if step % ROOT_EVERY == 0:
        seen = 1 - GRAM_DECAY ** (step // GRAM_EVERY + 1)
        root.copy_(inverse_root(gram / seen))
    update = root @ update if rows <= columns else update @ root
    # A direction that the root has not seen yet must not throw the weights away.
    update *= (len(wide) ** 0.5 / (update.norm() + 1e-30)).clamp(max=1)
    p.mul_(1 - rate * weight_decay)
    p.add_(update.view_as(p), alpha=-rate * max(1, rows / columns) ** 0.5)


def inverse_root(gram: Tensor) -> Tensor:
    """The power of -1/2 of a positive semidefinite matrix, float32 (n, n); else NaN.

    In float64: in float32 LAPACK did not converge for some of less than full rank.
    """
    if not gram.isfinite().all():  # the loss will say so
        return torch.full_like(gram, torch.nan)
    values, vectors = torch.linalg.eigh(gram.double())
    powers = values.clamp(min=SMALLEST * values[-1] + 1e-30).rsqrt()
    return ((vectors * powers) @ vectors.T).float()
