"""The bits that a code needs: measured, whatever its model says of it."""

import numpy as np

MOST = 4096  # distinct values of a discrete dimension
ROWS = 2 * MOST  # codes looked at at a time: in the first ones a continuous dimension shows
COLUMNS = 512  # dimensions looked at at a time: 16 MB of float32
FLOAT_BITS = 32


def code_bits(training: np.ndarray, test: np.ndarray) -> float | None:
    """At most so many bits hold a code; codes (N, d) float32, or pixels uint8.

    A dimension is discrete if the training codes hold at most 4,096 distinct values in it, and the
    test codes no other: it counts log2 of their number, any other one all its bits. An upper bound,
    as values may be unequally frequent, and dimensions tell of one another. 0.0 and -0.0 are one
    value, as for search and decoder. None where it is not less than 32 bits a float.
    """
    floats = training.shape[1]
    bits = np.full(floats, 8.0 * training.itemsize)
    for start in range(0, floats, COLUMNS):
        columns = range(start, min(start + COLUMNS, floats))
        known = values_with(dict.fromkeys(columns, np.empty(0, training.dtype)), training)
        for column, values in values_with(known, test).items():
            if len(values) == len(known[column]):
                bits[column] = np.log2(len(values))
    total = float(bits.sum())
    return total if total < FLOAT_BITS * floats else None


def values_with(values: dict[int, np.ndarray], codes: np.ndarray) -> dict[int, np.ndarray]:
    """Dimension -> its distinct values, ascending, with those of further codes (N, d).

    Dimensions of more than `MOST` are left out.
    """
    for start in range(0, len(codes), ROWS):
        block = np.ascontiguousarray(codes[start : start + ROWS, list(values)].T)
        both = {c: union(values[c], row) for c, row in zip(values, block, strict=True)}
        values = {c: distinct for c, distinct in both.items() if len(distinct) <= MOST}
    return values


def union(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """All distinct values of both, ascending."""
    both = np.concatenate([values, others])
    # Of 8,192 bytes a radix sort takes 16 us and not 730, of as many floats the other 23 and not
    # 1,000 (2-core Intel Xeon, one thread).
    found = np.sort(both, kind="stable" if both.itemsize == 1 else None)
    return found[np.concatenate([[True], found[1:] != found[:-1]])]
