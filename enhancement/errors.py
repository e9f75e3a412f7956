"""Errors that a user can mend: a command line shows their one line and no traceback."""

import re
import unicodedata
from collections.abc import Iterable


class InputError(ValueError):
    """What was given cannot be used.

    The message names the file or key, what was found, what was expected and what to do. Command lines print it
    as one line and exit with code 2 (``--debug`` shows the traceback).
    """


def one_line(error: object) -> str:
    """A message without line breaks: file names and other libraries' messages may bring some."""
    return " ".join(str(error).split())


def shortened(text: str, most: int = 400) -> str:
    """A message without the middle of one that is too long for a screen: the file begins it, the remedy ends it."""
    if len(text) <= most:
        return text
    # Cut between words, unless a word is as long as a path.
    start, end = re.sub(r"\s\S{0,40}$", "", text[: most - 120]), re.sub(r"^\S{0,40}\s", "", text[-115:])
    return f"{start} ... {end}"


def listed(words: Iterable[object], most: int = 5) -> str:
    """The first few of some words, as a sentence has them, and how many more there are."""
    texts = [str(word) for word in words]
    return ", ".join(texts[:most]) + (f" and {len(texts) - most:,} more" if len(texts) > most else "")


def printable(text: object) -> str:
    """A file name may hold bytes that no terminal encoding takes, and line breaks that would break a table."""
    safe = str(text).encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in safe)


def has_controls(text: str) -> bool:
    """Whether a text holds line breaks, tabs or other control characters, which garble tables and terminals."""
    return any(unicodedata.category(c) in ("Cc", "Zl", "Zp") for c in text)


class RadiographError(InputError):
    """A file that cannot be read as one radiograph: `path` as the caller named it, and `reason` for a user."""

    def __init__(self, path, reason: str):
        self.path = str(path)
        self.reason = reason
        super().__init__(f"{self.path}: {reason}")

    def __reduce__(self):
        return (type(self), (self.path, self.reason))


class Refusal(Exception):
    """Why some bytes are no radiograph; `enhancement.read_radiograph` adds the file's name. Never reaches a user."""
