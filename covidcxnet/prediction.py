"""What a classifier says about one radiograph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from segmentation.verdict import Verdict

NONE = "none"
"""Label where a model of independent findings calls none of them."""


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
        Whether the lung mask can be trusted; None where no lungs were looked for.
    error : str or None
        Why the file could not be read; then there is no label and no probability.
    notes : tuple of str
        Why it does not look like an upright frontal chest radiograph (lateral, turned, inverted, blank, a photograph
        ...), by simple rules that err now and then; empty where it does.
    findings : tuple of str or None
        Independent findings whose probability reaches their threshold, the most probable first; None where classes
        exclude each other.
    """

    path: Path | None
    label: str | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    lungs: Verdict | None = None
    error: str | None = None
    notes: tuple[str, ...] = ()
    findings: tuple[str, ...] | None = None

    @classmethod
    def from_row(
        cls,
        row: np.ndarray,
        classes: Sequence[str],
        thresholds: np.ndarray | None = None,
        *,
        path: Path | None = None,
        lungs: Verdict | None = None,
        notes: tuple[str, ...] = (),
    ) -> Prediction:
        """The prediction of a row of probabilities; `thresholds` of independent findings, else None."""
        probabilities = {label: float(value) for label, value in zip(classes, row, strict=True)}
        if thresholds is None:
            return cls(path, classes[int(np.argmax(row))], probabilities, lungs, notes=notes)
        # Stable, so that equal probabilities keep the order of the classes on every machine.
        called = [k for k in np.argsort(-np.asarray(row), kind="stable") if row[k] >= thresholds[k]]
        findings = tuple(classes[k] for k in called)
        return cls(path, "|".join(findings) or NONE, probabilities, lungs, notes=notes, findings=findings)

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
