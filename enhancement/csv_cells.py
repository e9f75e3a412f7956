"""Text cells of a CSV that a spreadsheet would run as a formula: written with an apostrophe before, read without it."""

from __future__ import annotations

import re
from typing import Any

# Begins as a formula does, or as one of ours that has been written already; a sign alone is none.
_FORMULA = re.compile(r"'*[=+\-@\t\r].", re.S)


def csv_cell(value: Any) -> Any:
    """A cell as it is written; numbers, also those that are text, stay as they are."""
    if not isinstance(value, str) or not _FORMULA.match(value):
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
