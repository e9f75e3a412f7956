"""Many radiographs: one function from file to file, over threads, with a list of what could not be done."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from enhancement.errors import InputError
from enhancement.files import find_image_tree, result_names, whole_file

from .progress import ProgressBar

WRITTEN_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
"""Endings that `write_image` can write; PNG is the lossless choice that every program reads."""


# JPEG at 95, which shows no blocks on radiographs; WebP above 100 is lossless.
_QUALITY = {
    ".jpg": [cv2.IMWRITE_JPEG_QUALITY, 95],
    ".jpeg": [cv2.IMWRITE_JPEG_QUALITY, 95],
    ".webp": [cv2.IMWRITE_WEBP_QUALITY, 101],
}


@dataclass(frozen=True)
class Job:
    """One file to enhance: where it comes from and where it goes."""

    source: Path
    target: Path


def plan(inputs: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]) -> list[Job]:
    """Pair every radiograph below the inputs with the file to write, a PNG below the folder ``out`` in the same tree.

    One file given by name goes to ``out`` itself where that ends like an image.
    """
    out = Path(out)
    tree = _without_earlier_results(find_image_tree(inputs), inputs, out)
    single = len(inputs) == 1 and Path(inputs[0]).is_file()
    if single and not out.is_dir() and out.suffix:
        if out.suffix.lower() not in WRITTEN_SUFFIXES:
            raise InputError(f"{out}: ending {out.suffix} cannot be written; {', '.join(WRITTEN_SUFFIXES)} expected")
        return [Job(tree[0][0], out)]
    if out.is_file():
        raise InputError(f"{out}: is a file; a folder expected, as {len(tree)} radiographs are to be written")
    if not out.is_dir() and out.suffix.lower() in WRITTEN_SUFFIXES:
        raise InputError(f"{out}: {len(tree)} radiographs are to be written; give the name of a folder")
    return [Job(source, out / name) for (source, _), name in zip(tree, result_names(tree), strict=True)]


def run(
    jobs: Sequence[Job],
    make: Callable[[Path], NDArray[np.uint8]],
    *,
    workers: int = 1,
    overwrite: bool = False,
    progress: bool = True,
) -> list[str]:
    """Read, enhance (``make(path) -> uint8``) and write every file; one line for each that was not done, in order.

    An `InputError` of `make` means that this file cannot be done; files that exist are left unless `overwrite`.
    """
    problems: dict[int, str] = {}
    with ProgressBar(total=len(jobs), unit="image", disable=not progress) as bar:
        for index, problem in _each(lambda job: _do(job, make, overwrite), jobs, workers):
            if problem:
                problems[index] = problem
            bar.update()
    return [problems[index] for index in sorted(problems)]


def write_image(path: str | os.PathLike[str], image: NDArray[np.uint8]) -> None:
    """Write ``uint8 [H, W]``, ``[H, W, 1]`` or ``[H, W, 3]`` (first channel as red), whole or not at all."""
    path = Path(path)
    if image.ndim == 3 and image.shape[2] not in (1, 3):
        raise InputError(f"{path}: {image.shape[2]} channels cannot be written as an image; 1 or 3 expected")
    pixels = image[..., ::-1] if image.ndim == 3 else image
    suffix = path.suffix.lower()
    encoded, data = cv2.imencode(suffix, np.ascontiguousarray(pixels), _QUALITY.get(suffix, []))
    if not encoded:
        raise InputError(f"{path}: {image.shape[1]} x {image.shape[0]} pixels cannot be written as {path.suffix}")
    with whole_file(path) as partial:
        partial.write_bytes(data.tobytes())


def _do(job: Job, make: Callable[[Path], NDArray[np.uint8]], overwrite: bool) -> str | None:
    try:
        # Before the work: on a second run over a large folder most files exist.
        if job.target.exists() and not overwrite:
            raise InputError(f"{job.target}: exists already and was left as it is; --overwrite replaces it")
        write_image(job.target, make(job.source))
    except InputError as error:
        return str(error)
    except (OSError, cv2.error) as error:
        return f"{job.target}: cannot be written ({getattr(error, 'strerror', None) or 'OpenCV refused it'})"
    return None


def _each(work: Callable[[Job], Any], jobs: Sequence[Job], workers: int) -> Iterator[tuple[int, Any]]:
    """Results as they come, with a short queue: a million files cost no memory, and Ctrl-C does not wait for them."""
    if workers <= 1:
        yield from ((index, work(job)) for index, job in enumerate(jobs))
        return
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # the cores are busy with one image each
    waiting = iter(enumerate(jobs))
    try:
        with ThreadPoolExecutor(workers) as pool:
            running: dict[Future[Any], int] = {}
            while True:
                # Twice as many as workers, so that none waits while results are handed on.
                for index, job in islice(waiting, 2 * workers - len(running)):
                    running[pool.submit(work, job)] = index
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
    finally:
        cv2.setNumThreads(threads)


def _without_earlier_results(
    tree: list[tuple[Path, Path]], inputs: Sequence[str | os.PathLike[str]], out: Path
) -> list[tuple[Path, Path]]:
    # With OUT inside IN, a second run would otherwise enhance what the first has written.
    place = out.resolve()
    if not any(Path(name).is_dir() and Path(name).resolve() in place.parents for name in inputs):
        return tree
    outside = [pair for pair in tree if place not in pair[0].resolve().parents]
    if not outside:
        raise InputError(f"{out}: the input holds no radiograph outside this folder")
    return outside
