"""The command `covidcxnet groups`: a recipe on raw, augmented, and balanced and augmented data, on one split."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from covidcxnet.training.arguments import named_first, parse_recipe
from enhancement import command_line

SUMMARY = """Train a recipe on the three data groups of the pediatric pneumonia study: raw, augmented, balanced (by
oversampling) and augmented; evaluate them on the same test images and compare. usage: covidcxnet groups [RECIPE]
[--balance oversample|undersample] [--published] [--bootstrap 2000] [flags of train].

--out names the folder (by default one under runs/) with a run for each group, comparison.html, comparison.csv,
comparison.md and groups.png. The same command goes on where it was stopped. A research tool, not a medical device."""
_DECIDED = "the groups decide it; --balance undersample balances the other way"
REFUSED = {
    "sampling": _DECIDED,
    "class_weights": _DECIDED,
    "resume": "give the same command again, and it goes on",
    "print_config": "the groups are three recipes; train --print_config shows what they share",
}


def main(argv: Sequence[str] | None = None, prog: str = "covidcxnet groups") -> int:
    """Train and compare the groups from command-line arguments.

    Returns
    -------
    int
        0 done, 2 the input cannot be used, 130 interrupted; the same command goes on.
    """
    return command_line.run(partial(_groups, prog=prog), argv, prog=prog)


def _groups(argv: list[str], prog: str) -> int:
    parser = command_line.Parser(prog=prog, add_help=False)
    parser.add_argument("--balance", choices=("oversample", "undersample"), default="oversample")
    parser.add_argument("--published", action="store_true")
    parser.add_argument("--bootstrap", type=int, default=2000)
    given, others = parser.parse_known_args(named_first(argv))
    recipe = parse_recipe(others, prog, SUMMARY, REFUSED)
    folder = Path(recipe.out) if recipe.out else Path("runs") / f"groups-{recipe.model}"
    from covidcxnet.experiments.compare_page import tables
    from covidcxnet.experiments.sweep import train_groups

    groups = train_groups(recipe, folder, sampling=given.balance, published=given.published, bootstrap=given.bootstrap)
    for caution in groups.comparison.cautions:
        print(f"Caution: {caution.title}. {caution.text}")
    print(*(table.markdown() for table in tables(groups.comparison.rows)), sep="\n\n")
    print(f"Plot: {groups.picture}")
    print(groups.path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
