"""One file over HTTP, whole and verified or not at all: resumed, retried, and never by two processes at once.

The file grows beside its target as ``NAME.partial`` and takes its name after it was verified.
"""

from __future__ import annotations

import http.client
import os
import re
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tqdm import tqdm

from enhancement.errors import one_line
from enhancement.lock import locked

from .manifest import WeightsError

ATTEMPTS = 5
"""Tries in a row that may bring nothing new before the download is given up."""

PATIENCE = 0.5
"""Seconds before the second try; doubled for each further one."""

TIMEOUT = 30.0
"""Seconds without a byte until a connection counts as dead."""

SLOWEST = 1000
"""Bytes a second below which a download is given up: a server that sends one at a time would else never be."""

_STRETCH = 60.0  # seconds over which that is measured
_BLOCK = 1 << 18
# Where the manifest gives no size: a server must not fill the disk.
_MOST_BYTES = 2 << 30
# 64 bits hold 18 digits; of some 4,300 `int` would raise.
_NUMBER = "[0-9]{1,18}"
# ValueError: addresses and lengths that are none.
_BROKEN = (OSError, http.client.HTTPException, ValueError)
# Answers of a server that is busy or starting; all others, 404 among them, will be the same next time.
_RETRIED = (408, 425, 429, 500, 502, 503, 504)


class DownloadError(WeightsError):
    """A file that could not be had."""


class _Interrupted(Exception):
    """This try ended early; the next may go on from what there is."""

    tries = ATTEMPTS


class _NoNetwork(_Interrupted):
    """The server's name is not known: most likely there is no network."""

    tries = 2


def download(
    url: str,
    target: Path,
    verify: Callable[[Path], None],
    *,
    size: int | None = None,
    progress: bool = True,
) -> Path:
    """Download `url` (http or https) to `target`, making folders; a valid file that another process put there is
    kept.

    ``verify(path)`` raises `WeightsError` if the content is not what is wanted; a server that sends more than `size`
    bytes is cut off. Raises `DownloadError` after `ATTEMPTS` tries without progress, or if the content is wrong: that
    download is deleted.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        waiting = f"waiting for another process that fetches {target.name}"
        with locked(target.with_name(f".{target.name}.lock"), "", lambda: print(waiting, file=sys.stderr)):
            if target.is_file():
                with suppress(WeightsError):
                    verify(target)
                    return target
            return _get(url, target, verify, size, progress)
    except OSError as error:
        raise DownloadError(f"{target} cannot be written ({error.strerror or error})") from error


def _get(url: str, target: Path, verify: Callable[[Path], None], size: int | None, progress: bool) -> Path:
    partial = target.with_name(f"{target.name}.partial")
    # What an earlier process left may belong to another version of the file: then once more from the start.
    resumed = partial.is_file() and partial.stat().st_size > 0
    while True:
        _fill(url, partial, size, progress)
        try:
            verify(partial)
        except WeightsError as error:
            partial.unlink(missing_ok=True)
            if resumed:
                resumed = False
                continue
            reason = str(error).replace(str(partial), "what came")
            raise DownloadError(f"downloaded from {url}, but {reason}; the download was deleted") from error
        os.replace(partial, target)
        return target


def _fill(url: str, partial: Path, size: int | None, progress: bool) -> None:
    """Bring the partial file to its end, over as many connections as it takes."""
    idle, most = 0, _length(partial)
    while True:
        try:
            return _connect(url, partial, size, progress)
        except _Interrupted as error:
            now = _length(partial)
            idle = 0 if now > most else idle + 1  # a server that begins anew each time may fall short of it for ever
            most = max(most, now)
            if idle >= error.tries:
                rest = f"; {now:,} bytes are kept for the next try" if now else ""
                raise DownloadError(f"cannot be downloaded ({error}{rest})") from error
            time.sleep(PATIENCE * 2 ** max(0, idle - 1))


def _connect(url: str, partial: Path, size: int | None, progress: bool) -> None:
    """One connection; returns when the file is complete, raises `_Interrupted` when it is worth another try."""
    start = _length(partial)
    if size is not None and start >= size:
        if start == size:
            return
        partial.unlink()
        start = 0
    # Uncompressed: offsets of a range count the bytes that are sent.
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity", "User-Agent": "covidcxnet"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        answer = f"{error.code} {one_line(error.reason)}"
        if error.code == 416 and start:  # nothing after what we have: complete, or of another version
            if _total(error.headers.get("Content-Range")) == start:
                return
            partial.unlink(missing_ok=True)
            raise _Interrupted("the server has another version") from error
        if error.code in _RETRIED:
            raise _Interrupted(f"the server answers {answer}") from error
        raise DownloadError(f"cannot be downloaded (the server answers {answer})") from error
    except _BROKEN as error:
        reason = getattr(error, "reason", error)
        kind = _NoNetwork if isinstance(reason, socket.gaierror) else _Interrupted
        raise kind(one_line(reason) or type(error).__name__) from error
    with response:
        begin, total = _begin(response, start)
        if begin is None:
            partial.unlink(missing_ok=True)
            raise _Interrupted("the server sends another part of the file than was asked for")
        if size is not None and total is not None and total != size:
            raise DownloadError(f"the server offers {total:,} bytes, {size:,} expected")
        _copy(response, partial, begin, total or size, total if size is None else size, progress)


def _begin(response, start: int) -> tuple[int | None, int | None]:
    """Where the response's bytes belong (None: nowhere) and how long the whole file is, if the server says so."""
    header = response.headers.get("Content-Length") or ""
    length = int(header) if re.fullmatch(_NUMBER, header) else None
    if response.status == 206:
        match = re.match(rf"bytes ({_NUMBER})-", response.headers.get("Content-Range", ""))
        if match and int(match.group(1)) == start:
            total = _total(response.headers.get("Content-Range"))
            return start, total if total is not None or length is None else start + length
        return None, None
    return 0, length  # the range was ignored: from the start


def _copy(response, partial: Path, start: int, shown: int | None, most: int | None, progress: bool) -> None:
    done = before = start
    since = time.monotonic()
    with (
        open(partial, "r+b" if start else "wb") as file,
        tqdm(
            total=shown, initial=start, desc=partial.stem, unit="B", unit_scale=True, disable=not progress, leave=False
        ) as bar,
    ):
        file.seek(start)
        while True:
            try:
                block = response.read1(_BLOCK)
            except http.client.IncompleteRead as error:
                file.write(error.partial)
                raise _Interrupted("the connection was cut") from error
            except _BROKEN as error:
                raise _Interrupted(one_line(error) or "the connection was cut") from error
            if not block:
                break
            file.write(block)
            done += len(block)
            bar.update(len(block))
            if (now := time.monotonic()) - since > _STRETCH:
                if done - before < SLOWEST * _STRETCH:
                    raise DownloadError(
                        f"the server sends less than {SLOWEST:,} bytes a second; {done:,} bytes are kept"
                    )
                since, before = now, done
            if done > (_MOST_BYTES if most is None else most):
                file.truncate(0)
                raise DownloadError("the server sends more than the file has")
        file.truncate(done)
    if most is not None and done < most:
        raise _Interrupted(f"{done:,} of {most:,} bytes came")


def _total(content_range: str | None) -> int | None:
    match = re.search(rf"/({_NUMBER})\s*$", content_range or "")
    return int(match.group(1)) if match else None


def _length(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
