"""Hashes of source code that comments, docstrings and layout do not move."""

import ast
import hashlib
from collections.abc import Set
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent


@cache
def stage_fingerprint(stage: str) -> str:
    """The hash of `aebench/<stage>.py` and of every aebench module it imports."""
    return source_hash(stage_sources(stage), PACKAGE.parent)


def stage_sources(stage: str) -> set[Path]:
    """The files of aebench that the stage imports. `__init__` only gathers names: left out."""
    start = PACKAGE / f"{stage}.py"
    return import_closure(start, PACKAGE.parent, "aebench", {PACKAGE / "__init__.py"})


def source_hash(sources: set[Path], root: Path) -> str:
    """SHA-256 over the parsed sources, with their paths relative to `root`."""
    digest = hashlib.sha256()
    for path in sorted(sources):
        digest.update(f"{path.relative_to(root).as_posix()}\0{normalised(path)}\0".encode())
    return digest.hexdigest()


@cache
def normalised(path: Path) -> str:
    """The syntax tree as text, without docstrings; the bare text of a file that does not parse."""
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return text
    for node in ast.walk(tree):
        match node:
            case ast.Module() | ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                if ast.get_docstring(node, clean=False) is not None:
                    node.body = node.body[1:]
    return ast.dump(tree)


def import_closure(
    start: Path, root: Path, only: str | None = None, without: Set[Path] = frozenset()
) -> set[Path]:
    """`start` and the files below `root` that it imports, directly or through one another.

    Imports inside functions count; imports by computed names cannot be seen. With `only`, just
    that top-level package is followed (a root such as site-packages holds everything); files in
    `without` are not.
    """
    found: set[Path] = set()
    waiting = [start]
    while waiting:
        path = waiting.pop()
        if path in found or path in without:
            continue
        found.add(path)
        for name in imported_names(path, root):
            if only is None or name.split(".")[0] == only:
                waiting.extend(module_files(name, root))
    return found


@cache
def imported_names(path: Path, root: Path) -> set[str]:
    """Dotted names of what may be modules in the file's import statements."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8", errors="replace"))
    except (SyntaxError, ValueError):
        return set()
    package = path.relative_to(root).parent.parts
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            names.add(module)
            names.update(f"{module}.{alias.name}".lstrip(".") for alias in node.names)
    return names - {""}


def module_files(name: str, root: Path) -> list[Path]:
    """The files below `root` that `import name` runs: the packages on the way and the module."""
    parts = name.split(".")
    files: list[Path] = []
    for end in range(1, len(parts) + 1):
        stem = root.joinpath(*parts[:end])
        files += [f for f in (stem / "__init__.py", stem.with_suffix(".py")) if f.is_file()]
    return files
