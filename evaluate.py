"""Evaluate a run or weights, and write the report: `python evaluate.py --help`."""

import sys

from covidcxnet.requirements import installed

if __name__ == "__main__":
    with installed("evaluate.py"):
        from covidcxnet.cli.evaluate import main

        sys.exit(main())
