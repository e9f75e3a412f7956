"""Input settings: everything between a file and the stack that a model sees. They travel inside every weights file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal

from enhancement.errors import InputError

CHANNELS = ("clahe", "beasf", "raw", "equalize", "adaptive_equalize", "blur", "equalize_blur")
REGIONS = ("none", "crop", "mask", "crop+mask")
Precision = Literal["float32", "mixed_bfloat16", "mixed_float16", "auto"]  # a Keras dtype policy, or the fitting one


@dataclass(frozen=True)
class InputSettings:
    """How a radiograph becomes a stack.

    Parameters
    ----------
    size : int
        Side of the square stack in pixels.
    channels : tuple of str
        Planes of the stack in order, from `CHANNELS`; any number. COVID-CXNet's default is CLAHE, BEASF, raw.
    clahe_clip_limit : float
        Contrast limit of CLAHE, as in OpenCV.
    clahe_tile_grid : tuple of int
        Tiles of CLAHE as (columns, rows).
    beasf_gamma : float
        Slope of BEASF's sigmoids; 1.5 in the COVID-CXNet paper.
    beasf_histogram : {"levels", "range"}
        How BEASF counts grey levels; see `enhancement.beasf`.
    resolution : int
        Longest side in pixels. Larger radiographs are first reduced to it, so that sources do not differ in sharpness.
        0 keeps the size.
    region : {"none", "crop", "mask", "crop+mask"}
        Part of the radiograph that the model sees: all, the box around the lungs, the dilated lungs, or both.
    margin : float
        Margin around the lungs' box as a fraction of its longer side.
    stretch : bool
        Stretch the region to the square (the paper) instead of keeping its aspect ratio by padding.
    segmenter : str
        Lung segmenter used where `region` is not "none": a released name or a weights file.
    histogram : tuple of int
        256 counts of a base image to match grey levels to, after the crop and before enhancement; empty for none.

    Raises
    ------
    InputError
        If a value is outside its range; the message names the key and the allowed values.
    """

    size: int = 320
    channels: tuple[str, ...] = ("clahe", "beasf", "raw")
    clahe_clip_limit: float = 2.0
    clahe_tile_grid: tuple[int, int] = (8, 8)
    beasf_gamma: float = 1.5
    beasf_histogram: Literal["levels", "range"] = "levels"
    resolution: int = 0
    region: Literal["none", "crop", "mask", "crop+mask"] = "none"
    margin: float = 0.05
    stretch: bool = False
    segmenter: str = "lung-unet"
    histogram: tuple[int, ...] = ()
    enhance_at: Literal["stack", "radiograph"] = "stack"

    def __post_init__(self):
        for name in ("channels", "clahe_tile_grid", "histogram"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("size", "resolution", "clahe_tile_grid"):
            given = getattr(self, name)
            values = given if isinstance(given, tuple) else (given,)
            whole = all(isinstance(n, Integral) and not isinstance(n, bool) for n in values)
            _require(whole, name, given, "whole numbers" if isinstance(given, tuple) else "a whole number")
        _require(isinstance(self.segmenter, str), "segmenter", self.segmenter, "a name or a path")
        _require(8 <= self.size <= 4096, "size", self.size, "8 to 4096 pixels")
        valid = 1 <= len(self.channels) <= 64 and all(c in CHANNELS for c in self.channels)
        _require(valid, "channels", self.channels, f"1 to 64 of {', '.join(CHANNELS)}")
        _require(self.clahe_clip_limit > 0, "clahe_clip_limit", self.clahe_clip_limit, "a number above 0")
        grid = self.clahe_tile_grid
        _require(len(grid) == 2 and all(1 <= g <= 64 for g in grid), "clahe_tile_grid", grid, "two numbers in 1..64")
        _require(self.beasf_gamma > 0, "beasf_gamma", self.beasf_gamma, "a number above 0")
        histogram = self.beasf_histogram
        _require(histogram in ("levels", "range"), "beasf_histogram", histogram, "levels or range")
        _require(self.resolution == 0 or self.resolution >= 32, "resolution", self.resolution, "0 (off) or 32 and more")
        places = ("stack", "radiograph")
        _require(self.enhance_at in places, "enhance_at", self.enhance_at, f"one of {', '.join(places)}")
        _require(self.region in REGIONS, "region", self.region, f"one of {', '.join(REGIONS)}")
        _require(0 <= self.margin <= 1, "margin", self.margin, "0 to 1")
        # Above 2 ** 53 a float, as which they are normalised, no longer holds every whole number.
        valid = len(self.histogram) in (0, 256) and all(0 <= n <= 1 << 53 for n in self.histogram)
        _require(
            valid and (not self.histogram or sum(self.histogram) > 0), "histogram", len(self.histogram), "256 counts"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON or YAML."""
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}
        # Left out at its default: older stores are found by a hash of these values, which had no such key.
        if self.enhance_at == "stack":
            del plain["enhance_at"]
        return plain

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> InputSettings:
        """Inverse of `to_dict`; unknown keys are refused."""
        if not isinstance(values, dict):
            raise InputError(f"input settings: {type(values).__name__} given, a table of keys and values expected")
        unknown = sorted(set(values) - {f.name for f in dataclasses.fields(cls)})
        if unknown:
            raise InputError(f"input settings: unknown key {unknown[0]!r}, newer than this program or damaged")
        try:
            return cls(**values)
        except InputError:
            raise
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError("input settings: a value of a wrong type, or damaged") from error

    @property
    def key(self) -> str:
        """Hash of all settings; two stores with one key hold stacks made the same way."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]


def _require(condition, key: str, value, allowed: str) -> None:
    if not condition:
        raise InputError(f"input.{key}: {value!r:.200} given, {allowed} expected")
