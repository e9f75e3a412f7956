"""From a radiograph to what the lung U-Net sees; these settings travel in its weights file."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from enhancement.errors import InputError

from .regions import Frame, frame_for

ENHANCEMENTS = ("clahe", "equalize", "adaptive_equalize", "beasf", "none")
FITS = ("pad", "stretch")


@dataclass(frozen=True)
class SegmenterInput:
    """Input settings of a lung U-Net.

    Parameters
    ----------
    size : int
        Side of the square that the network sees; divisible by 16.
    enhancement : {"clahe", "equalize", "adaptive_equalize", "beasf", "none"}
        Applied to the square.
    clahe_clip_limit : float
    clahe_tile_grid : tuple of int
        As in `enhancement.clahe`.
    fit : {"pad", "stretch"}
        Keep the radiograph's aspect ratio with black borders, or stretch it to the square.
    """

    size: int = 256
    enhancement: str = "clahe"
    clahe_clip_limit: float = 2.0
    clahe_tile_grid: tuple[int, int] = (8, 8)
    fit: str = "pad"

    def __post_init__(self):
        grid = self.clahe_tile_grid
        if isinstance(grid, list | tuple):
            object.__setattr__(self, "clahe_tile_grid", tuple(grid))
        if not _whole(self.size):
            raise InputError(f"size: {self.size!r:.80} given, a whole number expected")
        if not 16 <= self.size <= 4096 or self.size % 16:
            raise InputError(
                f"size: {self.size} given, a multiple of 16 up to 4096 expected (the U-Net halves it four times)"
            )
        if self.enhancement not in ENHANCEMENTS:
            raise InputError(f"enhancement: {self.enhancement!r} given, one of {', '.join(ENHANCEMENTS)} expected")
        if self.fit not in FITS:
            raise InputError(f"fit: {self.fit!r} given, one of {', '.join(FITS)} expected")
        limit = self.clahe_clip_limit
        limited = isinstance(limit, int | float) and not isinstance(limit, bool) and 0 < limit < math.inf
        paired = isinstance(grid, list | tuple) and len(grid) == 2
        if not limited or not paired or not all(_whole(tiles) and 1 <= tiles <= 64 for tiles in grid):
            raise InputError("clahe_clip_limit must be a number above 0 and clahe_tile_grid two whole numbers in 1..64")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {**dataclasses.asdict(self), "clahe_tile_grid": list(self.clahe_tile_grid)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SegmenterInput:
        """Inverse of `to_dict`; unknown keys are refused."""
        unknown = sorted(set(values) - {f.name for f in dataclasses.fields(cls)})
        if unknown:
            raise InputError(
                f"segmenter input: unknown key {unknown[0]!r}; a newer version wrote the file, or it is damaged"
            )
        return cls(**values)

    def frame(self, shape: tuple[int, ...]) -> Frame:
        """How a radiograph of this shape sits in the network's square."""
        return frame_for(shape, None, self.size, stretch=self.fit == "stretch")

    def enhance(self, square: np.ndarray) -> np.ndarray:
        """The enhancement of a square, ``uint8 [S, S]`` in and out."""
        import enhancement

        if self.enhancement == "clahe":
            return enhancement.clahe(square, clip_limit=self.clahe_clip_limit, tile_grid=self.clahe_tile_grid)
        if self.enhancement == "none":
            return square
        return getattr(enhancement, self.enhancement)(square)

    def prepare(self, image: np.ndarray) -> tuple[np.ndarray, Frame]:
        """What the network sees of a radiograph.

        Parameters
        ----------
        image : ndarray, uint8 [H, W]

        Returns
        -------
        square : ndarray, uint8 [S, S]
        frame : Frame
            Leads back to the radiograph.
        """
        frame = self.frame(image.shape)
        return self.enhance(frame.place(frame.cut(image))), frame


def _whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
