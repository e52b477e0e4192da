"""What a report comes to, in at most four sentences, each of which a test supports."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from aebench.evaluation.uncertainty import LEAST, Interval, holm
from aebench.report.baselines import times_pca
from aebench.report.configurations import Configuration, unlabelled
from aebench.report.document import (
    BulletList,
    Format,
    Run,
    Section,
    Span,
    Strong,
    Text,
    spans,
)
from aebench.report.findings import Findings
from aebench.report.panel import verdict
from aebench.report.search import SPEED_UP, accuracy
from aebench.report.ties import NAMED, mean, names, rankable, spread_out

PERCENT = Format("{:.1f}", 100)
LOSERS = 6  # that are named


class TradeOff(NamedTuple):
    """The best trade-off, what is tied with it, and what may not be ranked but is above it.

    `is_tested`: there was something to test it against.
    """

    best: Configuration
    tied: list[Configuration]
    unranked: list[Configuration]
    is_tested: bool


def in_short(found: Findings) -> list[Section]:
    """The section with the sentences; empty where every run failed."""
    known = trade_off(found)
    if known is None:
        return []
    items = [of_trade_off(found, known.best), of_ties(found, known), of_pca(found), verdict(found)]
    return [Section("In short", [BulletList([item for item in items if item])])]


def trade_off(found: Findings) -> TradeOff | None:
    """The smallest codes among the most accurate ones without labels; None if all failed.

    Of one size the more accurate ones. What any of the most accurate ones is told to beat is none
    of them, though it is tied with the first. Where all saw labels, of these.
    """
    if not found.coded:
        return None
    among = unlabelled(found.coded)
    ranked, ties = rankable(among, "accuracy"), found.ties
    group = ties.best(among, "accuracy")
    if not group:
        group = [max(ranked or among, key=accuracy)]
    told = ties.told(ranked, "accuracy")
    kept = [
        one
        for one in group
        if not any({one, rival} in told and accuracy(rival) > accuracy(one) for rival in group)
    ]
    best = min(kept, key=lambda one: (one.mean("code_bytes") or 0, -accuracy(one)))
    tied = [one for one in group if one is not best and {one, best} not in told]
    unranked = [one for one in among if one not in ranked and accuracy(one) > accuracy(best)]
    return TradeOff(best, tied, unranked, len(ranked) > 1)


def of_trade_off(found: Findings, best: Configuration) -> Text:
    """The best trade-off, with PCA of its size, raw pixels and chance beside it."""
    pca, pixels = found.baselines.pca_of(best), found.baselines.pixels_of(best)
    beside = {
        "PCA of the same size": pca if pca is not best else None,
        "raw pixels": pixels,
    }
    others = {name: one for name, one in beside.items() if one and one.ok}
    told = found.ties.told([best, *others.values()], "accuracy")
    said = [
        f"{name} {percent(one)}{'' if {best, one} in told else ' (not told apart)'}"
        for name, one in others.items()
    ]
    said.append(f"{found.guess} {PERCENT.written(found.chance)} %")
    alone = len(found.coded) == 1
    return [
        Strong("The only codes" if alone else "Best trade-off"),
        ": ",
        Run(best.name, best.card, strong=True),
        f", {size(found, best)}{faster(found, best)}, finds the right class for {percent(best)} of "
        f"the test images; {', '.join(said)}.",
    ]


def size(found: Findings, best: Configuration) -> str:
    """`128 bytes for an image of 3,072`, and where that saves none."""
    own, image = best.mean("code_bytes") or 0, found.costs.image_bytes
    return f"{own:,.0f} bytes for an image of {image:,}{'' if own < image else ', no saving'}"


def faster(found: Findings, best: Configuration) -> str:
    """`, found 17.9 ± 1.2 times as fast`, where the seeds support it."""
    speed_up = found.costs.speed_up(best)
    if speed_up is None or speed_up.below is None or speed_up.low <= 1:
        return ""
    return f" and a query {SPEED_UP.written(speed_up)} times as fast"


def of_ties(found: Findings, known: TradeOff) -> Text:
    """What ties with it, what is above it and not ranked, and the lowest error of each size."""
    parts: list[list[Span]] = []
    if known.tied:
        parts.append(["tied with it in accuracy: ", *names(known.tied, NAMED)])
    elif known.is_tested:
        parts.append(["nothing is tied with it in accuracy"])
    if known.unranked:
        parts.append(["not ranked, of one seed: ", *with_accuracy(known.unranked)])
    labelled = [one for one in found.coded if one.saw_labels and one is not known.best]
    if labelled:
        parts.append(["with labels: ", *with_accuracy([max(labelled, key=accuracy)])])
    lowest: list[Span] = []
    for group in spread_out(found.ties.best_by_size(found.coded)):
        lowest.append(", " if lowest else "lowest error: ")
        lowest.append(f"with {group[0].latent} floats ")
        lowest.append(Run(group[0].name, group[0].card, strong=True))
        if group[1:]:
            lowest += [" (tied: ", *names(group[1:], NAMED), ")"]
    return sentence([*parts, *([lowest] if lowest else [])])


def sentence(parts: Sequence[Sequence[Span]]) -> list[Span]:
    """The parts as one, which begins as a sentence does; empty without any."""
    text: list[Span] = []
    for part in parts:
        text += ["; " if text else "", *part]
    found = spans(text)
    if found and isinstance(found[0], str):
        found[0] = found[0][:1].upper() + found[0][1:]
    return [*found, "."] if found else []


def with_accuracy(ones: Sequence[Configuration]) -> list[Span]:
    """`a 46.8 %, b 45.2 %`; of many the first."""
    text: list[Span] = []
    for one in ones[:NAMED]:
        text += [", " if text else "", Run(one.name, one.card), f" {percent(one)}"]
    return [*text, f" and {len(ones) - NAMED} more" if ones[NAMED:] else ""]


class Against(NamedTuple):
    """A run beside PCA of its size in one figure, with the adjusted p of equal means.

    `gain`: above 0 where the run is better; `skill`: None where PCA is exact.
    """

    one: Configuration
    column: str
    gain: float
    skill: Interval | None
    p: float

    @property
    def is_told(self) -> bool:
        """Whether they differ."""
        return self.p < LEAST


def against_pca(found: Findings) -> list[Against]:
    """Every trained run in both figures, in which PCA of its size is there; Holm over all.

    The MSE of packed codes is in no ranking.
    """
    pairs = [
        (one, column, gain(one, pca, column), found.ties.p_value(one, pca, column))
        for one in found.configurations
        for column in ("mse", "accuracy")
        if found.baselines.has_skill(one, column)
        and (pca := found.baselines.pca_of(one))
        and not (column == "mse" and one.is_packed)
    ]
    adjusted = holm([p for *_, p in pairs])
    return [
        Against(one, column, more, found.baselines.skill(one, column), float(p))
        for (one, column, more, _), p in zip(pairs, adjusted, strict=True)
    ]


def gain(one: Configuration, pca: Configuration, column: str) -> float:
    """By how much it is better than PCA."""
    difference = mean(one, column) - mean(pca, column)
    return difference if column == "accuracy" else -difference


def of_pca(found: Findings) -> Text:
    """Who loses to PCA of as many floats, and by how much; and how many win."""
    pairs = against_pca(found)
    if not pairs:
        return ""
    losers = sorted((pair for pair in pairs if pair.is_told and pair.gain < 0), key=loss)
    wins = [
        f"{sum(pair.is_told and pair.gain > 0 for pair in pairs if pair.column == column)} "
        f"of {number} {words}"
        for column, words in (("mse", "have less error"), ("accuracy", "are right more often"))
        if (number := sum(pair.column == column for pair in pairs))
    ]
    won = f"than PCA of as many floats, {' and '.join(wins)}"
    if not losers:
        return f"No run is told to be worse than PCA; {won}."
    text: list[Span] = [Strong("Worse than PCA"), ": "]
    for place, pair in enumerate(losers[:LOSERS]):
        text += [", " if place else "", Run(pair.one.name, pair.one.card), f" {by(pair)}"]
    rest = f" and {len(losers) - LOSERS} more" if len(losers) > LOSERS else ""
    return [*text, f"{rest}; {won}."]


def loss(pair: Against) -> float:
    """The further below PCA, the less."""
    return -math.inf if pair.skill is None else pair.skill.mean


def by(pair: Against) -> str:
    """`with 5.0 times its error`, `with 0.7 % more error`, `with 2.1 points less accuracy`."""
    if pair.skill is None:
        return "with an error where PCA is exact"
    if pair.column == "accuracy":
        return f"with {-100 * pair.skill.mean:.1f} points less accuracy"
    if times := times_pca(pair.skill):
        return f"with {times:.1f} times its error"
    return f"with {-100 * pair.skill.mean:.1f} % more error"


def percent(one: Configuration) -> str:
    """`46.8 %`, its accuracy."""
    return f"{PERCENT.written(accuracy(one))} %"
