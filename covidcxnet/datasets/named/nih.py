"""NIH ChestX-ray14: findings mined from reports, several an image, with the official split by patient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.named import layout
from covidcxnet.datasets.named.facts import Facts
from covidcxnet.datasets.vocabulary import PREFIX, SEVERAL, single_label, table_of

NAMES = {
    "Atelectasis": "atelectasis",
    "Cardiomegaly": "cardiomegaly",
    "Effusion": "effusion",
    "Infiltration": "infiltration",
    "Mass": "mass",
    "Nodule": "nodule",
    "Pneumonia": "pneumonia",
    "Pneumothorax": "pneumothorax",
    "Consolidation": "consolidation",
    "Edema": "edema",
    "Emphysema": "emphysema",
    "Fibrosis": "fibrosis",
    "Pleural_Thickening": "pleural_thickening",
    "Hernia": "hernia",
    "No Finding": "normal",
}
"""Published finding to ours."""

SEVEN = ("normal", "infiltration", "effusion", "atelectasis", "nodule", "mass", "pneumothorax")
"""The seven most frequent labels, those of the seven-label experiment (Group-Q)."""

SEVEN_NORMALS = 7000

FACTS = Facts(
    name="nih",
    title="NIH ChestX-ray14",
    origin="NIH Clinical Center: frontal radiographs of 1992 to 2015.",
    licence="no restrictions; the provider asks for a link to its site, the citation below and an acknowledgement of "
    "the NIH Clinical Center.",
    access="download `images_001.tar.gz` to `images_012.tar.gz` and the lists from the NIH Box folder, or from Kaggle "
    "(`nih-chest-xrays/data`); unpack into one folder.",
    size="112,120 PNG images of 1024 x 1024 pixels of 30,805 patients, about 45 GB.",
    layout="`images/00000001_000.png` (Kaggle: `images_001/images/` to `images_012/images/`), "
    "`Data_Entry_2017_v2020.csv` (older: `Data_Entry_2017.csv`), `train_val_list.txt`, `test_list.txt`.",
    labels=dict.fromkeys((*NAMES.values(), SEVERAL), "mined"),
    meaning="`Finding Labels` (`Effusion|Mass`) fills `finding_effusion` and 13 others with 1 or 0; `No Finding` is "
    "`finding_normal`. The label is the only finding, `normal`, or `several`. labels=seven keeps images with at "
    "least one of infiltration, effusion, atelectasis, nodule, mass, pneumothorax, and 7,000 normals of as many "
    "patients: the subset of Group-Q's seven-label experiment (the paper gives counts and the rule, the names are "
    "the seven most frequent).",
    patients="`Patient ID`; up to 184 images of one.",
    problems=(
        "Labels were mined from reports; `Pneumonia` is the weakest. `No Finding` does not mean a healthy chest.",
        "Some ages are typing errors (above 120 years: taken for unknown), some patients are children.",
        "RSNA's images are among these.",
    ),
    citation="Wang et al., *ChestX-ray8*, CVPR (2017); acknowledge the NIH Clinical Center.",
    options={"labels": ("all", "seven")},
    pixels=(1024, 1024),
    unlisted=("images/LOG_CHESTXRAY.pdf",),
)


def load(folder: str | Path, *, labels: str = "all") -> Dataset:
    """Read the set; see `FACTS`. Images listed in the official lists get ``published_split`` train or test."""
    root = layout.root_of(folder, FACTS, lambda place: _entries(place).is_file(), 1)
    given = layout.read_table(_entries(root), ("image index", "finding labels", "patient id"), FACTS)
    given = given.drop_duplicates("image index").reset_index(drop=True)
    there = layout.by_name(layout.files(root))
    table = pd.DataFrame({"path": given["image index"].map(lambda n: there.get(n, f"images/{n}"))})
    table["published_label"], table["patient"] = given["finding labels"], given["patient id"].map(layout.text_or_none)
    wanted = {
        "patient age": layout.years,
        "patient gender": layout.sex,
        "patient sex": layout.sex,
        "view position": layout.view,
    }
    converted = layout.columns_of(given, wanted)
    short = {"patient age": "age", "patient gender": "sex", "patient sex": "sex", "view position": "view"}
    table = table.assign(**{short[name]: column for name, column in converted.items()})
    table["follow_up"] = given.get("follow-up #")
    table["published_split"] = given["image index"].map(_official(root))
    findings = [
        {ours: float(theirs in said) for theirs, ours in NAMES.items()}
        for said in (set(text.split("|")) for text in given["finding labels"])
    ]
    found = table_of(findings, NAMES.values())
    table = table.join(found)
    table["label"] = single_label(found)
    if labels == "seven":
        table = _seven(table)
    return layout.made(table, root, FACTS)


def _entries(place: Path) -> Path:
    new, old = place / "Data_Entry_2017_v2020.csv", place / "Data_Entry_2017.csv"
    return new if new.is_file() else old


def _official(root: Path) -> dict[str, str]:
    sides: dict[str, str] = {}
    for name, side in (("train_val_list.txt", "train"), ("test_list.txt", "test")):
        path = root / name
        if path.is_file():
            sides |= dict.fromkeys(path.read_text(encoding="utf-8", errors="replace").split(), side)
    return sides


def _seven(table: pd.DataFrame) -> pd.DataFrame:
    """Images with one of the six findings, and normals: one a patient, then 7,000 of them at random (seed 0)."""
    six = [PREFIX + name for name in SEVEN if name != "normal"]
    sick = table[six].eq(1).any(axis=1)
    normal = np.flatnonzero(table["label"].eq("normal").to_numpy())
    random = np.random.default_rng(0)
    normal = random.permutation(normal)
    normal = normal[~table["patient"].iloc[normal].duplicated().to_numpy()][:SEVEN_NORMALS]
    kept = table.iloc[np.sort(np.concatenate([np.flatnonzero(sick), normal]))].reset_index(drop=True)
    dropped = [PREFIX + name for name in NAMES.values() if name not in SEVEN]
    kept["label"] = single_label(kept[[*six, PREFIX + "normal"]])
    return kept.drop(columns=dropped)
