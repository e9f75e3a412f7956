"""COVID-19 collections: of papers and the web, of single hospitals, and one merged from others."""

from __future__ import annotations

import re
import sys
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
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
_MARKS = re.compile(r"(\d+)(p?)(-?)(p?)")
_OFFSETS = ("admission_offset", "icu_admission_offset", "icu_release_offset", "death_offset")
_LARGEST_PART = 50_000_000  # bytes of one unpacked part of a workbook; the real ones have under one million
_LISTED = (*layout.IMAGES, ".gz")  # endings of Cohen's table: pictures and CT volumes
_RADIOGRAPHY = {
    "covid": "covid19",
    "covid-19": "covid19",  # in the first edition
    "lung_opacity": "lung_opacity",
    "normal": "normal",
    "viral pneumonia": "viral_pneumonia",
}


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
        numbers = set(table["number"])
        unlisted = [n for n in listed.index if n and n not in numbers]
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
    """Cohen's collection of published cases; ``views="all"`` keeps lateral views and CT slices, never CT volumes."""
    root = layout.root_of(folder, facts, "metadata.csv", "images", depth=1)
    given = layout.read_table(root / "metadata.csv", ("patientid", "finding", "view", "filename"), facts)
    places = given["folder"].where(given["folder"] != "", "images") if "folder" in given else "images"
    # The table of April 2020 names some files without their ending.
    there = {layout.stem(path): path for path in layout.by_name(layout.files(root / "images"))}
    names = given["filename"].map(lambda name: name if name.lower().endswith(_LISTED) else there.get(name, name))
    table = pd.DataFrame({"path": places + "/" + names, "label": given["finding"].map(_cohens_label)})
    table["published_label"] = given["finding"]
    table["patient"] = given["patientid"].map(layout.text)
    modality = given["modality"] if "modality" in given else given["view"].map(lambda v: "CT" if v == "CT" else "X-ray")
    table["modality"] = modality
    table = table.assign(**layout.described(given, "sex", "age", "offset", "license", "view"))
    table["position"] = given["view"].map(layout.position)
    raster = table["path"].str.lower().str.endswith(layout.IMAGES)
    nameless = table.loc[~given["filename"].str.lower().str.endswith(_LISTED) & ~raster, "path"]
    if len(nameless):
        text = f"{len(nameless)} rows name no picture and are left out, the first {nameless.iloc[0]}"
        print(f"{facts.name}: {text}", file=sys.stderr)
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


def read_covidx(
    folder: str | Path, facts: Facts, *, unlabelled: str, name: str, suffix: str = "^$", negative: str = "normal"
) -> Dataset:
    """Figure 1 and Actualmed, parts of COVIDx: column `name` names images, `suffix` is no part of a patient's id."""
    labels = {"covid-19": "covid19", "pneumonia": "pneumonia", "no finding": negative}
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


def read_radiography(folder: str | Path, facts: Facts, *, blocks: str, normals: str) -> Dataset:
    """The COVID-19 Radiography Database of Qatar and Dhaka: four classes, each from other hospitals.

    With `normals` "3600" so many normal images at random (seed 0), as Group-Q undersampled them.
    """
    root = layout.root_of(folder, facts, holds=lambda place: len(_classes_in(place)) >= 3)
    rows = []
    for place, label in _classes_in(root).items():
        inner = f"{place}/images" if (root / place / "images").is_dir() else place
        masks = set(layout.files(root / place / "masks")) if (root / place / "masks").is_dir() else set()
        origins = _origins(root / f"{place}.metadata.xlsx")
        for name in layout.files(root / inner):
            if "/" in name:
                continue
            number = re.search(r"(\d+)\D*$", layout.stem(name))
            rows.append(
                {
                    "path": f"{inner}/{name}",
                    "label": label,
                    "published_label": place,
                    "mask": f"{place}/masks/{name}" if name in masks else None,
                    "patient": f"{label}-block{int(number[1]) // 20}" if number and blocks == "20" else None,
                    "origin": origins.get(_key(layout.stem(name))),
                }
            )
    table = pd.DataFrame(rows, columns=["path", "label", "published_label", "mask", "patient", "origin"])
    if normals != "all":
        normal = np.random.default_rng(0).permutation(np.flatnonzero(table["label"] == "normal"))
        table = table.drop(index=normal[int(normals) :].tolist())
    return layout.finish(table, root, facts)


def _classes_in(place: Path) -> dict[str, str]:
    """Class folder, as it is spelled here, to label."""
    folders = [child.name for child in sorted(place.iterdir()) if child.is_dir()]
    return {name: _RADIOGRAPHY[name.lower()] for name in folders if name.lower() in _RADIOGRAPHY}


def _origins(path: Path) -> dict[str, str]:
    """Image to the site that it was taken from."""
    rows = _workbook_rows(path) if path.is_file() else []
    header = [str(cell).strip().lower() for cell in rows[0]] if rows else []
    if "file name" not in header or "url" not in header:
        return {}
    name, url = header.index("file name"), header.index("url")
    sites = {}
    for row in rows[1:]:
        if len(row) > max(name, url) and row[name] and row[url]:
            site = re.sub(r"^(https?:)?/*(www\.)?", "", row[url].strip().lower())
            parts = site.split("/")
            # one host carries several of the sets
            sites[_key(row[name])] = "/".join(parts[:3]) if parts[0] in ("github.com", "kaggle.com") else parts[0]
    return sites


def _key(name: str) -> str:
    # "NORMAL-1" in the workbook, "Normal-1.png" on disk; "COVID (1)" in the first edition
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _workbook_rows(path: Path) -> list[list[str]]:
    """Cells of the first sheet of an .xlsx workbook, by the standard library: this set alone needs one."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            shared = _texts(archive, "xl/sharedStrings.xml") if "xl/sharedStrings.xml" in names else []
            sheets = sorted(name for name in names if re.fullmatch(r"xl/worksheets/sheet\d+\.xml", name))
            sheet = _part(archive, sheets[0])
    except (OSError, zipfile.BadZipFile, ElementTree.ParseError, IndexError) as error:
        raise InputError(f"{path}: not an .xlsx workbook, or damaged; download it again") from error
    return [_cells(row, shared) for row in sheet.iter() if _tag(row) == "row"]


def _cells(row, shared: list[str]) -> list[str]:
    cells: list[str] = []
    for cell in row:
        letters = re.match(r"[A-Z]+", cell.get("r", ""))
        place = len(cells)
        if letters:
            place = 0
            for letter in letters[0]:
                place = place * 26 + ord(letter) - 64
            place -= 1
        cells += [""] * (place - len(cells))
        text = "".join(part.text or "" for part in cell.iter() if _tag(part) in ("v", "t"))
        cells.append(shared[int(text)] if cell.get("t") == "s" and text.isdigit() and int(text) < len(shared) else text)
    return cells


def _texts(archive: zipfile.ZipFile, name: str) -> list[str]:
    root = _part(archive, name)
    return ["".join(t.text or "" for t in item.iter() if _tag(t) == "t") for item in root if _tag(item) == "si"]


def _part(archive: zipfile.ZipFile, name: str):
    if archive.getinfo(name).file_size > _LARGEST_PART:
        raise zipfile.BadZipFile(f"{name} is larger than {_LARGEST_PART:,} bytes")
    data = archive.read(name)
    if b"<!DOCTYPE" in data[:2000]:  # entities could grow without end
        raise zipfile.BadZipFile(f"{name} has a document type")
    return ElementTree.fromstring(data)


def _tag(element) -> str:
    return element.tag.rpartition("}")[2]
