"""COVID-19 collections of papers and single hospitals, each a table beside a folder of images."""

from __future__ import annotations

import re
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
_COVIDX = {"covid-19": "covid19", "pneumonia": "pneumonia", "no finding": "normal"}
_MARKS = re.compile(r"(\d+)(p?)(-?)(p?)")
_OFFSETS = ("admission_offset", "icu_admission_offset", "icu_release_offset", "death_offset")


def read_covidcxnet(folder: str | Path, facts: Facts, *, unlabelled: str) -> Dataset:
    """The COVID-CXNet collection, with what its files' names say about them."""
    root = layout.root_of(folder, facts, "chest_xray_images/covid19")
    paths = [f"chest_xray_images/covid19/{path}" for path in layout.files(root / "chest_xray_images" / "covid19")]
    names = [layout.stem(path) for path in paths]
    marks = [_MARKS.fullmatch(name) for name in names]
    table = pd.DataFrame({"path": paths})
    table["number"] = [m[1] if m else name for m, name in zip(marks, names, strict=True)]
    table["population"] = ["child" if m and (m[2] or m[4]) else None for m in marks]
    table["abnormality"] = ["none" if m and m[3] else None for m in marks]
    table["label"] = "covid19"
    if (root / "metadata.csv").is_file():
        given = layout.read_table(root / "metadata.csv", ("filename", "patient_id"), facts)
        # by number: marks and endings of the same image differ between the table and the folder
        given["number"] = given["filename"].map(lambda f: (m := _MARKS.match(layout.stem(f))) and m[1])
        listed = given.drop_duplicates("number").set_index("number")
        unlisted = [n for n in listed.index if n and n not in set(table["number"])]
        missing = "chest_xray_images/covid19/" + listed.loc[unlisted, "filename"]
        absent = pd.DataFrame({"path": missing, "label": "covid19", "number": unlisted})
        table = pd.concat([table, absent], ignore_index=True)
        rows = listed.reindex(table["number"]).reset_index(drop=True).fillna("")
        table["patient"] = rows["patient_id"].map(layout.text)
        table = table.assign(**layout.described(rows, "sex", "age", "view", "location"))
        if "pcr_test" in rows:
            table.loc[rows["pcr_test"].str.lower() == "negative", "label"] = UNKNOWN
    return layout.finish(table.drop(columns="number"), root, facts, unlabelled=unlabelled)


def read_cohen(folder: str | Path, facts: Facts, *, views: str, unlabelled: str) -> Dataset:
    """Cohen's collection of published cases; CT volumes are never taken.

    ``views="all"`` keeps lateral views and CT slices; view and modality tell which they are.
    """
    root = layout.root_of(folder, facts, "metadata.csv", "images", depth=1)
    given = layout.read_table(root / "metadata.csv", ("patientid", "finding", "view", "filename"), facts)
    places = given["folder"].where(given["folder"] != "", "images") if "folder" in given else "images"
    table = pd.DataFrame({"path": places + "/" + given["filename"], "label": given["finding"].map(_cohens_label)})
    table["published_label"] = given["finding"]
    table["patient"] = given["patientid"].map(layout.text)
    modality = given["modality"] if "modality" in given else given["view"].map(lambda v: "CT" if v == "CT" else "X-ray")
    table["modality"] = modality
    table = table.assign(**layout.described(given, "sex", "age", "offset", "license", "view"))
    table["position"] = given["view"].map(layout.position)
    raster = table["path"].str.lower().str.endswith(layout.IMAGES)
    keep = raster & (table["path"].str.rpartition("/")[2] != "")
    if views == "frontal":
        keep &= (table["modality"].str.lower() == "x-ray") & table["view"].isin(["PA", "AP"])
    # the same file stands in two rows now and then; the first counts
    table = table[keep].drop_duplicates("path")
    if not len(table):
        raise InputError(f"{root / 'metadata.csv'}: no frontal radiograph is listed")
    return layout.finish(table, root, facts, unlabelled=unlabelled)


def _cohens_label(finding: str) -> str:
    finding = finding.lower()
    if "covid-19" in finding:
        return "covid19"
    if finding == "no finding":
        return "normal"
    parts = set(finding.replace(",", "/").split("/"))
    # the kind where it is named, else that of the germ
    kinds = (*(kind for kind in _KINDS if kind in parts), *(kind for kind, germs in _GERMS.items() if germs & parts))
    if kinds:
        return f"{kinds[0]}_pneumonia"
    return next((known for known in ("tuberculosis", "pneumonia") if known in parts), UNKNOWN)


def read_hannover(folder: str | Path, facts: Facts) -> Dataset:
    """The repository of Hannover Medical School: one hospital, one class, patients over time."""
    root = layout.root_of(folder, facts, "data.csv", "png", depth=1)
    given = layout.read_table(root / "data.csv", ("patient_id", "image_id", "projection"), facts)
    given = given[given["image_id"] != ""].drop_duplicates("image_id").reset_index(drop=True)
    table = pd.DataFrame({"path": "png/" + given["image_id"] + ".png", "label": "covid19"})
    table["patient"] = given["patient_id"].map(layout.text)
    views = given.rename(columns={"projection": "view"})
    table = table.assign(**layout.described(views, "view", "sex", "age", "modality"))
    offsets = [name for name in _OFFSETS if name in given]
    table[offsets] = given[offsets].apply(pd.to_numeric, errors="coerce")
    return layout.finish(table, root, facts)


def read_figure1(folder: str | Path, facts: Facts, *, unlabelled: str) -> Dataset:
    """The Figure 1 collection, part of COVIDx."""
    # the last letter counts the images of a patient
    return _read_covidx(folder, facts, "patientid", r"(?<=\d)[a-z]$", unlabelled, _COVIDX)


def read_actualmed(folder: str | Path, facts: Facts, *, unlabelled: str) -> Dataset:
    """The Actualmed collection, part of COVIDx."""
    return _read_covidx(folder, facts, "imagename", "^$", unlabelled, _COVIDX | {"no finding": "covid_negative"})


def _read_covidx(folder, facts: Facts, name: str, suffix: str, unlabelled: str, labels: dict[str, str]) -> Dataset:
    """A set whose column `name` names images, with or without ending; `suffix` is no part of a patient's id."""
    root = layout.root_of(folder, facts, "metadata.csv", "images", depth=1)
    given = layout.read_table(root / "metadata.csv", ("patientid", "finding", "view", name), facts)
    given = given[given[name] != ""].drop_duplicates(name).reset_index(drop=True)
    there = layout.by_name(layout.files(root / "images"))
    there |= {layout.stem(path): path for path in there.values()}
    paths = given[name].map(lambda n: there.get(n, n if n.lower().endswith(layout.IMAGES) else f"{n}.jpg"))
    label = given["finding"].str.lower().map(labels).fillna(UNKNOWN)
    table = pd.DataFrame({"path": "images/" + paths, "label": label, "published_label": given["finding"]})
    table["patient"] = given["patientid"].str.replace(suffix, "", regex=True).map(layout.text)
    table = table.assign(**layout.described(given, "sex", "age", "offset", "view"))
    table["position"] = given["view"].map(layout.position)
    return layout.finish(table, root, facts, unlabelled=unlabelled)
