"""Statistics of all training images, float64."""

import torch


def moments(pairs):
    """Of pairs of rows (n, a) and (n, b): the mean of each side, and of the products about them.

    Of one set of rows twice, its covariance.
    """
    count, left, right, products = 0, 0.0, 0.0, 0.0
    for one, other in pairs:
        one, other = one.double(), other.double()
        count, left, right = count + len(one), left + one.sum(0), right + other.sum(0)
        products = products + one.T @ other
    left, right = left / count, right / count
    return left, right, products / count - left.outer(right)


def principal_axes(batches, latent):
    """The images' mean (d,) and the directions of most variance (latent, d), 0 above the rank."""
    pixels = next(iter(batches))[0].numel()
    if sum(map(len, batches)) < pixels:  # then they are smaller than their covariance
        rows = torch.cat([images.flatten(1).double() for images in batches])
        mean = rows.mean(0)
        _, deviations, directions = torch.linalg.svd(rows - mean, full_matrices=False)
        variances = deviations.square()
    else:
        rows = (images.flatten(1) for images in batches)
        mean, _, covariance = moments((part, part) for part in rows)
        variances, directions = torch.linalg.eigh(covariance)
        variances, directions = variances.flip(0), directions.T.flip(0)
    used = min(latent, int((variances > 1e-12 * variances[0]).sum()))
    axes = torch.zeros(latent, pixels, dtype=torch.float64)
    axes[:used] = directions[:used]
    return mean, axes
