"""The report's tables of models: the architectures, and one parameter alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from aebench.report.baselines import Baselines
from aebench.report.configurations import Configuration, sort_key
from aebench.report.document import (
    Block,
    BulletList,
    Cell,
    Header,
    Paragraph,
    Section,
    Table,
    Text,
)
from aebench.report.results import Results
from aebench.report.search import SearchCosts
from aebench.report.tables import (
    ACCURACY,
    LATENT,
    LAYERS,
    MACS,
    MSE,
    PARAMS,
    PSNR,
    RUN,
    SIZE,
    Column,
    table,
)
from aebench.report.texts import named, others, short
from aebench.report.ties import SIZES, Ties, in_words, spread_out, verdict
from aebench.report.times import Times

VALUE_LENGTH = 40  # of a parameter's value in a sentence
TITLES = {"latent": "Representation size", "depth": "Depth"}


class Studies:
    """Tables of some of the configurations, beside what these are held against."""

    def __init__(
        self,
        everything: Sequence[Configuration],
        baselines: Baselines,
        times: Times,
        ties: Ties,
    ) -> None:
        self.everything = everything
        self.baselines = baselines
        self.times = times
        self.ties = ties

    def models(
        self, head: str, shown: Sequence[Configuration], value: Column | None = None
    ) -> list[Block]:
        """Which of the shown models are best, and the table of their size, cost and quality.

        `value`: the column of a study's parameter.
        """
        accurate, by_size = self.ties.best(shown, "accuracy"), self.ties.best_by_size(shown)
        unlabelled = self.ties.best_unlabelled(shown)
        skill, gain = self.baselines.columns
        quality = [MSE.strong([one for group in by_size for one in group]), skill, PSNR]
        columns = [
            RUN,
            *([value] if value else []),
            LATENT,
            LAYERS,
            PARAMS,
            SIZE,
            MACS,
            self.times.epoch,
            *(quality if any("mse" in one.images for one in shown) else []),
            ACCURACY.strong(accurate),
            gain,
        ]
        words = Paragraph([head, *verdict(accurate, unlabelled, by_size)])
        return [words, *table(columns, shown, notes=True)]

    def architectures(self, results: Results, shown: Sequence[Configuration]) -> list[Block]:
        """The runs at the default size and depth."""
        shown = [*shown, *self.baselines.references({results.latent}, shown)]
        size = "" if results.latent is None else f" (latent {results.latent})"
        depth = "" if results.depth is None else f" ({results.depth})"
        head = f"Runs at the default size{size} and depth{depth}."
        return self.models(head, shown)

    def of_parameter(self, name: str, groups: Sequence[Sequence[Configuration]]) -> list[Block]:
        """The configurations that differ in one parameter alone, then their references."""
        swept = [one for group in groups for one in group]
        shown = swept + self.baselines.references({one.latent for one in swept}, swept)
        value = None
        if name == "latent":  # others without a parameter of that name have a size all the same
            shown += [c for c in self.everything if name not in c.settings and c not in shown]
        else:
            value = Column(
                name, lambda one: setting(one, name), "the parameter of this study", is_text=False
            )
        values = sorted((one.settings[name] for one in swept), key=sort_key)
        different = listed(values)
        head = f"Runs that differ in {name} alone ({different}), then what they are held against."
        return self.models(head, shown, value)


def setting(one: Configuration, name: str) -> Cell:
    """The value of a parameter; blank without it."""
    value = one.settings.get(name, "")
    return Cell(value if type(value) in (int, float) else str(value))


def listed(values: Sequence[Any]) -> str:
    """The values that there are, each once; of many the first."""
    return named([short(value, VALUE_LENGTH) for value in dict.fromkeys(map(str, values))])


def further(parameters: Mapping[str, Sequence[Sequence[Configuration]]]) -> list[Section]:
    """The parameters beyond those with a study of their own; empty if there are none."""
    if not parameters:
        return []
    headers = [Header(name, is_text=True) for name in ("parameter", "values")]
    cells = [
        [
            Cell(name),
            Cell(listed(sorted((one.settings[name] for one in swept), key=sort_key))),
            Cell(len(swept)),
        ]
        for name, groups in parameters.items()
        if (swept := [one for group in groups for one in group])
    ]
    words = Paragraph(
        "Runs differ in these alone, too. Their figures are in the other tables and in results.csv."
    )
    return [Section("Further parameters", [words, Table([*headers, Header("runs")], cells)])]


def title(name: str) -> str:
    """The heading of a parameter's study."""
    return TITLES.get(name, f"Parameter {name}")


def at_defaults(results: Results, everything: Sequence[Configuration]) -> list[Configuration]:
    """The configurations at the default size and depth."""
    defaults = {"latent": results.latent, "depth": results.depth}
    return [
        one
        for one in everything
        if all(one.settings.get(key, value) == value for key, value in defaults.items())
    ]


def percent(one: Configuration) -> str:
    """` (98.47 %).`, its accuracy."""
    return f" ({100 * one.intervals['accuracy'].mean:.2f} %)."


def in_short(
    everything: Sequence[Configuration], baselines: Baselines, ties: Ties, costs: SearchCosts
) -> list[Section]:
    """What the report comes to; empty if nothing can be said."""
    coded = [one for one in everything if one.ok and not one.is_pixels]
    items: list[Text] = []
    if group := ties.best(coded, "accuracy"):
        items.append(["kNN accuracy of all codes: ", *in_words(group), percent(group[0])])
    if group := ties.best_unlabelled(coded):
        items.append(["kNN accuracy without labels: ", *in_words(group), percent(group[0])])
    by_size = ties.best_by_size(coded)
    for group in spread_out(by_size):
        best = group[0]
        head = f"Reconstruction with {best.latent} floats: "
        tail = f" (MSE {best.mean('mse'):.5f}{baselines.less_than_pca(best)})."
        items.append([head, *in_words(group), tail])
    items += others(len(by_size) - SIZES, "sizes", "their best are in bold below")
    if costs.claim:
        items.append(["Search. ", *costs.claim])
    return [Section("In short", [BulletList(items)])] if items else []
