"""The command `aebench`, also as `python -m aebench`."""

import os
import signal
import sys


def main() -> int:
    """The exit status of the command line. Ctrl-C shows no traceback while modules are imported."""
    # `aebench farm` asks DVC what it would compute: see farm/suites.py. Before the imports, as of
    # hundreds of stages.
    if os.environ.get("AEBENCH_DECLINE") and sys.argv[1:2] not in (["plan"], ["prepare"]):
        return 1
    early = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if early:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from aebench import cli

    try:
        if early:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return cli.main()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
