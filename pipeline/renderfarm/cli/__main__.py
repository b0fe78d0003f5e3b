"""`python -m renderfarm.cli`."""

import sys

from renderfarm.cli import main

if __name__ == "__main__":
    sys.exit(main())
