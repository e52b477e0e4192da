"""Codes of which many are equal: collapsed, quantised, of images that occur twice."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from aebench.evaluation.blocks import Rows, in_threads, steps

BLOCK = 2**18  # floats looked at at a time, 1 MB: they stay in the processor's cache
ENTRIES = 2**20  # neighbours ordered at a time


@dataclass(frozen=True)
class Distinct:
    """The distinct rows of `codes` (N, d), in the order of their first members.

    `first` int64 (distinct rows,): the index of each one's first member; `group` int64 (N,): which
    of them each row is.
    """

    codes: Rows
    first: np.ndarray
    group: np.ndarray

    def __len__(self) -> int:
        return len(self.first)

    @property
    def floats(self) -> int:
        """d."""
        return self.codes.shape[1]

    def take(self, which: np.ndarray | slice) -> np.ndarray:
        """Some of the distinct rows, by their numbers."""
        return self.codes[which if len(self) == len(self.codes) else self.first[which]]

    @cached_property
    def sizes(self) -> np.ndarray:
        """Members of each distinct row: int64 (distinct rows,)."""
        return np.bincount(self.group, minlength=len(self))

    def members(self, groups: np.ndarray, distances: np.ndarray, k: int) -> np.ndarray:
        """The k nearest rows int64 (Q, k): by distance, equal ones by lower index.

        `groups` int64 (Q, m): the nearest distinct rows in that order, m = min(k, distinct rows);
        `distances` float64 (Q, m).
        """
        if len(self) == len(self.codes):
            return groups[:, :k]
        found = np.empty((len(groups), k), np.int64)
        step = max(1, ENTRIES // min(k * groups.shape[1], len(self.codes)))
        for start in range(0, len(groups), step):
            rows = slice(start, start + step)
            found[rows] = self.ordered(groups[rows], distances[rows], k)
        return found

    def ordered(self, groups: np.ndarray, distances: np.ndarray, k: int) -> np.ndarray:
        """As `members`, all at once."""
        counts = np.minimum(self.sizes[groups], k)
        before = counts.cumsum(axis=1) - counts
        # Groups beyond the k-th neighbour matter where they are as far as it is.
        furthest = np.max(distances, axis=1, where=before < k, initial=0, keepdims=True)
        rows, columns = np.nonzero(distances <= furthest)
        counts, near = counts[rows, columns], groups[rows, columns]
        offsets = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
        indices = self.by_group[np.repeat(self.starts[near], counts) + offsets]
        rows = np.repeat(rows, counts)
        order = np.lexsort((indices, np.repeat(distances[distances <= furthest], counts), rows))
        each = np.bincount(rows, minlength=len(groups))  # at least k
        return indices[order][(each.cumsum() - each)[:, None] + np.arange(k)]

    @cached_property
    def by_group(self) -> np.ndarray:
        """All rows' indices, group by group, ascending in each."""
        return np.argsort(self.group, kind="stable")

    @cached_property
    def starts(self) -> np.ndarray:
        """Where each group starts in `by_group`."""
        return self.sizes.cumsum() - self.sizes


def distinct(codes: Rows) -> Distinct:
    """Find the equal rows of codes (N, d); 0.0 and -0.0 are equal. It takes 60 bytes a row.

    Equal rows whose hash another row has, too, may stay apart: that costs time and nothing else.
    """
    hashes = row_hashes(codes)
    order = np.argsort(hashes, kind="stable")
    same = hashes[order[1:]] == hashes[order[:-1]]
    every = np.arange(len(codes))
    if not same.any():
        return Distinct(codes, every, every)
    starts = np.flatnonzero(np.concatenate([[True], ~same]))
    leaders = np.empty_like(every)
    leaders[order] = np.repeat(order[starts], np.diff(starts, append=len(codes)))
    followers = np.flatnonzero(leaders != every)
    for part in steps(len(followers), codes.shape[1], BLOCK):
        rows = followers[part]
        other = (codes[rows] != codes[leaders[rows]]).any(axis=1)
        leaders[rows[other]] = rows[other]
    first = np.flatnonzero(leaders == every)
    return Distinct(codes, first, np.searchsorted(first, leaders))


def row_hashes(codes: Rows) -> np.ndarray:
    """uint64 (N,), equal for equal rows."""
    floats = codes.shape[1]
    random = np.random.default_rng(0)
    factors = random.integers(2**63, size=(floats + 1) // 2, dtype=np.uint64) * 2 + 1
    found = np.empty(len(codes), np.uint64)

    def hashed(rows: slice) -> None:
        block = np.zeros((rows.stop - rows.start, 2 * len(factors)), np.float32)
        block[:, :floats] = codes[rows]
        block += 0.0  # -0.0 becomes 0.0
        words = block.view(np.uint64)
        words ^= words >> 23  # of round numbers, the lowest bits are all 0
        found[rows] = np.einsum("ij,j->i", words, factors)

    in_threads(hashed, steps(len(codes), floats, BLOCK))
    return found
