"""Mean and deviation of the training images, for `normalization: training`; other rows of the store are not read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from covidcxnet.models import create, freeze
from covidcxnet.models.scaling import TRAINING
from covidcxnet.preparation import Store
from enhancement.errors import InputError

if TYPE_CHECKING:
    import keras

    from .recipe import Recipe


def channel_statistics(store: Store, rows: np.ndarray, *, batch: int = 64, progress: bool = True) -> dict[str, Any]:
    """Mean and standard deviation of x/255 in each channel over all pixels of some rows.

    Each pixel value is one of 256, so that whole counts are kept and the result depends on no order or rounding;
    memory holds one batch of stacks.

    Parameters
    ----------
    store : Store
        Its stacks are ``uint8 [n, S, S, C]``; padding counts like every other pixel, as the model sees it too.
    rows : int array [n]
        Rows to count: the training images.
    batch : int
        Stacks read at a time.
    progress : bool
        Show a progress bar.

    Returns
    -------
    dict
        ``{"mean": [...], "std": [...]}``, one number for each channel, as `models.create` takes it for normalization.

    Raises
    ------
    InputError
        If there is no row, or all pixels of a channel have one value.
    """
    if not len(rows):
        raise InputError("normalization: no training image to find statistics of")
    counts: np.ndarray | int = 0
    for start in tqdm(
        range(0, len(rows), batch), "statistics", unit="batch", leave=False, disable=not progress or None
    ):
        stacks = store.read(rows[start : start + batch])
        counts = counts + np.stack([np.bincount(plane.ravel(), minlength=256) for plane in np.moveaxis(stacks, -1, 0)])
    levels = np.arange(256) / 255
    shares = counts / np.sum(counts, axis=1, keepdims=True)
    mean = shares @ levels
    deviation = np.sqrt((shares * (levels - mean[:, None]) ** 2).sum(axis=1))
    if (deviation == 0).any():
        channel = store.settings.channels[int(np.argmin(deviation))]
        raise InputError(f"normalization: all training pixels of channel {channel} have one value; use unit")
    return {"mean": [round(float(v), 6) for v in mean], "std": [round(float(v), 6) for v in deviation]}


def with_statistics(
    core: keras.Model, options: dict[str, Any], recipe: Recipe, store: Store, rows: np.ndarray
) -> tuple[keras.Model, dict[str, Any]]:
    """A model that scales by the statistics of training rows, and its options with those numbers in them.

    Its weights are those of `core`, which was built before the images were read. Where the options do not ask for
    these statistics, or have them already, both come back as they are.
    """
    if options["normalization"] != TRAINING:
        return core, options
    options = options | {"normalization": channel_statistics(store, rows)}
    scaled = create(recipe.model, classes=recipe.classes, **options)
    freeze(scaled, str(recipe.trainable))
    scaled.set_weights(core.get_weights())
    return scaled, options


def placeholder(options: dict[str, Any]) -> dict[str, Any]:
    """Options that a model can be built from while its statistics are not known yet."""
    if options["normalization"] != TRAINING:
        return options
    return options | {"normalization": {"mean": [0.5] * options["channels"], "std": [0.25] * options["channels"]}}
