"""What the codes of a run are worth: the headline's search, the panel, the probes, their health."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aebench.errors import Failure
from aebench.evaluation.blocks import Rows
from aebench.evaluation.fewer_bits import fewer_bits
from aebench.evaluation.latent_space import (
    BankStatistics,
    bank_statistics,
    latent_health,
    left_out,
    moved,
)
from aebench.evaluation.probe import mlp_probe, probe
from aebench.evaluation.search import search
from aebench.evaluation.shared import l2_and_cosine
from aebench.evaluation.vote import vote
from aebench.timing import Stopwatch, Usage

if TYPE_CHECKING:
    from aebench.schema import Backend, Knn

PANEL_K = 1, 5, 10, 20, 50
WHITENED = "whitened-cosine"


@dataclass
class Evaluated:
    """`predictions` int64 (N_test,) of the headline's vote, `used` by its search, and figures."""

    predictions: np.ndarray
    used: Usage
    accuracy: float
    probe_accuracy: float | None
    mlp_probe_accuracy: float | None
    panel: dict[str, dict[str, float | None]]  # metric -> k -> accuracy
    health: dict[str, Any]
    query_seconds: float  # of the headline's search, per query
    bank_bytes: int  # as float32
    fewer_bits: dict[str, Any]  # of codes kept in fewer bits, by the names in knn.json
    note: str | None  # what is left out, and why


def evaluated(
    bank: np.ndarray,
    labels: np.ndarray,
    queries: np.ndarray,
    truth: np.ndarray,
    knn: "Knn",
    folder: Path | None = None,
) -> Evaluated:
    """Search the queries (N_test, d) among the bank (N, d), both float32 or uint8, and vote.

    `labels` int64 (N,) of the bank, `truth` int64 (N_test,) of the queries; k at most N. Failure
    where the headline's metric is whitened and the bank cannot be. `folder`: where the whitened
    codes lie meanwhile, twice as many bytes as the codes as float32, in files without a name.

    Beside the codes, which may be mapped, it holds less than 512 MiB and about 250 bytes a row.
    """
    found = bank_statistics(bank)
    note, health = left_out(bank, found), latent_health(found)
    if note and knn.metric == WHITENED:
        raise Failure(f"knn.metric {WHITENED}: {note}")
    metrics, coordinates = moved(bank, queries, found, folder)
    if knn.metric != WHITENED:  # without its matrices
        found = BankStatistics(found.centre, found.spread, found.norms)
    indices, used = neighbours(*metrics[knn.metric], knn.k, knn.backend)
    predictions = vote(labels[indices])
    panel: dict[str, dict[str, float | None]] = {}
    # Not the timed search: ranking 66 candidates instead of 26 takes longer.
    most = min(max(PANEL_K), len(bank))
    both = l2_and_cosine(bank, queries, found.centre, most, knn.backend)
    indices_of: dict[str, np.ndarray] = dict(zip(("l2", "cosine"), both, strict=True))
    if WHITENED in metrics:
        indices_of[WHITENED] = search(*metrics.pop(WHITENED), most, knn.backend)
    for metric, indices in indices_of.items():
        nearest = labels[indices]
        panel[metric] = {
            str(k): accuracy(vote(nearest[:, :k]), truth) if k <= len(bank) else None
            for k in PANEL_K
        }
    panel.setdefault(WHITENED, dict.fromkeys(map(str, PANEL_K)))
    read = [
        None if coordinates is None else fitted(coordinates[0], labels, coordinates[1])
        for fitted in (probe, mlp_probe)
    ]
    linear, mlp = (None if found is None else accuracy(found, truth) for found in read)
    smaller = fewer_bits(bank, labels, queries, truth, knn, found, folder)
    return Evaluated(
        predictions,
        used,
        accuracy(predictions, truth),
        linear,
        mlp,
        panel,
        health,
        used.seconds / len(queries),
        bank.size * 4,
        smaller,
        note,
    )


def neighbours(near: Rows, asked: Rows, k: int, backend: "Backend") -> tuple[np.ndarray, Usage]:
    """Indices int64 (N_test, k) of the nearest, and what the search took."""
    # Once for nothing: scikit-learn takes 2 s to import, FAISS's first search starts threads.
    search(near[:1], asked[:1], 1, backend)
    stopwatch = Stopwatch()
    indices = search(near, asked, k, backend)
    return indices, stopwatch.read()


def accuracy(predicted: np.ndarray, truth: np.ndarray) -> float:
    """The share that is right."""
    return float(np.mean(predicted == truth))


def flattened(images: np.ndarray) -> np.ndarray:
    """Images uint8 (N, C, H, W) as codes: a view uint8 (N, C * H * W).

    Not divided by 255: neighbours are the same at any scale, and whole numbers keep ties exact.
    """
    return np.asarray(images).reshape(len(images), -1)
