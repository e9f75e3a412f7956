"""The command `train.py` (and `covidcxnet train`): train or resume a run, and print where the result is."""

from __future__ import annotations

import shlex
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from covidcxnet.cli._common import LUNG_ENGINE, NO_PROGRESS, lung_engine, progress_switch
from covidcxnet.training.arguments import SUMMARY, load_recipe, parse_recipe
from covidcxnet.training.distributed import join, leave, processes
from enhancement.command_line import Parser, at_least, command
from enhancement.errors import InputError


def main(argv: Sequence[str] | None = None, prog: str = "train.py") -> int:
    """The command; a process of several ends with them."""
    try:
        code = _train(argv, prog)
    except Exception:
        if processes().count == 1:
            raise
        traceback.print_exc()
        code = 1
    return leave(code)


@command("train.py")
@progress_switch
def _train(argv: list[str], prog: str) -> int:
    """Train; after Ctrl-C the run can be resumed."""
    engine, argv = lung_engine(argv, prog)
    # The recipe's parser has no --resume beside other flags: a run folder brings its own recipe.
    help_wanted = bool({"-h", "--help"} & set(argv))
    if any(argument.partition("=")[0] == "--resume" for argument in argv) and not help_wanted:
        parser = Parser(prog=prog, add_help=False)
        parser.add_argument("--resume", required=True)
        parser.add_argument("--epochs", type=int)
        parser.add_argument("--devices", type=at_least(1))
        values, others = parser.parse_known_args(argv)
        if others:
            allowed = "only --epochs, --devices and --engine may be given with --resume"
            raise InputError(f"{others[0]}: a resumed run keeps its recipe; {allowed}")
        settings = vars(values)
        file = Path(values.resume) / "recipe.yaml"
        devices = values.devices or (load_recipe(file).devices if file.is_file() else 1)
    else:
        recipe = parse_recipe(argv, prog, f"{SUMMARY} {LUNG_ENGINE} {NO_PROGRESS}")
        if {"--print_config", "--print-config"} & set(argv):
            print(recipe.to_yaml(), end="")
            return 0
        settings, devices = {"recipe": recipe}, recipe.devices

    group = join(devices)  # before the trainer loads Keras, which then computes something
    from covidcxnet.training.trainer import train

    run = train(**settings, engine=engine)
    if not group.leads:
        return 0
    # Not evaluate.py, which is there in a checkout alone, and there only for those who put python before it.
    print(f"Run: {run.path}\nBest weights: {run.best_weights}\nNext: covidcxnet evaluate {shlex.quote(str(run.path))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
