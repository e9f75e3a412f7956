"""Means and deviations of many images from sums that grow by one image at a time."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Moments:
    """Sums over ``uint8 [S, S]`` images and their grey-level histograms; exact, whatever the order.

    Parameters
    ----------
    size : int
        Side of the images.

    Examples
    --------
    >>> moments = Moments(1)
    >>> for level in (10, 20):
    ...     moments.add(np.full((1, 1), level, "uint8"), np.zeros(256))
    >>> float(moments.mean[0, 0]), float(moments.deviation[0, 0])
    (15.0, 5.0)
    """

    size: int
    images: int = 0
    total: np.ndarray = field(init=False, repr=False)
    squares: np.ndarray = field(init=False, repr=False)
    shares: np.ndarray = field(init=False, repr=False)

    def __post_init__(self):
        # Whole numbers: 255 squared times 10^14 images fits, and no digit is ever lost.
        self.total = np.zeros((self.size, self.size), np.int64)
        self.squares = np.zeros((self.size, self.size), np.int64)
        self.shares = np.zeros(256)

    def add(self, image: np.ndarray, shares: np.ndarray) -> None:
        """One image, ``uint8 [S, S]``, and its share of pixels at each grey level, ``[256]``."""
        wide = image.astype(np.int64)
        self.images += 1
        self.total += wide
        self.squares += wide * wide
        self.shares += shares

    def __add__(self, other: Moments) -> Moments:
        """The sums of both."""
        both = Moments(self.size, self.images + other.images)
        both.total[:] = self.total + other.total
        both.squares[:] = self.squares + other.squares
        both.shares[:] = self.shares + other.shares
        return both

    @property
    def mean(self) -> np.ndarray:
        """Mean image, float64 [S, S], 0..255; NaN without images."""
        return self.total / self.images if self.images else np.full(self.total.shape, np.nan)

    @property
    def deviation(self) -> np.ndarray:
        """Standard deviation at each pixel (divisor n), float64 [S, S]; NaN without images."""
        if not self.images:
            return np.full(self.total.shape, np.nan)
        return np.sqrt(np.maximum(self.squares / self.images - self.mean**2, 0))

    @property
    def histogram(self) -> np.ndarray:
        """Mean share of pixels at each grey level, float64 [256]: every image counts alike, large or small."""
        return self.shares / self.images if self.images else np.full(256, np.nan)
