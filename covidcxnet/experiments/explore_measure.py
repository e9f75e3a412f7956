"""One radiograph measured: a small copy, the share of each grey level, its size; and many of them, in parallel."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from enhancement.errors import InputError, RadiographError

_BATCH = 32


@dataclass(frozen=True)
class Measured:
    """What one file gave.

    Attributes
    ----------
    row : int
        Of the data set's table.
    small : uint8 [S, S] or None
        The whole radiograph, stretched to a square: lungs of tall and wide radiographs come to lie on each other.
    shares : float32 [256] or None
        Share of pixels at each grey level of the radiograph at its full size; they add up to 1.
    width, height : int
        In pixels.
    error : str or None
        Why the file could not be read, without its name; all else is then None or 0.
    """

    row: int
    small: np.ndarray | None = None
    shares: np.ndarray | None = None
    width: int = 0
    height: int = 0
    error: str | None = None


def measure(row: int, path: str | Path, size: int) -> Measured:
    """Read and measure one file; never raises for what is in the file."""
    from enhancement import read_radiograph

    try:
        image = read_radiograph(path)
    except RadiographError as error:
        return Measured(row, error=error.reason)
    except Exception as error:  # one bad file among thousands must not end the work, whatever it broke
        return Measured(row, error="cannot be read" if isinstance(error, InputError) else type(error).__name__)
    height, width = image.shape
    how = cv2.INTER_AREA if min(height, width) >= size else cv2.INTER_LINEAR
    shares = np.bincount(image.ravel(), minlength=256) / image.size
    return Measured(row, cv2.resize(image, (size, size), interpolation=how), shares.astype("float32"), width, height)


def measure_all(
    paths: Sequence[Path], rows: Sequence[int], size: int, *, jobs: int | None = None, progress: bool = True
) -> Iterator[Measured]:
    """Measure many files, in order; memory holds a few batches whatever their number.

    Parameters
    ----------
    paths : sequence of Path
        The files.
    rows : sequence of int
        What `Measured.row` says of each.
    size : int
        Side of the small copies.
    jobs : int, optional
        Worker processes; None: one a core, none for a few files.
    progress : bool
        Show a progress bar with files per second.
    """
    from tqdm import tqdm

    from enhancement.parallel import in_order

    tasks = [
        [(int(rows[i]), paths[i]) for i in range(start, min(start + _BATCH, len(paths)))]
        for start in range(0, len(paths), _BATCH)
    ]
    jobs = jobs or min(cores(), max(1, len(paths) // 200))
    work = partial(_work, size=size)
    with tqdm(total=len(paths), desc="measuring", unit="file", disable=not progress) as bar:
        for done in in_order(work, tasks, min(jobs, max(1, len(tasks))), _lost):
            bar.update(len(done))
            yield from done


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _work(task, size: int) -> list[Measured]:
    return [measure(row, path, size) for row, path in task]


def _lost(entry) -> Measured:
    return Measured(entry[0], error="the process that read it died: damaged, or too large for memory")
