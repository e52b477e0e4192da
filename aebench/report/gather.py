"""The results of several people or machines as one."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from aebench.errors import AebenchError
from aebench.records.plan import ReportPlan
from aebench.records.prepare import DataRecord
from aebench.report.results import Result, Results, first_array, read_result
from aebench.schema import Knn


def gather(folders: Sequence[Path]) -> Results:
    """The results of several people or machines as one, and what tells them apart.

    Each folder is a workspace or its `results`. The data and the protocol of the first result
    decide: what is of others is not shown. What is there twice is shown once; runs of one name and
    other settings are told apart by their folder's name. AebenchError for a folder without results.
    """
    places = [folder / "results" if (folder / "results").is_dir() else folder for folder in folders]
    datas = [DataRecord.read(place / "data.json", "dvc repro") for place in places]
    originals = first_array(place / "examples.npy" for place in places)
    found = Results(datas[0], [], 0, 0, {}, [], [], originals)
    for place, data in zip(places, datas, strict=True):
        source = label(place) if len(places) > 1 else ""
        if data.data_hash != datas[0].data_hash:
            what = f"{data.dataset}, hash {data.data_hash[:12]}"
            found.hidden.append(f"all of {source}: of other data ({what})")
            continue
        below = results_below(place, data, source, found.hidden)
        number = sum(add(found, result) for result in below)
        if source:
            found.remarks.append(f"{number} results are from {source}.")
    found.runs = list(dict.fromkeys(result.run for result in found.results))
    found.seeds = sorted({result.seed for result in found.results})
    found.latent, found.depth, found.knn = defaults(places[0], found.results)
    return found


def label(place: Path) -> str:
    """What a gathered folder is called: its own name, or that of its workspace."""
    whole = place.resolve()
    return whole.parent.name if whole.name == "results" else whole.name


def results_below(
    place: Path, data: DataRecord, source: str, hidden: list[str]
) -> Iterator[Result]:
    """Those of one folder in the order of its plan, if it is there; `hidden` gets the others."""
    order = planned(place)
    runs = order.runs if order else []
    paths = sorted(
        (path.parent for path in place.glob("*/*/train.json") if path.parent.name.isdecimal()),
        key=lambda p: (
            runs.index(p.parent.name) if p.parent.name in runs else len(runs),
            p.parent.name,
            int(p.name),
        ),
    )
    for path in paths:
        try:
            result = read_result(path, data)
        except AebenchError as error:
            where = f"{path.parent.name}, seed {path.name}"
            hidden.append(f"{where}{source and f', of {source}'}: {error}")
            continue
        result.source = source
        yield result


def add(found: Results, new: Result) -> bool:
    """Take the result in, under a name that is its own. False: it is not shown, and why is said."""
    place = f"{new.run}, seed {new.seed}, of {new.source or 'this folder'}"
    first = found.results[0] if found.results else new
    if new.columns["protocol"] != first.columns["protocol"]:
        found.hidden.append(f"{place}: of protocol {new.columns['protocol']}")
        return False
    for old in found.results:
        if (old.key, old.seed) == (new.key, new.seed) and old.source != new.source:
            same = old.ok == new.ok and (not old.ok or (old.outcomes == new.outcomes).all())
            words = "the same outcomes" if same else "other outcomes"
            found.hidden.append(f"{place}: {words} as that of {old.source}, which is shown")
            return False
    if any(old.run == new.run and old.key != new.key for old in found.results):
        new.run = new.columns["run"] = f"{new.run} ({new.source})"
    found.results.append(new)
    return True


def planned(place: Path) -> ReportPlan | None:
    """The plan/report.json beside a results folder."""
    path = place.parent / "plan" / "report.json"
    return ReportPlan.read(path, "aebench plan") if path.is_file() else None


def defaults(place: Path, results: Sequence[Result]) -> tuple[int, int, dict[str, Any]]:
    """Default latent, depth and search: of the plan beside the folder, else the commonest ones."""
    if plan := planned(place):
        return plan.latent, plan.depth, plan.knn.model_dump()

    def commonest(name: str) -> Any:
        values = Counter(r.settings[name] for r in results if name in r.settings)
        return values.most_common(1)[0][0] if values else 1

    knn = {key: commonest(f"knn.{key}") for key in Knn.model_fields}
    return commonest("latent"), commonest("depth"), knn
