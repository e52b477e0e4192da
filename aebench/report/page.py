"""The report as one page: a file that opens from disk, asks for nothing and runs only our script.

It holds the document, and beyond it what takes a page: sorting, a card for each configuration,
maps to walk through, and two runs side by side.
"""

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain, count
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from aebench.evaluation.uncertainty import Interval
from aebench.fingerprint import PACKAGE
from aebench.report import html
from aebench.report.cards import cards
from aebench.report.configurations import Configuration, best_and_references
from aebench.report.document import Document, Format, ResultsTable, Section, Table
from aebench.report.elements import LENGTH, Place, in_script, plain, run_name
from aebench.report.findings import Findings
from aebench.report.illustrations import picture_rules
from aebench.report.images import Images
from aebench.report.looks import PALETTE
from aebench.report.pairs import Pairs
from aebench.report.summary import trade_off
from aebench.sprite import SPRITE_COLUMNS

ASSETS = PACKAGE / "report/assets"
# A stage's key covers modules: by this it covers what stands beside them, too.
ASSETS_HASH = "c9cee546bc01299bd32ee9ef5d133567b272c9312279b5368e7413c05af6953b"
IMAGE_BYTES = 4_000_000  # of all cards
PREFERRED = 30  # configurations whose images come first
WIDE, LONG = 7, 30  # columns and rows: a table of the appendix with more is folded
APPENDIX, PAIRS, RUNS = "Appendix", "Two runs side by side", "Runs"


def page(document: Document, found: Findings | None = None) -> bytes:
    """The whole file, UTF-8. `found`: what the document is of, where it is one suite of runs."""
    everything = found.configurations if found else []
    look_of = found.looks if found else {}
    appendix = [one for one in document.appendix if not is_repeated(one, document)]
    sections = [*document.sections, *appendix]
    titles = [*(section.title for section in sections), PAIRS, RUNS, APPENDIX]
    *ids, pairs_id, runs_id, appendix_id = every_id = section_ids(titles)
    first = dict(zip(reversed(titles), reversed(every_id), strict=True))  # of two alike, the first
    place = Place(first, {one.card: look_of[one] for one in everything}, Images())
    pairs = Pairs(everything) if sum(bool(one.ok) for one in everything) > 1 else None
    pictured = with_images(everything, place.images)
    sprite = found.results.sprite if found else None
    originals = found.results.originals if found else None
    length = len(document.sections)
    shown = [section_of(one, id, place) for one, id in zip(sections, ids, strict=True)]
    named = [(id, words) for id, words, _ in shown[:length]]
    named += [(pairs_id, plain(PAIRS))] if pairs else []
    named += [(runs_id, plain(RUNS))] if everything else []
    named += [(appendix_id, plain(APPENDIX))] if appendix else []
    styles = f"{palette()}{asset('page.css')}{html.column_rules()}{picture_rules()}"
    scripts = [asset("dataTables.min.js"), asset("page.js")]
    text = template().render(
        policy=policy(styles, scripts),
        title=plain(document.title),
        styles=Markup(styles),
        scripts=[Markup(script) for script in scripts],
        facts=html.inline(document.facts, place),
        headline=[*headline(found, place)] if found else [],
        nav=named,
        before=html.blocks(document.blocks, place),
        sections=shown[:length],
        appendix=[
            (*parts, is_wide(one)) for one, parts in zip(appendix, shown[length:], strict=True)
        ],
        appendix_id=appendix_id,
        appendix_title=APPENDIX,
        pairs=pairs and side_by_side(pairs, place) | {"id": pairs_id, "title": PAIRS},
        data=script_data(pairs, found),
        sprite=sprite and f"data:image/webp;base64,{base64.b64encode(sprite).decode()}",
        columns=SPRITE_COLUMNS,
        mapped=len(found.results.data.mapped) if found and sprite else 0,
        runs_id=runs_id,
        runs_title=RUNS,
        cards=[*cards(everything, place, document, originals, pictured)],
        without_images=sum(bool(one.ok) for one in everything if one not in pictured),
    )
    return text.encode()


def side_by_side(pairs: Pairs, place: Place) -> dict[str, Any]:
    """What the section of two runs is made of."""
    names = [plain(one.called(LENGTH)) for one in pairs.ones]
    return {
        "names": names,
        "left_out": pairs.left_out,
        "best": pairs.best,
        "rival": pairs.rival,
        "table": html.written(pairs.table, place),
        "is_long": len(names) > LONG,
    }


