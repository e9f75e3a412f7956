"""The command `covidcxnet explore`: what a data set looks like, as one HTML page and PNG files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from enhancement import command_line
from enhancement.files import check_output

SUMMARY = """Look at a data set before training on it: images by class, source and split, samples, mean and standard
deviation image of each class, differences of means, grey levels, sizes; and reasons to be wary. Writes explore.html
(one file), its pictures as PNG and explore.json. A research tool, not a medical device."""


def main(argv: Sequence[str] | None = None, prog: str = "covidcxnet explore") -> int:
    """Explore from command-line arguments; the last line printed is the page's path.

    Returns
    -------
    int
        0 done, 1 done but some files could not be read, 2 the input cannot be used, 130 interrupted by Ctrl-C.
    """
    return command_line.run(partial(_explore, prog=prog), argv, prog=prog)


def build_parser(prog: str) -> argparse.ArgumentParser:
    """Flags; those of the work are arguments of `covidcxnet.experiments.explore.explore` under the same name."""
    parser = command_line.Parser(
        prog=prog,
        description=SUMMARY,
        epilog="Exit code: 0 done, 1 done but some files could not be read, 2 the input cannot be used.",
    )
    add_data_arguments(parser, required=True)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the page and the pictures")
    parser.add_argument("--split", metavar="FILE", help="CSV of path and split, or a run folder: also count by split")
    parser.add_argument("--size", type=int, default=128, help="side of mean images in pixels (default %(default)s)")
    parser.add_argument("--samples", type=int, default=16, metavar="N", help="of each class (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of samples (default %(default)s)")
    parser.add_argument("--jobs", type=int, metavar="N", help="processes that read; default one a core")
    parser.add_argument("--progress", action=argparse.BooleanOptionalAction, default=True, help="progress bars")
    return parser


def add_data_arguments(parser: argparse.ArgumentParser, required: bool) -> None:
    """``--data`` and what narrows it, spelt as in the other commands."""
    parser.add_argument(
        "--data", required=required, metavar="DATA",
        help="a folder per class, a CSV, NAME:FOLDER of a published set, or phantom",
    )  # fmt: skip
    parser.add_argument("--root", metavar="DIR", help="folder that the CSV's paths are relative to")
    parser.add_argument(
        "--where", action="append", default=[], metavar="COLUMN=VALUE[,VALUE]", help="rows to use; repeatable"
    )
    parser.add_argument("--classes", metavar="CLASS[,CLASS]", help="labels to keep, in this order; default all")
    parser.add_argument("--verdicts", metavar="CSV", help="table of datasets check: rejected images are left out")


def open_data(arguments: argparse.Namespace) -> Any:
    """The data set that the flags of `add_data_arguments` name; a single class will do."""
    from covidcxnet.datasets import load

    dataset = load(
        arguments.data,
        root=arguments.root,
        classes=[label.strip() for label in (arguments.classes or "").split(",") if label.strip()],
        where=command_line.named_values(arguments.where, "--where"),
        for_training=False,
    )
    path = Path(arguments.data)
    if path.suffix:
        # Half of all tables are called metadata.csv.
        dataset = replace(dataset, name=f"{path.absolute().parent.name}/{path.name}")
    if arguments.verdicts:
        from covidcxnet.datasets.check import with_verdicts

        dataset = with_verdicts(dataset, arguments.verdicts)
    return dataset


def _explore(argv: list[str], prog: str) -> int:
    arguments = build_parser(prog).parse_args(argv)
    check_output(arguments.out, folder=True)
    dataset = open_data(arguments)
    from covidcxnet.experiments.explore import explore, read_explored_split
    from covidcxnet.experiments.explore_page import save

    split = read_explored_split(arguments.split, dataset) if arguments.split else None
    survey = explore(
        dataset,
        size=arguments.size,
        split=split,
        samples=arguments.samples,
        seed=arguments.seed,
        jobs=arguments.jobs,
        progress=arguments.progress,
    )
    print(f"{survey.name}: {survey.images} images read of {survey.listed} listed, {len(survey.unreadable)} unreadable")
    print("\n".join(f"warning: {warning}" for warning in survey.warnings) or "no warnings")
    page = save(survey, arguments.out)
    if len(survey.unreadable):
        print(f"{page.parent / 'unreadable.csv'}: files that could not be read")
    print(page)
    return 1 if len(survey.unreadable) else 0
