"""The built-in metrics of reconstructions, registered by the hook that plug-ins use."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from aebench.errors import Refused
from aebench.hookspecs import hookimpl

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

PSNR_CAP = 100.0  # dB, for an image reconstructed exactly
WINDOWS = (11, 7)  # pixels a side, of SSIM: the paper's, and one that fits images of 8 x 8


@hookimpl
def register_metrics(register: Callable[..., None]) -> None:
    """Of images and reconstructions float32 (B, C, H, W) in [0, 1], a value each."""
    register("mse", squared_errors, better="lower")
    register("psnr", signal_to_noise, better="higher")
    register("ssim", similarity, better="higher")


def squared_errors(images: "Tensor", reconstructions: "Tensor") -> "Tensor":
    """The mean over the elements of each image, float64 (B,)."""
    return (reconstructions.double() - images).square().mean((1, 2, 3))


def signal_to_noise(images: "Tensor", reconstructions: "Tensor") -> "np.ndarray":
    """PSNR in dB, float64 (B,)."""
    return psnr(squared_errors(images, reconstructions).float().cpu().numpy())


def psnr(errors: "np.ndarray") -> "np.ndarray":
    """dB of each image's mean squared error, pixels in [0, 1]: float64 (...), 100 at most."""
    import numpy as np

    floor = 10 ** (-PSNR_CAP / 10)
    return -10 * np.log10(np.maximum(errors.astype(np.float64), floor))


def similarity(images: "Tensor", reconstructions: "Tensor") -> "np.ndarray":
    """SSIM (Z. Wang et al., IEEE Trans. Image Processing 13, 2004) by scikit-image, float64 (B,).

    As the paper has it: means and (co)variances under a Gaussian of deviation 1.5 in windows of
    11 x 11 pixels, K1 0.01, K2 0.03, range 1; the mean over the windows that lie in the image
    whole, and over the channels. Where none does, windows of 7 x 7, unweighted, with sample
    (co)variances: the library's defaults. Refused for images that do not hold one of these either.
    """
    from skimage.metrics import structural_similarity

    b, c, h, w = images.shape
    window = next((side for side in WINDOWS if side <= min(h, w)), None)
    if window is None:
        raise Refused(f"images of {h} x {w} pixels; SSIM needs {WINDOWS[-1]} x {WINDOWS[-1]}")
    is_papers = window == WINDOWS[0]
    # All channels of all images below each other as one picture, in one call: 5.4 CPU seconds for
    # 10,000 images of 3 x 32 x 32, image by image 14.5. Windows across two are left out below.
    one, other = (x.cpu().numpy().reshape(b * c * h, w) for x in (images, reconstructions))
    found = structural_similarity(
        one,
        other,
        win_size=window,
        data_range=1.0,
        gaussian_weights=is_papers,
        sigma=1.5,
        use_sample_covariance=not is_papers,
        full=True,
    )
    edge = window // 2
    inside = found[1].reshape(b, c, h, w)[..., edge : h - edge, edge : w - edge]
    return inside.mean((1, 2, 3), dtype="float64")
