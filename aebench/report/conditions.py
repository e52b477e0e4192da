"""What the figures hold under: data, machine, recipe, protocol, code; and what failed."""

import re
from collections.abc import Sequence

from aebench.report.baselines import missing
from aebench.report.configurations import Configuration
from aebench.report.differences import COMMITS, DIRTY, TITLE, values
from aebench.report.document import (
    Block,
    BulletList,
    Code,
    CodeBlock,
    Link,
    Paragraph,
    Section,
    Span,
    Strong,
    Text,
    spans,
)
from aebench.report.findings import Findings
from aebench.report.results import Columns, Result, Results
from aebench.report.texts import LISTED, counted, named, one_of_each, others, short
from aebench.report.ties import BOLD
from aebench.report.times import again
from aebench.schema import Recipe

CONDITIONS, COMMANDS = "Conditions", "Lines to copy"
SCORE = (
    "An interval of an accuracy is a score interval (Wilson's, with what the seeds add "
    "under its root), that of a difference of two is made of those of what was gained and lost "
    "(Newcombe): both end where the figure can; +a -b: up to a above and b below it"
)
# Images: with fewer one seed's MSE is held by less than 94 %, with 720 by 94.5 (coverage.txt).
FEW = 400
SKEWED = (
    "Squared errors are skewed: of so few images the 95 % intervals of one seed's MSE hold less, "
    "in simulated suites 91 % with 36 images and 93.9 % with 359"
)


def facts(found: Findings, experiment: str | None) -> list[Span]:
    """One line: what was run, on which images, where, by which code. `experiment`: DVC's name."""
    results = found.results
    rows = [result.columns for result in results.results]
    channels, height, width = results.data.shape
    commits = {name[:12] for column in COMMITS for name in values(rows, column)}
    at: list[Span] = [" at commit ", *commit(rows)] if len(commits) == 1 else []
    at += [f" at {len(commits)} commits"] if len(commits) > 1 else []
    several = {len(one.results) for one in found.configurations}
    up_to = "up to " if len(several) > 1 else ""
    said: list[Sequence[Span]] = [
        [f"{counted(len(results.runs), 'run')} x {up_to}{counted(len(results.seeds), 'seed')}"],
        [
            f"{results.data.sizes}, "
            f"{channels} x {height} x {width}, {counted(len(results.data.classes), 'class')}"
        ],
        only(values(rows, "train_machine"), "machines"),
        ["aebench ", *only(values(rows, "aebench_version"), "versions"), *at],
        [dates(rows)],
        *([[f"experiment {experiment}"]] if experiment else []),
    ]
    text: list[Span] = []
    for words in said:
        text += ["; " if text else "", *words]
    return [*text, ". What this holds under: ", Link("conditions", CONDITIONS), "."]


def only(found: set[str], what: str) -> list[Span]:
    """The one there is, or that there are several."""
    return [*found] if len(found) == 1 else [f"{len(found) or 'no'} {what}"]


def conditions(found: Findings, experiment: str | None) -> Section:
    """Said once, where the rows agree. `experiment`: the name that DVC gave this one."""
    results = found.results
    rows = [result.columns for result in results.results]
    said = {
        "Data": data(results),
        "Machine": [*same(rows, "train_machine"), "; search with ", *same(rows, "knn_kernels")],
        "Training": training(results, rows),
        protocol(rows): search(rows),
        "Uncertainty": uncertainty(results, found.configurations),
        "Code": code(rows),
    }
    if experiment:
        said["Experiment"] = [experiment]
    items: list[Text] = [[Strong(name), ": ", *words, "."] for name, words in said.items()]
    return Section(CONDITIONS, [BulletList(items)])


def caveats(found: Findings) -> list[Section]:
    """What failed, what is not shown, which times count for nothing; empty if there is nothing."""
    results = found.results
    remarks = results.remarks[:LISTED]
    remarks += others(len(results.remarks) - LISTED, "folders", "results.csv names them")
    blocks: list[Block] = [
        *failures(results.results),
        *not_shown(results.hidden),
        *found.times.notes,
        *(Paragraph(quoted(remark)) for remark in remarks),
        *([] if results.hidden else missing(found.configurations, results)),
    ]
    return [Section("Caveats", blocks)] if blocks else []


