"""Metrics of reconstructions beside MSE and PSNR: SSIM and those of plug-ins."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from aebench.report.charts import Charts
from aebench.report.configurations import Configuration
from aebench.report.document import BulletList, Section, Span, Strong, Text
from aebench.report.findings import Findings
from aebench.report.measures import Measure
from aebench.report.ties import in_words, spread_out


def beyond_mse(found: Findings, charts: Charts) -> Section:
    """What each says of the runs, and its chart; without blocks where there is none."""
    items = [in_short(found, measure) for measure in found.further]
    figures = [figure for measure in found.further for figure in charts.over_bytes(measure)]
    return Section("Beyond MSE", [BulletList(items), *figures] if items else [])


def in_short(found: Findings, measure: Measure) -> Text:
    """The best of each size and its ties, and whether the metric ranks images as the MSE does."""
    words: list[Span] = [Strong(measure.word), f" ({measure.better} is better)"]
    for place, group in enumerate(spread_out(found.ties.best_by_size(found.coded, measure.column))):
        floats = "float" if group[0].latent == 1 else "floats"
        words += [", " if place else ": ", f"with {group[0].latent:,} {floats} ", *in_words(group)]
    words.append(".")
    if known := correlations(found.coded, measure):
        low, high = (f"{value:.2f}" for value in (min(known), max(known)))
        span = low if low == high else f"{low} to {high}"
        words.append(
            f" Rank correlation with the MSE over test images: {span} (1: the same order)."
        )
    return words


def correlations(ones: Sequence[Configuration], measure: Measure) -> list[float]:
    """Spearman's, of each run's first seed: 1 where the metric is the better the smaller the MSE.

    Not of one whose images are all alike.
    """
    pairs = [
        (measure.sign * one.images[measure.column][0], -one.images["mse"][0])
        for one in ones
        if measure.column in one.images
    ]
    varied = [pair for pair in pairs if all(np.ptp(values) > 0 for values in pair)]
    return [float(stats.spearmanr(*pair).statistic) for pair in varied]
