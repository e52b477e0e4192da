"""Try a plug-in's models and metrics at some shapes: do they keep the contract?"""

import argparse
import ast
import contextlib
import importlib.metadata
import io
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aebench.errors import AebenchError, nearest
from aebench.params import NAME, name_fault, read_params, read_yaml, shown
from aebench.plugins import (
    Metric,
    Model,
    Plugin,
    Registered,
    Registry,
    all_remembered,
    file_plugin,
    find_plugins,
    folder_plugin,
    load_plugins,
    registrations,
)
from aebench.report.texts import named
from aebench.surroundings import watched
from aebench.version import template
from aebench.workspace import Workspace, is_json, json_bytes

if TYPE_CHECKING:
    from aebench.models.trial import Trial

# Of the 27 combinations of three shapes, latents and depths nine, in which each two values of
# different kinds meet once. The first is a usual one; each third latent is more than the pixels.
CASES = (
    ((1, 8, 8), 16, 2),
    ((1, 8, 8), 1, 1),
    ((1, 8, 8), 65, 3),
    ((3, 17, 13), 16, 1),
    ((3, 17, 13), 1, 3),
    ((3, 17, 13), 664, 2),
    ((3, 32, 32), 16, 3),
    ((3, 32, 32), 1, 2),
    ((3, 32, 32), 3073, 1),
)
SLOW = 5.0  # seconds to import
BESIDE = "pca", "mlp", "combo", "cnn"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which plug-in, and whether it is to be run."""
    words = "a plug-in, model or run of this workspace, a file, a folder, or an installed package"
    parser.add_argument("plugin", metavar="NAME|FILE|PACKAGE", help=words)
    words = "then train it on digits, in a folder of its own, beside PCA and the built-in models"
    parser.add_argument("--run", action="store_true", help=words)


def check_plugin(workspace: Workspace, plugin: str, run: bool) -> None:
    """Print what came of each trial of each model and metric, a line each; the warnings apart.

    Where nothing is wrong, `run` prints its row of a small benchmark. AebenchError where something
    is, and for a plug-in that is not there.
    """
    import torch  # noqa: F401  # the time of its import is not the plug-in's

    @cache
    def registry() -> Registry:
        """Of all plug-ins; what importing them says, `aebench plan` says."""
        if not all_remembered(workspace):
            print("importing all plug-ins ...", flush=True)  # any of them may end the process
        with contextlib.redirect_stderr(io.StringIO()):
            return load_plugins(workspace, remembering=False)

    found = find(workspace, plugin, registry)
    kept = Registered({}, {}, {})
    faults = [fault for one in found for fault in checked(one, registry, kept)]
    models, metrics = [*kept.models.values()], [*kept.metrics.values()]
    names = ", ".join(one.name for one in found)
    if faults:
        count = f"{len(faults)} faults" if faults[1:] else "a fault"
        raise AebenchError(f"{names}: {count} ({', '.join(faults)}); mend it and check it again")
    if run and (models or metrics):
        benchmark(found, models)
    if models or metrics:
        print(f"{names}: keeps the contract", flush=True)
    for name in kept.datasets:
        print(
            f"{names}: the data set {name} is not checked here; next: aebench prepare with "
            f"`dataset: {name}` in {NAME}",
            flush=True,
        )


def find(workspace: Workspace, name: str, registry: Callable[[], Registry]) -> list[Plugin]:
    """The plug-in; of an installed package all it has. AebenchError where there is none."""
    plugins = list(find_plugins(workspace))
    path = Path(name)
    if path.exists():
        for one in plugins:
            own = one.folder and one.folder / one.name.removeprefix("plugins/")
            if own and own.resolve() == path.resolve():
                return [one]
        if path.is_file() and path.suffix == ".py":
            return [replace(file_plugin(path), name=name)]
        if (path / "__init__.py").is_file():
            return [replace(folder_plugin(path), name=name)]
    file = path.suffix == ".py" or len(path.parts) > 1
    by_name: dict[str, list[Plugin]] = {}
    for one in plugins:
        for word in {plain(one.name), plain(one.package)}:
            by_name.setdefault(word, []).append(one)
    if plain(name) in by_name:
        return by_name[plain(name)]
    if file and not path.exists():
        raise AebenchError(f"{name}: no such file; {ALLOWED}")
    if path.is_dir() and (file or any(path.glob("*.py"))):
        raise AebenchError(f"{name}: the folder has no __init__.py; add one, or name a file in it")
    params = read_params(workspace)[0] if workspace.params.is_file() else None
    runs = {run: about.model for run, about in params.runs.items()} if params else {}
    wanted = runs.get(name, name)
    if model := registry().find(wanted):
        return [model.plugin]
    if wanted in registry().duplicates:
        raise AebenchError(f"{name}: {registry().duplicates[wanted]}")
    if name in runs:
        broken = f"; not loaded: {', '.join(registry().broken)}" if registry().broken else ""
        raise AebenchError(
            f"run {name}: its model {wanted!r} is not registered; is its package installed?{broken}"
        )
    with contextlib.suppress(importlib.metadata.PackageNotFoundError, ValueError):
        importlib.metadata.distribution(name)
        raise AebenchError(
            f"{name}: the package is installed and has no plug-in; add an entry point of the group "
            "aebench ([project.entry-points.aebench] in its pyproject.toml) and install it again"
        )
    known = sorted({*(one.package for one in plugins), *registry().choices, *runs})
    raise AebenchError(f"{name}: no such plug-in{nearest(name, known)}; {ALLOWED}")


ALLOWED = "allowed: a file *.py, a folder, a name (`aebench list` shows them), an installed package"


def plain(name: str) -> str:
    """The name as packages are compared: my_model, My-Model and my-model are one."""
    return re.sub("[-_.]+", "-", name).lower()


def checked(plugin: Plugin, registry: Callable[[], Registry], kept: Registered) -> Iterator[str]:
    """Print the plug-in's block and one for each of its models and metrics.

    `kept` gets what it registers. The name of each check that something did not pass.
    """
    remarks: dict[str, str] = {}
    # Before it is done, here and below: the last word where a plug-in ends the process.
    print(f"{plugin.name}: importing ... ", end="", flush=True)
    start = time.perf_counter()
    try:
        with watched(remarks):
            found = registrations(plugin)
    except AebenchError as error:
        missing = error.__cause__
        mend = f"; install {missing.name}" if isinstance(missing, ModuleNotFoundError) else ""
        print(f"\n  FAULT import: {str(error).removeprefix(f'{plugin.name}: ')}{mend}")
        yield "import"
        return
    seconds = time.perf_counter() - start
    print(f"{seconds:.1f} s", flush=True)
    if seconds > SLOW:
        remarks["slow"] = (
            f"importing it takes {seconds:.0f} s, and every stage of its runs waits for them; "
            "import what is heavy inside the functions that use it"
        )
    kept.models.update(found.models)
    kept.datasets.update(found.datasets)
    kept.metrics.update(found.metrics)
    say(remarks)
    twice = registry().duplicates | registry().duplicate_metrics if any(found) else {}
    for metric in found.metrics.values():
        yield from (f"{fault} of {metric.name}" for fault in measures(metric))
        if metric.name in twice:
            say({"twice": twice[metric.name]})
    for model in found.models.values():
        for fault in dict.fromkeys(tries(model)):
            yield f"{fault} of {model.name}"
        if model.name in twice:
            say({"twice": twice[model.name]})


def measures(metric: Metric) -> Iterator[str]:
    """Print the metric's block: a line for each shape. The names of broken checks, each once."""
    from aebench.models.measuring import trial_fault

    print(f"metric {metric.name} ({metric.better} is better)", flush=True)
    shapes = dict.fromkeys(shape for shape, *_ in CASES)
    found = dict[str, str]()
    refused = 0
    for shape in shapes:
        print(f"  {' x '.join(map(str, shape)):<11}  ", end="", flush=True)
        fault = trial_fault(metric, shape)
        check, text = fault or ("", "ok")
        refused += check == "refused"
        bad = check not in ("", "refused")
        print(f"FAULT {check}: {text}" if bad else text, flush=True)
        found |= {check: text} if bad else {}
    if refused == len(shapes):
        print("  FAULT refused: it refuses every one of these; allowed: to refuse some")
        found["refused"] = ""
    yield from found


