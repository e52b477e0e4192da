"""Find and load plug-ins: files and folders of `plugins/`, and installed packages.

What each one registers is remembered in .aebench/plugins.json, since importing it means importing
torch: a `dvc repro` with nothing to do needs the names and the defaults alone.
"""

import contextlib
import importlib.metadata
import importlib.util
import inspect
import io
import os
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
)
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NamedTuple, get_args

import pluggy

from aebench import hookspecs, metrics
from aebench.errors import (
    INSTALLED,
    AebenchError,
    Failure,
    author_line,
    first_line,
    is_machine_failure,
    outside,
)
from aebench.fingerprint import (
    folder_closure,
    import_closure,
    module_fingerprint,
    normalised,
    source_hash,
)
from aebench.memory import read_memory, state, write_memory
from aebench.records.encode import EncodeRecord, Sizes
from aebench.records.knn import KnnRecord
from aebench.records.plan import Better, MetricPlan
from aebench.records.train import TrainRecord
from aebench.schema import DATASET_NAME, LONGEST, Knn, Params, Recipe, Run
from aebench.surroundings import restored, torch_seed
from aebench.workspace import Workspace, is_json, read_bytes, sha256


@dataclass(frozen=True)
class Plugin:
    """One plug-in: `name` is `plugins/cnn.py`, `plugins/vit` (a folder), or `package: module`.

    `package` is `cnn`, `vit`, or the installed distribution: it tells models of one name apart.
    """

    name: str
    package: str
    load: Callable[[], ModuleType]
    sources: Callable[[], tuple[set[Path], Path]]  # its files, and the root that they are named by
    folder: Path | None = None  # whose helpers it imports by name

    def fingerprint(self) -> str:
        """The hash of the plug-in's source and of what it imports from beside itself."""
        return source_hash(*self.sources())

    def hashes(self) -> dict[str, str]:
        """File -> hash of its own source: the plug-in's and those of what it imports."""
        found, root = self.sources()
        prefix = "" if self.folder is None else "plugins/"
        names = {path: f"{prefix}{path.relative_to(root).as_posix()}" for path in sorted(found)}
        return {name: source_hash({path}, root)[:12] for path, name in names.items()}

    def changed(self) -> list[str]:
        """Its files of which this process has run another content than they have now."""
        found, root = self.sources()
        return [
            path.relative_to(root).as_posix()
            for path in sorted(found)
            for source in EXECUTED.get(str(path.resolve()), ())
            if normalised(source) != normalised(read_bytes(path))
        ]

    def unnoted(self) -> dict[Path, list[int]]:
        """The state of its files of which EXECUTED does not note what was used of them.

        Those of a package, and what a folder holds beside sources: an edit that was undone shows.
        """
        noted = self.folder is not None
        return {p: state(p) for p in self.sources()[0] if not noted or p.suffix != ".py"}

    def activate(self) -> None:
        """Make its helpers importable by name: before its code runs."""
        if self.folder is not None:
            activate(str(self.folder.resolve()))


@dataclass(frozen=True)
class Model:
    """A registered architecture."""

    name: str
    build: Callable[..., Any]
    plugin: Plugin
    arguments: dict[str, Any]  # keyword -> default of `build`; `...` where there is none
    closed_form: bool  # whether the registered class fits itself instead of being trained
    baseline: str | None = None  # which reference the registered class says it is
    seedless: bool = False  # whether it says that the seed changes nothing, and fits itself

    @property
    def full_name(self) -> str:
        """`cnn:light`: what a run writes where two plug-ins register `light`."""
        return f"{self.plugin.package}:{self.name}"


@dataclass(frozen=True)
class Dataset:
    """A registered data set."""

    name: str
    load: Callable[[Path], dict[str, Any]]
    plugin: Plugin


@dataclass(frozen=True)
class Metric:
    """A registered metric of reconstructions, whose name is its column of results.csv."""

    name: str
    measure: Callable[..., Any]
    better: Better
    plugin: Plugin


class Registered(NamedTuple):
    """What one plug-in registers, by name."""

    models: dict[str, Model]
    datasets: dict[str, Dataset]
    metrics: dict[str, Metric]


