"""Where a radiograph sits in a model's square: the lungs' box, padding or stretching, and the way back for heatmaps."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import cv2
import numpy as np

from enhancement.errors import InputError

# COVID-CXNet dilates the soft map three times with a 5 x 5 kernel at 320 x 320: 6 px, 2% of the side.
DILATION = 0.02

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Frame:
    """How a box of a radiograph is placed in a square of side `size`.

    The box (``top, left, bottom, right``; half-open, in the radiograph's own pixels) is resized to
    ``inner_height x inner_width`` and put at ``inner_top, inner_left`` of the square. Pixel areas, not pixel centres,
    are mapped on each other, as OpenCV's `resize` does.
    """

    height: int  # this and the next: the radiograph's own size
    width: int
    top: int
    left: int
    bottom: int
    right: int
    size: int
    inner_top: int
    inner_left: int
    inner_height: int
    inner_width: int

    @property
    def box(self) -> Box:
        """The box in the radiograph: top, left, bottom, right (half-open)."""
        return self.top, self.left, self.bottom, self.right

    @property
    def whole(self) -> bool:
        """Whether the box is all of the radiograph."""
        return self.box == (0, 0, self.height, self.width)

    @property
    def inner(self) -> tuple[slice, slice]:
        """Rows and columns of the square that the box fills."""
        rows = slice(self.inner_top, self.inner_top + self.inner_height)
        return rows, slice(self.inner_left, self.inner_left + self.inner_width)

    def cut(self, image: np.ndarray) -> np.ndarray:
        """The box of `image` ``[height, width(, C)]``, resized to ``[inner_height, inner_width(, C)]`` of its dtype.

        ``uint8`` and floats are averaged over areas when shrunk and interpolated linearly when enlarged; ``bool`` takes
        the nearest pixel. Raises `ValueError` for an image of another size than the radiograph of this frame.
        """
        if image.shape[:2] != (self.height, self.width):
            raise ValueError(f"frame of a {self.height} x {self.width} radiograph, image of shape {image.shape}")
        inside = image[self.top : self.bottom, self.left : self.right]
        return _resize(inside, self.inner_height, self.inner_width)

    def place(self, inner: np.ndarray, fill=0) -> np.ndarray:
        """Put what `cut` returned in the square ``[size, size(, C)]`` of its dtype, with `fill` around it."""
        if inner.shape[:2] != (self.inner_height, self.inner_width):
            raise ValueError(f"frame of inner size {self.inner_height} x {self.inner_width} given shape {inner.shape}")
        if inner.shape[:2] == (self.size, self.size):
            return inner.copy()
        square = np.full((self.size, self.size, *inner.shape[2:]), fill, inner.dtype)
        square[self.inner] = inner
        return square

    def to_radiograph(self, square: np.ndarray, fill=0) -> np.ndarray:
        """Lay a map of the square back over the radiograph, ``[height, width]``: the inverse of `place` after `cut`.

        The map may have any resolution: a mask of the square's full size, or a coarse heatmap whose cells tile it. A
        bool map stays one (interpolated, then cut at one half), others become ``float32``. Outside the box is `fill`.
        """
        binary = square.dtype == np.bool_
        values = np.ascontiguousarray(square, np.float32)
        box_height, box_width = self.bottom - self.top, self.right - self.left
        if values.shape == (self.size, self.size):
            inside = _resize(values[self.inner], box_height, box_width)
        else:
            rows = _positions(box_height, self.inner_top, self.inner_height, self.size, values.shape[0])
            columns = _positions(box_width, self.inner_left, self.inner_width, self.size, values.shape[1])
            grid = np.meshgrid(columns, rows)
            inside = cv2.remap(values, grid[0], grid[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        # A bool map was interpolated as 0 and 1: one half is where its outline lies.
        full = inside
        if not self.whole:
            full = np.full((self.height, self.width), fill, np.float32)
            full[self.top : self.bottom, self.left : self.right] = inside
        return full >= 0.5 if binary else full

    def to_array(self) -> np.ndarray:
        """The eleven numbers in the order of the fields, ``int32 [11]``."""
        return np.array(dataclasses.astuple(self), np.int32)

    @classmethod
    def from_array(cls, values: np.ndarray) -> Frame:
        """Inverse of `to_array`."""
        return cls(*(int(v) for v in values))


def frame_for(
    shape: tuple[int, ...], box: Box | None = None, size: int = 320, margin: float = 0.0, stretch: bool = False
) -> Frame:
    """The frame that brings a box of a radiograph into a square.

    Parameters
    ----------
    shape : tuple of int
        Shape of the radiograph; height and width count.
    box : (top, left, bottom, right) or None
        Half-open box in pixels, for example `LungMask.box`; None takes the whole radiograph.
    size : int
        Side of the square in pixels.
    margin : float
        Added on each side of the box, as a fraction of its longer side; never beyond the radiograph.
    stretch : bool
        Stretch the box to the square, as COVID-CXNet does, instead of keeping its aspect ratio by padding.

    Raises
    ------
    InputError
        If the box is empty or lies outside the radiograph.
    """
    height, width = int(shape[0]), int(shape[1])
    top, left, bottom, right = (0, 0, height, width) if box is None else (int(v) for v in box)
    if not (0 <= top < bottom <= height and 0 <= left < right <= width):
        raise InputError(f"box {(top, left, bottom, right)} is empty or outside a radiograph of {height} x {width}")
    if box is not None:
        extra = round(margin * max(bottom - top, right - left))
        top, left = max(0, top - extra), max(0, left - extra)
        bottom, right = min(height, bottom + extra), min(width, right + extra)
    inner_height = inner_width = size
    if not stretch:
        # Of a long thin box the shorter side would be rounded to 0.
        longer = max(bottom - top, right - left)
        inner_height = max(1, round((bottom - top) * size / longer))
        inner_width = max(1, round((right - left) * size / longer))
    inner_top, inner_left = (size - inner_height) // 2, (size - inner_width) // 2
    return Frame(height, width, top, left, bottom, right, size, inner_top, inner_left, inner_height, inner_width)


def box_of(mask: np.ndarray) -> Box | None:
    """Bounding box (top, left, bottom, right; half-open) of a bool mask, or None if it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def dilate(mask: np.ndarray, fraction: float = DILATION) -> np.ndarray:
    """Grow a bool mask by a disk whose radius is `fraction` of the image's longer side (0: unchanged)."""
    radius = round(fraction * max(mask.shape))
    if radius < 1 or not mask.any():
        return mask.copy()
    # A distance transform costs the same for every radius; a disk kernel on a 3000 px radiograph takes seconds.
    distance = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return distance <= radius


def keep_inside(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A copy of `image` ([H, W] or [H, W, C]) that is 0 outside the bool mask [H, W]."""
    return np.where(mask if image.ndim == 2 else mask[..., None], image, 0).astype(image.dtype)


def bring_down(image: np.ndarray, longest: int) -> np.ndarray:
    """The image with its longest side brought down to so many pixels, by area; as it is where that is no longer."""
    most = max(image.shape)
    if most <= longest:
        return image
    height, width = (max(1, round(side * longest / most)) for side in image.shape)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    if image.shape[:2] == (height, width):
        return image.copy()
    if image.dtype == np.bool_:
        return cv2.resize(image.view(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT).view(bool)
    # INTER_AREA does not interpolate when it enlarges: it repeats pixels.
    shrinks = height * width < image.shape[0] * image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _positions(pixels: int, start: int, length: int, size: int, cells: int) -> np.ndarray:
    """Where the centres of `pixels` pixels of the box lie on the cells of a coarse map over the square."""
    scale = cells / size
    inside = (start + (np.arange(pixels) + 0.5) * (length / pixels)) * scale - 0.5
    # Cells whose centre lies in the padding say nothing about the radiograph: do not mix them in at the edge.
    first, last = np.ceil(start * scale - 0.5), np.floor((start + length) * scale - 0.5)
    if last > first:
        inside = inside.clip(first, last)
    return inside.clip(0, cells - 1).astype(np.float32)
