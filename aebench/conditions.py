"""What the figures hold under: data, machine, recipe, protocol, code; and what failed."""

import os
from collections.abc import Sequence
from typing import Any

from aebench.results import PROTOCOL, Row
from aebench.tables import grid

# Whatever says where a row comes from; precision and layout are of training by gradient alone.
ORIGIN = (
    "aebench_version",
    "commit",
    "dirty",
    "epoch_machine",
    "encode_machine",
    "knn_machine",
    "device",
    "openblas_coretype",
)
TRAINED = "precision", "layout"


def conditions(plan: dict[str, Any], data: dict[str, Any], rows: Sequence[Row]) -> str:
    """Said once, where the rows agree."""
    channels, height, width = data["shape"]
    lines = [
        f"**Data**: {data['dataset']} from {data['source']}, {data['num_train']:,} training and "
        f"{data['num_test']:,} test images, {channels} x {height} x {width}, "
        f"{len(data['classes'])} classes, hash `{data['data_hash'][:12]}`.",
        f"**Machine**: {same(rows, 'epoch_machine')}; "
        f"OPENBLAS_CORETYPE {same(rows, 'openblas_coretype')}.",
        f"**Training**: {training(rows)}; linear warm-up, linear decay to 0; "
        f"seeds {', '.join(map(str, plan['seeds']))}. Deterministic: `aebench verify RUN` trains a "
        "run again and compares the bits.",
        f"**Protocol {PROTOCOL}**: test images are used for the figures only. kNN: k = "
        f"{same(rows, 'k')}, {same(rows, 'metric')}, exact search ({same(rows, 'backend')}) of the "
        "test codes among the training codes, unweighted vote, among tied classes that of the "
        "nearest neighbour, equal distances by lower training index.",
        f"**Uncertainty**: {uncertainty(plan, data)}",
        f"**Code**: aebench {same(rows, 'aebench_version')}, commit {commit(rows)}, torch "
        f"{same(rows, 'torch_version')}, numpy {same(rows, 'numpy_version')}, faiss-cpu "
        f"{same(rows, 'faiss-cpu_version')}, {dates(rows)}.",
    ]
    if experiment := os.environ.get("DVC_EXP_NAME"):
        lines.append(f"**Experiment**: {experiment}.")
    return "\n\n".join(lines)


def uncertainty(plan: dict[str, Any], data: dict[str, Any]) -> str:
    """How the intervals were made, and what they leave out."""
    images = f"{data['num_test']:,} test images"
    ties = (
        "Bold: the best and what is tied with it, which a paired test on the same images does not "
        "tell from it (5 %, Holm's correction over all pairs of rows)."
    )
    count = len(plan["seeds"])
    if count == 1:
        return (
            f"± is a 95 % interval over the {images} of one seed. It leaves out that another seed "
            "gives another model: a difference between two runs may be luck. More seeds: `dvc exp "
            f"run -S 'seeds=[0,1,2]'`. {ties}"
        )
    return (
        f"figures are means of {count} seeds. ± is a 95 % interval for new seeds and new images: "
        f"the variance between the seeds / {count} plus that between the {images} / their number, "
        "Student's t with Satterthwaite's degrees of freedom; where the seed changes nothing, over "
        "images alone; for times and the latent space, over seeds alone. Skill is paired with PCA "
        f"on the same images. {ties}"
    )


def training(rows: Sequence[Row]) -> str:
    """The recipe of the trained runs."""
    trained = [row for row in rows if row["epochs"]]
    words = (
        ("epochs {}", "epochs"),
        ("batch {}", "batch_size"),
        (
            "peak rates {} (Muon, matrices and kernels of at most 128 rows or columns)",
            "muon_learning_rate",
        ),
        ("{} (AdamW, the rest)", "learning_rate"),
        ("weight decay {}", "weight_decay"),
        ("horizontal flips {}", "horizontal_flip"),
        ("products in {}", "precision"),
    )
    return ", ".join(pattern.format(same(trained, column)) for pattern, column in words)


def commit(rows: Sequence[Row]) -> str:
    """The commit the rows were made at, and whether the code had uncommitted changes."""
    text = same(rows, "commit")
    dirty = " with uncommitted changes" if any(row["dirty"] for row in rows) else ""
    return (text if text.startswith("several") else text[:12]) + dirty


def dates(rows: Sequence[Row]) -> str:
    """The first and the last day of training."""
    days = sorted({row["date"][:10] for row in rows})
    return "nothing trained" if not days else days[0] + (f" to {days[-1]}" if days[1:] else "")


def differing(rows: Sequence[Row]) -> str:
    """A line per group of rows of one origin, where they are of several; else empty."""
    versions = sorted({c for row in rows for c in row if c.endswith("_version")} - set(ORIGIN))
    columns = [c for c in (*ORIGIN, *versions) if len(values(rows, c)) > 1]
    columns += [c for c in TRAINED if len(values([r for r in rows if r["epochs"]], c)) > 1]
    if not columns:
        return ""
    groups: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        key = tuple("" if row.get(column) is None else str(row[column]) for column in columns)
        groups.setdefault(key, []).append(f"{row['run']}-{row['seed']}")
    cells = [[", ".join(names), *key] for key, names in groups.items()]
    text = grid(["run-seed", *columns], cells, [True] * (len(columns) + 1))
    return f"## Where the rows differ\n\nOf several origins; all else agrees.\n\n{text}"


def values(rows: Sequence[Row], column: str) -> set[str]:
    """The distinct values there are."""
    return {str(row[column]) for row in rows if row.get(column) is not None}


def same(rows: Sequence[Row], column: str) -> str:
    """The one value of the column, or that there are several."""
    found = values(rows, column)
    if len(found) > 1:
        return "several (see [where the rows differ](#where-the-rows-differ))"
    return found.pop() if found else "none"


def failures(rows: Sequence[Row]) -> str:
    """Each failed run, its reason and the command that tries it again; empty without any."""
    failed = [row for row in rows if row["status"] != "ok"]
    if not failed:
        return ""
    lines = [
        f"- **{row['run']}**, seed {row['seed']}: {row['status']}. Again: "
        f"`dvc repro -s -f train@{row['run']}-{row['seed']} && dvc repro`"
        for row in failed
    ]
    return f"## {len(failed)} of {len(rows)} runs failed\n\n" + "\n".join(lines)
