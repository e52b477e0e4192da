"""Hashes of the source that computes a result: they move when the result could, else they stay.

aebench's own modules are hashed by content, wherever they lie; a plug-in by its files.
"""

import ast
import hashlib
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, NamedTuple

from aebench.memory import read_memory, settled, state, write_memory
from aebench.workspace import Workspace, file_hash, read_bytes

PACKAGE = Path(__file__).parent
# Module -> why its content cannot alter a result. What lies below it is left out with it, but the
# top-level package stands for its `__init__` alone.
UNCOUNTED = {
    "aebench": "only gathers names",
    "aebench.errors": "kinds of errors, and words for the user",
    "aebench.fingerprint": "makes the keys",
    "aebench.hookspecs": "names the hooks",
    "aebench.inputs": "reads what stages wrote, or refuses",
    "aebench.job": "holds a stage's plan, inputs and outs together",
    "aebench.memory": "what spares a second look",
    "aebench.models.resume": "writes a training's state, and gives it back whole or not at all",
    "aebench.outs": "writes files whole",
    "aebench.plugins": "finds plug-ins, whose own source is hashed",
    "aebench.progress": "what is shown meanwhile",
    "aebench.provenance": "tells where a result was made",
    "aebench.records": "the form of the files, each with its version",
    "aebench.schema": "the form of params.yaml: its values stand in the plan",
    "aebench.surroundings": "puts the process back as it was around a plug-in's code",
    "aebench.timing": "reads clocks",
    "aebench.workspace": "paths",
}

# The modules of the functions that compute: a stage's key is of these and of what they import.
COMPUTING = {
    "prepare": (
        "aebench.datasets",
        "aebench.evaluation.near_duplicates",
        "aebench.shown",
        "aebench.sprite",
    ),
    "train": ("aebench.models.training",),
    "closed form": ("aebench.models.closed_form",),  # train, without the optimizers
    "encode": (
        "aebench.models.encoding",
        "aebench.evaluation.code_map",
        "aebench.evaluation.discrete",
        "aebench.evaluation.product",
        "aebench.evaluation.quality",
        "aebench.evaluation.quantise",
        "aebench.metrics",
        "aebench.models.measuring",
        "aebench.shown",
    ),
    "knn": ("aebench.evaluation.panel",),
    "stress": ("aebench.evaluation.stress", "aebench.models.encoding_again"),
    "index": ("aebench.evaluation.approximate",),
    "codecs": ("aebench.evaluation.codecs",),
    "report": ("aebench.report.render",),
}
# What a report shows comes through these, and rendering it again takes seconds.
SHOWN = ("aebench.records", "aebench.schema")


def stage_fingerprint(stage: str, package: Path = PACKAGE) -> tuple[str, dict[str, str]]:
    """The hash of aebench's code in a key of `COMPUTING`, and the modules that it is of.

    See `module_fingerprint` and `module_hashes`.
    """
    left = UNCOUNTED.keys() - (SHOWN if stage == "report" else ())
    uncounted = {module: UNCOUNTED[module] for module in left}
    digest, modules = hashlib.sha256(), dict[str, str]()
    for module in COMPUTING[stage]:
        digest.update(module_fingerprint(module, package, uncounted).encode())
        modules |= module_hashes(module, package, uncounted)
    return digest.hexdigest(), modules


def known_fingerprint(
    workspace: Workspace, stage: str, remembering: bool = False
) -> tuple[str, dict[str, str]]:
    """As `stage_fingerprint`, without parsing where no file has changed since it was remembered.

    A stage asks three times: parsing takes 0.1 s for training and 0.5 s for the report.
    `remembering`: whether to write down what is not yet remembered.
    """
    known = read_memory(workspace, "code").get(stage, {})
    try:
        if known["files"] == states(known["modules"]) and known["python"] == sys.version:
            return known["fingerprint"], known["modules"]
    except (KeyError, TypeError, AttributeError, OSError):
        pass  # of another version, or a file is gone
    start = time.time()
    found, modules = stage_fingerprint(stage)
    if remembering and all(settled(path, start) for path in places(modules)):
        about = {
            "fingerprint": found,
            "modules": modules,
            "files": states(modules),
            "python": sys.version,
        }
        write_memory(workspace, "code", read_memory(workspace, "code") | {stage: about})
    return found, modules


def sources(modules: Iterable[str]) -> list[Path]:
    """Where the modules of aebench stand."""
    found = Modules(PACKAGE, {})
    return [file for name in sorted(modules) if (file := found.file(name))]


def places(modules: Iterable[str]) -> list[Path]:
    """The sources of the modules, the folders in which they are looked for, and this file."""
    files = sources(modules)
    return [Path(__file__), *files, *sorted({file.parent for file in files})]


