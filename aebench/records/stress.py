"""What `stress` says of a run's codes: results/<run>/<first seed>/stress.json."""

from typing import Any

from aebench.records.origin import Provenance
from aebench.records.plan import StressPlan
from aebench.records.record import Part, StageResult


class Spread(Part):
    """Of several draws: mean and sample standard deviation."""

    mean: float
    deviation: float


class StressRecord(StageResult):
    """All figures are None or not there for a failed run; accuracies from 0 to 1.

    `blank`: figure -> why it is not there. `queries`: the test images asked, by their codes.
    """

    plan: StressPlan
    weights_hash: str
    codes_hash: str | None = None
    queries: int | None = None
    accuracy: float | None = None  # of these, unchanged
    labels: dict[str, Spread | None] = {}  # training images with a label, a class -> accuracy
    changes: dict[str, float | None] = {}  # of the test images -> accuracy
    class_kept: float | None = None  # reconstructions asked among the training images' pixels
    class_kept_queries: int | None = None
    blank: dict[str, str] = {}
    provenance: Provenance

    @property
    def columns(self) -> dict[str, Any]:
        """Column of results.csv -> value."""
        found: dict[str, Any] = {}
        for number, spread in self.labels.items():
            found[f"accuracy_labels_{number}"] = spread and spread.mean
            found[f"accuracy_labels_{number}_deviation"] = spread and spread.deviation
        found |= {f"accuracy_{name}": value for name, value in self.changes.items()}
        return found | {
            "accuracy_class_kept": self.class_kept,
            "class_kept_queries": self.class_kept_queries,
            "stress_accuracy": self.accuracy,
            "stress_queries": self.queries,
        }
