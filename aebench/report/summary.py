"""What a report comes to, in at most four sentences, each of which a test supports."""

from collections.abc import Sequence
from typing import NamedTuple

from aebench.evaluation.uncertainty import Interval, holm
from aebench.report.baselines import TIMES
from aebench.report.configurations import Configuration
from aebench.report.document import BulletList, Format, Run, Section, Span, Strong, Text
from aebench.report.findings import Findings
from aebench.report.panel import verdict
from aebench.report.search import LEAST, SPEED_UP, accuracy
from aebench.report.ties import NAMED, names, spread_out

PERCENT = Format("{:.1f}", 100)
LOSERS = 6  # that are named


def in_short(found: Findings) -> list[Section]:
    """The section with the sentences; empty where every run failed."""
    if not found.coded:
        return []
    best, tied = trade_off(found)
    items = [of_trade_off(found, best), of_ties(found, best, tied), of_pca(found), verdict(found)]
    return [Section("In short", [BulletList([item for item in items if item])])]


def trade_off(found: Findings) -> tuple[Configuration, list[Configuration]]:
    """The smallest codes among the most accurate ones without labels, and what ties with them.

    Of one size the more accurate ones. What is alone is the best, tied with nothing.
    """
    unlabelled = [one for one in found.coded if not one.saw_labels]
    group = found.ties.best(unlabelled, "accuracy") or unlabelled[:1] or found.coded[:1]
    best = min(group, key=lambda one: (one.mean("code_bytes") or 0, -accuracy(one)))
    return best, [one for one in group if one is not best]


def of_trade_off(found: Findings, best: Configuration) -> Text:
    """The best trade-off, with PCA of its size, raw pixels and chance beside it."""
    pca, pixels = found.baselines.pca_of(best), found.baselines.pixels_of(best)
    beside = {
        "PCA of the same size": pca if pca is not best else None,
        "raw pixels": pixels,
    }
    others = {name: one for name, one in beside.items() if one and one.ok}
    adjusted = holm([found.ties.p_value(best, one, "accuracy") for one in others.values()])
    said = [
        f"{name} {percent(one)}{'' if p < LEAST else ' (not told apart)'}"
        for (name, one), p in zip(others.items(), adjusted, strict=True)
    ]
    is_even = found.chance * len(found.results.data.classes) < 1.005
    guess = "chance" if is_even else "always the commonest class"
    said.append(f"{guess} {PERCENT.written(found.chance)} %")
    alone = len(found.coded) == 1
    return [
        Strong("The only codes" if alone else "Best trade-off"),
        ": ",
        Run(best.name, best.card, strong=True),
        f", {best.mean('code_bytes'):,.0f} bytes an image instead of {found.costs.image_bytes:,}"
        f"{faster(found, best)}, finds the right class for {percent(best)} of the test images; "
        f"{', '.join(said)}.",
    ]


def faster(found: Findings, best: Configuration) -> str:
    """`, found 17.9 ± 1.2 times as fast`, where the seeds support it."""
    speed_ups = found.costs.speed_ups(best)
    if len(speed_ups) < 2:
        return ""
    speed_up = found.costs.speed_up(best)
    return f" and a query {SPEED_UP.written(speed_up)} times as fast" if speed_up.low > 1 else ""


def of_ties(found: Findings, best: Configuration, tied: Sequence[Configuration]) -> Text:
    """What ties with it, who is above it with labels, and the lowest error of each size."""
    text: list[Span] = []
    if tied:
        text += ["Tied with it in accuracy: ", *names(tied, NAMED), ". "]
    elif len(found.coded) > 1:
        text.append("Nothing is tied with it in accuracy. ")
    labelled = [one for one in found.coded if one.saw_labels]
    if labelled:
        top = max(labelled, key=accuracy)
        text += ["With labels: ", Run(top.name, top.card), f" {percent(top)}. "]
    groups = spread_out(found.ties.best_by_size(found.coded))
    for place, group in enumerate(groups):
        text.append("; " if place else "Lowest error: ")
        text.append(f"with {group[0].latent} floats ")
        text.append(Run(group[0].name, group[0].card, strong=True))
        if group[1:]:
            text += [" (tied: ", *names(group[1:], NAMED), ")"]
    return [*text, "." if groups else ""]


class Against(NamedTuple):
    """A run beside PCA of its size in one figure, with the adjusted p of equal means."""

    one: Configuration
    column: str
    skill: Interval
    p: float

    @property
    def is_told(self) -> bool:
        """Whether they differ."""
        return self.p < LEAST


def against_pca(found: Findings) -> list[Against]:
    """Every trained run in both figures, in which PCA of its size is there; Holm over all."""
    pairs = [
        (one, column, skill, found.ties.p_value(one, pca, column))
        for one in found.configurations
        for column in ("mse", "accuracy")
        if (pca := found.baselines.pca_of(one)) and (skill := found.baselines.skill(one, column))
    ]
    adjusted = holm([p for *_, p in pairs])
    return [Against(*pair[:3], float(p)) for pair, p in zip(pairs, adjusted, strict=True)]


def of_pca(found: Findings) -> Text:
    """Who loses to PCA of as many floats, and by how much; and how many win."""
    pairs = against_pca(found)
    if not pairs:
        return ""
    losers = sorted(
        (pair for pair in pairs if pair.is_told and pair.skill.mean < 0),
        key=lambda pair: pair.skill.mean,
    )
    wins = [
        f"{sum(pair.is_told and pair.skill.mean > 0 for pair in pairs if pair.column == column)} "
        f"of {number} {words}"
        for column, words in (("mse", "have less error"), ("accuracy", "are right more often"))
        if (number := sum(pair.column == column for pair in pairs))
    ]
    won = f"Than PCA of as many floats, {', '.join(wins)}"
    if not losers:
        return f"No run is told to be worse than PCA. {won}."
    text: list[Span] = [Strong("Worse than PCA"), ": "]
    for place, pair in enumerate(losers[:LOSERS]):
        text += [", " if place else "", Run(pair.one.name, pair.one.card), f" {by(pair)}"]
    rest = f" and {len(losers) - LOSERS} more" if len(losers) > LOSERS else ""
    return [*text, f"{rest}. {won}."]


def by(pair: Against) -> str:
    """`with 5.0 times its error`, `with 0.7 % more error`, `with 2.1 points less accuracy`."""
    if pair.column == "accuracy":
        return f"with {-100 * pair.skill.mean:.1f} points less accuracy"
    ratio = 1 - pair.skill.mean
    if ratio >= TIMES:
        return f"with {ratio:.1f} times its error"
    return f"with {100 * (ratio - 1):.1f} % more error"


def percent(one: Configuration) -> str:
    """`46.8 %`, its accuracy."""
    return f"{PERCENT.written(accuracy(one))} %"
