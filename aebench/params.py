"""Read params.yaml: one clear line for each thing wrong with it."""

import json
import re
import reprlib
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.constructor import DuplicateKeyError

from aebench.errors import AebenchError, nearest
from aebench.schema import INDEX_NAME, LONGEST, RUN_NAME, Knn, Params, Recipe, Run
from aebench.workspace import Workspace

NAME = "params.yaml"
# With aliases a short file holds a value without end.
MOST_LEVELS, MOST_VALUES = 16, 10_000

Place = tuple[Any, ...]  # keys and indices from the top
# Where names stand that become those of files and stages -> what they are like.
NAMES: dict[Place, str] = {("runs",): RUN_NAME, ("search",): INDEX_NAME}


def read_params(workspace: Workspace) -> tuple[Params | None, list[str]]:
    """params.yaml, checked by itself, and a line for each fault.

    With faults, the values are what is left to check further: runs that are wrong are left out,
    other wrong values have a stand-in. None where no run is left. AebenchError: not readable.
    """
    content = read_yaml(workspace.params)
    faults: list[str] = []
    wrong: set[Place] = set()
    for place, value in parts(content):
        if found := list(value_faults(place, value)):
            faults += found
            wrong.add(place)
    try:
        Params.model_validate(mended(content, wrong))
    except ValidationError as error:
        faults += [line(e) for e in error.errors()]
        wrong |= {e["loc"][: 2 if e["loc"][0] == "runs" else 1] for e in error.errors()}
    params = Params.model_validate(mended(content, wrong))
    faults += [
        f"{NAME}: seeds: got {seed} more than once; allowed: distinct integers >= 0"
        for seed, count in sorted(Counter(params.seeds).items())
        if count > 1
    ]
    for name, run in params.runs.items():
        if found := list(run_faults(name, run, params)):
            faults += found
            run.train, run.knn = {}, {}
    return (None if params.runs.keys() <= STAND_IN["runs"].keys() else params), faults


def read_yaml(path: Path) -> dict[Any, Any]:
    """The file as plain values, read as DVC reads it (YAML 1.2)."""
    yaml = YAML(typ="safe", pure=True)
    yaml.composer.warn_double_anchors = False  # legal, and a warning is four lines
    try:
        content = yaml.load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AebenchError(f"{NAME}: not there; run aebench in a workspace that has one") from None
    except OSError as error:
        raise AebenchError(f"{NAME}: not readable ({error.strerror})") from None
    except UnicodeDecodeError:
        raise AebenchError(f"{NAME}: not a text file in UTF-8") from None
    except DuplicateKeyError as error:
        where = f"line {error.problem_mark.line + 1}" if error.problem_mark else "?"
        problem = (error.problem or "duplicate key").split(" with value")[0]
        raise AebenchError(f"{NAME}: {where}: {one_line(problem)}; remove one") from None
    except RecursionError:
        raise AebenchError(f"{NAME}: nested too deeply; {LEVELS}") from None
    except YAMLError as error:
        raise AebenchError(f"{NAME}: not YAML: {one_line(str(error))}") from None
    except Exception as error:  # of `!!bool maybe` and the like ruamel raises anything
        reason = f"{type(error).__name__}: {one_line(str(error))}"
        raise AebenchError(f"{NAME}: not YAML: a value that cannot be read ({reason})") from None
    if not isinstance(content, dict):
        got = "nothing" if content is None else type(content).__name__
        raise AebenchError(f"{NAME}: got {got}; allowed: keys {', '.join(Params.model_fields)}")
    return content


def parts(content: Mapping[Any, Any]) -> Iterator[tuple[Place, Any]]:
    """What is refused, left out or replaced as a whole: each run, and each other top-level key."""
    for key, value in content.items():
        if key == "runs" and isinstance(value, dict):
            yield from ((("runs", name), run) for name, run in value.items())
        else:
            yield (key,), value


def mended(content: Mapping[Any, Any], wrong: set[Place]) -> dict[Any, Any]:
    """The content without the wrong runs, with a stand-in for each other wrong or missing key."""
    keys = {place[0] for place in wrong if len(place) == 1}
    kept = {key: value for key, value in content.items() if key not in keys}
    kept |= {key: value for key, value in STAND_IN.items() if key in keys}
    if isinstance(runs := kept.get("runs"), dict) and runs:
        left = {name: run for name, run in runs.items() if ("runs", name) not in wrong}
        kept["runs"] = left or STAND_IN["runs"]
    return kept


def stand_in(field: FieldInfo) -> Any:
    """What the schema takes in place of a wrong value while the rest is checked."""
    kind = field.annotation
    if not field.is_required():
        return field.get_default(call_default_factory=True)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {key: stand_in(inner) for key, inner in kind.model_fields.items()}
    if get_origin(kind) is Literal:
        return get_args(kind)[0]
    return None if NoneType in get_args(kind) else PLAIN_STAND_IN[get_origin(kind) or kind]


PLAIN_STAND_IN: dict[Any, Any] = {
    bool: False,
    int: 1,
    float: 1.0,
    str: "unknown",
    list: [0],
    dict: {"": {"model": "unknown"}},  # a name that no run can have
}
STAND_IN: dict[str, Any] = {key: stand_in(field) for key, field in Params.model_fields.items()}

LEVELS = f"allowed: {MOST_VALUES:,} values in a key or run, {MOST_LEVELS} levels deep"
PLAIN = (
    "allowed: numbers (integers of 64 bits), text, true, false, null, lists and mappings of these; "
    "text that YAML takes for something else goes in quotes"
)


