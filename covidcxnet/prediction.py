"""What a classifier says about one radiograph, and its probabilities of rows of a store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from covidcxnet.classifier import Classifier
    from covidcxnet.preparation import Store
    from segmentation.verdict import Verdict

NONE = "none"
"""Label where a model of independent findings calls none of them."""

_CHUNK = 256  # stacks read at once: 75 MB at 320 x 320 x 3


@dataclass(frozen=True)
class Prediction:
    """What a classifier says about one radiograph.

    Attributes
    ----------
    path : Path or None
        The file; None for an array.
    label : str or None
        The most probable class. Of independent findings those that are called, the most probable first and ``|``
        between, or "none".
    probabilities : dict of str to float
        Class to probability; they add up to 1, those of independent findings do not.
    lungs : Verdict or None
        Whether the lungs that were found can be trusted; None where they were not looked for.
    notes : tuple of str
        Why it does not look like an upright frontal chest radiograph (lateral, turned, inverted, blank, a photograph
        ...), by simple rules that err now and then; empty where it does.
    findings : tuple of str or None
        Independent findings whose probability reaches their threshold, the most probable first; None where classes
        exclude each other.
    error : str or None
        Why the file could not be read; then there is no label and no probability.
    """

    path: Path | None
    label: str | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    lungs: Verdict | None = None
    error: str | None = None
    notes: tuple[str, ...] = ()
    findings: tuple[str, ...] | None = None

    @property
    def probability(self) -> float | None:
        """Probability of `label`; of independent findings that of the first called, or the highest where none is."""
        if self.findings is not None:
            return self.probabilities[self.findings[0]] if self.findings else max(self.probabilities.values())
        return None if self.label is None else self.probabilities[self.label]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "file": None if self.path is None else str(self.path),
            "label": self.label,
            "probability": self.probability,
            "probabilities": self.probabilities,
            "lungs": None if self.lungs is None else self.lungs.to_dict(),
            "notes": list(self.notes),
            "error": self.error,
            **({} if self.findings is None else {"findings": list(self.findings)}),
        }


def prediction_of(
    path: Path | None, outcome: Any, row: np.ndarray | None, classes: Sequence[str], thresholds: np.ndarray | None
) -> Prediction:
    """The prediction of one radiograph.

    Parameters
    ----------
    path : Path or None
    outcome : covidcxnet.preparation.outcome.Outcome
        What its preparation found.
    row : float [C] or None
        Its probabilities; None where it could not be read.
    classes : sequence of str [C]
    thresholds : float [C] or None
        From which each finding is called; None where classes exclude each other.
    """
    if row is None:
        return Prediction(path, lungs=outcome.verdict, error=outcome.error)
    probabilities = {label: float(value) for label, value in zip(classes, row, strict=True)}
    findings = None
    label = classes[int(np.argmax(row))]
    if thresholds is not None:
        called = np.flatnonzero(np.asarray(row) >= thresholds)
        findings = tuple(classes[i] for i in called[np.argsort(-np.asarray(row)[called], kind="stable")])
        label = "|".join(findings) or NONE
    return Prediction(path, label, probabilities, outcome.verdict, notes=outcome.notes, findings=findings)


def predict_rows(store: Store, rows, classifier: Classifier, batch_size: int, progress: bool, name: str) -> np.ndarray:
    """Probabilities float32 [n, C] of rows of a store; memory stays flat."""
    from tqdm import tqdm

    parts = []
    with tqdm(total=len(rows), desc=f"predicting {name}", unit="image", disable=not progress) as bar:
        for start in range(0, len(rows), _CHUNK):
            stacks = store.read(rows[start : start + _CHUNK])
            parts.append(classifier.predict_stacks(stacks, batch_size=batch_size))
            bar.update(len(stacks))
    return np.concatenate(parts) if parts else np.empty((0, len(classifier.classes)), np.float32)
