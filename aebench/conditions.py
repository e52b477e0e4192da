"""What the figures hold under: data, machine, recipe, protocol, code; and what failed."""

import os
from collections.abc import Sequence
from typing import Any

from aebench.results import PROTOCOL, RECIPE, TIMED, Point, Row
from aebench.tables import grid

SEVERAL = "several (see [where the rows differ](#where-the-rows-differ))"
COMMITS, DIRTY, MACHINES = (
    tuple(f"{kind}_{key}" for kind in TIMED) for key in ("commit", "dirty", "machine")
)
ALL = ("aebench_version", *COMMITS, *DIRTY, *MACHINES, "knn_kernels", "k", "metric", "backend")
TRAINED = (*RECIPE, "device", "precision", "layout")  # of what is trained by gradient


def conditions(
    plan: dict[str, Any], data: dict[str, Any], rows: Sequence[Row], points: Sequence[Point]
) -> str:
    """Said once, where the rows agree."""
    channels, height, width = data["shape"]
    lines = [
        f"**Data**: {data['dataset']} from {data['source']}, {data['num_train']:,} training and "
        f"{data['num_test']:,} test images, {channels} x {height} x {width}, "
        f"{len(data['classes'])} classes, hash `{data['data_hash'][:12]}`.",
        f"**Machine**: {same(rows, 'epoch_machine')}; search with {same(rows, 'knn_kernels')}.",
        f"**Training**: {training(rows)}seeds {', '.join(map(str, plan['seeds']))}. "
        "`aebench verify RUN` trains a run again: on one machine, with as many threads, the bits "
        "are the same.",
        f"**Protocol {PROTOCOL}**: test images are used for the figures only. kNN: k = "
        f"{same(rows, 'k')}, {same(rows, 'metric')}, exact search ({same(rows, 'backend')}) of the "
        "test codes among the training codes, unweighted vote, among tied classes that of the "
        "nearest neighbour, equal distances by lower training index.",
        f"**Uncertainty**: {uncertainty(plan, data, points)}",
        f"**Code**: aebench {same(rows, 'aebench_version')}, commit {commit(rows)}, torch "
        f"{same(rows, 'torch_version')}, numpy {same(rows, 'numpy_version')}, faiss-cpu "
        f"{same(rows, 'faiss-cpu_version')}, {dates(rows)}.",
    ]
    if experiment := os.environ.get("DVC_EXP_NAME"):
        lines.append(f"**Experiment**: {experiment}.")
    return "\n\n".join(lines)


def uncertainty(plan: dict[str, Any], data: dict[str, Any], points: Sequence[Point]) -> str:
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
    single = [p.name for p in points if len(p.ok) == 1]
    left = (
        f" Of {', '.join(single)} one seed is left: over images alone, and in no tie group."
        if single
        else ""
    )
    return (
        f"figures are means of {count} seeds. ± is a 95 % interval for new seeds and new images: "
        f"the variance between the seeds / {count} plus that between the {images} / their number, "
        "Student's t with Satterthwaite's degrees of freedom; where the seed changes nothing, over "
        "images alone; for times and the latent space, over seeds alone. Skill is paired with PCA "
        f"on the same images; its intervals are of each row by itself. {ties}{left}"
    )


def training(rows: Sequence[Row]) -> str:
    """The recipe of the trained runs."""
    trained = [row for row in rows if row["epochs"]]
    if not trained:
        return "none by gradient; "
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
    recipe = ", ".join(pattern.format(same(trained, column)) for pattern, column in words)
    return f"{recipe}; linear warm-up, linear decay to 0; "


def commit(rows: Sequence[Row]) -> str:
    """The commit of all stages of all rows, and whether the code had uncommitted changes."""
    found = {row[column] for row in rows for column in COMMITS if row[column]}
    dirty = any(row[column] for row in rows for column in DIRTY)
    text = SEVERAL if len(found) > 1 else (found.pop()[:12] if found else "none")
    return text + (" with uncommitted changes" if dirty else "")


def dates(rows: Sequence[Row]) -> str:
    """The first and the last day of training."""
    days = sorted({row["date"][:10] for row in rows})
    return "trained " + " to ".join(dict.fromkeys([days[0], days[-1]])) if days else "no rows"


def differing(rows: Sequence[Row]) -> str:
    """A line per group of rows that agree, where not all do; else empty."""
    versions = sorted({c for row in rows for c in row if c.endswith("_version")} - set(ALL))
    trained = [row for row in rows if row["epochs"]]
    columns = [c for c in (*ALL, *versions) if len(values(rows, c)) > 1]
    columns += [c for c in TRAINED if len(values(trained, c)) > 1]
    # A stage of another commit than the others' of its row.
    if len({row[c] for row in rows for c in COMMITS}) > 1:
        columns = [*COMMITS, *(c for c in columns if c not in COMMITS)]
    if not columns:
        return ""
    groups: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        key = tuple("" if row.get(column) is None else str(row[column]) for column in columns)
        groups.setdefault(key, []).append(f"{row['run']}-{row['seed']}")
    cells = [[", ".join(names), *key] for key, names in groups.items()]
    text = grid(["run-seed", *columns], cells, [True] * (len(columns) + 1))
    return f"## Where the rows differ\n\nAll that is not in this table agrees.\n\n{text}"


def values(rows: Sequence[Row], column: str) -> set[str]:
    """The distinct values there are."""
    return {str(row[column]) for row in rows if row.get(column) is not None}


def same(rows: Sequence[Row], column: str) -> str:
    """The one value of the column, or that there are several."""
    found = values(rows, column)
    if len(found) > 1:
        return SEVERAL
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