@dataclass
class Registry:
    """Everything registered, and why each plug-in that is not there could not be loaded."""

    models: dict[str, Model] = field(default_factory=dict)  # of names that a single model has
    full_names: dict[str, Model] = field(default_factory=dict)  # as well
    datasets: dict[str, Dataset] = field(default_factory=dict)
    metrics: dict[str, Metric] = field(default_factory=dict)  # of plug-ins, one of a name
    broken: dict[str, str] = field(default_factory=dict)  # plug-in name -> reason
    duplicates: dict[str, str] = field(default_factory=dict)  # name of several models -> sentence
    duplicate_datasets: dict[str, str] = field(default_factory=dict)
    duplicate_metrics: dict[str, str] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)  # folders that may be meant as plug-ins

    @property
    def choices(self) -> dict[str, Model]:
        """What a run can write as its model: the name, or the full name where several have it."""
        doubled = {n: m for n, m in self.full_names.items() if m.name in self.duplicates}
        return self.models | doubled

    def find(self, name: str) -> Model | None:
        """The model that a run means by the full name, which messages offer, or the name."""
        return self.full_names.get(name) or self.models.get(name)

    def add_metrics(self, found: Iterable[Metric]) -> None:
        """Those of names that a single plug-in registers, and of others a sentence."""
        by_name: dict[str, list[Metric]] = defaultdict(list)
        for metric in found:
            by_name[metric.name].append(metric)
        for name, same in by_name.items():
            if same[1:]:
                owners = " and ".join(metric.plugin.name for metric in same)
                sentence = f"metric {name!r} is registered by {owners}; rename one"
                self.duplicate_metrics[name] = sentence
            else:
                self.metrics[name] = same[0]

    def add_models(self, models: Iterable[Model]) -> None:
        """Sort out which names tell one model from all others."""
        by_name, by_full_name = defaultdict(list), defaultdict(list)
        for model in models:
            by_name[model.name].append(model)
            by_full_name[model.full_name].append(model)
        self.models = {name: found[0] for name, found in by_name.items() if not found[1:]}
        self.full_names = {name: found[0] for name, found in by_full_name.items() if not found[1:]}
        several = {name: found for name, found in by_full_name.items() if found[1:]} | {
            name: found for name, found in by_name.items() if found[1:]
        }
        for name, found in sorted(several.items()):
            owners = " and ".join(model.plugin.name for model in found)
            full = [f"`model: {m.full_name}`" for m in found if m.full_name in self.full_names]
            fix = f"write {' or '.join(full)}" if full else "rename one"
            self.duplicates[name] = f"model {name!r} is registered by {owners}; {fix}"


def load_plugins(workspace: Workspace, remembering: bool = True) -> Registry:
    """Load every plug-in; one that fails is noted in `broken` and registers nothing.

    One that is remembered is not imported before something of it is built or loaded. `remembering`:
    whether to write down what is not yet remembered.
    """
    registry = Registry(ignored=list(unmarked_folders(workspace)))
    every: list[Model] = []
    every_metric: list[Metric] = []
    keys = memory_keys(workspace)
    known, fresh = remembered(workspace, keys), {}
    for plugin in find_plugins(workspace):
        try:
            if plugin.name in known:
                found = recalled(plugin, known[plugin.name])
            else:
                found = registrations(plugin)
        except AebenchError as error:
            registry.broken[plugin.name] = str(error)
            continue
        fresh[plugin.name] = description(keys.get(plugin.name), found)
        every += found.models.values()
        every_metric += found.metrics.values()
        for name in registry.datasets.keys() & found.datasets.keys():
            both = f"{registry.datasets[name].plugin.name} and {plugin.name}"
            sentence = f"data set {name!r} is registered by both {both}; rename one"
            registry.duplicate_datasets[name] = sentence
        registry.datasets = found.datasets | registry.datasets
    registry.add_models(every)
    registry.add_metrics(every_metric)
    if remembering and fresh != known:
        kept = {name: about for name, about in fresh.items() if is_json(about)}
        write_memory(workspace, "plugins", kept)
    return registry