def with_commands_last(sections: Sequence[Section]) -> tuple[list[Section], list[Section]]:
    """The sections without lines to copy, and an appendix that has them; empty without any."""
    kept: list[Section] = []
    commands: list[Block] = []
    for section in sections:
        blocks: list[Block] = []
        for block in section.blocks:
            if isinstance(block, CodeBlock):
                words = blocks.pop()
                assert isinstance(words, Paragraph)  # says what the lines do
                commands += [words, block]
                link = Link("see the lines to copy", COMMANDS)
                said = spans(words.text)
                if isinstance(said[-1], str):
                    said[-1] = said[-1].removesuffix(":")
                blocks.append(Paragraph([*said, " (", link, ")."]))
            else:
                blocks.append(block)
        kept.append(Section(section.title, blocks))
    return kept, [Section(COMMANDS, commands)] if commands else []


def data(results: Results) -> list[Span]:
    """What was compressed."""
    facts = results.data
    channels, height, width = facts.shape
    return [
        f"{facts.dataset} from {facts.source}, {facts.sizes}, {channels} x {height} x {width}, "
        f"{len(facts.classes)} classes, hash ",
        Code(facts.data_hash[:12]),
        *(f"; {phrase}" for phrase in facts.words),
        *([". ", *held_out(results)] if facts.holdout else []),
    ]


def held_out(results: Results) -> list[Span]:
    """What the figures are of, where that is not the test set."""
    return [
        Strong("HOLDOUT"),
        f": a share of {results.data.holdout} of the training images of each class, the first by "
        "the SHA-256 of their pixels, is not trained on and is what is called test images here; "
        "the test images themselves were not opened",
    ]


def training(results: Results, rows: Sequence[Columns]) -> list[Span]:
    """The recipe, in the words of the schema of params.yaml, and the seeds."""
    return [
        *recipe([row for row in rows if row.get("epochs")]),
        f"; seeds {named([*map(str, results.seeds)])}. ",
        Code("aebench verify RUN"),
        " trains a run again: on one machine, with as many threads, the bits are the same",
    ]


def recipe(trained: Sequence[Columns]) -> list[Span]:
    """`epochs 12, batch 256, ...` of the runs that were trained by gradient."""
    if not trained:
        return ["none by gradient"]
    words: list[Span] = []
    patterns = {
        name: field.description or f"{name.replace('_', ' ')} {{}}"
        for name, field in Recipe.model_fields.items()
    }
    patterns |= {"precision": "products in {}", "order": "images in {}"}
    neutral = {name: {str(field.default)} for name, field in Recipe.model_fields.items()}
    for name, pattern in patterns.items():
        if (found := values(trained, name)) and found != neutral.get(name):
            before, _, after = pattern.partition("{}")
            words += [", " if words else "", before, *same(trained, name), after]
    return [*words, "; linear warm-up, linear decay to 0"]


def protocol(rows: Sequence[Columns]) -> str:
    """`Protocol 1`: the version of what the figures mean, where there is a result."""
    versions = values(rows, "protocol")
    return f"Protocol {', '.join(sorted(versions))}" if versions else "Protocol"


def search(rows: Sequence[Columns]) -> list[Span]:
    """The headline's search and vote."""
    return [
        "test images are used for the figures only. kNN: k = ",
        *same(rows, "k"),
        ", ",
        *same(rows, "metric"),
        ", exact search (",
        *same(rows, "backend"),
        ") of the test codes among the training codes, unweighted vote, among tied classes that "
        "of the nearest neighbour, equal distances by lower training index (images lie by class: "
        "with discrete codes, which tie often, that favours the first classes)",
    ]


