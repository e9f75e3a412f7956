"""The command `train.py` (and `covidcxnet train`): train or resume a run, and print where the result is."""

from __future__ import annotations

import shlex
import sys

from covidcxnet.cli._common import NO_PROGRESS, progress_switch
from covidcxnet.training.arguments import SUMMARY, parse_recipe
from enhancement.command_line import Parser, command
from enhancement.errors import InputError


@command("train.py")
@progress_switch
def main(argv: list[str], prog: str) -> int:
    """Train; after Ctrl-C the run can be resumed."""
    # The recipe's parser has no --resume beside other flags: a run folder brings its own recipe.
    help_wanted = bool({"-h", "--help"} & set(argv))
    if any(argument.partition("=")[0] == "--resume" for argument in argv) and not help_wanted:
        parser = Parser(prog=prog, add_help=False)
        parser.add_argument("--resume", required=True)
        parser.add_argument("--epochs", type=int)
        values, others = parser.parse_known_args(argv)
        if others:
            raise InputError(f"{others[0]}: a resumed run keeps its recipe; only --epochs may be given with --resume")
        settings = vars(values)
    else:
        recipe = parse_recipe(argv, prog, f"{SUMMARY} {NO_PROGRESS}")
        if {"--print_config", "--print-config"} & set(argv):
            print(recipe.to_yaml(), end="")
            return 0
        settings = {"recipe": recipe}

    from covidcxnet.training.trainer import train

    run = train(**settings)
    # Not evaluate.py, which is there in a checkout alone, and there only for those who put python before it.
    print(f"Run: {run.path}\nBest weights: {run.best_weights}\nNext: covidcxnet evaluate {shlex.quote(str(run.path))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
