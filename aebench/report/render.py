"""From the results to the report: its document, and the files below reports/."""

from collections.abc import Sequence
from functools import cached_property

from aebench.report import conditions, figures
from aebench.report.baselines import Baselines, missing
from aebench.report.classes import classes
from aebench.report.configurations import Configuration, configurations, swept
from aebench.report.differences import differences
from aebench.report.document import Block, Document, Paragraph, Section, Strong
from aebench.report.latent_space import latent_space
from aebench.report.markdown import markdown
from aebench.report.panel import panel
from aebench.report.results import Results
from aebench.report.rows import metrics, results_csv
from aebench.report.search import SearchCosts
from aebench.report.studies import Studies, at_defaults, further, in_short, title
from aebench.report.ties import Ties
from aebench.report.times import Times
from aebench.workspace import json_bytes

STUDIES = 12  # with a section of their own


class Report:
    """What is found in some results, each thing once."""

    def __init__(self, results: Results, experiment: str | None = None) -> None:
        """`experiment`: the name that DVC gave this one."""
        self.results = results
        self.experiment = experiment
        self.configurations = configurations(results.results)
        self.baselines = Baselines(self.configurations)

    @cached_property
    def document(self) -> Document:
        """All that there is to read."""
        results, found = self.results, self.configurations
        ties, times = Ties(), Times(results.results)
        costs = SearchCosts(found, self.baselines, times, ties, results.data.num_train)
        studies = Studies(found, self.baselines, times, ties)
        defaults = at_defaults(results, found)
        architectures = [
            *studies.architectures(results, defaults),
            *figures.reconstructions(results, found),
            *figures.loss_curves(found),
            *figures.further_curves(found),
        ]
        parameters = swept(found)
        most = sorted(parameters, key=lambda name: -number_ok(parameters[name]))[:STUDIES]
        of_parameters = [
            Section(
                title(name),
                [*studies.of_parameter(name, groups), *figures.sweep(name, groups, found)],
            )
            for name, groups in parameters.items()
            if name in most
        ]
        rest = {name: groups for name, groups in parameters.items() if name not in most}
        sections = [
            *in_short(found, self.baselines, ties, costs),
            Section("Architectures", architectures),
            *of_parameters,
            *further(rest),
            costs.section,
            *panel(found, ties),
            latent_space(found),
            *classes(results.data.classes, defaults),
            *differences(results.results),
            *conditions.failures(results.results),
        ]
        name = f"{results.data.dataset}: what a representation costs, and what it keeps"
        return Document(name, self.head, sections)

    @property
    def head(self) -> list[Block]:
        """Before the first section: what the figures hold under, and what is not there."""
        results = self.results
        smoke = Paragraph([Strong("SMOKE: digits, not a benchmark.")])
        return [
            *([smoke] if results.data.dataset == "digits" else []),
            *conditions.conditions(results, self.configurations, self.experiment),
            *(conditions.not_shown(results.hidden) or missing(self.configurations, results)),
        ]

    @cached_property
    def files(self) -> dict[str, bytes]:
        """Name below reports/ -> content."""
        from aebench.report.drawing import png  # matplotlib: 0.5 s that a document does not need

        rows = results_csv(self.results.results, self.configurations, self.baselines)
        pictures = {f"figures/{f.name}.png": png(f.picture) for f in self.document.figures}
        return {
            "results.csv": rows,
            "metrics.json": json_bytes(metrics(self.configurations)),
            **pictures,
            "report.md": markdown(self.document).encode(),
        }


def number_ok(groups: Sequence[Sequence[Configuration]]) -> int:
    """How many did not fail."""
    return sum(bool(one.ok) for group in groups for one in group)


def files(results: Results, experiment: str | None = None) -> dict[str, bytes]:
    """Name below reports/ -> content: report.md, results.csv, metrics.json, figures/*.png."""
    return Report(results, experiment).files
