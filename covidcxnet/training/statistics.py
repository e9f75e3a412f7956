"""What is measured on images before a model is built: mean and deviation, and the histogram that `match_to` names.

`normalization: training` scales by the mean and deviation of the training images. `match_to` matches all grey levels to
one base radiograph, as COVID-CXNet does for its multiclass model, or to the mean of the training images: sources then
differ less in exposure.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from covidcxnet.datasets import Dataset
from covidcxnet.preparation import Store, prepare_files
from covidcxnet.settings import InputSettings
from enhancement.errors import InputError
from enhancement.parallel import cores, sha256
from enhancement.progress import ProgressBar

from .recipe import TRAINING_IMAGES, Recipe

A_SOURCE = 150  # images drawn of each source: the mean of more hardly differs
SIGMA, RADIUS = 4.0, 12  # of the Gaussian that smooths the mean, in grey levels
TOTAL = 100_000  # about what the counts add up to


def channel_statistics(store: Store, rows: np.ndarray, *, batch: int = 64, progress: bool = True) -> dict[str, Any]:
    """Mean and deviation of x/255 in each channel over all pixels of some rows, as `models.create` takes them.

    Padding counts like every other pixel, as the model sees it too; memory holds one batch. `InputError` if there is no
    row, or all pixels of a channel have one value.
    """
    if not len(rows):
        raise InputError("normalization: no training image to find statistics of")
    # Each pixel is one of 256 values: whole counts are exact, so that no order and no rounding changes the result.
    counts = np.zeros((len(store.settings.channels), 256), np.int64)
    starts = range(0, len(rows), batch)
    for start in ProgressBar(starts, "statistics", unit="batch", leave=False, disable=not progress):
        stacks = store.read(rows[start : start + batch])
        counts += [np.bincount(plane.ravel(), minlength=256) for plane in np.moveaxis(stacks, -1, 0)]
    levels = np.arange(256) / 255
    shares = counts / np.sum(counts, axis=1, keepdims=True)
    mean = shares @ levels
    deviation = np.sqrt((shares * (levels - mean[:, None]) ** 2).sum(axis=1))
    if (deviation == 0).any():
        channel = store.settings.channels[int(np.argmin(deviation))]
        raise InputError(f"normalization: all training pixels of channel {channel} have one value; use unit")
    return {"mean": [round(float(v), 6) for v in mean], "std": [round(float(v), 6) for v in deviation]}


def with_histogram(recipe: Recipe, dataset: Dataset, split: pd.DataFrame | None, segmenter=None) -> Recipe:
    """The recipe with the counts that `match_to` means in `input.histogram`, so that no file is needed for them again.

    The split is needed for ``match_to: training``, the segmenter where the region is cropped. `InputError` if no
    radiograph gives a histogram: unreadable, of one grey level, or its lungs are not found.
    """
    if not recipe.match_to:
        return recipe
    if recipe.match_to == TRAINING_IMAGES and split is not None:
        jobs = recipe.jobs or None
        counts = mean_histogram(dataset, split, recipe.input, segmenter, seed=recipe.seed, jobs=jobs)
    else:
        counts = base_histogram(recipe.match_to, recipe.input, segmenter)
    return dataclasses.replace(recipe, match_to="", input=dataclasses.replace(recipe.input, histogram=counts))


def base_histogram(path: str | Path, settings: InputSettings, segmenter=None) -> tuple[int, ...]:
    """Counts of a radiograph's 256 grey levels over what `prepare_image` matches.

    That is the region after crop, resolution and resizing, before enhancement, padding and the mask.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"match_to: {path}: no such file; give one radiograph")
    plain = _unmatched(settings)
    counts, reason = _grey_levels(next(iter(prepare_files([path], plain, segmenter=segmenter))), plain)
    if counts is None:
        hint = "; give another radiograph, or input.region none" if "lungs" in reason else ""
        raise InputError(f"match_to: {path}: {reason}{hint}")
    if np.count_nonzero(counts) < 2:
        raise InputError(f"match_to: {path}: all its pixels have one grey level; give a radiograph")
    return tuple(int(count) for count in counts)


