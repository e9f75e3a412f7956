"""One row of a comparison: figures of a run that was measured, or of a paper that printed them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from covidcxnet.evaluation.bootstrap import Estimate


@dataclass(frozen=True)
class Row:
    """Figures of one run or published system; None where unknown.

    Parameters
    ----------
    name, model : str
        What it is called in the table, and its architecture.
    published : str
        Name of the study that printed it; empty for what was measured here.
    images : int or None
        Test images.
    f1, accuracy, auroc : Estimate or None
        F1 as the mean over classes, accuracy, AUROC; in 0..1.
    f1_by_class : mapping
        Class to `Estimate`.
    called_normal : mapping
        Disease to images called normal and images of it (None where not printed).
    difference : Estimate or None
        AUROC minus that of the first run, on the same test images.
    parameters, flops : int or None
        Of the model; operations for one stack, two for each multiply-add.
    validation_auroc : float or None
        On validation, of the weights used.
    seconds, best_epoch, epochs
        Per epoch (median), epoch of the weights used, epochs trained.
    source, split, note : str
        Where it stands, how its images were split, what to know.
    """

    name: str
    model: str
    published: str = ""
    images: int | None = None
    f1: Estimate | None = None
    accuracy: Estimate | None = None
    auroc: Estimate | None = None
    f1_by_class: Mapping[str, Estimate] = field(default_factory=dict)
    called_normal: Mapping[str, tuple[int, int | None]] = field(default_factory=dict)
    difference: Estimate | None = None
    parameters: int | None = None
    flops: float | None = None
    validation_auroc: float | None = None
    seconds: float | None = None
    best_epoch: int | None = None
    epochs: int | None = None
    source: str = ""
    split: str = ""
    note: str = ""

    @property
    def collapsed(self) -> tuple[str, ...]:
        """Classes that have images and that the model never called rightly: an F1 of zero."""
        return tuple(name for name, figure in self.f1_by_class.items() if figure.value == 0)

    def flat(self, classes: tuple[str, ...]) -> dict[str, Any]:
        """One line of the CSV: the same columns whatever the row, fractions in 0..1, None where unknown."""
        values: dict[str, Any] = {
            "name": self.name,
            "kind": "published, not measured here" if self.published else "measured",
            "study": self.published,
            "model": self.model,
            "test_images": self.images,
        }
        for key in ("f1", "accuracy", "auroc", "difference"):
            values |= _spread("auroc_difference" if key == "difference" else key, getattr(self, key))
        values["zero_f1_classes"] = ";".join(self.collapsed)
        for key in ("validation_auroc", "parameters", "flops", "seconds", "best_epoch", "epochs"):
            values["seconds_per_epoch" if key == "seconds" else key] = getattr(self, key)
        for name in classes:
            values |= _spread(f"f1_{name}", self.f1_by_class.get(name))
            missed, images = self.called_normal.get(name, (None, None))
            values |= {f"{name}_called_normal": missed, f"{name}_images": images}
        return values | {"source": self.source, "split": self.split, "note": self.note}


def _spread(key: str, figure: Estimate | None) -> dict[str, float | None]:
    parts = (math.nan,) * 3 if figure is None else (figure.value, figure.low, figure.high)
    return {
        name: None if math.isnan(part) else part
        for name, part in zip((key, f"{key}_low", f"{key}_high"), parts, strict=True)
    }
