"""The command `covidcxnet prepare`: makes the store that `train` with the same arguments would, and stops there."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

from covidcxnet.training.arguments import parse_recipe
from enhancement import command_line

SUMMARY = """Prepare radiographs for training: decode, find lungs, enhance, resize, once, into one HDF5 store.

Takes the flags and recipes of train; those that say nothing about data or input are without effect here, but that with
match_to training the split and the seed say which images grey levels are matched to. What is prepared already is not
done again, and an interrupted preparation goes on where it stopped."""
REFUSED = {
    "resume": "give the same command again, and it goes on",
    "print_config": "train --print_config shows the recipe",
}


def main(argv: Sequence[str] | None = None, prog: str = "covidcxnet prepare") -> int:
    """Prepare a store from command-line arguments.

    Returns
    -------
    int
        0 done, 1 done but some files could not be used (listed), 2 the input cannot be used, 130 interrupted.
    """
    return command_line.run(partial(_prepare, prog=prog), argv, prog=prog)


def _prepare(argv: list[str], prog: str) -> int:
    recipe = parse_recipe(argv, prog, SUMMARY, REFUSED)
    from covidcxnet.training import data
    from covidcxnet.training.base_image import with_histogram
    from covidcxnet.training.run import dataset_of

    dataset = dataset_of(recipe)
    recipe = with_histogram(recipe, dataset)
    with data.prepared(recipe, dataset, data.store_path(recipe, dataset)) as store:
        rejected = store.rejected
        for path, reason in zip(rejected["path"], rejected["reason"], strict=True):
            print(f"{path}: {reason}", file=sys.stderr)
        print(store.path)
    return 1 if len(rejected) else 0
