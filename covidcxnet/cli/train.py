"""The command `train.py` (and `covidcxnet train`): parse, train or go on with a run, say where the result lies."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

from covidcxnet.training.arguments import parse_recipe
from enhancement import command_line
from enhancement.errors import InputError


def main(argv: Sequence[str] | None = None, prog: str = "train.py") -> int:
    """Train from command-line arguments.

    Returns
    -------
    int
        0 done, 2 the input cannot be used, 130 interrupted by Ctrl-C (the run can be resumed).
    """
    return command_line.run(partial(_train, prog=prog), argv, prog=prog)


def _train(argv: list[str], prog: str) -> int:
    if any(argument.partition("=")[0] == "--resume" for argument in argv) and not {"-h", "--help"} & set(argv):
        return _resume(argv, prog)
    printing = {"--print_config", "--print-config"} & set(argv)
    recipe = parse_recipe(argv, prog)
    if printing:
        print(recipe.to_yaml(), end="")
        return 0
    from covidcxnet.training.trainer import train

    run = train(recipe)
    _say(run, prog)
    return 0


def _resume(argv: list[str], prog: str) -> int:
    parser = command_line.Parser(prog=prog, add_help=False)
    parser.add_argument("--resume", required=True)
    parser.add_argument("--epochs", type=int)
    given, others = parser.parse_known_args(argv)
    if others:
        raise InputError(f"{others[0]}: a resumed run keeps its recipe; only --epochs can be given beside --resume")
    from covidcxnet.training.trainer import train

    run = train(resume=given.resume, epochs=given.epochs)
    _say(run, prog)
    return 0


def _say(run, prog: str) -> None:
    evaluate = "evaluate.py" if prog.endswith("train.py") else prog.replace("train", "evaluate")
    print(f"Run: {run.path}\nBest weights: {run.best_weights}\nNext: {evaluate} {run.path}", file=sys.stdout)


if __name__ == "__main__":
    sys.exit(main())
