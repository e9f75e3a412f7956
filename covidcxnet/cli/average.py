"""The command `covidcxnet average`: the mean of the weights of trainings that went on from one another."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from enhancement import command_line
from enhancement.files import check_output

SUMMARY = """Average the weights of a run with those of other runs or files that began from the same weights, and
measure batch norm's moments anew on the run's training images. The mean often does better than each of them, at the
price of one; whether it does is for validation to say. Trainings from different random beginnings give nonsense."""


def main(argv: Sequence[str] | None = None, prog: str = "covidcxnet average") -> int:
    """Average weights from command-line arguments.

    Returns
    -------
    int
        0 done, 2 the input cannot be used, 130 interrupted.
    """
    return command_line.run(partial(_average, prog=prog), argv, prog=prog)


def _average(argv: list[str], prog: str) -> int:
    parser = command_line.Parser(prog=prog, description=SUMMARY)
    parser.add_argument(
        "run", metavar="RUN", help="run folder; classes, input settings and training images are its own"
    )
    parser.add_argument("others", metavar="OTHER", nargs="+", help="run folders, weights files or released names")
    parser.add_argument("--out", required=True, metavar="FILE", help="new file; must end in .weights.h5")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    given = parser.parse_args(argv)
    check_output(given.out)
    from covidcxnet.pretrained import classifier_metadata
    from covidcxnet.training.average import average_weights
    from covidcxnet.training.run import Run

    path = average_weights(given.run, given.others, given.out, batch_size=given.batch_size, progress=True)
    alone, mean = (_auroc(classifier_metadata(one)) for one in (Run(given.run).best_weights, path))
    print(f"validation AUROC {mean}, of {given.run} alone {alone}")
    print(f"Weights: {path}\nNext: evaluate.py {path} --data DATA")
    return 0


def _auroc(metadata: dict[str, Any]) -> str:
    value = metadata["training"].get("figures", {}).get("val_auroc")
    return "unknown" if value is None else f"{value:.4f}"


if __name__ == "__main__":
    sys.exit(main())
