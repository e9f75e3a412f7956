"""The grammar of all command lines: how flags are spelt, how unknown ones are answered, which code ends a command.

Dashes stand in names (``--batch-size``); underscores are accepted, as the same setting has them in YAML and Python.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any, NoReturn

from enhancement.errors import InputError, one_line, shortened

INTERRUPTED = 130  # 128 + SIGINT, as shells report it
ALIASES = {"lr": "learning-rate", "batch": "batch-size", "size": "input.size"}
"""Usual short names, each for a flag that a command may have; a flag of that very name comes first."""


class Help(argparse.HelpFormatter):
    """Help that names every default and keeps paragraphs and indented examples apart."""

    def _get_help_string(self, action):
        text = action.help or ""
        value = action.default
        # Nothing is to be said of a switch that is off or an empty list, nor where the text names the default itself.
        if value is None or value is False or value in ("", [], (), argparse.SUPPRESS) or "default" in text:
            return text
        if isinstance(value, list | tuple):
            value = " ".join(map(str, value))
        return f"{text} (default: {'yes' if value is True else value})"

    def _fill_text(self, text, width, indent):
        import textwrap  # as argparse does: only the help needs it

        paragraphs = text.strip().split("\n\n")
        raw = [any(line.startswith("  ") for line in paragraph.split("\n")) for paragraph in paragraphs]
        filled = [
            p if keep else textwrap.fill(" ".join(p.split()), width) for p, keep in zip(paragraphs, raw, strict=True)
        ]
        return textwrap.indent("\n\n".join(filled), indent)


class Parser(argparse.ArgumentParser):
    """An argument parser in the project's grammar; its errors are `InputError`, in one line.

    Flags are never abbreviated: a new flag would change what an abbreviation means. The nearest ones are named instead.
    """

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **{"allow_abbrev": False, "formatter_class": Help, **options})
        if self.add_help:
            # `run` takes it out of the arguments, so that it works before any parser is built; this is for the help.
            self.add_argument(
                "--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error"
            )

    def add_subparsers(self, **options: Any):
        return super().add_subparsers(**{"parser_class": _Command, **options})

    def parse_known_args(self, args=None, namespace=None):
        return super().parse_known_args(self._spelt(sys.argv[1:] if args is None else args), namespace)

    def parse_args(self, args=None, namespace=None):
        values, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self._refuse(unknown)
        return values

    def error(self, message: str) -> NoReturn:
        # argparse names the Python type, which says nothing to those who type a flag.
        for kind, words in (("int", "a whole number"), ("float", "a number")):
            message = re.sub(rf"invalid {kind} value: (.*)", rf"\1 given, {words} expected", message)
        raise InputError(f"{message.removeprefix('argument ')} (see {self.prog} --help)")

    def _spelt(self, arguments: Sequence[str]) -> list[str]:
        """Arguments up to ``--`` with dashes in the names of flags, and full names for the usual short ones."""
        arguments = list(arguments)
        # What follows "--" is a file name, even one that begins with a dash.
        end = arguments.index("--") if "--" in arguments else len(arguments)
        return [spelling(argument, self._option_string_actions) for argument in arguments[:end]] + arguments[end:]

    def _refuse(self, unknown: Sequence[str]) -> NoReturn:
        flag = next((argument.partition("=")[0] for argument in unknown if argument.startswith("-")), None)
        if flag is None:
            self.error(f"unexpected argument {unknown[0]!r}")
        self.error(f"unknown flag {flag}{did_you_mean(flag, self._option_string_actions)}")

    def _check_value(self, action, value):
        # argparse's own message has no nearest name, and its wording differs between versions of Python.
        if action.choices is None or value in action.choices:
            return
        choices = list(map(str, action.choices))
        if isinstance(action, argparse._SubParsersAction):
            self.error(f"unknown command {value!r}, one of {', '.join(choices)} expected{did_you_mean(value, choices)}")
        name = "/".join(action.option_strings) or action.metavar or action.dest
        self.error(f"{name}: {value!r} given, one of {', '.join(choices)} expected{did_you_mean(str(value), choices)}")


class _Command(Parser):
    """A parser below another: answers unknown flags itself, as only it knows which flags it has."""

    def parse_known_args(self, args=None, namespace=None):
        values, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self._refuse(unknown)
        return values, unknown


def spelling(argument: str, known: Iterable[str]) -> str:
    """One argument with its flag, if it is one, as `known` spells it: dashes, and the usual short names in full."""
    flag, equals, value = argument.partition("=")
    if not flag.startswith("--"):
        return argument
    flag = flag.replace("_", "-")
    alias = f"--{ALIASES.get(flag[2:])}"
    return (alias if flag not in known and alias in known else flag) + equals + value


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``"; did you mean ...?"`` with at most three of the names that begin with `word` or resemble it."""
    import difflib  # only for errors, and slow beside the rest of a command's start

    word = word.lstrip("-").replace("_", "-")
    begin, scores = [], {}
    for flag in sorted(known):
        name = flag.lstrip("-").replace("_", "-")
        # A nested key is also found by its last part: --rotation is near --augment.rotation.
        parts = {name} if "." in word else {name, name.rpartition(".")[2]}
        begin += [flag] if word and any(part.startswith(word) for part in parts) else []
        scores[flag] = max(difflib.SequenceMatcher(None, word, part).ratio() for part in parts)
    # 0.6 is what difflib itself calls close.
    enough = max(0.6, max(scores.values(), default=0) - 0.1)
    near = (begin or sorted((flag for flag in scores if scores[flag] >= enough), key=lambda flag: -scores[flag]))[:3]
    if not near:
        return ""
    *others, last = near
    return f"; did you mean {', '.join(others)}{' or ' if others else ''}{last}?"


