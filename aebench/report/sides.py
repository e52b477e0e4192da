"""Two revisions side by side: which of their runs belong together, and what has changed."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from aebench.records.origin import defined_by
from aebench.report.conditions import quoted
from aebench.report.configurations import Configuration, configurations
from aebench.report.differences import values
from aebench.report.document import Code, Span, Strong, Text
from aebench.report.results import TIMED, Columns, Result, Results
from aebench.report.texts import LISTED, named, others, short
from aebench.staleness import changed_code

LONGEST = 80  # characters of a value in a list
REASON = 200  # of a failure
OF_ALL = ("dataset", "image_size", "channels", "seeds")  # keys that are no setting of a run
# Figure -> what of an image it is of, where that is called otherwise.
MEASURED = {"accuracy": "prediction", "mse": "squared_error"}

Change = tuple[str, str | None, str | None]  # a setting, as it was and is; None: not set


@dataclass(frozen=True)
class Side:
    """A revision as it was asked for, and its results.

    `params`: the content of params.yaml; `code`: fingerprint -> module or file -> its own hash;
    `commit`: the abbreviated hash, empty for the workspace.
    """

    name: str
    results: Results
    params: Mapping[str, Any] = field(default_factory=dict)
    code: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    commit: str = ""

    @property
    def data_hash(self) -> str:
        """Of its images and labels."""
        return self.results.data.data_hash

    @cached_property
    def configurations(self) -> list[Configuration]:
        """Its results by their settings."""
        return configurations(self.results.results)

    @cached_property
    def by_name(self) -> dict[str, Configuration]:
        """Each run that has a result."""
        return {name: one for one in self.configurations for name in one.names}


@dataclass(eq=False)
class Pair:
    """The runs of some names, which have one configuration before and one now."""

    names: list[str]
    old: Configuration
    new: Configuration

    @property
    def name(self) -> str:
        """The names; what was given the labels is never named without that."""
        said = {
            (True, True): " (saw labels)",
            (False, True): " (now saw labels)",
            (True, False): " (saw labels before)",
        }
        return named(self.names, 4) + said.get((self.old.saw_labels, self.new.saw_labels), "")

    @cached_property
    def incomparable(self) -> str | None:
        """Why no figure of one may be held against the other's; None where nothing forbids it."""
        rows = ([result.columns for result in one.ok] for one in (self.old, self.new))
        old, new = (sorted(values(found, "protocol")) for found in rows)
        meant = [{defined_by(int(version)) for version in found} for found in (old, new)]
        if old and new and meant[0] != meant[1]:
            return f"measured by protocol {named(old)} before, by {named(new)} now"
        return None

    @property
    def is_compared(self) -> bool:
        """Whether both have figures that may be held against each other."""
        return bool(self.old.ok and self.new.ok) and self.incomparable is None

    @property
    def columns(self) -> list[str]:
        """The figures that both have: PSNR says what the MSE does."""
        both = [c for c in self.new.images if c in self.old.images and c != "psnr"]
        return [c for c in both if c not in self.redefined]

    @cached_property
    def redefined(self) -> list[str]:
        """The metrics of plug-ins that both have and that are not the same code."""
        both = self.old.better.keys() & self.new.better.keys()
        codes = ({code_of(one, name) for one in (self.old, self.new)} for name in sorted(both))
        return [name for name, found in zip(sorted(both), codes, strict=True) if len(found) > 1]

    def is_same(self, column: str) -> bool:
        """Whether what the figure is made of is the same bit for bit, of each seed and image."""
        old, new = (
            {
                result.seed: outcomes[MEASURED.get(column, column)]
                for result, outcomes in zip(one.ok, one.outcomes, strict=False)
                if MEASURED.get(column, column) in (outcomes.dtype.names or ())
            }
            for one in (self.old, self.new)
        )
        if len(old) == len(new) == 1:  # of several seeds, too, where they change nothing
            old, new = dict(enumerate(old.values())), dict(enumerate(new.values()))
        return old.keys() == new.keys() and all(np.array_equal(old[s], new[s]) for s in old)

    @property
    def is_all_the_same(self) -> bool:
        """Whether all is the same bit for bit."""
        of_one_kind = ("mse" in self.old.images) == ("mse" in self.new.images)
        return self.is_compared and of_one_kind and all(map(self.is_same, self.columns))

    @property
    def has_one_seed(self) -> bool:
        """Whether another seed might change it, and one side has no second one."""
        found = (self.old, self.new)
        return any(len(one.ok) == 1 and not one.is_seedless for one in found)

    @cached_property
    def changes(self) -> list[Change]:
        """The settings that differ."""
        old, new = self.old.settings, self.new.settings
        texts = ((key, text(old, key), text(new, key)) for key in dict.fromkeys([*old, *new]))
        return [(key, was, now) for key, was, now in texts if was != now]


def code_of(one: Configuration, metric: str) -> str | None:
    """The fingerprint of the plug-in that registers the metric; None of a built-in one."""
    return next((r.code.get(f"encode metric {metric}") for r in one.ok if metric in r.better), None)


