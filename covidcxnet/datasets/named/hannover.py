"""The COVID-19 image repository of Hannover Medical School: one hospital, one class, patients over time."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.named import layout
from covidcxnet.datasets.named.facts import Facts
from covidcxnet.datasets.vocabulary import known_from_labels

FACTS = Facts(
    name="hannover",
    title="Hannover, COVID-19 image repository",
    origin="the repository `ml-workgroup/covid-19-image-repository`: Institute for Diagnostic and Interventional "
    "Radiology, Hannover Medical School.",
    licence="CC BY 3.0.",
    access="clone or download the repository; give its folder.",
    size="about 240 images of 71 patients, one class.",
    layout="`png/b343e657.png` and `data.csv`.",
    labels={"covid19": "diagnosed"},
    meaning="all are patients with COVID-19; laboratory values, intensive care and death stand in `data.csv` (kept as "
    "`icu_admission_offset`, `icu_release_offset`, `death_offset`, in days).",
    patients="`patient_id`, up to 20 images and more of one.",
    problems=("One hospital, mostly intensive care, mostly AP: no comparison with normals is possible within it.",),
    citation="Winther et al., *COVID-19 image repository*, figshare (2020), doi 10.6084/m9.figshare.12275009.",
    unlisted=("nii/*",),
)

_KEPT = ("admission_offset", "icu_admission_offset", "icu_release_offset", "death_offset")


def load(folder: str | Path) -> Dataset:
    """Read the repository; see `FACTS`."""
    root = layout.root_of(folder, FACTS, lambda place: (place / "data.csv").is_file() and (place / "png").is_dir(), 1)
    given = layout.read_table(root / "data.csv", ("patient_id", "image_id", "projection"), FACTS)
    given = given[given["image_id"] != ""].drop_duplicates("image_id").reset_index(drop=True)
    table = pd.DataFrame({"path": "png/" + given["image_id"] + ".png", "label": "covid19"})
    table["patient"] = given["patient_id"].map(layout.text_or_none)
    wanted = {"sex": layout.sex, "age": layout.years, "modality": layout.text_or_none}
    table = table.assign(view=given["projection"].map(layout.view), **layout.columns_of(given, wanted))
    table = table.assign(**layout.columns_of(given, dict.fromkeys(_KEPT, lambda v: pd.to_numeric(v, errors="coerce"))))
    return layout.made(table.join(known_from_labels(table["label"], {"covid19": {"covid19": 1}})), root, FACTS)