@cache
def template() -> Any:
    """Of the page; what is put in is escaped."""
    loader = FileSystemLoader(ASSETS)
    found = Environment(
        autoescape=True,
        loader=loader,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return found.get_template("page.html")


@cache
def asset(name: str) -> str:
    """What stands beside this module, ready for an element."""
    return (ASSETS / name).read_text().strip()


def policy(styles: str, scripts: Sequence[str]) -> str:
    """What the browser may do: show images of the page itself, and these styles and scripts."""
    allowed = " ".join(map(source, scripts))
    return (
        f"default-src 'none'; img-src data:; script-src {allowed}; style-src {source(styles)}; "
        "base-uri 'none'; form-action 'none'"
    )


def source(content: str) -> str:
    """The element with just this content."""
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def palette() -> str:
    """The colours as variables, in light and in dark surroundings."""
    found = "".join(f"--{name}:light-dark({a},{b});" for name, (a, b) in PALETTE.items())
    marks = "".join(f":is(.key,use).{name}{{color:var(--{name})}}" for name in PALETTE)
    return f":root{{{found}}}{marks}"


def section_ids(titles: Sequence[str]) -> list[str]:
    """An id for each: its letters, and a number where another one has them.

    Cards begin with `run-`; what the script finds has no hyphen.
    """
    found: list[str] = []
    for title in titles:
        plain = re.sub("[^a-z0-9]+", "-", title.lower()).strip("-")[:40] or "section"
        names = (f"to-{plain}{suffix}" for suffix in chain([""], (f"-{n}" for n in count(2))))
        found.append(next(name for name in names if name not in found))
    return found


def section_of(section: Section, id: str, place: Place) -> tuple[str, Markup, Markup]:
    """Its id, title and content."""
    return id, plain(section.title), html.blocks(section.blocks, place)


def is_repeated(section: Section, document: Document) -> bool:
    """Whether all of it stands in the whole table of the results, too."""
    blocks = [block for one in document.sections for block in one.blocks]
    wholes = [block.whole.headers for block in blocks if isinstance(block, ResultsTable)]
    return bool(section.blocks) and all(
        isinstance(block, Table)
        and any(all(header in headers for header in block.headers) for headers in wholes)
        for block in section.blocks
    )


def is_wide(section: Section) -> bool:
    """Whether it holds a table that is better folded."""
    tables = [block for block in section.blocks if isinstance(block, Table)]
    return any(len(t.headers) > WIDE or len(t.cells) > LONG for t in tables)


def with_images(everything: Sequence[Configuration], images: Images) -> list[Configuration]:
    """Those whose cards have images: all, or as many as IMAGE_BYTES hold, the best first."""
    first = best_and_references(everything, PREFERRED)
    rest = [one for one in everything if one.ok and one not in first]
    kept = []
    for one in [*first, *rest]:
        shown = [one.ok[0].examples, *(one.ok[0].worst if one.ok[0].worst is not None else ())]
        for found in shown:
            if found is not None:
                images.uri(found)
        if images.size > IMAGE_BYTES:
            break
        kept.append(one)
    return kept


def headline(found: Findings, place: Place) -> Iterator[tuple[str, Markup, Markup]]:
    """Name, figure and small print of some figures: those of "In short" and of headline.json."""

    def of(one: Configuration) -> Markup:
        return run_name(one.name, one.card, place)

    if known := trade_off(found):
        best = known.best
        accuracy = html.measured(best.intervals["accuracy"], Format("{:.1f}", 100), " %")
        yield "Accuracy of the best trade-off", accuracy, of(best)
        if gain := found.baselines.skill(best, "accuracy"):
            points = html.measured(gain, Format("{:+.1f}", 100), " points")
            yield "Its gain over PCA of its size", points, of(best)
    latent = found.results.latent
    skills = {
        one: skill
        for one in found.coded
        if one.latent == latent
        and not one.is_packed
        and (skill := found.baselines.skill(one, "mse"))
    }
    if skills:
        one = max(skills, key=lambda one: skills[one].mean)
        ratio = 1 - skills[one].mean
        spread = skills[one].half_width
        times = html.measured(Interval(ratio, spread, spread), Format("{:.2f}"), " \u00d7")
        yield f"Lowest MSE against PCA's, {latent} floats", times, of(one)
    failed = sum(not result.ok for result in found.results.results)
    count = plain(f"of {len(found.results.results):,} runs and seeds")
    yield "Failed", plain(f"{failed:,}"), count


def script_data(pairs: Pairs | None, found: Findings | None) -> Markup:
    """What the script reads."""
    if pairs is None or found is None:
        return in_script(None)
    data = found.results.data
    pictured = found.results.sprite is not None
    return in_script(pairs.data(data.mapped, data.classes, pictured))
