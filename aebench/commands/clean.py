"""List what no run, commit or experiment refers to any more, with sizes; --yes removes it.

What counts as referred to: the workspace as it is now, every commit of every branch, tag, stash,
worktree and remote that git has here, every experiment, also queued. What does not is

- in runs/ and results/ the files that stages have written for runs, seeds and indexes that
  params.yaml no longer has. They are checkouts: where a commit or experiment has the same content,
  DVC's cache gives it back, and the table says so. Else the one that is listed is the last;
- in DVC's cache the objects, and what its run-cache says of results that are no longer there.
  DVC tries the newest result of the same settings alone: one whose files are gone would hide an
  older one that is whole;
- what writers that were killed have left.

Files that no stage writes are the user's own, are named and stay.

`dvc gc` removes whatever its flags do not name: `dvc gc -w` what all commits and experiments need,
`dvc gc -A` what experiments, stashes and queued ones need. It leaves the files in runs/ and the
run-cache as they are. Here the cache is not touched where anything could still need it: where it
is shared with other repositories, where an experiment runs, or where a commit cannot be read, and
then that is said.

Locks in .aebench/locks stay: they are empty, and a lock that is removed while somebody waits for it
holds nothing.
"""

import argparse
import contextlib
import json
import logging
import os
import re
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ruamel.yaml import YAML, YAMLError
from tabulate import tabulate

from aebench.commands.init import call, program, reason
from aebench.errors import AebenchError, first_line
from aebench.holder import check_not_held, in_rwlock
from aebench.mending import is_whole, md5
from aebench.outs import OLD
from aebench.params import read_params
from aebench.workspace import INDEX, Workspace

if TYPE_CHECKING:
    from dvc.repo import Repo

PLACES = "runs", "results"  # in each a folder per run and seed
OBJECT = re.compile(r"[0-9a-f]{32}(\.dir)?")
HASHES = "dvc.lock", ".dvc"  # files in which DVC names objects
READ = (*HASHES, ".yaml", ".yml", ".json", ".toml", ".py", ".dvc/config")
SHORT = 7  # digits of a commit
NAMED = 6  # files of the user


class Untouched(Exception):
    """Why nothing is removed from DVC's cache."""


@dataclass
class Leftover:
    """Files of one kind that nothing refers to. `note`: what is lost with them."""

    what: str
    note: str = ""
    files: list[Path] = field(default_factory=list)

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(path.lstat().st_size for path in self.files)


class Result(NamedTuple):
    """What DVC's run-cache remembers of one result of a stage."""

    file: Path
    of: str  # "cnn", else what it wrote first: "data/prepared"
    objects: tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whether to remove what is listed."""
    parser.add_argument("--yes", action="store_true", help="remove it")


def clean(workspace: Workspace, yes: bool) -> None:
    """Print what is left over; with `yes`, remove it.

    AebenchError, before anything is removed, while a DVC holds the workspace, and for a params.yaml
    that is not right: a run with a typing error would look like one that was removed.
    """
    from aebench.models.resume import leftovers

    check_not_held(workspace)
    params, faults = read_params(workspace)
    if params is None or faults:
        raise AebenchError(
            "\n".join([*faults, "params.yaml: mend that first; nothing was removed"])
        )
    kept = {(run, str(seed)) for run in params.runs for seed in params.seeds}
    with opened(workspace, yes) as repo:
        used, untouched = referred_to(repo)
        found, own = of_removed_runs(workspace, kept, repo, used)
        found.append(Leftover("left by writers that were killed", files=list(parts(workspace))))
        found.append(Leftover("checkpoints of no plan", files=leftovers(workspace)))
        if not untouched:
            found += unused(repo, used)
        found = [leftover for leftover in found if leftover.files]
        tell(found, own, untouched)
        size = sum(leftover.size for leftover in found)
        if yes:
            for path in (path for leftover in found for path in leftover.files):
                remove(path, workspace.root.absolute())
    if not found:
        print("nothing is left over")
    elif yes:
        print(f"removed {megabytes(size)}")
        if any("not in params.yaml" in leftover.what for leftover in found):
            print("the next `dvc repro` renders the report again, which depends on all of results/")
    else:
        print(f"`aebench clean --yes` removes {megabytes(size)}")


@contextlib.contextmanager
def opened(workspace: Workspace, alone: bool) -> Iterator["Repo"]:
    """DVC's view of the workspace; `alone`: no other DVC command can begin meanwhile."""
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.CRITICAL)  # of outs that were never computed
    with warnings.catch_warnings(action="ignore"):
        try:
            repo = Repo(str(workspace.root.absolute()))
        except DvcException as error:
            raise AebenchError(f"{workspace.root.absolute()}: DVC: {first_line(error)}") from None
        with contextlib.ExitStack() as stack:
            stack.enter_context(repo)
            if alone:
                try:
                    stack.enter_context(repo.lock)
                except LockError:
                    raise AebenchError("a DVC holds this workspace: wait for its end") from None
                if repo.tmp_dir and in_rwlock(Path(repo.tmp_dir)):  # begun since the first look
                    raise AebenchError("a stage of DVC runs in this workspace: wait for its end")
            yield repo


