"""Large chest sets: NIH ChestX-ray14, RSNA's challenge, CheXpert, and Kermany's children."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

import covidcxnet.datasets.named.layout as layout
from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.named.facts import Facts
from covidcxnet.datasets.vocabulary import PREFIX, SEVERAL, UNKNOWN, finding_name, known_from_labels, single_label
from enhancement.errors import InputError
from enhancement.progress import ProgressBar

SEVEN = ("normal", "infiltration", "effusion", "atelectasis", "nodule", "mass", "pneumothorax")
"""The seven most frequent labels, those of the seven-label experiment (Group-Q)."""

SEVEN_NORMALS = 7000

_MAPPING = "pneumonia-challenge-dataset-mappings_2018.json"
_RSNA = {"normal": "normal", "lung opacity": "lung_opacity", "no lung opacity / not normal": "not_normal"}
_SPLITS = {"train": "train", "val": "validation", "test": "test"}
_PATIENT = (
    re.compile(r"(person\d+)_(bacteria|virus)_\d+", re.I),
    re.compile(r"((?:NORMAL2-)?IM-\d+)-\d+", re.I),
    re.compile(r"(?:NORMAL|BACTERIA|VIRUS)-(\d+)-\d+", re.I),
)
_UNCERTAIN = {"unknown": np.nan, "positive": 1.0, "negative": 0.0}


def read_nih(folder: str | Path, facts: Facts, *, labels: str) -> Dataset:
    """NIH ChestX-ray14; images in the official lists get ``published_split`` train or test."""
    root = layout.root_of(folder, facts, holds=lambda place: _entries(place).is_file(), depth=1)
    given = layout.read_table(_entries(root), ("image index", "finding labels", "patient id"), facts)
    given = given.drop_duplicates("image index").reset_index(drop=True)
    there = layout.by_name(layout.files(root))
    table = pd.DataFrame({"path": given["image index"].map(lambda n: there.get(n, f"images/{n}"))})
    table["published_label"], table["patient"] = given["finding labels"], given["patient id"].map(layout.text)
    # the lists of 2017 and of 2020 name the sex differently
    short = {"patient age": "age", "patient gender": "sex", "patient sex": "sex", "view position": "view"}
    table = table.assign(**layout.described(given.rename(columns=short), "age", "sex", "view"))
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


def read_rsna(folder: str | Path, facts: Facts, *, headers: str) -> Dataset:
    """RSNA's pneumonia challenge of 2018: NIH radiographs as DICOM, read again by radiologists."""
    root = layout.root_of(folder, facts, "stage_2_train_labels.csv", depth=1)
    boxes = layout.read_table(root / "stage_2_train_labels.csv", ("patientid", "target"), facts)
    # an image has a row a box; without a box one row with Target 0
    ids = boxes["patientid"].drop_duplicates().reset_index(drop=True)
    positive = boxes["target"] == "1"
    table = pd.DataFrame({"path": "stage_2_train_images/" + ids + ".dcm"})
    table["boxes"] = ids.map(positive.groupby(boxes["patientid"]).sum()).astype(int)
    details = root / "stage_2_detailed_class_info.csv"
    if not details.is_file():
        raise InputError(f"{details}: missing; it separates normal from other images without opacity")
    info = layout.read_table(details, ("patientid", "class"), facts).drop_duplicates("patientid").set_index("patientid")
    published = ids.map(info["class"]).fillna("")
    table["published_label"], table["label"] = published, published.str.lower().map(_RSNA).fillna(UNKNOWN)
    table["nih_image"] = ids.map(_nih_images(root / _MAPPING))
    table["patient"] = table["nih_image"].map(lambda n: n.split("_")[0].lstrip("0") or "0", na_action="ignore")
    if headers == "read":
        with ThreadPoolExecutor(2) as pool:
            headers_read = pool.map(_header, (root / path for path in table["path"]))
            rows = list(ProgressBar(headers_read, "rsna: headers", len(table), unit="file", leave=False))
        table = table.join(pd.DataFrame(rows, columns=["age", "sex", "view"]))
    return layout.finish(table, root, facts)


def _nih_images(path: Path) -> dict[str, str]:
    """Image id of the challenge to file name of the NIH."""
    if not path.is_file():
        return {}
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        pairs = {}
        for row in rows:
            original = next((v for v in row.values() if re.fullmatch(r"\d{8}_\d{3}(\.png)?", str(v))), None)
            if original and row.get("subset_img_id"):
                pairs[str(row["subset_img_id"])] = str(original).removesuffix(".png")
        return pairs
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{path}: not RSNA's mapping of images, or damaged") from error


def _header(path: Path):
    """Age, sex and view; None where the file or an element is missing."""
    import pydicom

    from enhancement.silence import silent_decoders

    tags = ["PatientAge", "PatientSex", "ViewPosition"]
    try:
        with silent_decoders():
            dataset = pydicom.dcmread(path, specific_tags=tags, stop_before_pixels=True)
            age, sex, view = (str(dataset.get(tag, "")) for tag in tags)
    except Exception:  # `datasets check` reports damaged files
        return None, None, None
    return layout.years(age), layout.sex(sex), layout.view(view)


def read_kermany(folder: str | Path, facts: Facts, *, labels: str) -> Dataset:
    """Kermany's children: normal, bacterial and viral, as file names say."""
    root = layout.root_of(folder, facts, "train", "test")
    rows = []
    for side, split in _SPLITS.items():
        for name in layout.files(root / side):
            place, stem, patient = name.split("/")[0].upper(), layout.stem(name).lower(), _kermanys_patient(name)
            kind = "bacterial" if "bacteria" in stem else "viral" if "virus" in stem else None
            label = "normal" if place == "NORMAL" else f"{kind}_pneumonia" if kind else "pneumonia"
            if place not in ("NORMAL", "PNEUMONIA"):
                label = UNKNOWN
            rows.append({"path": f"{side}/{name}", "label": label, "patient": patient, "published_split": split})
    table = pd.DataFrame(rows, columns=["path", "label", "patient", "published_split"])
    table["population"] = "child"
    # before labels are joined, which would lose what kind of pneumonia it was
    table = table.join(known_from_labels(table["label"], facts.settles))
    if labels == "two":
        table["label"] = table["label"].replace({"bacterial_pneumonia": "pneumonia", "viral_pneumonia": "pneumonia"})
    return layout.finish(table, root, facts)


def _kermanys_patient(name: str) -> str | None:
    for pattern in _PATIENT:
        match = pattern.match(layout.stem(name))
        if match:
            return "-".join(part.lower() for part in reversed(match.groups()))
    return None


def read_chexpert(
    folder: str | Path, facts: Facts, *, uncertain: str, blank: str, views: str, unlabelled: str
) -> Dataset:
    """CheXpert: observations mined from reports, each certain, uncertain, denied or not mentioned."""
    root = layout.root_of(folder, facts, holds=lambda place: _table(place, "train.csv") is not None)
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
        known = state.where(state.isin([0, 1]), np.where(state == -1, _UNCERTAIN[uncertain], _UNCERTAIN[blank]))
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
