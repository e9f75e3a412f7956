"""Work over many files on all cores: ordered maps over processes and threads, and the SHA-256 of a file."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any, TypeVar

from enhancement.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")

# What to say of a file whose worker process died.
DIED = "the process that read it died: damaged, or too large for memory"

# Starting a spawned worker takes about as long as reading this many radiographs.
_ITEMS_A_WORKER = 200


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's content, in hexadecimal; `OSError` if it cannot be read."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def map_files(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    lost: Callable[[Item], Result],
    jobs: int | None = None,
    batch: int = 32,
    ahead: int = 0,
    desc: str = "reading",
    unit: str = "file",
    progress: bool = False,
) -> Iterator[Result]:
    """``work(item)`` for every item, in order, over worker processes; memory holds a few batches whatever their number.

    An exception of `work` ends the map, so that it should catch what a damaged file raises; with several jobs it must
    be picklable. ``lost(item)`` is the result of an item that killed its worker (a decoder's crash, memory). `jobs` is
    one per core by default, fewer for a few hundred items; 1 works in this process, when a result is wanted or, with
    `ahead`, in threads that keep so many results waiting. `batch` items travel at once.
    """
    from .progress import ProgressBar

    batches = [items[i : i + batch] for i in range(0, len(items), batch)]
    jobs = min(jobs or min(cores(), max(1, len(items) // _ITEMS_A_WORKER)), max(1, len(batches)))
    with ProgressBar(total=len(items), desc=desc, unit=unit, disable=not progress) as bar:
        # In this process each result is handed on as soon as it is there; those of a worker travel by the batch.
        here = map_threads(work, items, ahead=ahead) if ahead else map(work, items)
        for result in here if jobs == 1 else _over_workers(work, batches, jobs, lost):
            bar.update()
            yield result


def map_threads(work: Callable[[Item], Result], items: Iterable[Item], *, ahead: int) -> Iterator[Result]:
    """``work(item)`` for every item, in order, by a thread per core; up to `ahead` results wait to be taken.

    For work that spends its time outside of Python: decoding, OpenCV, large arrays.
    """
    pool, items = ThreadPoolExecutor(cores()), iter(items)
    try:
        waiting = deque(pool.submit(work, item) for item in islice(items, ahead))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(work, item) for item in islice(items, 1))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)


def map_groups(
    work: Callable[[list[Item]], Iterable[Result]], items: Iterable[Item], *, size: int, ahead: int
) -> Iterator[Result]:
    """Results of ``work(group)`` for groups of `size` items, in order; `map_threads` works on the groups."""
    items = iter(items)
    groups = iter(lambda: list(islice(items, size)), [])
    for results in map_threads(work, groups, ahead=ahead):
        yield from results


def in_background(results: Iterator[Result], *, ahead: int) -> Iterator[Result]:
    """The same results, worked out in a thread of their own, up to `ahead` before the caller wants them."""
    end: Any = object()
    pool = ThreadPoolExecutor(1)
    try:
        waiting = deque(pool.submit(next, results, end) for _ in range(ahead))
        while (result := waiting.popleft().result()) is not end:
            waiting.append(pool.submit(next, results, end))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)
        if isinstance(results, Generator):
            results.close()


def _over_workers(
    work: Callable[[Any], Any], batches: Sequence[Any], jobs: int, lost: Callable[[Any], Any]
) -> Iterator[Any]:
    """Results in order; a batch whose worker dies is done again, item by item."""
    waiting: deque[tuple[Any, Future]] = deque()
    pool = _start(jobs)
    try:
        for batch in (*batches, None):
            if batch is not None:
                waiting.append((batch, _submit(pool, work, batch)))
            # Two batches a worker: none waits for work, and memory holds few results.
            while waiting and (batch is None or len(waiting) >= 2 * jobs):
                try:
                    results = waiting[0][1].result()
                    waiting.popleft()
                    yield from results
                except BrokenProcessPool:
                    # A pool does not tell whose worker died, so all that was under way is done again, one by one.
                    again = [batch for batch, _ in waiting]
                    waiting.clear()
                    pool.shutdown()
                    for suspect in again:
                        yield from _carefully(work, suspect, lost)
                    pool = _start(jobs)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _each(work: Callable[[Any], Any], batch: Sequence[Any]) -> list[Any]:
    return list(map(work, batch))


def _submit(pool: ProcessPoolExecutor, work: Callable, batch: Any) -> Future:
    try:
        return pool.submit(_each, work, batch)
    except (BrokenProcessPool, OSError) as error:
        # A pool that broke refuses new work at once, or, if it breaks while it starts a worker, finds its pipes closed
        # (OSError). The batch must still come out in its turn.
        refused: Future = Future()
        refused.set_exception(BrokenProcessPool(str(error)))
        return refused


def _carefully(work: Callable, batch: Any, lost: Callable[[Any], Any]) -> list[Any]:
    """A batch in a process of its own; if that dies too, each item in one."""
    with _start(1) as pool:
        try:
            return pool.submit(_each, work, batch).result()
        except BrokenProcessPool:
            pass
    results = []
    for item in batch:
        with _start(1) as pool:
            try:
                results.append(pool.submit(work, item).result())
            except BrokenProcessPool:
                results.append(lost(item))
    return results


def _start(jobs: int) -> ProcessPoolExecutor:
    # Spawned, not forked: a fork of a process that runs TensorFlow may hang.
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _prepare_worker)
    try:
        pool.submit(_nothing).result()
    except BrokenProcessPool:
        raise InputError(
            "worker processes cannot be started; does the script that was run lack its "
            '`if __name__ == "__main__":`? jobs=1 does without them'
        ) from None
    return pool


def _prepare_worker() -> None:
    import cv2

    # Ctrl-C goes to the parent alone, which ends in good order; OpenCV's own threads would fight over the cores.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker waits for tasks for ever; a parent that was killed outright cannot tell it to stop."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _nothing() -> None:
    pass
