"""Train a classifier on chest radiographs; without arguments, on the built-in phantom. --help lists every setting."""

import sys

from covidcxnet.requirements import installed

if __name__ == "__main__":
    with installed("train.py"):
        from covidcxnet.cli.train import main

        sys.exit(main())
