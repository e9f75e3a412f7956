"""Progress on standard error: a bar on a terminal, a plain line every so often in a notebook, log file or batch job."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

from tqdm import tqdm

PATIENCE = 2.0  # seconds after which somebody who waits wonders what for
FIRST, EVERY = 5.0, 60.0  # seconds to the first plain line, and between the others
_BEGUN = "{desc}: {n_fmt} of {total_fmt} {unit}, {elapsed} so far{postfix}"
_LINE = _BEGUN.replace("{postfix}", ", {remaining} left{postfix}")
_ENDLESS = _BEGUN.replace(" of {total_fmt}", "")
_COMPILING = "first step, compiling the network"
_FIRST_STEPS = 5  # of which the first compiles a network: the time left, reckoned from it, would be hours


class ProgressBar(tqdm):
    """A `tqdm` bar that prints whole lines where standard error is no terminal; short work prints none.

    With `compiles` the first step also compiles the network. Where that takes a while the bar says so, and how long it
    took, and leaves it out of the time that it reckons with.
    """

    hidden = False  # whether every bar is off, by ``--no-progress``

    def __init__(self, *args: Any, compiles: bool = False, **options: Any):
        self.plain = sys.stderr is None or not sys.stderr.isatty()
        if self.plain:
            # miniters: or tqdm, which looks at the clock after ever more steps, could be late by minutes
            options |= {"mininterval": FIRST, "miniters": 1, "leave": False, "bar_format": _BEGUN}
            unit = options.get("unit", "step")
            options["unit"] = f"{unit}es" if unit.endswith("ch") else f"{unit}s"
        options |= {"disable": True} if self.hidden else {}
        super().__init__(*args, **{"file": sys.stderr, **options})
        self.begun, self.compiles, self.waiting = time.monotonic(), compiles and not self.disable, ExitStack()
        if self.compiles and self.plain:
            self.waiting.enter_context(announced(f"{self.desc}: {_COMPILING}", progress=True, after=PATIENCE))
        elif self.compiles:
            self.set_postfix_str(_COMPILING)

    def __iter__(self) -> Iterator[Any]:
        """The items, each counted when it is done."""
        if not self.plain or self.disable:
            yield from super().__iter__()
            return
        # tqdm's own loop remembers the first interval: once that grows, it counts the same steps again and again.
        try:
            for item in self.iterable:
                yield item
                self.update()
        finally:
            self.close()

    def update(self, n: float | None = 1) -> bool | None:
        """Count steps."""
        if self.compiles:
            self.compiles = False
            self.waiting.close()
            self.set_postfix_str("", refresh=False)
            self.unpause()
            if (seconds := time.monotonic() - self.begun) >= PATIENCE:
                text = f"{self.desc}: first step {seconds:.0f} s, with compiling; the others are shorter"
                (print if self.plain else self.write)(text, file=sys.stderr)
        return super().update(n)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Draw the bar, or print a line after the first steps."""
        if not self.plain:
            super().display(msg, pos)
        elif self.n:
            if self.total is None or self.n > self.total:
                self.bar_format = _ENDLESS
            else:
                self.bar_format = _BEGUN if self.n < _FIRST_STEPS else _LINE
            print(self, file=sys.stderr, flush=True)
            self.mininterval = EVERY

    def close(self) -> None:
        """End the bar; tqdm would write a carriage return into a log file."""
        if hasattr(self, "waiting"):  # tqdm also closes a bar that it could not begin
            self.waiting.close()
        if self.plain and not self.disable:
            self.disable = True
            self._decr_instances(self)  # type: ignore[attr-defined]  # not in the stubs; tqdm's own close does it
        else:
            super().close()


# tqdm's own lock is one between processes: a worker that is ended would leak its semaphore.
ProgressBar.set_lock(threading.RLock())


def interactive() -> bool:
    """Whether somebody waits for the result: a terminal, an interpreter or a notebook, and no batch job."""
    return hasattr(sys, "ps1") or (sys.stderr is not None and sys.stderr.isatty())


def announce(text: str, progress: bool = False) -> None:
    """Print a line on standard error; nothing where nobody waits, unless `progress` is on."""
    if _awaited(progress):
        print(f"{text} ...", file=sys.stderr, flush=True)


@cache
def note(text: str) -> None:
    """Print a line on standard error, once in a process: a folder may be searched several times."""
    print(text, file=sys.stderr)


@contextmanager
def announced(text: str, progress: bool = False, after: float = PATIENCE) -> Iterator[None]:
    """`announce` a text if the block takes longer than so many seconds; 0 does it at once."""
    # Not through a thread: the backend's notices are held back together with whatever else is printed meanwhile.
    if not after:
        announce(text, progress)
    if not after or not _awaited(progress):
        yield
        return
    timer = threading.Timer(after, print, (f"{text} ...",), {"file": sys.stderr, "flush": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _awaited(progress: bool) -> bool:
    return sys.stderr is not None and not ProgressBar.hidden and (progress or interactive())
