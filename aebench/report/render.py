"""From the results to the report: its document, and the files below reports/."""

from collections.abc import Sequence
from functools import cached_property

from aebench.report import figures
from aebench.report.beyond_mse import beyond_mse
from aebench.report.bytes import Rates
from aebench.report.charts import Charts
from aebench.report.classes import classes, classes_table
from aebench.report.conditions import caveats, conditions, facts, held_out, with_commands_last
from aebench.report.differences import differences
from aebench.report.document import (
    BulletList,
    Document,
    Figure,
    Paragraph,
    ResultsTable,
    Section,
    Span,
    Strong,
    Table,
    Text,
    spans,
)
from aebench.report.findings import Findings
from aebench.report.indexes import Scale
from aebench.report.latent_space import latent_space
from aebench.report.markdown import markdown
from aebench.report.near_duplicates import near_duplicates
from aebench.report.overview import by_question, overview
from aebench.report.panel import panel, panel_table
from aebench.report.results import Results
from aebench.report.rows import (
    headline,
    loss_csv,
    metrics,
    quality_csv,
    results_csv,
    search_csv,
)
from aebench.report.stress import stress
from aebench.report.studies import studies
from aebench.report.summary import in_short
from aebench.report.taken import taken
from aebench.report.training import training
from aebench.workspace import json_bytes


class Report(Findings):
    """What is found in some results, and what is written of it. `experiment`: DVC's name of it."""

    def __init__(self, results: Results, experiment: str | None = None) -> None:
        super().__init__(results)
        self.experiment = experiment
        self.scale = Scale(self)
        self.rates = Rates(self)

    @cached_property
    def document(self) -> Document:
        """All that there is to read: the answer first, what to look up last."""
        results, found, charts = self.results, self.configurations, Charts(self)
        data = results.data
        is_smoke = data.dataset == "digits"
        smoke = [Paragraph([Strong("SMOKE: digits, not a benchmark.")])] if is_smoke else []
        held = [Paragraph([*held_out(results), "."])] if data.holdout else []
        of = f"{data.kind} of {data.dataset}" if data.holdout else data.dataset
        doubts, commands = with_commands_last(caveats(self))
        sections = [
            *in_short(self),
            *doubts,
            overview(self),
            Section("Trade-offs", [*charts.accuracy_over_bytes(), *charts.mse_over_seconds()]),
            beyond_mse(self, charts),
            *studies(self),
            *self.rates.sections,
            self.costs.section,
            *stress(self),
            *self.scale.sections,
            training(self),
            Section("Pictures", [*figures.gallery(self), *figures.worst(self)]),
            Section("Codes", [*figures.code_map(self)]),
            *shown(panel(self), figures.protocol(self)),
            *near_duplicates(self),
            *shown(classes(self), figures.confusion(self)),
        ]
        appendix = [
            *by_question(self),
            *panel_table(self),
            *self.rates.appendix,
            *self.scale.appendix,
            latent_space(found),
            *taken(self),
            *classes_table(self),
            *differences(results.results),
            *commands,
            conditions(self, self.experiment),
        ]
        sections = [section for section in sections if section.blocks]
        return Document(
            f"{of}: what a representation costs, and what it keeps",
            [*held, *smoke],
            sections,
            facts(self, self.experiment),
            [*appendix, *definitions([*sections, *appendix])],
        )

    @cached_property
    def files(self) -> dict[str, bytes]:
        """Name below reports/ -> content."""
        from aebench.report.drawing import png  # matplotlib: 0.5 s that a document does not need
        from aebench.report.page import page

        rows = results_csv(self.results, self.configurations, self.baselines)
        tried = search_csv(self.results.results)
        pictures = {f"figures/{f.name}.png": png(f.picture) for f in self.document.figures}
        return {
            "results.csv": rows,
            "metrics.json": json_bytes(metrics(self.configurations)),
            "headline.json": json_bytes(headline(self)),
            "plots/loss.csv": loss_csv(self.results.results),
            "plots/quality.csv": quality_csv(self.configurations),
            **({"plots/search.csv": tried} if tried else {}),
            **pictures,
            "report.md": markdown(self.document).encode(),
            "report.html": page(self.document, self),
        }


def shown(sections: Sequence[Section], pictures: Sequence[Figure]) -> list[Section]:
    """The section, if there is one, with its pictures."""
    return [Section(section.title, [*section.blocks, *pictures]) for section in sections]


def definitions(sections: Sequence[Section]) -> list[Section]:
    """What the columns of all tables mean, each once: where a name has several, by section."""
    said: dict[str, list[tuple[str, list[Span]]]] = {}
    for title, block in ((one.title, block) for one in sections for block in one.blocks):
        tables = [block.short, block.whole] if isinstance(block, ResultsTable) else [block]
        for header in (h for one in tables if isinstance(one, Table) for h in one.headers):
            meaning, known = spans(header.meaning), said.setdefault(header.name, [])
            if header.meaning and meaning not in [words for _, words in known]:
                known.append((title, meaning))
    items: list[Text] = [
        [Strong(name), f" ({title}): " if meanings[1:] else ": ", *meaning, "."]
        for name, meanings in said.items()
        for title, meaning in meanings
    ]
    return [Section("Definitions", [BulletList(items)])] if items else []


def files(results: Results, experiment: str | None = None) -> dict[str, bytes]:
    """Name below reports/ -> content: report.md, report.html, *.csv, *.json, figures/, plots/."""
    return Report(results, experiment).files
