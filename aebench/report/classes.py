"""Accuracy by class, and what the classes are taken for."""

from collections.abc import Sequence

import numpy as np

from aebench.evaluation.uncertainty import of_accuracies
from aebench.report.configurations import Configuration
from aebench.report.document import Cell, Figure, Format, Header, Paragraph, Section, Table
from aebench.report.pictures import Confusions


def classes(names: Sequence[str], shown: Sequence[Configuration]) -> list[Section]:
    """Of the runs at the default size and depth; empty if all failed."""
    shown = [one for one in shown if one.ok]
    if not shown:
        return []
    confused = [(one.name, confusion(one, len(names))) for one in shown]
    headers = [Header("class", is_text=True), *(Header(one.name) for one in shown)]
    cells = [
        [Cell(name), *(class_accuracy(one, label) for one in shown)]
        for label, name in enumerate(names)
    ]
    mistakes = [mistake(name, matrix, names) for name, matrix in confused if has_mistakes(matrix)]
    words = "Accuracy in % of the images of each class, at the default size and depth."
    words += f" Most often, {'; '.join(mistakes)}." if mistakes else ""
    figure = Figure(
        "confusion",
        Confusions(names, [(name, shares(matrix)) for name, matrix in confused]),
        "Rows: the class; columns: the vote, % of the row.",
    )
    return [Section("Classes", [Paragraph(words), Table(headers, cells), figure])]


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
    """`mlp takes 8 for 1 (5 %)`: the class that is most often taken for one other."""
    found = shares(matrix)
    np.fill_diagonal(found, -1)
    a, b = map(int, np.unravel_index(found.argmax(), found.shape))
    return f"{name} takes {names[a]} for {names[b]} ({found[a, b]:.0f} %)"
