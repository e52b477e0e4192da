"""Which configurations are best, and what a paired test does not tell from them."""

from collections.abc import Sequence

import numpy as np

from aebench.evaluation.uncertainty import p_value, told
from aebench.report.configurations import Configuration
from aebench.report.document import Run, Span

BOLD = "Bold: the best and what is tied with it (paired test, 5 %, Holm)"
NAMED = 4  # of a tie group, more are counted
SIZES = 8  # that a sentence goes through


class Ties:
    """The tie groups of a report. Each pair is tested once, whatever tables it stands in."""

    def __init__(self) -> None:
        self.tested: dict[tuple[str, frozenset[Configuration]], float] = {}

    def p_value(self, one: Configuration, other: Configuration, column: str) -> float:
        """Two-sided p of equal means, paired over the images."""
        key = column, frozenset((one, other))
        if key not in self.tested:
            self.tested[key] = p_value(one.images[column], other.images[column])
        return self.tested[key]

    def best(self, among: Sequence[Configuration], column: str) -> list[Configuration]:
        """The best one and those that are tied with it; empty with nothing to compare.

        Among those that have the figure.
        """
        found = rankable(among, column)
        if len(found) < 2:
            return []
        first = max(found, key=lambda one: one.sign(column) * mean(one, column))
        told = self.told(found, column)
        return [first, *(one for one in found if one is not first and {one, first} not in told)]

    def told(self, among: Sequence[Configuration], column: str) -> set[frozenset[Configuration]]:
        """The pairs that the test tells apart, with Holm's correction over all pairs of these.

        Over all, as the best is chosen on the same images.
        """
        found = told(len(among), lambda i, j: self.p_value(among[i], among[j], column))
        return {frozenset(among[place] for place in pair) for pair in found}

    def best_unlabelled(self, among: Sequence[Configuration]) -> list[Configuration]:
        """The most accurate ones that saw no labels, where the best of all did; else empty."""
        if not any(one.saw_labels for one in self.best(among, "accuracy")[:1]):
            return []
        return self.best([one for one in among if not one.saw_labels], "accuracy")

    def best_by_size(
        self, among: Sequence[Configuration], column: str = "mse"
    ) -> list[list[Configuration]]:
        """For each representation size that several have: the best MSE or other, and its ties.

        Of codes with one number a float, which alone are of one size.
        """
        sizes: dict[int | None, list[Configuration]] = {}
        for one in among:
            if one.ok and not one.is_pixels and not one.is_packed:  # pixels' error is 0
                sizes.setdefault(one.latent, []).append(one)
        groups = (self.best(sizes[size], column) for size in sorted(sizes, key=lambda n: n or 0))
        return [group for group in groups if group]


def rankable(among: Sequence[Configuration], column: str) -> list[Configuration]:
    """Those that have the figure and may be called best or worst by it.

    Not one seed beside several, unless it changes nothing: how much another would move it is not
    known.
    """
    among = [one for one in among if column in one.images]
    most = max((len(one.ok) for one in among), default=0)
    return [one for one in among if one.is_seedless or len(one.ok) > (most > 1)]


def mean(one: Configuration, column: str) -> float:
    """Over the seeds and images."""
    return float(one.images[column].mean())


def verdict(
    accurate: Sequence[Configuration],
    unlabelled: Sequence[Configuration],
    by_size: Sequence[Sequence[Configuration]],
) -> list[Span]:
    """In words: the tie groups that the table shows in bold, and that of `best_unlabelled`."""
    words: list[Span] = []
    if accurate:
        words += [" Accuracy: ", *in_words(accurate), "."]
    if unlabelled:
        words += [" Accuracy without labels: ", *in_words(unlabelled), "."]
    for group in spread_out(by_size):
        words += [f" MSE with {group[0].latent} floats: ", *in_words(group), "."]
    if len(by_size) > SIZES:
        words += [f" MSE with {len(by_size) - SIZES:,} more sizes: in bold."]
    return words


def spread_out(
    by_size: Sequence[Sequence[Configuration]], most: int = SIZES
) -> list[Sequence[Configuration]]:
    """The groups; of many so many from the smallest to the largest size."""
    places = np.linspace(0, len(by_size) - 1, min(most, len(by_size)))
    return [by_size[round(place)] for place in places]


def in_words(group: Sequence[Configuration]) -> list[Span]:
    """`best a, tied with b`, the first in bold."""
    first, *others = group
    words: list[Span] = ["best ", Run(first.name, first.card, strong=True)]
    if len(others) > NAMED:
        return [*words, f", tied with {len(others)} others"]
    return [*words, *(", tied with " if others else "", *names(others))]


def names(ones: Sequence[Configuration], limit: int | None = None) -> list[Span]:
    """`a, b`, each a link to its card; of many the first, and how many others there are."""
    shown = ones if limit is None or len(ones) <= limit + 1 else ones[:limit]
    found: list[Span] = []
    for one in shown:
        found += [", " if found else "", Run(one.name, one.card)]
    left = len(ones) - len(shown)
    return [*found, f" and {left} others"] if left else found
