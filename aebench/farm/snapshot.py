"""A workspace as it is, in few bytes, and copies of it elsewhere.

Uncommitted edits and new files count. Nothing of the user's repository changes: neither branches
nor index, nor files, nor the objects that git keeps.
"""

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from aebench.errors import AebenchError
from aebench.workspace import Workspace, sha256

# What git ignores and a stage still reads: plug-ins and their data files.
IGNORED_PLUGINS = ":(glob){}plugins/**", ":(exclude,glob)**/__pycache__/**", ":(exclude)*.pyc"
# The last report: large, and no stage of a chain reads it.
NEEDLESS = ":(exclude){}reports"


@dataclass(frozen=True)
class Snapshot:
    """The files of a DVC repository, with the commit that they were changed from.

    `place`: of the workspace below git's top, "" or "bench/"; `tree`: git's name of what is below
    git's top; `forced`: paths in it that git ignores; `pack`: git's objects of both, no history.
    """

    head: str
    tree: str
    place: str
    forced: tuple[str, ...]
    pack: bytes

    @property
    def name(self) -> str:
        """The same for the same files and commit."""
        return sha256(f"{self.head} {self.tree} {self.place}".encode())[:12]


def taken(workspace: Workspace, weights: list[str], tree: str | None = None) -> Snapshot:
    """The workspace as it is now; `tree`: as it is in that commit, changed from its first parent.

    `weights`: files in it that runs begin with, by their paths. AebenchError without a commit.
    """
    root = workspace.root.absolute()
    place, top, below = places(root)
    try:
        head = git(top, "rev-parse", "--verify", f"{tree}^1" if tree else "HEAD").decode().strip()
    except AebenchError:
        raise AebenchError(
            f"{root}: git has no commit yet, from which results say that they come; "
            'allowed: at least one: git add -A && git commit -m "My baseline"'
        ) from None
    objects = Path(
        git(root, "rev-parse", "--path-format=absolute", "--git-path", "objects").decode().strip()
    )
    with tempfile.TemporaryDirectory(prefix="aebench-") as folder:
        # An index and objects of its own: those of the user stay as they are.
        own = {
            "GIT_INDEX_FILE": str(Path(folder, "index")),
            "GIT_OBJECT_DIRECTORY": folder,
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(objects),
        }
        content = git(top, "ls-tree", "-rz", "--full-tree", tree or head, "--", *below)
        git(top, "update-index", "-z", "--index-info", env=own, data=content)
        forced: set[str] = set()
        if tree is None:
            git(top, "add", "-A", "--", *(below or ["."]), NEEDLESS.format(place), env=own)
            known = names(git(top, "ls-files", "-z", env=own))
            plugins = [pattern.format(place) for pattern in IGNORED_PLUGINS]
            git(top, "add", "-Af", "--", *plugins, env=own)
            files = [f"{place}{file}" for file in weights if (top / f"{place}{file}").is_file()]
            # One that DVC keeps comes from its cache.
            files = [file for file in files if not (top / f"{file}.dvc").is_file()]
            if files:
                git(top, "add", "-f", "--", *files, env=own)
            forced = set(names(git(top, "ls-files", "-z", env=own))) - set(known)
        found = git(top, "write-tree", env=own).decode().strip()
        needed = git(top, "rev-list", "--objects", "--no-walk", head, "--", *below, env=own)
        needed += git(top, "rev-list", "--objects", found, env=own)
        hashes = b"".join(line.split(b" ", 1)[0].rstrip() + b"\n" for line in needed.splitlines())
        pack = git(top, "pack-objects", "-q", "--stdout", env=own, data=hashes)
    return Snapshot(head, found, place, tuple(sorted(forced)), pack)


def places(root: Path) -> tuple[str, Path, list[str]]:
    """Where the workspace is below git's top, that top, and where DVC's files are below it.

    The last is a list of one path, or empty: the top. AebenchError where there is no git or DVC.
    """
    try:
        place = git(root, "rev-parse", "--show-prefix").decode().strip()
    except AebenchError as error:
        raise AebenchError(f"{error}; `aebench init` makes one, then commit") from None
    top = root / git(root, "rev-parse", "--show-cdup").decode().strip()
    for folder in (root, *root.parents):
        if (folder / ".dvc").is_dir():
            found = os.path.relpath(folder, top)
            return place, top, [] if found == "." else [found]
        if folder == top.resolve():
            break
    raise AebenchError(f"{root}: no DVC repository; `aebench init` makes one")


def laid_out(snapshot: Snapshot, folder: Path) -> Workspace:
    """A copy in that new folder: its git has the commit of the original, and the same changes."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q")
    git(folder, "index-pack", "--stdin", "--fix-thin", data=snapshot.pack)
    (folder / ".git" / "shallow").write_text(f"{snapshot.head}\n")
    git(folder, "update-ref", "--no-deref", "HEAD", snapshot.head)
    git(folder, "read-tree", snapshot.tree)
    git(folder, "checkout-index", "-qaf")
    if snapshot.forced:
        paths = "\0".join(snapshot.forced).encode()
        git(folder, "update-index", "-z", "--force-remove", "--stdin", data=paths)
    return Workspace(folder / snapshot.place)


def names(content: bytes) -> list[str]:
    """The paths in the output of git's -z."""
    return [os.fsdecode(path) for path in content.split(b"\0") if path]


def git(
    folder: Path, *arguments: str, env: dict[str, str] | None = None, data: bytes | None = None
) -> bytes:
    """What it prints. AebenchError where it fails."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | (env or {})
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=environment, input=data, capture_output=True
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["no word"]
        raise AebenchError(f"{folder}: git {arguments[0]}: {said[0]}")
    return done.stdout
