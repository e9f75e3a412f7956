"""Figures by source, because a high score can come from recognising the place rather than the disease."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from covidcxnet.evaluation.bootstrap import Bootstrap, Estimate, ratio
from covidcxnet.evaluation.ranking import concordance, rank


@dataclass(frozen=True)
class SourceFigures:
    """Figures of the images of one source.

    Parameters
    ----------
    name : str
        The source.
    images, patients : int
        Counts.
    by_class : dict
        Class to images.
    accuracy : Estimate
        Share of right decisions.
    auroc : Estimate
        Within this source: as `Metrics.overall` has it, over classes that have both sides here; NaN for a single class.
    trained : bool or None
        Whether training had images of this source; None where its sources are not known.
    """

    name: str
    images: int
    patients: int
    by_class: dict[str, int]
    accuracy: Estimate
    auroc: Estimate
    trained: bool | None = None


@dataclass(frozen=True)
class Sources:
    """By source, and what the sources give away.

    Parameters
    ----------
    rows : tuple of SourceFigures
        Largest source first.
    within : Estimate
        AUROC over pairs of images from one and the same source, which recognising the place cannot raise.
    place_alone : float
        AUROC of a reader who sees only the name of the source and knows its share of each class among these images;
        NaN for a single class.
    unshared : tuple of (str, str)
        Pairs of classes that no source holds both of.
    alone : tuple of str
        Classes that are the only one in each of their sources: `within` says nothing about them.
    """

    rows: tuple[SourceFigures, ...]
    within: Estimate
    place_alone: float
    unshared: tuple[tuple[str, str], ...]
    alone: tuple[str, ...]


def by_source(
    sources: pd.Series | np.ndarray | None,
    targets: np.ndarray,
    probabilities: np.ndarray,
    predicted: np.ndarray,
    classes: tuple[str, ...],
    bootstrap: Bootstrap,
    trained: Collection[str] | None = None,
) -> Sources | None:
    """Figures by source; None where no source is known.

    Parameters
    ----------
    sources : sequence or None
        One name for each image; images without one form a source of their own called "unknown".
    targets, probabilities, predicted, classes, bootstrap
        As in `metrics.measure`.
    trained : collection of str, optional
        Sources of the training images; None where they are not known.
    """
    if sources is None or pd.Series(sources).replace("", None).isna().all():
        return None
    names = pd.Series(sources, dtype=object).replace("", None).fillna("unknown").astype(str).to_numpy()
    rows: list[SourceFigures] = []
    right: dict[int, np.ndarray] = {}
    pairs: dict[int, np.ndarray] = {}
    scored = _scored_classes(len(classes))
    for name in pd.Series(names).value_counts().index:
        members = np.flatnonzero(names == name)
        here = targets[members]
        for c in scored:
            r, p = concordance(probabilities[members, c], here == c, bootstrap, members)
            right[c], pairs[c] = right.get(c, 0.0) + r, pairs.get(c, 0.0) + p
        figures = _figures(name, members, targets, probabilities, predicted, classes, bootstrap)
        rows.append(replace(figures, trained=None if trained is None else name in trained))
    within = _mean([ratio(right[c], pairs[c]) for c in scored if pairs[c][0] > 0])
    present = pd.crosstab(names, targets)
    mixed = present.loc[(present > 0).sum(axis=1) > 1]
    return Sources(
        rows=tuple(rows),
        within=_estimate(within, bootstrap),
        place_alone=_place_alone(names, targets, len(classes)),
        unshared=_unshared(names, targets, classes),
        alone=tuple(label for c, label in enumerate(classes) if c in present and not mixed[c].any()),
    )


def _figures(name, members, targets, probabilities, predicted, classes, bootstrap) -> SourceFigures:
    here = targets[members]
    correct = np.zeros((len(targets), 2))
    correct[members, 0], correct[members, 1] = predicted[members] == here, 1
    sums = bootstrap.sums(correct)
    both = [c for c in _scored_classes(len(classes)) if 0 < (here == c).sum() < len(here)]
    auroc = _mean([rank(probabilities[members, c], here == c, bootstrap, members).auroc for c in both])
    return SourceFigures(
        name=name,
        images=len(members),
        patients=len(np.unique(bootstrap.index[members])),
        by_class={label: int((here == c).sum()) for c, label in enumerate(classes)},
        accuracy=bootstrap.estimate(ratio(sums[:, 0], sums[:, 1])),
        auroc=_estimate(auroc, bootstrap),
    )


def _scored_classes(classes: int) -> range:
    return range(1, 2) if classes == 2 else range(classes)


def _mean(statistics: list[np.ndarray]) -> np.ndarray | None:
    return np.mean(statistics, axis=0) if statistics else None


def _estimate(statistic: np.ndarray | None, bootstrap: Bootstrap) -> Estimate:
    return Estimate(float("nan")) if statistic is None else bootstrap.estimate(statistic)


def _place_alone(names: np.ndarray, targets: np.ndarray, classes: int) -> float:
    once = Bootstrap(None, len(targets), resamples=0)
    values = []
    for c in (c for c in _scored_classes(classes) if 0 < (targets == c).sum() < len(targets)):
        share = pd.Series(targets == c).groupby(names).transform("mean").to_numpy()
        values.append(rank(share, targets == c, once).auroc[0])
    return float(np.mean(values)) if values else float("nan")


def _unshared(names: np.ndarray, targets: np.ndarray, classes: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    homes = {c: set(names[targets == c]) for c in range(len(classes))}
    return tuple(
        (classes[a], classes[b])
        for a in homes
        for b in homes
        if a < b and homes[a] and homes[b] and not homes[a] & homes[b]
    )
