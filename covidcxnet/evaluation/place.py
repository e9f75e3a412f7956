"""A place: the images of one source, or of some, the figures that compare them, and how tables call it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from covidcxnet.evaluation.bootstrap import Estimate
from covidcxnet.evaluation.markup import count

INTERNAL, HELD_OUT, WITHIN = "internal", "held-out", "within"


@dataclass(frozen=True)
class Comparison:
    """How well one kind of image is ranked above another.

    Parameters
    ----------
    positive, negative : str
        What is compared, in words.
    score : str
        Probability that ranks: ``P(covid19)`` or ``1 - P(normal)``.
    positives, negatives : int
        Images.
    auroc : Estimate
        With its interval over patients.
    statistics : Estimate or None
        The same of simple statistics of the network's input; see `statistics_alone`. None where not measured.
    """

    positive: str
    negative: str
    score: str
    positives: int
    negatives: int
    auroc: Estimate
    statistics: Estimate | None = None


@dataclass(frozen=True)
class Place:
    """Figures of the images from some sources.

    Parameters
    ----------
    kind : {"internal", "held-out", "within"}
        Sources that training saw, sources that it never saw, or a single source.
    sources : tuple of str
        Which.
    seen : bool or None
        Whether training saw them; None where that is unknown.
    images, patients : int
        Counts.
    by_label : dict
        Label, as the data have it, to images.
    comparisons : tuple of Comparison
        The broadest first; empty where there is only one class.
    calibration : dict
        "calibration_error", "brier" and "calibration_slope" to `Estimate`; empty for a single source.
    """

    kind: str
    sources: tuple[str, ...]
    seen: bool | None
    images: int
    patients: int
    by_label: dict[str, int]
    comparisons: tuple[Comparison, ...]
    calibration: dict[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True)
class Gap:
    """How much better images of sources that training saw are ranked, of the classes that both kinds of source have.

    Parameters
    ----------
    positive, negative, score : str
        As in `Comparison`.
    auroc : Estimate
        Internal minus held out, with its interval over patients.
    """

    positive: str
    negative: str
    score: str
    auroc: Estimate


@dataclass(frozen=True)
class Places:
    """All places, internal first.

    Parameters
    ----------
    rows : tuple of Place
    gap : Gap or None
        None where the two have fewer than two classes in common.
    skipped : int
        Images that were trained on and are in none of these figures.
    """

    rows: tuple[Place, ...]
    gap: Gap | None
    skipped: int = 0


def places_to_dict(places: Places | None) -> dict[str, Any] | None:
    """Plain values for JSON."""
    if places is None:
        return None
    return {
        "rows": [place_to_dict(row) for row in places.rows],
        "gap_of_auroc": None if places.gap is None else _gap_to_dict(places.gap),
        "images_left_out_as_trained_on": places.skipped,
    }


def _gap_to_dict(gap: Gap) -> dict[str, Any]:
    return {**gap.auroc.to_dict(), "positive": gap.positive, "negative": gap.negative, "score": gap.score}


def place_to_dict(place: Place) -> dict[str, Any]:
    """Plain values for JSON."""
    comparisons = [
        {**vars(c), "auroc": c.auroc.to_dict(), "statistics": None if c.statistics is None else c.statistics.to_dict()}
        for c in place.comparisons
    ]
    calibration = {key: e.to_dict() for key, e in place.calibration.items()}
    return {**vars(place), "comparisons": comparisons, "calibration": calibration}


def place_name(place: Place) -> str:
    """How tables call it."""
    if place.kind == INTERNAL:
        return "Internal: sources that training saw"
    if place.kind == HELD_OUT:
        return "Held out: sources never seen"
    mark = seen_said(place)
    return f"Within {place.sources[0]}{', ' + mark if mark else ''}"


def seen_said(place: Place) -> str:
    """Whether training saw it, in words; empty where that is unknown."""
    return "" if place.seen is None else ("seen in training" if place.seen else "never seen")


def training_notes(skipped: int, known: bool) -> list[str]:
    """What a reader of places must know of the training; `known` is whether its sources are."""
    notes = [f"{count(skipped, 'image')} that training saw in none of these figures"] if skipped else []
    if not known:
        notes.append("the sources of the training are not known here; --seen with its list tells them")
    return notes


def labels_said(by_label: Mapping[str, int]) -> str:
    """``389 normal, 47 pneumonia``."""
    return ", ".join(f"{n:,} {label}" for label, n in by_label.items())


def defined(estimate: Estimate | None) -> bool:
    """Whether there is a figure at all."""
    return estimate is not None and not math.isnan(estimate.value)
