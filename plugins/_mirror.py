"""Linear layers that treat an image and its mirror image alike.

Both halves of a layer's values are kept apart: the even half stays as it is where an image is
mirrored, the odd one changes its sign. A linear layer then is one for each, which together have
half the weights of one for all, so that twice the width costs the same; GELU sees sums and
differences of the two, which a mirrored image swaps.
"""

import torch
from torch import nn
from torch.nn import functional


def layers(widths):
    """Those between halves of so many values [(even, odd), ...], GELUs between them."""
    found = [Linear(a, b) for a, b in zip(widths, widths[1:], strict=False)]
    return [part for layer in found for part in (layer, Gelu())][:-1]


def turned(one, other):
    """Their sum and difference, of which it makes them again."""
    return (one + other) * 0.5**0.5, (one - other) * 0.5**0.5


class Linear(nn.Linear):
    """A layer for either half: (B, a), (B, b) -> (B, c), (B, d). Of an even value alone a bias."""

    def __init__(self, inner, outer):
        super().__init__(inner[0], outer[0])
        size = outer[1], inner[1]
        self.odd = None  # of images of one column, of a code of one float
        if all(size):
            self.odd = nn.Parameter(nn.init.kaiming_uniform_(torch.empty(size), 5**0.5))
        self.outer = outer[1]

    def forward(self, halves):
        even, odd = halves
        if self.odd is None:
            return super().forward(even), odd.new_zeros(len(odd), self.outer)
        return super().forward(even), functional.linear(odd, self.odd)


class Gelu(nn.Module):
    """Of what a mirrored image swaps."""

    def forward(self, halves):
        return turned(*map(functional.gelu, turned(*halves)))


class Part(nn.Module):
    """(B, C, H, W) -> even and odd half; a column in the middle is even."""

    def forward(self, images):
        columns = images.shape[3]
        left, right = images[..., : columns // 2], images.flip(3)[..., : columns // 2]
        even, odd = turned(left, right)
        even = torch.cat([even, images[..., columns // 2 : columns - columns // 2]], 3)
        return even.flatten(1), odd.flatten(1)


class Restore(nn.Module):
    """Its mirror: back to images of `shape`."""

    def __init__(self, shape):
        super().__init__()
        self.shape = shape

    def forward(self, halves):
        channels, height, width = self.shape
        even, odd = (half.unflatten(1, (channels, height, -1)) for half in halves)
        left, right = turned(even[..., : width // 2], odd)
        return torch.cat([left, even[..., width // 2 :], right.flip(3)], 3)


class Join(nn.Module):
    """(B, a), (B, b) -> (B, a + b)."""

    def forward(self, halves):
        return torch.cat(halves, 1)


class Halve(nn.Module):
    """Its mirror."""

    def __init__(self, even):
        super().__init__()
        self.even = even

    def forward(self, codes):
        return codes[:, : self.even], codes[:, self.even :]
