"""The RSNA pneumonia detection challenge of 2018: NIH radiographs as DICOM, read again by radiologists."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
from tqdm import tqdm

import covidcxnet.datasets.named.layout as layout
from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.named.facts import Facts
from covidcxnet.datasets.vocabulary import UNKNOWN
from enhancement.errors import InputError

MAPPING = "pneumonia-challenge-dataset-mappings_2018.json"
_CLASSES = {"normal": "normal", "lung opacity": "lung_opacity", "no lung opacity / not normal": "not_normal"}
_SETTLED = {
    "normal": {"normal": 1, "lung_opacity": 0, "pneumonia": 0},
    "lung_opacity": {"lung_opacity": 1, "normal": 0},
    "not_normal": {"lung_opacity": 0, "normal": 0},
}


def read(folder: str | Path, facts: Facts, *, headers: str) -> Dataset:
    """Read the set as `facts` describe it."""
    root = layout.root_of(folder, facts, lambda place: (place / "stage_2_train_labels.csv").is_file(), 1)
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
    table["published_label"], table["label"] = published, published.str.lower().map(_CLASSES).fillna(UNKNOWN)
    table["nih_image"] = ids.map(_nih_images(root / MAPPING))
    table["patient"] = table["nih_image"].map(lambda n: n.split("_")[0].lstrip("0") or "0", na_action="ignore")
    if headers == "read":
        with ThreadPoolExecutor(2) as pool:
            headers_read = pool.map(_header, (root / path for path in table["path"]))
            rows = list(tqdm(headers_read, "rsna: headers", len(table), unit="file", leave=False))
        table = table.join(pd.DataFrame(rows, columns=["age", "sex", "view"]))
    return layout.finish(table, root, facts, _SETTLED)


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
        raise InputError(f"{path}: not RSNA's mapping of images ({error})") from error


def _header(path: Path):
    """Age, sex and view; None where the file or an element is missing."""
    import pydicom

    tags = ["PatientAge", "PatientSex", "ViewPosition"]
    try:
        dataset = pydicom.dcmread(path, specific_tags=tags, stop_before_pixels=True)
    except Exception:  # `datasets check` reports damaged files
        return None, None, None
    age, sex, view = (str(dataset.get(tag, "")) for tag in tags)
    return layout.years(age), layout.sex(sex), layout.view(view)
