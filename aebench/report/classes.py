"""Accuracy by class, and what the classes are taken for."""

from collections.abc import Sequence

import numpy as np

from aebench.evaluation.uncertainty import of_accuracies
from aebench.report.configurations import (
    Configuration,
    best_and_references,
    best_first,
    of_all,
    unlabelled,
)
from aebench.report.document import Block, Cell, Format, Header, Paragraph, Section, Table
from aebench.report.findings import Findings
from aebench.report.texts import short

MISTAKES = 4  # that are said
RUNS, CLASSES = 12, 100  # that a table of classes has room for
NAME_LENGTH = 60  # of a class in a sentence


def classes(found: Findings) -> list[Section]:
    """What is taken for what, at the default size and depth; empty if all failed."""
    names, shown = found.results.data.classes, best_and_references(found.at_defaults, RUNS)
    if not shown:
        return []
    confused = [(one.name, confusion(one, len(names))) for one in shown]
    mistakes = [mistake(name, matrix, names) for name, matrix in confused if has_mistakes(matrix)]
    words = f"At the default size and depth, most often {'; '.join(mistakes[:MISTAKES])}."
    blocks: list[Block] = [Paragraph(words)] if mistakes else []
    return [Section("Classes", blocks)]


def classes_table(found: Findings) -> list[Section]:
    """Accuracy by class of the runs at the default size and depth; empty if all failed."""
    names, shown = found.results.data.classes, best_and_references(found.at_defaults, RUNS)
    if not shown:
        return []
    headers = [Header("class", is_text=True), *(Header(one.name) for one in shown)]
    best = best_first(unlabelled(shown))[0]
    labels = hardest(confusion(best, len(names)))
    cells = [
        [Cell(names[label]), *(class_accuracy(one, label) for one in shown)] for label in labels
    ]
    words = "Accuracy in % of the images of each class, at the default size and depth."
    words += of_all(shown, found.at_defaults)
    if len(labels) < len(names):
        words += (
            f" Of {len(names):,} classes, the {CLASSES} that {best.name} gets wrong most often."
        )
    return [Section("Accuracy by class", [Paragraph(words), Table(headers, cells)])]


def hardest(matrix: np.ndarray) -> list[int]:
    """The classes in their order; of many those of the lowest accuracy in the confusion matrix."""
    order = np.argsort(matrix.diagonal() / np.maximum(matrix.sum(axis=1), 1), kind="stable")
    return sorted(map(int, order[:CLASSES]))


def class_accuracy(one: Configuration, label: int) -> Cell:
    """The accuracy on the images of one class, with its interval."""
    found = [(o["prediction"] == label)[o["label"] == label] for o in one.outcomes]
    if not len(found[0]):  # a class without test images
        return Cell()
    return Cell(of_accuracies([f.mean() for f in found], len(found[0])), Format("{:.1f}", 100))


def confusion(one: Configuration, count: int) -> np.ndarray:
    """Images float64 (class, predicted class), mean over the outcomes of the seeds."""
    total = np.zeros((count, count))
    for outcome in one.outcomes:
        np.add.at(total, (outcome["label"], outcome["prediction"]), 1)
    return total / len(one.outcomes)


def shares(matrix: np.ndarray) -> np.ndarray:
    """% of the images of each class."""
    return 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)


def has_mistakes(matrix: np.ndarray) -> bool:
    """Whether an image is taken for another class."""
    return bool(matrix.trace() < matrix.sum())


def mistake(name: str, matrix: np.ndarray, names: Sequence[str]) -> str:
    """`mlp votes 1 for 5 % of 8`: the class that is most often taken for one other."""
    found = shares(matrix)
    np.fill_diagonal(found, -1)
    a, b = map(int, np.unravel_index(found.argmax(), found.shape))
    one, other = short(names[a], NAME_LENGTH), short(names[b], NAME_LENGTH)
    return f"{name} votes {other} for {found[a, b]:.0f} % of {one}"
