"""Two configurations side by side: what a paired test says of each pair, and of which images."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from aebench.evaluation.uncertainty import Interval, Variance, of_mean, squared_half_width
from aebench.report.configurations import Configuration, best_and_references
from aebench.report.document import Cell, Format, Header, Table
from aebench.report.measures import ACCURACY, MSE, Measure, further
from aebench.report.texts import on_one_line, short

MOST = 60  # configurations: 1,770 pairs and 60,000 votes take 0.8 MB of a page
ROUNDING = 1e-6  # of two variances: of less the product of matrices keeps few digits


@dataclass(frozen=True)
class Differences:
    """Of the means of each two models (P, P): row minus column, NaN without the figure.

    `half_widths` of 95 % intervals, NaN where nothing can be said of it.
    """

    means: np.ndarray
    half_widths: np.ndarray

    def interval(self, one: int, other: int) -> Interval | None:
        """Of one pair."""
        mean, half = float(self.means[one, other]), float(self.half_widths[one, other])
        if np.isnan(mean):
            return None
        return Interval(mean) if np.isnan(half) else Interval(mean, half, half)


def differences(values: Sequence[np.ndarray | None], images: int) -> Differences:
    """Of all pairs of `values` float64 (seeds, images), None: without the figure.

    Paired over the images, independent over the seeds, with the half widths of `difference`: one
    product of matrices instead of a pass over the images a pair.
    """
    means = np.stack([np.full(images, np.nan) if v is None else v.mean(axis=0) for v in values])
    centred = means - means.mean(axis=1, keepdims=True)
    products = centred @ centred.T / max(1, images - 1)
    own = np.diag(products)
    both = own[:, None] + own[None, :]
    of_images = both - 2 * products
    # What is left of nearly equal ones is rounding: these few pair by pair.
    for one, other in np.argwhere(of_images <= ROUNDING * both):
        of_images[one, other] = np.var(means[one] - means[other], ddof=1) if images > 1 else 0.0
    of_images /= images
    seeds = [of_mean(v.mean(axis=1)) if v is not None else [] for v in values]
    of_seeds = np.array([squared_half_width(found) for found in seeds])
    squares = Variance(0, max(1, images - 1)).t2 * of_images + of_seeds[:, None] + of_seeds[None, :]
    half = np.sqrt(squares)
    average = means.mean(axis=1)
    return Differences(average[:, None] - average[None, :], np.where(squares > 0, half, np.nan))


class Pairs:
    """The configurations that can be chosen, and what is known of each two."""

    def __init__(self, everything: Sequence[Configuration]) -> None:
        """Of many the best and the references."""
        self.ones = best_and_references(everything, MOST)
        self.left_out = sum(1 for one in everything if one.ok) - len(self.ones)

    @cached_property
    def measures(self) -> list[Measure]:
        """What they are compared in."""
        return [ACCURACY, MSE, *further(self.ones)]

    @cached_property
    def differences(self) -> list[Differences]:
        """Of each measure; NaN where one of two has no such figure."""
        return [
            differences([one.images.get(measure.column) for one in self.ones], self.images)
            for measure in self.measures
        ]

    @property
    def images(self) -> int:
        """How many there are."""
        return len(self.ones[0].outcomes[0])

    @cached_property
    def gained(self) -> np.ndarray:
        """Images whose class row finds and column does not, by their first seeds: int (P, P)."""
        right = np.stack([one.images["accuracy"][0] for one in self.ones])
        return np.rint(right @ (1 - right).T).astype(np.int64)

    @property
    def best(self) -> int:
        """The place of the most accurate one, of those trained without labels if there are any."""
        means = [
            (not one.is_reference, not one.saw_labels, one.intervals["accuracy"].mean)
            for one in self.ones
        ]
        return max(range(len(means)), key=means.__getitem__)

    @property
    def rival(self) -> int:
        """The place of what the best is first shown beside: PCA of its size, or else another."""
        best = self.ones[self.best]
        others = [place for place in range(len(self.ones)) if place != self.best]
        alike = [p for p in others if self.ones[p].is_pca and self.ones[p].latent == best.latent]
        return (alike or others)[0]

    @property
    def table(self) -> Table:
        """The best against each other one."""
        headers = [
            Header("against", is_text=True),
            *map(header, self.measures),
            Header("gained", "test images whose class it alone finds, by the first seeds"),
            Header("lost", "those whose class the other alone finds"),
        ]
        best = self.best
        cells = [
            [
                Cell(one.name, card=one.card),
                *(
                    Cell(found.interval(best, place), measure.difference)
                    for measure, found in zip(self.measures, self.differences, strict=True)
                ),
                Cell(int(self.gained[best, place]), Format("{:,}")),
                Cell(int(self.gained[place, best]), Format("{:,}")),
            ]
            for place, one in enumerate(self.ones)
            if place != best
        ]
        return Table(headers, cells)

    def data(self, mapped: Sequence[int], classes: Sequence[str], pictured: bool) -> dict[str, Any]:
        """What the page's script shows of two chosen ones. `pictured`: whether it has the images.

        `measures`: each with its `values` by run, and `pairs`, a list a row of [difference, half
        width] or null, of the columns before it; `votes` and `errors` by run, of the `mapped` test
        images.
        """
        first = [one.outcomes[0][list(mapped)] for one in self.ones] if pictured else []
        return {
            "images": self.images,
            "measures": [
                {
                    "title": measure.word,
                    "unit": "points" if measure is ACCURACY else "",
                    "sign": measure.sign,
                    "factor": measure.written.factor,
                    "digits": measure.decimals,
                    "values": [
                        digits(one.intervals[measure.column].mean)
                        if measure.column in one.intervals
                        else None
                        for one in self.ones
                    ],
                    "pairs": listed(found),
                }
                for measure, found in zip(self.measures, self.differences, strict=True)
            ],
            "gained": self.gained.tolist(),
            "classes": [on_one_line(short(name)) for name in classes],
            "labels": first[0]["label"].tolist() if pictured else [],
            "votes": [found["prediction"].tolist() for found in first],
            "errors": [
                [digits(error) for error in found["squared_error"].tolist()]
                if "squared_error" in (found.dtype.names or ())
                else None
                for found in first
            ],
        }


def header(measure: Measure) -> Header:
    """Of the differences in one figure."""
    if measure is ACCURACY:
        return Header("accuracy, points", "difference of the accuracies, ± 95 %")
    side = "above" if measure.sign > 0 else "below"
    what = f"difference of the {measure.word}s, ± 95 %: {side} 0 is better"
    return Header(measure.title, what)


def digits(value: float) -> float:
    """As many as are read."""
    return float(f"{value:.4g}")


def listed(found: Differences) -> list[list[Any]]:
    """The lower triangle."""
    return [
        [
            None if np.isnan(mean) else [digits(mean), None if np.isnan(half) else digits(half)]
            for mean, half in zip(means[:place], halves[:place], strict=True)
        ]
        for place, (means, halves) in enumerate(
            zip(found.means.tolist(), found.half_widths.tolist(), strict=True)
        )
    ]
