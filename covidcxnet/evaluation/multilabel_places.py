"""Figures of independent findings within single sources, where no score can come from recognising the place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from covidcxnet.evaluation.bootstrap import Bootstrap, Estimate, mean_of_defined, ratio
from covidcxnet.evaluation.multilabel_metrics import FindingPredictions
from covidcxnet.evaluation.place import WITHIN, Comparison, Place, place_to_dict
from covidcxnet.evaluation.ranking import concordance
from covidcxnet.evaluation.statistics_alone import scores_of_statistics
from covidcxnet.evaluation.within import UNKNOWN, Within, largest_first, source_alone, source_names, within_sources


@dataclass(frozen=True)
class FindingPlace(Place):
    """Figures of the images from one source.

    Parameters
    ----------
    kind, sources, ..., calibration
        As in `place.Place`; `by_label` has images with each finding, `comparisons` one for each finding that some
        images have here and others lack, in the order of the model's findings.
    macro : Estimate
        Mean of the AUROCs of `comparisons`.
    one_sided : dict
        The other findings: "absent" or "present" in all images of the source, or "unknown" in all.
    statistics : Estimate or None
        Mean of those of `comparisons` that have one.
    """

    _: KW_ONLY
    macro: Estimate
    one_sided: dict[str, str]
    statistics: Estimate | None = None


@dataclass(frozen=True)
class WithinFinding:
    """One finding, or their mean, over all sources.

    Parameters
    ----------
    name : str
    within : Estimate
        AUROC over pairs of images from one and the same source, which recognising the place cannot raise.
    all_pairs : Estimate
        AUROC over all pairs of the same images.
    source_alone : float
        AUROC of a reader who sees only the name of the source.
    """

    name: str
    within: Estimate
    all_pairs: Estimate
    source_alone: float


@dataclass(frozen=True)
class FindingPlaces:
    """What single sources say, and what their names give away.

    Parameters
    ----------
    rows : tuple of FindingPlace
        Every source, the largest first.
    findings : tuple of WithinFinding
        Of the findings that at least one source has images with and without, in the order of the model's.
    mean : WithinFinding or None
        Over `findings`; None where there is none.
    skipped : int
        Images that were trained on and are in none of these figures.
    """

    rows: tuple[FindingPlace, ...]
    findings: tuple[WithinFinding, ...]
    mean: WithinFinding | None
    skipped: int = 0

    @property
    def alone(self) -> bool:
        """Whether all figures of the report are those of one source."""
        return len(self.rows) == 1 and not self.skipped

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        mean = None if self.mean is None else _to_dict(self.mean)
        return {
            "rows": [_row_to_dict(row) for row in self.rows],
            "by_class": {own.name: _to_dict(own) for own in self.findings},
            "mean": mean,
            "images_left_out_as_trained_on": self.skipped,
        }


def finding_places(
    predictions: FindingPredictions,
    bootstrap: Bootstrap,
    *,
    seen_sources: Iterable[str] | None = None,
    trained_on: np.ndarray | None = None,
    statistics: np.ndarray | None = None,
) -> FindingPlaces | None:
    """Figures within each source; None where no source is known, or training saw all images.

    Parameters
    ----------
    predictions : FindingPredictions
        Column ``source`` of its table.
    bootstrap : Bootstrap
        Made from the patients of these images.
    seen_sources, trained_on, statistics
        As in `places.compare_places`.
    """
    names = source_names(predictions.column("source"))
    if names is None:
        return None
    keep = np.ones(len(names), bool) if trained_on is None else ~np.asarray(trained_on, bool)
    if not keep.any():
        return None
    seen = None if seen_sources is None else frozenset(seen_sources)
    known = [keep & ~np.isnan(truth) for truth in predictions.targets.T]
    within = [_within(predictions, k, np.flatnonzero(own), names, bootstrap) for k, own in enumerate(known)]
    rows = []
    for name in largest_first(names[keep]):
        saw = None if seen is None or name == UNKNOWN else name in seen
        own = np.flatnonzero(keep & (names == name))
        rows.append(_place(predictions, own, name, saw, within, bootstrap, statistics))
    findings, aurocs = [], []
    for k, pairs in enumerate(within):
        if pairs.pooled is None:
            continue
        images = np.flatnonzero(known[k])
        present = predictions.targets[images, k] == 1
        overall = ratio(*concordance(predictions.probabilities[images, k], present, bootstrap, images))
        part = bootstrap.part(images)
        alone = source_alone(names[images], present)
        name = predictions.classes[k]
        findings.append(WithinFinding(name, part.estimate(pairs.pooled), part.estimate(overall), alone))
        aurocs.append((pairs.pooled, overall))
    mean = _mean(findings, aurocs, bootstrap.part(np.flatnonzero(keep))) if findings else None
    return FindingPlaces(tuple(rows), tuple(findings), mean, int((~keep).sum()))


def _within(predictions: FindingPredictions, k: int, rows: np.ndarray, names: np.ndarray, bootstrap: Bootstrap):
    present = predictions.targets[rows, k] == 1
    return within_sources(predictions.probabilities[rows, k], present, names[rows], bootstrap, rows)


def _place(
    predictions: FindingPredictions,
    rows: np.ndarray,
    name: str,
    seen: bool | None,
    within: list[Within],
    bootstrap: Bootstrap,
    statistics: np.ndarray | None,
) -> FindingPlace:
    part, targets = bootstrap.part(rows), predictions.targets[rows]
    comparisons, one_sided, aurocs, alone = [], {}, [], []
    for k, finding in enumerate(predictions.classes):
        present, absent = int((targets[:, k] == 1).sum()), int((targets[:, k] == 0).sum())
        if not present or not absent:
            one_sided[finding] = "present" if present else "absent" if absent else "unknown"
            continue
        auroc = within[k].by_source[name]
        told = None if statistics is None else _told(statistics[rows], targets[:, k], part)
        simple = None if told is None else part.estimate(told)
        named = (finding, f"no {finding}", f"P({finding})")
        comparisons.append(Comparison(*named, present, absent, part.estimate(auroc), simple))
        aurocs.append(auroc)
        if told is not None:
            alone.append(told)
    return FindingPlace(
        kind=WITHIN,
        sources=(name,),
        seen=seen,
        images=len(rows),
        patients=part.patients,
        by_label={finding: int((targets[:, k] == 1).sum()) for k, finding in enumerate(predictions.classes)},
        comparisons=tuple(comparisons),
        macro=part.estimate(mean_of_defined(aurocs)) if aurocs else Estimate(float("nan")),
        one_sided=one_sided,
        statistics=part.estimate(mean_of_defined(alone)) if alone else None,
    )


def _told(statistics: np.ndarray, truth: np.ndarray, part: Bootstrap) -> np.ndarray | None:
    """AUROC float64 [1 + resamples] of statistics float [n, F] against one finding, 1, 0 or NaN [n]; None with few."""
    known = np.flatnonzero(~np.isnan(truth))
    present = truth[known] == 1
    scores = scores_of_statistics(statistics[known], present, part.index[known])
    return None if scores is None else ratio(*concordance(scores, present, part, known))


def _mean(findings: list[WithinFinding], aurocs: list[tuple[np.ndarray, np.ndarray]], part: Bootstrap):
    within, overall = (part.estimate(mean_of_defined(list(column))) for column in zip(*aurocs, strict=True))
    alone = float(np.mean([own.source_alone for own in findings]))
    return WithinFinding("mean", within, overall, alone)


def _row_to_dict(row: FindingPlace) -> dict[str, Any]:
    statistics = None if row.statistics is None else row.statistics.to_dict()
    return {**place_to_dict(row), "macro": row.macro.to_dict(), "statistics": statistics}


def _to_dict(own: WithinFinding) -> dict[str, Any]:
    return {
        "auroc_within_sources": own.within.to_dict(),
        "auroc_of_all_pairs": own.all_pairs.to_dict(),
        "auroc_of_source_alone": own.source_alone,
    }
