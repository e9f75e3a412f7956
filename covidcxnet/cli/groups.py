"""The command `covidcxnet groups`: a recipe on raw, augmented, and balanced and augmented data, on one split."""

from __future__ import annotations

from pathlib import Path

from covidcxnet.cli._common import RESEARCH_ONLY, add_bootstrap
from covidcxnet.training.arguments import named_first, parse_recipe
from enhancement.command_line import Parser, command

SUMMARY = f"""Train a recipe on the three data groups of the pediatric pneumonia study: raw, augmented, balanced (by
oversampling) and augmented; evaluate them on the same test images and compare. usage: covidcxnet groups [RECIPE]
[--balance oversample|undersample] [--published] [--bootstrap 2000] [flags of train].

--out names the folder (by default one under runs/) with a run for each group, comparison.html, comparison.csv,
comparison.md and groups.png. The same command resumes where it was stopped. {RESEARCH_ONLY}"""
_DECIDED = "the groups decide it; --balance undersample balances the other way"
REFUSED = {
    "sampling": _DECIDED,
    "class_weights": _DECIDED,
    "resume": "give the same command again, and it resumes",
    "print_config": "the groups are three recipes; train --print-config shows what they share",
}


@command("covidcxnet groups")
def main(argv: list[str], prog: str) -> int:
    """Train and compare the groups; the same command resumes."""
    parser = Parser(prog=prog, add_help=False)
    parser.add_argument("--balance", choices=("oversample", "undersample"), default="oversample")
    parser.add_argument("--published", action="store_true")
    add_bootstrap(parser)
    values, others = parser.parse_known_args(named_first(argv))
    recipe = parse_recipe(others, prog, SUMMARY, REFUSED)
    folder = Path(recipe.out) if recipe.out else Path("runs") / f"groups-{recipe.model}"

    from covidcxnet.experiments.compare_page import tables
    from covidcxnet.experiments.sweep import train_groups

    options = {"sampling": values.balance, "published": values.published, "bootstrap": values.bootstrap}
    groups = train_groups(recipe, folder, **options)
    for caution in groups.comparison.cautions:
        print(f"Caution: {caution.title}. {caution.text}")
    print(*(table.markdown() for table in tables(groups.comparison.rows)), sep="\n\n")
    print(f"Plot: {groups.picture}")
    print(groups.path)
    return 0
