"""`match_to`: the grey-level histogram that all images are matched to, taken where the pipeline will match it.

COVID-CXNet matches all images to one base image for its multiclass model, so that sources differ less in exposure. The
mean of the training images (`mean_histogram`) does the same without one radiograph being the measure of all.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from covidcxnet.settings import InputSettings
from enhancement.errors import InputError

from .recipe import TRAINING_IMAGES, Recipe

if TYPE_CHECKING:
    import pandas as pd

    from covidcxnet.datasets import Dataset
    from covidcxnet.preparation.pipeline import Prepared


def with_histogram(recipe: Recipe, dataset: Dataset | None = None, split: pd.DataFrame | None = None) -> Recipe:
    """The recipe with its base's counts in `input.histogram`, so that no file is needed for them again.

    Parameters
    ----------
    recipe : Recipe
    dataset : Dataset, optional
        Needed for ``match_to: training``.
    split : pd.DataFrame, optional
        Of the data set, row by row; by default the recipe's.

    Raises
    ------
    InputError
        If the file cannot be read, is of one grey level, or its lungs, which the region needs, cannot be found; or if
        that is so of every training image.
    """
    if not recipe.match_to:
        return recipe
    from .data import segmenter_of, split_of

    segmenter = segmenter_of(recipe) if "crop" in recipe.input.region else None
    if recipe.match_to != TRAINING_IMAGES:
        counts = base_histogram(recipe.match_to, recipe.input, segmenter)
    else:
        from .mean_histogram import mean_histogram
        from .run import dataset_of

        dataset = dataset_of(recipe) if dataset is None else dataset
        split = split_of(recipe, dataset) if split is None else split
        counts = mean_histogram(dataset, split, recipe.input, segmenter, seed=recipe.seed, jobs=recipe.jobs or None)
    return dataclasses.replace(recipe, match_to="", input=dataclasses.replace(recipe.input, histogram=counts))


def base_histogram(path: str | Path, settings: InputSettings, segmenter=None) -> tuple[int, ...]:
    """Counts of a radiograph's 256 grey levels over what `prepare_image` matches.

    That is the region after crop, resolution and resizing, before enhancement, padding and the mask.

    Parameters
    ----------
    path : path-like
        The base radiograph.
    settings : InputSettings
        Of the stacks that are to be matched.
    segmenter : LungSegmenter, optional
        Needed where the region is cropped.

    Returns
    -------
    tuple of int
        256 counts.

    Raises
    ------
    InputError
    """
    from covidcxnet.preparation import prepare_files

    path = Path(path)
    if not path.is_file():
        raise InputError(f"match_to: {path}: no such file; give one radiograph")
    plain = unmatched(settings)
    outcome = next(iter(prepare_files([path], plain, segmenter=segmenter)))
    if outcome.prepared is None:
        raise InputError(f"match_to: {path}: {outcome.error}")
    if plain.region == "crop" and not outcome.trusted:
        raise InputError(
            f"match_to: {path}: its lungs are not found ({'; '.join(outcome.reasons)}), so that it cannot be cropped "
            "like the others; give another radiograph, or input.region none"
        )
    counts = grey_levels(outcome.prepared)
    if np.count_nonzero(counts) < 2:
        raise InputError(f"match_to: {path}: all its pixels have one grey level; give a radiograph")
    return tuple(int(count) for count in counts)


def unmatched(settings: InputSettings) -> InputSettings:
    """Settings whose one plane is what those given would match: raw, cropped where they crop."""
    # matching comes before the mask, so that only the crop decides which pixels count
    region: Literal["crop", "none"] = "crop" if "crop" in settings.region else "none"
    return dataclasses.replace(settings, channels=("raw",), histogram=(), region=region)


def grey_levels(prepared: Prepared) -> np.ndarray:
    """How many pixels of a raw stack have each grey level, int64 [256]; the padding is left out."""
    frame = prepared.frame
    rows = slice(frame.inner_top, frame.inner_top + frame.inner_height)
    columns = slice(frame.inner_left, frame.inner_left + frame.inner_width)
    return np.bincount(prepared.stack[rows, columns, 0].ravel(), minlength=256)
