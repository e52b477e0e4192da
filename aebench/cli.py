"""The command line: each module of stages/ and commands/ is a verb.

Such a module says everything about its verb: the first line of its docstring is the help,
`add_arguments(parser)`, where there is one, adds what it takes, and the function of the verb's name
gets the workspace and those arguments by keyword. A stage with `imports_slowly(workspace)` may run
in a fork of a server, see `aebench.forkserver`, which is started where that is true. `ENDS_ITSELF`,
where it is true, says that its Ctrl-C is its own affair. The module itself imports nothing heavy.
"""

import argparse
import ast
import contextlib
import importlib
import io
import os
import shutil
import sys
import threading
import time
from pathlib import Path
from types import ModuleType

import psutil

from aebench.errors import AebenchError, Damaged, outside
from aebench.mending import mended
from aebench.version import warn_of_other_version
from aebench.waiting import decide
from aebench.workspace import PER_RUN, STAGES, Workspace

PACKAGE = Path(__file__).parent
COMPUTING = ("codecs", *PER_RUN, "stress", "index", "check-plugin", "new-plugin")
WHOLE = STAGES[1:]  # those that write all at their end, or nothing: see `Job`


def main() -> int:
    """Run the verb of the command line. The exit status: see `run`."""
    arguments = sys.argv[1:]
    try:
        os.getcwd()
    except OSError as error:  # of which torch makes a riddle
        gone = isinstance(error, FileNotFoundError)
        what = "was deleted" if gone else f"cannot be used ({error.strerror})"
        print(f"aebench: error: the folder you are in {what}; cd into another", file=sys.stderr)
        return 1
    if arguments and arguments[0] in COMPUTING:  # in threads, and most of them are timed
        # Not knn's: NumPy's threads come from the first, on whose core they would all be.
        searches = arguments[0] in ("codecs", "knn", "stress", "index")
        decide(bind=not searches and "--run" not in arguments)
    parents = up_to_dvc() if "DVC_STAGE" in os.environ else []
    if parents and is_gone(*[os.getpid(), *parents][-2:]):
        words = "the DVC that started this has ended; run `dvc repro` again"
        print(f"aebench: error: {' '.join(arguments)}: {words}", file=sys.stderr)
        return 1
    if sys.platform == "linux" and not ends_itself(arguments):
        return in_own_process(arguments, parents)
    return in_this_process(arguments, parents)


def in_this_process(arguments: list[str], parents: list[int]) -> int:
    """As `run`; what the verb starts may stay behind."""
    if parents:
        with contextlib.suppress(RuntimeError):  # no further thread
            threading.Thread(target=end_with, args=(parents,), daemon=True).start()
    return run(arguments)


def in_own_process(arguments: list[str], parents: list[int]) -> int:
    """As `run`, in a process with which all that it starts ends, and which ends with the parents.

    That is a fork of a server, which has imported torch and scikit-learn, or of this process.
    """
    from aebench import children, forkserver

    found = [children.known(parent) for parent in parents]
    folder = children.temporary_folder()
    try:
        guardian = None
        slowly = imports_slowly(arguments) if parents else None
        if slowly is not None:
            guardian = forkserver.connected(__name__, arguments, found, folder, slowly)
        if guardian is None:
            guardian = children.forked(lambda: run(arguments), found, folder)
        if guardian is None:  # no further process
            return in_this_process(arguments, parents)
        again = "`dvc repro`" if arguments[:1] and arguments[0] in STAGES else "it"
        return children.awaited(guardian, " ".join(arguments), f"then run {again} again")
    finally:
        if folder:  # of a guardian that was killed
            shutil.rmtree(folder, ignore_errors=True)


def ends_itself(arguments: list[str]) -> bool:
    """Whether the verb sees to what it starts, and takes its time after Ctrl-C."""
    known = arguments[:1] and arguments[0] in verbs()
    return bool(known) and getattr(module_of(arguments[0]), "ENDS_ITSELF", False)


def imports_slowly(arguments: list[str]) -> bool | None:
    """Whether the verb imports what takes seconds; None: it is not to be a fork of the server."""
    if arguments[:1] == [] or arguments[0] not in verbs():
        return None
    with contextlib.suppress(Exception):  # what is wrong, `run` will say
        will = getattr(module_of(arguments[0]), "imports_slowly", None)
        return None if will is None else will(Workspace())
    return None


