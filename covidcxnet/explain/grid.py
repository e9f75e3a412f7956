"""Where the cells of a feature layer look: a map of few cells laid over the stack where its evidence came from.

A convolution without padding gives cells to the middle of its input only. Stretched evenly over the stack, their map
would lie up to a sixth of the side beside what it shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segmentation.backend import keras, layers

_FEW = 4  # cells a side below which all that a map can say is a quarter of the stack, or less
_KEYS = -0.75  # of the cubic kernel (Keys 1981), as in OpenCV's INTER_CUBIC


@dataclass(frozen=True)
class Grid:
    """Centres of the cells' receptive fields in pixels of the stack: row i looks at ``top + i * down``."""

    top: float  # of the first cell; the first pixel's centre is 0
    left: float
    down: float  # from one cell to the next
    right: float

    @classmethod
    def even(cls, size: Sequence[int], cells: Sequence[int]) -> Grid:
        """Of cells that tile ``size`` pixels, both (height, width)."""
        down, right = (pixels / count for pixels, count in zip(size, cells, strict=True))
        return cls((down - 1) / 2, (right - 1) / 2, down, right)


def grid_of(model: keras.Model, layer: str) -> Grid:
    """The grid of a layer's output ``[n, h, w, F]``, from kernels, strides and padding on the way to it.

    Where branches meet, the mean of theirs; behind a layer that changes the size by other means than convolution,
    pooling, padding or cropping, cells are taken to tile the stack. See A. Araujo, W. Norris, J. Sim: Computing
    receptive fields of convolutional neural networks. Distill, 2019.
    """
    stack = model.inputs[0]
    grids = {id(stack): Grid(0.0, 0.0, 1.0, 1.0)}
    for operation in model.operations:
        output = operation.output
        if len(getattr(output, "shape", ())) != 4:
            continue
        before = [tensor for tensor in _inputs(operation) if id(tensor) in grids]
        if before:
            grids[id(output)] = _through(operation, before, [grids[id(tensor)] for tensor in before], stack.shape[1:3])
        if operation.name == layer and id(output) in grids:
            return grids[id(output)]
    raise ValueError(f"{model.name}: no layer {layer!r} that gives a map")


def enlarge(heat: np.ndarray, size: int, grid: Grid | None = None) -> np.ndarray:
    """Bring a map ``float32 [h, w]`` of few cells, 0..1, to the stack ``float32 [size, size]``, for drawing.

    Without a grid the cells tile the stack, and a map of the stack's size is one already. Beyond the outermost cells
    their value goes on for half a cell and falls to 0 over the next whole one: no cell looks further out but from the
    side.
    """
    values = np.asarray(heat, "float32")
    if grid is None:
        if values.shape == (size, size):
            return values
        grid = Grid.even((size, size), values.shape)
    # Smoothly: straight lines between cells would show stars where there are spots.
    rows = _cubic(size, values.shape[0], grid.top, grid.down)
    columns = _cubic(size, values.shape[1], grid.left, grid.right)
    return (rows @ values @ columns.T).clip(0, 1)


def remark(heat: np.ndarray, lungs: np.ndarray | None = None, grid: Grid | None = None) -> str:
    """What a reader of a map ``[h, w]`` must know beside it, in words; empty where there is nothing to say.

    With `lungs` bool ``[S, S]`` of the stack, also whether the warmest point lies more than half a cell outside them.
    """
    if not np.any(heat > 0):
        return "no part of the image supports the class"
    if min(heat.shape) < _FEW:
        return f"{heat.shape[0]} x {heat.shape[1]} cells are too few to locate anything"
    if lungs is None or not lungs.any():
        return ""
    size = lungs.shape[0]
    y, x = np.unravel_index(int(enlarge(heat / heat.max(), size, grid).argmax()), lungs.shape)
    reach = size // (2 * min(heat.shape))
    near = lungs[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
    return "" if near.any() else "the warmest point lies outside the lungs"


def _cubic(size: int, cells: int, start: float, step: float) -> np.ndarray:
    """Share of each cell in each pixel, float32 [size, cells]."""
    at = (np.arange(size) - start) / step
    first = np.floor(at).astype(int)
    shares = np.zeros((size, cells), "float32")
    for offset in (-1, 0, 1, 2):
        d = np.abs(at - first - offset)
        near = (_KEYS + 2) * d**3 - (_KEYS + 3) * d**2 + 1
        far = _KEYS * (d**3 - 5 * d**2 + 8 * d - 4)
        share = np.where(d <= 1, near, np.where(d < 2, far, 0.0))
        np.add.at(shares, (np.arange(size), (first + offset).clip(0, cells - 1)), share)
    beyond = np.maximum(-at, at - (cells - 1)) - 0.5
    return shares * (1 - beyond.clip(0, 1)[:, None]).astype("float32")


def _through(operation, tensors, grids: list[Grid], stack) -> Grid:
    size, shape = tensors[0].shape[1:3], operation.output.shape[1:3]
    if isinstance(operation, layers.Conv2D | layers.DepthwiseConv2D | layers.SeparableConv2D):
        dilation = operation.dilation_rate
        reach = [(k - 1) * d + 1 for k, d in zip(operation.kernel_size, dilation, strict=True)]
        return _window(grids[0], size, shape, reach, operation.strides, operation.padding)
    if isinstance(operation, layers.MaxPooling2D | layers.AveragePooling2D):
        return _window(grids[0], size, shape, operation.pool_size, operation.strides, operation.padding)
    if isinstance(operation, layers.ZeroPadding2D):
        (top, _), (left, _) = operation.padding
        return _moved(grids[0], -top, -left)
    if isinstance(operation, layers.Cropping2D):
        (top, _), (left, _) = operation.cropping
        return _moved(grids[0], top, left)
    # A branch of one cell that is spread over the others, as of squeeze and excitation, is of no place.
    alike = [grid for tensor, grid in zip(tensors, grids, strict=True) if tensor.shape[1:3] == shape]
    if not alike:
        return Grid.even(stack, shape)
    return Grid(*np.mean([[g.top, g.left, g.down, g.right] for g in alike], axis=0).tolist())


def _window(grid: Grid, size, shape, reach, strides, padding: str) -> Grid:
    """Behind a window of `reach` pixels that moves by `strides` over a map of `size`."""
    before = [0, 0]
    if padding == "same":
        # where a size is not known, of one that the stride divides
        wanted = [
            w - s if n is None else (m - 1) * s + w - n for n, m, w, s in zip(size, shape, reach, strides, strict=True)
        ]
        before = [max(0, pixels) // 2 for pixels in wanted]
    moved = _moved(grid, *((window - 1) / 2 - pad for window, pad in zip(reach, before, strict=True)))
    return Grid(moved.top, moved.left, grid.down * strides[0], grid.right * strides[1])


def _moved(grid: Grid, rows: float, columns: float) -> Grid:
    return Grid(grid.top + rows * grid.down, grid.left + columns * grid.right, grid.down, grid.right)


def _inputs(operation) -> list:
    try:
        given = operation.input
    except (AttributeError, ValueError):
        return []
    return list(given) if isinstance(given, list | tuple) else [given]
