"""The results of several people or machines as one."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from aebench.errors import AebenchError
from aebench.records.origin import defined_by
from aebench.records.plan import ReportPlan
from aebench.records.prepare import DataRecord
from aebench.records.record import AS_OF
from aebench.report.results import (
    Result,
    Results,
    equal,
    read_codecs,
    read_examples,
    read_near,
    read_result,
    read_sprite,
)
from aebench.schema import RUN_NAME, Knn

T = TypeVar("T")


@dataclass
class Place:
    """A folder of results, what it is called, and its plan, if that lies beside it."""

    folder: Path
    name: str
    data: DataRecord
    plan: ReportPlan | None


def gather(folders: Sequence[Path]) -> Results:
    """The results of several people or machines as one, and what tells them apart.

    Each folder is a workspace or its `results`. The data of the first folder and the protocol of
    the first result decide: what is of others is not shown. What is there twice is shown once; runs
    of one name and other settings are told apart by their folder's name. AebenchError for a folder
    without results, or where nothing can be shown.
    """
    places = places_of(folders)
    first = places[0].data
    wanted = first.data_hash, first.kind
    same = [place for place in places if (place.data.data_hash, place.data.kind) == wanted]
    alike = [place for place in same if place.data.examples == first.examples]
    found = Results(first, [], None, None, {}, [], [], None)
    found.originals = next(pictures(alike, read_originals, "shown test images", found.hidden), None)
    found.near = next(pictures(same, read_near, "near-duplicates", found.hidden), None)
    found.sprite = next(pictures(same, read_sprite, "images of the maps", found.hidden), None)
    plans = {place.folder: place.plan.codecs for place in same if place.plan}
    codecs = pictures(
        same,
        lambda folder, data: read_codecs(folder, data, plans.get(folder, "")),
        "figures of JPEG and WebP",
        found.hidden,
    )
    found.codecs = next(codecs, None)
    for place in places:
        if place not in same:
            kind = f" of {place.data.kind}" if place.data.kind != first.kind else ""
            what = f"{place.data.dataset}{kind}, hash {place.data.data_hash[:12]}"
            found.hidden.append(f"all of {place.name}: of other data ({what})")
            continue
        counts = Counter(add(found, result) for result in results_below(place, first, found.hidden))
        if place.name:
            again = f", {counts['equal']} more are equal to others'" if counts["equal"] else ""
            found.remarks.append(f"Results from {place.name}: {counts['shown']}{again}.")
    if not found.results:
        reasons = "; ".join(found.hidden[:3]) or "no runs"
        raise AebenchError(f"{folders[0]}: nothing in it can be shown ({reasons})")
    found.runs = list(dict.fromkeys(result.run for result in found.results))
    found.seeds = sorted({result.seed for result in found.results})
    found.latent, found.depth, found.knn = defaults(places[0].plan, found.results)
    return found


def read_originals(folder: Path, data: DataRecord) -> np.ndarray | None:
    """The shown test images."""
    return read_examples(folder, data, data)


def pictures(
    places: Sequence[Place],
    read: Callable[[Path, DataRecord], T | None],
    what: str,
    hidden: list[str],
) -> Iterator[T]:
    """Those there are; `hidden` gets why others are not."""
    for place in places:
        try:
            content = read(place.folder, place.data)
            if content is not None:
                yield content
        except AebenchError as error:
            hidden.append(f"the {what}{of(place.name)}: {error}")


def places_of(folders: Sequence[Path]) -> list[Place]:
    """Each folder once, called by as much of its path as it takes; a single one by nothing."""
    for folder in folders:
        if not folder.is_dir():
            raise AebenchError(f"{folder}: no such folder; allowed: a workspace or its results/")
    paths = [path / "results" if (path / "results").is_dir() else path for path in folders]
    paths = list(dict.fromkeys(path.resolve() for path in paths))
    homes = [path.parent if path.name == "results" else path for path in paths]
    length = 1
    while len({home.parts[-length:] for home in homes}) < len(homes):
        length += 1
    names = [Path(*home.parts[-length:]) for home in homes]
    places = []
    for path, name in zip(paths, names, strict=True):
        plan = path.parent / "plan" / "report.json"
        places.append(
            Place(
                path,
                str(name) if paths[1:] else "",
                DataRecord.read(path / "data.json", "dvc repro"),
                ReportPlan.read(plan, "aebench plan") if plan.is_file() else None,
            )
        )
    return places


def results_below(place: Place, first: DataRecord, hidden: list[str]) -> Iterator[Result]:
    """Those of one folder; `hidden` gets why others are not shown. `first`: whose images are."""
    for run, seed, expected in wanted(place):
        try:
            result = read_result(place.folder / run / str(seed), place.data, expected)
        except AebenchError as error:
            hidden.append(f"{run}, seed {seed}{of(place.name)}: {error}")
            continue
        if result.columns["status"].startswith(AS_OF):  # beside no plan, which would say so
            continue
        for name, error in result.unread.items():
            hidden.append(f"{run}, {name}{of(place.name)}: {error}")
        result.unread = {}  # told, and another folder may have it
        if place.data.examples != first.examples:
            result.examples = None
        result.source = place.name
        if place.name:
            result.columns["source"] = place.name
        if place.plan:
            result.columns["trials"] = place.plan.trials.get(run)
        yield result


def wanted(place: Place) -> Iterator[tuple[str, int, dict[str, str] | None]]:
    """Run, seed and the hashes of its plans: of the plan beside the folder, else all there are."""
    if plan := place.plan:
        for run in plan.runs:
            for seed in plan.seeds_of(run):
                yield run, seed, plan.expected_of(run, seed) or None
        return
    for folder in sorted(place.folder.glob("*/*/")):
        run, seed = folder.parent.name, folder.name
        if re.fullmatch(RUN_NAME, run) and seed.isdecimal() and str(int(seed)) == seed:
            yield run, int(seed), None


def add(found: Results, new: Result) -> str:
    """Take the result in under a name of its own: `shown`. Else say why not, or `equal` to one."""
    place = f"{new.run}, seed {new.seed}{of(new.source)}"
    first = found.results[0] if found.results else new
    if defined_by(new.columns["protocol"]) != defined_by(first.columns["protocol"]):
        found.hidden.append(f"{place}: of protocol {new.columns['protocol']}")
        return "hidden"
    same = [old for old in found.results if (old.key, old.seed) == (new.key, new.seed)]
    same = [old for old in same if old.source != new.source]
    if same:
        return instead(found, min(same, key=lambda old: old.run != new.run), new, place)
    new.run = new.columns["run"] = free_name(found, new)
    found.results.append(new)
    return "shown"


def instead(found: Results, old: Result, new: Result, place: str) -> str:
    """Which of two results of one configuration and seed is shown: one that did not fail."""
    if new.ok and not old.ok:
        new.run = new.columns["run"] = old.run
        found.results[found.results.index(old)] = new
        found.hidden.append(f"{new.run}, seed {new.seed}{of(old.source)}: failed there")
        return "shown"
    if old.ok and new.ok and equal(old.outcomes, new.outcomes):
        if new.stress and not old.stress:  # which one's first seed has, and another's has not
            old.stress, old.columns = new.stress, old.columns | new.stress.columns
        old.indexes = new.indexes | old.indexes
        return "equal"
    outcome = "other outcomes than" if new.ok else "failed, unlike"
    found.hidden.append(f"{place}: {outcome if old.ok else 'failed, as'} that of {old.source}")
    return "hidden"


def of(source: str) -> str:
    """`, of ben`; nothing of a single folder."""
    return f", of {source}" if source else ""


def free_name(found: Results, new: Result) -> str:
    """The run's name; with its folder's, or a number, where another configuration has it."""
    keys: dict[str, set[str]] = {}
    for old in found.results:
        keys.setdefault(old.run, set()).add(old.key)
    names = [new.run, *([f"{new.run} ({new.source})"] if new.source else [])]
    names += [f"{new.run} ({number})" for number in range(2, len(found.results) + 3)]
    return next(name for name in names if keys.get(name, {new.key}) == {new.key})


def defaults(
    plan: ReportPlan | None, results: Sequence[Result]
) -> tuple[int | None, int | None, dict[str, Any]]:
    """Default latent, depth and search: those of the plan, else the commonest ones."""
    if plan:
        return plan.latent, plan.depth, plan.knn.model_dump()

    def commonest(name: str) -> Any:
        values = Counter(r.settings[name] for r in results if name in r.settings)
        return values.most_common(1)[0][0] if values else None

    knn = {key: commonest(f"knn.{key}") for key in Knn.model_fields}
    return commonest("latent"), commonest("depth"), knn
