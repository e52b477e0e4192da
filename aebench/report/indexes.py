"""Search at scale: what approximate indexes find of the exact neighbours, and how fast."""

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

from aebench.records.index import IndexRecord, Searched
from aebench.report.charts import CURVES, lines
from aebench.report.configurations import Configuration, best_and_references, of_all
from aebench.report.document import (
    Block,
    BulletList,
    Cell,
    Code,
    Figure,
    Format,
    Header,
    Paragraph,
    Run,
    Section,
    Span,
    Strong,
    Table,
    Text,
)
from aebench.report.findings import Findings
from aebench.report.pictures import Axis, Level, Point, Series
from aebench.report.tables import RUN, SHORT_RUN
from aebench.report.texts import LISTED, NAMED, counted, named, others, short

TITLE, WHOLE = "Search at scale", "Search at scale, in full"
GOOD = 0.95  # of recall: a trade-off is the fastest setting with that much
ENOUGH = f"{100 * GOOD:.0f} %"
RUNS = 12  # in a table
SHARE, RATE, MS = Format("{:.1f}", 100), Format("{:,.0f}"), Format("{:,.3f}", 1e3)
SECONDS, TIMES = Format("{:,.3g}"), Format("{:.1f}")
KB, MB = Format("{:,.0f}", 1e-3), Format("{:,.2f}", 1e-6)
# Of the table, and whether the short one has them, too.
HEADERS = [
    (Header("run", is_text=True), True),
    (
        Header(
            "index",
            "of FAISS, in the words of its factory, and how far it is searched; contended: timed "
            "while others had the cores, elsewhere: on another machine; neither is compared",
            is_text=True,
        ),
        True,
    ),
    (
        Header(
            "recall, %",
            "of the k returned training codes, those no further than the k-th of the exact search",
        ),
        True,
    ),
    (Header("accuracy, %", "of the vote of what the index returns"), True),
    (Header("queries/s", "in a batch, all threads"), True),
    (Header("1 thread", "queries per second in a batch, one thread"), False),
    (
        Header("x exact", "queries per second / those of exact search, in the same minutes"),
        False,
    ),
    (Header("a query, ms", "one in a call of its own, one thread, median"), True),
    (Header("p99, ms", "the slowest of a hundred such calls"), False),
    (Header("build, s", "training the index and adding all codes, all threads"), False),
    (Header("kB", "of the index in a file; exact: the codes as float32"), False),
    (Header("MB", "of the index in a file; exact: the codes as float32"), True),
]
HEADERS_SHORT = [header for header, is_short in HEADERS if is_short]
HEADERS_WHOLE = [header for header, _ in HEADERS[:-1]]


class Trial(NamedTuple):
    """An index of a run's codes. `name`: that in params.yaml."""

    one: Configuration
    name: str
    record: IndexRecord

    @property
    def best(self) -> Searched:
        """The fastest setting of those that find enough; where none does, what finds most."""
        found = self.record.searched
        enough = [one for one in found if one.recall >= GOOD]
        if enough:
            return max(enough, key=lambda one: one.queries_per_second)
        return max(found, key=lambda one: (one.recall, one.queries_per_second))

    @property
    def exact(self) -> Searched:
        """The exact search of the same codes, in the same minutes."""
        assert self.record.exact  # of what did not fail
        return self.record.exact


