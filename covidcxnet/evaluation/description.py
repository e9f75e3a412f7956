"""What a report says of the model that was evaluated, and of the images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Model:
    """Which model was evaluated.

    Parameters
    ----------
    name : str
        Architecture.
    weights, sha256 : str
        File the weights came from, and its hash.
    parameters : int
        Number of weights; 0 where unknown.
    size : int
        Bytes of the file; 0 where unknown.
    training : dict
        What the weights file says about its training.
    """

    name: str
    weights: str
    sha256: str = ""
    parameters: int = 0
    size: int = 0
    training: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LeftOut:
    """Images of the data that were not evaluated because lists say that training saw them, or their patient.

    Parameters
    ----------
    lists : tuple of str
        The files that say so.
    images : int
        Left out because the image itself stands there as train or validation.
    of_patients : int
        Left out because another image of the patient does.
    patients : int
        Patients of both, where known.
    found : int
        Images of the whole data that the lists name at all, whatever their part.
    """

    lists: tuple[str, ...]
    images: int
    of_patients: int
    patients: int
    found: int


@dataclass(frozen=True)
class Data:
    """Which images were evaluated, and which were not.

    Parameters
    ----------
    name : str
        Data set.
    split : str
        Evaluated part: "test", "validation", "train" or "all" of a run, "other" for data that are not its own.
    split_by : str
        "patient", "image", "" where the images were not split here.
    phantom : bool
        Whether the images are computed and show no patient.
    parts : pd.DataFrame
        All images that the store holds: columns `part`, `label`; `patient`, `source` where known.
    rejected : pd.DataFrame
        Files left out: columns `path`, `reason`.
    lungs_sought : int
        Evaluated images in which lungs were looked for.
    region : str
        Region of interest of the input settings.
    overlap : int or None
        Evaluated images that the model was trained on; None where that is unknown, -1 where a split rules it out.
    where : dict
        Rows of the data that were used, column to value or values; empty for all.
    trained_sources : frozenset of str or None
        Sources of the images that were trained on; None where they are not known.
    counted : dict
        Labels that the model does not know, to the class that their images are counted as.
    left_out : LeftOut or None
        What was left out because training saw it; None where no list was given.
    """

    name: str
    split: str
    split_by: str
    phantom: bool
    parts: pd.DataFrame
    rejected: pd.DataFrame
    lungs_sought: int = 0
    region: str = "none"
    overlap: int | None = -1
    where: Mapping[str, Any] = field(default_factory=dict)
    trained_sources: frozenset[str] | None = None
    counted: Mapping[str, str] = field(default_factory=dict)
    left_out: LeftOut | None = None

    @property
    def unknown_patients(self) -> int:
        """Images of all parts whose patient is not known."""
        return int(self.parts["patient"].isna().sum()) if "patient" in self.parts else len(self.parts)
