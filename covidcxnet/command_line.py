"""What every command line of this project shares: one line and exit code 2 for input that cannot be used."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence

from enhancement.errors import InputError

INTERRUPTED = 130


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
        The command's own code; 2 after an `InputError` (one line on stderr, with ``--debug`` the traceback before it);
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
    except KeyboardInterrupt as interrupt:
        # What was being done may say how to go on with it.
        print(f"\n{prog}: {one_line(interrupt) or 'interrupted'}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe, such as head, has gone
        sys.stderr.close()
        return 0


def one_line(error: BaseException) -> str:
    """An exception's message without line breaks."""
    return " ".join(str(error).split())
