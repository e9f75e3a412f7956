"""Figures by source: how much of a score is the disease, and how much the place that an image comes from.

Images of sources that training saw (of other patients) give the most optimistic figures, sources that it never saw less
so. Images of one single source can't be told apart by recognising it. There an intensity probe shows what border, grey
levels, sharpness and corners of the network's own input give away: a network that ranks no better has not shown that it
looks at more.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from covidcxnet.datasets.bias import FEWEST, FOLDS, tell_apart
from covidcxnet.evaluation.bootstrap import Bootstrap, Estimate, mean_of_defined, ratio
from covidcxnet.evaluation.calibration import brier, calibration_slope, expected_error
from covidcxnet.evaluation.metrics import NORMAL
from covidcxnet.evaluation.predictions import UNKNOWN, Predictions
from covidcxnet.evaluation.ranking import concordance, largest_first, source_alone

INTERNAL, HELD_OUT, WITHIN = "internal", "held-out", "within"

FEWEST_OF_A_CLASS = 10
"""Images of either side below which an AUROC is shown, but no sentence rests on it: from 3 images it is often 1."""

_MOST_PAIRED = 3  # classes up to which each is compared with each; with more, only with normal


@dataclass(frozen=True)
class Comparison:
    """How well one kind of image is ranked above another."""

    positive: str  # what is compared, in words
    negative: str
    score: str  # that ranks: ``P(covid19)`` or ``1 - P(normal)``
    positives: int  # images
    negatives: int
    auroc: Estimate
    probe: Estimate | None = None  # AUROC of the intensity probe; None where not measured

    @property
    def few(self) -> bool:
        """Whether one side has too few images to judge by."""
        return min(self.positives, self.negatives) < FEWEST_OF_A_CLASS


@dataclass(frozen=True)
class Site:
    """Figures of the images from one or several sources."""

    kind: str  # sources that training saw ("internal"), that it never saw ("held-out"), or a single one ("within")
    sources: tuple[str, ...]
    trained: bool | None  # whether training saw them; None where that is unknown
    images: int
    patients: int
    by_label: dict[str, int]  # label in the data, or finding present, to images
    comparisons: tuple[Comparison, ...]  # of exclusive classes the broadest first; of findings, those with both sides
    calibration: dict[str, Estimate] = field(default_factory=dict)  # of exclusive classes, and several sources
    # Of independent findings: the mean over comparisons, findings with one side only, and the mean of the probes.
    mean: Estimate = field(default_factory=lambda: Estimate(float("nan")))
    one_sided: dict[str, str] = field(default_factory=dict)  # "absent", "present" or "unknown" in all images
    mean_probe: Estimate | None = None


@dataclass(frozen=True)
class Pooled:
    """AUROC of one class, or a mean over classes, over all sources."""

    name: str
    within: Estimate  # over pairs of images of the same source, which recognising the source cannot raise
    all_pairs: Estimate | None  # None of exclusive classes, whose overall AUROC it is
    source_alone: float  # of a reader who sees only the name of the source
    few: bool = False  # whether `within` rests on too few images of one side; of a mean, in one of its parts


@dataclass(frozen=True)
class SourceFigures:
    """Decisions and ranking of exclusive classes in the images of one source, trained on or not."""

    name: str
    images: int
    patients: int
    by_class: dict[str, int]  # images
    accuracy: Estimate
    auroc: Estimate  # as `Metrics.overall` has it, over classes that have both sides here
    trained: bool | None = None  # whether training had images of this source; None where that is unknown

    @property
    def few(self) -> bool:
        """Whether a class that is here has too few images to judge the AUROC by."""
        return min(n for n in self.by_class.values() if n) < FEWEST_OF_A_CLASS


@dataclass(frozen=True)
class BySource:
    """Figures of every source, and what the sources give away."""

    sites: tuple[Site, ...] = ()  # internal, held out, then each single source, the largest first
    # Of the classes that internal and held out have in common: how much better internal images are ranked; None where
    # those are fewer than two. Counts are of internal images.
    gap: Comparison | None = None
    skipped: int = 0  # images that were trained on and are in none of the figures of `sites`
    pooled: tuple[Pooled, ...] = ()  # of each finding that at least one source has images with and without
    mean: Pooled | None = None  # over `pooled`, or over exclusive classes
    # Of exclusive classes, the largest source first; pairs of classes that no source holds both of; and classes that
    # are the only one in each of their sources, of which `mean` says nothing.
    sources: tuple[SourceFigures, ...] = ()
    unshared: tuple[tuple[str, str], ...] = ()
    alone: tuple[str, ...] = ()

    @property
    def single(self) -> bool:
        """Whether all figures of the report are those of one source."""
        return len(self.sites) == 1 and not self.skipped


def by_source(
    predictions: Predictions,
    bootstrap: Bootstrap,
    *,
    trained_sources: Iterable[str] | None = None,
    trained_on: np.ndarray | None = None,
    statistics: np.ndarray | None = None,
) -> BySource | None:
    """Figures of each source; None where no source is known.

    `bootstrap` is made from the patients of these images, `trained_on` bool [N] tells which of them training saw:
    figures of sites leave them out. Without `trained_sources` only single sources are measured. `statistics` float
    [N, F], from `covidcxnet.preparation.stack_statistics`, are for the intensity probe. Images that are counted as
    another class count within their source only: they do not show the class whose name they bear.
    """
    names = predictions.sources
    if names is None:
        return None
    trained = None if trained_sources is None else frozenset(trained_sources)
    keep = np.ones(len(names), bool) if trained_on is None else ~np.asarray(trained_on, bool)
    maker = _Sites(predictions, names, bootstrap, statistics, keep)
    if predictions.task == "independent":
        return _of_findings(maker, trained)
    sites: list[Site] = []
    gap = None
    if trained is not None:
        named = keep & ~predictions.counted & (names != UNKNOWN)
        inside, outside = named & np.isin(names, sorted(trained)), named & ~np.isin(names, sorted(trained))
        sites += [maker.site(INTERNAL, inside, True), maker.site(HELD_OUT, outside, False)]
        gap = maker.gap(inside, outside)
    sites += maker.single_sources(trained)
    sites = [site for site in sites if site.images and (site.comparisons or site.kind != WITHIN)]
    compared = any(site.comparisons for site in sites)
    table = _source_table(predictions, names, bootstrap, trained)
    return BySource(sites=tuple(sites) if compared else (), gap=gap, skipped=int((~keep).sum()), **table)


def probe_scores(statistics: np.ndarray, positive: np.ndarray, patients: np.ndarray) -> np.ndarray | None:
    """How much each image looks like a positive to a linear probe that never saw its patient, float64 [n].

    None with fewer than `FEWEST` images or `FOLDS` patients of either kind.
    """
    sides = [patients[positive], patients[~positive]]
    if any(len(side) < FEWEST or len(set(side)) < FOLDS for side in sides):
        return None
    return tell_apart(statistics, positive, patients, method="decision_function")


@dataclass(frozen=True)
class _Pair:
    """Positives and negatives among some images, bool [n] each, and the score float [n] that ranks them."""

    positive: np.ndarray
    negative: np.ndarray
    score: np.ndarray
    name: str
    words: tuple[str, str] | None = None  # None: the labels of the images


class _Sites:
    """Measures sites of one set of predictions."""

    def __init__(self, predictions: Predictions, names, bootstrap: Bootstrap, statistics, keep: np.ndarray):
        self.predictions, self.names, self.bootstrap = predictions, names, bootstrap
        self.statistics, self.keep = statistics, keep
        self.scores = np.asarray(predictions.probabilities, np.float64)
        # Pairs of one and the same source ranked rightly, and all of them, by the name of the score that ranks.
        self.totals: dict[str, np.ndarray] = {}
        self.sides: Counter[tuple[str, bool]] = Counter()  # their images by score and side

    @cached_property
    def labels(self) -> np.ndarray:
        """Labels of exclusive classes as the data have them, object [N]."""
        return self.predictions.labelled.to_numpy(dtype=object)

    def single_sources(self, trained: frozenset[str] | None) -> list[Site]:
        """Each source by itself, the largest first."""
        sites = []
        for name in largest_first(self.names[self.keep]):
            seen_in_training = None if trained is None or name == UNKNOWN else name in trained
            sites.append(self.site(WITHIN, self.keep & (self.names == name), seen_in_training))
        return sites

    def site(self, kind: str, members: np.ndarray, trained: bool | None) -> Site:
        """Figures of the images of a mask bool [N]."""
        rows = np.flatnonzero(members)
        if not len(rows):
            return Site(kind, (), trained, 0, 0, {}, ())
        part, truth = self.bootstrap.part(rows), self.predictions.truth[rows]
        comparisons, aurocs, probes = [], [], []
        for pair in self._pairs(rows):
            # Of the part, whose counts are drawn once: those of the whole may be drawn anew for every pair.
            right, pairs = _concordance(part, np.arange(len(rows)), pair)
            if kind == WITHIN:
                self.totals[pair.name] = self.totals.get(pair.name, 0) + np.stack([right, pairs])
                self.sides[pair.name, True] += int(pair.positive.sum())
                self.sides[pair.name, False] += int(pair.negative.sum())
            auroc, probe = ratio(right, pairs), self._probe(rows, part, pair)
            sides = pair.positive, pair.negative
            words = pair.words or [" or ".join(sorted(set(map(str, self.labels[rows[side]])))) for side in sides]
            positives, negatives = (int(side.sum()) for side in sides)
            figures = part.estimate(auroc), None if probe is None else part.estimate(probe)
            comparisons.append(Comparison(words[0], words[1], pair.name, positives, negatives, *figures))
            aurocs.append(auroc)
            probes += [] if probe is None else [probe]
        more: dict[str, Any] = {}
        if self.predictions.task == "independent":
            present, absent = (truth == 1).sum(axis=0).tolist(), (truth == 0).any(axis=0)
            by_label = dict(zip(self.predictions.classes, present, strict=True))
            more["mean"] = part.estimate(mean_of_defined(aurocs)) if aurocs else Estimate(float("nan"))
            more["mean_probe"] = part.estimate(mean_of_defined(probes)) if probes else None
            more["one_sided"] = {
                name: "present" if n else "absent" if without else "unknown"
                for (name, n), without in zip(by_label.items(), absent, strict=True)
                if not n or not without
            }
        else:
            by_label = {str(label): int(n) for label, n in pd.Series(self.labels[rows]).value_counts().items()}
        if kind != WITHIN:
            judged = self.scores[rows], self.predictions.targets[rows], part
            figures_of = {"calibration_error": expected_error, "brier": brier, "calibration_slope": calibration_slope}
            more["calibration"] = {key: part.estimate(figure(*judged)) for key, figure in figures_of.items()}
        sources = tuple(largest_first(self.names[rows]))
        return Site(kind, sources, trained, len(rows), part.patients, by_label, tuple(comparisons), **more)

    def gap(self, inside: np.ndarray, outside: np.ndarray) -> Comparison | None:
        """Between images of the classes that both have: another mix of diseases would be a gap of its own."""
        targets, classes = self.predictions.targets, self.predictions.classes
        alike = np.isin(targets, sorted(set(targets[inside]) & set(targets[outside])))
        rows = [np.flatnonzero(members & alike) for members in (inside, outside)]
        pairs = [self._pairs(side) for side in rows]
        if not all(pairs):
            return None
        internal, held_out = (
            ratio(*_concordance(self.bootstrap, side, pair[0])) for side, pair in zip(rows, pairs, strict=True)
        )
        first, here = pairs[0][0], targets[rows[0]]
        sides = (sorted(set(here[side])) for side in (first.positive, first.negative))
        above, below = (" or ".join(classes[c] for c in side) for side in sides)
        # Of one bootstrap, so that both sides of each difference come from the same draw of patients.
        counts = int(first.positive.sum()), int(first.negative.sum())
        return Comparison(above, below, first.name, *counts, self.bootstrap.estimate(internal - held_out))

    def _pairs(self, rows: np.ndarray) -> list[_Pair]:
        """What is compared among the images of `rows`, the broadest first."""
        classes, p = self.predictions.classes, self.scores[rows]
        if self.predictions.task == "independent":
            truth = self.predictions.truth[rows]
            pairs = [
                _Pair(truth[:, k] == 1, truth[:, k] == 0, p[:, k], f"P({name})", (name, f"no {name}"))
                for k, name in enumerate(classes)
            ]
            return [pair for pair in pairs if pair.positive.any() and pair.negative.any()]
        here = self.predictions.targets[rows]
        present = sorted(set(here))
        if len(present) < 2:
            return []
        if len(classes) == 2:
            return [_Pair(here == 1, here == 0, p[:, 1], f"P({classes[1]})")]
        pairs = []
        normal = classes.index(NORMAL) if NORMAL in classes else -1
        if normal in present:
            pairs.append(_Pair(here != normal, here == normal, 1 - p[:, normal], f"1 - P({NORMAL})"))
        for a, b in itertools.combinations(present, 2):
            if len(classes) <= _MOST_PAIRED or normal in (a, b) or normal < 0:
                a, b = (b, a) if b == normal else (a, b)
                pairs.append(_Pair(here == b, here == a, p[:, b], f"P({classes[b]})"))
        return pairs

    def _probe(self, rows: np.ndarray, part: Bootstrap, pair: _Pair) -> np.ndarray | None:
        if self.statistics is None:
            return None
        members = np.flatnonzero(pair.positive | pair.negative)
        positive = pair.positive[members]
        scores = probe_scores(self.statistics[rows[members]], positive, part.index[members])
        return None if scores is None else ratio(*concordance(scores, positive, part, members))


def _concordance(bootstrap: Bootstrap, rows: np.ndarray, pair: _Pair) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of the images `rows` of a bootstrap that are ranked rightly, and all of them."""
    members = np.flatnonzero(pair.positive | pair.negative)
    return concordance(pair.score[members], pair.positive[members], bootstrap, rows[members])


