"""Figures by source, because a high score can come from recognising the place rather than the disease."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from covidcxnet.evaluation.bootstrap import Bootstrap, Estimate, ratio
from covidcxnet.evaluation.within import largest_first, source_alone, source_names, within_sources


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
    names = source_names(sources)
    if names is None:
        return None
    scored = range(1, 2) if len(classes) == 2 else range(len(classes))
    found = [within_sources(probabilities[:, c], targets == c, names, bootstrap) for c in scored]
    rows: list[SourceFigures] = []
    for name in largest_first(names):
        auroc = _mean([own.by_source[name] for own in found if name in own.by_source])
        figures = _figures(name, np.flatnonzero(names == name), targets, predicted, classes, auroc, bootstrap)
        rows.append(replace(figures, trained=None if trained is None else name in trained))
    within = _mean([own.pooled for own in found if own.pooled is not None])
    alone = [source_alone(names, targets == c) for c in scored if 0 < (targets == c).sum() < len(targets)]
    present = pd.crosstab(names, targets)
    mixed = present.loc[(present > 0).sum(axis=1) > 1]
    return Sources(
        rows=tuple(rows),
        within=_estimate(within, bootstrap),
        place_alone=float(np.mean(alone)) if alone else float("nan"),
        unshared=_unshared(names, targets, classes),
        alone=tuple(label for c, label in enumerate(classes) if c in present and not mixed[c].any()),
    )


def _figures(name, members, targets, predicted, classes, auroc, bootstrap) -> SourceFigures:
    here = targets[members]
    correct = np.zeros((len(targets), 2))
    correct[members, 0], correct[members, 1] = predicted[members] == here, 1
    sums = bootstrap.sums(correct)
    return SourceFigures(
        name=name,
        images=len(members),
        patients=len(np.unique(bootstrap.index[members])),
        by_class={label: int((here == c).sum()) for c, label in enumerate(classes)},
        accuracy=bootstrap.estimate(ratio(sums[:, 0], sums[:, 1])),
        auroc=_estimate(auroc, bootstrap),
    )


def _mean(statistics: list[np.ndarray]) -> np.ndarray | None:
    return np.mean(statistics, axis=0) if statistics else None


def _estimate(statistic: np.ndarray | None, bootstrap: Bootstrap) -> Estimate:
    return Estimate(float("nan")) if statistic is None else bootstrap.estimate(statistic)


def _unshared(names: np.ndarray, targets: np.ndarray, classes: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    homes = {c: set(names[targets == c]) for c in range(len(classes))}
    return tuple(
        (classes[a], classes[b])
        for a in homes
        for b in homes
        if a < b and homes[a] and homes[b] and not homes[a] & homes[b]
    )