def uncertainty(results: Results, everything: Sequence[Configuration]) -> list[Span]:
    """How the intervals were made, and what they leave out."""
    images = f"{results.data.num_test:,} test images"
    bold = BOLD + (f". {SKEWED}" if results.data.num_test < FEW else "")
    counts = {len(one.ok) for one in everything if one.ok}
    if max(counts, default=1) == 1:
        return [
            f"± is a 95 % interval over the {images} of one seed. It leaves out that another seed "
            "gives another model: a difference between two runs may be luck. More seeds: ",
            Code("dvc exp run -S 'seeds=[0,1,2]'"),
            f". {SCORE}. {bold}",
        ]
    single = [one.name for one in everything if len(one.ok) == 1 and not one.is_seedless]
    names = f". Of {named(single)} there is one seed: over images alone, and in no tie group"
    left = names if single else ""
    several = counts - {1}
    means, number = f"means of {max(several)} seeds", str(max(several))
    if several != {max(several)}:
        means, number = "means of each row's seeds (their number beside it)", "their number"
    return [
        f"figures are {means}. ± is a 95 % interval for new seeds and new images: "
        f"half widths by the variance between the seeds / {number} and by that between the "
        f"{images} / their number, each with its own Student's t, are added in squares (Banerjee), "
        "which errs to the wide side; where the seed changes nothing, over images alone; for times"
        ", the latent space and the MSE of codes in fewer bits, over seeds alone. Skill is paired "
        f"with PCA on the same images; its intervals are of each row by itself. {SCORE}. "
        f"{bold}{left}"
    ]


def code(rows: Sequence[Columns]) -> list[Span]:
    """Whose code, and the libraries that it computed with."""
    return [
        "aebench ",
        *same(rows, "aebench_version"),
        ", commit ",
        *commit(rows),
        ", torch ",
        *same(rows, "torch_version"),
        ", numpy ",
        *same(rows, "numpy_version"),
        ", faiss-cpu ",
        *same(rows, "faiss_cpu_version"),
        f", {dates(rows)}",
    ]


def commit(rows: Sequence[Columns]) -> list[Span]:
    """The commit that all stages of all rows ran on, and whether any had uncommitted changes."""
    found = set().union(*(values(rows, column) for column in COMMITS))
    dirty = "True" in set().union(*(values(rows, column) for column in DIRTY))
    return [*one_of({name[:12] for name in found}), " with uncommitted changes" if dirty else ""]


def dates(rows: Sequence[Columns]) -> str:
    """The first and the last day of training."""
    days = sorted({row["date"][:10] for row in rows if row.get("date")})
    return "trained " + " to ".join(dict.fromkeys([days[0], days[-1]])) if days else "no rows"


def same(rows: Sequence[Columns], column: str) -> list[Span]:
    """The one value of the column, or that there are several."""
    return one_of(values(rows, column))


def one_of(found: set[str]) -> list[Span]:
    """The only one, or a link to all."""
    if len(found) > 1:
        return ["several (see ", Link(TITLE.lower(), TITLE), ")"]
    return [*found] or ["none"]


def not_shown(hidden: Sequence[str]) -> list[Block]:
    """What is left out, and why; empty if nothing is."""
    if not hidden:
        return []
    shown = one_of_each(hidden, lambda sentence: sentence.partition(": ")[2])
    items: list[Text] = [quoted(short(sentence)) for sentence in shown]
    items += others(len(hidden) - len(shown), "results", "not shown for reasons such as these")
    return [Paragraph("Not shown:"), BulletList(items)]


def quoted(sentence: str) -> list[Span]:
    """A sentence in which, as in errors, commands stand between backticks."""
    parts = re.split("`([^`]+)`", sentence)
    return [Code(part) if place % 2 else part for place, part in enumerate(parts)]


def failures(results: Sequence[Result]) -> list[Block]:
    """Each failed run, its reason and the command that tries it again; empty without any."""
    failed = [result for result in results if not result.ok]
    shown = one_of_each(failed, lambda one: one.columns["status"])
    items: list[Text] = [
        [
            Strong(one.run),
            f", seed {one.seed}: {short(one.columns['status'])}. Again",
            f" in {one.source}: " if one.source else ": ",
            Code(again([f"train@{one.original}"])),
        ]
        for one in shown
    ]
    items += others(len(failed) - len(shown), "failed", "results.csv has them and their reasons")
    head = Paragraph([Strong(f"{len(failed):,} of {len(results):,} results failed"), ":"])
    return [head, BulletList(items)] if failed else []
