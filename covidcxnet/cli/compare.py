"""The command `covidcxnet compare`: several runs in one table and on one page."""

from __future__ import annotations

import argparse

from covidcxnet.cli._common import RESEARCH_ONLY, add_bootstrap, words
from enhancement.command_line import Parser, add_progress, at_least, command
from enhancement.files import check_output

TEST = "All figures are of test images. To choose between runs, use validation images: evaluate RUN --split validation."
SUMMARY = f"""Compare finished runs on their test images: one table (F1, accuracy, AUROC with intervals; parameters,
FLOPs, seconds per epoch, best epoch; disease called normal), ROC curves on one axis, learning curves. A run without an
up-to-date report of its test images is evaluated first, which opens its test set; the run folder records that. {TEST}
{RESEARCH_ONLY}"""


def build_parser(prog: str) -> argparse.ArgumentParser:
    """Flags; each is an argument of `covidcxnet.experiments.compare.compare` under the same name."""
    parser = Parser(prog=prog, description=SUMMARY)
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="run folders; differences are taken from the first")
    add("--out", default="reports/comparison", metavar="DIR", help="folder to write to")
    add("--names", metavar="A,B,...", help="a name for each run; default their folders")
    text = "rows that a paper printed, marked as published: covid-cxnet, pneumonia, radiography, group-q"
    add("--published", action="append", default=[], metavar="NAME[,NAME]", help=text)
    add_bootstrap(parser)
    add("--seed", type=int, default=0, help="seed of the bootstrap")
    add("--batch-size", type=at_least(1), default=16, metavar="N", help="images in one pass")
    add_progress(parser)
    return parser


@command("covidcxnet compare")
def main(argv: list[str], prog: str) -> int:
    """Compare; the last line printed is the path of the page."""
    arguments = vars(build_parser(prog).parse_args(argv))
    # Not `words`, which drops empty names: "a,,b" is three names, and `compare` refuses them for two runs.
    names = arguments["names"]
    arguments["names"] = names.split(",") if names else ()
    # Repeatable and with commas, as people try both.
    arguments["published"] = words(",".join(arguments["published"]))
    out = check_output(arguments.pop("out"), folder=True)

    from covidcxnet.experiments.compare import compare
    from covidcxnet.experiments.compare_page import save, tables

    comparison = compare(arguments.pop("runs"), **arguments)
    for caution in comparison.cautions:
        print(f"Caution: {caution.title}. {caution.text}")
    print(*(table.markdown() for table in tables(comparison.rows)), sep="\n\n")
    if comparison.runs:
        print(TEST)
    print(save(comparison, out))
    return 0
