"""FAISS, imported so that it computes as fast as the processor can."""

import contextlib
import os
from collections.abc import Iterator
from functools import cache
from typing import Any

from threadpoolctl import threadpool_info


def faiss() -> Any:
    """The library."""
    load_faiss()
    import faiss as found

    return found


@cache
def load_faiss() -> None:
    """Import it for the first time. ImportError where it cannot be."""
    with known_kernels():
        import faiss
    # Matrix products from 20 queries on, as FAISS did until it counted queries x floats: 10,000
    # queries of 10 floats take 0.7 s instead of 1.6.
    faiss.cvar.distance_compute_blas_threshold = 20


@contextlib.contextmanager
def known_kernels() -> Iterator[None]:
    """Make the OpenBLAS that is loaded meanwhile take the kernels of NumPy's.

    FAISS's wheels bring one of 2021 that does not know later processors: it took SSE3 kernels on
    an Intel Xeon of 2023 (Sapphire Rapids), where 50,000 x 10,000 at 1000 floats then took 19.8 s
    instead of 5.7. OpenBLAS reads the variable when it is loaded; one that the user set stays.
    """
    found = [str(pool["architecture"]) for pool in threadpool_info() if "architecture" in pool]
    if not found or "OPENBLAS_CORETYPE" in os.environ:
        yield
        return
    # Those with bfloat16 differ in kernels that are not used here, and have the longer names.
    newer = {"SapphireRapids": "SkylakeX", "Cooperlake": "SkylakeX"}
    os.environ["OPENBLAS_CORETYPE"] = newer.get(found[0], found[0])
    try:
        yield
    finally:
        del os.environ["OPENBLAS_CORETYPE"]
