"""Resolve params.yaml and the plug-ins into one small JSON per run and stage.

Every other stage depends on these files alone, so a stage runs again exactly when its file changes.
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aebench.errors import AebenchError, nearest
from aebench.files import PLAN, RESULTS, Outs, data_root, json_bytes, plan_path
from aebench.fingerprint import stage_fingerprint
from aebench.images import SUFFIXES, image_files
from aebench.params import PATH, Params, Run, read_params
from aebench.plugins import Model, Registry, load_plugins

UNKNOWN = sys.maxsize  # no k is above an unknown number of images: prepare checks again


def plan() -> None:
    """Write plan/data.json, plan/report.json and plan/<run>/{train,encode,knn}.json.

    Everything is checked first and AebenchError holds every fault; a file is written only when its
    text changed, and those of removed runs are deleted.
    """
    params, faults = read_params()
    if params is None:
        raise AebenchError("\n".join(faults))
    registry = load_plugins()
    files: dict[Path, Any] = {}
    if not any(fault.startswith(f"{PATH}: dataset:") for fault in faults):
        try:
            files[PLAN / "data.json"] = data_plan(params, registry)
        except AebenchError as error:
            faults.append(str(error))
    for name, run in params.runs.items():
        run_faults = list(model_faults(name, run, registry))
        faults += run_faults
        if not run_faults:
            files |= run_plans(name, run, params, registry.models[run.model])
    if faults and registry.broken:
        faults += [f"not loaded: {reason}" for reason in registry.broken.values()]
    if data := files.get(PLAN / "data.json"):
        faults += k_faults(params, train_size(data))
    if faults:
        raise AebenchError("\n".join(faults))
    for reason in [*registry.broken.values(), *registry.duplicates.values()]:
        print(f"aebench: warning: not used: {reason}", file=sys.stderr)
    files[PLAN / "report.json"] = report_plan(params)
    write_changed(files)


def model_faults(name: str, run: Run, registry: Registry) -> Iterator[str]:
    """What is wrong with the run's model name and the options it is given."""
    where = f"{PATH}: runs.{name}"
    model = registry.models.get(run.model)
    if run.model in registry.duplicates:
        yield f"{where}: {registry.duplicates[run.model]}; rename one"
        return
    if model is None:
        known = ", ".join(sorted(registry.models)) or "none"
        hint = nearest(run.model, registry.models)
        yield f"{where}.model: unknown model {run.model!r}{hint}; registered: {known}"
        return
    arguments = model.arguments
    options = [key for key in arguments if key not in ("latent", "depth")]
    for key in ("latent", "depth"):
        if getattr(run, key) is not None and key not in arguments:
            yield f"{where}.{key}: model {run.model!r} does not use {key}; remove the line"
    given = run.model_extra or {}
    for key in given.keys() - set(options) - Params.model_fields.keys():
        allowed = ", ".join(["model", "latent", "depth", "train", "knn", *options])
        hint = nearest(key, allowed.split(", "))
        yield f"{where}.{key}: unknown key{hint}; allowed for model {run.model!r}: {allowed}"
    for key in options:
        value = given.get(key, arguments[key])
        if value is ...:
            yield f"{where}: option {key!r} of model {run.model!r} has no default; add it"
        elif not is_json(value):
            yield (
                f"{where}.{key}: got {value!r}; allowed as an option or its default: finite "
                "numbers, text, true, false, null, lists and mappings of these"
            )


def is_json(value: Any) -> bool:
    """Whether the value can stand in a plan file."""
    try:
        json_bytes(value)
    except (TypeError, ValueError):
        return False
    return True


def run_plans(name: str, run: Run, params: Params, model: Model) -> dict[Path, Any]:
    """The three plan files of a run: each holds what alters its stage's result, nothing else."""
    arguments = model.arguments
    build = {k: default for k, default in arguments.items() if k not in ("latent", "depth")}
    build |= run.model_extra or {}
    build |= {
        k: getattr(run, k) or getattr(params, k) for k in ("latent", "depth") if k in arguments
    }
    plugin = model.plugin.fingerprint()
    settings = {"model": model.name, "plugin": model.plugin.name, "build": build}
    train = params.train.model_dump() | run.train
    if model.closed_form:
        train = None  # type: ignore[assignment]  # fit() sees none of it
    elif train["epochs"] == 0:
        train = {"epochs": 0}  # nothing else matters to an untrained model

    def stage(name: str) -> dict[str, str]:
        return {"plugin": plugin, "aebench": stage_fingerprint(name)}

    knn = params.knn.model_dump() | run.knn
    return {
        plan_path(name, "train"): settings | {"train": train, "fingerprints": stage("train")},
        plan_path(name, "encode"): settings | {"fingerprints": stage("encode")},
        plan_path(name, "knn"): knn | {"fingerprints": {"aebench": stage_fingerprint("knn")}},
    }


