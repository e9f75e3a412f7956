"""A lock between processes, in a file beside what it guards; the system frees it however its holder ends."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from enhancement.errors import InputError

# Windows locks bytes and lets nobody else read them: one far behind the number of the process.
_FAR = 1 << 30


@contextmanager
def locked(
    path: str | os.PathLike[str],
    work: str,
    wait: Callable[[], None] | None = None,
    target: str | os.PathLike[str] | None = None,
) -> Iterator[None]:
    """Hold the lock file at `path`, whose folder is there, for a block; the file is gone afterwards.

    Where another process holds it: `InputError` that names `target` (by default the folder), the process and the
    `work` that the lock is for, or, if `wait` is given, one call of it and then patience.
    """
    path = Path(path)
    while True:
        file = open(path, "a+b", buffering=0)  # noqa: SIM115
        free, there = _lock(file), _lies_at(path, file)
        if free and there:
            break
        holder = _holder(file)
        file.close()
        if not there:  # its holder has just ended and taken it away
            continue
        if wait is None:
            raise InputError(f"{path.parent if target is None else target}: {holder} {work}; wait for it or stop it")
        wait()
        wait = _pause
    try:
        file.truncate(0)
        file.seek(0)
        file.write(f"{os.getpid()}\n".encode())
        file.flush()
        yield
    finally:
        # Before it is freed: whoever opened it meanwhile sees that it has no name any more, and makes a new one.
        with suppress(OSError):  # Windows keeps open files
            path.unlink()
        file.close()


def _pause() -> None:
    time.sleep(0.2)


def _lies_at(path: Path, file: FileIO) -> bool:
    """Whether the file that was opened still lies at the path."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except OSError:
        return False


def _holder(file: FileIO) -> str:
    file.seek(0)
    number = file.read(32).strip()
    return f"process {number.decode()}" if number.isdigit() else "another process"


def _lock(file: FileIO) -> bool:
    """Take the lock if nobody has it; where the system knows no locks (some network drives), it counts as taken."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        file.seek(_FAR)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True
