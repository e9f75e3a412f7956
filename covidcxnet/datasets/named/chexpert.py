"""CheXpert: fourteen observations mined from reports, each certain, uncertain, denied or not mentioned."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.named import layout
from covidcxnet.datasets.named.facts import Facts
from covidcxnet.datasets.vocabulary import PREFIX, SEVERAL, UNKNOWN, single_label

NAMES = {
    "no finding": "normal",
    "enlarged cardiomediastinum": "enlarged_cardiomediastinum",
    "cardiomegaly": "cardiomegaly",
    "lung opacity": "lung_opacity",
    "lung lesion": "lung_lesion",
    "edema": "edema",
    "consolidation": "consolidation",
    "pneumonia": "pneumonia",
    "atelectasis": "atelectasis",
    "pneumothorax": "pneumothorax",
    "pleural effusion": "effusion",
    "pleural other": "pleural_other",
    "fracture": "fracture",
    "support devices": "support_devices",
}
"""Published observation in lower case to ours."""

FACTS = Facts(
    name="chexpert",
    title="CheXpert",
    origin="Stanford ML Group: Stanford Hospital, 2002 to 2017.",
    licence="Stanford University Dataset Research Use Agreement.",
    access="register with Stanford AIMI and download (440 GB, or 11 GB as `CheXpert-v1.0-small`); give the folder "
    "that holds `train.csv`, or the one above it; for the large edition the folder that holds the unpacked batches.",
    size="224,316 JPEG images of 65,240 patients; the small edition has 223,414 for training and 234 for validation.",
    layout="`train.csv`, `valid.csv` and `train/patient00001/study1/view1_frontal.jpg`; in the large edition "
    "`CheXpert-v1.0 batch 1 (validate & csv)` to `batch 4 (train 3)`.",
    labels=dict.fromkeys((*NAMES.values(), SEVERAL, UNKNOWN), "mined"),
    meaning="1, 0, -1 (uncertain) and blank (not mentioned) fill `finding_effusion` and 13 others with 1, 0, NaN and "
    "NaN. uncertain=positive or negative maps -1 (U-Ones, U-Zeros); blank=negative takes what is not mentioned for "
    "absent. The label is the only finding, `normal`, `several`, or, where nothing is certain, `unknown` "
    "(unlabelled=keep).",
    patients="the folder's number, `patient00001`.",
    problems=(
        "Labels were mined from reports; those of `valid.csv` are radiologists'.",
        "`Lung Opacity` is an umbrella for edema, consolidation, pneumonia, atelectasis and lesions, and stands "
        "beside them.",
        "Lateral views are among them; views=frontal leaves them out.",
        "One sex is `Unknown`, some ages are 0 for unknown.",
    ),
    citation="Irvin et al., *CheXpert*, AAAI (2019).",
    options={
        "uncertain": ("unknown", "positive", "negative"),
        "blank": ("unknown", "negative"),
        "views": ("frontal", "all"),
        "unlabelled": ("drop", "keep"),
    },
    unlisted=("test/*",),
)

_MAPPED = {"unknown": np.nan, "positive": 1.0, "negative": 0.0}


def load(
    folder: str | Path,
    *,
    uncertain: str = "unknown",
    blank: str = "unknown",
    views: str = "frontal",
    unlabelled: str = "drop",
) -> Dataset:
    """Read the set; see `FACTS`."""
    root = layout.root_of(folder, FACTS, lambda place: _table(place, "train.csv") is not None)
    parts = []
    for name, side in (("train.csv", "train"), ("valid.csv", "validation")):
        path = _table(root, name)
        if path is not None:
            part = layout.read_table(path, ("path", "frontal/lateral", "no finding"), FACTS)
            parts.append(part.assign(published_split=side))
    given = pd.concat(parts, ignore_index=True).drop_duplicates("path")
    if views == "frontal":
        given = given[given["frontal/lateral"].str.lower() == "frontal"]
    given = given.reset_index(drop=True)
    place = _Places(root)
    table = pd.DataFrame({"path": given["path"].map(place)})
    table["patient"] = given["path"].map(lambda p: m[0] if (m := re.search(r"patient\d+", p)) else None)
    table["study"] = given["path"].map(lambda p: m[0] if (m := re.search(r"study\d+", p)) else None)
    table["sex"] = given["sex"].map(layout.sex) if "sex" in given else None
    table["age"] = given["age"].map(layout.years).replace(0.0, np.nan) if "age" in given else None
    lateral = given["frontal/lateral"].str.lower() == "lateral"
    table["view"] = given["ap/pa"].map(layout.view) if "ap/pa" in given else None
    table.loc[lateral, "view"] = "lateral"
    table["published_split"] = given["published_split"]
    for theirs, ours in NAMES.items():
        said = pd.to_numeric(given[theirs], errors="coerce") if theirs in given else pd.Series(np.nan, table.index)
        known = said.where(said.isin([0, 1]), np.where(said == -1, _MAPPED[uncertain], _MAPPED[blank]))
        table[PREFIX + ours] = known.astype(float)
    found = [PREFIX + name for name in NAMES.values()]
    table["label"] = single_label(table[found])
    return layout.made(table, root, FACTS, unlabelled=unlabelled)


def _table(place: Path, name: str) -> Path | None:
    """The CSV, in the folder itself or in the batch that carries the tables."""
    choices = [place / name, *sorted(place.glob(f"CheXpert-v1.0 batch 1*/{name}"))]
    return next((path for path in choices if path.is_file()), None)


class _Places:
    """Path of the table, ``CheXpert-v1.0-small/train/patient00001/...``, to the path on disk."""

    def __init__(self, root: Path):
        self.batches: dict[str, str] = {}
        for batch in sorted(root.glob("CheXpert-v1.0 batch *")):
            for inner in (batch, batch / "train", batch / "valid"):
                if inner.is_dir():
                    where = inner.relative_to(root).as_posix()
                    side = "valid" if "batch 1" in batch.name else "train"
                    self.batches |= {f"{side}/{p.name}": f"{where}/{p.name}" for p in inner.glob("patient*")}

    def __call__(self, path: str) -> str:
        path = path.replace("\\", "/")
        inside = path.partition("/")[2] if path.lower().startswith("chexpert") else path
        head = "/".join(inside.split("/")[:2])
        return self.batches[head] + inside[len(head) :] if head in self.batches else inside