def states(modules: Iterable[str]) -> dict[str, list[int]]:
    """The state of each of their `places`."""
    return {str(path): state(path) for path in places(modules)}


def module_fingerprint(
    module: str, package: Path = PACKAGE, uncounted: Mapping[str, str] = UNCOUNTED
) -> str:
    """SHA-256 of the module and of all that it imports inside the package: a Merkle tree.

    Each imported name is bound to the hash of the module it comes from: how modules are called and
    where they lie does not matter. ValueError for a circle of imports or a module not there.
    """
    modules = Modules(package, uncounted)
    hashes: dict[str, str] = {}
    try:
        for name in TopologicalSorter(modules.graph(module)).static_order():
            hashes[name] = modules.digest(name, hashes)
    except CycleError as error:
        raise ValueError(f"a circle of imports: {' <- '.join(error.args[1])}") from None
    return hashes[module]


def module_hashes(
    module: str, package: Path = PACKAGE, uncounted: Mapping[str, str] = UNCOUNTED
) -> dict[str, str]:
    """Each module that the fingerprint covers -> a short hash of its own source: what changed?"""
    modules = Modules(package, uncounted)
    return {name: modules.digest(name, {})[:12] for name in sorted(modules.graph(module))}


class Import(NamedTuple):
    """One name that an import statement binds: `from module import name as local`."""

    module: str  # never relative
    name: str | None  # None: the module itself
    local: str  # dotted for `import a.b`, which binds `a`


@dataclass(frozen=True)
class Modules:
    """The modules of one package, by their dotted names."""

    package: Path
    uncounted: Mapping[str, str]

    def file(self, module: str) -> Path | None:
        """The module's source; of a package its `__init__`."""
        stem = self.package.parent.joinpath(*module.split("."))
        files = stem / "__init__.py", stem.with_suffix(".py")
        return next((file for file in files if file.is_file()), None)

    def counts(self, module: str) -> bool:
        """Whether the module's content is hashed."""
        top = self.package.name
        if module == top:
            return top not in self.uncounted
        return not any(f"{module}.".startswith(f"{key}.") for key in self.uncounted.keys() - {top})

    def parts(self, module: str) -> list[str | Import]:
        """The normalised source; an Import without `name` is one of a whole module."""
        file = self.file(module)
        if file is None:
            raise ValueError(f"{module}: no such module in {self.package}")
        place = module.split(".")[: None if file.name == "__init__.py" else -1]
        found = normalised(file.read_bytes(), tuple(place))
        return [self.resolved(part) if isinstance(part, Import) else part for part in found]

    def resolved(self, found: Import) -> Import:
        """`from package import module` told apart from `from module import name`."""
        whole = f"{found.module}.{found.name}"
        return Import(whole, None, found.local) if found.name and self.file(whole) else found

    def imported(self, module: str) -> list[Import]:
        """What the module imports from the package."""
        return [part for part in self.parts(module) if isinstance(part, Import)]

    def graph(self, start: str) -> dict[str, set[str]]:
        """Every counted module that `start` reaches -> the counted modules it imports."""
        found: dict[str, set[str]] = {}
        waiting = [start]
        while waiting:
            module = waiting.pop()
            if module not in found:
                sources = {part.module for part in self.imported(module)}
                found[module] = {name for name in sources if self.counts(name) and self.file(name)}
                waiting += found[module]
        return found

    def digest(self, module: str, labels: Mapping[str, str]) -> str:
        """SHA-256 of the normalised source, in which imported modules are called by `labels`."""
        digest = hashlib.sha256()
        for part in self.parts(module):
            if isinstance(part, Import):
                source = part.module
                label = labels.get(source, source) if self.counts(source) else "uncounted"
                part = repr((label, part.name, part.local))
            digest.update(part.encode())
        return digest.hexdigest()


