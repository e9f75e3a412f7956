"""Evaluate a run or weights, and write the report: `python evaluate.py --help`."""

import sys

from covidcxnet.cli.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
