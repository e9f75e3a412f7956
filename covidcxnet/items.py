"""What a person gives to a classifier, one radiograph at a time: paths, folders, arrays, or any number of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from enhancement.errors import InputError

if TYPE_CHECKING:
    from covidcxnet.settings import InputSettings
    from segmentation.segmenter import LungSegmenter

Item = str | os.PathLike | np.ndarray


def items_of(files: Item | Iterable[Item]) -> list[Path | np.ndarray]:
    """Files and arrays one by one; folders become the radiographs in them.

    Raises
    ------
    InputError
        If something is neither a path nor an array ``[H, W]``, or a folder holds no radiograph.
    """
    from enhancement import find_images

    if isinstance(files, np.ndarray) and files.ndim != 2:
        raise InputError(f"array of shape {files.shape} given, uint8 [H, W] or a list of such arrays expected")
    single = isinstance(files, str | os.PathLike | np.ndarray)
    if not single and not isinstance(files, Iterable):
        raise InputError(f"{type(files).__name__} given, a path, a uint8 array [H, W] or a list of them expected")
    items: list[Path | np.ndarray] = []
    for item in [files] if single else files:  # type: ignore[list-item, union-attr]
        if isinstance(item, np.ndarray):
            items.append(item)
        elif isinstance(item, str | os.PathLike):
            path = Path(item)
            items.extend(find_images(path) if path.is_dir() else [path])
        else:
            raise InputError(f"{type(item).__name__} given, a path or a uint8 array [H, W] expected")
    return items


def prepared_batches(
    items: list[Path | np.ndarray],
    settings: InputSettings,
    segmenter: LungSegmenter | None,
    batch_size: int,
    jobs: int,
    progress: bool,
) -> Iterator[tuple[list[Path | np.ndarray], list[Any]]]:
    """Files or arrays with their outcomes of preparation, in order, in groups of up to `batch_size` stacks."""
    from covidcxnet.preparation.pipeline import prepare_files

    prepared = prepare_files(
        items, settings, segmenter=segmenter, jobs=jobs, batch=batch_size, progress=progress, look=True
    )
    group: list[Any] = []
    outcomes: list[Any] = []
    ready = 0
    for item, outcome in zip(items, prepared, strict=True):
        group.append(item)
        outcomes.append(outcome)
        ready += outcome.prepared is not None
        # Unreadable files wait too: a long row of them must not pile up.
        if ready == batch_size or len(group) == 4 * batch_size:
            yield group, outcomes
            group, outcomes, ready = [], [], 0
    if group:
        yield group, outcomes
