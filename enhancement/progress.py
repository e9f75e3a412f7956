"""Progress on standard error: a bar on a terminal, a plain line every so often in a notebook, log file or batch job."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

FIRST, EVERY = 5.0, 60.0  # seconds to the first plain line, and between the others
_BEGUN = "{desc}: {n_fmt} of {total_fmt} {unit}s, {elapsed} so far{postfix}"
_LINE = _BEGUN.replace("{postfix}", ", {remaining} left{postfix}")
_FIRST_STEPS = 5  # of which the first compiles a network: the time left, reckoned from it, would be hours


class ProgressBar(tqdm):
    """A `tqdm` bar that prints whole lines where standard error is no terminal; short work prints none."""

    hidden = False  # whether every bar is off, by ``--no-progress``

    def __init__(self, *args: Any, **options: Any):
        self.plain = sys.stderr is None or not sys.stderr.isatty()
        if self.plain:
            # miniters: or tqdm, which looks at the clock after ever more steps, could be late by minutes
            options |= {"mininterval": FIRST, "miniters": 1, "leave": False, "bar_format": _BEGUN}
        options |= {"disable": True} if self.hidden else {}
        super().__init__(*args, **{"file": sys.stderr, **options})

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Draw the bar, or print a line after the first steps."""
        if not self.plain:
            super().display(msg, pos)
        elif self.n:
            self.bar_format = _BEGUN if self.n < _FIRST_STEPS else _LINE
            print(self, file=sys.stderr, flush=True)
            self.mininterval = EVERY

    def close(self) -> None:
        """End the bar; tqdm would write a carriage return into a log file."""
        if self.plain and not self.disable:
            self.disable = True
            self._decr_instances(self)  # type: ignore[attr-defined]  # not in the stubs; tqdm's own close does it
        else:
            super().close()
