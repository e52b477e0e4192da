"""Find and load plug-ins: `plugins/*.py` of the workspace and installed packages.

What each one registers is remembered in .aebench/plugins.json, since importing it means importing
torch: a `dvc repro` with nothing to do needs the names and the defaults alone.
"""

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import inspect
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from aebench import hookspecs
from aebench.errors import AebenchError, first_line
from aebench.files import Outs, json_bytes
from aebench.fingerprint import import_closure, source_hash, stage_fingerprint

FOLDER = Path("plugins")
MEMORY = Path(".aebench/plugins.json")


@dataclass(frozen=True)
class Plugin:
    """One plug-in: `name` is `plugins/cnn.py`, or `package: module` for an installed one."""

    name: str
    load: Callable[[], ModuleType]
    find: Callable[[], tuple[Path, Path, str | None]]  # file, import root, package followed

    def fingerprint(self) -> str:
        """The hash of the plug-in's source and of what it imports from beside itself."""
        file, root, package = self.find()
        return source_hash(import_closure(file, root, package), root)


@dataclass(frozen=True)
class Model:
    """A registered architecture."""

    name: str
    build: Callable[..., Any]
    plugin: Plugin
    arguments: dict[str, Any]  # keyword -> default of `build`; `...` where there is none
    closed_form: bool  # whether the registered class fits itself instead of being trained


@dataclass(frozen=True)
class Dataset:
    """A registered data set."""

    name: str
    load: Callable[[Path], dict[str, Any]]
    plugin: Plugin


@dataclass
class Registry:
    """Everything registered, and why each plug-in that is not there could not be loaded."""

    models: dict[str, Model] = field(default_factory=dict)
    datasets: dict[str, Dataset] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)  # plug-in name -> reason
    duplicates: dict[str, str] = field(default_factory=dict)  # model or data set -> sentence


def load_plugins() -> Registry:
    """Load every plug-in; one that fails is noted in `broken` and registers nothing.

    One that is remembered is not imported before something of it is built or loaded.
    """
    registry = Registry()
    keys, known, fresh = memory_keys(), remembered(), {}
    for plugin in find_plugins():
        try:
            if plugin.name in known:
                models, datasets = recalled(plugin, known[plugin.name])
            else:
                models, datasets = registrations(plugin)
        except AebenchError as error:
            registry.broken[plugin.name] = str(error)
            continue
        fresh[plugin.name] = description(keys.get(plugin.name), models, datasets)
        for name in registry.models.keys() & models.keys():
            both = f"{registry.models[name].plugin.name} and {plugin.name}"
            registry.duplicates[name] = f"model {name!r} is registered by both {both}"
        for name in registry.datasets.keys() & datasets.keys():
            both = f"{registry.datasets[name].plugin.name} and {plugin.name}"
            registry.duplicates[name] = f"data set {name!r} is registered by both {both}"
        registry.models = models | registry.models
        registry.datasets = datasets | registry.datasets
    if fresh != known:
        remember(fresh)
    return registry


def all_remembered() -> bool:
    """Whether `load_plugins` will import none."""
    return remembered().keys() >= {plugin.name for plugin in find_plugins()}


def remembered() -> dict[str, Any]:
    """What each plug-in registers, by its name, where nothing it can depend on has changed."""
    try:
        known = json.loads(MEMORY.read_bytes())
    except (OSError, ValueError):
        return {}
    keys = memory_keys()
    return {name: about for name, about in known.items() if about["key"] == keys.get(name, "")}


@cache
def memory_keys() -> dict[str, str]:
    """For each plug-in, a hash of its source, of this module, and of what is installed.

    Installing or removing a package touches its folder on `sys.path`. A plug-in whose source cannot
    be found has none: importing it tells why.
    """
    folders = [Path(f) for f in sys.path if f.endswith(("site-packages", "dist-packages"))]
    common = [stage_fingerprint("plugins"), sys.version]
    common += [f"{folder} {folder.stat().st_mtime_ns}" for folder in folders if folder.is_dir()]
    keys = {}
    for plugin in find_plugins():
        with contextlib.suppress(Exception):
            parts = "\0".join([plugin.fingerprint(), *common])
            keys[plugin.name] = hashlib.sha256(parts.encode()).hexdigest()
    return keys


def description(
    key: str | None, models: dict[str, Model], datasets: dict[str, Dataset]
) -> dict[str, Any]:
    """What `recalled` needs to know."""
    return {
        "key": key,
        "models": {
            name: {
                "arguments": [[k] if v is ... else [k, v] for k, v in model.arguments.items()],
                "closed_form": model.closed_form,
            }
            for name, model in models.items()
        },
        "datasets": list(datasets),
    }


def recalled(plugin: Plugin, known: dict[str, Any]) -> tuple[dict[str, Model], dict[str, Dataset]]:
    """What the plug-in registered when it was last imported."""

    def model(name: str, about: dict[str, Any]) -> Model:
        def build(*args: Any, **options: Any) -> Any:
            return registrations(plugin)[0][name].build(*args, **options)

        arguments = {key: default[0] if default else ... for key, *default in about["arguments"]}
        return Model(name, build, plugin, arguments, about["closed_form"])

    def dataset(name: str) -> Dataset:
        return Dataset(name, lambda root: registrations(plugin)[1][name].load(root), plugin)

    models = {name: model(name, about) for name, about in known["models"].items()}
    return models, {name: dataset(name) for name in known["datasets"]}


