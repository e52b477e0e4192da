"""Random views of images, for learning what they have in common."""

import torch
from torch.nn import functional


def view(images):
    """The same shape: each image cropped, in other light, one in five without colour."""

    def uniform(low, high, *shape):
        return torch.empty(len(images), *shape, device=images.device).uniform_(low, high)

    sides = [
        torch.linspace(1 / n - 1, 1 - 1 / n, n, device=images.device) for n in images.shape[2:]
    ]
    grid = torch.stack(torch.meshgrid(*sides, indexing="ij")[::-1], 2)
    size = uniform(0.6, 1, 1, 1, 1)
    places = grid * size + uniform(-1, 1, 1, 1, 2) * (1 - size)
    cropped = functional.grid_sample(images, places, align_corners=False)
    grey = cropped.mean(1, keepdim=True)
    coloured = torch.where(uniform(0, 1, 1, 1, 1) < 0.2, grey, cropped)
    return coloured * uniform(0.6, 1.4, images.shape[1], 1, 1) + uniform(-0.2, 0.2, 1, 1, 1)
