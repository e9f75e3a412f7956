"""Tasks over worker processes, results in order; an item that kills its worker costs itself and nothing else."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from enhancement.errors import InputError

Task = list[Any]
Work = Callable[[Task], list[Any]]


def in_order(work: Work, tasks: Iterable[Task], jobs: int, lost: Callable[[Any], Any]) -> Iterator[list[Any]]:
    """``work(task)`` for every task, a list of items each.

    Parameters
    ----------
    work : callable
        Takes a task, gives one result an item. With several jobs it must be picklable.
    tasks : iterable of list
        What to do.
    jobs : int
        Processes; 1 works here. They are spawned, not forked: a fork of a process that runs TensorFlow may hang.
    lost : callable
        Takes an item whose worker died over it (a decoder's crash, memory), gives its result.

    Yields
    ------
    list
        Results of each task, in order. At most two tasks a worker are under way.

    Raises
    ------
    InputError
        If worker processes cannot be started.
    """
    if jobs == 1:
        yield from map(work, tasks)
        return
    waiting: deque[tuple[Task, Future | None]] = deque()
    pool = _start(jobs)
    try:
        for task in (*tasks, None):
            if task is not None:
                waiting.append((task, _submit(pool, work, task)))
            while waiting and (task is None or len(waiting) >= 2 * jobs):
                try:
                    done = _result(waiting[0][1])
                    waiting.popleft()
                    yield done
                except BrokenProcessPool:
                    # nobody knows whose worker died, so all that was under way is done again, apart from the rest
                    again = [task for task, _ in waiting]
                    waiting.clear()
                    pool.shutdown()
                    for one in again:
                        yield _carefully(work, one, lost)
                    pool = _start(jobs)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _submit(pool: ProcessPoolExecutor, work: Work, task: Task) -> Future | None:
    try:
        return pool.submit(work, task)
    except BrokenProcessPool:
        return None


def _result(future: Future | None) -> list[Any]:
    if future is None:
        raise BrokenProcessPool
    return future.result()


def _carefully(work: Work, task: Task, lost: Callable[[Any], Any]) -> list[Any]:
    with _start(1) as pool:
        try:
            return pool.submit(work, task).result()
        except BrokenProcessPool:
            pass
    results = []
    for item in task:
        with _start(1) as pool:
            try:
                results += pool.submit(work, [item]).result()
            except BrokenProcessPool:
                results.append(lost(item))
    return results


def _start(jobs: int) -> ProcessPoolExecutor:
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

    # Ctrl-C goes to the parent alone, which ends in good order; OpenCV's own threads would fight over the cores
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker waits for tasks for ever; whoever was killed outright can't tell it to stop."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _nothing() -> None:
    pass
