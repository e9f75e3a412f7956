"""The command `covidcxnet find-lr`: a learning-rate range test of a recipe, with its plot and a suggested value."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from covidcxnet.training.arguments import named_first, parse_recipe
from enhancement import command_line
from enhancement.files import check_output

SUMMARY = """Find a learning rate: train with a rate that grows from step to step and suggest where the loss falls most
steeply (Smith 2017). usage: covidcxnet find-lr [RECIPE] [--lowest 1e-7] [--highest 1] [--steps 200] [flags of train].

Writes learning_rate.png and learning_rate.csv to --out (by default a folder under runs/). Model, images, augmentation
and loss are the recipe's; its schedule is left out and no weights are saved."""
REFUSED = {
    "resume": "a range test begins from initial weights; give the recipe",
    "print_config": "train --print_config shows the recipe",
}


def main(argv: Sequence[str] | None = None, prog: str = "covidcxnet find-lr") -> int:
    """Run a range test from command-line arguments.

    Returns
    -------
    int
        0 done, 1 done but the loss falls nowhere clearly enough to suggest a rate, 2 the input cannot be used, 130
        interrupted.
    """
    return command_line.run(partial(_find, prog=prog), argv, prog=prog)


def _find(argv: list[str], prog: str) -> int:
    parser = command_line.Parser(prog=prog, add_help=False)
    parser.add_argument("--lowest", type=float, default=1e-7)
    parser.add_argument("--highest", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=200)
    given, others = parser.parse_known_args(named_first(argv))
    recipe = parse_recipe(others, prog, SUMMARY, REFUSED)
    folder = Path(recipe.out) if recipe.out else Path("runs") / f"find-lr-{recipe.model}"
    check_output(folder, folder=True)
    from covidcxnet.training.lr_finder import range_test
    from covidcxnet.training.lr_plot import draw_range_test, save_range_test

    found = range_test(recipe, lowest=given.lowest, highest=given.highest, steps=given.steps)
    table = save_range_test(found, folder / "learning_rate.csv")
    picture = draw_range_test(
        found, folder / "learning_rate.png", title=f"{recipe.model}, batches of {recipe.batch_size}"
    )
    end = found.rates[-1]
    print(f"{len(found.rates)} steps from {found.rates[0]:.2g} to {end:.2g}" + (", where it diverged" * found.diverged))
    print(f"Plot: {picture}\nTable: {table}")
    if found.suggested is None:
        print(
            "no rate suggested: the loss falls nowhere clearly more than batches differ; look at the plot, or give "
            "more --steps or a larger --batch_size",
            file=sys.stderr,
        )
        return 1
    print(f"Suggested, where the smoothed loss falls most steeply: --learning_rate {found.suggested:g}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
