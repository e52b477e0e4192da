"""The columns that can explain a bad search."""

import math
from collections.abc import Sequence

from aebench.evaluation.uncertainty import over_seeds
from aebench.report.configurations import Configuration
from aebench.report.document import Cell, Format, Paragraph, Section
from aebench.report.tables import (
    ACCURACY,
    LATENT,
    MLP_PROBE,
    MSE,
    PROBE,
    RUN,
    Column,
    number,
    table,
)


def share(one: Configuration) -> Cell:
    """The effective rank as a share of the representation size."""
    shares = [rank / (one.latent or math.inf) for rank in one.values("effective_rank")]
    return Cell(over_seeds(shares), Format("{:.0f}", 100)) if shares else Cell()


HEALTH = (
    Column(
        "effective rank",
        number("effective_rank", "{:.1f}"),
        "exp of the entropy of the codes' singular values (Roy and Vetterli, 2007): over how "
        "many directions the codes spread; distances see the rest hardly",
    ),
    Column("of latent, %", share, "effective rank / latent"),
    Column(
        "collapsed dimensions",
        number("collapsed_dimensions", "{:.0f}"),
        "floats with at most 1e-6 of the largest variance: they are stored and say nothing",
    ),
    Column(
        "norm variation",
        number("norm_coefficient_of_variation", "{:.2f}"),
        "coefficient of variation (standard deviation / mean) of the codes' distances from their "
        "mean: where it is large, L2 finds codes near the centre, and cosine says something else",
    ),
)
ROUNDED = Column(
    "MSE at 8 bits",
    number("mse_8bit", "{:.5f}"),
    "with the codes rounded to 8 bits a float, over the range of each dimension in the training "
    "codes: hardly above the MSE where a float holds one number",
)


def latent_space(everything: Sequence[Configuration]) -> Section:
    """How the codes lie, beside what is found with them."""
    words = Paragraph("What can explain a bad search.")
    columns = [RUN, LATENT, *HEALTH, ACCURACY, PROBE, MLP_PROBE, MSE, ROUNDED]
    return Section("Latent space", [words, table(columns, everything)])