def referred_to(repo: "Repo") -> tuple[set[str], str]:
    """The objects that are needed, and why nothing else may be removed; empty if it may."""
    used: set[str] = set()
    untouched = ""
    try:
        check_own(repo)
    except Untouched as error:
        untouched = str(error)
    try:
        used |= used_now(repo, "the workspace")
        for commit in commits(repo):
            with told(commit[:SHORT]), contextlib.suppress(not_dvc()), repo.switch(commit):
                used |= used_now(repo, commit[:SHORT])
    except Untouched as error:
        untouched = untouched or str(error)
    return used, untouched


def check_own(repo: "Repo") -> None:
    """Untouched if others could use the cache, or results in it that are nowhere else yet."""
    cache = Path(repo.cache.local_cache_dir)
    if cache.resolve() != Path(repo.root_dir).resolve() / ".dvc" / "cache":
        raise Untouched(f"it lies in {cache}, where others may use it")
    if repo.config["cache"].get("shared"):
        raise Untouched("it is shared (cache.shared), so others may use it")
    exps = Path(repo.root_dir, ".dvc/tmp/exps")
    if running := sorted(path.parent for path in [*exps.glob("*/.git"), *exps.glob("*/*/.git")]):
        raise Untouched(
            f"an experiment runs in {running[0]}: wait for its end, or remove that folder if it "
            "was killed"
        )


def commits(repo: "Repo") -> list[str]:
    """Those that a reference leads to. Untouched where git does not have all of them here."""
    from dvc.scm import NoSCM

    root = Path(repo.root_dir)
    if isinstance(repo.scm, NoSCM):
        if any((folder / ".git").exists() for folder in (root, *root.parents)):
            raise Untouched("core.no_scm hides the commits")
        return []
    if git(root, "rev-parse", "--is-shallow-repository") != ["false"]:
        raise Untouched("older commits are not here; first run git fetch --unshallow")
    # Older stashes and queued experiments stand in the reflogs of their references alone.
    references = git(root, "for-each-ref", "--format=%(refname)", "refs/stash", "refs/exps/")
    stashes = [ref for ref in references if ref.endswith(("/stash", "/failed"))]
    logged = [commit for ref in stashes for commit in git(root, "reflog", "--format=%H", ref, "--")]
    return list(distinct(root, git(root, "rev-list", "--all", *logged)))


def distinct(root: Path, found: list[str]) -> Iterator[str]:
    """The commits without those that refer to the same as another one: DVC takes 0.4 s for each."""
    seen: set[frozenset[str]] = set()
    for commit in found:
        lines = git(root, "ls-tree", "-r", "--full-tree", commit)
        # What its stages and parameters may stand in. Without hashes it refers to nothing.
        files = frozenset(line for line in lines if line.endswith(READ))
        if any(file.endswith(HASHES) for file in files) and files not in seen:
            seen.add(files)
            yield commit