def all_remembered(workspace: Workspace) -> bool:
    """Whether `load_plugins` will import none."""
    names = {plugin.name for plugin in find_plugins(workspace)}
    return remembered(workspace, memory_keys(workspace)).keys() >= names


def remembered(workspace: Workspace, keys: dict[str, str]) -> dict[str, Any]:
    """What each plug-in registers, by its name, where nothing it can depend on has changed."""
    known = read_memory(workspace, "plugins").items()
    return {name: about for name, about in known if about.get("key") == keys.get(name, "")}


def memory_keys(workspace: Workspace) -> dict[str, str]:
    """For each plug-in, a hash of its source, of this module, and of what is installed.

    Installing or removing a package touches its folder on `sys.path`. A plug-in whose source cannot
    be found has none: importing it tells why.
    """
    folders = [Path(f) for f in sys.path if f.endswith(("site-packages", "dist-packages"))]
    common = [module_fingerprint(__name__, uncounted={}), sys.version]
    common += [f"{folder} {folder.stat().st_mtime_ns}" for folder in folders if folder.is_dir()]
    keys = {}
    for plugin in find_plugins(workspace):
        with contextlib.suppress(Exception):
            parts = "\0".join([plugin.fingerprint(), *common])
            keys[plugin.name] = sha256(parts.encode())
    return keys


def description(key: str | None, found: Registered) -> dict[str, Any]:
    """What `recalled` needs to know."""
    return {
        "key": key,
        "models": {
            name: {
                "arguments": [[k] if v is ... else [k, v] for k, v in model.arguments.items()],
                "closed_form": model.closed_form,
                "seedless": model.seedless,
            }
            for name, model in found.models.items()
        },
        "datasets": list(found.datasets),
        "metrics": {name: metric.better for name, metric in found.metrics.items()},
    }


def recalled(plugin: Plugin, known: dict[str, Any]) -> Registered:
    """What the plug-in registered when it was last imported."""

    def model(name: str, about: dict[str, Any]) -> Model:
        def build(*args: Any, **options: Any) -> Any:
            return registrations(plugin).models[name].build(*args, **options)

        arguments = {key: default[0] if default else ... for key, *default in about["arguments"]}
        facts = {key: about.get(key, False) for key in ("closed_form", "seedless")}
        return Model(name, build, plugin, arguments, **facts)

    def dataset(name: str) -> Dataset:
        return Dataset(name, lambda root: registrations(plugin).datasets[name].load(root), plugin)

    def metric(name: str, better: Better) -> Metric:
        def measure(*images: Any) -> Any:
            return registrations(plugin).metrics[name].measure(*images)

        return Metric(name, measure, better, plugin)

    return Registered(
        {name: model(name, about) for name, about in known["models"].items()},
        {name: dataset(name) for name in known["datasets"]},
        {name: metric(name, better) for name, better in known["metrics"].items()},
    )


def load_plugin(workspace: Workspace, name: str) -> Registered:
    """What the one plug-in of that name registers; AebenchError when it is gone or broken."""
    return registrations(find_plugin(workspace, name))


def find_plugin(workspace: Workspace, name: str) -> Plugin:
    """The one plug-in of that name; AebenchError when it is gone."""
    for plugin in find_plugins(workspace):
        if plugin.name == name:
            return plugin
    raise AebenchError(f"{name}: the plug-in is not there any more; run `aebench plan`")


def load_model(workspace: Workspace, plugin: str, name: str) -> Model:
    """The model of that name that the plug-in registers."""
    models = load_plugin(workspace, plugin).models
    if name not in models:
        raise AebenchError(f"{plugin}: registers no model {name!r} any more; run `aebench plan`")
    return models[name]


def built_in_metrics() -> dict[str, Metric]:
    """Those of aebench, registered by the hook as a plug-in's are."""
    return registrations(BUILT_IN).metrics


