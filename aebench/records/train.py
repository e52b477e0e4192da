"""What `train` says of a trained run: results/<run>/<seed>/train.json."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from aebench.records.encode import Sizes
from aebench.records.origin import Provenance, Timing, renamed_origin
from aebench.records.plan import TrainPlan, plan_of_format_1
from aebench.records.record import StageResult, internal

Baseline = Literal["pca", "pixels"]  # what the others are held against
BASELINES: tuple[Baseline, ...] = get_args(Baseline)


def timed(epochs: Sequence[Any]) -> Sequence[Any]:
    """Those whose times count: all but the first; of one: that one."""
    return epochs[1:] or epochs


def epoch_figures(all_epoch_seconds: Sequence[float]) -> dict[str, Any]:
    """epoch_seconds: the median of the epochs that count, and the spread.

    The spread is the median absolute deviation from that median; blank for a single epoch.
    """
    seconds = timed(all_epoch_seconds)
    median = statistics.median(seconds) if seconds else None
    spread = statistics.median(abs(s - median) for s in seconds) if seconds[1:] and median else None
    return {
        "epoch_seconds": median,
        "epoch_seconds_mad": spread,
        "epochs_timed": len(seconds),
    }


class TrainRecord(StageResult):
    """Times in seconds. All figures are None for a failed run."""

    FORMAT: ClassVar[int] = 2

    plan: TrainPlan | None = internal()  # None: of format 1, its plan is not there
    weights_hash: str = internal()
    epoch_seconds: float | None = None  # median over epochs without the first (of one: that one)
    epoch_seconds_mad: float | None = None  # median absolute deviation from it
    epochs_timed: int | None = None
    train_seconds: float | None = None  # of the whole training
    train_contended: bool | None = None
    baseline: Baseline | None = None
    seedless: bool | None = None  # whether the model says that the seed changes nothing
    note: str | None = None
    labels_seen: bool | None = None  # whether the model was given the training labels
    fitted: bool | None = None  # whether the model's own `fit` ran
    begun_with: str | None = None  # the run's `weights` file
    order: str | None = None  # of the images in an epoch; None: all at random
    resumed: int | None = None  # how often it went on after a kill: its times are of several parts
    all_epoch_seconds: list[float] = []
    losses: list[float] = []  # mean over each epoch
    curves: dict[str, list[float | None]] = {}  # further scalars of the loss; None: not finite
    timing: Timing = Timing()  # of an epoch
    provenance: Provenance

    @classmethod
    def upgraded(cls, content: dict[str, Any], version: int, path: Path) -> dict[str, Any]:
        """From format 1: sizes are now counted by `encode`."""
        plan = plan_of_format_1(path, "train", content["plan_hash"])
        content = renamed_origin({k: v for k, v in content.items() if k not in Sizes.model_fields})
        # Reports of format 1 knew the baselines by their names.
        model = plan and plan["model"]
        return content | {"plan": plan, "baseline": model if model in BASELINES else None}
