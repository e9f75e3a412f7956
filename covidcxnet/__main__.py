"""`python -m covidcxnet`: the same as the command `covidcxnet`."""

import sys

from covidcxnet.cli import main

if __name__ == "__main__":
    sys.exit(main())
