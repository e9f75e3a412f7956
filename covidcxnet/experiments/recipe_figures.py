"""Pictures of what a recipe does before training: its augmented images, and the class counts under its sampling."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from covidcxnet.datasets import Dataset
from covidcxnet.experiments.figure_inputs import Radiograph
from covidcxnet.models.scaling import TRAINING, Normalization, scale
from covidcxnet.preparation.pipeline import prepare_files
from covidcxnet.reporting import plots
from covidcxnet.reporting.pages import NOTICE
from covidcxnet.training.augmentation import augmenter
from covidcxnet.training.initial_weights import model_options
from covidcxnet.training.recipe import AugmentSettings, Recipe
from covidcxnet.training.sampling import Sampler
from enhancement import read_radiograph
from enhancement.errors import InputError
from segmentation.backend import ops

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIDE, _INCHES = 400, 1.75  # pixels and inches of a picture's longer side
_ALL = "all images"  # last row of the class counts
_GRAY: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 255}


@dataclass(frozen=True)
class Versions:
    """A radiograph ``uint8 [H, W]``, its stack ``uint8 [S, S, C]``, and N augmented stacks ``float32 [N, S, S, C]``."""

    caption: str
    radiograph: np.ndarray
    stack: np.ndarray
    augmented: np.ndarray


def augmented(
    recipe: Recipe, radiographs: Sequence[Radiograph], number: int, *, segmenter: Any = None
) -> tuple[list[Versions], dict[str, str]]:
    """Augment each radiograph `number` times by the recipe's settings and seed; also unreadable files, with reasons."""
    layers, drawn, unread = augmenter(recipe.augment, recipe.seed), [], {}
    paths = [radiograph.path for radiograph in radiographs]
    for radiograph, outcome in zip(radiographs, prepare_files(paths, recipe.input, segmenter=segmenter), strict=True):
        if outcome.prepared is None:
            unread[str(radiograph.path)] = outcome.error or ""
            continue
        stack = outcome.prepared.stack
        batch = np.repeat(stack[None].astype("float32"), number, axis=0)
        for layer in layers:
            batch = layer(batch, training=True)
        versions = np.asarray(ops.convert_to_numpy(batch), "float32")
        drawn.append(Versions(radiograph.caption, read_radiograph(radiograph.path), stack, versions))
    return drawn, unread


def draw_augmented(recipe: Recipe, rows: Sequence[Versions]) -> Figure:
    """Draw a row for each radiograph: the file, then its stack and augmented stacks as the model scales them."""
    if not rows:
        raise InputError("augmentation: none of the radiographs could be read")
    normalization = model_options(recipe)["normalization"]
    channels = recipe.input.channels
    colours = len(channels) == 3 and (len(set(channels)) == 3 or normalization in ("imagenet", "caffe"))
    shown = normalization if normalization != TRAINING else "unit"
    low, high = _range(shown, len(channels))
    columns = rows[0].augmented.shape[0] + 2
    planes = ", ".join(dict.fromkeys(channels))
    shown_planes = f"{planes} as red, green, blue" if colours else channels[0]
    scaling = "by the training images, not shown" if normalization == TRAINING else _name(normalization)
    bounds = "" if normalization == TRAINING else f", {low:.3g} (black) to {high:.3g} (white)"
    note = f"Shown: {shown_planes}. Scaling: {scaling}{bounds}. Augmentation: {describe(recipe.augment)}. {NOTICE}."
    note = textwrap.fill(note, 26 * columns)
    height = _INCHES * len(rows) + 0.4 + 0.15 * len(note.splitlines())
    figure, panels = plots.figure(_INCHES * columns + 0.3, height, len(rows), columns)
    heads = ["radiograph", "stack", *(f"version {k}" for k in range(1, columns - 1))]
    for number, (row, line) in enumerate(zip(rows, np.reshape(np.array(panels, object), (-1, columns)), strict=True)):
        plots.image(line[0], plots.resized(row.radiograph, _SIDE), **_GRAY)
        for axes in line:  # keeps the titles at one height, whatever the radiograph's proportions
            axes.set_anchor("N")
        for axes, stack in zip(line[1:], (row.stack, *row.augmented), strict=True):
            scaled = (_scaled(stack[None].astype("float32"), shown)[0] - low) / (high - low)
            pixels = scaled if colours else scaled[..., 0]
            plots.image(axes, pixels.clip(0, 1), cmap="gray", vmin=0, vmax=1)  # ignored for colours
        if not number:
            for axes, head in zip(line, heads, strict=True):
                axes.set_title(head, fontsize=9, pad=3)
        beside: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "parse_math": False}
        style: dict[str, Any] = {"rotation": 90, "ha": "right", "va": "center", "multialignment": "center"}
        line[0].annotate(row.caption, (0, 0.5), (-4, 0), fontsize=7.5, **style, **beside)
    figure.supxlabel(note, x=0.01, ha="left", fontsize=7.5).set_parse_math(False)
    return figure


