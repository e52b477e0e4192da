"""What the scripts share: the machine's name, alternating runs, and how results are printed."""

import argparse
import json
import os
import statistics
import sys
from typing import Any

from tabulate import tabulate

from aebench.provenance import cpu_name
from aebench.records.prepare import Prepared
from aebench.workspace import Workspace


def arguments(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    return parser.parse_args()


def machine() -> dict[str, Any]:
    """What times depend on."""
    return {"cpu": cpu_name(), "cores": os.cpu_count()}


def show(as_json: bool, tables: dict[str, list[dict[str, Any]]], **facts: Any) -> None:
    """Print tables (title -> rows), or all as one JSON object."""
    facts = machine() | facts
    if as_json:
        print(json.dumps(facts | tables, indent=1))
        return
    print("\n".join(f"{key}: {value}" for key, value in facts.items()))
    for title, rows in tables.items():
        print(f"\n{title}\n{tabulate(rows, 'keys', floatfmt='.4g')}")


def median(values: list[float]) -> float:
    return statistics.median(values)


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def need_cifar10() -> Prepared:
    """What `prepare` says of its images; exit where they are not the full CIFAR-10."""
    command = "dvc exp run -S dataset=cifar10"
    meta = Prepared.read(Workspace().prepared / "meta.json", command)
    if (meta.num_train, meta.num_test, meta.shape) != (50000, 10000, (3, 32, 32)):
        sys.exit(f"needs the full CIFAR-10 in data/prepared, found {meta.shape}")
    return meta
