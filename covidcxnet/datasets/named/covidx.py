"""What Figure 1 and Actualmed share: a `metadata.csv` of one make beside a folder `images`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.named import layout
from covidcxnet.datasets.named.facts import Facts
from covidcxnet.datasets.vocabulary import UNKNOWN, known_from_labels

_LABELS = {"covid-19": "covid19", "pneumonia": "pneumonia", "no finding": "normal"}
_SETTLED = {
    "covid19": {"covid19": 1},
    "covid_negative": {"covid19": 0},
    "pneumonia": {"pneumonia": 1, "normal": 0},
    "normal": {"normal": 1, "pneumonia": 0},
}


def load(
    folder: str | Path,
    facts: Facts,
    name: str,
    patient: Callable[[pd.DataFrame], pd.Series],
    unlabelled: str,
    labels: Mapping[str, str] | None = None,
) -> Dataset:
    """Read a set of this make.

    Parameters
    ----------
    name : str
        Column that names the image, with or without ending.
    patient : callable
        Patients from the table.
    labels : mapping, optional
        Published finding in lower case to label, where it differs.
    """
    root = layout.root_of(folder, facts, lambda p: (p / "metadata.csv").is_file() and (p / "images").is_dir(), 1)
    given = layout.read_table(root / "metadata.csv", ("patientid", "finding", "view", name), facts)
    given = given[given[name] != ""].drop_duplicates(name).reset_index(drop=True)
    there = layout.by_name(layout.files(root / "images"))
    there |= {layout.stem(path): path for path in there.values()}
    paths = given[name].map(lambda n: there.get(n, n if n.lower().endswith(layout.IMAGES) else f"{n}.jpg"))
    known = _LABELS | dict(labels or {})
    table = pd.DataFrame({"path": "images/" + paths, "label": given["finding"].str.lower().map(known).fillna(UNKNOWN)})
    table["published_label"], table["patient"] = given["finding"], patient(given)
    wanted = {"sex": layout.sex, "age": layout.years, "offset": layout.text_or_none}
    table = table.assign(**layout.columns_of(given, wanted))
    table["view"], table["position"] = given["view"].map(layout.view), given["view"].map(layout.position)
    table = table.join(known_from_labels(table["label"], _SETTLED))
    return layout.made(table, root, facts, unlabelled=unlabelled)
