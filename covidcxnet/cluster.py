"""Work over many files on several machines: one ordered map over batches, run by the workers of a Dask cluster.

A worker does with its batch what one process does with all files, and its results are the same.
"""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from enhancement.command_line import ended_in_order
from enhancement.errors import InputError, one_line
from enhancement.parallel import cores
from enhancement.progress import ProgressBar, announce

IMAGES = 100  # a task: seconds to a minute of work, so that a worker that dies costs no more
_ANSWER = 15.0  # seconds that a scheduler has to answer
_PATIENCE = 20.0  # seconds after which it is looked whether there are workers at all
_ONE = threading.Lock()  # networks use all threads that a worker has: one task at a time


@contextmanager
def connected(scheduler: str | None = None, workers: int | None = None) -> Iterator[Cluster | None]:
    """A running Dask cluster, or so many workers on this machine for as long as the block lasts; None for neither.

    Parameters
    ----------
    scheduler : str, optional
        Address of a Dask scheduler, ``tcp://host:8786``. Its workers see the same files under the same paths and have
        the same version of this package. Start them with ``--nthreads 1``.
    workers : int, optional
        Worker processes to start here, which listen on the loopback interface only.

    Yields
    ------
    Cluster or None
        For the argument ``cluster`` of `prepare` and `Classifier.predict`.

    Raises
    ------
    InputError
        If both are given, Dask is not installed, nobody answers at the address, or its workers have another version.
    """
    if not (scheduler or workers):
        yield None
        return
    if scheduler and workers:
        raise InputError(f"workers: {workers} given, but the scheduler {scheduler} has its workers; leave one out")
    if scheduler and "://" not in scheduler:
        raise InputError(f"scheduler: {scheduler!r:.80} given, an address such as tcp://host:8786 expected")
    try:
        import distributed
    except ImportError:
        raise InputError(
            "a cluster needs Dask, which is not installed here; pip install 'covidcxnet[cluster]'"
        ) from None
    logger = logging.getLogger("distributed")
    level = logger.level
    # Workers that die or restart are its daily business; what concerns the user is an error of `Cluster.map`.
    logger.setLevel(logging.CRITICAL)
    try:
        if scheduler:
            try:
                client = distributed.Client(scheduler, timeout=_ANSWER, set_as_default=False)
            except (OSError, ValueError) as error:
                raise InputError(f"scheduler: nobody answers at {scheduler} ({one_line(error):.120})") from error
            with client:
                yield Cluster(client, scheduler)
        else:
            assert workers
            with _local(workers) as client:
                yield Cluster(client, f"{workers} workers")
    finally:
        logger.setLevel(level)


