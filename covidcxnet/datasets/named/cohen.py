"""Cohen's COVID-19 image data collection: frontal radiographs of published cases, by its `metadata.csv`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

import covidcxnet.datasets.named.layout as layout
from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.named.facts import Facts
from covidcxnet.datasets.vocabulary import UNKNOWN
from enhancement.errors import InputError

_KINDS = ("bacterial", "viral", "fungal")
_GERMS = {
    "viral": {"sars", "mers", "mers-cov", "varicella"},
    "bacterial": {"streptococcus", "klebsiella", "legionella", "e.coli"},
    "fungal": {"pneumocystis"},
}
_SETTLED: dict[str, dict[str, float]] = {
    "normal": {"normal": 1, "pneumonia": 0, "tuberculosis": 0},
    "covid19": {"covid19": 1, "normal": float("nan")},
    **{f"{kind}_pneumonia": {f"{kind}_pneumonia": 1, "normal": 0} for kind in _KINDS},
    "pneumonia": {"pneumonia": 1, "normal": 0},
    "tuberculosis": {"tuberculosis": 1, "normal": 0},
}


def read(folder: str | Path, facts: Facts, *, views: str, unlabelled: str) -> Dataset:
    """Read the collection as `facts` describe it; CT volumes are never taken.

    ``views="all"`` keeps lateral views and CT slices; view and modality tell which they are.
    """
    root = layout.root_of(folder, facts, lambda p: (p / "metadata.csv").is_file() and (p / "images").is_dir(), 1)
    given = layout.read_table(root / "metadata.csv", ("patientid", "finding", "view", "filename"), facts)
    places = given["folder"].where(given["folder"] != "", "images") if "folder" in given else "images"
    table = pd.DataFrame({"path": places + "/" + given["filename"], "label": given["finding"].map(_label)})
    table["published_label"] = given["finding"]
    table["patient"] = given["patientid"].map(layout.text)
    modality = given["modality"] if "modality" in given else given["view"].map(lambda v: "CT" if v == "CT" else "X-ray")
    table["modality"] = modality
    wanted = {"sex": layout.sex, "age": layout.years, "offset": layout.text, "license": layout.text}
    table = table.assign(**layout.columns_of(given, wanted))
    table["view"], table["position"] = given["view"].map(layout.view), given["view"].map(layout.position)
    raster = table["path"].str.lower().str.endswith(layout.IMAGES)
    keep = raster & (table["path"].str.rpartition("/")[2] != "")
    if views == "frontal":
        keep &= (table["modality"].str.lower() == "x-ray") & table["view"].isin(["PA", "AP"])
    # the same file stands in two rows now and then; the first counts
    table = table[keep].drop_duplicates("path")
    if not len(table):
        raise InputError(f"{root / 'metadata.csv'}: no frontal radiograph is listed")
    return layout.finish(table, root, facts, _SETTLED, unlabelled=unlabelled)


def _label(finding: str) -> str:
    finding = finding.lower()
    if "covid-19" in finding:
        return "covid19"
    if finding == "no finding":
        return "normal"
    parts = finding.replace(",", "/").split("/")
    for kind in _KINDS:
        if kind in parts:
            return f"{kind}_pneumonia"
    for kind, germs in _GERMS.items():
        if germs & set(parts):
            return f"{kind}_pneumonia"
    return next((known for known in ("tuberculosis", "pneumonia") if known in parts), UNKNOWN)