def command(prog: str) -> Callable[[Callable[..., int | None]], Callable[..., int]]:
    """Decorator that makes ``main(argv=None, prog=prog) -> exit code`` of ``work(arguments, prog)``, by `run`."""

    def decorate(work: Callable[..., int | None]) -> Callable[..., int]:
        @wraps(work)
        def main(argv: Sequence[str] | None = None, prog: str = prog) -> int:
            # The same command has two names: train.py, and covidcxnet train.
            return run(partial(work, prog=prog), argv, prog=prog)

        return main

    return decorate


def run(command: Callable[[list[str]], int | None], argv: Sequence[str] | None = None, *, prog: str) -> int:
    """Call ``command(arguments) -> exit code`` (None counts as 0) and turn what ends it into an exit code.

    The command's code, or 2 after an `InputError` or a file that the system refuses (one line on stderr that begins
    with `prog`; ``--debug``, taken out here, puts the traceback before it); 130 after Ctrl-C, 143 after SIGTERM; 0
    when the reader of a pipe has gone. `argv` is `sys.argv` by default.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    with ended_in_order() as signals:
        try:
            try:
                return command([argument for argument in arguments if argument != "--debug"]) or 0
            finally:
                # A pipe that `head` has closed shows here; at the interpreter's exit it would be a traceback. By
                # `print`, as a program that was started without standard output has no `sys.stdout`.
                print(end="", flush=True)
        except BrokenPipeError:
            # What is still buffered has no reader: the exit's flush writes it nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except (InputError, OSError) as error:
            if debug:
                import traceback  # slow beside the rest of a command's start

                traceback.print_exc()
            text = str(error)
            # A folder that may not be written, a full disk: nothing that a traceback would explain.
            if isinstance(error, OSError):
                text = (f"{error.filename}: " if error.filename else "") + (error.strerror or text)
            print(f"{prog}: error: {shortened(one_line(text))}", file=sys.stderr)
            return 2
        except KeyboardInterrupt as interrupt:
            # The interrupted work may say how to resume it.
            print(f"\n{prog}: {one_line(interrupt) or 'interrupted'}", file=sys.stderr)
            return 128 + signals[0] if signals else INTERRUPTED


@contextmanager
def ended_in_order() -> Iterator[list[int]]:
    """Within it SIGTERM, as from a job scheduler, is what Ctrl-C is, so that no processes and partial files are left.

    Gives the list of signals so far; where the work lets the interrupt pass, `SystemExit` of 143 follows. A program's
    own handler stays.
    """
    signals: list[int] = []

    def end(number: int, frame: Any) -> None:
        signals.append(number)
        raise KeyboardInterrupt

    # Only the main thread has signals.
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield signals
        return
    signal.signal(signal.SIGTERM, end)
    try:
        yield signals
    except KeyboardInterrupt:
        if signals:
            raise SystemExit(128 + signals[0]) from None
        raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def add_progress(parser: argparse.ArgumentParser) -> None:
    """``--progress`` and ``--no-progress``, ``--quiet`` for short."""
    parser.add_argument("--progress", action=argparse.BooleanOptionalAction, default=True, help="show progress bars")
    text = "the same as --no-progress"
    parser.add_argument("--quiet", dest="progress", action="store_false", default=argparse.SUPPRESS, help=text)


def add_engine(parser: Any, what: str = "the networks", precisions: Sequence[str] = ("f32", "bf16", "int8")) -> None:
    """What runs `what`: ``--engine``, and ``--precision`` where there is a choice of it."""
    # Written out, as --help does without the engines' module.
    text = f"what runs {what}; default auto: OpenVINO for released and converted weights, otherwise Keras"
    parser.add_argument("--engine", choices=("auto", "keras", "openvino", "onnxruntime"), help=text)
    if precisions:
        int8 = ", int8 a network from covidcxnet export" if "int8" in precisions else ""
        text = f"number format of OpenVINO; bf16 needs a processor that has it{int8}"
        parser.add_argument("--precision", choices=precisions, default="f32", help=text)


def at_least(lowest: int, highest: int | None = None, word: str = "") -> Callable[[str], Any]:
    """A type of argparse: a whole number in a range, or one word."""

    def number(text: str) -> int | str:
        if word and text == word:
            return text
        # int() also takes "1_0" and the digits of other scripts.
        value = int(text) if text.isascii() and text.removeprefix("-").isdigit() else None
        if value is None or value < lowest or (highest is not None and value > highest):
            to = "" if highest is None else f" to {highest}"
            other = f"{word} or " if word else ""
            raise argparse.ArgumentTypeError(f"{text!r} given, {other}a whole number from {lowest}{to} expected")
        return value

    return number


def named_values(pairs: Sequence[str], flag: str) -> dict[str, list[str]]:
    """Values of a repeatable flag ``COLUMN=VALUE[,VALUE]``, by column; `InputError` for anything else."""
    values = {}
    for pair in pairs:
        column, equals, text = pair.partition("=")
        if not equals or not column or not text:
            raise InputError(f"{flag}: {pair!r} given, COLUMN=VALUE[,VALUE] expected")
        values[column] = text.split(",")
    return values
