"""What came out: the figures of one training, of all repeats of one cell with their t intervals, of a whole sweep."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from covidcxnet.evaluation.bootstrap import LEVEL
from covidcxnet.experiments.entries import called_normal, report_of
from covidcxnet.experiments.grid import Trial
from covidcxnet.reporting.table import Estimate
from covidcxnet.training.recipe import Recipe
from covidcxnet.training.run import Run

TEST = {"f1": "F1, mean over classes", "accuracy": "Accuracy", "auroc": "AUROC"}
VALIDATION = {"val_f1": "F1, validation", "val_accuracy": "Accuracy, validation", "val_auroc": "AUROC, validation"}
_REPORTED = {"f1": "macro_f1", "accuracy": "accuracy", "auroc": "auroc"}


@dataclass(frozen=True)
class Outcome:
    """One training; `reason` says why it has no figures."""

    trial: Trial
    # those of `TEST` with intervals over patients, those of `VALIDATION` without, best_epoch, epochs, seconds per epoch
    figures: Mapping[str, Estimate] = field(default_factory=dict)
    never_found: tuple[str, ...] = ()  # classes with an F1 of zero
    called_normal: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # disease to images so called and all
    reason: str = ""


@dataclass(frozen=True)
class Cell:
    """All repeats of one combination of values."""

    values: Mapping[str, Any]
    outcomes: tuple[Outcome, ...]

    @property
    def name(self) -> str:
        """The values in words."""
        return self.outcomes[0].trial.cell

    @property
    def finished(self) -> tuple[Outcome, ...]:
        """Repeats with figures."""
        return tuple(outcome for outcome in self.outcomes if not outcome.reason)

    def values_of(self, name: str) -> np.ndarray:
        """A figure of each finished repeat in which it is defined, float [n]."""
        values = np.array([o.figures[name].value for o in self.finished if name in o.figures], float)
        return values[~np.isnan(values)]

    def figure(self, name: str) -> Estimate:
        """Mean over repeats and its t interval; of a single planned training, its own interval."""
        if len(self.outcomes) == 1 and self.finished:
            return self.finished[0].figures.get(name, Estimate(math.nan))
        return t_interval(self.values_of(name))

    @property
    def called_normal(self) -> dict[str, tuple[float, int]]:
        """Disease to the mean number called normal in a repeat, and images of it."""
        pairs: dict[str, list[tuple[int, int]]] = {}
        for outcome in self.finished:
            for name, pair in outcome.called_normal.items():
                pairs.setdefault(name, []).append(pair)
        return {name: (float(np.mean([n for n, _ in group])), group[0][1]) for name, group in pairs.items()}

    @property
    def notes(self) -> list[str]:
        """Failures and classes that are never found, in words."""
        reasons = [f"failed: {outcome.reason}" for outcome in self.outcomes if outcome.reason]
        zeros = [f"F1 0 for {', '.join(outcome.never_found)}" for outcome in self.outcomes if outcome.never_found]
        counted = [(text, texts.count(text)) for texts in (reasons, zeros) for text in dict.fromkeys(texts)]
        return [f"{number} of {len(self.outcomes)}: {text}" for text, number in counted]


@dataclass(frozen=True)
class Sweep:
    """What came out of a sweep; its folder holds the page, the tables, the plot, the split and a folder a cell."""

    folder: Path
    keys: tuple[str, ...]  # what was swept
    outcomes: tuple[Outcome, ...]  # one for each training, failed ones too
    repeats: int  # trainings of each cell
    tested: bool  # whether the test set was opened
    recipe: Recipe  # what was not swept
    created: str = ""  # local date and time

    @property
    def path(self) -> Path:
        """The page."""
        return self.folder / "sweep.html"

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """Trainings without figures."""
        return tuple(outcome for outcome in self.outcomes if outcome.reason)

    @property
    def cells(self) -> list[Cell]:
        """Outcomes by cell, in the order of the grid."""
        groups: dict[str, list[Outcome]] = {}
        for outcome in self.outcomes:
            groups.setdefault(outcome.trial.cell, []).append(outcome)
        return [Cell(group[0].trial.values, tuple(group)) for group in groups.values()]


def t_interval(values: np.ndarray) -> Estimate:
    """Mean of proportions float [n] with the 95% interval of Student's t, cut at 0 and 1; none for fewer than two.

    Examples
    --------
    >>> mean = t_interval(np.array([0.7, 0.8, 0.9]))
    >>> round(mean.value, 3), round(mean.low, 3), round(mean.high, 3)
    (0.8, 0.552, 1.0)
    """
    if not len(values):
        return Estimate(math.nan)
    mean = float(np.mean(values))
    if len(values) < 2:
        return Estimate(mean)
    from scipy.stats import t

    half = float(t.ppf((1 + LEVEL) / 2, len(values) - 1)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return Estimate(mean, max(0.0, mean - half), min(1.0, mean + half))


def outcome_of(trial: Trial, run: Run, options: Mapping[str, Any] | None) -> Outcome:
    """Figures of a finished run: its log's, and those of its test report, made where it is missing.

    `options` are those of `evaluate`; None leaves the test set closed.
    """
    status, log = run.status, run.log
    # the log of a run in two stages holds the figures of the second level alone
    best = status.get("whole_model") or status.get("best", {})
    figures = {name: Estimate(float(best[name])) for name in VALIDATION if best.get(name) is not None}
    figures |= {
        "best_epoch": Estimate(float(status.get("best_epoch", math.nan))),
        "epochs": Estimate(float(len(log))),
        "seconds": Estimate(float(log["seconds"].median()) if "seconds" in log else math.nan),
    }
    if options is None:
        zeros = [name.removeprefix("val_f1_") for name, v in best.items() if name.startswith("val_f1_") and v == 0]
        return Outcome(trial, figures, tuple(zeros))
    report, _ = report_of(run, **options)
    resamples, overall = report["bootstrap"]["resamples"], report["overall"]
    figures |= {name: Estimate.from_dict(overall[key], resamples) for name, key in _REPORTED.items() if key in overall}
    zeros = [label for label, part in report["by_class"].items() if (part.get("f1") or {}).get("value") == 0]
    return Outcome(trial, figures, tuple(zeros), called_normal(report))