class Scale:
    """The indexes of a report."""

    def __init__(self, found: Findings) -> None:
        self.looks = found.looks
        every = [
            Trial(one, name, record)
            for one in found.configurations
            if (result := next((result for result in one.ok if result.indexes), None))
            for name, record in result.indexes.items()
        ]
        self.failed = [trial for trial in every if trial.record.status != "ok"]
        self.trials = [trial for trial in every if trial.record.status == "ok"]
        self.names = [*dict.fromkeys(trial.name for trial in self.trials)]
        self.ones = [*dict.fromkeys(trial.one for trial in self.trials)]

    @cached_property
    def machine(self) -> str:
        """That of most trials: its times alone are compared."""
        return Counter(t.record.provenance.machine for t in self.trials).most_common(1)[0][0]

    def mark(self, trial: Trial) -> str:
        """Why the times of a trial are compared with nothing; empty where they are."""
        if trial.record.timing.contended:
            return "contended"
        return "" if trial.record.provenance.machine == self.machine else "elsewhere"

    @property
    def clean(self) -> list[Trial]:
        """Those whose times are compared."""
        return [trial for trial in self.trials if not self.mark(trial)]

    @property
    def sections(self) -> list[Section]:
        """What is found, the trade-offs, their pictures; empty where no index was tried."""
        if not self.trials:
            return [Section(TITLE, [*self.remarks])] if self.failed else []
        ks = sorted({trial.record.plan.k for trial in self.trials})
        head = (
            f"What approximate indexes (FAISS, L2) find of the {named([*map(str, ks)])} exact "
            "neighbours, and how fast, with the codes of the first seed. Of each index the fastest "
            f"setting that finds {ENOUGH} of them, or what finds most; encoding is not counted."
        )
        blocks: list[Block] = [Paragraph(head), *map(Paragraph, self.claims)]
        blocks += [self.table(whole=False), *self.remarks, *self.figures]
        return [Section(TITLE, blocks)]

    @property
    def appendix(self) -> list[Section]:
        """The same trade-offs with all of their figures."""
        if not self.trials:
            return []
        first = self.trials[0].record
        words = (
            f"Times are medians of batches of {first.queries:,} test codes in one call (of "
            f"{first.single_queries:,} single ones, one thread) for {self.trials[0].one.short_name}"
            "; of larger codes there are fewer. plots/search.csv has every setting of every index."
        )
        return [Section(WHOLE, [self.table(whole=True), Paragraph(words)])]

    def table(self, whole: bool) -> Table:
        """Of each run the exact search, then its indexes."""
        shown = best_and_references(self.ones, RUNS)
        rows = []
        for one in shown:
            own = [trial for trial in self.trials if trial.one is one]
            first = next((trial for trial in own if not self.mark(trial)), own[0])
            rows.append(self.row(first, first.exact, True, whole))
            rows += [self.row(trial, trial.best, False, whole) for trial in own]
        return Table(HEADERS_WHOLE if whole else HEADERS_SHORT, rows)

    def row(self, trial: Trial, found: Searched, is_exact: bool, whole: bool) -> list[Cell]:
        """The cells of HEADERS."""
        record, mark = trial.record, self.mark(trial)
        building = (record.train_seconds or 0) + (record.add_seconds or 0)
        size = record.bank_bytes if is_exact else record.index_bytes
        cells = [
            (RUN if whole else SHORT_RUN).cell(trial.one),
            Cell("exact" if is_exact else described(trial, found), after=[mark and f", {mark}"]),
            Cell(found.recall, SHARE),
            Cell(found.accuracy, SHARE),
            Cell(found.queries_per_second, RATE),
            Cell(found.queries_per_second_1, RATE),
            Cell(None if mark or is_exact else rate(trial, found), TIMES),
            Cell(found.p50_seconds, MS),
            Cell(found.p99_seconds, MS),
            Cell(None if is_exact else building, SECONDS),
            Cell(size, KB),
            Cell(size, MB),
        ]
        kept = HEADERS_WHOLE if whole else HEADERS_SHORT
        return [cell for cell, (header, _) in zip(cells, HEADERS, strict=True) if header in kept]

    @property
    def contended(self) -> list[Trial]:
        """Those to be timed again."""
        return [trial for trial in self.trials if trial.record.timing.contended]

    @property
    def remarks(self) -> list[Block]:
        """Which indexes could not be made and why, and what is to be timed again."""
        said: dict[str, list[str]] = {}
        for trial in self.failed:
            why = trial.record.status.removeprefix("failed: ")
            said.setdefault(why, []).append(f"{trial.one.name} ({trial.name})")
        items: list[Text] = [
            [Strong("Left out"), f": {named(names, 4)}: {short(why)}."]
            for why, names in [*said.items()][:LISTED]
        ]
        items += others(len(said) - LISTED, "left out", "results/ has the reasons")
        again = [f"index@{trial.one.names[0]}-{trial.name}" for trial in self.contended]
        if again:
            words = f": {counted(len(again), 'timing')} while others had the cores; again with "
            command = f"dvc repro -s -f {' '.join(again[:NAMED])} && dvc repro"
            items.append([Strong("Contended"), words, Code(command)])
        return [BulletList(items)] if items else []

    @property
    def claims(self) -> list[Text]:
        """The fastest code that finds enough, beside exact search and beside raw pixels."""
        good = [trial for trial in self.clean if trial.best.recall >= GOOD]
        said = []
        for kind, among in (
            ("Of the codes", [trial for trial in good if not trial.one.is_pixels]),
            ("Of raw pixels", [trial for trial in good if trial.one.is_pixels]),
        ):
            if among:
                most = max(among, key=lambda trial: trial.best.queries_per_second)
                said.append(self.claim(kind, most))
        if self.clean and not good:
            return [f"No index finds {ENOUGH} of the exact neighbours."]
        return said

    def claim(self, kind: str, trial: Trial) -> Text:
        """`Of the codes, cnn in IVF1024,Flat (nprobe 16) is ...`: as measured once."""
        best, exact = trial.best, trial.exact
        times = rate(trial, best)
        against = f"{times:.1f} times as many as its exact search"
        if times < 1:
            against = f"fewer than its exact search, which answers {exact.queries_per_second:,.0f}"
        pixels = next((t.exact for t in self.clean if t.one.is_pixels), None)
        if pixels and not trial.one.is_pixels:
            more = best.queries_per_second / pixels.queries_per_second
            against += f" and {more:,.1f} times as many as exact search of raw pixels"
        said: list[Span] = [
            Strong(kind),
            ": ",
            Run(trial.one.name, trial.one.card, strong=True),
            f" in {described(trial, best)} answers most queries in a batch: "
            f"{best.queries_per_second:,.0f} per second, {against}; recall "
            f"{SHARE.written(best.recall)} %, accuracy {SHARE.written(best.accuracy)} % (exact: "
            f"{SHARE.written(exact.accuracy)} %). A single query takes "
            f"{MS.written(best.p50_seconds)} ms in place of {MS.written(exact.p50_seconds)} "
            "(medians, one thread). Measured once.",
        ]
        return said

    @property
    def figures(self) -> list[Figure]:
        """A panel for each index."""
        return [found for name in self.names for found in self.figure(name)]

    def figure(self, name: str) -> list[Figure]:
        """Queries per second over recall; empty where no times may be compared."""
        known = [trial for trial in self.clean if trial.name == name]
        every = [*dict.fromkeys(trial.one for trial in known)]
        shown = best_and_references(every, CURVES)
        drawn = [trial for trial in known if trial.one in shown]
        if not drawn:
            return []
        label = "queries per second, all threads (log)"
        curves = [self.curve(trial) for trial in drawn]
        picture = lines(Axis("recall, %"), Axis(label, log=True), curves, self.levels(shown))
        caption = (
            "Queries per second in a batch over recall: up and right is better. Levels: exact "
            f"search.{of_all(shown, every)}"
        )
        left = sum(trial.name == name for trial in self.trials) - len(known)
        if left:
            caption += f" {left} timed while others had the cores, or elsewhere, left out."
        title = f"Recall against speed: {name} ({drawn[0].record.plan.index})"
        return [Figure(f"scale-{name}", picture, title, caption)]

    def curve(self, trial: Trial) -> Series:
        """A run's codes in an index."""
        one, points = trial.one, []
        for found in trial.record.searched[::-1]:  # a line is named at its end: there they part
            tip = (
                f"{one.name} in {described(trial, found)}: recall {SHARE.written(found.recall)} %, "
                f"{found.queries_per_second:,.0f} queries per second, accuracy "
                f"{SHARE.written(found.accuracy)} %"
            )
            place = 100 * found.recall, found.queries_per_second
            points.append(Point(*place, card=one.card, tip=tip))
        return Series(one.short_name, self.looks[one], points, joined=len(points) > 1)

    def levels(self, shown: Sequence[Configuration]) -> list[Level]:
        """Exact search of raw pixels, and of the smallest of the codes."""
        first = {trial.one: trial.exact for trial in self.clean[::-1] if trial.one in shown}
        pixels = [one for one in first if one.is_pixels][:1]
        codes = [one for one in first if not one.is_pixels]
        smallest = sorted(codes, key=lambda one: one.latent or 0)[:1]
        return [
            Level(
                first[one].queries_per_second,
                f"exact, {'raw pixels' if one.is_pixels else one.short_name}",
                self.looks[one],
            )
            for one in [*pixels, *smallest]
        ]


def described(trial: Trial, found: Searched) -> str:
    """`IVF1024,Flat (nprobe 16)`."""
    setting = ", ".join(f"{name} {value}" for name, value in found.setting.items())
    return f"{trial.record.plan.index} ({setting})" if setting else trial.record.plan.index


def rate(trial: Trial, found: Searched) -> float:
    """Queries per second in a batch over those of the exact search of the same codes."""
    return found.queries_per_second / trial.exact.queries_per_second