@cache  # by content: a file is parsed once, and again when it is edited meanwhile
def normalised(source: bytes, place: tuple[str, ...] = ()) -> tuple[str | Import, ...]:
    """The syntax tree as text, without docstrings; the bare source where it does not parse.

    In a module of the package `place`, imports inside the top-level package are set apart, and what
    an AebenchError says is left out: it ends the stage, whereas a Failure's text is a result.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return (repr(source),)
    for node in ast.walk(tree):
        match node:
            case ast.Module() | ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                if ast.get_docstring(node, clean=False) is not None:
                    node.body = node.body[1:]
            case ast.Raise(
                ast.Call(ast.Name("AebenchError") | ast.Attribute(_, "AebenchError")) as call
            ) if place:
                call.args, call.keywords = [], []
        if place:
            for field, value in ast.iter_fields(node):
                if isinstance(value, list):
                    setattr(node, field, list(with_imports_sorted(value, place)))
    parts: list[str | Import] = []
    write(tree, parts)
    return tuple(parts)


def with_imports_sorted(nodes: list[Any], place: tuple[str, ...]) -> Iterator[Any]:
    """The nodes; of imports that stand together the package's own come last, by local name.

    The formatter moves them among each other when a module is renamed.
    """
    own: list[Import] = []
    for node in nodes:
        found = imports(node, place)
        if any(name.module.split(".")[0] == place[0] for name in found):
            own += found
            continue
        if not found:
            yield from sorted(own, key=lambda name: name.local)
            own = []
        yield node
    yield from sorted(own, key=lambda name: name.local)


def imports(node: Any, place: Sequence[str]) -> list[Import]:
    """What the node, standing in a module of the package `place`, binds if it is an import."""
    match node:
        case ast.Import(names):
            return [Import(a.name, None, a.asname or a.name) for a in names]
        case ast.ImportFrom(module, names, level):
            base = place[: len(place) + 1 - level] if level else ()
            module = ".".join([*base, *([module] if module else [])])
            return [Import(module, a.name, a.asname or a.name) for a in names]
    return []


def write(value: Any, parts: list[str | Import]) -> None:
    """Append the tree, without the empty fields: a later Python may have more of them."""
    if isinstance(value, ast.AST | list):
        parts.append(f"{type(value).__name__}(")
        fields = ast.iter_fields(value) if isinstance(value, ast.AST) else enumerate(value)
        for field, content in fields:
            if content is not None and content != []:
                parts.append(f"{field}=")
                write(content, parts)
        parts.append(")")
    else:
        parts.append(value if isinstance(value, Import) else f"{value!r},")


def source_hash(sources: set[Path], root: Path) -> str:
    """SHA-256 over a plug-in's files, sources parsed, with their paths relative to `root`."""
    digest = hashlib.sha256()
    for path in sorted(sources):
        is_source = path.suffix == ".py"
        text = "".join(map(str, normalised(read_bytes(path)))) if is_source else file_hash(path)
        digest.update(f"{path.relative_to(root).as_posix()}\0{text}\0".encode())
    return digest.hexdigest()


def import_closure(
    start: Path, root: Path, only: str | None = None, package: str = ""
) -> set[Path]:
    """`start` and the files below `root` that it imports, directly or through one another.

    Imports inside functions count; imports by computed names cannot be seen. With `only`, just
    that top-level package is followed: a root such as site-packages holds everything. Without it,
    `root` is importable as `package`, too.
    """
    found: set[Path] = set()
    waiting = [start]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            names = imported_names(read_bytes(path), path.relative_to(root).parent.parts)
            if only is None:
                names = {name.removeprefix(f"{package}.") for name in names}
            followed = [name for name in names if only in (None, name.split(".")[0])]
            waiting += [file for name in followed for file in module_files(name, root)]
    return found


def folder_closure(folder: Path, root: Path, package: str) -> set[Path]:
    """Every file in the folder, and what the sources in it import from elsewhere below `root`.

    Data that they may read counts, too. Hidden files and __pycache__ do not, and linked folders are
    followed; see `import_closure`.
    """
    found = set(files_below(folder, frozenset()))
    for source in [path for path in found if path.suffix == ".py"]:
        found |= import_closure(source, root, None, package)
    return found


def files_below(folder: Path, above: frozenset[Path]) -> Iterator[Path]:
    """The files in the folder and its folders; `above`: what it lies in, resolved."""
    own = folder.resolve()
    for path in folder.iterdir() if own not in above else ():
        if path.name.startswith(".") or path.name == "__pycache__" or path.suffix == ".pyc":
            continue
        if path.is_dir():
            yield from files_below(path, above | {own})
        elif path.is_file():
            yield path


@cache
def imported_names(source: bytes, place: tuple[str, ...]) -> set[str]:
    """Dotted names of what may be modules in the file's import statements."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return set()
    found = [name for node in ast.walk(tree) for name in imports(node, place)]
    return {
        name.strip(".") for i in found for name in (i.module, f"{i.module}.{i.name or ''}") if name
    }


def module_files(name: str, root: Path) -> list[Path]:
    """The files below `root` that `import name` runs: the packages on the way and the module."""
    parts = name.split(".")
    files: list[Path] = []
    for end in range(1, len(parts) + 1):
        stem = root.joinpath(*parts[:end])
        files += [f for f in (stem / "__init__.py", stem.with_suffix(".py")) if f.is_file()]
    return files