def tries(model: Model) -> Iterator[str]:
    """Print the model's block: a line for each case, then warnings. The names of broken checks."""
    from aebench.models.trial import tried

    uses = [k if v is ... else f"{k}={shown(v)}" for k, v in model.arguments.items()]
    print(f"model {model.name} ({', '.join(uses)})", flush=True)
    options = {k: v for k, v in model.arguments.items() if k not in ("latent", "depth")}
    for key, value in options.items():
        if value is ... or not is_json(value):
            got = "no default" if value is ... else f"the default {shown(value)}"
            print(f"  FAULT options: {key} has {got}; allowed: one that JSON can hold")
            yield "options"
            return
    remarks = {
        key: f"{key} is named and not used: its values make no difference" for key in unused(model)
    }
    given: list[tuple[Any, dict[str, int]]] = []
    for shape, latent, depth in CASES:
        values = {"latent": latent, "depth": depth}
        case = shape, {key: value for key, value in values.items() if key in model.arguments}
        given += [case] if case not in given else []
    trials: list[Trial] = []
    told: set[str] = set()
    for shape, sizes in given:
        first = not any(trial.sizes for trial in trials)
        words = [f"{' x '.join(map(str, shape)):<11}"]
        words += [f"{key} {value:<{WIDTHS[key]}}" for key, value in sizes.items()]
        print(f"  {'  '.join(words)}  ", end="", flush=True)
        trial = tried(model, shape, options | sizes, thoroughly=first)
        trials.append(trial)
        print(outcome(trial, told), flush=True)
        if trial.fault:
            yield trial.fault[0]
        remarks = trial.remarks | remarks
    if all(trial.refused for trial in trials):
        print("  FAULT refused: it refuses every one of these; allowed: to refuse some")
        yield "refused"
    built = sum(not trial.refused for trial in trials)
    if 0 < built < len(trials) / 3:
        remarks["refused"] = f"tried at {built} of {len(trials)} only: it refuses the others"
    moved = {name: True for t in trials for name, moves in t.moved.items() if moves}
    still = {name: None for t in trials for name in t.moved if name not in moved}
    if still:
        names = named([*still], 3)
        remarks["still"] = f"no gradient moves {names}: never trained"
    say(remarks)


