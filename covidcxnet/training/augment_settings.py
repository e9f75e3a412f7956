"""Augmentation settings: how far each training image may be turned, shifted and re-exposed. Plain values, no Keras."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from enhancement.errors import InputError


@dataclass(frozen=True)
class AugmentSettings:
    """What is drawn anew for every image in every epoch; each value is uniform in its range.

    Parameters
    ----------
    rotation : float
        Largest turn to either side in degrees, 0 to 180.
    flip_horizontal : bool
        Mirror every second image left to right.
    flip_vertical : bool
        Mirror every second image top to bottom.
    zoom : tuple of float
        Smallest and largest size of the content: 1.1 shows it a tenth larger. Uniform in the logarithm.
    shift : float
        Largest shift along either axis as a fraction of the side.
    fill : float
        Grey level of what comes into view from outside, 0 to 255.
    brightness : tuple of float
        Smallest and largest factor on grey levels.
    contrast : tuple of float
        Smallest and largest factor on the distance from the image's own mean.
    gamma : tuple of float
        Smallest and largest exponent on grey levels scaled to 0..1.
    blur : float
        Standard deviation in pixels of the strongest Gaussian blur; 0 for none.
    noise : float
        Standard deviation in grey levels of the strongest Gaussian noise; 0 for none.
    jpeg : int
        Lowest quality of JPEG's block quantisation, 1 to 100, uniform up to 100; 0 for none.
    erase : float
        Side of a square set to `fill`, as a fraction of the image's side; 0 for none.

    Raises
    ------
    InputError
        If a value is outside its range; the message names the key.
    """

    rotation: float = 10.0
    flip_horizontal: bool = False
    flip_vertical: bool = False
    zoom: tuple[float, float] = (0.9, 1.1)
    shift: float = 0.05
    fill: float = 0.0
    brightness: tuple[float, float] = (0.8, 1.2)
    contrast: tuple[float, float] = (1.0, 1.0)
    gamma: tuple[float, float] = (1.0, 1.0)
    blur: float = 0.0
    noise: float = 0.0
    jpeg: int = 0
    erase: float = 0.0

    def __post_init__(self):
        for name in ("zoom", "brightness", "contrast", "gamma"):
            value = tuple(getattr(self, name))
            object.__setattr__(self, name, value)
            ok = len(value) == 2 and 0.01 <= value[0] <= value[1] <= 100
            _require(ok, name, list(value), "two numbers, smaller first, in 0.01..100")
        most = {"rotation": 180, "fill": 255, "blur": 50, "noise": 255, "jpeg": 100}
        most |= dict.fromkeys(("shift", "erase"), 1)
        for name, limit in most.items():
            _require(0 <= getattr(self, name) <= limit, name, getattr(self, name), f"0 to {limit}")

    @classmethod
    def none(cls) -> AugmentSettings:
        """Settings that leave every image as it is."""
        return cls(rotation=0, zoom=(1, 1), shift=0, brightness=(1, 1))

    @property
    def moves(self) -> bool:
        """Whether geometry changes, so that images must be resampled."""
        return bool(self.rotation or self.shift or self.flip_horizontal or self.flip_vertical or self.zoom != (1, 1))

    @property
    def tones(self) -> bool:
        """Whether grey levels change."""
        return any(pair != (1, 1) for pair in (self.brightness, self.contrast, self.gamma))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON or YAML."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}


def _require(condition, key: str, value, allowed: str) -> None:
    if not condition:
        raise InputError(f"augment.{key}: {value!r} given, {allowed} expected")
