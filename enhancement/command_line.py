"""What all command lines share: how flags are spelt, and one line and exit code 2 for input that cannot be used."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from enhancement.errors import InputError

INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are `InputError`, and that takes ``--batch_size`` for ``--batch-size``."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **{"allow_abbrev": False, **options})

    def parse_known_args(self, args=None, namespace=None):
        return super().parse_known_args(list(_with_dashes(sys.argv[1:] if args is None else args)), namespace)

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see --help)")


def run(command: Callable[[list[str]], int | None], argv: Sequence[str] | None = None, *, prog: str) -> int:
    """Call a command and turn what ends it into an exit code.

    Parameters
    ----------
    command : callable
        ``command(arguments) -> exit code``; None counts as 0.
    argv : sequence of str, optional
        Arguments after the program's name; `sys.argv` by default. ``--debug`` is taken out here.
    prog : str
        Name before the error line.

    Returns
    -------
    int
        The command's own code; 2 after an `InputError`, or a file or folder that the system refuses (one line on
        stderr, with ``--debug`` the traceback before it);
        130 after Ctrl-C.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        return command(arguments) or 0
    except InputError as error:
        if debug:
            traceback.print_exc()
        print(f"{prog}: error: {one_line(error)}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of a pipe, such as head, has gone
        sys.stderr.close()
        return 0
    except OSError as error:
        if debug:
            traceback.print_exc()
        # A place that may not be written, a full disk: nothing that a traceback would explain.
        what = f"{error.filename}: " if error.filename else ""
        print(f"{prog}: error: {what}{one_line(error.strerror or error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        # What was being done may say how to go on with it.
        print(f"\n{prog}: {one_line(interrupt) or 'interrupted'}", file=sys.stderr)
        return INTERRUPTED


def aligned(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Lines of a table of text, columns two spaces apart; those with the numbers in `right` end together."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = enumerate(zip(row, widths, strict=True))
        line = "  ".join(text.rjust(width) if k in right else text.ljust(width) for k, (text, width) in cells)
        lines.append(line.rstrip())
    return "\n".join(lines)


def named_values(pairs: Sequence[str], flag: str) -> dict[str, list[str]]:
    """What a repeatable flag says as ``COLUMN=VALUE[,VALUE]``; `InputError` for anything else."""
    found = {}
    for pair in pairs:
        column, equals, values = pair.partition("=")
        if not equals or not column or not values:
            raise InputError(f"{flag}: {pair!r} given, COLUMN=VALUE[,VALUE] expected")
        found[column] = values.split(",")
    return found


def one_line(error: object) -> str:
    """A message without line breaks."""
    return " ".join(str(error).split())


def _with_dashes(argv: Sequence[str]) -> Iterator[str]:
    flags = True
    for argument in argv:
        flags = flags and argument != "--"
        name, equals, value = argument.partition("=")
        yield name.replace("_", "-") + equals + value if flags and name.startswith("--") else argument