WIDTHS = {"latent": 4, "depth": 1}


def outcome(trial: "Trial", told: set[str]) -> str:
    """What a case's line says of it. `told`: faults without their numbers and the names of
    tensors, which are not repeated; the trial's is added.
    """
    if trial.fault:
        check, text = trial.fault
        if (kind := re.sub(r"\d[\d.e-]*|, \S+ differs.*", "", f"{check}: {text}")) in told:
            return f"FAULT {check}, as above"
        told.add(kind)
        return f"FAULT {check}: {text}"
    if trial.refused or not trial.sizes:
        return f"refused: {trial.refused}"
    found = trial.sizes
    macs = f"{found.macs / 1e6:.2f} MMACs" if found.macs is not None else "unknown MACs"
    return (
        f"ok {found.num_params:>11,} params {found.model_bytes / 1e3:>9,.1f} kB {macs:>13} "
        f"{trial.seconds:>5.1f} s"
    )


def say(remarks: dict[str, str]) -> None:
    """A line for each; what is as it may well be is a note."""
    for kind, text in remarks.items():
        print(f"  {'note' if kind == 'outside' else 'warning'}: {text}", flush=True)


def unused(model: Model) -> list[str]:
    """The keywords of `build` that no function with a parameter of that name uses.

    As far as the plug-in's own source tells: one that takes its builder from a library has none.
    """
    files, _ = model.plugin.sources()
    nodes: list[ast.AST] = []
    for path in (path for path in files if path.suffix == ".py"):
        with contextlib.suppress(SyntaxError, ValueError):  # of a file that is not imported
            nodes += ast.walk(ast.parse(path.read_bytes()))
    used: dict[str, bool] = {}
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            own = {a.arg for a in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]}
            loaded = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
            for key in own:
                used[key] = used.get(key, False) or key in loaded
    return [key for key in model.arguments if not used.get(key, True)]


