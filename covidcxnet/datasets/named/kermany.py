"""Kermany's pediatric pneumonia radiographs: normal, bacterial and viral, as file names say."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

import covidcxnet.datasets.named.layout as layout
from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.named.facts import Facts
from covidcxnet.datasets.vocabulary import UNKNOWN, known_from_labels

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


def read(folder: str | Path, facts: Facts, *, labels: str) -> Dataset:
    """Read the set as `facts` describe it."""
    root = layout.root_of(folder, facts, lambda place: (place / "train").is_dir() and (place / "test").is_dir())
    rows = []
    for side, split in _SPLITS.items():
        for name in layout.files(root / side):
            place, stem, patient = name.split("/")[0].upper(), layout.stem(name).lower(), _patient(name)
            kind = "bacterial" if "bacteria" in stem else "viral" if "virus" in stem else None
            label = "normal" if place == "NORMAL" else f"{kind}_pneumonia" if kind else "pneumonia"
            if place not in ("NORMAL", "PNEUMONIA"):
                label = UNKNOWN
            rows.append({"path": f"{side}/{name}", "label": label, "patient": patient, "published_split": split})
    table = pd.DataFrame(rows, columns=["path", "label", "patient", "published_split"])
    table["population"] = "child"
    table = table.join(known_from_labels(table["label"], _SETTLED))
    if labels == "two":
        table["label"] = table["label"].replace({"bacterial_pneumonia": "pneumonia", "viral_pneumonia": "pneumonia"})
    return layout.finish(table, root, facts)


def _patient(name: str) -> str | None:
    for pattern in _PATIENT:
        match = pattern.match(layout.stem(name))
        if match:
            return "-".join(part.lower() for part in reversed(match.groups()))
    return None
