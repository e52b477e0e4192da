"""Files for programs: tables as CSV, and what DVC compares as JSON."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from itertools import accumulate, zip_longest
from typing import Any

from aebench.evaluation.uncertainty import interval, of_accuracy
from aebench.records.record import scalars
from aebench.report.baselines import Baselines
from aebench.report.configurations import MEASURES, Configuration, measured
from aebench.report.findings import Findings
from aebench.report.measures import further
from aebench.report.results import Columns, Near, Result, Results
from aebench.report.texts import whole

SHOWN = ("accuracy", "mse")  # for DVC, and further metrics
DRAWN = (*SHOWN, "ssim")  # by dvc.yaml, which needs its column in any case
BUILDING = ("train_seconds", "add_seconds", "train_points", "index_bytes")  # of an index
FORMULA = ("=", "+", "-", "@", "\t")


def results_csv(
    results: Results, everything: Iterable[Configuration], baselines: Baselines
) -> bytes:
    """The rows with what only the report knows, blank where there is no figure."""
    by_key = {result.key: one for one in everything for result in one.results}
    rows = [
        result.columns
        | image_intervals(result)
        | without_near_duplicates(result, results.near)
        | baselines.of_result(result, by_key[result.key])
        for result in results.results
    ]
    return written(list(dict.fromkeys(column for row in rows for column in row)), rows)


def written(columns: Sequence[str], rows: Iterable[Columns]) -> bytes:
    """CSV in UTF-8; blank where a value is None."""
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
    columns = dict.fromkeys([*MEASURES, *found])
    halves = {f"{c}_ci95": found[c].half_width if c in found else None for c in columns}
    return halves | dict(zip(ends, (accuracy.low, accuracy.high), strict=True))


def without_near_duplicates(result: Result, near: Near | None) -> Columns:
    """The accuracy of one seed over the other test images; blank where nobody looked for them."""
    found = None
    if result.ok and near and near.about.rule and not near.images.all():
        found = float(measured(result.outcomes)["accuracy"][~near.images].mean())
    return {"accuracy_without_near_duplicates": found}


def loss_csv(results: Iterable[Result]) -> bytes:
    """A row per run, seed and epoch: the mean loss, and the seconds of training until then."""
    rows: list[Columns] = []
    for result in results:
        times = accumulate(result.epoch_seconds)
        for epoch, (loss, seconds) in enumerate(zip_longest(result.losses, times), 1):
            place = {"run": result.run, "seed": result.seed, "epoch": epoch}
            rows.append(place | {"seconds": seconds, "loss": loss})
    return written(("run", "seed", "epoch", "seconds", "loss"), rows)


def quality_csv(everything: Sequence[Configuration]) -> bytes:
    """A row per run that did not fail: accuracy (0 to 1), MSE, further metrics, with the ends of
    their intervals.

    Blank is the MSE of an encoder alone.
    """
    rows: list[Columns] = []
    names = [*dict.fromkeys([*DRAWN, *(measure.column for measure in further(everything))])]
    for one in everything:
        figures: Columns = {}
        for column in names:
            found = one.intervals.get(column) if one.ok else None
            ends = (found.mean, found.low, found.high) if found else (None,) * 3
            figures |= dict(zip((column, f"{column}_low", f"{column}_high"), ends, strict=True))
        rows += [{"run": name} | figures for name in one.names if one.ok]
    columns = [f"{column}{end}" for column in names for end in ("", "_low", "_high")]
    return written(["run", *columns], rows)


def search_csv(results: Iterable[Result]) -> bytes | None:
    """A row per run, index and setting, `exact` among them; None where no index was tried."""
    rows: list[Columns] = []
    for result in results:
        for name, record in result.indexes.items():
            place = {"run": result.run, "seed": result.seed, "name": name}
            place |= {"index": record.plan.index, "k": record.plan.k, "status": record.status}
            figures = scalars(record.timing) | {
                "queries": record.queries,
                "single_queries": record.single_queries,
                "machine": record.provenance.machine,
            }
            building = {key: getattr(record, key) for key in BUILDING}
            exact = {"index": "exact", "index_bytes": record.bank_bytes}
            known = [(one, building) for one in record.searched]
            known += [(record.exact, exact)] if record.exact else []
            for found, own in known:
                words = " ".join(f"{key}={value}" for key, value in found.setting.items())
                rows.append(place | {"setting": words} | scalars(found) | figures | own)
            rows += [] if known else [place | figures]
    columns = dict.fromkeys(column for row in rows for column in row)
    return written([*columns], rows) if rows else None


def headline(found: Findings) -> dict[str, float | None]:
    """For `dvc exp show`, a few figures of all runs together; None where there is none.

    best_accuracy: of codes, not the pixels themselves, without labels. best_mse_skill: the gain
    over PCA, of the default size.
    """
    accuracies = [one.mean("accuracy") for one in found.coded if not one.saw_labels]
    default = [one for one in found.coded if one.latent == found.results.latent]
    skills = [found.baselines.skill(one, "mse") for one in default if not one.is_packed]
    return {
        "best_accuracy": max((a for a in accuracies if a is not None), default=None),
        "best_mse_skill": max((skill.mean for skill in skills if skill), default=None),
        "failed_runs": sum(not result.ok for result in found.results.results),
    }


def metrics(everything: Sequence[Configuration]) -> dict[str, dict[str, float]]:
    """For `dvc metrics diff`: the means over seeds, under every run's name."""
    return {
        column: {
            name: mean
            for one in everything
            if (mean := one.mean(column)) is not None
            for name in one.names
        }
        for column in (*SHOWN, *(measure.column for measure in further(everything)))
    }
