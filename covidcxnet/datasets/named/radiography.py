"""The COVID-19 Radiography Database (Qatar and Dhaka universities): four classes, each from other hospitals."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.named import layout, workbook
from covidcxnet.datasets.named.facts import Facts
from covidcxnet.datasets.vocabulary import known_from_labels

FACTS = Facts(
    name="radiography",
    title="COVID-19 Radiography Database",
    origin="Kaggle, `tawsifurrahman/covid19-radiography-database` (Qatar University, University of Dhaka). COVID-19 "
    "from BIMCV/PadChest (2,473), Hannover, SIRM, Cohen and others; normal from RSNA (8,851) and Kermany (1,341); "
    "lung opacity from RSNA; viral pneumonia from Kermany.",
    licence="see its page; the sources' own terms hold.",
    access="download from Kaggle and unpack; give the folder `COVID-19_Radiography_Dataset` or the one above it.",
    size="21,165 images of 299 x 299 pixels: 10,192 normal, 6,012 lung opacity, 3,616 COVID-19, 1,345 viral "
    "pneumonia; a lung mask each.",
    layout="`COVID`, `Lung_Opacity`, `Normal`, `Viral Pneumonia`, each with `images/COVID-1.png` and "
    "`masks/COVID-1.png`, and `COVID.metadata.xlsx` and so on (the first editions have the images in the class "
    "folder, and no masks).",
    labels={"normal": "read", "covid19": "diagnosed", "lung_opacity": "boxed", "viral_pneumonia": "diagnosed"},
    meaning="the folders. Column `origin` names the site of the image's URL, from the workbooks.",
    patients="unknown. Several images of one BIMCV patient stand near each other: blocks=20 takes 20 consecutive "
    "numbers for one group, a guess that keeps most of them together.",
    problems=(
        "Each class is from other hospitals: the source gives the label away.",
        "Children in normal (below about number 1,350) and viral pneumonia, adults elsewhere.",
        "The aspect ratio was lost.",
        "The masks were made by a network, not by hand, and measure 256 x 256 pixels.",
        "Contains images of Cohen, Hannover, COVID-CXNet, RSNA and Kermany.",
    ),
    citation="Chowdhury et al., IEEE Access 8 (2020); Rahman et al., Computers in Biology and Medicine 132 (2021).",
    options={"blocks": ("none", "20")},
    pixels=(299, 299),
)

_CLASSES = {
    "covid": ("covid19", {"covid19": 1}),
    "lung_opacity": ("lung_opacity", {"lung_opacity": 1, "normal": 0}),
    "normal": ("normal", {"normal": 1, "lung_opacity": 0, "pneumonia": 0}),
    "viral pneumonia": ("viral_pneumonia", {"viral_pneumonia": 1, "bacterial_pneumonia": 0, "normal": 0}),
}


def load(folder: str | Path, *, blocks: str = "none") -> Dataset:
    """Read the database; see `FACTS`."""
    root = layout.root_of(folder, FACTS, lambda place: len(_classes_in(place)) >= 3)
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
    return layout.made(table.join(known_from_labels(table["label"], dict(_CLASSES.values()))), root, FACTS)


def _classes_in(place: Path) -> dict[str, str]:
    """Class folder, as it is spelled here, to label."""
    return {
        d.name: _CLASSES[d.name.lower()][0]
        for d in sorted(place.iterdir())
        if d.is_dir() and d.name.lower() in _CLASSES
    }


def _origins(path: Path) -> dict[str, str]:
    """Image to the site that it was taken from."""
    rows = workbook.rows(path) if path.is_file() else []
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
