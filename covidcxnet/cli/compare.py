"""The command `covidcxnet compare`: several runs in one table and on one page."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial

from enhancement import command_line
from enhancement.files import check_output

SUMMARY = """Compare runs: one table (F1, accuracy, AUROC with intervals; parameters, FLOPs, seconds per epoch, best
epoch; disease called normal), ROC curves on one axis, learning curves. A run without an up-to-date report is evaluated
first. A research tool, not a medical device."""


def main(argv: Sequence[str] | None = None, prog: str = "covidcxnet compare") -> int:
    """Compare from command-line arguments; the last line printed is the page's path.

    Returns
    -------
    int
        0 done, 2 the input cannot be used, 130 interrupted by Ctrl-C.
    """
    return command_line.run(partial(_compare, prog=prog), argv, prog=prog)


def build_parser(prog: str) -> argparse.ArgumentParser:
    """Flags; each is an argument of `covidcxnet.experiments.compare.compare` under the same name."""
    parser = command_line.Parser(prog=prog, description=SUMMARY)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders; differences are taken from the first")
    parser.add_argument("--out", metavar="DIR", help="folder to write to (default reports/comparison)")
    parser.add_argument("--names", metavar="A,B,...", help="what the runs are called, one each; default their folders")
    parser.add_argument(
        "--published", action="append", default=[], metavar="NAME[,NAME]",
        help="rows that a paper printed, marked as published: covid-cxnet, pneumonia, radiography, group-q",
    )  # fmt: skip
    parser.add_argument(
        "--bootstrap", type=int, default=2000, metavar="N", help="resamples (default %(default)s; 0: none)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default 0)")
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="default %(default)s")
    parser.add_argument("--progress", action=argparse.BooleanOptionalAction, default=True, help="progress bars")
    return parser


def _compare(argv: list[str], prog: str) -> int:
    arguments = vars(build_parser(prog).parse_args(argv))
    names = arguments.pop("names")
    arguments["names"] = names.split(",") if names else ()
    arguments["published"] = [name for given in arguments["published"] for name in given.split(",")]
    out = check_output(arguments.pop("out") or "reports/comparison", folder=True)
    from covidcxnet.experiments.compare import compare
    from covidcxnet.experiments.compare_page import save, tables

    comparison = compare(arguments.pop("runs"), **arguments)
    for caution in comparison.cautions:
        print(f"Caution: {caution.title}. {caution.text}")
    print(*(table.markdown() for table in tables(comparison.rows)), sep="\n\n")
    print(save(comparison, out))
    return 0
