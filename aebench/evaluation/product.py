"""Product quantisation through FAISS: each two floats of a code as one of 256 pairs, a byte."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from aebench.evaluation.blocks import as_float32
from aebench.evaluation.faiss_loading import faiss

if TYPE_CHECKING:
    import faiss as library

PAIR, BITS = 2, 8  # floats of a sub-quantiser, and its bits
LARGEST = 2048  # floats: 10,240 codes train one in 25 s of CPU time (1,000 floats: 13 s)
FAR = 1e9  # of the sample's range: further codes become that far, whose squares float32 holds


class Product(NamedTuple):
    """A trained quantiser of codes (d,) minus `low` float64 (d,), over `scale`.

    Of their floats `varying`, bool (d,), alone: the others were `low` in all of its sample.
    """

    low: np.ndarray
    scale: float
    varying: np.ndarray
    quantiser: "library.ProductQuantizer"

    @property
    def code_bytes(self) -> int:
        """Of a code: half of its varying floats, rounded up."""
        return self.quantiser.M

    def encoded(self, codes: np.ndarray) -> np.ndarray:
        """uint8 (n, bytes) of codes (n, d)."""
        points = (codes - self.low)[:, self.varying] / self.scale
        return self.quantiser.compute_codes(paired(points))  # pyright: ignore[reportCallIssue]

    def decoded(self, kept: np.ndarray) -> np.ndarray:
        """float32 (n, d) of what `encoded` gave."""
        points = self.quantiser.decode(np.ascontiguousarray(kept))  # pyright: ignore[reportCallIssue]
        found = np.tile(self.low, (len(kept), 1))
        found[:, self.varying] += self.scale * points[:, : self.varying.sum()]
        return found.astype(np.float32)

    def rounded(self, codes: np.ndarray) -> np.ndarray:
        """Codes (n, d) as they come back: float32."""
        return self.decoded(self.encoded(codes))


def product_fault(count: int, floats: int) -> str | None:
    """Why so many training codes of so many floats have no product quantisation; None: they do."""
    if floats > LARGEST:
        return f"codes of {floats:,} floats are not product-quantised; at most {LARGEST:,} are"
    if count < 2**BITS:
        return f"product quantisation needs {2**BITS} training codes; there are {count:,}"
    return None


def product(sample: np.ndarray) -> Product:
    """That of a sample (n, d) of the training codes: FAISS's k-means, the same each time.

    Moved into [0, 1] first: float32 does not tell codes apart that are far from 0. A last float
    without another one is paired with a 0. Floats that are the same in all of the sample cost
    nothing: k-means of equal points took most of the time where digits have 1,000 floats.
    """
    low = sample.min(axis=0).astype(np.float64)
    ranges = sample.max(axis=0) - low
    varying = ranges > 0
    varying[0] |= not varying.any()  # a quantiser has at least one
    scale = float(ranges.max()) or 1.0
    points = paired((sample - low)[:, varying] / scale)
    found = faiss().ProductQuantizer(points.shape[1], points.shape[1] // PAIR, BITS)
    found.cp.min_points_per_centroid = 1  # of fewer than 39 a value FAISS warns
    found.train(points)
    return Product(low, scale, varying, found)


def paired(codes: np.ndarray) -> np.ndarray:
    """Codes (n, d) as FAISS takes them: float32, of an even number of floats."""
    return as_float32(np.pad(codes.clip(-FAR, FAR), ((0, 0), (0, codes.shape[1] % PAIR))))
