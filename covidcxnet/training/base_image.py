"""`match_to`: the grey-level histogram of a base radiograph, taken where the pipeline will match it.

COVID-CXNet matches all images to one base image for its multiclass model, so that sources differ less in exposure.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np

from covidcxnet.settings import InputSettings
from enhancement.errors import InputError

from .recipe import Recipe


def with_histogram(recipe: Recipe) -> Recipe:
    """The recipe with its base radiograph's counts in `input.histogram`, so that the file is not needed again.

    Raises
    ------
    InputError
        If the file cannot be read, is of one grey level, or its lungs, which the region needs, cannot be found.
    """
    if not recipe.match_to:
        return recipe
    from .data import segmenter_of

    crops = "crop" in recipe.input.region
    counts = base_histogram(recipe.match_to, recipe.input, segmenter_of(recipe) if crops else None)
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
    # matching comes before the mask, so that only the crop decides which pixels count
    region: Literal["crop", "none"] = "crop" if "crop" in settings.region else "none"
    plain = dataclasses.replace(settings, channels=("raw",), histogram=(), region=region)
    outcome = next(iter(prepare_files([path], plain, segmenter=segmenter)))
    if outcome.prepared is None:
        raise InputError(f"match_to: {path}: {outcome.error}")
    if region == "crop" and not outcome.trusted:
        raise InputError(
            f"match_to: {path}: its lungs are not found ({'; '.join(outcome.reasons)}), so that it cannot be cropped "
            "like the others; give another radiograph, or input.region none"
        )
    frame = outcome.prepared.frame
    rows = slice(frame.inner_top, frame.inner_top + frame.inner_height)
    columns = slice(frame.inner_left, frame.inner_left + frame.inner_width)
    counts = np.bincount(outcome.prepared.stack[rows, columns, 0].ravel(), minlength=256)
    if np.count_nonzero(counts) < 2:
        raise InputError(f"match_to: {path}: all its pixels have one grey level; give a radiograph")
    return tuple(int(count) for count in counts)
