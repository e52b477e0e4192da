"""Few labels and changed images: what the first seed's codes keep of their accuracy."""

from collections.abc import Sequence

from aebench.evaluation.uncertainty import of_accuracies
from aebench.report.configurations import Configuration, best_and_references, of_all
from aebench.report.document import (
    Block,
    BulletList,
    Cell,
    Format,
    Note,
    Paragraph,
    Section,
    Strong,
    Table,
    Text,
)
from aebench.report.findings import Findings
from aebench.report.results import Columns
from aebench.report.tables import SHORT_RUN, CellOf, Column, table
from aebench.report.texts import LISTED, named, others, short

TITLE = "Few labels, changed images"
RUNS = 12  # in a table
PERCENT = "{:.1f}"
ALL = "stress_accuracy"


def stressed(one: Configuration) -> Columns:
    """Of the first seed that was measured: gathered ones may have several."""
    return next((result.columns for result in one.ok if result.columns.get(ALL) is not None), {})


def spread(column: str) -> CellOf:
    """Mean and standard deviation over the draws, in %."""

    def cell(one: Configuration) -> Cell:
        mean, deviation = (stressed(one).get(name) for name in (column, f"{column}_deviation"))
        if mean is None or deviation is None:
            return Cell()
        return Cell(mean, text=f"{100 * mean:.1f} ± {100 * deviation:.1f}")

    return cell


def share(column: str) -> CellOf:
    """An accuracy in %."""
    return lambda one: Cell(stressed(one).get(column), Format(PERCENT, 100))


LABELS = [
    *(
        Column(
            f"{count} labels a class",
            spread(f"accuracy_labels_{count}"),
            "kNN among so many training images of each class: mean and standard deviation over 5 "
            "draws, the same for every run",
        )
        for count in (10, 100, 1000)
    ),
    Column("all labels", share(ALL), "of the same test images, among all training images"),
    Column(
        "class kept",
        share("accuracy_class_kept"),
        "reconstructed test images asked among the pixels of the training images, by L2: whether "
        "what is seen in them is still of their class; beside it the row of the pixels",
    ),
]
CHANGES = [
    Column("unchanged", share(ALL), "of the same test images, as they are"),
    *(
        Column(name, share(f"accuracy_{name.partition(' ')[0]}"), meaning)
        for name, meaning in (
            ("contrast", "half of each value's distance from mid-grey, 0.5"),
            ("brightness", "0.2 more"),
            ("shift", "2 pixels to the right; what leaves comes in on the left"),
            ("blur", "Gaussian of 1 pixel's deviation, the border's pixels repeated"),
            ("noise", "Gaussian of deviation 0.1"),
        )
    ),
]


def stress(found: Findings) -> list[Section]:
    """Both tables; none where no result has such figures, as those of earlier versions."""
    known = [one for one in found.configurations if one.values(ALL)]
    shown = best_and_references(known, RUNS)
    blocks: list[Block] = []
    if shown:
        blocks = [
            Paragraph(
                [
                    Strong("Few labels"),
                    ": accuracy in %, ± the standard deviation over 5 draws."
                    f"{of_all(shown, known)}",
                ]
            ),
            in_columns(LABELS, shown),
            Paragraph(
                [
                    Strong("Corruption"),
                    ": accuracy in % of changed test images among unchanged training images; "
                    "pixels are in [0, 1], clipped after the change and rounded to 8 bits.",
                ]
            ),
            in_columns(CHANGES, shown),
            Note(sureness(shown)),
        ]
    return [Section(TITLE, [*blocks, *reasons(found.configurations)])]


def in_columns(columns: Sequence[Column], shown: Sequence[Configuration]) -> Table:
    """A row a run; without the columns in which none has anything."""
    return table([SHORT_RUN, *columns], shown)


def sureness(shown: Sequence[Configuration]) -> str:
    """Of which images the figures are, and how far an accuracy may be off."""
    widest, counts = 0.0, list[int]()
    for one in shown:
        own = stressed(one)
        asked, kept = own["stress_queries"], own.get("class_kept_queries")
        counts += [asked] if kept is None else [asked, kept]
        found = of_accuracies([own[ALL]], asked)
        widest = max(widest, found.below or 0, found.above or 0)
    counts = sorted({int(count) for count in counts})
    number = f"{counts[0]:,}" + (f" to {counts[-1]:,}" if counts[1:] else "")
    return (
        f"Of the first seed alone, with the k and metric of the headline, of {number} test images "
        "evenly over all: as many as keep a search short. No accuracy of unchanged images is "
        f"further off than {100 * widest:.1f} points (95 %)."
    )


def reasons(everything: Sequence[Configuration]) -> list[Block]:
    """Why figures are blank, each reason once."""
    said: dict[str, list[str]] = {}
    measured = any(result.stress for one in everything for result in one.ok)
    for one in everything:
        record = next((result.stress for result in one.ok if result.stress), None)
        if record:
            failed = [record.status] if record.status != "ok" else []
            blank = (f"no {k.replace('_', ' ')}: {why}" for k, why in record.blank.items())
            for words in (*failed, *blank):
                said.setdefault(words, []).append(one.name)
        elif measured and one.ok and not one.results[0].ok:
            said.setdefault("not measured, as its first seed failed", []).append(one.name)
    items: list[Text] = [
        [named([*dict.fromkeys(names)], 4), f": {short(words)}."]
        for words, names in [*said.items()][:LISTED]
    ]
    items += others(len(said) - LISTED, "blank figures", "results/ has the reasons")
    return [BulletList(items)] if items else []