def data_plan(params: Params, registry: Registry) -> dict[str, Any]:
    """Where the images come from: a folder below the data root, else a plug-in."""
    name = params.dataset
    settings = {"dataset": name, "image_size": params.image_size, "channels": params.channels}
    aebench = stage_fingerprint("prepare")
    folder = data_root() / name
    if folder.is_dir() and any((folder / split).is_dir() for split in ("train", "test")):
        source: dict[str, Any] = {"source": "folder"} | folder_summary(folder)
        return settings | source | {"fingerprints": {"aebench": aebench}}
    if name in registry.duplicates:
        raise AebenchError(f"{PATH}: dataset: {registry.duplicates[name]}; rename one")
    if name not in registry.datasets:
        folders = [p.name for p in data_root().glob("*") if (p / "train").is_dir()]
        known = sorted({*registry.datasets, *folders})
        raise AebenchError(
            f"{PATH}: dataset: unknown data set {name!r}{nearest(name, known)}; known: "
            f"{', '.join(known) or 'none'}; a folder of your own goes to "
            f"{folder}/{{train,test}}/<class>/*.png"
        )
    plugin = registry.datasets[name].plugin
    prints = {"plugin": plugin.fingerprint(), "aebench": aebench}
    return settings | {"source": plugin.name, "fingerprints": prints}


def folder_summary(folder: Path) -> dict[str, Any]:
    """Counts, and a SHA-256 over (relative path, size, mtime) of every image: 0.3 s for 60,000.

    AebenchError for a missing split, classes that differ, a class without images, an empty file.
    """
    digest = hashlib.sha256()
    classes: dict[str, list[str]] = {}
    counts: dict[str, int] = {}
    faults: list[str] = []
    for split in ("train", "test"):
        if not (folder / split).is_dir():
            raise AebenchError(f"{folder / split}: not there; allowed: <class>/*.png below it")
        by_class = image_files(folder / split)
        classes[split] = sorted(by_class)
        counts[split] = sum(map(len, by_class.values()))
        for name, paths in sorted(by_class.items()):
            if not paths:
                faults.append(
                    f"{folder / split / name}: a class with no image; "
                    f"allowed: files ending in {', '.join(SUFFIXES)}; add some or remove the folder"
                )
            for path in paths:
                stat = os.stat(path)
                if stat.st_size == 0:
                    faults.append(f"{path}: an empty file; replace or remove it")
                relative = path.removeprefix(f"{folder}{os.sep}").replace(os.sep, "/")
                digest.update(f"{relative}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    if not classes["train"] and not classes["test"]:
        faults.append(f"{folder / 'train'}: no class folder in it; allowed: <class>/*.png")
    for one, other in (("train", "test"), ("test", "train")):
        for name in sorted(set(classes[one]) - set(classes[other])):
            hint = nearest(name, classes[other])
            faults.append(f"{folder}: class {name!r} is in {one} but not in {other}{hint}")
    if faults:
        raise AebenchError("\n".join(faults))
    return {"files": digest.hexdigest(), "num_train": counts["train"], "num_test": counts["test"]}


def train_size(data: dict[str, Any]) -> int:
    """Training images, where known: from the folder, or from what this very plan prepared."""
    if "num_train" in data:
        return data["num_train"]
    try:
        prepared = json.loads((RESULTS / "data.json").read_bytes())
    except (OSError, ValueError):
        return UNKNOWN
    plan_hash = hashlib.sha256(json_bytes(data)).hexdigest()
    return prepared["num_train"] if prepared["plan_hash"] == plan_hash else UNKNOWN


def k_faults(params: Params, num_train: int) -> list[str]:
    """Each k above the number of training images, named once where it stands."""
    places = {"knn.k": params.knn.k}
    places |= {f"runs.{name}.knn.k": r.knn["k"] for name, r in params.runs.items() if "k" in r.knn}
    return [
        f"{PATH}: {place}: got {k}; allowed: 1 to {num_train}, the number of training images"
        for place, k in places.items()
        if k > num_train
    ]


def report_plan(params: Params) -> dict[str, Any]:
    """What the report shows, in the order of params.yaml."""
    return {
        "dataset": params.dataset,
        "latent": params.latent,
        "depth": params.depth,
        "knn": params.knn.model_dump(),
        "runs": list(params.runs),
        "seeds": params.seeds,
        "fingerprints": {"aebench": stage_fingerprint("report")},
    }


def write_changed(files: dict[Path, Any]) -> None:
    """Write the files whose text changed and delete what is left of removed runs."""
    with Outs() as outs:
        for path, content in files.items():
            text = json_bytes(content)
            if not path.is_file() or path.read_bytes() != text:
                outs.write(path, text)
    kept = {path.parent for path in files}
    for folder in PLAN.iterdir():
        if folder.is_dir() and folder not in kept:
            shutil.rmtree(folder)
