"""`LungMask`: what was found on one radiograph."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from enhancement.errors import InputError

from .regions import Box, Frame, box_of, dilate
from .unet import CONVENTIONS
from .verdict import Verdict


@dataclass(frozen=True, eq=False)
class LungMask:
    """The lungs of one radiograph.

    Full-size arrays are made from the network's small maps when first asked for, so that results of many large
    radiographs can be kept.

    Attributes
    ----------
    path : str or None
        The file; None for an array.
    error : str or None
        Why there is no result (the file cannot be read); then masks, maps, box and verdict are None.
    verdict : Verdict or None
    frame : Frame or None
        How the radiograph sat in the network's square.
    """

    path: str | None = None
    error: str | None = None
    verdict: Verdict | None = None
    frame: Frame | None = None
    threshold: float = 0.5
    dilation: float = 0.0
    convention: str = CONVENTIONS[0]
    _cleaned: np.ndarray | None = field(default=None, repr=False)
    _maps: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    @cached_property
    def mask(self) -> np.ndarray | None:
        """Lungs after post-processing (and dilation, if set), ``bool [H, W]`` of the radiograph's own size."""
        if self.frame is None or self._cleaned is None:
            return None
        mask = self.frame.to_radiograph(self._cleaned) >= self.threshold
        return dilate(mask, self.dilation) if self.dilation else mask

    @property
    def probability(self) -> np.ndarray | None:
        """The network's soft map before post-processing, ``float32 [H, W]`` in 0..1."""
        return None if self.frame is None else self.frame.to_radiograph(self._maps[self.convention])

    def probability_of(self, convention: str) -> np.ndarray | None:
        """The soft map of a given mask convention, if the network has learnt it."""
        if self.frame is None:
            return None
        if convention not in self._maps:
            raise InputError(f"convention: {convention!r} given; this network knows {', '.join(self._maps)}")
        return self.frame.to_radiograph(self._maps[convention])

    @cached_property
    def box(self) -> Box | None:
        """Bounding box of the mask: top, left, bottom, right (half-open); None if the mask is empty."""
        return None if self.mask is None else box_of(self.mask)
