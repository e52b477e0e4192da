"""What `codecs` says of JPEG and WebP on the same images: results/codecs.json."""

from aebench.records.origin import Provenance
from aebench.records.plan import CodecsPlan
from aebench.records.record import Part, Planned


class Codec(Part):
    """Test images in one codec at one quality: means. See `aebench.evaluation.codecs.Coded`."""

    codec: str  # JPEG or WebP
    quality: int
    bytes: float  # of the whole file
    payload_bytes: float  # without what its codec, quality and size tell
    mse: float
    accuracy: float | None = None  # of kNN among training images at that quality; None: not sought


class CodecsRecord(Planned):
    """codecs.npy beside it, float32 (codecs, N_test): each image's error, in their order.

    `notes`: what is left out, and why.
    """

    plan: CodecsPlan
    data_hash: str
    codecs: list[Codec]
    notes: list[str] = []
    provenance: Provenance
