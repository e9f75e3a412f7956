"""Figures of independent findings, each over the images in which it is known, with intervals over patients.

A finding of which not one image is found has an F1 of 0, not an undefined one. It is counted in the mean and named
beside it, so that a mean over findings cannot hide it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from covidcxnet.evaluation.bootstrap import Bootstrap, Estimate, mean_of_defined, ratio
from covidcxnet.evaluation.ranking import rank
from covidcxnet.evaluation.within import source_alone, source_names
from enhancement.errors import InputError
from enhancement.files import whole_file

FIGURES = ("auroc", "average_precision", "f1", "sensitivity", "specificity", "precision", "npv")


@dataclass(frozen=True)
class FindingPredictions:
    """One row an image.

    Parameters
    ----------
    table : pd.DataFrame
        Columns `path`, `label`; `patient`, `source`, `lungs_trusted` where known. N rows.
    targets : np.ndarray
        float [N, K]: 1 present, 0 absent, NaN unknown.
    probabilities : np.ndarray
        float [N, K].
    classes : tuple of str
        The findings.
    thresholds : np.ndarray
        float [K]; a finding is called from its probability on.

    Raises
    ------
    InputError
        No image, or probabilities that are not finite.
    """

    table: pd.DataFrame
    targets: np.ndarray
    probabilities: np.ndarray
    classes: tuple[str, ...]
    thresholds: np.ndarray

    def __post_init__(self):
        if not len(self.table):
            raise InputError("evaluation: 0 images to evaluate, at least 1 expected; look at the split and its names")
        broken = ~np.isfinite(self.probabilities).all(axis=1)
        if broken.any():
            path = self.table["path"].iloc[int(np.flatnonzero(broken)[0])]
            raise InputError(f"{path}: the model's output is not a number (so for {int(broken.sum())} images)")

    def __len__(self) -> int:
        return len(self.table)

    @property
    def called(self) -> np.ndarray:
        """bool [N, K]."""
        return self.probabilities >= self.thresholds

    def column(self, name: str) -> pd.Series | None:
        """A column of the table, or None where it is absent or wholly empty."""
        if name not in self.table or self.table[name].replace("", None).isna().all():
            return None
        return self.table[name]

    @property
    def labelled(self) -> pd.Series:
        """What is present in each image, in words; "none" where nothing is."""
        said = [", ".join(np.array(self.classes, dtype=object)[row == 1]) or "none" for row in self.targets]
        return pd.Series(said, self.table.index, dtype=object)

    def to_frame(self) -> pd.DataFrame:
        """Columns path, patient, source; for each finding its truth, `called_` and `p_` of it; lungs_trusted."""
        columns: dict[str, Any] = {"path": self.table["path"].to_numpy()}
        for name in ("patient", "source"):
            columns[name] = self.table[name].to_numpy() if name in self.table else None
        for k, name in enumerate(self.classes):
            columns[name] = self.targets[:, k]
            columns[f"called_{name}"] = self.called[:, k].astype(int)
            columns[f"p_{name}"] = self.probabilities[:, k]
        columns["lungs_trusted"] = self.table["lungs_trusted"].to_numpy() if "lungs_trusted" in self.table else None
        return pd.DataFrame(columns)

    def save(self, path: str | Path) -> Path:
        """Write `to_frame` as CSV, whole or not at all."""
        with whole_file(path) as partial:
            self.to_frame().to_csv(partial, index=False, float_format="%.7g")
        return Path(path)


@dataclass(frozen=True)
class FindingFigures:
    """Figures of one finding over the images in which it is known.

    Parameters
    ----------
    name : str
    present, absent, patients : int
        Images with and without it, and patients of those with it.
    hits, alarms, misses, passes : int
        Present and called, absent and called, present and not called, absent and not called.
    threshold : float
    figures : dict
        Name from `FIGURES` to `Estimate`; NaN where undefined.
    roc, precision_recall : np.ndarray
        Curves float [points, 2]; empty where undefined.
    roc_band : tuple of np.ndarray
        95% band on `ranking.GRID`.
    place_alone : float
        AUROC of a reader who sees only the name of the source; NaN where there is one source or none known.
    """

    name: str
    present: int
    absent: int
    patients: int
    hits: int
    alarms: int
    misses: int
    passes: int
    threshold: float
    figures: dict[str, Estimate]
    roc: np.ndarray = field(repr=False)
    precision_recall: np.ndarray = field(repr=False)
    roc_band: tuple[np.ndarray, np.ndarray] = field(repr=False)
    place_alone: float = float("nan")


@dataclass(frozen=True)
class FindingMetrics:
    """All figures of one set of predictions.

    Parameters
    ----------
    classes : tuple of str
    images, patients : int
        Images counted, and patients drawn by the bootstrap.
    macro : dict
        Name from `FIGURES` to `Estimate`: the mean over findings for which the figure is defined. A resample in which
        it is undefined for some of them has the mean of the others.
    findings : tuple of FindingFigures
        In the order of `classes`.
    """

    classes: tuple[str, ...]
    images: int
    patients: int
    macro: dict[str, Estimate]
    findings: tuple[FindingFigures, ...]

    @property
    def collapsed(self) -> tuple[str, ...]:
        """Findings with an F1 of 0: present in images, and found in none of them."""
        return tuple(f.name for f in self.findings if f.figures["f1"].value == 0)

    @property
    def untested(self) -> tuple[str, ...]:
        """Findings that are present in no image, or absent in none: no ranking can be judged on them."""
        return tuple(f.name for f in self.findings if not f.present or not f.absent)


def measure_findings(predictions: FindingPredictions, bootstrap: Bootstrap) -> FindingMetrics:
    """All figures; `bootstrap` is made from the patients of these images."""
    rows, statistics = [], []
    for k in range(len(predictions.classes)):
        figures, row = _finding(predictions, k, bootstrap)
        rows.append(row)
        statistics.append(figures)
    macro = {}
    for name in FIGURES:
        defined = [own[name] for own in statistics if not np.isnan(own[name][0])]
        macro[name] = bootstrap.estimate(mean_of_defined(defined)) if defined else Estimate(float("nan"))
    return FindingMetrics(predictions.classes, len(predictions), bootstrap.patients, macro, tuple(rows))


def _finding(predictions: FindingPredictions, k: int, bootstrap: Bootstrap):
    truth, chance = predictions.targets[:, k], predictions.probabilities[:, k]
    known = np.flatnonzero(~np.isnan(truth))
    present, called = truth[known] == 1, predictions.called[known, k]
    cells = np.zeros((len(truth), 4))
    cells[known] = np.stack([present & called, ~present & called, present & ~called, ~present & ~called], axis=1)
    hits, alarms, misses, passes = bootstrap.sums(cells).T
    ranking = rank(chance[known], present, bootstrap, known) if len(known) else None
    nothing = np.full(1 + bootstrap.resamples, np.nan)
    figures = {
        "auroc": ranking.auroc if ranking else nothing,
        "average_precision": ranking.average_precision if ranking else nothing,
        # without images of the finding, calls alone would make it 0: it is undefined
        "f1": ratio(2 * hits, np.where(hits + misses > 0, 2 * hits + alarms + misses, 0)),
        "sensitivity": ratio(hits, hits + misses),
        "specificity": ratio(passes, passes + alarms),
        "precision": ratio(hits, hits + alarms),
        "npv": ratio(passes, passes + misses),
    }
    empty = np.empty((0, 2))
    row = FindingFigures(
        name=predictions.classes[k],
        present=int(present.sum()),
        absent=int((~present).sum()),
        patients=len(np.unique(bootstrap.index[known[present]])),
        hits=int(hits[0]),
        alarms=int(alarms[0]),
        misses=int(misses[0]),
        passes=int(passes[0]),
        threshold=float(predictions.thresholds[k]),
        figures={name: bootstrap.estimate(figure) for name, figure in figures.items()},
        roc=ranking.roc_points if ranking else empty,
        precision_recall=ranking.precision_recall_points if ranking else empty,
        roc_band=bootstrap.band(ranking.sensitivity) if ranking else (np.full(101, np.nan),) * 2,
        place_alone=_place_alone(predictions.column("source"), known, present),
    )
    return figures, row


def _place_alone(sources: pd.Series | None, known: np.ndarray, present: np.ndarray) -> float:
    names = source_names(sources)
    if names is None or len(set(names[known])) == 1:
        return float("nan")
    return source_alone(names[known], present)
