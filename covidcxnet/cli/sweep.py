"""The commands `covidcxnet sweep`, a recipe over values and repeats, and `groups`, a preset of it."""

from __future__ import annotations

import argparse
from pathlib import Path

from covidcxnet.cli._common import LUNG_ENGINE, NO_PROGRESS, RESEARCH_ONLY, add_bootstrap, lung_engine, progress_switch
from enhancement.command_line import Parser, add_engine, add_progress, command
from enhancement.errors import InputError

SUMMARY = f"""Train a recipe with every combination of values, each with several seeds, all on one split; then one table
and one plot with intervals over repeats. What is finished is not trained again: the same command resumes after a stop.
{RESEARCH_ONLY}"""
_EXAMPLES = """examples:
  covidcxnet sweep base-cnn --over learning_rate=0.001,0.005,0.01,0.05,0.1 --data my-data --split-by image
  covidcxnet sweep covid-cxnet --repeats 10 --data table.csv
  covidcxnet sweep covid-cxnet --over init=random,imagenet --over options.dropout=0,0.2 --repeats 3 --data table.csv
  covidcxnet sweep small-cnn.yaml --over 'input.channels=[raw],[clahe,beasf,raw]' --dry-run"""
GROUPS = f"""Train a recipe on the three data groups of the pediatric pneumonia study: raw, augmented, balanced (by
oversampling) and augmented; evaluate them on the same test images and compare. usage: covidcxnet groups [RECIPE]
[--balance oversample|undersample] [--published] [--bootstrap 2000] [flags of train].

--out names the folder (by default one under runs/) with a run for each group, comparison.html, comparison.csv,
comparison.md and groups.png. The same command resumes where it was stopped. {LUNG_ENGINE} {NO_PROGRESS}
{RESEARCH_ONLY}"""
_DECIDED = "the groups decide it; --balance undersample balances the other way"
# Flags of train that the groups decide, or that belong to a single run.
REFUSED = {
    "sampling": _DECIDED,
    "class_weights": _DECIDED,
    "resume": "give the same command again, and it resumes",
    "print_config": "the groups are three recipes; train --print-config shows what they share",
}


def build_parser(prog: str) -> argparse.ArgumentParser:
    """Flags of the sweep itself; all others are the recipe's."""
    usage = f"{prog} RECIPE [--over KEY=a,b,c ...] [--repeats N] [--out DIR] [--dry-run] [any flag of train.py]"
    parser = Parser(prog=prog, usage=usage, description=SUMMARY, epilog=_EXAMPLES)
    text = "YAML values of a recipe key, dots for nested ones (input.size); repeatable: all combinations are trained"
    add = parser.add_argument
    add("--over", action="append", default=[], metavar="KEY=a,b,c", help=text)
    add("--repeats", type=int, default=1, metavar="N", help="trainings of each combination, with seeds from --seed on")
    add("--out", metavar="DIR", help="folder of the sweep; default runs/sweep-RECIPE-KEYS")
    add("--test", action=argparse.BooleanOptionalAction, default=True, help="evaluate each run on the test split")
    add_bootstrap(parser)
    add("--dry-run", action="store_true", help="list the trainings and their state, and stop")
    add_engine(parser, "the lung network of the preparation", precisions=())
    add_progress(parser)
    return parser


@command("covidcxnet sweep")
@progress_switch
def main(argv: list[str], prog: str) -> int:
    """Sweep; the last line printed is the path of the page: 1 done but some trainings failed."""
    parser = build_parser(prog)
    if {"-h", "--help"} & set(argv):
        parser.parse_args(["--help"])
    if not argv or argv[0].startswith("-"):
        raise InputError("RECIPE: a packaged recipe's name or a YAML file expected first (see --help)")
    # What is left are flags of the recipe, which `read_over` answers with those of train.
    values, others = parser.parse_known_args(argv[1:])

    from covidcxnet.experiments.sweep import overview, sweep
    from covidcxnet.experiments.sweep_page import cautions, to_table
    from covidcxnet.experiments.sweep_plan import plan, read_over

    recipe, over = read_over(argv[0], others, values.over, prog)
    # Named by what varies, so that the same command finds its folder again.
    keys = "-".join(key.rpartition(".")[2] for key in over) or "repeats"
    folder = Path(values.out) if values.out else Path("runs") / f"sweep-{Path(argv[0]).stem}-{keys}"
    if values.dry_run:
        print(overview(plan(recipe, over, values.repeats, folder), tuple(over)))
        return 0
    options = {"test": values.test, "bootstrap": values.bootstrap, "progress": values.progress}
    options |= {"engine": values.engine}
    result = sweep(recipe, over, repeats=values.repeats, out=folder, **options)
    for name, text in cautions(result):
        print(f"Caution: {name}. {text}")
    print(to_table(result).markdown())
    print(result.path)
    return 1 if result.failed else 0


@command("covidcxnet groups")
@progress_switch
def groups(argv: list[str], prog: str) -> int:
    """Train and compare the groups; the same command resumes."""
    from covidcxnet.training.arguments import named_first, parse_recipe

    engine, argv = lung_engine(argv, prog)
    # --help goes on to `parse_recipe`, which shows the flags of train below this summary.
    parser = Parser(prog=prog, add_help=False)
    add = parser.add_argument
    add("--balance", choices=("oversample", "undersample"), default="oversample")
    add("--published", action="store_true")
    add_bootstrap(parser)
    values, others = parser.parse_known_args(named_first(argv))
    recipe = parse_recipe(others, prog, GROUPS, REFUSED)
    folder = Path(recipe.out) if recipe.out else Path("runs") / f"groups-{recipe.model}"

    from covidcxnet.experiments.compare_page import tables
    from covidcxnet.experiments.sweep import train_groups

    options = {"sampling": values.balance, "published": values.published, "bootstrap": values.bootstrap}
    result = train_groups(recipe, folder, engine=engine, **options)
    for caution in result.comparison.cautions:
        print(f"Caution: {caution.title}. {caution.text}")
    print(*(table.markdown() for table in tables(result.comparison.rows)), sep="\n\n")
    print(f"Plot: {result.picture}")
    print(result.path)
    return 0
