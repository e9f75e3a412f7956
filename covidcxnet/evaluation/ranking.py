"""Rank statistics over all resamples at once: AUROC, average precision, ROC and precision-recall curves.

Images are sorted by score once. In each resample an image only changes its weight, so everything follows from
cumulative sums of weights along that order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from covidcxnet.evaluation.bootstrap import Bootstrap, Estimate, ratio

GRID = np.linspace(0, 1, 101)
_CELLS = 250_000  # weights of a block: what is computed of them fits the processor's caches, and takes half the time


@dataclass(frozen=True)
class Ranking:
    """How well scores rank positives above negatives; in each resample, NaN where one side is absent."""

    auroc: np.ndarray  # float64 [1 + resamples], as is the next
    average_precision: np.ndarray
    sensitivity: np.ndarray  # on `GRID` of false positive rates, float64 [1 + resamples, 101]
    precision: np.ndarray  # on `GRID` of recalls
    roc_points: np.ndarray  # every step in the data: float64 [points, 2], false positive rate and sensitivity
    precision_recall_points: np.ndarray  # recall and precision


def rank(scores: np.ndarray, positive: np.ndarray, bootstrap: Bootstrap, rows: np.ndarray | None = None) -> Ranking:
    """Rank statistics of `scores` float [n] against `positive` bool [n]; ties are shared, as in scikit-learn.

    `rows` int [n] are the bootstrap's images that they belong to; all of them by default.
    """
    rows = np.arange(len(scores)) if rows is None else np.asarray(rows)
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    descending = np.asarray(scores, np.float64)[order]
    is_positive = np.asarray(positive, bool)[order]
    starts = np.flatnonzero(np.r_[True, np.diff(descending) != 0])
    parts = [_rank_block(w, is_positive, starts) for w in bootstrap.weights(rows[order], _CELLS)]
    auroc, average_precision, sensitivity, precision = (np.concatenate(column) for column in zip(*parts, strict=True))
    true, false = _grouped(np.ones((1, len(order))), is_positive, starts)
    roc, precision_recall = _points(np.cumsum(true[0]), np.cumsum(false[0]))
    return Ranking(auroc, average_precision, sensitivity, precision, roc, precision_recall)


def mean_auroc(
    truth: np.ndarray, scores: np.ndarray, bootstrap: Bootstrap, task: str, rows: np.ndarray | None = None
) -> np.ndarray | None:
    """AUROC, mean over classes, of scores [N, C] in each resample; None where no class is both present and absent.

    `rows` int [n] are the images that count; all of them by default.
    """
    rows = np.arange(len(truth)) if rows is None else rows
    parts = []
    for k in [1] if truth.shape[1] == 2 and task == "exclusive" else range(truth.shape[1]):
        known = rows[~np.isnan(truth[rows, k])]
        if len(np.unique(truth[known, k])) == 2:
            parts.append(rank(scores[known, k], truth[known, k] == 1, bootstrap, known).auroc)
    return np.mean(parts, axis=0) if parts else None


def paired_auroc(
    truth: np.ndarray,
    first: np.ndarray,
    other: np.ndarray,
    bootstrap: Bootstrap,
    task: str,
    rows: np.ndarray | None = None,
) -> Estimate | None:
    """`mean_auroc` of the scores `other` minus that of `first`; None where there is none.

    Paired (Efron and Tibshirani 1993, ch. 8): a resample of easy patients is easy for both models, and what makes it
    easy falls out of the difference.
    """
    before, after = (mean_auroc(truth, scores, bootstrap, task, rows) for scores in (first, other))
    return None if before is None or after is None else bootstrap.estimate(after - before)


def concordance(
    scores: np.ndarray, positive: np.ndarray, bootstrap: Bootstrap, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (one positive, one negative) ranked rightly, ties as half, and all pairs; each float64 [1 + resamples].

    AUROC is their ratio; sums of both over strata give an AUROC that only compares images within one stratum.
    """
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(np.asarray(scores, np.float64)[order]) != 0])
    is_positive = np.asarray(positive, bool)[order]
    right, pairs = [], []
    for weights in bootstrap.weights(np.asarray(rows)[order], _CELLS):
        true, false = _grouped(weights, is_positive, starts)
        right.append(_right_pairs(true, false))
        pairs.append(true.sum(axis=1) * false.sum(axis=1))
    return np.concatenate(right), np.concatenate(pairs)


def largest_first(names: np.ndarray) -> list[str]:
    """The different names, the most frequent first."""
    return list(pd.Series(names).value_counts().index)


def source_alone(names: np.ndarray, positive: np.ndarray) -> float:
    """AUROC of a reader who sees only the source's name and knows its share of positives; NaN without both sides."""
    positive = np.asarray(positive, bool)
    if not len(positive) or positive.all() or not positive.any():
        return float("nan")
    share = pd.Series(positive.astype(float)).groupby(names).transform("mean").to_numpy()
    return float(rank(share, positive, Bootstrap(None, len(positive), resamples=0)).auroc[0])


def _grouped(weights: np.ndarray, positive: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weight of positives and of negatives at each distinct score, highest first: [b, groups] each."""
    true = weights * positive
    false = weights - true
    if len(starts) < weights.shape[1]:
        return np.add.reduceat(true, starts, axis=1), np.add.reduceat(false, starts, axis=1)
    return true, false


def _right_pairs(true: np.ndarray, false: np.ndarray) -> np.ndarray:
    above = np.cumsum(true, axis=1) - true / 2
    return np.einsum("bg,bg->b", above, false)


def _rank_block(weights: np.ndarray, positive: np.ndarray, starts: np.ndarray):
    true, false = _grouped(weights, positive, starts)
    cumulative, false_positives = np.cumsum(true, axis=1), np.cumsum(false, axis=1)
    positives, negatives = cumulative[:, -1], false_positives[:, -1]
    auroc = ratio(_right_pairs(true, false), positives * negatives)
    called = cumulative + false_positives
    precision = np.divide(cumulative, called, out=np.zeros_like(called), where=called > 0)
    average = ratio(np.einsum("bg,bg->b", true, precision), np.where(negatives > 0, positives, 0))
    sensitivity_grid = np.full((len(weights), len(GRID)), np.nan)
    precision_grid = np.full((len(weights), len(GRID)), np.nan)
    for b in np.flatnonzero((positives > 0) & (negatives > 0)):
        rates, recalls = false_positives[b] / negatives[b], cumulative[b] / positives[b]
        sensitivity_grid[b] = np.interp(GRID, np.r_[0, rates], np.r_[0, recalls])
        reached = np.searchsorted(recalls, np.minimum(np.maximum(GRID, GRID[1] / 2), 1 - 1e-12))
        precision_grid[b] = precision[b, reached]
    return auroc, average, sensitivity_grid, precision_grid


def _points(true: np.ndarray, false: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if not len(true) or not true[-1] or not false[-1]:
        return np.empty((0, 2)), np.empty((0, 2))
    roc = np.stack([np.r_[0, false / false[-1]], np.r_[0, true / true[-1]]], axis=1)
    # past the last positive only precision falls: nobody would choose such a threshold
    full = int(np.searchsorted(true, true[-1])) + 1
    return roc, np.stack([true[:full] / true[-1], true[:full] / (true[:full] + false[:full])], axis=1)
