"""Train a classifier on chest radiographs; without arguments, on the built-in phantom. --help lists every setting."""

import sys

from covidcxnet.cli.train import main

if __name__ == "__main__":
    sys.exit(main())
