"""What a recipe says about itself: which experiment of which paper it is, what of it is reproduced and what is not."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from enhancement.errors import InputError

STUDIES = {
    "covid-cxnet": "Haghanifar, Molahasani Majdabadi and Ko, COVID-CXNet: detecting COVID-19 in frontal chest X-ray "
    "images using deep learning (2020; preprint of 2022)",
    "pneumonia": "Nam, Pneumonia detection in chest X-ray images using deep convolutional neural network, Ryerson "
    "University (2022)",
    "radiography": "Yang, Wang and Park, Detection of lung diseases through image classification, University of "
    "Wisconsin (2021)",
    "group-q": "Group-Q, Lung disease classification, Applied AI final report, COMP 6721 (2022)",
}
"""The papers whose experiments are recipes, by the name that `about.study` gives."""


@dataclass(frozen=True)
class About:
    """The key `about` of a recipe file; none of it changes a training.

    Parameters
    ----------
    study : str
        A name of `STUDIES`, or empty for a recipe of nobody's paper.
    place : str
        Where in the paper the experiment stands: sections, tables, figures.
    data : str
        What to give as ``--data`` to train on the paper's own data set.
    published : dict
        Figures that the paper prints, name to number; shares stand between 0 and 1.
    reproduced, not_reproduced : tuple of str
        What of the paper's experiment the recipe holds, and what it cannot.
    chosen : tuple of str
        Settings that the paper leaves out, and what stands here instead.
    notes : tuple of str
        How to go on: sweeps, variants, official test sets.

    Raises
    ------
    InputError
        If a value is of the wrong kind; the message names the key.
    """

    study: str = ""
    place: str = ""
    data: str = ""
    published: dict[str, float] = field(default_factory=dict)
    reproduced: tuple[str, ...] = ()
    not_reproduced: tuple[str, ...] = ()
    chosen: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        for name in ("study", "place", "data"):
            _require(isinstance(getattr(self, name), str), name, getattr(self, name), "one line of text")
        for name in LISTS:
            value = getattr(self, name)
            ok = isinstance(value, list | tuple) and all(isinstance(line, str) for line in value)
            _require(ok, name, value, "a list of sentences")
            object.__setattr__(self, name, tuple(value))
        ok = isinstance(self.published, Mapping) and all(
            isinstance(key, str) and isinstance(number, int | float) for key, number in self.published.items()
        )
        _require(ok, "published", self.published, "names of figures and numbers")

    @property
    def title(self) -> str:
        """The paper in full."""
        return STUDIES.get(self.study, self.study)

    @classmethod
    def from_dict(cls, values: Any, where: str = "recipe") -> About:
        """From the plain values of a file; unknown keys are refused."""
        if not isinstance(values, Mapping):
            raise InputError(f"{where}: about: {values!r} given, keys and values expected: {', '.join(KEYS)}")
        for key in values:
            if key not in KEYS:
                raise InputError(f"{where}: unknown key about.{key}; there are {', '.join(KEYS)}")
        try:
            return cls(**values)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error


KEYS = tuple(f.name for f in dataclasses.fields(About))
LISTS = ("reproduced", "not_reproduced", "chosen", "notes")


def _require(condition, key: str, value, allowed: str) -> None:
    if not condition:
        raise InputError(f"about.{key}: {value!r} given, {allowed} expected")
