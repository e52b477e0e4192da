"""What `encode` says of a run's codes and reconstructions: results/<run>/<seed>/encode.json."""

import json
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from aebench.records.origin import Provenance, Timing, renamed_origin
from aebench.records.plan import Better, EncodePlan, plan_of_format_1
from aebench.records.record import Part, StageResult, internal


class Sizes(Part):
    """Numbers in parameters, bytes of the float32 state dict, multiply-accumulates per image."""

    num_params: int
    model_bytes: int
    macs: int | None  # None where some operation is not counted
    encoder_params: int
    decoder_params: int
    encoder_bytes: int
    decoder_bytes: int
    encoder_macs: int | None
    decoder_macs: int | None
    encoder_layers: int  # Linear and (transposed) convolution layers
    decoder_layers: int
    uncounted_operations: str | None = None  # that may multiply and have no formula
    code_floats: int = Field(json_schema_extra={"column": False})


class Measured(Part):
    """A metric of the reconstructions. `mean` None: it is blank, and `note` says why."""

    better: Better
    mean: float | None = None  # over test images
    note: str | None = None


class EncodeRecord(StageResult):
    """All figures are None for a failed run; those of reconstructions without a decoder, too."""

    FORMAT: ClassVar[int] = 2

    plan: EncodePlan | None = internal()
    weights_hash: str = internal()
    codes_hash: str | None = internal(None)
    mse: float | None = None  # mean over all elements of the test set
    psnr: float | None = None  # dB, mean over test images
    # Those beside MSE and PSNR: ssim and the plug-ins', in the order of their columns.
    metrics: dict[str, Measured] = {}
    mse_8bit: float | None = None  # of codes rounded to 8 bits a float
    mse_4bit: float | None = None
    mse_pq: float | None = None  # of product-quantised codes
    rounded_note: str | None = None  # why some of these three are blank
    # At most so many hold a code; None where no dimension is discrete: then 32 a float.
    code_bits: float | None = None
    sizes: Sizes | None = internal(None)
    encode_images_per_second: float | None = None  # encoder alone
    timing: Timing = Timing()
    provenance: Provenance

    @classmethod
    def upgraded(cls, content: dict[str, Any], version: int, path: Path) -> dict[str, Any]:
        """From format 1: sizes stood in train.json."""
        train = path.parent / "train.json"
        counted = json.loads(train.read_bytes()) if train.is_file() else {}
        sizes = {k: counted[k] for k in Sizes.model_fields if k in counted} or None
        plan = plan_of_format_1(path, "encode", content["plan_hash"])
        return renamed_origin(content) | {"plan": plan, "sizes": sizes}
