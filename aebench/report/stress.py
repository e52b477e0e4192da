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


def class_kept(one: Configuration) -> Cell:
    """In %, with the interval of the few images that are asked."""
    own = stressed(one)
    kept, asked = own.get("accuracy_class_kept"), own.get("class_kept_queries")
    if kept is None or asked is None:
        return Cell()
    return Cell(of_accuracies([kept], asked), Format(PERCENT, 100, True))


ASKED = Column(
    "images",
    lambda one: Cell(stressed(one).get("stress_queries"), Format("{:,}")),
    "test images that are asked, evenly over all, but for class kept: as many as keep a search "
    "short",
)
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
        class_kept,
        "reconstructed test images asked among the pixels of the training images, by L2: whether "
        "what is seen in them is still of their class; beside it the row of the pixels; ± 95 % "
        "over the images asked, of which there are fewer",
    ),
    ASKED,
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
    ASKED,
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
                    ": accuracy in %; ± of 10 to 1000 labels is the standard deviation over 5 "
                    f"draws, of class kept a 95 % interval.{of_all(shown, known)}",
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
    """How far an accuracy may be off, and what is not in that."""
    owns = [stressed(one) for one in shown]
    off: dict[int, float] = {}
    for own in owns:
        count = own["stress_queries"]
        found = of_accuracies([own[ALL]], count)
        off[count] = max(off.get(count, 0), found.below or 0, found.above or 0)
    reach = [f"{100 * off[count]:.1f} points with {count:,}" for count in sorted(off)]
    kept = sorted({own["class_kept_queries"] for own in owns if own.get("class_kept_queries")})
    also = f"; class kept is of {named([f'{n:,}' for n in kept], 4)} images" if kept else ""
    return (
        f"Of the first seed and one draw of the noise, with the k and metric of the headline{also}"
        f". So many images alone let an accuracy be off by (95 %): {named(reach, 4)}; what other "
        "seeds would change is not in it."
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
