"""A vision transformer's parts."""

import torch
from _convolutions import Fold, Unfold
from _normalise import Normalise
from torch import nn

HEADS = 4


class Patches(nn.Module):
    """Images (B, C, H, W) -> patches of `side` pixels (B, T, C * side^2), row by row."""

    def __init__(self, side):
        super().__init__()
        self.fold = nn.Sequential(Normalise(), Fold(side))

    def forward(self, images):
        return self.fold(images).flatten(2).transpose(1, 2)


class Images(nn.Module):
    """Its mirror: patches -> images of `size`; `rows` of patches."""

    def __init__(self, side, size, rows):
        super().__init__()
        self.unfold, self.rows = Unfold(side, size), rows

    def forward(self, patches):
        return self.unfold(patches.transpose(1, 2).unflatten(2, (self.rows, -1))).sigmoid()


class Block(nn.Module):
    """Tokens (B, T, width) -> the same shape: attention, then an MLP, each added."""

    def __init__(self, width):
        super().__init__()
        self.attend = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 3 * width))
        self.mix = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, tokens):
        asked, known, told = self.attend(tokens).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        # Written out: with torch's own, a step of 256 images of 64 tokens took 3.0 s instead of 0.8
        # (bfloat16, one thread of an Intel Xeon with AMX).
        fit = (asked @ known.transpose(2, 3) * known.shape[3] ** -0.5).softmax(3).to(told.dtype)
        tokens = tokens + self.mix((fit @ told).transpose(1, 2).flatten(2))
        return tokens + self.mlp(tokens)


class Encoder(nn.Module):
    """Images -> codes; where `visible` (B, K) names patches, from these alone."""

    def __init__(self, side, patch, count, latent, depth, width):
        super().__init__()
        self.patches, self.embed = Patches(side), nn.Linear(patch, width)
        self.place = nn.Parameter(0.02 * torch.randn(count, width))
        self.blocks = nn.Sequential(*[Block(width) for _ in range(depth)], nn.LayerNorm(width))
        self.code = nn.Linear(count * width, latent)

    def forward(self, images, visible=None):
        tokens = self.embed(self.patches(images)) + self.place
        if visible is None:
            return self.code(self.blocks(tokens).flatten(1))
        row = torch.arange(len(images), device=images.device)[:, None]
        seen = self.blocks(tokens[row, visible])
        # The hidden ones are 0, and the others larger for it, as dropout does.
        tokens = torch.zeros_like(tokens, dtype=seen.dtype)
        tokens[row, visible] = seen * (tokens.shape[1] / visible.shape[1])
        return self.code(tokens.flatten(1))