@contextmanager
def _local(workers: int) -> Iterator[Any]:
    """A client of a cluster on this machine, whose processes and files are gone afterwards."""
    import dask
    import distributed

    threads = str(max(1, cores() // workers))
    environment = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"), threads)
    # Two deaths are enough to suspect the files rather than the machine; see `Cluster._results`.
    settings = {"distributed.scheduler.allowed-failures": 1, "distributed.worker.profile.enabled": False}
    with (
        ended_in_order(),
        tempfile.TemporaryDirectory(prefix="covidcxnet-") as folder,
        dask.config.set({**settings, "temporary-directory": folder}),
    ):
        try:
            cluster = distributed.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                host="127.0.0.1",
                protocol="tcp://",
                dashboard_address="127.0.0.1:0",  # a free port rather than 8787; no dashboard answers there
                scheduler_kwargs={"dashboard": False},
                memory_limit=0,  # as in one process: Dask's share of the memory may be less than a network needs
                local_directory=folder,
                silence_logs=logging.CRITICAL,
                env=environment,
            )
        except RuntimeError as error:
            raise InputError(
                "workers: cannot be started, or died at once; does the script that was run lack its "
                '`if __name__ == "__main__":`?'
            ) from error
        with cluster, distributed.Client(cluster, set_as_default=False) as client:
            client.register_plugin(_start(int(threads)))
            yield client


def _start(threads: int) -> Any:
    """What a worker does when it starts, also in place of one that died."""
    import distributed

    class Start(distributed.WorkerPlugin):
        name = "covidcxnet"

        def setup(self, worker: Any) -> None:
            import cv2

            # Ctrl-C goes to the command alone, which ends them in good order.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            cv2.setNumThreads(threads)

    return Start()


class Cluster:
    """The workers of a Dask client; made by `connected`."""

    def __init__(self, client: Any, name: str):
        self._client, self.name = client, name
        self.address = str(client.scheduler.address)

    def map(
        self,
        work: Callable[..., Any],
        batches: Sequence[Any],
        *,
        files: Callable[[Any], Sequence[Any]],
        needs: Sequence[Path] = (),
        done: int = 0,
        desc: str = "",
        progress: bool = False,
    ) -> Iterator[Any]:
        """``work(batch, jobs=1)`` for every batch, in order; a batch whose worker dies is done by another.

        Parameters
        ----------
        work : callable
            Picklable. A worker unpickles it once and keeps it, with the networks that it loads, for all its batches.
            With ``jobs=2`` it reads files in processes of their own: so it is called after several workers died.
        batches : sequence
            Each of so many images as ``len`` says.
        files : callable
            From a batch to the files that it reads. One that this machine can read and a worker cannot is an error.
        needs : sequence of Path
            Files and folders without which no batch can be done.
        done : int
            Images that need no work, for the bar.
        desc, progress
            Of the bar.
        """
        code = _pickled(work)
        total = done + sum(map(len, batches))
        checks = code_version(), tuple(map(os.fspath, needs))

        def submit(batch: Any, jobs: int) -> Any:
            return self._client.submit(_run, code, *checks, batch, list(files(batch)), jobs, pure=False)

        futures = [submit(batch, 1) for batch in batches]
        with ProgressBar(total=total, initial=done, desc=desc, unit="image", disable=not progress) as bar:
            try:
                for k, batch in enumerate(batches):
                    result, host, unread = self._result(futures[k], submit, batch)
                    futures[k] = None  # its result may leave the worker's memory
                    for path in unread:
                        if os.access(path, os.R_OK):
                            raise InputError(_unseen(path, host))
                    yield result
                    bar.update(len(batch))
            finally:
                self._cancel([future for future in futures if future is not None])

    def _result(self, future: Any, submit: Callable[[Any, int], Any], batch: Any) -> Any:
        """The result of a batch, which is done once more, carefully, if it has cost several workers their life."""
        from distributed import CancelledError
        from distributed.comm import CommClosedError
        from distributed.scheduler import KilledWorker

        try:
            try:
                return self._wait(future)
            except KilledWorker:
                return self._wait(submit(batch, 2))
        except KilledWorker:
            text = f"{len(batch)} images: every worker that got them died, also with the files read in other processes"
            raise InputError(f"{text}; too little memory?") from None
        except (CancelledError, CommClosedError) as error:
            text = f"{self.name}: connection to the scheduler lost; the same command goes on from there"
            raise InputError(text) from error
        except (ImportError, AttributeError) as error:
            # A worker that has no such module or function cannot even look for its version.
            text = f"a worker cannot load covidcxnet {code_version()} ({one_line(error):.120})"
            raise InputError(f"{self.name}: {text}; install the same version there") from error

    def _wait(self, future: Any) -> Any:
        from distributed import TimeoutError as Late

        waiting = False
        while True:
            try:
                return future.result(timeout=_PATIENCE)
            except Late:
                if future.done():  # the work's own error
                    raise
                if not waiting and not self._client.scheduler_info()["workers"]:
                    waiting = True  # in a queue, perhaps: a cluster may take hours to give one
                    announce(f"{self.name}: no workers; waiting for one", progress=True)

    def _cancel(self, futures: list[Any]) -> None:
        if futures and self._client.status == "running":
            self._client.cancel(futures, force=True)


@cache
def code_version() -> str:
    """Version of the installed package, with the beginning of a SHA-256 of its code: bytes depend on each line."""
    home = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for package in ("covidcxnet", "enhancement", "segmentation", "weights"):
        for path in sorted((home / package).rglob("*.py")):
            digest.update(path.relative_to(home).as_posix().encode() + b"\0" + path.read_bytes())
    text = (home / "covidcxnet" / "__init__.py").read_text(encoding="utf-8")
    version = text.partition('__version__ = "')[2].partition('"')[0]
    return f"{version} ({digest.hexdigest()[:8]})"


def _pickled(work: Callable[..., Any]) -> bytes:
    import cloudpickle  # comes with Dask

    return cloudpickle.dumps(work)


@lru_cache(maxsize=1)
def _loaded(code: bytes) -> Callable[..., Any]:
    # Kept for the process: with the work go its segmenter and its classifier, whose networks take seconds to load.
    return pickle.loads(code)


def _run(
    code: bytes, version: str, needs: Sequence[str], batch: Any, files: Sequence[str], jobs: int
) -> tuple[Any, str, list[str]]:
    """In a worker: the result of a batch, the worker's host, and which of the files cannot be read there."""
    host = socket.gethostname()
    if version != code_version():
        text = f"has covidcxnet {code_version()}, this command is {version}"
        raise InputError(f"worker on {host}: {text}; install the same version there")
    for path in needs:
        if not os.path.exists(path):
            raise InputError(_unseen(path, host))
    unread = [path for path in files if not os.access(path, os.R_OK)]
    if jobs > 1:
        import multiprocessing

        # Dask's workers are daemons, which may have no children; ours end with them.
        multiprocessing.current_process().daemon = False
    with _ONE:
        return _loaded(code)(batch, jobs=jobs), host, unread


def _unseen(path: str | os.PathLike[str], host: str) -> str:
    return f"{path}: the worker on {host} cannot read it; workers need the same files under the same paths"
