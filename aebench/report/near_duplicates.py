"""What of each accuracy rests on test images that have a near-duplicate in the training set."""

from collections.abc import Sequence

import numpy as np

from aebench.evaluation.near_duplicates import ALIKE, PAIRS, SIDE
from aebench.evaluation.uncertainty import Interval, of_accuracy, of_exclusion
from aebench.records.prepare import NearDuplicates
from aebench.report.configurations import Configuration, best_and_references, of_all
from aebench.report.document import (
    Block,
    BulletList,
    Cell,
    Format,
    Header,
    Note,
    Paragraph,
    Run,
    Section,
    Span,
    Strong,
    Table,
    Text,
)
from aebench.report.findings import Findings
from aebench.report.tables import ACCURACY, RUN

TITLE = "Near-duplicates"
ROWS = 20  # of the table
PERCENT, POINTS = Format("{:.2f}", 100), Format("{:+.2f}", 100)


def near_duplicates(found: Findings) -> list[Section]:
    """The accuracy without them; empty for results of before, which do not know them."""
    known, everything = found.results.near, found.configurations
    if known is None:
        return []
    about, near = known
    shown = best_and_references(everything, ROWS)
    blocks: list[Block] = [Paragraph(how_many(found, about))]
    if about.rule and 0 < about.count < len(near) and shown:
        blocks += [
            Paragraph(range_of(shown, near)),
            table(shown, near),
            Note(
                "± is a 95 % interval for new images, and for new seeds where there are several: "
                "of the lost points paired over the images, with how many of them have a "
                f"near-duplicate as a part of the chance.{of_all(shown, everything)}"
            ),
        ]
    if about.rule:
        blocks.append(BulletList(limits(about)))
    return [Section(TITLE, blocks)]


def how_many(found: Findings, about: NearDuplicates) -> list[Span]:
    """The answer."""
    data = found.results.data
    if about.rule is None:
        return [
            Strong("Nobody looked for near-duplicates"),
            f": {data.num_test:,} x {data.num_train:,} pairs of images are more than {PAIRS:,}.",
        ]
    share = 100 * about.count / data.num_test
    by = "by a published list" if about.rule == "list" else "by a distance between pixels"
    few = f"{about.count:,} of {data.num_test:,} test images ({share:.1f} %)"
    return [Strong(few), f" have a near-duplicate among the training images, {by}."]


def range_of(shown: Sequence[Configuration], near: np.ndarray) -> list[Span]:
    """Which runs lose least and most."""
    lost = {one: loss(one, near).mean for one in shown}
    least, most = min(shown, key=lost.__getitem__), max(shown, key=lost.__getitem__)

    if lost[least] == lost[most]:
        return [f"Without them accuracy moves by {-100 * lost[most]:+.2f} points."]
    ends: list[Span] = []
    for one in (least, most):
        ends += [
            " to " if ends else "",
            f"{-100 * lost[one]:+.2f} points (",
            Run(one.name, one.card),
        ]
        ends.append(")")
    return ["Without them accuracies move by ", *ends, "."]


def table(shown: Sequence[Configuration], near: np.ndarray) -> Table:
    """A row a run."""
    headers = [
        Header(RUN.header, is_text=True),
        Header(ACCURACY.header, ACCURACY.meaning),
        Header("without them, %", "the accuracy over the test images without a near-duplicate"),
        Header("on them, %", "the accuracy over those with one"),
        Header("lost, points", "the accuracy of all test images minus that without them"),
    ]
    rows = [
        [
            RUN.cell(one),
            ACCURACY.cell(one),
            Cell(of_accuracy(one.images["accuracy"][:, ~near]), PERCENT),
            Cell(of_accuracy(one.images["accuracy"][:, near]), PERCENT),
            Cell(loss(one, near), POINTS),
        ]
        for one in shown
    ]
    return Table(headers, rows)


def loss(one: Configuration, near: np.ndarray) -> Interval:
    """What its accuracy loses without them."""
    return of_exclusion(one.images["accuracy"], ~near)


def limits(about: NearDuplicates) -> list[Text]:
    """What this can show and what it cannot."""
    found: list[Text] = []
    if about.rule == "list":
        found.append(
            "The list is ciFAIR's (B. Barz and J. Denzler, Journal of Imaging 6(6):41, 2020, "
            f"doi:10.3390/jimaging6060041): {about.count} test images that people judged to be of "
            "the same shot as a training image, or to be told from one at the second glance only. "
            f"All {about.recognised} were found among these images by the hash of their pixels, "
            "and so were all training images. The 3.25 % of the paper count 39 pairs within the "
            "test set, too, of which the search knows nothing."
        )
        found.append(
            "It is not complete: what a network held for similar was looked at, the rest was not. "
            "A distance between pixels finds 56 more test images, some of which show the same shot "
            "as a training image (benchmarks/near_duplicates.txt)."
        )
    if about.rule == "distance":
        found.append(
            f"No list of these images is known. Near: some training image correlates with it by "
            f"more than {ALIKE}, both at {SIDE} x {SIDE} pixels, whatever their brightness and "
            "contrast; nothing of it is fitted to these images. On CIFAR-10 it finds 38 % of the "
            "286 images that people listed (ciFAIR), and 66 % of what it finds is listed."
        )
        found.append(
            "It cannot tell a copy from what is alike by nature, as drawings of a few strokes or "
            "an empty sky: 28 of the 359 test images of digits are that near to another drawing "
            "of the same digit, and none is a copy. It does not see copies that are shifted, "
            "mirrored, cut or of other colours."
        )
        found.append(
            "What lies close to a training image is easy, copy or not: accuracy without it is "
            "lower, and that alone is no sign of a leak."
        )
        if about.recognised:
            found.append(
                f"{about.recognised} images of CIFAR-10's published list are among these test "
                "images. It holds for the whole of CIFAR-10 at 32 x 32 pixels in colour alone, and "
                "is not used."
            )
    found.append(
        "The training images that are near to them stay in training and search: this is the "
        "accuracy on the other test images, not that of models that never saw a near-duplicate."
    )
    return found