def load_metrics(
    workspace: Workspace, plans: Mapping[str, MetricPlan]
) -> tuple[dict[str, Metric], dict[str, str]]:
    """The built-in metrics and those of the plan; of what cannot be imported here the reason."""
    found, faults = built_in_metrics(), dict[str, str]()
    for plugin in dict.fromkeys(plan.plugin for plan in plans.values()):
        names = [name for name, plan in plans.items() if plan.plugin == plugin]
        try:
            own = load_plugin(workspace, plugin).metrics
            found |= {name: own[name] for name in names if name in own}
            faults |= {name: f"{plugin} does not register it" for name in names if name not in own}
        except AebenchError as error:
            faults |= dict.fromkeys(names, str(error))
    return found, faults


def imported_anew(model: Model) -> Model:
    """The model of its plug-in imported once more: without what its globals have learnt.

    Nor those of its helpers, or of its package. The same one where the plug-in cannot be imported
    twice. What the import says was said before.
    """
    model.plugin.activate()
    files = set(map(identity, model.plugin.sources()[0])) - {None}
    learnt = {
        name: module
        for name, module in sys.modules.items()
        if (file := getattr(module, "__file__", None)) and identity(file) in files
    }
    for name in learnt:
        forget(name)
    with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(AebenchError):
        return registrations(model.plugin).models.get(model.name, model)
    sys.modules.update(learnt)
    return model


def identity(file: str | Path) -> tuple[int, int] | None:
    """The same for a file by whichever path; None where it is gone.

    A tenth of the time of resolving the paths of 2,500 modules, 0.07 s.
    """
    try:
        found = os.stat(file)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def forget(name: str) -> None:
    """Have the module imported anew when it is next asked for, also as `from . import name`."""
    module = sys.modules.pop(name)
    package, _, short = name.rpartition(".")
    if getattr(sys.modules.get(package), short, None) is module:
        delattr(sys.modules[package], short)


def find_plugins(workspace: Workspace) -> Iterator[Plugin]:
    """The workspace's by name, then the installed entry points of group `aebench`."""
    paths = visible(workspace.plugins.absolute())
    folders = {path.name for path in paths if (path / "__init__.py").is_file()}
    for path in paths:
        if path.name in folders:
            yield folder_plugin(path)
        elif path.suffix == ".py" and not path.is_dir() and path.stem not in folders:
            yield file_plugin(path)
    for entry in sorted(importlib.metadata.entry_points(group="aebench"), key=lambda e: e.value):
        yield entry_plugin(entry)


def visible(folder: Path) -> list[Path]:
    """What lies in the folder of plug-ins, by name, without helpers (`_*`) and hidden files."""
    paths = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in paths if not path.name.startswith(("_", ".")))


def unmarked_folders(workspace: Workspace) -> Iterator[str]:
    """A sentence for each folder with sources that lacks what would make it a plug-in."""
    for path in visible(workspace.plugins):
        if path.is_dir() and not (path / "__init__.py").is_file() and any(path.glob("*.py")):
            yield (
                f"plugins/{path.name}: has no __init__.py, so it is no plug-in; add one, or call "
                f"the folder _{path.name} if it holds helpers"
            )


def file_plugin(path: Path) -> Plugin:
    """A loose file. Its helpers, `plugins/_*`, are importable by their name."""

    def load() -> ModuleType:
        return executed(f"{LOOSE}.{path.stem}", path.resolve())

    def sources() -> tuple[set[Path], Path]:
        return import_closure(path, path.parent, None, LOOSE), path.parent

    return Plugin(f"plugins/{path.name}", path.stem, load, sources, path.parent)


def folder_plugin(folder: Path) -> Plugin:
    """A folder with an `__init__.py`: a package, of which every file counts as its source."""
    parent, name = folder.parent, folder.name
    other = parent / f"{name}.py"

    def load() -> ModuleType:
        if other.is_file():  # one of them would be imported by the name: which?
            raise AebenchError(f"plugins/{name}.py has the same name; rename one")
        return executed(f"{LOOSE}.{name}", parent.resolve() / name / "__init__.py")

    def sources() -> tuple[set[Path], Path]:
        found = folder_closure(folder, parent, LOOSE)
        return found | ({other} if other.is_file() else set()), parent

    return Plugin(f"plugins/{name}", name, load, sources, parent)


