"""What `prepare` writes beside the arrays."""

from pathlib import Path
from typing import Any, ClassVar

from aebench.records.origin import Provenance
from aebench.records.plan import DataPlan
from aebench.records.record import Planned, Record, internal


class Prepared(Record):
    """data/prepared/meta.json: content only, so that every source of a data set gives one.

    All training depends on its bytes: `format` and the keys stay.
    """

    FORMAT: ClassVar[int] = 2

    shape: tuple[int, int, int]  # (C, H, W)
    classes: list[str]  # by label
    num_train: int
    num_test: int
    data_hash: str  # SHA-256 over shapes, pixels and labels of both splits
    examples: list[int]  # indices of the test images that the report shows

    @classmethod
    def upgraded(cls, content: dict[str, Any], version: int, path: Path) -> dict[str, Any]:
        """Format 1 called the examples `gallery`."""
        return {"examples" if key == "gallery" else key: v for key, v in content.items()}


class DataRecord(Prepared, Planned):
    """results/data.json: the same, and where the images came from."""

    plan: DataPlan | None = internal(None)
    dataset: str
    source: str
    provenance: Provenance
