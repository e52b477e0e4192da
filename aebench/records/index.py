"""What `index` says of an approximate index: results/<run>/<seed>/index-<name>.json."""

from aebench.records.origin import Provenance, Timing
from aebench.records.plan import IndexPlan
from aebench.records.record import Part, StageResult


class Searched(Part):
    """One way to search. `setting`: how far, in FAISS's words; empty where there is no choice.

    `recall`: the share of the k returned neighbours that are no further than the k-th of the exact
    search; `accuracy` by the same vote; both of all test codes. The others are of the `queries` and
    `single_queries` that stand beside: a batch in one call, and each in a call of its own.
    """

    setting: dict[str, int] = {}
    recall: float
    accuracy: float
    queries_per_second: float  # in a batch, all threads
    queries_per_second_1: float  # in a batch, one thread
    p50_seconds: float  # of a single query, one thread
    p99_seconds: float


class IndexRecord(StageResult):
    """All figures are None for a failed run, and where the index cannot be made."""

    plan: IndexPlan
    codes_hash: str | None = None
    exact: Searched | None = None  # the exact search, in the same minutes
    searched: list[Searched] = []  # further and further
    bank_bytes: int | None = None  # of the codes, as float32
    index_bytes: int | None = None  # of the index, as FAISS writes it to a file
    train_seconds: float | None = None
    add_seconds: float | None = None
    train_points: int | None = None
    queries: int | None = None
    single_queries: int | None = None
    note: str | None = None  # what is to be known of its training
    timing: Timing = Timing()
    provenance: Provenance