def remember(fresh: dict[str, Any]) -> None:
    """Keep the descriptions for the next `load_plugins`, those that JSON can hold."""
    kept = {}
    for name, about in fresh.items():
        with contextlib.suppress(TypeError, ValueError):
            json_bytes(about)
            kept[name] = about
    with contextlib.suppress(OSError), Outs() as outs:  # a folder that cannot be written
        outs.write_json(MEMORY, kept)


def load_plugin(name: str) -> tuple[dict[str, Model], dict[str, Dataset]]:
    """What the one plug-in of that name registers; AebenchError when it is gone or broken."""
    for plugin in find_plugins():
        if plugin.name == name:
            return registrations(plugin)
    raise AebenchError(f"{name}: the plug-in is not there any more; run `aebench plan`")


def load_model(plan: dict[str, Any]) -> Model:
    """The model that a resolved plan names."""
    models, _ = load_plugin(plan["plugin"])
    if plan["model"] not in models:
        raise AebenchError(
            f"{plan['plugin']}: registers no model {plan['model']!r} any more; run `aebench plan`"
        )
    return models[plan["model"]]


def find_plugins() -> Iterator[Plugin]:
    """The workspace's files by name, then the installed entry points of group `aebench`."""
    if FOLDER.is_dir():
        for path in sorted(FOLDER.glob("*.py")):
            if not path.name.startswith("_"):
                yield file_plugin(path)
    for entry in sorted(importlib.metadata.entry_points(group="aebench"), key=lambda e: e.value):
        yield entry_plugin(entry)


def file_plugin(path: Path) -> Plugin:
    """A loose file. Its helpers, `plugins/_*.py`, are importable by their name."""

    def load() -> ModuleType:
        # Last on the path: `plugins/torch.py` must not stand in for an installed package.
        if (folder := str(FOLDER.resolve())) not in sys.path:
            sys.path.append(folder)
        name = f"aebench_plugins.{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path.resolve())
        assert spec and spec.loader  # a .py file always has both
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses and pickling look the module up by name
        spec.loader.exec_module(module)
        return module

    return Plugin(path.as_posix(), load, lambda: (path, FOLDER, None))


def entry_plugin(entry: importlib.metadata.EntryPoint) -> Plugin:
    """A module of an installed package, named by an entry point."""
    package = entry.module.split(".")[0]
    owner = entry.dist.name if entry.dist else package

    def find() -> tuple[Path, Path, str | None]:
        spec = importlib.util.find_spec(entry.module)
        file = Path(spec.origin)  # type: ignore[union-attr, arg-type]  # it was imported before
        depth = len(entry.module.split(".")) - (file.name != "__init__.py")
        return file, file.parents[depth], package

    return Plugin(f"{owner}: {entry.value}", entry.load, find)


def registrations(plugin: Plugin) -> tuple[dict[str, Model], dict[str, Dataset]]:
    """Import the plug-in and call its hooks. AebenchError names the file and the fault."""
    manager = pluggy.PluginManager("aebench")
    manager.add_hookspecs(hookspecs)
    models: dict[str, Model] = {}
    datasets: dict[str, Dataset] = {}

    def register_model(name: str, build: Callable[..., Any]) -> None:
        add(
            models,
            "model",
            Model(name, build, plugin, arguments(name, build), hasattr(build, "fit")),
        )

    def register_dataset(name: str, load: Callable[[Path], dict[str, Any]]) -> None:
        add(datasets, "data set", Dataset(name, load, plugin))

    try:
        manager.register(plugin.load(), plugin.name)
        manager.check_pending()  # without it a misspelt hook registers nothing, silently
        manager.hook.register_models(register=register_model)
        manager.hook.register_datasets(register=register_dataset)
    # SystemExit too: a script put into plugins/ must not end the stage without a word.
    except (Exception, SystemExit) as error:
        raise AebenchError(f"{plugin.name}: {fault(error)}") from error
    if not models and not datasets:
        raise AebenchError(
            f"{plugin.name}: registers nothing; decorate `register_models(register)` "
            "with @aebench.hookimpl"
        )
    return models, datasets


def add(known: dict[str, Any], kind: str, entry: Model | Dataset) -> None:
    """Put the entry under its name, refusing a second one."""
    if not isinstance(entry.name, str):
        raise AebenchError(f"{kind} {entry.name!r}: the name must be a str")
    if entry.name in known:
        raise AebenchError(f"{kind} {entry.name!r} is registered twice")
    known[entry.name] = entry


def arguments(name: str, build: Callable[..., Any]) -> dict[str, Any]:
    """Keyword -> default of `build` after its first parameter; `...` where there is none.

    A builder whose signature cannot say what it uses is refused.
    """
    parameters = list(inspect.signature(build).parameters.values())
    open_ended = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    if not parameters or any(p.kind in open_ended for p in parameters):
        raise AebenchError(
            f"model {name!r}: build must be build(shape, ...) and name each option it uses "
            "(no *args, no **kwargs)"
        )
    return {p.name: ... if p.default is p.empty else p.default for p in parameters[1:]}


def fault(error: BaseException) -> str:
    """One line on why a plug-in did not load."""
    if isinstance(error, AebenchError):
        return str(error)
    if isinstance(error, pluggy.PluginValidationError):
        hooks = ", ".join(n for n in vars(hookspecs) if n.startswith("register_"))
        return f"{' '.join(str(error).split())}; hooks: {hooks}"
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} (line {error.lineno})"
    return f"{type(error).__name__}: {first_line(error)}"
