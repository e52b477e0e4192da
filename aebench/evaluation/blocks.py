"""Codes that are larger than memory: read block by block, in threads."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from threadpoolctl import threadpool_info


class Rows(Protocol):
    """Codes (N, d), float32 or uint8: an array, a mapped file, or computed when asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """N, d."""
        ...

    def __len__(self) -> int:
        """N."""
        ...

    def __getitem__(self, which: Any, /) -> np.ndarray:
        """Some of the rows: a slice, or an array of their numbers."""
        ...


def steps(rows: int, floats: int, block: int) -> Iterator[slice]:
    """So many rows (N, floats), at most `block` floats at a time, but a row."""
    step = max(1, block // floats)
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def in_threads(
    work: Callable[[Any], Any], parts: Iterable[Any], number: int | None = None
) -> list[Any]:
    """Do it for each part: NumPy computes outside the interpreter lock. `number`: of threads."""
    parts = list(parts)
    if len(parts) < 2:  # asking for the number of threads takes milliseconds
        return [work(part) for part in parts]
    with ThreadPoolExecutor(number or threads()) as pool:
        return list(pool.map(work, parts))  # a worker's error is raised here


def threads() -> int:
    """What the libraries that are loaded by now use at most."""
    return max((pool["num_threads"] for pool in threadpool_info()), default=1)


def spread(codes: np.ndarray, count: int) -> np.ndarray:
    """So many of the codes, evenly over all, which are sorted by class: float32."""
    return as_float32(codes[evenly(len(codes), count)])


def evenly(total: int, count: int) -> np.ndarray:
    """int64 (count,) of the numbers below `total`, at most all: evenly over them."""
    return np.linspace(0, total - 1, min(count, total)).astype(np.int64)


def as_float32(codes: np.ndarray) -> np.ndarray:
    """The same numbers, as FAISS takes them."""
    return np.ascontiguousarray(codes, np.float32)


def kept_in_file(blocks: Iterable[np.ndarray], folder: Path | None = None) -> np.ndarray:
    """The blocks (n, ...) of one or more as one array (N, d), mapped, in a file without a name."""
    count, kind, floats = 0, np.dtype(np.uint8), 1
    with tempfile.TemporaryFile(dir=folder) as file:
        for block in blocks:
            rows = np.ascontiguousarray(block.reshape(len(block), -1))
            file.write(rows.data)
            count, kind, floats = count + len(rows), rows.dtype, rows.shape[1]
        file.flush()
        return np.memmap(file, kind, "c", shape=(count, floats))
