"""A codebook, and the moving averages by which it learns."""

import torch
from torch import nn


class Codebook(nn.Module):
    """Codes (B, vectors * dim) -> the same shape, each vector replaced by the nearest entry."""

    def __init__(self, entries, dim):
        super().__init__()
        self.entries = nn.Parameter(torch.randn(entries, dim), requires_grad=False)

    def nearest(self, vectors):
        """Indices (n,) of the nearest entries of float32 (n, dim)."""
        with torch.autocast(vectors.device.type, enabled=False):  # bfloat16 takes others for them
            products = vectors @ self.entries.T
        return (self.entries.square().sum(1) - 2 * products).argmin(1)

    def forward(self, codes):
        vectors = codes.detach().float().reshape(-1, self.entries.shape[1])
        return self.entries[self.nearest(vectors)].reshape(codes.shape)


class Averages(nn.Module):
    """How many vectors of a batch were nearest to each entry, and their sum."""

    def __init__(self, entries, dim, decay):
        super().__init__()
        self.decay = decay
        self.register_buffer("counts", torch.zeros(entries))
        self.register_buffer("sums", torch.zeros(entries, dim))

    @torch.no_grad()
    def move(self, codebook, codes):
        """Take the codes (B, vectors * dim) in, and move each entry to its mean."""
        vectors = codes.reshape(-1, self.sums.shape[1])
        nearest = codebook.nearest(vectors)
        ones = torch.ones_like(nearest, dtype=torch.float32)
        # index_add and not a product with one-hot rows: autocast would round that to bfloat16.
        counts = torch.zeros_like(self.counts).index_add(0, nearest, ones)
        sums = torch.zeros_like(self.sums).index_add(0, nearest, vectors)
        self.counts.lerp_(counts, 1 - self.decay)
        self.sums.lerp_(sums, 1 - self.decay)
        # Dead: used less than a thirtieth of the average. It starts again as if used once a batch.
        dead = self.counts < len(vectors) / len(counts) / 30
        chosen = vectors[torch.randint(len(vectors), dead.shape, device=dead.device)]
        self.counts.masked_fill_(dead, 1.0)
        self.sums.copy_(torch.where(dead[:, None], chosen, self.sums))
        codebook.entries.copy_(self.sums / self.counts[:, None])
