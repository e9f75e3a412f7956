"""The command `covidcxnet find-lr`: a learning-rate range test of a recipe, with its plot and a suggested value."""

from __future__ import annotations

import sys
from pathlib import Path

from covidcxnet.cli._common import LUNG_ENGINE, NO_PROGRESS, lung_engine, progress_switch
from covidcxnet.training.arguments import named_first, parse_recipe
from enhancement.command_line import Parser, command
from enhancement.files import check_output

SUMMARY = f"""Find a learning rate: train with a rate that grows from step to step, and suggest where the loss falls
most steeply (Smith 2017). usage: covidcxnet find-lr [RECIPE] [--lowest 1e-7] [--highest 1] [--steps 200] [flags of
train].

Writes learning_rate.png and learning_rate.csv to --out (by default a folder under runs/). Model, images, augmentation
and loss are the recipe's; its schedule is left out and no weights are saved. {LUNG_ENGINE} {NO_PROGRESS}"""
# Flags of train that mean nothing to a range test.
REFUSED = {
    "resume": "a range test begins from initial weights; give the recipe",
    "devices": "a range test runs on one device",
    "print_config": "train --print-config shows the recipe",
}


@command("covidcxnet find-lr")
@progress_switch
def main(argv: list[str], prog: str) -> int:
    """Run a range test: 0 done, 1 done but the loss falls nowhere clearly enough to suggest a rate."""
    engine, argv = lung_engine(argv, prog)
    # --help goes on to `parse_recipe`, which shows the flags of train below this summary.
    parser = Parser(prog=prog, add_help=False)
    parser.add_argument("--lowest", type=float, default=1e-7)
    parser.add_argument("--highest", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=200)
    values, others = parser.parse_known_args(named_first(argv))
    recipe = parse_recipe(others, prog, SUMMARY, REFUSED)
    folder = Path(recipe.out) if recipe.out else Path("runs") / f"find-lr-{recipe.model}"
    # Before the steps are trained, not after them.
    check_output(folder, folder=True)

    from covidcxnet.training.lr_finder import draw_range_test, range_test, save_range_test

    test = range_test(recipe, lowest=values.lowest, highest=values.highest, steps=values.steps, engine=engine)
    table = save_range_test(test, folder / "learning_rate.csv")
    title = f"{recipe.model}, batches of {recipe.batch_size}"
    picture = draw_range_test(test, folder / "learning_rate.png", title=title)
    last = f"{test.rates[-1]:.2g}" + (", where it diverged" * test.diverged)
    print(f"{len(test.rates)} steps from {test.rates[0]:.2g} to {last}")
    print(f"Plot: {picture}\nTable: {table}")
    if test.suggested is None:
        print(
            "no rate suggested: the loss never falls by clearly more than batches differ; look at the plot, or give "
            "more --steps or a larger --batch-size",
            file=sys.stderr,
        )
        return 1
    print(f"Suggested, where the smoothed loss falls most steeply: --learning-rate {test.suggested:g}")
    return 0