def git(root: Path, *arguments: str) -> list[str]:
    """The lines of its output. Untouched where it fails."""
    done = call([program("git"), *arguments], root)
    if done.returncode:
        raise Untouched(f"git: {reason(done)}")
    return done.stdout.splitlines()


def not_dvc() -> type[Exception]:
    """What DVC raises for a commit from before there was a workspace."""
    from dvc.exceptions import NotDvcRepoError

    return NotDvcRepoError


@contextlib.contextmanager
def told(name: str) -> Iterator[None]:
    """Turn whatever DVC raises into Untouched, which names what it could not read."""
    try:
        yield
    except (Untouched, MemoryError):
        raise
    except Exception as error:
        why = first_line(error.__cause__ or error)
        raise Untouched(f"what {name} refers to cannot be read ({why})") from None


def used_now(repo: "Repo", name: str) -> set[str]:
    """The objects of what DVC looks at now. Untouched where not all of them are known."""
    with told(name):
        for out in repo.index.outs:
            if out.use_cache and out.hash_info and out.hash_info.isdir and out.hash_info.value:
                path = Path(out.cache.oid_to_path(out.hash_info.value))
                if path.exists() and not is_whole(path):
                    raise Untouched(f"{path}, which {name} refers to, is damaged; remove it first")
        # force: a directory whose list is not here had better be computed again; nobody is asked.
        used = repo.used_objs(force=True).values()
    return {found.value for objects in used for found in objects if found.value}


def of_removed_runs(
    workspace: Workspace, kept: Set[tuple[str, str]], repo: "Repo", used: Set[str]
) -> tuple[list[Leftover], list[Path]]:
    """What stages have written for runs and seeds not in `kept`, a Leftover a run; the user's own.

    `used`: the objects that commits and experiments refer to.
    """
    runs, names = {run for run, _ in kept}, declared(workspace, repo)
    again, last = defaultdict[str, list[Path]](list), defaultdict[str, list[Path]](list)
    own: list[Path] = []
    for top in PLACES:
        for path in files_below(workspace.root / top):
            run, *folders, name = path.relative_to(workspace.root / top).parts
            numbered = bool(folders) and folders[0].isdigit()
            known, whose = f"{top}/{name}" in names, run
            if (run, *folders[:1]) in kept or (run in runs and not numbered):
                if known or not is_index(name):
                    continue
                whose = f"{name.removesuffix('.json')} of {run}"
            if numbered and len(folders) == 1 and (known or is_index(name)):
                (again if is_held(path, repo, used) else last)[whose].append(path)
            elif not name.endswith(".part"):
                own.append(path)
    rows = [(run, "a commit has the same", again[run]) for run in sorted(again)]
    rows += [(run, "nothing else has them", last[run]) for run in sorted(last)]
    return [Leftover(f"{run}, not in params.yaml", note, files) for run, note, files in rows], own


def is_index(name: str) -> bool:
    """Whether a file is what `index` writes, be it of an index that params.yaml has or had."""
    return name.startswith(INDEX) and name.endswith(".json")


def files_below(folder: Path) -> Iterator[Path]:
    """The files in the folder's folders, at any depth; what is a link to a folder counts as one."""
    for place, folders, names in os.walk(folder):
        links = [name for name in folders if Path(place, name).is_symlink()]
        yield from (Path(place, name) for name in sorted([*names, *links]) if place != str(folder))


def declared(workspace: Workspace, repo: "Repo") -> set[str]:
    """What stages write for each run and seed: `runs/weights.safetensors`."""
    root = workspace.root.absolute()
    try:
        with told("the workspace"):
            found = [Path(out.fs_path) for out in repo.index.outs if out.protocol == "local"]
    except Untouched as error:
        raise AebenchError(f"{error}; nothing was removed") from None
    places = [path.relative_to(root).parts for path in found if path.is_relative_to(root)]
    return {f"{parts[0]}/{parts[3]}" for parts in places if len(parts) == 4 and parts[0] in PLACES}