def _of_findings(maker: _Sites, trained: frozenset[str] | None) -> BySource:
    """Of independent findings: each source, and each finding pooled over sources."""
    p, keep, names, bootstrap = maker.predictions, maker.keep, maker.names, maker.bootstrap
    skipped = int((~keep).sum())
    if not keep.any():
        return BySource(skipped=skipped)
    sites = maker.single_sources(trained)
    pooled, arrays = [], []
    for k, name in enumerate(p.classes):
        if f"P({name})" not in maker.totals:
            continue
        rows = np.flatnonzero(keep & ~np.isnan(p.truth[:, k]))
        present, part = p.truth[rows, k] == 1, bootstrap.part(rows)
        within = ratio(*maker.totals[f"P({name})"])
        pairs = ratio(*concordance(maker.scores[rows, k], present, bootstrap, rows))
        alone = source_alone(names[rows], present)
        few = min(maker.sides[f"P({name})", side] for side in (True, False)) < FEWEST_OF_A_CLASS
        pooled.append(Pooled(name, part.estimate(within), part.estimate(pairs), alone, few))
        arrays.append((within, pairs))
    mean = None
    if pooled:
        part = bootstrap.part(np.flatnonzero(keep))
        whole, every = (part.estimate(mean_of_defined(list(column))) for column in zip(*arrays, strict=True))
        alone, few = float(np.mean([row.source_alone for row in pooled])), any(row.few for row in pooled)
        mean = Pooled("mean", whole, every, alone, few)
    return BySource(tuple(sites), None, skipped, tuple(pooled), mean)


