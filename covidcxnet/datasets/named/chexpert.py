"""CheXpert: fourteen observations mined from reports, each certain, uncertain, denied or not mentioned."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

import covidcxnet.datasets.named.layout as layout
from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.named.facts import Facts
from covidcxnet.datasets.vocabulary import PREFIX, SEVERAL, UNKNOWN, finding_name, single_label

_MAPPED = {"unknown": np.nan, "positive": 1.0, "negative": 0.0}


def read(folder: str | Path, facts: Facts, *, uncertain: str, blank: str, views: str, unlabelled: str) -> Dataset:
    """Read the set as `facts` describe it."""
    root = layout.root_of(folder, facts, lambda place: _table(place, "train.csv") is not None)
    parts = []
    for name, side in (("train.csv", "train"), ("valid.csv", "validation")):
        path = _table(root, name)
        if path is not None:
            part = layout.read_table(path, ("path", "frontal/lateral", "no finding"), facts)
            parts.append(part.assign(published_split=side))
    given = pd.concat(parts, ignore_index=True).drop_duplicates("path")
    if views == "frontal":
        given = given[given["frontal/lateral"].str.lower() == "frontal"]
    given = given.reset_index(drop=True)
    batches = _batches(root)
    table = pd.DataFrame({"path": given["path"].map(lambda path: _on_disk(path, batches))})
    table["patient"] = given["path"].map(lambda p: m[0] if (m := re.search(r"patient\d+", p)) else None)
    table["study"] = given["path"].map(lambda p: m[0] if (m := re.search(r"study\d+", p)) else None)
    table["sex"] = given["sex"].map(layout.sex) if "sex" in given else None
    table["age"] = given["age"].map(layout.years).replace(0.0, np.nan) if "age" in given else None
    lateral = given["frontal/lateral"].str.lower() == "lateral"
    table["view"] = given["ap/pa"].map(layout.view) if "ap/pa" in given else None
    table.loc[lateral, "view"] = "lateral"
    table["published_split"] = given["published_split"]
    published = {finding_name(str(column)): column for column in given}
    findings = [name for name in facts.labels if name not in (SEVERAL, UNKNOWN)]
    for name in findings:
        column = published.get(name)
        state = pd.to_numeric(given[column], errors="coerce") if column else pd.Series(np.nan, table.index)
        known = state.where(state.isin([0, 1]), np.where(state == -1, _MAPPED[uncertain], _MAPPED[blank]))
        table[PREFIX + name] = known.astype(float)
    table["label"] = single_label(table[[PREFIX + name for name in findings]])
    return layout.finish(table, root, facts, unlabelled=unlabelled)


def _table(place: Path, name: str) -> Path | None:
    """The CSV, in the folder itself or in the batch that carries the tables."""
    choices = [place / name, *sorted(place.glob(f"CheXpert-v1.0 batch 1*/{name}"))]
    return next((path for path in choices if path.is_file()), None)


def _batches(root: Path) -> dict[str, str]:
    """Folder of a patient in the table, ``train/patient00001``, to that on disk, where the large edition lies."""
    folders: dict[str, str] = {}
    for batch in sorted(root.glob("CheXpert-v1.0 batch *")):
        side = "valid" if "batch 1" in batch.name else "train"
        for inner in (batch, batch / "train", batch / "valid"):
            where = inner.relative_to(root).as_posix()
            folders |= {f"{side}/{p.name}": f"{where}/{p.name}" for p in inner.glob("patient*")}
    return folders


def _on_disk(path: str, batches: dict[str, str]) -> str:
    """Path of the table, ``CheXpert-v1.0-small/train/patient00001/...``, below the root."""
    path = path.replace("\\", "/")
    inside = path.partition("/")[2] if path.lower().startswith("chexpert") else path
    head = "/".join(inside.split("/")[:2])
    return batches[head] + inside[len(head) :] if head in batches else inside
