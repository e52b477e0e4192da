"""The neighbours by L2 and by cosine similarity, from the same products of codes."""

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from aebench.evaluation.blocks import in_threads, steps
from aebench.evaluation.distinct import Distinct, distinct
from aebench.evaluation.faiss_loading import faiss
from aebench.evaluation.latent_space import Units, lengths
from aebench.evaluation.search import BANK, EXTRA, QUERIES, Frame, ranked, search

if TYPE_CHECKING:
    from aebench.schema import Backend

FEW = 256  # floats: below, two products of their own are faster: 4.2 s instead of 6 at 10 floats
SHORT = 2.0**-20  # of the largest element: shorter codes lose digits of their direction in a Frame
TILE = 4096, 1024  # queries and rows of the bank that are multiplied at a time: 16 MB
BLOCK = 2**18  # products that a thread looks at at a time, 1 MB: they stay in the cache


def l2_and_cosine(
    bank: np.ndarray, queries: np.ndarray, centre: np.ndarray, k: int, backend: "Backend"
) -> tuple[np.ndarray, np.ndarray]:
    """What `search` finds for the codes, and for their units: int64 (N_queries, k) each.

    `centre` float64 (d,): of `Units`. The backend searches for each where that is faster, and where
    codes differ without their directions, or have none.
    """
    units = Units(bank, False, centre), Units(queries, True, centre)
    if bank.shape[1] >= FEW:
        codes = distinct(bank), distinct(queries)
        directions = distinct(units[0]), distinct(units[1])
        frame = Frame(centre, Frame.of(*codes).scale)
        shortest = min(lengths(part.codes, centre).min() for part in codes) * frame.scale
        pairs = zip(codes, directions, strict=True)
        if shortest > SHORT and all(np.array_equal(a.group, b.group) for a, b in pairs):
            most = min(k, len(codes[0]))
            by_l2, by_cosine = proposed(*codes, frame, min(k + EXTRA, len(codes[0])))
            found = (
                ranked(*codes, most, by_l2, frame.rounding),
                ranked(*directions, most, by_cosine, direction_rounding),
            )
            one, other = (codes[0].members(*each, k)[codes[1].group] for each in found)
            return one, other
    return search(bank, queries, k, backend), search(*units, k, backend)


def direction_rounding(queries: np.ndarray, furthest: np.ndarray) -> np.ndarray:
    """As `Frame.rounding`, for units (N_queries, d + 2): float64 (N_queries,).

    A product of d terms is off by at most about (d + 4) u |q| |b| with what moving rounds (u =
    2^-24), and its division by |b| by 4 u: distances 2 - 2 cos by twice that. The units themselves
    are rounded, which moves distances of at most 2 by 8 u. Twice, as two are compared.
    """
    terms = (queries.shape[1] + 12) * 2.0**-24
    return np.full(len(queries), 4 * terms / (1 - terms))


def proposed(
    near: Distinct, asked: Distinct, frame: Frame, number: int
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest by L2, and by cosine: int64 (distinct queries, number), in any order."""
    parts = list(steps(len(asked), near.floats, QUERIES))
    l2, cosine = (
        [faiss().ResultHeap(part.stop - part.start, number) for part in parts] for _ in range(2)
    )
    for bank_part in steps(len(near), near.floats, BANK):
        bank = frame.moved(near, bank_part)
        squares = np.einsum("ij,ij->i", bank, bank)
        norms = np.sqrt(squares)
        for part, *heaps in zip(parts, l2, cosine, strict=True):
            queries = frame.moved(asked, part)
            for rows in steps(len(queries), 1, TILE[0]):
                for columns in steps(len(bank), 1, TILE[1]):
                    products = queries[rows] @ bank[columns].T
                    tile = Tile(products, rows.start, bank_part.start + columns.start)
                    add = partial(tile.add, heaps, squares[columns], norms[columns])
                    in_threads(add, steps(len(products), products.shape[1], BLOCK))
    return np.concatenate([heap.I for heap in l2]), np.concatenate([heap.I for heap in cosine])


class Tile(NamedTuple):
    """Products float32 (queries, rows of the bank), and the numbers of the first ones."""

    products: np.ndarray
    query: int
    row: int

    def add(self, heaps: list[Any], squares: np.ndarray, norms: np.ndarray, part: slice) -> None:
        """Let the heaps of L2 and of cosine have some of its queries; overwrites these.

        `squares` and `norms` float32 (rows of the bank,): what their codes' lengths are.
        """
        similar = self.products[part]
        distances = similar * -2
        distances += squares
        similar /= -norms
        before = faiss().omp_get_max_threads()
        faiss().omp_set_num_threads(1)  # in this thread alone: others have the other parts
        for heap, found in zip(heaps, (distances, similar), strict=True):
            values = faiss().swig_ptr(found)
            heap.heaps.addn(found.shape[1], values, self.row, self.query + part.start, len(found))
        faiss().omp_set_num_threads(before)
