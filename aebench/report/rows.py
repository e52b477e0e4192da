"""results.csv, a row per run and seed, and metrics.json, small and flat."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

from aebench.evaluation.uncertainty import interval, of_accuracy
from aebench.report.baselines import Baselines
from aebench.report.configurations import MEASURES, Configuration, measured
from aebench.report.results import Columns, Result
from aebench.report.texts import whole

FORMULA = ("=", "+", "-", "@", "\t")


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
    writer.writerows({key: field(value) for key, value in row.items()} for row in rows)
    return text.getvalue().encode()


def field(value: Any) -> Any:
    """Text as every reader of CSV takes it; spreadsheets compute what begins as a formula does."""
    if not isinstance(value, str):
        return value
    text = whole(re.sub("\r\n?", "\n", value.replace("\0", "")))
    return f"'{text}" if text.startswith(FORMULA) else text


def image_intervals(result: Result) -> Columns:
    """The 95 % intervals of one seed, over test images alone: half widths, an accuracy's ends."""
    ends = ("accuracy_ci95_low", "accuracy_ci95_high")
    if not result.ok:
        return dict.fromkeys([*(f"{column}_ci95" for column in MEASURES), *ends])
    images = {column: values[None] for column, values in measured(result.outcomes).items()}
    found = {column: interval(values) for column, values in images.items()}
    found["accuracy"] = accuracy = of_accuracy(images["accuracy"])
    halves = {f"{c}_ci95": found[c].half_width if c in found else None for c in MEASURES}
    return halves | dict(zip(ends, (accuracy.low, accuracy.high), strict=True))


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
