"""Flags that several commands have, each spelt and explained once."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from enhancement.command_line import Parser, add_engine, add_progress, at_least, named_values

RESEARCH_ONLY = "A research tool, not a medical device."
EXIT_CODES = "Exit code: 0 done, 1 done but some files could not be read, 2 the input cannot be used."
DATA = "NAME:FOLDER of a public set (NAME,option=value:FOLDER), a folder with one folder per class, a CSV, or phantom"


def add_data(parser: argparse.ArgumentParser, *, required: bool = False, narrow: bool = True) -> None:
    """``--data`` and the flags that say what of it is used."""
    add = parser.add_argument
    add("--data", required=required, metavar="DATA", help=DATA)
    add_root(parser)
    add("--where", action="append", default=[], metavar="COLUMN=VALUE[,VALUE]", help="rows to use; repeatable")
    if narrow:
        text = "labels to keep, in this order but normal always first; default all"
        parser.add_argument("--classes", metavar="CLASS[,CLASS]", help=text)
        parser.add_argument("--verdicts", metavar="CSV", help="table of datasets check: rejected images are left out")


def add_root(parser: argparse.ArgumentParser) -> None:
    """``--root``, for a ``--data`` that is a CSV."""
    add = parser.add_argument
    add("--root", metavar="DIR", help="folder that the CSV's paths are relative to")


def open_data(arguments: argparse.Namespace, **options: Any) -> Any:
    """The data set that the flags of `add_data` name; a single class is enough. `options` are those of `load`."""
    from dataclasses import replace

    from covidcxnet.datasets import load
    from covidcxnet.datasets.dataset import with_verdicts

    where = named_values(arguments.where, "--where")
    classes = words(arguments.classes)
    # Only training needs two classes; a look at one is a look at a data set too.
    dataset = load(arguments.data, root=arguments.root, classes=classes, where=where, for_training=False, **options)
    path = Path(arguments.data)
    if path.suffix:
        # Half of all tables are called metadata.csv.
        dataset = replace(dataset, name=f"{path.absolute().parent.name}/{path.name}")
    return with_verdicts(dataset, arguments.verdicts) if arguments.verdicts else dataset


def add_work(
    parser: argparse.ArgumentParser, *, batch_size: bool = True, jobs: int | None = None, seed: str = ""
) -> None:
    """How the work is done: ``--batch-size``, ``--jobs``, ``--seed`` of what it names, ``--progress``."""
    if seed:
        parser.add_argument("--seed", type=int, default=0, help=f"seed of {seed}")
    if batch_size:
        parser.add_argument("--batch-size", type=at_least(1), default=16, metavar="N", help="images in one pass")
    text = "processes that read images" + ("" if jobs else "; default one per core")
    add = parser.add_argument
    add("--jobs", type=at_least(1), default=jobs, metavar="N", help=text)
    add_progress(parser)


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """Who does the work instead of this process: ``--workers`` here, or those of a ``--scheduler``."""
    group = parser.add_argument_group("cluster (pip install 'covidcxnet[cluster]')")
    text = "number of worker processes on this machine that do the work, each with its own networks; replaces --jobs"
    group.add_argument("--workers", type=at_least(1), metavar="N", help=text)
    text = "the workers of a Dask cluster do the work, for example tcp://host:8786; they need the same files and paths"
    group.add_argument("--scheduler", metavar="ADDRESS", help=text)


LUNG_ENGINE = (
    "--engine keras, openvino or onnxruntime runs the lung network of the preparation; default auto: OpenVINO for "
    "released and converted weights, otherwise Keras. Stores do not depend on it."
)


def lung_engine(argv: list[str], prog: str) -> tuple[str | None, list[str]]:
    """``--engine``, and the arguments without it, for commands of a recipe's flags: it leaves no trace in a store."""
    parser = Parser(prog=prog, add_help=False)
    add_engine(parser, precisions=())
    given, others = parser.parse_known_args(argv)
    return given.engine, others


def progress_switch(work: Callable[..., int | None]) -> Callable[..., int | None]:
    """Decorator that takes ``--no-progress`` and ``--quiet`` out of the arguments, for commands of a recipe's flags."""

    @wraps(work)
    def switched(argv: list[str], prog: str) -> int | None:
        others = [argument for argument in argv if argument.replace("_", "-") not in ("--no-progress", "--quiet")]
        if len(others) == len(argv):
            return work(argv, prog)
        from enhancement.progress import ProgressBar

        # Of the class: the bars of a training are those of five packages. They are no part of a recipe, which would
        # be another recipe with another switch.
        ProgressBar.hidden = True
        try:
            return work(others, prog)
        finally:
            ProgressBar.hidden = False

    return switched


NO_PROGRESS = "--no-progress, or --quiet, leaves out the progress bars."


def add_bootstrap(parser: argparse.ArgumentParser) -> None:
    """``--bootstrap``: resamples behind the intervals."""
    text = "resamples; 0 for none"
    add = parser.add_argument
    add("--bootstrap", type=at_least(0), default=2000, metavar="N", help=text)


LIME_SAMPLES = "perturbed images for LIME, or auto: until the ranking of superpixels is stable"
lime_samples = at_least(10, 100_000, "auto")


def add_action(actions: Any, name: str, work: Callable[[argparse.Namespace], int], text: str) -> Any:
    """A parser below a command, which leaves `work` as ``arguments.action``."""
    parser = actions.add_parser(name, help=text, description=text)
    parser.set_defaults(action=work)
    return parser


def words(text: str | None) -> tuple[str, ...]:
    """The parts of a list with commas, without empty ones."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())
