"""`python -m aebench`: the same as the command `aebench`."""

import sys

from aebench.cli import main

if __name__ == "__main__":
    sys.exit(main())