def mean_histogram(
    dataset: Dataset,
    split: pd.DataFrame,
    settings: InputSettings,
    segmenter=None,
    *,
    seed: int = 0,
    jobs: int | None = None,
    progress: bool = True,
) -> tuple[int, ...]:
    """Mean counts of the training images' 256 grey levels over what `prepare_image` matches; about `TOTAL` in all.

    The histogram of each image counts the same, whatever its pixels, and so does each source (column ``source``),
    whatever its images. The mean is smoothed, so that gaps in one source's grey levels do not become gaps in all
    images. Only pixels of train count: a file that is an exact copy of one outside of train is left out, as training
    leaves it out.
    """
    drawn = draw(dataset, split, seed)
    paths, plain = dataset.paths, _unmatched(settings)
    # Starting a worker takes about as long as reading 48 radiographs.
    jobs = jobs or min(cores(), max(1, len(drawn) // 48))
    outcomes = prepare_files([paths[row] for row, _ in drawn], plain, segmenter=segmenter, jobs=jobs)
    bar = ProgressBar(outcomes, "grey levels", len(drawn), unit="image", leave=False, disable=not progress)
    shares: dict[str, list[np.ndarray]] = defaultdict(list)
    last = "there is none that is no copy of another side's"
    for (row, source), outcome in zip(drawn, bar, strict=True):
        counts, reason = _grey_levels(outcome, plain)
        if counts is None:
            last = f"the last, {paths[row]}: {reason}"
        else:
            # Shares and not counts, or large images would outweigh small ones.
            shares[source].append(counts / counts.sum())
    if not shares:
        raise InputError(f"match_to: training: none of {len(drawn)} training images can be used; {last}")
    return counts_of(np.mean([np.mean(images, axis=0) for images in shares.values()], axis=0))


def draw(dataset: Dataset, split: pd.DataFrame, seed: int) -> list[tuple[int, str]]:
    """Rows of the data set to look at, each with its source: up to `A_SOURCE` training images of each.

    The draw depends on the seed and on which images train, not on the order of the table.
    """
    table, paths = dataset.table, dataset.paths
    train = (split["split"] == "train").to_numpy() & np.array([reason is None for reason in dataset.rejected])
    names = table["source"] if "source" in table else [""] * len(table)
    members: dict[str, list[int]] = defaultdict(list)
    # By path: the order of the table must not change the draw.
    for row in sorted(np.flatnonzero(train).tolist(), key=table["path"].tolist().__getitem__):
        members[names[row] if isinstance(names[row], str) else ""].append(row)
    generator = np.random.default_rng(seed)
    rows = []
    for source, candidates in sorted(members.items()):
        rows += [(row, source) for row in generator.permutation(candidates)[:A_SOURCE].tolist()]
    # Exact copies of files outside of train are left out. Only files of one size can be copies: few are read.
    sizes = {_size(paths[row]) for row, _ in rows} - {-1}
    outside = np.flatnonzero((split["split"] != "train").to_numpy()).tolist()
    contents = {_content(paths[row]) for row in outside if _size(paths[row]) in sizes} - {""}
    return [(row, source) for row, source in rows if not contents or _content(paths[row]) not in contents]


def counts_of(mean: np.ndarray) -> tuple[int, ...]:
    """Whole counts of a mean histogram, float [256] of sum 1, smoothed by a Gaussian that repeats the edges."""
    steps = np.arange(-RADIUS, RADIUS + 1)
    weights = np.exp(-0.5 * (steps / SIGMA) ** 2)
    smooth = np.convolve(np.pad(mean, RADIUS, mode="edge"), weights / weights.sum(), mode="valid")
    return tuple(int(count) for count in np.rint(TOTAL * smooth / smooth.sum()))


def _unmatched(settings: InputSettings) -> InputSettings:
    """Settings whose one plane is what those given would match: raw, cropped where they crop."""
    # Matching comes before the mask, so that only the crop decides which pixels count.
    region: Literal["crop", "none"] = "crop" if "crop" in settings.region else "none"
    return dataclasses.replace(settings, channels=("raw",), histogram=(), region=region)


def _grey_levels(outcome, plain: InputSettings) -> tuple[np.ndarray | None, str]:
    """How many pixels of a raw stack have each grey level, int64 [256], without the padding; or None and the reason."""
    if outcome.prepared is None:
        return None, outcome.error
    if plain.region == "crop" and not outcome.trusted:
        return None, f"its lungs are not found ({'; '.join(outcome.reasons)}), so that it cannot be cropped"
    # Padding would count as black pixels.
    frame = outcome.prepared.frame
    rows = slice(frame.inner_top, frame.inner_top + frame.inner_height)
    columns = slice(frame.inner_left, frame.inner_left + frame.inner_width)
    return np.bincount(outcome.prepared.stack[rows, columns, 0].ravel(), minlength=256), ""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _content(path: Path) -> str:
    try:
        return sha256(path)
    except OSError:
        return ""
