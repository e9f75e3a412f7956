"""Text cells of a CSV, so that every program reads them and no spreadsheet runs them.

What begins as a formula does is written with an apostrophe before, and read without it. Bytes of a file name that are
no UTF-8 are written as Python shows them, as in ``lunge_\\udcfc.png``.
"""

from __future__ import annotations

import re
from typing import Any

# Begins as a formula does, or as one of ours that has been written already; a sign alone is none.
_FORMULA = re.compile(r"'*[=+\-@\t\r].", re.S)


def csv_cell(value: Any) -> Any:
    """A cell as it is written; numbers, also those that are text, stay as they are."""
    if not isinstance(value, str):
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        value = value.encode("utf-8", "backslashreplace").decode()
    if not _FORMULA.match(value):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def plain_cell(value: Any) -> Any:
    """A cell as it was before `csv_cell`."""
    escaped = isinstance(value, str) and value.startswith("'") and _FORMULA.match(value)
    return value[1:] if escaped else value
