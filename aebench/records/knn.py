"""What `knn` says of the search among a run's codes: results/<run>/<seed>/knn.json."""

import re
from pathlib import Path
from typing import Any, ClassVar

from aebench.records.origin import Provenance, Timing, renamed_origin
from aebench.records.plan import KnnPlan, plan_of_format_1
from aebench.records.record import StageResult, internal

RENAMED = {
    "dead_dimensions": "collapsed_dimensions",
    "norm_spread": "norm_coefficient_of_variation",
}


PANEL_COLUMN = re.compile(r"accuracy_(.+)_k(\d+)")  # of results.csv: see `panel_columns`


class KnnRecord(StageResult):
    """All figures are None for a failed run."""

    FORMAT: ClassVar[int] = 2

    plan: KnnPlan | None = internal()
    codes_hash: str | None = internal(None)
    accuracy: float | None = None  # 0 to 1, as all others
    accuracy_8bit: float | None = None  # bank and queries rounded to 8 bits a float
    accuracy_4bit: float | None = None
    accuracy_pq: float | None = None  # the bank product-quantised
    pq_bytes: int | None = None  # of a code then
    fewer_bits_note: str | None = None  # why some of these are blank
    probe_accuracy: float | None = None
    mlp_probe_accuracy: float | None = None
    knn_seconds: float | None = None  # all queries of the headline's search
    query_seconds: float | None = None
    bank_bytes: int | None = None
    effective_rank: float | None = None
    collapsed_dimensions: int | None = None
    norm_coefficient_of_variation: float | None = None
    panel: dict[str, dict[str, float | None]] = {}  # metric -> k -> accuracy
    note: str | None = internal(None)  # which figures are left out, and why
    timing: Timing = Timing()
    provenance: Provenance

    @property
    def panel_columns(self) -> dict[str, float | None]:
        """Column of results.csv -> accuracy."""
        return {
            f"accuracy_{metric.replace('-', '_')}_k{k}": accuracy
            for metric, accuracies in self.panel.items()
            for k, accuracy in accuracies.items()
        }

    @classmethod
    def upgraded(cls, content: dict[str, Any], version: int, path: Path) -> dict[str, Any]:
        """From format 1: the settings are now in the plan."""
        plan = plan_of_format_1(path, "knn", content["plan_hash"])
        content = {k: v for k, v in content.items() if k not in ("k", "metric", "backend")}
        content = {RENAMED.get(key, key): value for key, value in content.items()}
        return renamed_origin(content) | {"plan": plan}
