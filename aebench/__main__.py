"""The command line: a verb per stage, and `list`."""

import argparse
import importlib
import os
import sys
import threading
import time

from aebench.errors import AebenchError, first_line, is_machine_failure

VERBS = {
    "plan": "resolve params.yaml and the plug-ins into plan/",
    "prepare": "turn the data set's images into arrays",
    "train": "train one run with one seed",
    "encode": "encode all images with a trained run",
    "knn": "search the codes of a run and vote",
    "report": "render reports/ from the results",
    "list": "show models, data sets and runs, and what failed to load",
}
PER_RUN = ("train", "encode", "knn")


def main() -> int:
    """Run one verb. 0; 1 for an error that is told in a line; 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="aebench", description="Benchmark image autoencoders.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, summary in VERBS.items():
        command = verbs.add_parser(verb, help=summary, description=summary)
        if verb in PER_RUN:
            command.add_argument("run", help="a name under runs: in params.yaml")
            command.add_argument("seed", type=int, help="one of its seeds")
    arguments = vars(parser.parse_args())
    verb = arguments.pop("verb")
    if "DVC_STAGE" in os.environ:
        threading.Thread(target=end_with_dvc, args=(os.getppid(),), daemon=True).start()
    try:
        stage = importlib.import_module(f"aebench.{verb}")
        getattr(stage, verb)(**arguments)
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


def end_with_dvc(parent: int) -> None:
    """End this process when DVC is gone: an orphan would write into the next repro's files."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
