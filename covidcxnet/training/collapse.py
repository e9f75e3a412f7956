"""A model that finds nothing of a class, or says the same of every image: seen, and said with what can still help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .recipe import Recipe


def collapsed(figures: Mapping[str, float]) -> list[str]:
    """Labels whose F1 is zero: not one image of theirs is found, which a mean over classes or an AUROC can hide."""
    prefix = "val_f1_"
    return [name.removeprefix(prefix) for name, value in figures.items() if name.startswith(prefix) and value == 0]


def collapse_message(labels: Sequence[str], recipe: Recipe) -> str:
    """What `collapsed` found, and what helps that the recipe does not do already."""
    helps = []
    if not _solved(recipe):
        helps.append("another learning_rate (covidcxnet find-lr)")
    if recipe.class_weights == "none":
        helps.append("class_weights balanced")
    if not (recipe.multilabel or _solved(recipe)) and recipe.sampling == "none":
        helps.append("sampling oversample")
    if not _solved(recipe) and recipe.monitor != "val_f1":
        helps.append("monitor val_f1")
    found = f"not one validation image of {', '.join(labels)} is found (F1 0 at a threshold of 0.5"
    found += "; the weights come with thresholds of their own)" if recipe.multilabel else ")"
    return f"{found}; try {_either(helps or ['more images'])}"


def all_equal(probabilities: np.ndarray) -> bool:
    """Whether the model says the same of every image, ``float array [N, n]``: its AUROC is 0.5 whatever the truth."""
    return len(probabilities) > 1 and bool((probabilities == probabilities[:1]).all())


def equal_message(recipe: Recipe) -> str:
    """What `all_equal` means, and what helps.

    A ReLU that is 0 for every image has no gradient and stays so; after one large step all of a small layer can be,
    and what is left of the network is the bias of its output.
    """
    if _solved(recipe):
        return "all predictions are equal: no pixel counts; a larger options.C helps"
    warmer = "a longer warmup" if recipe.schedule == "cosine" else "schedule cosine with a warmup"
    return f"all predictions are equal: the head's units died; lower learning_rate or {warmer}, and train anew"


def _solved(recipe: Recipe) -> bool:
    from covidcxnet.models import logistic

    return recipe.model == logistic.NAME


def _either(words: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))