def executed(name: str, file: Path) -> ModuleType:
    """The module or package of the file, and no submodule of an earlier one."""
    for known in list(sys.modules):
        if known == name or known.startswith(f"{name}."):
            del sys.modules[known]
    # A package is known by its __init__.
    spec = importlib.util.spec_from_file_location(name, file, loader=Noting(name, str(file)))
    assert spec and spec.loader  # a .py file always has both
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling look the module up by name
    spec.loader.exec_module(module)
    return module


EXECUTED: dict[str, set[bytes]] = {}  # source of a loose plug-in -> what of it has been run


class Noting(SourceFileLoader):
    """Notes what it runs, which an edit of the file cannot change any more.

    It takes no bytecode: Python takes that for an edit of the same size and second, too.
    """

    def get_code(self, fullname: str) -> CodeType:
        """The module's code."""
        source = self.get_data(self.path)
        EXECUTED.setdefault(os.path.realpath(self.path), set()).add(source)
        return self.source_to_code(source, self.path)


def noting_finder(folder: str) -> FileFinder:
    """Python's way to find modules, for folders of plug-ins."""
    if not any(Path(folder).is_relative_to(known) for known in HELPERS):
        raise ImportError(f"{folder}: no folder of plug-ins", path=folder)
    return FileFinder(folder, (ExtensionFileLoader, EXTENSION_SUFFIXES), (Noting, SOURCE_SUFFIXES))


sys.path_hooks.insert(0, noting_finder)
LOOSE = "aebench_plugins"  # the package that loose plug-ins are modules of, for Python
HELPERS: dict[str, dict[str, ModuleType]] = {}  # folder -> its modules that were imported


def activate(folder: str) -> None:
    """Make the modules of one folder of plug-ins importable, and those of no other.

    By name, or relative to one another. Two workspaces in one process may have helpers of one name.
    """
    active = [path for path in sys.path if path in HELPERS]
    if active == [folder]:
        return
    # Several where `restored` has put an older one back: it was activated inside.
    for other in active:
        if other != folder:
            sys.path.remove(other)
            HELPERS[other] |= taken_out(other)
    if folder not in active:
        HELPERS.setdefault(folder, {LOOSE: package_of(folder)})
        for known in [f for f in sys.path_importer_cache if Path(f).is_relative_to(folder)]:
            del sys.path_importer_cache[known]  # found before it was known as one of plug-ins
        # Last on the path: `plugins/torch.py` must not stand in for an installed package.
        sys.path.append(folder)
    sys.modules.update(HELPERS[folder])


def taken_out(folder: str) -> dict[str, ModuleType]:
    """The modules that were imported from the folder of plug-ins: Python forgets them."""
    return {
        name: sys.modules.pop(name)
        for name, module in list(sys.modules.items())
        if (name == LOOSE and module.__path__ == [folder])
        or ((file := getattr(module, "__file__", None)) and Path(file).is_relative_to(folder))
    }


def package_of(folder: str) -> ModuleType:
    """The package of one folder of plug-ins. Its `__init__.py`, if any, is not run."""
    package = ModuleType(LOOSE, "The plug-ins of a workspace.")
    package.__path__ = [folder]
    return package


def entry_plugin(entry: importlib.metadata.EntryPoint) -> Plugin:
    """A module of an installed package, named by an entry point."""
    package = entry.module.split(".")[0]
    owner = entry.dist.name if entry.dist else package
    INSTALLED.add(package)

    def sources() -> tuple[set[Path], Path]:
        with harmless(importing=True):  # it runs the package's `__init__`
            spec = importlib.util.find_spec(entry.module)
        file = Path(spec.origin)  # type: ignore[union-attr, arg-type]  # it was imported before
        depth = len(entry.module.split(".")) - (file.name != "__init__.py")
        root = file.parents[depth]
        return import_closure(file, root, package), root

    return Plugin(f"{owner}: {entry.value}", owner, entry.load, sources)


BUILT_IN = Plugin("aebench", "aebench", lambda: metrics, lambda: (set(), Path(__file__).parent))


