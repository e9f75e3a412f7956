"""The COVID-CXNet collection: COVID-19 radiographs from public web sources, with what their names say about them."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.named import layout
from covidcxnet.datasets.named.facts import Facts
from covidcxnet.datasets.vocabulary import UNKNOWN, known_from_labels

FACTS = Facts(
    name="covidcxnet",
    title="COVID-CXNet collection",
    origin="the repository `armiro/COVID-CXNet`: COVID-19 images from public web sources (Radiopaedia, SIRM, "
    "EuroRad, Figure 1, papers, social media).",
    licence="CC BY 4.0 (images), as its README states; the sources' own terms hold too.",
    access="clone or download the repository; give its folder.",
    size="about 900 images, one class.",
    layout="`chest_xray_images/covid19/` (`001.jpeg`, `364.jfif`, `280-.jpg`, `712p.png`) and `metadata.csv`.",
    labels={"covid19": "diagnosed"},
    meaning="all are COVID-19, except rows whose `pcr_test` is negative: these have no label. A name that ends in "
    "`-` seems to mark an image without visible abnormality (column `abnormality`), one that ends in `p` a child "
    "(column `population`).",
    patients="known for 452 rows of `metadata.csv` (numbers 260 and up, 279 patients); unknown below. Split with "
    "`split_by: patient_where_known`.",
    problems=(
        "Collected from papers and the web, so arrows, letters and panels are burnt in.",
        "Most of numbers 1 to 259 are Cohen's images, 510 to 673 and 686 to 706 Hannover's.",
        "No normals: the label is the source.",
    ),
    citation="Haghanifar, Molahasani Majdabadi, Ko, *COVID-CXNet: Detecting COVID-19 in frontal chest X-ray images "
    "using deep learning* (2020).",
    options={"unlabelled": ("drop", "keep")},
)

_NAME = re.compile(r"(\d+)(p?)(-?)(p?)")


def load(folder: str | Path, *, unlabelled: str = "drop") -> Dataset:
    """Read the collection; see `FACTS`."""
    root = layout.root_of(folder, FACTS, lambda place: (place / "chest_xray_images" / "covid19").is_dir())
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
        table = _described(table, root)
    table = table.drop(columns=["name", "number"]).join(known_from_labels(table["label"], {"covid19": {"covid19": 1}}))
    return layout.made(table, root, FACTS, unlabelled=unlabelled)


def _described(table: pd.DataFrame, root: Path) -> pd.DataFrame:
    given = layout.read_table(root / "metadata.csv", ("filename", "patient_id"), FACTS)
    # by number: marks and endings of the same image differ between the table and the folder
    given["number"] = given["filename"].map(lambda f: (m := _NAME.match(layout.stem(f))) and m[1])
    listed = given.drop_duplicates("number").set_index("number")
    unlisted = [n for n in listed.index if n and n not in set(table["number"])]
    lost = pd.DataFrame(
        {
            "path": "chest_xray_images/covid19/" + listed.loc[unlisted, "filename"],
            "label": "covid19",
            "number": unlisted,
        }
    )
    table = pd.concat([table, lost], ignore_index=True)
    rows = listed.reindex(table["number"]).reset_index(drop=True).fillna("")
    table["patient"] = rows["patient_id"].map(layout.text_or_none)
    wanted = {"sex": layout.sex, "age": layout.years, "view": layout.view, "location": layout.text_or_none}
    table = table.assign(**layout.columns_of(rows, wanted))
    if "pcr_test" in rows:
        table.loc[rows["pcr_test"].str.lower() == "negative", "label"] = UNKNOWN
    return table