def benchmark(plugins: list[Plugin], models: list[Model]) -> None:
    """Train the models on digits beside the built-in ones, with the shipped settings; their rows.

    AebenchError for one that fails.
    """
    from aebench.report.configurations import configurations
    from aebench.report.markdown import written
    from aebench.report.measures import further
    from aebench.report.results import read_results
    from aebench.report.tables import (
        ACCURACY,
        LATENT,
        MSE,
        PARAMS,
        RUN,
        STATUS,
        notes,
        of_measure,
        table,
    )
    from aebench.report.times import Times
    from aebench.stages.encode import encode
    from aebench.stages.knn import knn
    from aebench.stages.plan import plan
    from aebench.stages.prepare import prepare
    from aebench.stages.train import train

    own = {m.name if name_fault(m.name) is None else f"model-{i}": m for i, m in enumerate(models)}
    runs = {name: model.full_name for name, model in own.items()}
    for name in BESIDE:
        if f"{name}:{name}" not in runs.values():
            runs[f"built-in-{name}" if name in runs else name] = f"{name}:{name}"
    with ended_as_by_ctrl_c(), tempfile.TemporaryDirectory(prefix="aebench-") as folder:
        elsewhere = Workspace(Path(folder))
        shutil.copytree(template() / "plugins", elsewhere.plugins)
        for plugin in plugins:
            copy_source(plugin, elsewhere.plugins)
        content = read_yaml(template() / "params.yaml")
        content["runs"] = {name: {"model": model} for name, model in runs.items()}
        elsewhere.params.write_bytes(json_bytes(content))  # which is YAML, too
        with contextlib.redirect_stdout(io.StringIO()):
            plan(elsewhere)
            prepare(elsewhere)
        for run in runs:
            print(f"training {run} on digits ...", flush=True)
            with contextlib.redirect_stdout(io.StringIO()):
                for stage in (train, encode, knn):
                    stage(elsewhere, run, 0)
        results = read_results(elsewhere).results
    ones = configurations(results)
    columns = [RUN, LATENT, PARAMS, Times(results).epoch, MSE, ACCURACY]
    columns += map(of_measure, further(ones))
    text = "\n\n".join(map(written, [table([*columns, STATUS], ones), *notes(ones)]))
    print(
        f"\ndigits, by the settings that `aebench init` writes, {content['train']['epochs']} epochs"
    )
    if " contended" in text:
        print("contended: something else used the cores meanwhile, so the time is too long")
    print(text, flush=True)
    for result in results:
        if result.run in own and not result.ok:
            raise AebenchError(f"run {result.run}: {result.columns['status']}")


@contextlib.contextmanager
def ended_as_by_ctrl_c() -> Iterator[None]:
    """Have SIGTERM raise KeyboardInterrupt, which no model's trial keeps: temporary files go."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def copy_source(plugin: Plugin, folder: Path) -> None:
    """Put a loose plug-in and the helpers that it imports into the folder."""
    files, root = plugin.sources()
    for path in files if plugin.folder else ():
        place = folder / path.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
