"""What a classifier says about radiographs: a `Prediction` of each, and `Predicted`, the list of many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from covidcxnet.preparation.pipeline import MARK
from covidcxnet.reporting.table import Table
from enhancement.errors import printable
from enhancement.notebook import NotebookDisplay, Results
from segmentation.verdict import Verdict

if TYPE_CHECKING:
    import pandas as pd

NONE = "none"
"""Label where a model of independent findings calls none of them."""


@dataclass(frozen=True)
class Prediction(NotebookDisplay):
    """What a classifier says about one radiograph; a notebook shows it as a table.

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
        Why the label is in doubt, each as "word: reason": it does not look like an upright frontal chest radiograph
        ("not frontal", "turned", "inverted", "blank", "photograph" ...), by rules that err now and then, or its lungs
        were not found or are not trusted ("lungs"). Empty where nothing speaks against it.
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

    def __repr__(self) -> str:
        name = "array" if self.path is None else repr(self.path.name)
        if self.error is not None:
            return f"Prediction({name}, error={self.error!r})"
        return f"Prediction({name}, {self.label!r}, probability={self.probability or 0:.3f})"

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

    def _html(self) -> str:
        rows: list[tuple[str, Any]] = [(label, float(value)) for label, value in self.probabilities.items()]
        if self.lungs is not None:
            rows.append(("lungs", "trusted" if self.lungs.trusted else "; ".join(self.lungs.reasons)))
        rows += [("note", note) for note in self.notes] + ([("error", self.error)] if self.error else [])
        name = "array" if self.path is None else printable(self.path.name)
        label = f"{self.label or ''}{MARK if self.notes else ''}"
        return str(Table((name, label), rows).html())


class Predicted(Results):
    """A list of `Prediction` or `Explanation`, one for each radiograph, in the order given.

    Attributes
    ----------
    classes : tuple of str
        Of the classifier; the order of the columns of `probabilities`.
    """

    def __init__(self, results: Iterable[Any] = (), classes: Sequence[str] = ()):
        super().__init__(results)
        self.classes = tuple(classes)

    @property
    def probabilities(self) -> np.ndarray:
        """Probabilities ``float64 [N, classes]``; NaN where a file could not be read."""
        rows = [_prediction(result).probabilities for result in self]
        values = [[row.get(label, np.nan) for label in self.classes] for row in rows]
        return np.array(values, float).reshape(len(rows), len(self.classes))

    def to_frame(self) -> pd.DataFrame:
        """One row a radiograph, with the columns of ``covidcxnet predict --csv``; of explanations three more."""
        import pandas as pd

        # Named even where there is no row, or all of them are errors.
        names = list(columns(self.classes))
        rows = [table_row(_prediction(result).to_dict(), self.classes) for result in self]
        if any(_prediction(result) is not result for result in self):
            names += _OF_EXPLANATIONS
            rows = [row | {n: getattr(r, n) for n in _OF_EXPLANATIONS} for r, row in zip(self, rows, strict=True)]
        return pd.DataFrame(rows, columns=names)


_OF_EXPLANATIONS = ["method", "target", "fit"]


def _prediction(result: Any) -> Prediction:
    # An explanation has its prediction, which cannot know it.
    return getattr(result, "prediction", result)


def columns(classes: Sequence[str]) -> tuple[str, ...]:
    """Columns of a table of predictions: one of probabilities for each class."""
    return tuple(table_row(Prediction(None).to_dict(), classes))


def table_row(values: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """A row of a table from what `Prediction.to_dict` gives; a class that it lacks is None."""
    lungs = values["lungs"] or {}
    return {
        **{key: values[key] for key in ("file", "label", "probability")},
        **{f"probability_{label}": values["probabilities"].get(label) for label in classes},
        "lungs_trusted": lungs.get("trusted"),
        "lungs_reasons": "; ".join(lungs.get("reasons", ())) or None,
        "notes": "; ".join(values["notes"]) or None,
        "error": values["error"],
    }
