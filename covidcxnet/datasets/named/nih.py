"""NIH ChestX-ray14: findings mined from reports, several an image, with the official split by patient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

import covidcxnet.datasets.named.layout as layout
from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.named.facts import Facts
from covidcxnet.datasets.vocabulary import PREFIX, SEVERAL, finding_name, single_label

SEVEN = ("normal", "infiltration", "effusion", "atelectasis", "nodule", "mass", "pneumothorax")
"""The seven most frequent labels, those of the seven-label experiment (Group-Q)."""

SEVEN_NORMALS = 7000


def read(folder: str | Path, facts: Facts, *, labels: str) -> Dataset:
    """Read the set as `facts` describe it; images in the official lists get ``published_split`` train or test."""
    root = layout.root_of(folder, facts, lambda place: _entries(place).is_file(), 1)
    given = layout.read_table(_entries(root), ("image index", "finding labels", "patient id"), facts)
    given = given.drop_duplicates("image index").reset_index(drop=True)
    there = layout.by_name(layout.files(root))
    table = pd.DataFrame({"path": given["image index"].map(lambda n: there.get(n, f"images/{n}"))})
    table["published_label"], table["patient"] = given["finding labels"], given["patient id"].map(layout.text)
    # the lists of 2017 and of 2020 name the sex differently
    short = {"patient age": "age", "patient gender": "sex", "patient sex": "sex", "view position": "view"}
    wanted = {"age": layout.years, "sex": layout.sex, "view": layout.view}
    table = table.assign(**layout.columns_of(given.rename(columns=short), wanted))
    table["follow_up"] = given.get("follow-up #")
    sides: dict[str, str] = {}
    for file, side in ((root / "train_val_list.txt", "train"), (root / "test_list.txt", "test")):
        if file.is_file():
            sides |= dict.fromkeys(file.read_text(encoding="utf-8", errors="replace").split(), side)
    table["published_split"] = given["image index"].map(sides)
    names = [name for name in facts.labels if name != SEVERAL]
    listed = [{finding_name(part) for part in text.split("|")} for text in given["finding labels"]]
    findings = pd.DataFrame({PREFIX + name: [float(name in present) for present in listed] for name in names})
    table = table.join(findings)
    table["label"] = single_label(findings)
    if labels == "seven":
        table = _seven(table).drop(columns=[PREFIX + name for name in names if name not in SEVEN])
    return layout.finish(table, root, facts)


def _entries(place: Path) -> Path:
    new, old = place / "Data_Entry_2017_v2020.csv", place / "Data_Entry_2017.csv"
    return new if new.is_file() else old


def _seven(table: pd.DataFrame) -> pd.DataFrame:
    """Images with one of the six findings, and normals: one a patient, then 7,000 of them at random (seed 0)."""
    six = [PREFIX + name for name in SEVEN if name != "normal"]
    sick = table[six].eq(1).any(axis=1)
    normal = np.flatnonzero(table["label"].eq("normal").to_numpy())
    normal = np.random.default_rng(0).permutation(normal)
    normal = normal[~table["patient"].iloc[normal].duplicated().to_numpy()][:SEVEN_NORMALS]
    chosen = table.iloc[np.sort(np.concatenate([np.flatnonzero(sick), normal]))].reset_index(drop=True)
    return chosen.assign(label=single_label(chosen[[*six, PREFIX + "normal"]]))
