"""Internal, held-out and within-source figures side by side: how much of a score is the disease, how much the place.

Images of sources that training saw (of other patients) flatter most, sources that it never saw less, and the images of
one single source can't be told apart by the place at all. The gap between the first two is the figure to make small.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
import pandas as pd

from covidcxnet.evaluation.bootstrap import Bootstrap, Estimate, ratio
from covidcxnet.evaluation.calibration import brier, calibration_slope, expected_error
from covidcxnet.evaluation.metrics import NORMAL
from covidcxnet.evaluation.place import HELD_OUT, INTERNAL, WITHIN, Comparison, Gap, Place, Places
from covidcxnet.evaluation.ranking import concordance
from covidcxnet.evaluation.statistics_alone import scores_of_statistics
from covidcxnet.evaluation.within import UNKNOWN, largest_first, source_names

_MOST_PAIRED = 3  # classes up to which each is compared with each; with more, only with normal


def compare_places(
    table: pd.DataFrame,
    targets: np.ndarray,
    probabilities: np.ndarray,
    classes: tuple[str, ...],
    bootstrap: Bootstrap,
    *,
    seen_sources: Iterable[str] | None,
    trained_on: np.ndarray | None = None,
    labelled: pd.Series | None = None,
    statistics: np.ndarray | None = None,
) -> Places | None:
    """Figures of each place; None where no source is known or nothing can be compared.

    Parameters
    ----------
    table : pd.DataFrame
        Evaluated images; column ``source``.
    targets, probabilities, classes, bootstrap
        As in `metrics.measure`.
    seen_sources : iterable of str or None
        Sources that training or validation had images of; None where unknown: only single sources are then measured.
    trained_on : np.ndarray, optional
        bool [N]: images that were trained on, which are left out here.
    labelled : pd.Series, optional
        Labels as the data have them, where they differ from the class that an image is counted as. Such images count
        within their source only: they do not show what a class of the model is said to be.
    statistics : np.ndarray, optional
        float [N, F] from `covidcxnet.preparation.stack_statistics`, to be compared with.
    """
    sources = source_names(table.get("source"))
    if sources is None:
        return None
    names = np.array(classes, dtype=object)[targets] if labelled is None else labelled.to_numpy(dtype=object)
    keep = np.ones(len(table), bool) if trained_on is None else ~np.asarray(trained_on, bool)
    known = frozenset(seen_sources) if seen_sources is not None else None
    maker = _Maker(sources, names, targets, probabilities, classes, bootstrap, statistics)
    rows: list[Place] = []
    genuine = keep & (names == np.array(classes, dtype=object)[targets])
    gap = None
    if known is not None:
        named = genuine & (sources != UNKNOWN)
        inside, outside = named & np.isin(sources, sorted(known)), named & ~np.isin(sources, sorted(known))
        rows += [maker.place(INTERNAL, inside, True), maker.place(HELD_OUT, outside, False)]
        gap = maker.gap(inside, outside)
    for name in largest_first(sources[keep]):
        members = keep & (sources == name)
        if len(set(targets[members])) > 1:
            seen = None if known is None or name == UNKNOWN else name in known
            rows.append(maker.place(WITHIN, members, seen))
    rows = [row for row in rows if row.images and (row.comparisons or row.kind != WITHIN)]
    if not any(row.comparisons for row in rows):
        return None
    return Places(tuple(rows), gap, int((~keep).sum()))


class _Maker:
    """Makes places from one set of predictions."""

    def __init__(self, sources, names, targets, probabilities, classes, bootstrap, statistics):
        self.sources, self.names, self.targets = sources, names, np.asarray(targets)
        self.probabilities = np.asarray(probabilities, np.float64)
        self.classes, self.bootstrap, self.statistics = classes, bootstrap, statistics

    def place(self, kind: str, members: np.ndarray, seen: bool | None) -> Place:
        rows = np.flatnonzero(members)
        if not len(rows):
            return Place(kind, (), seen, 0, 0, {}, ())
        part = self.bootstrap.part(rows)
        made = [self._comparison(rows, part, *pair) for pair in self._pairs(rows)]
        counts = pd.Series(self.names[rows]).value_counts()
        return Place(
            kind=kind,
            sources=tuple(largest_first(self.sources[rows])),
            seen=seen,
            images=len(rows),
            patients=part.patients,
            by_label={str(label): int(n) for label, n in counts.items()},
            comparisons=tuple(made),
            calibration=self._calibration(rows, part) if kind != WITHIN else {},
        )

    def gap(self, inside: np.ndarray, outside: np.ndarray) -> Gap | None:
        """Between images of the classes that both have: another mix of diseases would be a gap of its own."""
        shared = sorted(set(self.targets[inside]) & set(self.targets[outside]))
        alike = np.isin(self.targets, shared)
        rows = [np.flatnonzero(members & alike) for members in (inside, outside)]
        pairs = [self._pairs(own) for own in rows]
        if not all(pairs):
            return None
        aurocs = [
            self._auroc(own, self.bootstrap.part(own), *pair[0][:3]) for own, pair in zip(rows, pairs, strict=True)
        ]
        positive, negative, _, score = pairs[0][0]
        one, other = (" or ".join(self.classes[c] for c in side) for side in (positive, negative))
        # Of one bootstrap, so that both sides of each difference come from the same draw of patients.
        return Gap(one, other, score, self.bootstrap.estimate(aurocs[0] - aurocs[1]))

    def _pairs(self, rows: np.ndarray) -> list[tuple[tuple[int, ...], tuple[int, ...], np.ndarray, str]]:
        """Positive classes, negative classes, score of each image of `rows`, and its name; the broadest first."""
        classes, present = self.classes, sorted(set(self.targets[rows]))
        if len(present) < 2:
            return []
        p = self.probabilities[rows]
        if len(classes) == 2:
            return [((1,), (0,), p[:, 1], f"P({classes[1]})")]
        pairs: list[tuple[tuple[int, ...], tuple[int, ...], np.ndarray, str]] = []
        normal = classes.index(NORMAL) if NORMAL in classes else -1
        if normal in present:
            ill = tuple(c for c in present if c != normal)
            pairs.append((ill, (normal,), 1 - p[:, normal], f"1 - P({NORMAL})"))
        for a, b in itertools.combinations(present, 2):
            if len(classes) <= _MOST_PAIRED or normal in (a, b) or normal < 0:
                a, b = (b, a) if b == normal else (a, b)
                pairs.append(((b,), (a,), p[:, b], f"P({classes[b]})"))
        return pairs

    def _comparison(self, rows, part: Bootstrap, positive, negative, score, name) -> Comparison:
        here = self.targets[rows]
        upper, lower = np.isin(here, positive), np.isin(here, negative)
        return Comparison(
            positive=_said(self.names[rows][upper]),
            negative=_said(self.names[rows][lower]),
            score=name,
            positives=int(upper.sum()),
            negatives=int(lower.sum()),
            auroc=part.estimate(self._auroc(rows, part, positive, negative, score)),
            statistics=self._of_statistics(rows, part, positive, negative),
        )

    def _of_statistics(self, rows, part: Bootstrap, positive, negative) -> Estimate | None:
        if self.statistics is None:
            return None
        upper = np.isin(self.targets[rows], positive)
        members = np.flatnonzero(upper | np.isin(self.targets[rows], negative))
        scores = scores_of_statistics(self.statistics[rows[members]], upper[members], part.index[members])
        return None if scores is None else part.estimate(ratio(*concordance(scores, upper[members], part, members)))

    def _auroc(self, rows, part: Bootstrap, positive, negative, score) -> np.ndarray:
        """In each resample, float [1 + resamples]."""
        here = self.targets[rows]
        upper = np.isin(here, positive)
        members = np.flatnonzero(upper | np.isin(here, negative))
        return ratio(*concordance(score[members], upper[members], part, members))

    def _calibration(self, rows: np.ndarray, part: Bootstrap) -> dict[str, Estimate]:
        p, targets = self.probabilities[rows], self.targets[rows]
        figures = {
            "calibration_error": expected_error(p, targets, part),
            "brier": brier(p, targets, part),
            "calibration_slope": calibration_slope(p, targets, part),
        }
        return {key: part.estimate(figure) for key, figure in figures.items()}


def _said(labels: np.ndarray) -> str:
    return " or ".join(sorted({str(label) for label in labels}))