def about(sides: Sequence[Side]) -> str:
    """Which images the sides are of, and which commits they are."""
    found: dict[str, list[Side]] = {}
    for side in sides:
        found.setdefault(side.data_hash, []).append(side)
    said = []
    for of_one in found.values():
        data = of_one[0].results.data
        names = [f"{side.name} ({side.commit})" if side.commit else side.name for side in of_one]
        said.append(f"{', '.join(names)}: {data.dataset}, {data.sizes}, hash {data.data_hash[:12]}")
    return "; ".join(said)


def text(settings: Mapping[Any, Any], key: Any) -> str | None:
    """The value, as YAML has it; None where it is not set."""
    if key not in settings:
        return None
    value = settings[key]
    if isinstance(value, str) and value.strip():
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def pairs(old: Side, new: Side) -> list[Pair]:
    """The runs by their names, in the new order; several names of two configurations are one."""
    found: dict[tuple[Configuration, Configuration], Pair] = {}
    for name in new.results.runs:
        if name in old.by_name and name in new.by_name:
            both = old.by_name[name], new.by_name[name]
            found.setdefault(both, Pair([], *both)).names.append(name)
    return list(found.values())


class Differences:
    """What differs between two sides beside the figures."""

    def __init__(self, old: Side, new: Side) -> None:
        self.old, self.new = old, new
        self.pairs = pairs(old, new)

    @property
    def come(self) -> list[str]:
        """The runs that are only in the new one."""
        return [name for name in self.new.results.runs if name not in self.old.results.runs]

    @property
    def gone(self) -> list[str]:
        """The runs that are only in the old one."""
        return [name for name in self.old.results.runs if name not in self.new.results.runs]

    @property
    def same(self) -> list[str]:
        """What is the same bit for bit."""
        if self.old.data_hash != self.new.data_hash:
            return []
        return [pair.name for pair in self.pairs if pair.is_all_the_same]

    @property
    def failing(self) -> list[str]:
        """What fails now and did not, in a seed at least; of new runs, too."""
        found = [pair.name for pair in self.pairs if len(failed(pair.new)) > len(failed(pair.old))]
        return found + [one.name for one in self.new_ones if failed(one)]

    @property
    def new_ones(self) -> list[Configuration]:
        """Those of the new runs that have a result."""
        found = (self.new.by_name[name] for name in self.come if name in self.new.by_name)
        return [*dict.fromkeys(found)]

    @property
    def missing(self) -> list[str]:
        """The runs that had a result and have none now, though they are asked for."""
        asked = self.new.results.runs
        return [name for name in asked if name in self.old.by_name and name not in self.new.by_name]

    @property
    def bullets(self) -> list[Text]:
        """All of it, in lists that do not grow without end."""
        items = [
            *self.settings,
            *self.parameters,
            *self.changed_code,
            *self.surroundings,
            *listed("New", self.come),
            *listed("Gone", self.gone),
            *self.failures,
            *self.without_decoder,
            *([f"Bit for bit the same: {self.runs(self.same)}"] if self.same else []),
            *self.not_compared,
            *hidden(self.new),
        ]
        return items or ["No parameter and no code changed, no run came or went."]

    @property
    def settings(self) -> list[Text]:
        """The settings of the runs, with the runs that they changed for."""
        found: dict[Change, list[str]] = {}
        for pair in self.pairs:
            for change in pair.changes:
                found.setdefault(change, []).append(pair.name)
        return limited([[*in_words(*c), ": ", self.runs(found[c])] for c in found], "settings")

    def runs(self, names: Sequence[str]) -> str:
        """The names; `all 7 runs` where it is all that both sides have."""
        every = len(names) == len(self.pairs) and len(names) > 1
        return f"all {len(names):,} runs" if every else named(names)

    @property
    def parameters(self) -> list[Text]:
        """Of params.yaml what is not told as a setting of runs."""
        changed = {key for pair in self.pairs for key, _, _ in pair.changes}
        of_run = {n: {key for key, _, _ in p.changes} for p in self.pairs for n in p.names}
        old, new = dict(flat(self.old.params)), dict(flat(self.new.params))
        items: list[Text] = []
        for place in dict.fromkeys([*old, *new]):
            key, was, now = ".".join(place), text(old, place), text(new, place)
            if was == now or key in changed:
                continue
            if place[0] == "runs" and place[1:]:
                told = of_run.get(place[1])
                if told is None or told & {".".join(place[2:]), place[2] if place[2:] else ""}:
                    continue
            effect = [] if place[0] in OF_ALL else [" (without effect on a run of both)"]
            items.append([*in_words(key, was, now), *effect])
        return limited(items, "parameters")

    @property
    def changed_code(self) -> list[Text]:
        """Which modules and plug-ins differ, and whose results they are behind."""
        code = {**self.old.code, **self.new.code}
        found: dict[str, dict[str, None]] = {}
        for pair in self.pairs:
            was, now = (one.results[0].code for one in (pair.old, pair.new))
            for key in dict.fromkeys([*was, *now]):
                if was.get(key) != now.get(key):
                    whose = {"plugin": "its plug-in", "aebench": f"aebench ({key.split()[0]})"}
                    whose["metric"] = f"the metric {key.split()[-1]}"
                    what = changed_code(
                        whose[key.split()[1]],
                        code.get(was.get(key, "")),
                        code.get(now.get(key, "")),
                    )
                    found.setdefault(what, {})[pair.name] = None
        items = [["Code: ", short(w, 300), ": ", self.runs([*n])] for w, n in found.items()]
        return limited(items, "changes of code")

    @property
    def surroundings(self) -> list[Text]:
        """Versions and machines, where all of one side are of others than those of the other."""
        old, new = (
            [r.columns for one in side for r in one.results]
            for side in ([p.old for p in self.pairs], [p.new for p in self.pairs])
        )
        items: list[Text] = []
        versions = dict.fromkeys(c for row in [*old, *new] for c in row if c.endswith("_version"))
        found = [
            f"{c.removesuffix('_version')} {change}"
            for c in versions
            if (change := of(old, new, c))
        ]
        items += [[f"Computed with: {'; '.join(found)}"]] if found else []
        machines: dict[str, list[str]] = {}
        for stage in TIMED:
            if change := of(old, new, f"{stage}_machine"):
                machines.setdefault(change, []).append(stage)
        items += [[f"Machine of {named(stages)}: {change}"] for change, stages in machines.items()]
        return items

    @property
    def failures(self) -> list[Text]:
        """What failed now, before or both times, with a reason."""
        items: list[Text] = []
        for pair in self.pairs:
            before, now = failed(pair.old), failed(pair.new)
            if not before and not now:
                continue
            what = "Fails now" if not before else "Failed before" if not now else "Failed in both"
            side, found = (pair.new, now) if now else (pair.old, before)
            part = f" ({len(found)} of {len(side.results)} seeds)" if side.ok else ""
            why = short(found[0].columns["status"], REASON)
            items.append([f"{what}: ", Strong(pair.name), f"{part}: {why}"])
        for one in self.new_ones:
            if found := failed(one):
                part = f" ({len(found)} of {len(one.results)} seeds)" if one.ok else ""
                why = short(found[0].columns["status"], REASON)
                items.append(["New, and fails: ", Strong(one.name), f"{part}: {why}"])
        return limited(items, "failed")

    @property
    def without_decoder(self) -> list[Text]:
        """What has no MSE on one of the sides."""
        some = [pair for pair in self.pairs if pair.is_compared and "mse" not in pair.columns]
        before = [pair.name for pair in some if "mse" in pair.new.images]
        now = [pair.name for pair in some if "mse" in pair.old.images]
        return [
            *listed("No decoder before, so no MSE is compared", before),
            *listed("No decoder now, so no MSE is compared", now),
        ]

    @property
    def not_compared(self) -> list[Text]:
        """What may not be held against each other, and why."""
        found: dict[str, list[str]] = {}
        for pair in self.pairs:
            if pair.incomparable:
                found.setdefault(pair.incomparable, []).append(pair.name)
        redefined = dict.fromkeys(name for pair in self.pairs for name in pair.redefined)
        return [
            *([f"Not compared: {self.runs(names)}: {why}"] for why, names in found.items()),
            *listed("Not compared, as the metric's code changed", [*redefined]),
        ]


