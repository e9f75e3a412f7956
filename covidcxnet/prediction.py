"""What a classifier says about one radiograph."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segmentation.verdict import Verdict


@dataclass(frozen=True)
class Prediction:
    """What a classifier says about one radiograph.

    Attributes
    ----------
    path : Path or None
        The file; None for an array.
    label : str or None
        The most probable class.
    probabilities : dict of str to float
        Class to probability; they add up to 1.
    lungs : Verdict or None
        Whether the lungs that were found can be trusted; None where they were not looked for.
    error : str or None
        Why the file could not be read; then there is no label and no probability.
    """

    path: Path | None
    label: str | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    lungs: Verdict | None = None
    error: str | None = None

    @property
    def probability(self) -> float | None:
        """Probability of `label`."""
        return None if self.label is None else self.probabilities[self.label]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "file": None if self.path is None else str(self.path),
            "label": self.label,
            "probability": self.probability,
            "probabilities": self.probabilities,
            "lungs": None if self.lungs is None else self.lungs.to_dict(),
            "error": self.error,
        }
