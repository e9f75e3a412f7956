"""The command `covidcxnet prepare`: makes the store that `train` with the same arguments would, and stops there."""

from __future__ import annotations

import sys

from covidcxnet.cli._common import LUNG_ENGINE, NO_PROGRESS, add_cluster, lung_engine, progress_switch
from covidcxnet.training.arguments import parse_recipe
from enhancement.command_line import Parser, command

SUMMARY = f"""Prepare radiographs for training: decode, find lungs, enhance and resize them once, into one HDF5 store.

Takes the flags and recipes of train. Those that concern neither data nor input have no effect here, except that with
--match-to training the split and the seed decide which images grey levels are matched to. What is prepared already is
not done again, and an interrupted preparation resumes where it stopped. {LUNG_ENGINE} {NO_PROGRESS}

--workers N lets N processes on this machine do the work, each with a lung segmenter of its own; --scheduler ADDRESS
lets the workers of a Dask cluster do it, for example tcp://host:8786. They write shards into a folder beside the
store, which joins them. Both need pip install 'covidcxnet[cluster]'."""
# Flags of train that would have no effect here, with what to do instead.
REFUSED = {
    "resume": "give the same command again, and it resumes",
    "print_config": "train --print-config shows the recipe",
}


@command("covidcxnet prepare")
@progress_switch
def main(argv: list[str], prog: str) -> int:
    """Prepare a store: 0 done, 1 done but some files could not be used (listed)."""
    # No settings of a recipe: how the work is done leaves no trace in a store.
    parser = Parser(prog=prog, add_help=False)
    add_cluster(parser)
    where, rest = parser.parse_known_args(argv)
    engine, rest = lung_engine(rest, prog)
    recipe = parse_recipe(rest, prog, SUMMARY, REFUSED)

    from covidcxnet.cluster import connected
    from covidcxnet.training import data
    from covidcxnet.training.recipe import TRAINING_IMAGES
    from covidcxnet.training.statistics import with_histogram

    dataset = data.dataset_of(recipe)
    data.check_present(recipe, dataset)
    segmenter = data.segmenter_of(recipe, engine)
    # Grey levels of training images are part of what is prepared, and which images these are the split says.
    split = data.split_of(recipe, dataset) if recipe.match_to == TRAINING_IMAGES else None
    recipe = with_histogram(recipe, dataset, split, segmenter)
    with (
        connected(where.scheduler, where.workers) as cluster,
        data.store_of(recipe, dataset, segmenter, cluster=cluster) as store,
    ):
        rejected = store.rejected
        for path, reason in zip(rejected["path"], rejected["reason"], strict=True):
            print(f"{path}: {reason}", file=sys.stderr)
        print(store.path)
    return 1 if len(rejected) else 0
