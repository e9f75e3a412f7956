"""The cluster bootstrap: patients are drawn with replacement, and each brings all of its images along.

A resample is never a copy of the data, only a count for each patient. A statistic that is built from sums is then one
matrix product over all resamples, and a rank statistic one pass over images sorted once. Row 0 is always the data as
they are, so that a figure and its interval come from the same lines of code. Counts of many patients are not kept: each
statistic has them drawn again from the seed, block by block.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from statistics import NormalDist
from typing import Literal

import numpy as np
import pandas as pd

from covidcxnet.reporting.table import Estimate

LEVEL = 0.95
_BLOCK_CELLS = 2_000_000  # weights held at once; 16 MB as float64
_KEPT_CELLS = 10_000_000  # counts that are kept, of some 5,000 patients in 2,000 resamples; 20 MB as uint16


class Bootstrap:
    """Resamples of patients as counts.

    Parameters
    ----------
    groups : sequence or None
        One patient label for each image. A missing label makes the image a patient of its own, and so does None for
        all of them.
    images : int, optional
        Number of images; needed where `groups` is None.
    resamples : int
        How many; 0 gives figures without intervals.
    seed : int
        Seed of the draws.

    Notes
    -----
    Efron and Tibshirani, An Introduction to the Bootstrap (1993), ch. 13 for percentile intervals; Field and Welsh,
    J. R. Stat. Soc. B 69 (2007) for drawing whole clusters.
    """

    def __init__(self, groups, images: int | None = None, *, resamples: int = 2000, seed: int = 0):
        self.index, self.patients, self.unknown = _number_patients(groups, images)
        self.resamples = resamples
        # The patients that are drawn from, and those of them that these images show: all, but in a `part`.
        self._seed, self._population, self._members = seed, self.patients, np.arange(self.patients)
        # BLAS rounds by the memory order of its factors: the same figures to the last digit need the same order.
        self._order: Literal["C", "F"] = "C"
        self._kept = self._keep()

    @property
    def counts(self) -> np.ndarray:
        """How often each patient is in each resample, uint16 [1 + resamples, patients]."""
        return next(self._draw(self._members, 1 + self.resamples)) if self._kept is None else self._kept

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sum of `values` float [N, K] over the images of each resample: float64 [1 + resamples, K]."""
        totals = np.empty((self.patients, values.shape[1]))
        for k in range(values.shape[1]):  # one by one: a column of float64 at a time, whatever `values` are
            totals[:, k] = np.bincount(self.index, values[:, k], self.patients)
        return np.concatenate([c.astype(np.float64, self._order) @ totals for c in self._blocks(slice(None))])

    def weights(self, rows: np.ndarray, cells: int = 0) -> Iterator[np.ndarray]:
        """How often each image of `rows` is in each resample, as float64 blocks [b, len(rows)] in order.

        `cells` are those of a block, where it need not be the usual number.
        """
        for counts in self._blocks(self.index[rows], cells):
            yield counts.astype(np.float64, "F")

    def part(self, rows: np.ndarray) -> Bootstrap:
        """The same draws, seen by some of the images only: int [n] of `rows`, which its images are numbered after."""
        patients, index = np.unique(self.index[rows], return_inverse=True)
        part = copy(self)
        part.index, part.patients, part._members = index.astype(np.int64), len(patients), self._members[patients]
        part.unknown = int((patients >= self.patients - self.unknown).sum())
        part._order = "F"
        part._kept = part._keep() if self._kept is None else self._kept[:, patients]
        return part

    def _keep(self) -> np.ndarray | None:
        few = (1 + self.resamples) * self.patients <= _KEPT_CELLS
        return next(self._draw(self._members, 1 + self.resamples)) if few else None

    def _blocks(self, patients: np.ndarray | slice, cells: int = 0) -> Iterator[np.ndarray]:
        """Counts of some patients, uint16 [b, n], over all resamples in order."""
        members = self._members[patients]
        step = max(1, (cells or _BLOCK_CELLS) // max(1, len(members)))
        if self._kept is None:
            yield from self._draw(members, step)
            return
        for start in range(0, 1 + self.resamples, step):
            yield self._kept[start : start + step, patients]

    def _draw(self, members: np.ndarray, step: int) -> Iterator[np.ndarray]:
        """Counts of some of the population, drawn anew, in blocks of `step` resamples."""
        rng = np.random.default_rng(self._seed)
        for start in range(0, 1 + self.resamples, step):
            block = np.ones((min(step, 1 + self.resamples - start), len(members)), np.uint16)
            for row in block if start else block[1:]:
                drawn = rng.integers(0, self._population, self._population)
                row[:] = np.bincount(drawn, minlength=self._population)[members]
            yield block

    def estimate(self, statistic: np.ndarray, of: np.ndarray | None = None) -> Estimate:
        """Figure and interval from `statistic` float [1 + resamples], row 0 being the data as they are.

        The interval is the percentile interval. Where that has no width, as of 6 in 6 or of a single patient, resamples
        say nothing about other patients: a proportion of the images `of`, bool [N], then has the interval of Wilson
        (J. Am. Stat. Assoc. 22, 1927) for as many trials as they are of patients, and any other figure has none.
        """
        drawn = statistic[1:]
        defined = drawn[~np.isnan(drawn)]
        figure = Estimate(float(statistic[0]), undefined=len(drawn) - len(defined), resamples=self.resamples)
        if not len(defined) or math.isnan(figure.value):
            return figure
        low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        if low == high:
            if of is None:
                return figure
            low, high = _wilson(figure.value, len(np.unique(self.index[of])))
        return replace(figure, low=float(low), high=float(high))

    def band(self, statistics: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pointwise interval of curves float [1 + resamples, G]: two arrays float [G], NaN where nothing is defined."""
        drawn = statistics[1:]
        drawn = drawn[~np.isnan(drawn).any(axis=1)]
        if not len(drawn):
            nothing = np.full(statistics.shape[1], math.nan)
            return nothing, nothing
        low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
        return low, high


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Element by element, NaN where the denominator is 0: an undefined figure is never 0."""
    above, below = np.broadcast_arrays(np.asarray(above, np.float64), np.asarray(below, np.float64))
    return np.divide(above, below, out=np.full(above.shape, math.nan), where=below != 0)


def mean_of_defined(statistics: list[np.ndarray]) -> np.ndarray:
    """Mean of statistics float [1 + resamples], in each resample over those defined in it; NaN where none is."""
    stacked = np.array(statistics)
    return ratio(np.nansum(stacked, axis=0), (~np.isnan(stacked)).sum(axis=0))


def _number_patients(groups, images: int | None) -> tuple[np.ndarray, int, int]:
    """Index of each image's patient, number of patients, and images whose patient is unknown."""
    if groups is None:
        if not images:
            raise ValueError("Bootstrap: either groups or a positive number of images is needed")
        return np.arange(images), images, images
    codes, names = pd.factorize(pd.Series(groups, dtype=object).replace("", None))
    if not len(codes):
        raise ValueError("Bootstrap: no images")
    missing = codes < 0
    codes = codes.astype(np.int64)
    codes[missing] = len(names) + np.arange(missing.sum())
    return codes, len(names) + int(missing.sum()), int(missing.sum())


def _wilson(share: float, n: int) -> tuple[float, float]:
    """Wilson's interval of a share among `n` trials, also where it is of no whole number of them."""
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    middle, spread = share + z**2 / (2 * n), z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low, high = (middle - spread) / (1 + z**2 / n), (middle + spread) / (1 + z**2 / n)
    return max(0.0, min(low, share)), min(1.0, max(high, share))  # at 0 and 1, rounding may leave the share outside
