"""What the studies behind this project print about their own systems, as rows that were not measured here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from covidcxnet.evaluation.bootstrap import Estimate
from covidcxnet.experiments.compare_rows import Row
from enhancement.errors import InputError

STUDIES = ("covid-cxnet", "pneumonia", "radiography", "group-q")


def citation(name: str) -> str:
    """Authors, title and place of a study, and what holds for all of its rows."""
    study = _study(name)
    note = f" {_sentence(study['note'])}" if "note" in study else ""
    return f"{study['authors']}: {study['title']}. {study['where']}. Split: {study['split']}.{note}"


def published_rows(names: Sequence[str]) -> list[Row]:
    """Rows of the named studies, in the order of the papers.

    Parameters
    ----------
    names : sequence of str
        Of `STUDIES`.

    Raises
    ------
    InputError
        For a name that is not among them.
    """
    return [_row(name, _study(name), values) for name in dict.fromkeys(names) for values in _study(name)["rows"]]


def _row(name: str, study: dict[str, Any], values: dict[str, Any]) -> Row:
    by_class = {label: Estimate(float(value)) for label, value in values.get("f1_by_class", {}).items()}
    notes = [values.get("note", ""), f"computed here: {values['computed']}" if "computed" in values else ""]
    called = {label: (pair[0], pair[1] if len(pair) > 1 else None) for label, pair in _pairs(values)}
    low, high = values.get("accuracy_range", (math.nan, math.nan))
    return Row(
        name=f"{values['model']}, {values['group']}" if "group" in values else values["model"],
        model=values["model"],
        published=name,
        f1=_estimate(values.get("f1")),
        accuracy=Estimate(values["accuracy"], low, high) if "accuracy" in values else None,
        auroc=_estimate(values.get("auroc")),
        f1_by_class=by_class,
        called_normal=called,
        parameters=values.get("parameters"),
        flops=values.get("flops"),
        seconds=values.get("seconds_per_epoch"),
        best_epoch=values.get("best_epoch"),
        epochs=values.get("epochs"),
        source=values["source"],
        split=values.get("split", study["split"]),
        note="; ".join(note for note in notes if note),
    )


def _pairs(values: dict[str, Any]):
    return values.get("called_normal", {}).items()


def _estimate(value: float | None) -> Estimate | None:
    return None if value is None else Estimate(float(value))


def _study(name: str) -> dict[str, Any]:
    if name not in STUDIES:
        raise InputError(f"published: {name!r} given, one of {', '.join(STUDIES)} expected")
    import yaml

    return yaml.safe_load(files("covidcxnet.experiments").joinpath("published.yaml").read_text(encoding="utf-8"))[name]


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:].rstrip('.')}."