def run(arguments: list[str]) -> int:
    """0; 1 for an error, which is told in a line; 130 after Ctrl-C."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # names may have what a terminal cannot show
        sys.stdout.reconfigure(errors="backslashreplace")
    verb, workspace = arguments[0] if arguments else "", Workspace()
    try:
        parsed = vars(parser(arguments).parse_args(arguments))
        verb = parsed.pop("verb")
        # Of DVC's many stages the first one says it.
        if verb in STAGES and (verb == STAGES[0] or "DVC_STAGE" not in os.environ):
            warn_of_other_version(workspace)
        getattr(module_of(verb), function_name(verb))(workspace, **parsed)
        sys.stdout.flush()  # a closed pipe shows here, not after the end
    except Damaged as error:
        print(f"aebench: error: {mended(workspace, error)}", file=sys.stderr)
        return 1
    except AebenchError as error:
        for text in str(error).splitlines():
            print(f"aebench: error: {text}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `| head` has seen enough; nothing more can be said there
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except Exception as error:
        if (found := outside(error)) is None:
            raise
        what, fix = found
        again = "dvc repro" if verb in STAGES else f"aebench {verb}"
        nothing = "nothing was written; " if verb in WHOLE else ""
        words = f"{what}; {nothing}{fix}, and run `{again}` again"
        print(f"aebench: error: {verb}: {words}", file=sys.stderr)
        return 1
    return 0


def verbs() -> dict[str, Path]:
    """Verb -> the file of its module: the stages as they follow each other, the others by name."""
    rooms = PACKAGE / "stages", PACKAGE / "commands"
    files = [path for room in rooms for path in sorted(room.glob("[a-z]*.py"))]
    found = {path.stem.replace("_", "-"): path for path in files}
    return {verb: found.pop(verb) for verb in STAGES} | found


def function_name(verb: str) -> str:
    """The name of the verb's module and of the function in it."""
    return verb.replace("-", "_")


def module_of(verb: str) -> ModuleType:
    """The module of a verb, imported."""
    return importlib.import_module(f"aebench.{verbs()[verb].parent.name}.{function_name(verb)}")


def parser(arguments: list[str]) -> argparse.ArgumentParser:
    """A sub-command for each verb, or the one that is asked for: its module alone is imported."""
    found = argparse.ArgumentParser(prog="aebench", description="Benchmark image autoencoders.")
    commands = found.add_subparsers(dest="verb", required=True, metavar="VERB")
    known = verbs()
    asked = {verb: known[verb] for verb in arguments[:1] if verb in known}
    for verb, path in (asked or known).items():
        summary = first_line_of_docstring(path)
        command = commands.add_parser(verb, help=summary, description=summary)
        if asked and (add := getattr(module_of(verb), "add_arguments", None)):
            add(command)
    return found


def first_line_of_docstring(path: Path) -> str:
    """What a verb does, without importing it."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0].removesuffix(".").replace("%", "%%")


def up_to_dvc() -> list[int]:
    """The processes from the parent of this one up to DVC, whose is the last.

    There may be a shell between, or what a command of dvc.yaml begins with: DVC gave them the name
    of the stage.
    """
    found = [os.getppid()]
    with contextlib.suppress(psutil.Error, OSError, LookupError):  # without /proc
        process = psutil.Process(found[0])
        while process.environ().get("DVC_STAGE") == os.environ["DVC_STAGE"]:
            found.append(process.ppid())
            process = psutil.Process(found[-1])
    return found


def is_gone(child: int, dvc: int) -> bool:
    """Whether DVC ended before its child looked for it: `dvc` is who takes over orphans then."""
    with contextlib.suppress(psutil.Error, OSError):
        words = " ".join(psutil.Process(dvc).cmdline()).lower()
        stranger = dvc == 1 or os.getsid(dvc) != os.getsid(child)
        return stranger and bool(words) and "dvc" not in words and "python" not in words
    return False


def end_with(parents: list[int]) -> None:
    """End this process when DVC is gone: an orphan would write into the next repro's files."""
    try:
        processes = [psutil.Process(parent) for parent in parents]
        while all(
            process.is_running() and process.status() != psutil.STATUS_ZOMBIE
            for process in processes
        ):
            time.sleep(0.5)
    finally:  # whose parent cannot be asked is gone
        os._exit(1)