def _source_table(
    everything: Predictions, names: np.ndarray, bootstrap: Bootstrap, trained: frozenset[str] | None
) -> dict[str, Any]:
    """Of exclusive classes: each source with its decisions, and what the sources give away; of graded images."""
    rows = np.flatnonzero(~everything.ungraded)
    predictions, part, names = everything.only(rows), bootstrap.part(rows), names[rows]
    if predictions.sources is None:
        return {}
    targets, classes, scores = predictions.targets, predictions.classes, predictions.probabilities
    correct = predictions.predicted == targets
    # with two classes the first one's AUROC is that of the second
    scored = range(1, 2) if len(classes) == 2 else range(len(classes))

    def mean(arrays: list[np.ndarray]) -> Estimate:
        return part.estimate(np.mean(arrays, axis=0)) if arrays else Estimate(float("nan"))

    # Pairs of one and the same source ranked rightly, and all of them, of each class.
    totals: dict[int, Any] = {}
    sides: Counter[tuple[int, bool]] = Counter()  # their images by class and side
    figures, mixed = [], set()
    for name in largest_first(names):
        inside, aurocs = names == name, []
        members = np.flatnonzero(inside)
        for c in scored:
            positive = targets[members] == c
            if positive.any() and not positive.all():
                within = concordance(scores[members, c], positive, part, members)
                aurocs.append(ratio(*within))
                totals[c] = totals.get(c, 0) + np.stack(within)
                sides += Counter((c, side) for side in positive.tolist())
        by_class = {label: int((targets[members] == c).sum()) for c, label in enumerate(classes)}
        mixed |= {name} if sum(n > 0 for n in by_class.values()) > 1 else set()
        accuracy = part.estimate(ratio(*part.sums(np.stack([inside & correct, inside], axis=1)).T), inside)
        patients, known = len(np.unique(part.index[members])), None if trained is None else name in trained
        figures.append(SourceFigures(name, len(members), patients, by_class, accuracy, mean(aurocs), known))
    shares = [source_alone(names, targets == c) for c in scored if 0 < (targets == c).sum() < len(targets)]
    pooled = mean([ratio(*totals[c]) for c in scored if c in totals])
    homes = {name: set(names[targets == c]) for c, name in enumerate(classes) if (targets == c).any()}
    return {
        "sources": tuple(figures),
        "mean": Pooled(
            "mean",
            pooled,
            None,
            float(np.mean(shares)) if shares else float("nan"),
            few=any(n < FEWEST_OF_A_CLASS for n in sides.values()),
        ),
        "unshared": tuple((a, b) for a, b in itertools.combinations(homes, 2) if not homes[a] & homes[b]),
        "alone": tuple(name for name, sources in homes.items() if not sources & mixed),
    }
