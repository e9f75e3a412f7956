"""Kermany's pediatric pneumonia radiographs: normal, bacterial and viral, told by file name."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.named import layout
from covidcxnet.datasets.named.facts import Facts
from covidcxnet.datasets.vocabulary import UNKNOWN, known_from_labels

FACTS = Facts(
    name="kermany",
    title="Kermany pediatric pneumonia",
    origin='Mendeley Data `rscbjbr9sj` (also on Kaggle as "Chest X-Ray Images (Pneumonia)"): Guangzhou Women and '
    "Children's Medical Center.",
    licence="CC BY 4.0.",
    access="download from Mendeley (`ChestXRay2017.zip`) or Kaggle and unpack; give the folder `chest_xray` or the "
    "one above it.",
    size="5,856 images: 1,583 normal, 2,780 bacterial, 1,493 viral.",
    layout="`train`, `test` (and on Kaggle `val`), each with `NORMAL` (`IM-0115-0001.jpeg`, "
    "`NORMAL2-IM-1440-0001-0002.jpeg`) and `PNEUMONIA` (`person1_bacteria_2.jpeg`, `person1_virus_6.jpeg`); later "
    "editions say `NORMAL-1003233-0001.jpeg`, `BACTERIA-1008087-0001.jpeg`, `VIRUS-...`.",
    labels={
        "normal": "read",
        "bacterial_pneumonia": "diagnosed",
        "viral_pneumonia": "diagnosed",
        "pneumonia": "diagnosed",
    },
    meaning="folder and file name; labels=two joins both pneumonias.",
    patients="in the file names. `person1` of the bacterial and of the viral series are taken for two people.",
    problems=(
        "Children of one to five years: against adults a model learns age.",
        "The published validation folder has 16 images, and patients of it stand in training too: make your own "
        "split, or hold out `published_split: test`.",
        "Kaggle's archive holds everything twice (`chest_xray/chest_xray`): the inner copy is passed over.",
        "How an image was made tells its label: on 299 of them (copies of at most 512 pixels) a linear probe of size, "
        "grey levels, border and sharpness has a balanced accuracy of 0.92 (`datasets bias`), aspect ratio alone 0.81, "
        "and after lung crop and matched grey levels an AUROC of 0.92. A network's AUROC within this set says little "
        "below that.",
    ),
    citation="Kermany et al., Cell 172 (2018).",
    options={"labels": ("three", "two")},
    unlisted=("chest_xray/*",),
)

_SPLITS = {"train": "train", "val": "validation", "test": "test"}
_PATIENT = (
    re.compile(r"(person\d+)_(bacteria|virus)_\d+", re.I),
    re.compile(r"((?:NORMAL2-)?IM-\d+)-\d+", re.I),
    re.compile(r"(?:NORMAL|BACTERIA|VIRUS)-(\d+)-\d+", re.I),
)
_SETTLED = {
    "normal": {"normal": 1, "pneumonia": 0},
    "bacterial_pneumonia": {"bacterial_pneumonia": 1, "viral_pneumonia": 0, "normal": 0},
    "viral_pneumonia": {"viral_pneumonia": 1, "bacterial_pneumonia": 0, "normal": 0},
    "pneumonia": {"pneumonia": 1, "normal": 0},
}


def load(folder: str | Path, *, labels: str = "three") -> Dataset:
    """Read the set; see `FACTS`."""
    root = layout.root_of(folder, FACTS, lambda place: (place / "train").is_dir() and (place / "test").is_dir())
    rows = []
    for side, split in _SPLITS.items():
        for name in layout.files(root / side):
            place, kind, patient = name.split("/")[0].upper(), _kind(name), _patient(name)
            label = "normal" if place == "NORMAL" else f"{kind}_pneumonia" if kind else "pneumonia"
            if place not in ("NORMAL", "PNEUMONIA"):
                label = UNKNOWN
            rows.append({"path": f"{side}/{name}", "label": label, "patient": patient, "published_split": split})
    table = pd.DataFrame(rows, columns=["path", "label", "patient", "published_split"])
    table["population"] = "child"
    table = table.join(known_from_labels(table["label"], _SETTLED))
    if labels == "two":
        table["label"] = table["label"].replace({"bacterial_pneumonia": "pneumonia", "viral_pneumonia": "pneumonia"})
    return layout.made(table, root, FACTS)


def _kind(name: str) -> str | None:
    said = layout.stem(name).lower()
    return "bacterial" if "bacteria" in said else "viral" if "virus" in said else None


def _patient(name: str) -> str | None:
    for pattern in _PATIENT:
        match = pattern.match(layout.stem(name))
        if match:
            return "-".join(part.lower() for part in reversed(match.groups()))
    return None
