"""Run a command that ends with the process that started it.

python -m aebench.farm.guarded dvc repro ...
"""

import os
import signal
import subprocess
import sys

from aebench import children


def main() -> int:
    """The exit status of the command."""
    command = sys.argv[1:]
    # Workers of this machine ignore it, and hand that on: the guardian ends a stage by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.platform != "linux":
        return subprocess.call(command)
    guardian = children.forked(
        lambda: subprocess.call(command),
        [children.known(os.getppid())],
        children.temporary_folder(),
    )
    if guardian is None:
        return subprocess.call(command)
    return children.awaited(guardian, " ".join(command[:2]), "the chain is tried again")


if __name__ == "__main__":
    sys.exit(main())