def value_faults(place: Place, value: Any) -> Iterator[str]:
    """A line for each key and value at and below `place` that a plan, being JSON, cannot hold."""
    if fault := key_fault(place):
        yield fault
        return
    whole, left = place, deque([(place, value)])
    seen = 0
    while left:
        place, value = left.popleft()
        seen += 1
        if seen > MOST_VALUES or len(place) > MOST_LEVELS:
            yield f"{where(whole)}: too much in it; {LEVELS}"
            return
        if isinstance(value, list):
            left += (((*place, index), item) for index, item in enumerate(value))
        elif type(value) is dict:
            found = {key: key_fault((*place, key)) for key in value}
            yield from filter(None, found.values())
            left += (((*place, key), item) for key, item in value.items() if not found[key])
        elif not is_plain(value):
            yield f"{where(place)}: got {shown(value)}; {PLAIN}"


def is_plain(value: Any) -> bool:
    """Whether a JSON file that other programs can read can hold this single value."""
    if isinstance(value, str):
        return not re.search("[\ud800-\udfff]", value)  # half a character: no UTF-8 holds it
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return value is None or isinstance(value, float)


def key_fault(place: Place) -> str | None:
    """What is wrong with the last key of `place`, if anything."""
    key = place[-1]
    if place[:-1] in NAMES:
        return name_fault(key, place[0])
    if isinstance(key, str) and key.isprintable() and len(key) <= LONGEST:
        return None
    return f"{where(place)}: got the key {spelt(key)}; allowed: keys of printable text"


def name_fault(name: Any, section: str = "runs") -> str | None:
    """What is wrong with the name of a run, or of an index in the section `search`, if anything.

    One that YAML reads as a number, a date, true or null is refused in quotes, too: without them
    DVC runs nothing and says nothing, and what reads the results (a data frame) guesses again.
    """
    pattern = NAMES[(section,)]
    allowed = f"allowed: names like {pattern}"
    if not isinstance(name, str) or (re.fullmatch(pattern, name) and not is_text(name)):
        return (
            f"{where((section, name))}: got {spelt(name)}, which is not text in YAML; {allowed} "
            "that are text without quotes; rename it"
        )
    if not re.fullmatch(pattern, name):
        return f"{where((section, name))}: got {shown(name)}; {allowed}"
    return None


def is_text(name: str) -> bool:
    """Whether YAML reads the name as text without quotes, too."""
    try:
        return isinstance(YAML(typ="safe", pure=True).load(name), str)
    except ValueError:  # a date that there is not, 2020-13-45
        return False


def run_faults(name: str, run: Run, params: Params) -> Iterator[str]:
    """What is wrong with one run's `train` and `knn` overrides and its further keys."""
    for key in run.model_extra or {}:
        if key in Params.model_fields:
            yield (
                f"{NAME}: runs.{name}.{key}: a run cannot override {key!r}; "
                f"allowed: {', '.join(Run.model_fields)} and options of its model"
            )
    for key, default in (("train", params.train), ("knn", params.knn)):
        try:
            type(default).model_validate(default.model_dump() | getattr(run, key))
        except ValidationError as error:
            yield from (line(e, ("runs", name, key)) for e in error.errors())


def line(error: ErrorDetails, prefix: Place = ()) -> str:
    """One pydantic error as: file, key, value got, values allowed, nearest name."""
    place = (*prefix, *error["loc"])
    context = error.get("ctx", {})
    got = error["input"]
    match error["type"]:
        case "extra_forbidden":
            known = siblings(place)
            hint = nearest(str(place[-1]), known)
            return f"{where(place)}: unknown key{hint}; allowed: {', '.join(known)}"
        case "missing":
            return f"{where(place)}: missing; add it"
        case "too_short":
            return f"{where(place)}: empty; give at least one"
        case "string_pattern_mismatch":
            allowed = f"names like {context['pattern']}"
        case "model_type" | "model_attributes_type" | "dict_type":
            allowed = "a mapping, keys on lines of their own"
        case "literal_error":
            hint = nearest(str(got), re.findall("'(.+?)'", context["expected"]))
            return f"{where(place)}: got {shown(got)}{hint}; allowed: {context['expected']}"
        case _:
            allowed = error["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    whole = error["type"] == "int_type" and isinstance(got, float) and got.is_integer()
    fix = f"; write {int(got)}" if whole and is_plain(int(got)) else ""
    return f"{where(place)}: got {shown(got)}; allowed: {allowed}{fix}"


def siblings(place: Place) -> list[str]:
    """The keys that may stand where the last part of `place` stands."""
    section = {"train": Recipe, "knn": Knn}.get(place[-2], Params) if place[1:] else Params
    return list(section.model_fields)


def where(place: Place) -> str:
    """`params.yaml: runs.mlp.train`, on one line whatever the keys are."""
    return f"{NAME}: {'.'.join(map(spelt, place))}"


def spelt(key: Any) -> str:
    """A key as the file has it, if it is short and printable."""
    if isinstance(key, str) and key.isprintable() and 0 < len(key) <= LONGEST:
        return key
    return json.dumps(key) if key is None or isinstance(key, bool) else shown(key)


def one_line(text: str) -> str:
    """The text on one line of bounded length."""
    flat = " ".join(text.split())
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in flat[:300])


class Short(reprlib.Repr):
    """`repr` on one line of bounded length, whatever YAML made."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother, self.maxlong = 3, 80, 80, 40

    def repr_int(self, x: int, level: int) -> str:
        """Python refuses to write out an integer of thousands of digits."""
        bits = x.bit_length()
        return super().repr_int(x, level) if bits < 4096 else f"an integer of {bits} bits"

    def repr_date(self, x: date, level: int) -> str:
        """As in the file."""
        return str(x)

    repr_datetime = repr_date


SHORT = Short()


def shown(value: Any) -> str:
    """The value for a message: Python's way of writing it, shortened."""
    return SHORT.repr(value)
