"""results.csv, a row per run and seed, and metrics.json, small and flat."""

import csv
import io
from collections.abc import Iterable, Sequence

from aebench.evaluation.uncertainty import interval
from aebench.report.baselines import Baselines
from aebench.report.configurations import MEASURES, Configuration, measured
from aebench.report.results import Columns, Result


def results_csv(
    results: Iterable[Result], everything: Iterable[Configuration], baselines: Baselines
) -> bytes:
    """The rows with what only the report knows, blank where there is no figure."""
    by_key = {result.key: one for one in everything for result in one.results}
    rows = [
        result.columns | image_intervals(result) | baselines.of_result(result, by_key[result.key])
        for result in results
    ]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def image_intervals(result: Result) -> Columns:
    """Half widths of the 95 % intervals of one seed, over test images alone."""
    if not result.ok:
        return {f"{column}_ci95": None for column in MEASURES}
    images = measured(result.outcomes)
    return {f"{column}_ci95": interval(images[column][None]).half_width for column in MEASURES}


def metrics(everything: Sequence[Configuration]) -> dict[str, dict[str, float]]:
    """For `dvc metrics diff`: the means over seeds, under every run's name."""
    return {
        column: {
            name: mean
            for one in everything
            if (mean := one.mean(column)) is not None
            for name in one.names
        }
        for column in ("accuracy", "mse")
    }
