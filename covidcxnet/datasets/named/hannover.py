"""The COVID-19 image repository of Hannover Medical School: one hospital, one class, patients over time."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

import covidcxnet.datasets.named.layout as layout
from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.named.facts import Facts

_OFFSETS = ("admission_offset", "icu_admission_offset", "icu_release_offset", "death_offset")


def read(folder: str | Path, facts: Facts) -> Dataset:
    """Read the repository as `facts` describe it."""
    root = layout.root_of(folder, facts, lambda place: (place / "data.csv").is_file() and (place / "png").is_dir(), 1)
    given = layout.read_table(root / "data.csv", ("patient_id", "image_id", "projection"), facts)
    given = given[given["image_id"] != ""].drop_duplicates("image_id").reset_index(drop=True)
    table = pd.DataFrame({"path": "png/" + given["image_id"] + ".png", "label": "covid19"})
    table["patient"] = given["patient_id"].map(layout.text)
    wanted = {"sex": layout.sex, "age": layout.years, "modality": layout.text}
    table = table.assign(view=given["projection"].map(layout.view), **layout.columns_of(given, wanted))
    offsets = [name for name in _OFFSETS if name in given]
    table[offsets] = given[offsets].apply(pd.to_numeric, errors="coerce")
    return layout.finish(table, root, facts, {"covid19": {"covid19": 1}})
