"""Make a folder a workspace, or bring a workspace up to the installed version."""

import argparse
import difflib
import os
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from aebench.errors import AebenchError
from aebench.outs import Outs
from aebench.version import (
    RECORD,
    Record,
    installed,
    read_record,
    shipped,
    template,
    warn_of_other_version,
)
from aebench.workspace import Workspace, sha256

IGNORES = ".dvcignore", ".gitignore"
DVC_CONFIG = ".dvc/config"
SEE = "; see how it differs: aebench init --upgrade"


class State(StrEnum):
    """What a shipped file is in a workspace, and what an upgrade does with it."""

    SAME = "the same"
    NEW = "new"
    TAKEN = "taken over"
    CHANGED = "changed here, kept"
    GONE = "not here, left so"
    FOLDER = "a folder here has its name, left out"
    DROPPED = "no longer shipped, kept"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where, and whether there is a workspace already."""
    parser.add_argument(
        "folder", metavar="DIR", nargs="?", type=Path, help="the folder; default: this one"
    )
    parser.add_argument(
        "--upgrade",
        action="store_true",
        help="show how dvc.yaml, built-in plug-ins, docs and templates of plots differ from the "
        "installed version's, "
        "and take over those that nobody changed",
    )


def init(workspace: Workspace, folder: Path | None, upgrade: bool) -> None:
    """Write what a workspace needs and is not there; with `upgrade`, what is of another version.

    AebenchError where that can't be done. It then leaves no new folder and no half of a file.
    """
    root = workspace.root / (folder or "")
    with told_in_a_line(root):
        if upgrade:
            bring_up(root)
        else:
            make(root)
    print(f"next: {next_command(root)}")


@contextmanager
def told_in_a_line(root: Path) -> Iterator[None]:
    """Turn what the system refuses into an AebenchError."""
    try:
        yield
    except BrokenPipeError:  # `| head` has seen enough
        raise
    except OSError as error:
        what = f"{error.filename or root}: {error.strerror or error}"
        raise AebenchError(f"{what}; mend it and run `aebench init` again") from None


def make(root: Path) -> None:
    """Write what is missing, and say it."""
    places = [root / name for name in ("plugins", "docs", "docs/zoo", ".dvc", ".dvc/plots")]
    for folder in (*root.parents[::-1], root, *places):
        if os.path.lexists(folder) and not folder.is_dir():
            raise AebenchError(f"{folder}: got a file, allowed: a folder; choose another name")
    git, dvc = program("git"), program("dvc")
    record = read_record(root)
    contents = missing(root)
    lines = written(root, contents) + ([] if record else kept(root, contents))
    contents |= new_record(root, record, contents)
    with gone_on_failure(root):
        root.mkdir(parents=True, exist_ok=True)
        lines += git_init(root, git) + dvc_init(root, dvc, contents)
        write(root, contents)
    if RECORD in contents:
        lines.append(f"wrote {root / RECORD}: the version these files are of")
    print("\n".join(lines or [f"{root}: nothing to write, everything is there"]))
    warn_of_other_version(Workspace(root))


def program(name: str) -> str:
    """The path of git or dvc: beside Python, as in an environment not activated, or on PATH."""
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which(name, path=places)
    if found is None:
        fix = {"git": "install git (https://git-scm.com)", "dvc": "pip install dvc"}[name]
        raise AebenchError(f"{name}: not found, and a workspace needs it; {fix}")
    return found


@contextmanager
def gone_on_failure(root: Path) -> Iterator[None]:
    """Remove the folder after an error if it was not there before."""
    new = not root.exists()
    try:
        yield
    except BaseException:
        if new:
            shutil.rmtree(root, ignore_errors=True)
        raise


def whole_files() -> dict[str, bytes]:
    """Name -> content of the files that a new workspace gets and an old one keeps."""
    return {"params.yaml": (template() / "params.yaml").read_bytes(), **shipped()}


def missing(root: Path) -> dict[str, bytes]:
    """Name -> content of what is to be written: files that are not there, ignored patterns."""
    contents = {
        name: content
        for name, content in whole_files().items()
        if not os.path.lexists(root / name) and not is_folder(root / name)
    }
    return contents | more_ignored(root)


def more_ignored(root: Path) -> dict[str, bytes]:
    """Name -> content of the ignore files that lack a pattern."""
    contents = {}
    for name in IGNORES:
        here = content_of(root / name) or b""
        content = with_lines(here, (template() / name).read_bytes())
        if content != here:
            contents[name] = content
    return contents


def is_folder(path: Path) -> bool:
    """Whether there is a plug-in of that name which is a folder: beside it, neither would load."""
    return path.suffix == ".py" and (path.with_suffix("") / "__init__.py").is_file()


def with_lines(here: bytes, wanted: bytes) -> bytes:
    """The ignore file with those patterns of the wanted one that it lacks."""
    if not here:
        return wanted
    present = {line.strip() for line in here.splitlines()}
    added = [line for line in wanted.splitlines() if line.strip() not in present | {b""}]
    added = [line for line in added if not line.startswith(b"#")]
    if not added:
        return here
    end = b"" if here.endswith(b"\n") else b"\n"
    return here + end + b"# aebench\n" + b"\n".join(added) + b"\n"


def written(root: Path, contents: dict[str, bytes]) -> list[str]:
    """A line a file that will be written; the plug-ins share one."""
    lines = []
    for name in contents:
        if name in IGNORES and (root / name).exists():
            lines.append(f"added to {root / name}: what was missing")
        elif not name.startswith("plugins/"):
            lines.append(f"wrote {root / name}")
    plugins = [name.removeprefix("plugins/") for name in contents if name.startswith("plugins/")]
    if plugins:
        lines.append(f"wrote {root / 'plugins'}{os.sep}: {', '.join(plugins)}")
    return lines


def kept(root: Path, contents: dict[str, bytes]) -> list[str]:
    """A line for each file that was there and is not as this version ships it."""
    return [
        f"kept {root / name}: it was there" + SEE * (name != "params.yaml")
        for name, content in whole_files().items()
        if name not in contents and content_of(root / name) != content
    ]


def new_record(root: Path, record: Record | None, contents: dict[str, bytes]) -> dict[str, bytes]:
    """The record's file where it changes. aebench's own source needs none."""
    if is_source(root):
        return {}
    hashes = {name: sha256(content) for name, content in shipped().items()}
    if record is None:
        return {RECORD: Record(installed(), hashes).to_bytes()}
    files = {**record.files, **{name: hashes[name] for name in contents if name in hashes}}
    found = Record(record.version, files)
    return {RECORD: found.to_bytes()} if found != record else {}


def is_source(root: Path) -> bool:
    """Whether the folder is the source checkout that runs, whose files are of its own version."""
    return root.resolve() == template().resolve()


def git_init(root: Path, git: str) -> list[str]:
    """Make a repository unless the folder lies in one; the line that says so."""
    done = call([git, "rev-parse", "--show-toplevel"], root)
    if done.returncode == 0:
        return []
    if "not a git repository" not in done.stderr:
        raise AebenchError(f"{root}: git: {reason(done)}")
    checked([git, "init", "-q"], root)
    return [f"made {root / '.git'}: git init"]


def dvc_init(root: Path, dvc: str, contents: dict[str, bytes]) -> list[str]:
    """Set up DVC unless that is done; the line that says so. Adds its settings to the contents."""
    if (root / ".dvc").is_dir():
        return []
    inside = [] if (root / ".git").exists() else ["--subdir"]
    checked([dvc, "init", *inside], root)
    contents[DVC_CONFIG] = (template() / DVC_CONFIG).read_bytes()
    command = " ".join(["dvc init", *inside])
    return [f"made {root / '.dvc'}: {command}; its analytics and check for updates are off"]


def call(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run git or dvc in the folder, their messages in English."""
    environment = os.environ | {"LC_ALL": "C", "DVC_NO_ANALYTICS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def checked(command: list[str], folder: Path) -> None:
    """Run it; AebenchError with its reason where it fails."""
    done = call(command, folder)
    if done.returncode:
        name = " ".join([Path(command[0]).name, *command[1:]])
        raise AebenchError(f"{folder}: {name}: {reason(done)}")


def reason(done: subprocess.CompletedProcess[str]) -> str:
    """The line with which git or dvc says what is wrong."""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    marked = [line for line in lines if line.startswith(("ERROR: ", "fatal: "))]
    line = (marked + lines + [f"exit status {done.returncode}"])[0]
    return line.removeprefix("ERROR: ").removeprefix("fatal: ")


def write(root: Path, contents: dict[str, bytes]) -> None:
    """All files, or none."""
    with Outs() as outs:
        for name, content in contents.items():
            outs.write(root / name, content)


def bring_up(root: Path) -> None:
    """Show the differences to this version's files, and take over what nobody changed."""
    if not (root / "dvc.yaml").is_file() and not (root / RECORD).is_file():
        raise AebenchError(f"{root}: no workspace: no dvc.yaml; make one with `aebench init`")
    record, ours = read_record(root), shipped()
    states = states_of(root, record, ours)
    contents = {n: ours[n] for n, state in states.items() if state in (State.NEW, State.TAKEN)}
    for name in states:
        if states[name] in (State.TAKEN, State.CHANGED):
            show_difference(root / name, ours[name])
    now = Record(installed(), {name: sha256(content) for name, content in ours.items()})
    if now != record and not is_source(root):
        contents[RECORD] = now.to_bytes()
    ignored = more_ignored(root)
    print(*written(root, ignored), sep="\n", end="\n" if ignored else "")
    write(root, contents | ignored)
    for name, state in states.items():
        if state != State.SAME:
            print(f"{state}: {root / name}{advice(state, root, name)}")
    print(summary(states, now.version, record))


def states_of(root: Path, record: Record | None, ours: dict[str, bytes]) -> dict[str, State]:
    """The state of each file that this version ships or the workspace's version shipped."""
    states = {name: state_of(name, root / name, content, record) for name, content in ours.items()}
    old = record.files if record else {}
    dropped = [name for name in old if name not in ours and os.path.lexists(root / name)]
    return states | dict.fromkeys(dropped, State.DROPPED)


def content_of(path: Path) -> bytes | None:
    """The file's bytes; None where there is none."""
    return path.read_bytes() if os.path.lexists(path) else None


def state_of(name: str, path: Path, content: bytes, record: Record | None) -> State:
    """The state of a file that this version ships with the content."""
    here = content_of(path)
    recorded = record.files.get(name) if record else None
    if here == content:
        return State.SAME
    if here is None and is_folder(path):
        return State.FOLDER
    if here is None:
        return State.NEW if record and recorded is None else State.GONE
    return State.TAKEN if sha256(here) == recorded else State.CHANGED


def show_difference(path: Path, content: bytes) -> None:
    """Print the unified diff from the workspace's file to this version's."""
    old, ours = (
        part.decode(errors="replace").splitlines() for part in (path.read_bytes(), content)
    )
    new = f"{path} of aebench {installed()}"
    print(*difflib.unified_diff(old, ours, str(path), new, lineterm=""), "", sep="\n")


def advice(state: State, root: Path, name: str) -> str:
    """How to get this version's file after all."""
    inside = "" if root == Path() else f"cd {shlex.quote(str(root))} && "
    if state == State.CHANGED:
        # Out of plugins/: there the old file would register the same model once more.
        move = shlex.join(["mv", name, f"{Path(name).name}.mine"])
        return f"; to have this version's: {inside}{move} && aebench init"
    return f"; to have it again: {inside}aebench init" if state == State.GONE else ""


def summary(states: dict[str, State], version: str, record: Record | None) -> str:
    """From which version to which, and how many files have which state."""
    before = f"{record.version} -> " if record and record.version != version else ""
    counts = [f"{count} {state}" for state, count in Counter(states.values()).items()]
    return f"aebench {before}{version}: {'; '.join(counts)}"


def next_command(root: Path) -> str:
    """What to type now, from this folder: DVC has to find the stages' command on PATH."""
    steps = [] if root == Path() else [f"cd {shlex.quote(str(root))}"]
    activate = Path(sys.executable).parent / "activate"
    if activate.is_file() and shutil.which("aebench") is None:
        steps.insert(0, f". {shlex.quote(str(activate))}")
    return " && ".join([*steps, "dvc repro"])