def is_held(path: Path, repo: "Repo", used: Set[str]) -> bool:
    """Whether DVC can write the file again, from an object that stays."""
    if not path.exists():
        return True  # a link to an object that is gone
    found = md5(path)
    return found in used and is_whole(Path(repo.cache.local.oid_to_path(found)))


def parts(workspace: Workspace) -> Iterator[Path]:
    """Files that nobody has written to for a day, and that never got their name."""
    for top in (".aebench", "data", "plan", "reports", *PLACES):
        for path in (workspace.root / top).rglob(".*.part"):
            if path.is_file() and time.time() - path.stat().st_mtime > OLD:
                yield path


def unused(repo: "Repo", used: Set[str]) -> Iterator[Leftover]:
    """The objects of DVC's cache that are not in `used`, by run, and what they leave behind."""
    folder = Path(repo.cache.local.path)
    objects = {f"{path.parent.name}{path.name}": path for path in folder.glob("??/*")}
    objects = {name: path for name, path in objects.items() if OBJECT.fullmatch(name)}
    known = [with_members(r, objects) for r in results(Path(repo.stage_cache.cache_dir))]
    whose = {name: result.of for result in known for name in result.objects}
    left = objects.keys() & used
    gone = [result.file for result in known if not left.issuperset(result.objects)]
    # First: with the files gone, and it left, an older result that is whole would not be found.
    yield Leftover("DVC's run-cache: of files that are gone", files=gone)
    found = defaultdict[str, list[Path]](list)
    # Lists of folders go before what they name.
    for name in sorted(objects.keys() - used, key=lambda name: not name.endswith(".dir")):
        found[whose.get(name, "of no known stage")].append(objects[name])
    for name in sorted(found):
        yield Leftover(f"DVC's cache: {name}", "", found[name])


def results(folder: Path) -> Iterator[Result]:
    """What the run-cache remembers."""
    for file in sorted(folder.glob("*/*/*")):
        with contextlib.suppress(OSError, YAMLError, KeyError, TypeError, AttributeError):
            entry = YAML(typ="safe").load(file.read_text(encoding="utf-8"))
            outs = [out["md5"] for out in entry["outs"] if out.get("hash") == "md5"]
            places = [Path(out["path"]).parts for out in entry["outs"]]
            runs = [place[1] for place in places if len(place) == 4 and place[0] in PLACES]
            yield Result(file, [*runs, "/".join(places[0])][0], tuple(outs))


def with_members(result: Result, objects: Mapping[str, Path]) -> Result:
    """The result with what the lists of its folders name."""
    found = list(result.objects)
    for name in result.objects:
        if name.endswith(".dir") and name in objects and is_whole(objects[name]):
            found += [file["md5"] for file in json.loads(objects[name].read_bytes())]
    return result._replace(objects=tuple(found))


def tell(found: list[Leftover], own: list[Path], untouched: str) -> None:
    """Print the table, what stays, and why."""
    rows = [[x.what, len(x.files), megabytes(x.size), x.note] for x in found]
    if rows:
        print(tabulate(rows, ["left over", "files", "size", ""], stralign="left"))
    if own:
        named = ", ".join(str(path) for path in own[:NAMED])
        more = f" and {len(own) - NAMED} more" if own[NAMED:] else ""
        print(f"yours, as no stage writes them; they stay: {named}{more}")
    if untouched:
        print(f"DVC's cache is not touched: {untouched}")


def megabytes(size: int) -> str:
    """For people."""
    return f"{size / 1e6:,.1f} MB"


def remove(path: Path, root: Path) -> None:
    """Remove the file, and the folders below `root` that are empty without it."""
    path.unlink(missing_ok=True)
    for folder in path.absolute().parents:
        if folder == root or not folder.is_relative_to(root):
            break
        try:
            folder.rmdir()
        except OSError:
            break
