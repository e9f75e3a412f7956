"""The figures of one training, and of all repeats of one cell with their t intervals."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from covidcxnet.evaluation.bootstrap import LEVEL, Estimate
from covidcxnet.experiments.grid import Trial

if TYPE_CHECKING:
    from covidcxnet.training import Run

TEST = (("f1", "F1, mean over classes"), ("accuracy", "Accuracy"), ("auroc", "AUROC"))
VALIDATION = (
    ("val_f1", "F1, validation"),
    ("val_accuracy", "Accuracy, validation"),
    ("val_auroc", "AUROC, validation"),
)
_REPORTED = {"f1": "macro_f1", "accuracy": "accuracy", "auroc": "auroc"}


@dataclass(frozen=True)
class Outcome:
    """One training.

    Parameters
    ----------
    trial : Trial
        What was trained.
    figures : mapping
        Name to `Estimate`: those of `TEST` with intervals over patients, those of `VALIDATION` without, and best_epoch,
        epochs and seconds (per epoch).
    collapsed : tuple of str
        Classes with an F1 of zero.
    called_normal : mapping
        Disease to test images called normal and images of it.
    reason : str
        Why it has no figures; empty if it has.
    """

    trial: Trial
    figures: Mapping[str, Estimate] = field(default_factory=dict)
    collapsed: tuple[str, ...] = ()
    called_normal: Mapping[str, tuple[int, int]] = field(default_factory=dict)
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
        found = [outcome.figures[name].value for outcome in self.finished if name in outcome.figures]
        return np.array([value for value in found if not math.isnan(value)], float)

    def figure(self, name: str) -> Estimate:
        """Mean over repeats and its t interval; of a single training that was not to be repeated, its own interval."""
        if len(self.outcomes) == 1 and self.finished:
            return self.finished[0].figures.get(name, Estimate(math.nan))
        return t_interval(self.values_of(name))

    @property
    def called_normal(self) -> dict[str, tuple[float, int]]:
        """Disease to the mean number called normal in a repeat, and images of it."""
        names = dict.fromkeys(name for outcome in self.finished for name in outcome.called_normal)
        pairs = {name: [o.called_normal[name] for o in self.finished if name in o.called_normal] for name in names}
        return {name: (float(np.mean([p[0] for p in found])), found[0][1]) for name, found in pairs.items()}

    @property
    def notes(self) -> list[str]:
        """Failures and collapses, in words."""
        reasons = [f"failed: {outcome.reason}" for outcome in self.outcomes if outcome.reason]
        lost = [f"F1 0 for {', '.join(outcome.collapsed)}" for outcome in self.outcomes if outcome.collapsed]
        counted = [(what, found.count(what)) for found in (reasons, lost) for what in dict.fromkeys(found)]
        return [f"{number} of {len(self.outcomes)}: {what}" for what, number in counted]


def cells_of(outcomes: Sequence[Outcome]) -> list[Cell]:
    """Outcomes by cell, in the order of the grid."""
    found: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.trial.cell, []).append(outcome)
    return [Cell(group[0].trial.values, tuple(group)) for group in found.values()]


def t_interval(values: np.ndarray) -> Estimate:
    """Mean with the 95% interval of Student's t over repeats, cut at 0 and 1.

    Parameters
    ----------
    values : np.ndarray
        float [n], proportions. With fewer than two there is no interval.

    Examples
    --------
    >>> found = t_interval(np.array([0.7, 0.8, 0.9]))
    >>> round(found.value, 3), round(found.low, 3), round(found.high, 3)
    (0.8, 0.552, 1.0)
    """
    if not len(values):
        return Estimate(math.nan)
    mean = float(np.mean(values))
    if len(values) < 2:
        return Estimate(mean)
    from scipy.stats import t

    half = float(t.ppf((1 + LEVEL) / 2, len(values) - 1)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return Estimate(mean, max(0.0, mean - half), min(1.0, mean + half), 0, len(values))


def outcome_of(trial: Trial, run: Run, evaluate_options: Mapping[str, Any] | None) -> Outcome:
    """Figures of a finished run: its log's, and those of its test report, made where it is missing.

    Parameters
    ----------
    trial, run
        What was to be trained, and where it lies.
    evaluate_options : mapping or None
        Of `evaluate`; None leaves the test set closed.
    """
    status, log = run.status, run.log
    best = status.get("whole_model") or status.get("best", {})  # a run in two stages logs each level alone
    figures = {name: Estimate(float(best[name])) for name, _ in VALIDATION if best.get(name) is not None}
    figures |= {
        "best_epoch": Estimate(float(status.get("best_epoch", math.nan))),
        "epochs": Estimate(float(len(log))),
        "seconds": Estimate(float(log["seconds"].median()) if "seconds" in log else math.nan),
    }
    if evaluate_options is None:
        lost = tuple(name.removeprefix("val_f1_") for name, v in best.items() if name.startswith("val_f1_") and v == 0)
        return Outcome(trial, figures, lost)
    report = _report(run, evaluate_options)
    resamples = report["bootstrap"]["resamples"]
    overall = report["overall"]
    figures |= {name: _estimate(overall[key], resamples) for name, key in _REPORTED.items() if key in overall}
    lost = tuple(label for label, own in report["by_class"].items() if (own.get("f1") or {}).get("value") == 0)
    called = {m["class"]: (m["missed"], m["images"]) for m in report.get("called_normal", [])}
    return Outcome(trial, figures, lost, called)


def _report(run: Run, options: Mapping[str, Any]) -> dict[str, Any]:
    from covidcxnet.experiments.compare_entry import read_report

    report, _, missing = read_report(run)
    if not missing:
        return report
    from covidcxnet.evaluation.evaluator import evaluate

    print(f"  {missing}; evaluating the test split", file=sys.stderr, flush=True)
    made = evaluate(run, explain=False, **options)
    return json.loads(made.metrics_path.read_text(encoding="utf-8"))


def _estimate(part: Mapping[str, Any] | None, resamples: int) -> Estimate:
    found = part or {}
    value, low, high = (math.nan if found.get(key) is None else float(found[key]) for key in ("value", "low", "high"))
    return Estimate(value, low, high, found.get("undefined_resamples", 0), resamples)
