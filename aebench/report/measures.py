"""What is measured of each test image: how it is called and written, and which way is better."""

import math
from collections.abc import Iterable
from typing import NamedTuple

from aebench.metrics import PSNR_CAP
from aebench.records.plan import Better
from aebench.report.configurations import Configuration
from aebench.report.document import Format


class Measure(NamedTuple):
    """`column`: its name, in results.csv; `title`: with its unit, as tables have it."""

    column: str
    title: str
    better: Better
    written: Format
    meaning: str = ""

    @property
    def sign(self) -> int:
        """1: more is better; else -1."""
        return 1 if self.better == "higher" else -1

    @property
    def direction(self) -> str:
        """Where better lies in a chart."""
        return "up" if self.better == "higher" else "down"

    @property
    def most(self) -> str:
        """What the best one is."""
        return "highest" if self.better == "higher" else "lowest"

    @property
    def word(self) -> str:
        """The title without the unit."""
        return self.title.split(",")[0]

    @property
    def decimals(self) -> int:
        """Behind the point, as it is written."""
        return int(self.written.pattern.partition(".")[2].rstrip("f}"))

    @property
    def difference(self) -> Format:
        """How a difference is written."""
        return self.written._replace(pattern=self.written.pattern.replace("{:", "{:+z"))


ACCURACY = Measure(
    "accuracy",
    "accuracy, %",
    "higher",
    Format("{:.2f}", 100),
    "test images whose class the vote of their nearest training codes gets right",
)
MSE = Measure(
    "mse",
    "MSE",
    "lower",
    Format("{:.5f}"),
    "mean squared error over all elements of the test set, pixels in [0, 1], reconstruction "
    "clipped to [0, 1]",
)
PSNR = Measure(
    "psnr",
    "PSNR, dB",
    "higher",
    Format("{:.2f}"),
    f"mean over test images of -10 log10(MSE of the image), an image capped at {PSNR_CAP:.0f}",
)
SSIM = Measure(
    "ssim",
    "SSIM",
    "higher",
    Format("{:.4f}"),
    "structural similarity (Z. Wang et al., 2004; scikit-image), mean over test images: Gaussian "
    "windows of 11 x 11 pixels (deviation 1.5) inside the image, of images that hold none 7 x 7, "
    "unweighted; K1 0.01, K2 0.03, range 1, mean over channels",
)
KNOWN = {measure.column: measure for measure in (ACCURACY, MSE, PSNR, SSIM)}


def further(everything: Iterable[Configuration]) -> list[Measure]:
    """Those beside accuracy, MSE and PSNR that any has: SSIM and plug-ins' metrics, in order."""
    everything = list(everything)
    found: dict[str, Better] = {}
    for one in everything:
        found |= {name: better for name, better in one.better.items() if name not in found}
    measures = [KNOWN.get(name) or registered(name, found[name], everything) for name in found]
    return [m for m in measures if any(m.column in one.images for one in everything)]


def registered(name: str, better: Better, everything: Iterable[Configuration]) -> Measure:
    """A plug-in's, in as many decimals as its half-widths need."""
    found = [one.intervals[name] for one in everything if name in one.intervals]
    widths = [one.half_width for one in found if one.half_width]
    decimals = 1 - math.floor(math.log10(min(widths))) if widths else 4
    pattern = f"{{:.{min(9, max(0, decimals))}f}}"
    meaning = f"a plug-in's metric, mean over test images; {better} is better"
    return Measure(name, name, better, Format(pattern), meaning)
