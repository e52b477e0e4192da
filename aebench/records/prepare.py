"""What `prepare` writes beside the arrays."""

from pathlib import Path
from typing import Any, ClassVar, Literal

from aebench.records.origin import Provenance
from aebench.records.plan import DataPlan
from aebench.records.record import Part, Planned, Record, internal
from aebench.shown import mapped


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

    @property
    def mapped(self) -> list[int]:
        """The test images of the map of the codes."""
        return mapped(self.num_test)

    @classmethod
    def upgraded(cls, content: dict[str, Any], version: int, path: Path) -> dict[str, Any]:
        """Format 1 called the examples `gallery`."""
        return {"examples" if key == "gallery" else key: v for key, v in content.items()}


class Duplicates(Part):
    """Images of exactly the same pixels."""

    train: int  # training images that repeat another one
    test: int  # test images that repeat another one
    across: int  # test images that are training images, too
    two_labels: int  # different images that stand under more than one label

    @property
    def words(self) -> str | None:
        """A phrase of those there are; None without any."""
        counts = {
            "within train": self.train,
            "within test": self.test,
            "of the test images in train": self.across,
            "under several labels": self.two_labels,
        }
        found = [f"{count:,} {what}" for what, count in counts.items() if count]
        return f"exact duplicates: {', '.join(found)}" if found else None


class NearDuplicates(Part):
    """Test images with a near-duplicate among the training images, see near_duplicates.npy."""

    # By ciFAIR's list, which people judged; by distance; None: too many pairs, nobody looked.
    rule: Literal["list", "distance"] | None
    count: int
    recognised: int  # of the list's test images


class DataRecord(Prepared, Planned):
    """results/data.json: the same, and where the images came from."""

    plan: DataPlan | None = internal(None)
    duplicates: Duplicates | None = internal(None)  # None: not counted
    near_duplicates: NearDuplicates | None = internal(None)  # None: of an earlier version
    remarks: list[str] = internal([])  # what a reader of the figures should know of the images
    dataset: str
    source: str
    provenance: Provenance

    @property
    def holdout(self) -> float | None:
        """The share of the training images that stands in place of the test images."""
        return self.plan.holdout if self.plan else None

    @property
    def kind(self) -> str:
        """What the figures are of. Those of one kind are never held against another's."""
        return f"HOLDOUT {self.holdout}" if self.holdout else "the test set"

    @property
    def sizes(self) -> str:
        """`50,000 training and 10,000 test images`."""
        tested = "held-out" if self.holdout else "test"
        return f"{self.num_train:,} training and {self.num_test:,} {tested} images"

    @property
    def words(self) -> list[str]:
        """The remarks and the duplicates, a phrase each."""
        counted = self.duplicates and self.duplicates.words
        return [*self.remarks, *([counted] if counted else [])]
