"""Feature maps of the first and the last convolution: what a network makes of one radiograph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from covidcxnet.experiments.figure_inputs import NamedModel
from covidcxnet.explain.layers import convolutions
from covidcxnet.reporting import plots
from segmentation.backend import keras

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 32
"""Maps that are drawn of a layer."""

_ACROSS = 8


@dataclass(frozen=True)
class FeatureMaps:
    """Output of one layer for one stack, as it is: `maps` is float32 [h, w, F]."""

    layer: str
    maps: np.ndarray


def feature_maps(model: keras.Model, stack: np.ndarray, layers: Sequence[str] | None = None) -> list[FeatureMaps]:
    """Outputs of layers, by default of the first and the last convolution, for one stack [H, W, C] in 0..255."""
    if layers is None:
        names = convolutions(model)
        layers = list(dict.fromkeys([names[0], names[-1]]))
    outputs_of = keras.Model(model.inputs[0], [model.get_layer(name).output for name in layers], name="maps")
    outputs = outputs_of(stack[None].astype("float32"), training=False)
    outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
    maps = [np.asarray(keras.ops.convert_to_numpy(output), "float32")[0] for output in outputs]
    return [FeatureMaps(name, values) for name, values in zip(layers, maps, strict=True)]


def draw(model: NamedModel, stack: np.ndarray, layers: Sequence[FeatureMaps], caption: str) -> Figure:
    """The stack's planes, and below them a grid of maps for each layer, under the layer's name.

    Each map has a range of its own (1st to 99th percentile): the figure shows where a map is strong, not how strong.
    """
    spread = [_spread(layer.maps[..., :MOST]) for layer in layers]
    grids = [_montage(stack.astype("float32") / 255), *(_montage(maps) for maps in spread)]
    titles = [f"stack: {', '.join(model.classifier.input.channels)}"]
    for k, layer in enumerate(layers):
        height, wide, count = layer.maps.shape
        place = ("first convolution, ", "last convolution, ")[k] if len(layers) == 2 else ""
        rest = "" if count <= MOST else f", the first {MOST} shown"
        titles.append(f"{place}{layer.layer}: {count} maps of {wide} x {height}{rest}")
    width = 9.0
    heights = [width / _ACROSS * 1.25 + 0.3, *(width * grid.shape[0] / grid.shape[1] + 0.32 for grid in grids[1:])]
    figure, panels = plots.figure(width + 0.2, sum(heights) + 0.7, len(heights), 1, ratios=heights)
    for axes, grid, title in zip(panels, grids, titles, strict=True):
        axes.imshow(grid, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(title, fontsize=9.5, loc="left").set_parse_math(False)
        axes.set_axis_off()
    text = ", ".join(caption.split("\n"))
    figure.suptitle(f"{model.name}: feature maps of one radiograph ({text})", fontsize=11, parse_math=False)
    return figure


def _spread(maps: np.ndarray) -> np.ndarray:
    low, high = np.percentile(maps, (1, 99), axis=(0, 1))
    return ((maps - low) / np.where(high > low, high - low, 1)).clip(0, 1)


def _montage(maps: np.ndarray) -> np.ndarray:
    """Maps ``[h, w, F]`` in 0..1 side by side with white between them; small ones enlarged."""
    times = max(1, 48 // max(maps.shape[:2]))
    maps = maps.repeat(times, axis=0).repeat(times, axis=1)
    gap = max(1, round(0.05 * max(maps.shape[:2])))
    rows = -(-maps.shape[2] // _ACROSS)
    tiles = np.pad(maps, ((0, gap), (0, gap), (0, rows * _ACROSS - maps.shape[2])), constant_values=1)
    h, w = tiles.shape[:2]
    return tiles.reshape(h, w, rows, _ACROSS).transpose(2, 0, 3, 1).reshape(rows * h, _ACROSS * w)
