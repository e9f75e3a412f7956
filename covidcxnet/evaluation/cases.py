"""Which images a report shows with their explanations: right and wrong ones of each class, by a stated rule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from covidcxnet.evaluation.predictions import Predictions

RULE = (
    "For each class: the most confident right call, a typical right call (of median confidence), and the most "
    "confident wrong calls; no patient twice within a class. Nothing was picked by eye."
)


@dataclass(frozen=True)
class Pick:
    """An image to show: its row in the predictions, and why it was picked."""

    row: int
    why: str
    correct: bool


@dataclass(frozen=True)
class Case:
    """An image with its pictures as data URIs; a picture that was not made is empty.

    Parameters
    ----------
    path, label, predicted, why : str
        The image, its true and called class, and why it was picked.
    probabilities : dict
        Class to probability.
    correct : bool
        Whether the call was right.
    lungs : str
        Why its lung mask was not trusted; empty where it was, or none was sought.
    outlined : bool
        Whether the outline of the lungs is drawn.
    fit : str
        How well LIME's local model fits, in words.
    labelled : str
        What the data call it, where that is counted as `label`.
    heat : str
        What a reader of its Grad-CAM map must know, in words.
    radiograph, gradcam, lime : str
        Data URIs.
    """

    path: str
    label: str
    predicted: str
    why: str
    probabilities: dict[str, float]
    correct: bool
    lungs: str = ""
    outlined: bool = False
    fit: str = ""
    labelled: str = ""
    heat: str = ""
    radiograph: str = ""
    gradcam: str = ""
    lime: str = ""


def choose(predictions: Predictions, wrong: int = 2) -> list[Pick]:
    """Images to show, class by class, right calls before wrong ones; see `RULE`.

    Parameters
    ----------
    predictions : Predictions
        All evaluated images.
    wrong : int
        Wrong calls for each class; right calls are two.
    """
    targets, predicted = predictions.targets, predictions.predicted
    confidence = predictions.probabilities[np.arange(len(predictions)), predicted]
    patients = predictions.column("patient")
    names = None if patients is None else patients.fillna("").astype(str).to_numpy()
    picks: list[Pick] = []
    for c in range(len(predictions.classes)):
        seen: set[str] = set()
        right = _by_confidence(confidence, (targets == c) & (predicted == c))
        middle = right[len(right) // 2 :]
        for candidates, why in ((right, "most confident right call"), (middle, "typical right call")):
            picks += [Pick(row, why, True) for row in _new(candidates, names, seen, 1, picks)]
        mistakes = _by_confidence(confidence, (targets == c) & (predicted != c))
        for k, row in enumerate(_new(mistakes, names, seen, wrong, picks)):
            picks.append(Pick(row, "most confident wrong call" if k == 0 else "confident wrong call", False))
    return picks


def _by_confidence(confidence: np.ndarray, members: np.ndarray) -> list[int]:
    rows = np.flatnonzero(members)
    return [int(r) for r in rows[np.argsort(-confidence[rows], kind="stable")]]


def _new(rows: list[int], names, seen: set[str], number: int, picks: list[Pick]) -> list[int]:
    """The first `number` rows of patients not in `seen`, which they are added to."""
    taken = {p.row for p in picks}
    chosen: list[int] = []
    for row in rows:
        patient = names[row] if names is not None else ""
        if len(chosen) == number or row in taken or (patient and patient in seen):
            continue
        chosen.append(row)
        seen.add(patient)
    return chosen