def registrations(plugin: Plugin) -> Registered:
    """Import the plug-in and call its hooks. AebenchError names the file and the fault.

    What its code changes of the process is undone.
    """
    manager = pluggy.PluginManager("aebench")
    manager.add_hookspecs(hookspecs)
    found = Registered({}, {}, {})

    def register_model(name: str, build: Callable[..., Any]) -> None:
        name = checked_name("model", name, found.models)
        uses = arguments(name, build)
        fits, *trains = (getattr(build, own, None) for own in ("fit", "loss", "optimize"))
        closed_form = fits is not None and not any(trains)
        baseline = getattr(build, "baseline", None)
        seedless = closed_form and getattr(build, "seedless", False) is True
        call = seeded_by_aebench(plugin, activated(plugin, build))
        found.models[name] = Model(name, call, plugin, uses, closed_form, baseline, seedless)

    def register_dataset(name: str, load: Callable[[Path], dict[str, Any]]) -> None:
        name = checked_name("data set", name, found.datasets)
        if not callable(load):
            raise AebenchError(f"data set {name!r}: load is {type(load).__name__}; {CALLABLE}")
        found.datasets[name] = Dataset(name, activated(plugin, load), plugin)

    def register_metric(name: str, measure: Callable[..., Any], better: Better = "lower") -> None:
        name = checked_name("metric", name, found.metrics)
        if plugin is not BUILT_IN and is_column(name):
            raise AebenchError(f"metric {name!r}: results.csv has such a column; rename it")
        if not callable(measure):
            raise AebenchError(f"metric {name!r}: measure is {type(measure).__name__}; {CALLABLE}")
        if better not in get_args(Better):
            allowed = " or ".join(map(repr, get_args(Better)))
            raise AebenchError(f"metric {name!r}: better is {better!r}; allowed: {allowed}")
        found.metrics[name] = Metric(name, activated(plugin, measure), better, plugin)

    # What Python calls them where they are called wrongly.
    for register in (register_model, register_dataset, register_metric):
        register.__qualname__ = "register"
    plugin.activate()
    try:
        with restored(importing=True) as changed:
            manager.register(plugin.load(), plugin.name)
            manager.check_pending()  # without it a misspelt hook registers nothing, silently
            manager.hook.register_models(register=register_model)
            manager.hook.register_datasets(register=register_dataset)
            manager.hook.register_metrics(register=register_metric)
    except KeyboardInterrupt:
        raise
    # SystemExit and its like, too: a script put into plugins/ must not end the stage in silence.
    except BaseException as error:
        raise AebenchError(f"{plugin.name}: {fault(error)}") from error
    if changed:
        told = f"importing it changed {', '.join(changed)}: undone"
        print(f"aebench: warning: {plugin.name}: {told}", file=sys.stderr)
    if not any(found):
        raise AebenchError(
            f"{plugin.name}: registers nothing; decorate `register_models(register)` "
            "with @aebench.hookimpl, or let its name begin with _ if it holds helpers"
        )
    return found


CALLABLE = "allowed: a function or a class"


def activated(plugin: Plugin, function: Callable[..., Any]) -> Callable[..., Any]:
    """The plug-in's function, which finds its helpers when it is called and is `harmless`."""

    def call(*args: Any, **options: Any) -> Any:
        plugin.activate()
        with harmless():
            return function(*args, **options)

    return call


@contextlib.contextmanager
def harmless(importing: bool = False) -> Iterator[None]:
    """What a plug-in's code changes of the process is undone; Failure where it ends it."""
    try:
        with restored(importing):
            yield
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise Failure(f"ended the process: {error!r}{author_line(error)}") from None


def seeded_by_aebench(plugin: Plugin, build: Callable[..., Any]) -> Callable[..., Any]:
    """The builder; a line is said where it seeds torch itself."""

    def call(*args: Any, **options: Any) -> Any:
        seed = torch_seed()
        built = build(*args, **options)
        if seed not in (None, torch_seed()):
            warn_once(f"{plugin.name}: build sets torch's seed: runs of several seeds start alike")
        return built

    return call


@cache  # a stage builds its model more than once
def warn_once(text: str) -> None:
    """A line on standard error."""
    print(f"aebench: warning: {text}", file=sys.stderr)


