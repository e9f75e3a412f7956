"""`python -m covidcxnet`: the same as the command `covidcxnet`."""

import sys

from covidcxnet.requirements import installed

if __name__ == "__main__":
    with installed("covidcxnet"):
        from covidcxnet.cli import main

        sys.exit(main())
