"""How to mend a file that is not what its stage wrote: by DVC's cache, or in spite of it.

DVC believes a read-only object of its cache without reading it. A damaged one is checked out again
and again, `dvc status` calls that up to date, and `dvc repro -f -s STAGE` keeps the object, because
one of that name is there, and puts it where the stage wrote the right file; so with copies, hard
links and symbolic links. The object must go first.
"""

import contextlib
import hashlib
import json
import shlex
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from aebench.errors import Damaged
from aebench.workspace import Workspace

if TYPE_CHECKING:
    from dvc.output import Output


def mended(workspace: Workspace, error: Damaged) -> str:
    """The error in a line, with the command that mends the file."""
    found = mending(workspace, error.path)
    return f"{error.path}: {error.reason}; {found}" if found else str(error)


def mending(workspace: Workspace, path: Path) -> str | None:
    """What is wrong and the command that mends it, in a line; None for what no stage writes.

    `path`: a file of the workspace whose content is not what its stage recorded. To be called for
    an error's text alone: it imports DVC, and reads the file and its object.
    """
    # DVC's errors are many, and the first error is still to be told.
    with contextlib.suppress(Exception), warnings.catch_warnings(action="ignore"):
        from dvc.repo import Repo

        with Repo(str(workspace.root.absolute())) as repo:
            [out] = repo.find_outs_by_path(str(path.absolute()), strict=False)
            return told(workspace, out, path) if out.stage.cmd else None
    return None


def told(workspace: Workspace, out: "Output", path: Path) -> str:
    """See `mending`. FileNotFoundError: the directory `out` never had such a file."""
    root = workspace.root.absolute()
    run = "" if root.samefile(".") else f"cd {shlex.quote(str(workspace.root))} && "
    again = f"dvc repro -f -s {out.stage.addressing.rpartition(':')[2]} && dvc repro"
    assert out.hash_info  # in dvc.lock
    objects = [Path(out.cache.oid_to_path(out.hash_info.value))]
    if objects[0].suffix == ".dir" and is_whole(objects[0]):
        files = {file["relpath"]: file["md5"] for file in json.loads(objects[0].read_bytes())}
        name = path.absolute().relative_to(out.fs_path).as_posix()
        objects.append(Path(out.cache.oid_to_path(files[name])))
    last = objects[-1]
    if not last.exists():
        return f"DVC's cache does not have it; compute it again: `{run}{again}`"
    if not is_whole(last):
        command = f"{run}rm -f {quoted(last, root)} && {again}"
        return f"its object in DVC's cache is damaged, too; mend both: `{command}`"
    if path.is_file() and md5(path) == md5(last):
        return f"DVC's cache has the same; compute it again: `{run}{again}`"
    back = f"rm -f {quoted(path, root)} && dvc checkout {quoted(Path(out.fs_path), root)}"
    return f"DVC's cache has what the stage wrote; take that: `{run}{back}`"


def is_whole(found: Path) -> bool:
    """Whether the object of DVC's cache is there and has the content that its name says."""
    name = (found.parent.name + found.name).removesuffix(".dir")
    return found.exists() and md5(found) == name


def md5(path: Path) -> str:
    """DVC's hash of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def quoted(path: Path, root: Path) -> str:
    """For a shell in the folder `root`."""
    absolute = path.absolute()
    inside = absolute.is_relative_to(root)
    return shlex.quote(str(absolute.relative_to(root) if inside else absolute))