def checked_name(kind: str, name: Any, known: Mapping[str, Any]) -> str:
    """The name under which something is registered. AebenchError for one that cannot be."""
    if not isinstance(name, str):
        raise AebenchError(f"{kind} {name!r}: the name must be a str")
    name = str.__str__(name)  # of numpy's and of enumerations' the bare text
    if not name.strip() or not name.isprintable() or len(name) > LONGEST:
        allowed = f"allowed: 1 to {LONGEST} printable characters"
        raise AebenchError(f"{kind} {name[:LONGEST]!r}: {allowed}; rename it")
    pattern = {"data set": DATASET_NAME, "metric": METRIC_NAME}.get(kind)
    if pattern and not re.fullmatch(pattern, name):
        raise AebenchError(f"{kind} {name!r}: allowed: names like {pattern}; rename it")
    if name in known:
        raise AebenchError(f"{kind} {name!r} is registered twice")
    return name


METRIC_NAME = "[a-z][a-z0-9_]{0,39}"  # of a column
# Columns of results.csv that no record names, and how further ones begin or end.
COLUMNS = re.compile(
    "run|model|latent|depth|ssim|seed|status|options|source|trials|compression|holdout|protocol|cpu|gpu|"
    "cores|threads|device|precision|memory_format|openblas_coretype|date|label|prediction|"
    "(accuracy|aebench|epoch|train|encode|knn)_.*|"
    ".*_(bytes|ci95|ci95_low|ci95_high|error|gain|hash|kernels|skill_score|version)"
)


def is_column(name: str) -> bool:
    """Whether results.csv or the outcomes of images may have a column of that name."""
    kinds = (TrainRecord, EncodeRecord, KnnRecord, Sizes, Recipe, Knn)
    return any(name in kind.model_fields for kind in kinds) or bool(COLUMNS.fullmatch(name))


# Keys of params.yaml, or of a run in it: an option of that name could not be set.
TAKEN = (Params.model_fields.keys() | Run.model_fields.keys()) - {"latent", "depth"}


def arguments(name: str, build: Callable[..., Any]) -> dict[str, Any]:
    """Keyword -> default of `build` after its first parameter; `...` where there is none.

    AebenchError for a builder that cannot be called as the contract says.
    """
    if not callable(build):
        raise AebenchError(f"model {name!r}: build is {type(build).__name__}; {CALLABLE}")
    try:
        parameters = list(inspect.signature(build).parameters.values())
    except ValueError:  # of one written in C
        parameters = []
    if not parameters or any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in parameters):
        raise AebenchError(
            f"model {name!r}: build must be build(shape, ...) and name each option it uses "
            "(no *args, no **kwargs)"
        )
    first, *others = parameters
    if first.kind == first.KEYWORD_ONLY or first.name in ("latent", "depth"):
        raise AebenchError(
            f"model {name!r}: the first parameter of build is {str(first)!r}; allowed: "
            "build(shape, ...), which is given the image shape (C, H, W) by position"
        )
    for p in others:
        if p.kind == p.POSITIONAL_ONLY:
            raise AebenchError(
                f"model {name!r}: build takes {p.name!r} by position alone; allowed: keywords; "
                "move the `/` behind shape"
            )
        if p.name in TAKEN:
            raise AebenchError(
                f"model {name!r}: build has an option {p.name!r}, which is a key of params.yaml; "
                f"rename it, as to 'inner_{p.name}'"
            )
    return {p.name: ... if p.default is p.empty else p.default for p in others}


def fault(error: BaseException) -> str:
    """One line on why a plug-in did not load."""
    if isinstance(error, AebenchError):
        return " ".join(str(error).split())
    if is_machine_failure(error) and (broken := outside(error)):
        return "; ".join(broken)
    if isinstance(error, pluggy.PluginValidationError):
        hooks = ", ".join(n for n in vars(hookspecs) if n.startswith("register_"))
        return f"{' '.join(str(error).split())}; hooks: {hooks}"
    if isinstance(error, SyntaxError):
        file = Path(error.filename or "?").name  # perhaps a helper's
        return f"SyntaxError: {error.msg} (line {error.lineno} of {file})"
    ends = "" if isinstance(error, Exception) else "; a plug-in must not end the process"
    return f"{type(error).__name__}: {first_line(error)}{author_line(error)}{ends}"