def describe(settings: AugmentSettings) -> str:
    """The settings that change an image, in words: ``rotation 10, zoom 0.9 to 1.1``; ``none`` if there are none."""
    parts, still = [], AugmentSettings.none()
    for name in (field.name for field in fields(settings)):
        value = getattr(settings, name)
        if value == getattr(still, name) or name == "fill":
            continue
        words = name.replace("_", " ")
        if not isinstance(value, bool):
            words += f" {value[0]:g} to {value[1]:g}" if isinstance(value, tuple) else f" {value:g}"
        parts.append(words)
    return ", ".join(parts) or "none"


def class_counts(recipe: Recipe, dataset: Dataset, split: pd.DataFrame) -> pd.DataFrame:
    """Training images by class (or by finding present), in the split and in an epoch under the recipe's sampling.

    The last row counts images. With findings it is not the sum, as an image may show several findings or none.
    """
    usable = np.array([reason is None for reason in dataset.rejected])
    targets = np.asarray(dataset.targets)[(split["split"] == "train").to_numpy() & usable]
    if recipe.task == "independent":
        images = shown = (targets == 1).sum(axis=0)
    else:
        images = shown = np.bincount(targets.astype(int), minlength=len(dataset.classes))
        if recipe.sampling != "none":
            order = Sampler(targets, recipe.sampling, recipe.seed)(0)
            shown = np.bincount(targets[order].astype(int), minlength=len(dataset.classes))
    counts = pd.DataFrame({"images": images, "shown": shown}, index=list(dataset.classes))
    counts.loc[_ALL] = len(targets) if recipe.task == "independent" else counts.sum()
    return counts


def draw_counts(counts: pd.DataFrame, sampling: str) -> Figure:
    """Draw class counts of the training split and, if the recipe samples, of an epoch beside them on the same scale."""
    totals, counts = counts.loc[_ALL].to_dict(), counts.drop(index=_ALL)
    panels: dict[str, str] = {"images": "training images"}
    if sampling != "none":
        panels["shown"] = f"shown in an epoch ({sampling})"
    height = max(2.2, 0.4 * len(counts) + 1.2)
    figure, axes_of = plots.figure(4.2 * len(panels) + 0.4, height, 1, len(panels))
    places, top = np.arange(len(counts))[::-1], 1.2 * max(1, int(counts.to_numpy().max()))
    for axes, (column, title) in zip(axes_of, panels.items(), strict=True):
        axes.barh(places, counts[column], 0.68, color=[plots.colour(k) for k in range(len(counts))])
        total = max(1, int(totals[column]))
        for place, value in zip(places, counts[column], strict=True):
            axes.text(value, place, f" {value:,} ({value / total:.0%})", va="center", fontsize=8, color=plots.INK)
        axes.set_yticks(places, [plots.shortened(str(label), 24) for label in counts.index])
        axes.set(xlabel="images", xlim=(0, top), ylim=(-0.6, len(counts) - 0.4))
        axes.set_title(f"{title}: {total:,}", fontsize=10)
        axes.locator_params(axis="x", integer=True)
        for label in axes.get_yticklabels():
            label.set_parse_math(False)
    return figure


def _name(normalization: Normalization) -> str:
    return normalization if isinstance(normalization, str) else "mean and deviation given"


def _scaled(stacks: np.ndarray, normalization: Normalization) -> np.ndarray:
    scaled = np.asarray(ops.convert_to_numpy(scale(ops.convert_to_tensor(stacks), normalization)))
    return scaled[..., ::-1] if normalization == "caffe" else scaled  # caffe has blue first


def _range(normalization: Normalization, planes: int) -> tuple[float, float]:
    """What the scaling makes of black and white: the lowest and the highest value over all planes."""
    ends = np.broadcast_to(np.array([0, 255], "float32")[:, None, None, None], (2, 1, 1, planes))
    scaled = _scaled(np.ascontiguousarray(ends), normalization)
    return float(scaled.min()), float(scaled.max())
