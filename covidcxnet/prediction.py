"""What a classifier says about radiographs: a `Prediction` of each, and `Predicted`, the list of many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from covidcxnet.preparation.pipeline import MARK
from covidcxnet.reporting import plots
from covidcxnet.reporting.pages import NOTICE
from covidcxnet.reporting.table import Table, count
from enhancement import read_radiograph
from enhancement.errors import InputError, printable
from enhancement.notebook import NotebookDisplay, Results
from segmentation.verdict import Verdict

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

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
        ("not an upright frontal chest", "turned", "inverted", "blank", "photograph" ...), by rules that err now and
        then, or its lungs were not found or are not trusted ("lungs"). Empty where nothing speaks against it.
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
        mark = MARK if self.notes else ""
        return f"Prediction({name}, {self.label!r}, probability={self.probability or 0:.3f}{mark})"

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


def draw(predictions: Sequence[Prediction], thresholds: Mapping[str, float] | None = None) -> Figure:
    """Each radiograph beside its probabilities as bars, those of what is predicted in a darker colour.

    `thresholds` are those of independent findings, marked by a line on each bar; files that were not read, and arrays,
    which a prediction does not keep, are left out. `InputError` if nothing is left.
    """
    rows = [p for p in predictions if p.error is None and p.path is not None]
    if not rows:
        raise InputError("predictions: none of a file that could be read; there is nothing to draw")
    names = list(rows[0].probabilities)
    high = max(1.7, 0.19 * len(names) + 0.5)
    figure, panels = plots.figure(7.4, high * len(rows) + 0.65, len(rows), 2)
    places = np.arange(len(names))[::-1]
    for row, shown, axes in zip(rows, panels[::2], panels[1::2], strict=True):
        assert row.path is not None
        pixels = plots.resized(read_radiograph(row.path), 480)
        plots.image(shown, pixels, plots.shortened(printable(row.path.name), 44), size=8, cmap="gray", vmin=0, vmax=255)
        called = row.findings if row.findings is not None else (row.label,)
        colours = [plots.COLOURS[0] if name in called else "#b9cfdf" for name in names]
        values = [row.probabilities[name] for name in names]
        axes.barh(places, values, 0.7, color=colours)
        for place, name, value in zip(places, names, values, strict=True):
            least = None if thresholds is None else thresholds.get(name)
            if least is not None:
                axes.plot([least, least], [place - 0.42, place + 0.42], color=plots.COLOURS[1], linewidth=1.6)
            # Behind the bar, and behind the line where that would cross the number.
            end = least if least is not None and value < least < value + 0.12 else value
            axes.text(end + 0.015, place, f"{value:.2f}", va="center", fontsize=7.5, color=plots.INK)
        axes.set(xlim=(0, 1.1), xticks=(0, 0.5, 1), ylim=(-0.6, len(names) - 0.4))
        axes.set_yticks(places, [plots.shortened(printable(name), 26) for name in names])
        label = row.label or ""
        label = label if len(label) <= 40 else f"{count(len(called), 'finding')} predicted"
        title = f"{label}{MARK if row.notes else ''}"
        for text in (axes.set_title(title, fontsize=8.5), *axes.get_yticklabels()):
            text.set_parse_math(False)
    panels[-1].set_xlabel("probability")
    figure.get_layout_engine().set(h_pad=0.08)  # type: ignore[union-attr, call-arg]
    note = "" if thresholds is None else "Orange: threshold from which a finding is predicted. "
    marked = f"{MARK.strip()}: the image or its lungs are in doubt. " if any(row.notes for row in rows) else ""
    figure.supxlabel(f"{note}{marked}{NOTICE}.", x=0.01, ha="left", fontsize=7.5)
    return figure


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
