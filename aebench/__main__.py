"""The command line: a verb per stage, `verify` and `list`."""

import argparse
import gc
import importlib
import os
import sys
import threading
import time

import psutil

from aebench.errors import AebenchError, first_line, is_machine_failure

VERBS = {
    "plan": "resolve params.yaml and the plug-ins into plan/",
    "prepare": "turn the data set's images into arrays",
    "train": "train one run with one seed",
    "encode": "encode all images with a trained run",
    "knn": "search the codes of a run and vote",
    "report": "render reports/ from the results",
    "verify": "train a run again and compare",
    "list": "show models, data sets and runs, and what failed to load",
}
PER_RUN = ("train", "encode", "knn")
TORCH = ("train", "encode")
SHELLS = ("sh", "dash", "bash", "zsh", "ksh", "fish")


def main() -> int:
    """Run the verb of the command line. The exit status: see `run`."""
    arguments = sys.argv[1:]
    if "DVC_STAGE" in os.environ:
        chain = up_to_dvc()
        threading.Thread(target=end_with_dvc, args=(chain,), daemon=True).start()
        if imports_torch(arguments):
            from aebench.warm import run_in_fork

            try:
                status = run_in_fork(arguments, chain[-1].ppid())
            except KeyboardInterrupt:
                return 130
            if status is not None:
                return status
    return run(arguments)


def imports_torch(arguments: list[str]) -> bool:
    """Whether the verb will import torch: plan only through plug-ins that it does not remember."""
    if arguments == ["plan"]:
        from aebench.plugins import all_remembered

        return not all_remembered()
    return arguments[:1] != [] and arguments[0] in TORCH


def run(arguments: list[str]) -> int:
    """0; 1 for an error, which is told in a line; 130 after Ctrl-C."""
    parsed = vars(parser().parse_args(arguments))
    verb = parsed.pop("verb")
    try:
        # Imports make many objects and no garbage: torch's take 0.91 of the time (median of 8).
        gc.disable()
        stage = importlib.import_module(f"aebench.{verb}")
        gc.enable()
        getattr(stage, verb)(**parsed)
    except AebenchError as error:
        for text in str(error).splitlines():
            print(f"aebench: error: {text}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if not is_machine_failure(error):
            raise
        what = f"{type(error).__name__}: {first_line(error)}"
        print(
            f"aebench: error: {verb}: the machine failed, not the model: {what}; "
            "nothing was written, mend it and run `dvc repro` again",
            file=sys.stderr,
        )
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    """A sub-command for each verb."""
    found = argparse.ArgumentParser(prog="aebench", description="Benchmark image autoencoders.")
    verbs = found.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, summary in VERBS.items():
        command = verbs.add_parser(verb, help=summary, description=summary)
        if verb in PER_RUN:
            command.add_argument("run", help="a name under runs: in params.yaml")
            command.add_argument("seed", type=int, help="one of its seeds")
        if verb == "verify":
            command.add_argument("run", help="a name under runs: in params.yaml")
            words = "one of its seeds; the first unless given"
            command.add_argument("seed", type=int, nargs="?", help=words)
    return found


def up_to_dvc() -> list[psutil.Process]:
    """This process and, where there is one, the shell between it and DVC.

    `bash -c` becomes its only command; dash stays and waits for it.
    """
    own = psutil.Process()
    parent = own.parent()
    return [own, parent] if parent and parent.name() in SHELLS else [own]


def end_with_dvc(chain: list[psutil.Process]) -> None:
    """End this process when DVC is gone: an orphan would write into the next repro's files."""
    parents = [process.ppid() for process in chain]
    try:
        while [process.ppid() for process in chain] == parents:
            time.sleep(0.5)
    finally:  # whose parent cannot be asked is gone
        os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
