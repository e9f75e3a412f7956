"""Feature maps of the first and the last convolution: what a network makes of one radiograph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from covidcxnet.experiments.figure_inputs import NamedModel
from covidcxnet.explain.layers import convolutions

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

MOST = 32
"""Maps that are drawn of a layer."""

_ACROSS = 8


@dataclass(frozen=True)
class FeatureMaps:
    """Maps of one layer for one stack.

    Attributes
    ----------
    layer : str
    maps : float32 [h, w, F]
        The layer's output as it is.
    """

    layer: str
    maps: np.ndarray


def feature_maps(model: keras.Model, stack: np.ndarray, layers: Sequence[str] | None = None) -> list[FeatureMaps]:
    """Outputs of layers for one stack.

    Parameters
    ----------
    model : keras.Model
    stack : uint8 or float32 [H, W, C]
        As the model takes it, 0..255.
    layers : sequence of str, optional
        By default the first and the last convolution.

    Raises
    ------
    InputError
        If the model has no convolution.
    """
    import keras

    if layers is None:
        names = convolutions(model)
        layers = list(dict.fromkeys([names[0], names[-1]]))
    several = keras.Model(model.inputs[0], [model.get_layer(name).output for name in layers], name="maps")
    outputs = several(stack[None].astype("float32"), training=False)
    outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
    return [
        FeatureMaps(name, np.asarray(keras.ops.convert_to_numpy(output), "float32")[0])
        for name, output in zip(layers, outputs, strict=True)
    ]


def draw(model: NamedModel, stack: np.ndarray, found: Sequence[FeatureMaps], caption: str) -> Figure:
    """The stack's planes, and below them a grid of maps for each layer, under the layer's name.

    Each map has a range of its own (1st to 99th percentile): which map is stronger can't be seen, only where.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    planes = model.classifier.input.channels
    grids = [_montage(one.maps) for one in found]
    width = 9.0
    heights = [width / _ACROSS * 1.25 + 0.3, *(width * grid.shape[0] / grid.shape[1] + 0.32 for grid in grids)]
    figure = Figure(figsize=(width + 0.2, sum(heights) + 0.7), dpi=130, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False).ravel()
    shown = _montage(stack.astype("float32"), spread=False, across=_ACROSS)
    panels[0].imshow(shown, cmap="gray", vmin=0, vmax=1)
    panels[0].set_title(f"stack: {', '.join(planes)}", fontsize=9.5, loc="left")
    for axes, one, grid, place in zip(panels[1:], found, grids, _places(len(found)), strict=True):
        height, wide, count = one.maps.shape
        rest = "" if count <= MOST else f", the first {MOST} shown"
        axes.imshow(grid, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        title = f"{place}{one.layer}: {count} maps of {wide} x {height}{rest}"
        axes.set_title(title, fontsize=9.5, loc="left").set_parse_math(False)
    for axes in panels:
        axes.set_axis_off()
    said = ", ".join(caption.split("\n"))
    figure.suptitle(f"{model.name}: feature maps of one radiograph ({said})", fontsize=11, parse_math=False)
    return figure


def _places(count: int) -> list[str]:
    return ["first convolution, ", "last convolution, "] if count == 2 else [""] * count


def _montage(maps: np.ndarray, spread: bool = True, across: int = _ACROSS) -> np.ndarray:
    """Maps ``[h, w, F]`` side by side with white between them, each brought to 0..1; small ones enlarged."""
    maps = maps[..., :MOST]
    height, width, count = maps.shape
    if spread:
        low, high = np.percentile(maps, (1, 99), axis=(0, 1))
        maps = ((maps - low) / np.where(high > low, high - low, 1)).clip(0, 1)
    else:
        maps = maps / 255
    times = max(1, 48 // max(height, width))
    maps = maps.repeat(times, axis=0).repeat(times, axis=1)
    gap = max(1, round(0.05 * max(maps.shape[:2])))
    tiles = np.pad(maps, ((0, gap), (0, gap), (0, 0)), constant_values=1)
    rows = -(-count // across)
    tiles = np.pad(tiles, ((0, 0), (0, 0), (0, rows * across - count)), constant_values=1)
    h, w = tiles.shape[:2]
    return tiles.reshape(h, w, rows, across).transpose(2, 0, 3, 1).reshape(rows * h, across * w)
