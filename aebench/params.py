"""The schema of params.yaml, and one clear line for each thing wrong with it."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.constructor import DuplicateKeyError

from aebench.errors import AebenchError, nearest

PATH = Path("params.yaml")
RUN_NAME = r"^[a-z0-9][a-z0-9_-]*$"


class Section(BaseModel):
    """Strict: no coercion (`100.0` is not an integer), no unknown keys."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Train(Section):
    """The training recipe."""

    epochs: Annotated[int, Field(ge=0)]
    batch_size: Annotated[int, Field(ge=1)]
    learning_rate: Annotated[float, Field(gt=0)]
    muon_learning_rate: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    horizontal_flip: bool


class Knn(Section):
    """The search and its vote."""

    k: Annotated[int, Field(ge=1)]
    metric: Literal["l2", "cosine", "whitened-cosine"]
    backend: Literal["faiss", "sklearn"]


class Run(BaseModel):
    """One entry under `runs`: what it pins. Further keys are options of its model."""

    model_config = ConfigDict(extra="allow", strict=True)

    model: str
    latent: Annotated[int, Field(ge=1)] | None = None
    depth: Annotated[int, Field(ge=1)] | None = None
    train: dict[str, Any] = {}
    knn: dict[str, Any] = {}


class Params(Section):
    """params.yaml."""

    dataset: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$")]
    image_size: Annotated[int, Field(ge=8)] | None
    channels: Literal[1, 3] | None
    latent: Annotated[int, Field(ge=1)]
    depth: Annotated[int, Field(ge=1)]
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**63)]], Field(min_length=1)]
    train: Train
    knn: Knn
    runs: Annotated[
        dict[Annotated[str, StringConstraints(pattern=RUN_NAME)], Run], Field(min_length=1)
    ]


# What stands in for a wrong value while the rest is checked.
STAND_IN: dict[str, Any] = {
    "dataset": "unknown",
    "image_size": None,
    "channels": None,
    "latent": 1,
    "depth": 1,
    "seeds": [0],
    "train": {
        "epochs": 0,
        "batch_size": 1,
        "learning_rate": 1.0,
        "muon_learning_rate": 1.0,
        "weight_decay": 0.0,
        "horizontal_flip": False,
    },
    "knn": {"k": 1, "metric": "l2", "backend": "faiss"},
}


def read_params() -> tuple[Params | None, list[str]]:
    """params.yaml, checked by itself, and a line for each fault.

    With faults, the values are what is left to check further: runs that are wrong are left out,
    other wrong values have a stand-in. None where nothing is left. AebenchError: not readable.
    """
    content = read_yaml()
    faults: list[str] = []
    try:
        params = Params.model_validate(content)
    except ValidationError as error:
        faults += [line(e, content) for e in error.errors()]
        wrong = {tuple(map(str, e["loc"][:2])) for e in error.errors()}
        runs = content.get("runs") if isinstance(content.get("runs"), dict) else {}
        left = {n: run for n, run in (runs or {}).items() if ("runs", str(n)) not in wrong}
        keys = {place[0] for place in wrong}
        rest = {k: s if k in keys else content.get(k, s) for k, s in STAND_IN.items()}
        if not left:
            return None, faults
        params = Params.model_validate(rest | {"runs": left})
    faults += [
        f"{PATH}: seeds: got {seed} more than once; allowed: distinct integers >= 0"
        for seed in sorted({s for s in params.seeds if params.seeds.count(s) > 1})
    ]
    for name, run in list(params.runs.items()):
        if found := run_faults(name, run, params):
            faults += found
            run.train, run.knn = {}, {}
    return params, faults


def read_yaml() -> dict[str, Any]:
    """The file as plain values, read as DVC reads it (YAML 1.2)."""
    try:
        content = YAML(typ="safe", pure=True).load(PATH.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AebenchError(f"{PATH}: not there; run aebench in a workspace that has one") from None
    except UnicodeDecodeError:
        raise AebenchError(f"{PATH}: not a text file in UTF-8") from None
    except DuplicateKeyError as error:
        where = f"line {error.problem_mark.line + 1}" if error.problem_mark else "?"
        raise AebenchError(f"{PATH}: {where}: {first_of(error.problem)}; remove one") from None
    except (YAMLError, ValueError) as error:
        raise AebenchError(f"{PATH}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        got = "nothing" if content is None else type(content).__name__
        raise AebenchError(f"{PATH}: got {got}; allowed: keys {', '.join(Params.model_fields)}")
    return content


def first_of(problem: str | None) -> str:
    """ruamel's first words: `found duplicate key "mlp" with value ...`."""
    return (problem or "duplicate key").split(" with value")[0]


def run_faults(name: str, run: Run, params: Params) -> list[str]:
    """What is wrong with one run's `train` and `knn` overrides and its further keys."""
    faults = [
        f"{PATH}: runs.{name}.{key}: a run cannot override {key!r}; "
        "allowed: model, latent, depth, train, knn and options of its model"
        for key in (run.model_extra or {}).keys() & Params.model_fields.keys()
    ]
    for key, section, default in (("train", Train, params.train), ("knn", Knn, params.knn)):
        merged = default.model_dump() | getattr(run, key)
        try:
            section.model_validate(merged)
        except ValidationError as error:
            faults += [line(e, merged, ("runs", name, key)) for e in error.errors()]
    return faults


def line(error: ErrorDetails, content: Any, prefix: tuple[str, ...] = ()) -> str:
    """One pydantic error as: file, key, value got, values allowed, nearest name."""
    location = (*prefix, *(str(part) for part in error["loc"] if part != "[key]"))
    where = f"{PATH}: {'.'.join(location)}"
    context = error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            known = siblings(location)
            return (
                f"{where}: unknown key{nearest(location[-1], known)}; allowed: {', '.join(known)}"
            )
        case "missing":
            return f"{where}: missing; add it"
        case "string_pattern_mismatch":
            return f"{where}: got {error['input']!r}; allowed: names like {context['pattern']}"
        case "model_type" | "model_attributes_type" | "dict_type":
            return (
                f"{where}: got {error['input']!r}; allowed: a mapping, keys on lines of their own"
            )
        case "too_short":
            return f"{where}: empty; give at least one"
        case "literal_error":
            hint = nearest(str(error["input"]), re.findall("'(.+?)'", context["expected"]))
            return f"{where}: got {error['input']!r}{hint}; allowed: {context['expected']}"
    allowed = error["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    got = error["input"]
    whole = isinstance(got, float) and got.is_integer() and error["type"] == "int_type"
    fix = f"; write {int(got)}" if whole else ""
    return f"{where}: got {got!r}; allowed: {allowed}{fix}"


def siblings(location: tuple[str, ...]) -> list[str]:
    """The keys that may stand where the last part of `location` stands."""
    section = {"train": Train, "knn": Knn}.get(location[-2], Params) if location[1:] else Params
    return list(section.model_fields)
