"""`python -m regionsearch` is the command `regionsearch`."""

import sys

from regionsearch.cli import main

if __name__ == "__main__":
    sys.exit(main())
