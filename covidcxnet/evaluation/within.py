"""AUROC within single sources, and that of the source's name alone: how much of a score is the place.

Images of one and the same source can't be told apart by the place; the name of the source tells nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from covidcxnet.evaluation.bootstrap import Bootstrap, ratio
from covidcxnet.evaluation.ranking import concordance, rank

UNKNOWN = "unknown"  # the source of an image that has none: neither seen nor never seen


@dataclass(frozen=True)
class Within:
    """How well scores rank positives above negatives of the same source.

    Parameters
    ----------
    by_source : dict
        Source to AUROC, float64 [1 + resamples], of those that hold both sides; the largest first.
    pooled : np.ndarray or None
        AUROC over all pairs of images from one and the same source, float64 [1 + resamples]; None without any.
    """

    by_source: dict[str, np.ndarray]
    pooled: np.ndarray | None


def source_names(sources: pd.Series | np.ndarray | None) -> np.ndarray | None:
    """One name an image, object [N]; images without one form a source called "unknown". None where none is known."""
    if sources is None:
        return None
    named = pd.Series(sources, dtype=object).replace("", None)
    return None if named.isna().all() else named.fillna(UNKNOWN).astype(str).to_numpy(dtype=object)


def largest_first(names: np.ndarray) -> list[str]:
    """The different names, the most frequent first."""
    return list(pd.Series(names).value_counts().index)


def within_sources(
    scores: np.ndarray, positive: np.ndarray, names: np.ndarray, bootstrap: Bootstrap, rows: np.ndarray | None = None
) -> Within:
    """AUROC of `scores` float [n] against `positive` bool [n] within each source of `names` [n], and over all of them.

    `rows`, int [n], tells which of the bootstrap's images they belong to; all of them by default.
    """
    rows = np.arange(len(scores)) if rows is None else np.asarray(rows)
    right, pairs = np.zeros((2, 1 + bootstrap.resamples))
    by_source = {}
    for name in largest_first(names):
        own = np.flatnonzero(names == name)
        if positive[own].all() or not positive[own].any():
            continue
        here = concordance(scores[own], positive[own], bootstrap, rows[own])
        by_source[name] = ratio(*here)
        right, pairs = right + here[0], pairs + here[1]
    return Within(by_source, ratio(right, pairs) if by_source else None)


def source_alone(names: np.ndarray, positive: np.ndarray) -> float:
    """AUROC of a reader who sees only the source's name and knows its share of positives; NaN without both sides."""
    positive = np.asarray(positive, bool)
    if not len(positive) or positive.all() or not positive.any():
        return float("nan")
    share = pd.Series(positive.astype(float)).groupby(names).transform("mean").to_numpy()
    return float(rank(share, positive, Bootstrap(None, len(positive), resamples=0)).auroc[0])
