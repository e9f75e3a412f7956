"""The command `covidcxnet sweep`: a recipe over values and repeats."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from enhancement import command_line
from enhancement.errors import InputError

SUMMARY = """Train a recipe with every combination of values, each with several seeds, all on one split; then one table
and one plot with intervals over repeats. What is finished is not trained again: the same command goes on after a stop.
A research tool, not a medical device."""
_EXAMPLES = """examples:
  covidcxnet sweep base-cnn --over learning_rate=0.001,0.005,0.01,0.05,0.1 --data my-data --split_by image
  covidcxnet sweep covid-cxnet --repeats 10 --data table.csv
  covidcxnet sweep covid-cxnet --over init=random,imagenet --over options.dropout=0,0.2 --repeats 3 --data table.csv
  covidcxnet sweep small-cnn.yaml --over 'input.channels=[raw],[clahe,beasf,raw]' --dry-run"""


def main(argv: Sequence[str] | None = None, prog: str = "covidcxnet sweep") -> int:
    """Sweep from command-line arguments; the last line printed is the page's path.

    Returns
    -------
    int
        0 done, 1 done but some trainings failed, 2 the input cannot be used, 130 interrupted by Ctrl-C.
    """
    return command_line.run(partial(_sweep, prog=prog), argv, prog=prog)


def build_parser(prog: str):
    """Flags of the sweep itself; all others are the recipe's."""
    import argparse

    parser = command_line.Parser(
        prog=prog,
        usage=f"{prog} RECIPE [--over KEY=a,b,c ...] [--repeats N] [--out DIR] [--dry-run] [any flag of train.py]",
        description=SUMMARY,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--over", action="append", default=[], metavar="KEY=a,b,c",
        help="values of a recipe key, nested keys with dots (input.size, options.dropout); repeatable: every "
        "combination is trained; values are YAML",
    )  # fmt: skip
    parser.add_argument("--repeats", type=int, default=1, metavar="N", help="trainings of each, seeds from --seed on")
    parser.add_argument("--out", metavar="DIR", help="folder of the sweep (default runs/sweep-RECIPE-KEYS)")
    parser.add_argument(
        "--test", action=argparse.BooleanOptionalAction, default=True,
        help="evaluate each on the test split (default yes); --no-test leaves it closed",
    )  # fmt: skip
    parser.add_argument("--bootstrap", type=int, default=2000, metavar="N", help="resamples (default %(default)s)")
    parser.add_argument("--dry-run", action="store_true", help="list the trainings and what is left of them, and stop")
    parser.add_argument("--progress", action=argparse.BooleanOptionalAction, default=True, help="progress bars")
    return parser


def _sweep(argv: list[str], prog: str) -> int:
    parser = build_parser(prog)
    if {"-h", "--help"} & set(argv):
        parser.parse_args(["--help"])
    if not argv or argv[0].startswith("-"):
        raise InputError("RECIPE: a packaged recipe's name or a YAML file expected first (see --help)")
    given, others = parser.parse_known_args(argv[1:])
    recipe, over = _typed(argv[0], others, given.over, prog)
    folder = Path(given.out) if given.out else Path("runs") / _name(argv[0], over)
    if given.dry_run:
        return _list(recipe, over, given.repeats, folder)
    from covidcxnet.experiments.sweep import sweep
    from covidcxnet.experiments.sweep_page import cautions, to_table

    found = sweep(
        recipe, over, repeats=given.repeats, out=folder, test=given.test, bootstrap=given.bootstrap,
        progress=given.progress,
    )  # fmt: skip
    for name, text in cautions(found):
        print(f"Caution: {name}. {text}")
    print(to_table(found).markdown())
    print(found.path)
    return 1 if found.failed else 0


def _typed(name: str, others: list[str], texts: list[str], prog: str) -> tuple[Any, dict[str, list[Any]]]:
    """The recipe, and each swept value as the recipe's own parser reads it: 1e-3 is a number, "yes" for a float not."""
    from covidcxnet.experiments.grid import check_key, parse_values
    from covidcxnet.training.arguments import parse_recipe

    refused = {"--resume", "--print-config", "--print_config", "--recipe"}
    for argument in others:
        if argument.partition("=")[0] in refused:
            raise InputError(f"{argument.partition('=')[0]}: is not for a sweep; give the recipe as the first argument")
    base = ["--recipe", name, *others]
    recipe = parse_recipe(base, prog)
    over: dict[str, list[Any]] = {}
    for text in texts:
        key, values = parse_values(text)
        if key in over:
            raise InputError(f"over: {key} is given twice; write all of its values after one --over")
        check_key(key, recipe, models_differ=True)
        over[key] = [_value(parse_recipe([*base, f"--{key}={_yaml(value)}"], prog), key) for value in values]
    return recipe, over


def _value(recipe: Any, key: str) -> Any:
    found: Any = recipe.to_dict()
    for part in key.split("."):
        found = found[part]
    return found


def _yaml(value: Any) -> str:
    import yaml

    if isinstance(value, str):
        return value
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000).strip()
    return text.removesuffix("...").strip()


def _name(recipe: str, over: dict[str, Any]) -> str:
    keys = "-".join(key.rpartition(".")[2] for key in over) or "repeats"
    return f"sweep-{Path(recipe).stem}-{keys}"


def _list(recipe: Any, over: dict[str, Any], repeats: int, folder: Path) -> int:
    from covidcxnet.experiments.grid import plan
    from covidcxnet.experiments.sweep import overview

    print(overview(plan(recipe, over, repeats, folder), tuple(over)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