def in_words(key: str, was: str | None, now: str | None) -> list[Span]:
    """`knn.k: 10 -> 5`."""
    old, new = ("not set" if one is None else Code(short(one, LONGEST)) for one in (was, now))
    return [Code(short(key, LONGEST)), ": ", old, " -> ", new]


def flat(
    content: Mapping[Any, Any], place: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each value that is no mapping, by the keys that lead to it."""
    for key, value in content.items():
        inner = (*place, str(key))
        if isinstance(value, Mapping) and value:
            yield from flat(value, inner)
        else:
            yield inner, value


def of(old: Sequence[Columns], new: Sequence[Columns], column: str) -> str | None:
    """`1.0 -> 1.1`: the values of the rows; None where they agree."""
    was, now = (sorted(values(rows, column)) for rows in (old, new))
    return f"{named(was, 3) or 'none'} -> {named(now, 3) or 'none'}" if was != now else None


def failed(one: Configuration) -> list[Result]:
    """Its results that are failures."""
    return [result for result in one.results if not result.ok]


def listed(words: str, names: Sequence[str]) -> list[Text]:
    """`New: a, b`; empty without names."""
    return [f"{words}: {named(names)}"] if names else []


def limited(items: Sequence[Text], what: str) -> list[Text]:
    """The first ones, and how many more there are."""
    return [*items[:LISTED], *others(len(items) - LISTED, what, "not listed")]


def hidden(side: Side) -> list[Text]:
    """Which results of a side are not there or cannot be shown, and why."""
    found: dict[str, list[str]] = {}
    for sentence in side.results.hidden:
        place, _, why = sentence.partition(": ")
        found.setdefault(why, []).append(place)
    items: list[Text] = [
        [f"Not in {side.name}: {named(places, between='; ')}: ", *quoted(short(why))]
        for why, places in found.items()
    ]
    return limited(items, "reasons")
