"""The COVID-CXNet collection: COVID-19 radiographs from public web sources, with what their names say about them."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

import covidcxnet.datasets.named.layout as layout
from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.named.facts import Facts
from covidcxnet.datasets.vocabulary import UNKNOWN

_NAME = re.compile(r"(\d+)(p?)(-?)(p?)")


def read(folder: str | Path, facts: Facts, *, unlabelled: str) -> Dataset:
    """Read the collection as `facts` describe it."""
    root = layout.root_of(folder, facts, lambda place: (place / "chest_xray_images" / "covid19").is_dir())
    paths = list(layout.files(root / "chest_xray_images" / "covid19"))
    table = pd.DataFrame(
        {"path": [f"chest_xray_images/covid19/{p}" for p in paths], "name": [layout.stem(p) for p in paths]}
    )
    marks = [_NAME.fullmatch(name) for name in table["name"]]
    table["number"] = [m[1] if m else name for m, name in zip(marks, table["name"], strict=True)]
    table["population"] = ["child" if m and (m[2] or m[4]) else None for m in marks]
    table["abnormality"] = ["none" if m and m[3] else None for m in marks]
    table["label"] = "covid19"
    if (root / "metadata.csv").is_file():
        table = _described(table, root, facts)
    table = table.drop(columns=["name", "number"])
    return layout.finish(table, root, facts, {"covid19": {"covid19": 1}}, unlabelled=unlabelled)


def _described(table: pd.DataFrame, root: Path, facts: Facts) -> pd.DataFrame:
    given = layout.read_table(root / "metadata.csv", ("filename", "patient_id"), facts)
    # by number: marks and endings of the same image differ between the table and the folder
    given["number"] = given["filename"].map(lambda f: (m := _NAME.match(layout.stem(f))) and m[1])
    listed = given.drop_duplicates("number").set_index("number")
    unlisted = [n for n in listed.index if n and n not in set(table["number"])]
    paths = "chest_xray_images/covid19/" + listed.loc[unlisted, "filename"]
    lost = pd.DataFrame({"path": paths, "label": "covid19", "number": unlisted})
    table = pd.concat([table, lost], ignore_index=True)
    rows = listed.reindex(table["number"]).reset_index(drop=True).fillna("")
    table["patient"] = rows["patient_id"].map(layout.text)
    wanted = {"sex": layout.sex, "age": layout.years, "view": layout.view, "location": layout.text}
    table = table.assign(**layout.columns_of(rows, wanted))
    if "pcr_test" in rows:
        table.loc[rows["pcr_test"].str.lower() == "negative", "label"] = UNKNOWN
    return table
