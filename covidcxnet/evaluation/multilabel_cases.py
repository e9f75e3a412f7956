"""Which images a report on independent findings shows, by a stated rule, and their pictures."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from covidcxnet.evaluation.cases import Case, Pick
from covidcxnet.evaluation.multilabel_metrics import FindingMetrics, FindingPredictions
from covidcxnet.evaluation.predictions import Predictions

if TYPE_CHECKING:
    from covidcxnet.classifier import Classifier
    from covidcxnet.preparation import Store

MOST = 8
RULE = (
    f"For each finding, of the {MOST} most frequent: the image with it of the highest probability, the one without it "
    "of the highest, and the one with it of the lowest among those not called; each of another patient. Nothing was "
    "picked by eye. Grad-CAM is that of the finding, called or not."
)


def choose_findings(predictions: FindingPredictions, metrics: FindingMetrics) -> list[tuple[int, list[Pick]]]:
    """Findings, by index, and the images to show of each; see `RULE`."""
    patients = predictions.column("patient")
    names = None if patients is None else patients.fillna("").astype(str).to_numpy()
    order = sorted(range(len(metrics.findings)), key=lambda k: -metrics.findings[k].present)[:MOST]
    chosen = []
    for k in sorted(order):
        truth, chance, called = predictions.targets[:, k], predictions.probabilities[:, k], predictions.called[:, k]
        rising = np.argsort(chance, kind="stable")
        wishes = (
            (rising[::-1], (truth == 1) & called, "called with the highest probability", True),
            (rising[::-1], (truth == 0) & called, "false alarm of the highest probability", False),
            (rising, (truth == 1) & ~called, "missed with the lowest probability", False),
        )
        seen: set[str] = set()
        picks: list[Pick] = []
        for rows, member, why, correct in wishes:
            row = next((int(r) for r in rows if member[r] and (names is None or names[r] not in seen)), None)
            if row is not None:
                picks.append(Pick(row, why, correct))
                seen |= {names[row]} - {""} if names is not None else set()
        if picks:
            chosen.append((k, picks))
    return chosen


def draw_finding_cases(
    predictions: FindingPredictions,
    metrics: FindingMetrics,
    store: Store,
    rows: np.ndarray,
    classifier: Classifier,
    *,
    progress: bool = True,
) -> tuple[Case, ...]:
    """Draw the chosen images; a case's label is what is present in it, its prediction the finding that is shown."""
    from covidcxnet.evaluation.drawing import draw_cases

    made: list[Case] = []
    labels = predictions.labelled.tolist()
    for k, picks in choose_findings(predictions, metrics):
        view = _OneFinding(predictions, k)
        name = predictions.classes[k]
        drawn = draw_cases(picks, view, store, rows, classifier, progress=progress)  # type: ignore[arg-type]
        for pick, case in zip(picks, drawn, strict=True):
            chance = {name: float(predictions.probabilities[pick.row, k])}
            made.append(replace(case, label=labels[pick.row], predicted=name, probabilities=chance))
    return tuple(made)


class _OneFinding:
    """Predictions as `draw_cases` reads them, every image explained for one finding."""

    def __init__(self, predictions: FindingPredictions, k: int):
        self.table, self.probabilities, self.classes = predictions.table, predictions.probabilities, predictions.classes
        self.predicted = self.targets = np.full(len(predictions), k)

    column = Predictions.column
