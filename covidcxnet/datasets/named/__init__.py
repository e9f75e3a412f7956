"""Public sets by name: the folder as published and unpacked becomes a `Dataset`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.named import chest, covid, lungs
from covidcxnet.datasets.named.facts import facts_of
from enhancement.errors import InputError

_READERS: dict[str, Callable[..., Dataset]] = {
    "covidcxnet": covid.read_covidcxnet,
    "cohen": covid.read_cohen,
    "hannover": covid.read_hannover,
    # the last letter of an id counts the images of a patient
    "figure1": partial(covid.read_covidx, name="patientid", suffix=r"(?<=\d)[a-z]$"),
    # "no finding" says there that the virus was excluded, and nothing of the radiograph
    "actualmed": partial(covid.read_covidx, name="imagename", negative="covid_negative"),
    "radiography": covid.read_radiography,
    "kermany": chest.read_kermany,
    "nih": chest.read_nih,
    "rsna": chest.read_rsna,
    "chexpert": chest.read_chexpert,
    "shenzhen": partial(lungs.read_nlm, prefix="CHNCXR", masks_each=1),
    "montgomery": partial(lungs.read_nlm, prefix="MCUCXR", masks_each=2),  # left and right lung
    "jsrt": lungs.read_jsrt,
}
NAMES = tuple(_READERS)
"""The sets there are."""


def load_named(name: str, folder: str | Path, **options: str) -> Dataset:
    """Read a published set, one of `NAMES`, from its folder as published and unpacked; a folder around it will do.

    Options are those that its facts list. `InputError` for an unknown name, option or value, or a folder that does not
    hold the set.
    """
    facts = facts_of(name)
    for key, value in options.items():
        if key not in facts.options:
            raise InputError(f"{name}: no option {key!r}; there are: {', '.join(facts.options) or 'none'}")
        if value not in facts.options[key]:
            raise InputError(f"{name}: {key}={value!r} given, one of {', '.join(facts.options[key])} expected")
    defaults = {key: allowed[0] for key, allowed in facts.options.items()}
    return _READERS[name](folder, facts, **defaults | options)
