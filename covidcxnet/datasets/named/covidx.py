"""The Figure 1 and Actualmed collections, parts of COVIDx: a `metadata.csv` beside a folder `images`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

import covidcxnet.datasets.named.layout as layout
from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.named.facts import Facts
from covidcxnet.datasets.vocabulary import UNKNOWN

_LABELS = {"covid-19": "covid19", "pneumonia": "pneumonia", "no finding": "normal"}
_SETTLED = {
    "covid19": {"covid19": 1},
    "covid_negative": {"covid19": 0},
    "pneumonia": {"pneumonia": 1, "normal": 0},
    "normal": {"normal": 1, "pneumonia": 0},
}


def read_figure1(folder: str | Path, facts: Facts, *, unlabelled: str) -> Dataset:
    """Read the Figure 1 collection as `facts` describe it."""
    # the last letter counts the images of a patient
    return _read(folder, facts, "patientid", r"(?<=\d)[a-z]$", unlabelled, _LABELS)


def read_actualmed(folder: str | Path, facts: Facts, *, unlabelled: str) -> Dataset:
    """Read the Actualmed collection as `facts` describe it."""
    return _read(folder, facts, "imagename", "^$", unlabelled, _LABELS | {"no finding": "covid_negative"})


def _read(
    folder: str | Path, facts: Facts, name: str, suffix: str, unlabelled: str, labels: Mapping[str, str]
) -> Dataset:
    """A set whose column `name` names images, with or without ending; `suffix` is no part of a patient's id."""
    root = layout.root_of(folder, facts, lambda p: (p / "metadata.csv").is_file() and (p / "images").is_dir(), 1)
    given = layout.read_table(root / "metadata.csv", ("patientid", "finding", "view", name), facts)
    given = given[given[name] != ""].drop_duplicates(name).reset_index(drop=True)
    there = layout.by_name(layout.files(root / "images"))
    there |= {layout.stem(path): path for path in there.values()}
    paths = given[name].map(lambda n: there.get(n, n if n.lower().endswith(layout.IMAGES) else f"{n}.jpg"))
    label = given["finding"].str.lower().map(labels).fillna(UNKNOWN)
    table = pd.DataFrame({"path": "images/" + paths, "label": label})
    table["published_label"], table["patient"] = (
        given["finding"],
        given["patientid"].str.replace(suffix, "", regex=True).map(layout.text),
    )
    wanted = {"sex": layout.sex, "age": layout.years, "offset": layout.text}
    table = table.assign(**layout.columns_of(given, wanted))
    table["view"], table["position"] = given["view"].map(layout.view), given["view"].map(layout.position)
    return layout.finish(table, root, facts, _SETTLED, unlabelled=unlabelled)
