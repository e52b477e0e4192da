"""How often the headline's search is right where the codes are kept in fewer bits."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aebench.evaluation.blocks import Rows, kept_in_file, spread, steps
from aebench.evaluation.latent_space import BankStatistics, moved_by
from aebench.evaluation.product import product, product_fault
from aebench.evaluation.quantise import BLOCK, SAMPLE, Decoded, affine, narrowed
from aebench.evaluation.search import search
from aebench.evaluation.vote import vote

if TYPE_CHECKING:
    from aebench.schema import Knn

# Codes x queries x floats of a search that is made three times more: 1,000 floats of CIFAR-10 take
# half of it. Its pixels would take three minutes more.
PRODUCTS = 10**12


def fewer_bits(
    bank: np.ndarray,
    labels: np.ndarray,
    queries: np.ndarray,
    truth: np.ndarray,
    knn: "Knn",
    found: BankStatistics,
    folder: Path | None = None,
) -> dict[str, Any]:
    """The figures by their names in knn.json; `fewer_bits_note`: why some are left out.

    Arguments as of `evaluated`; `found`: of the bank as it is, which whitens, too. With 8 and 4
    bits a float bank and queries are rounded, by the bank's quantiser; of product quantisation the
    bank alone, as FAISS searches it; what it keeps, d / 2 bytes a row, lies in a file without a
    name in `folder`.
    """
    count, floats = bank.shape
    if count * len(queries) * floats > PRODUCTS:
        words = f"codes of {floats:,} floats are not searched again in fewer bits: it takes minutes"
        return {"fewer_bits_note": words}

    def accuracy(near: Rows, asked: Rows) -> float:
        pair = moved_by(knn.metric, near, asked, found, folder)
        return float(np.mean(vote(labels[search(*pair, knn.k, knn.backend)]) == truth))

    eight = affine([bank[rows] for rows in steps(count, floats, BLOCK)])  # views
    sample = spread(bank, SAMPLE)
    figures: dict[str, Any] = {}
    for kind in (eight, narrowed(eight, sample, 4)):
        pair = (Decoded(codes, kind.rounded, floats) for codes in (bank, queries))
        figures[f"accuracy_{kind.bits}bit"] = accuracy(*pair)
    if fault := product_fault(count, floats):
        return figures | {"fewer_bits_note": fault}
    quantiser = product(sample)
    blocks = (quantiser.encoded(bank[rows]) for rows in steps(count, floats, BLOCK))
    stored = kept_in_file(blocks, folder)
    kept = Decoded(stored, quantiser.decoded, floats)
    return figures | {
        "accuracy_pq": accuracy(kept, queries),
        "pq_bytes": quantiser.code_bytes,
    }
