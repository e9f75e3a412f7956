"""The RSNA pneumonia detection challenge of 2018: NIH radiographs as DICOM, read again by radiologists."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.named import layout
from covidcxnet.datasets.named.facts import Facts
from covidcxnet.datasets.vocabulary import UNKNOWN, known_from_labels
from enhancement.errors import InputError

FACTS = Facts(
    name="rsna",
    title="RSNA pneumonia challenge",
    origin="Kaggle, RSNA Pneumonia Detection Challenge (2018): drawn from NIH ChestX-ray14 and read again by "
    "radiologists of the RSNA and the STR.",
    licence="competition terms, non-commercial.",
    access="download from Kaggle (`rsna-pneumonia-detection-challenge`) and unpack; give the folder. For patients, put "
    "`pneumonia-challenge-dataset-mappings_2018.json` (RSNA's page of the challenge) beside it.",
    size="26,684 labelled DICOM files of 1024 x 1024 pixels: 8,851 normal, 6,012 lung opacity, 11,821 neither; 3,000 "
    "without labels.",
    layout="`stage_2_train_images/<id>.dcm`, `stage_2_train_labels.csv` (a row a box), "
    "`stage_2_detailed_class_info.csv`; `stage_2_test_images` has no labels and is left out.",
    labels={"normal": "read", "lung_opacity": "boxed", "not_normal": "unnamed"},
    meaning="`Normal` is `normal`, `Lung Opacity` (an opacity suspicious for pneumonia) `lung_opacity`, `No Lung "
    "Opacity / Not Normal` `not_normal`. The number of boxes stands in `boxes`. Age, sex and view come from the "
    "DICOM headers; headers=skip saves the minute that this takes.",
    patients="`patientId` names an image, not a patient. With RSNA's mapping file the NIH patient is known, without "
    "it nobody is.",
    problems=(
        "The same images as NIH's: never put the two on two sides of a split.",
        "Without the mapping file a split by patient is impossible.",
    ),
    citation="Shih et al., Radiology: Artificial Intelligence 1 (2019).",
    options={"headers": ("read", "skip")},
    pixels=(1024, 1024),
    unlisted=("stage_2_test_images/*", "stage_1_test_images/*"),
)

MAPPING = "pneumonia-challenge-dataset-mappings_2018.json"
_CLASSES = {"normal": "normal", "lung opacity": "lung_opacity", "no lung opacity / not normal": "not_normal"}
_SETTLED = {
    "normal": {"normal": 1, "lung_opacity": 0, "pneumonia": 0},
    "lung_opacity": {"lung_opacity": 1, "normal": 0},
    "not_normal": {"lung_opacity": 0, "normal": 0},
}


def load(folder: str | Path, *, headers: str = "read") -> Dataset:
    """Read the set; see `FACTS`."""
    root = layout.root_of(folder, FACTS, lambda place: (place / "stage_2_train_labels.csv").is_file(), 1)
    boxes = layout.read_table(root / "stage_2_train_labels.csv", ("patientid", "target"), FACTS)
    # an image has a row a box; without a box one row with Target 0
    ids = boxes["patientid"].drop_duplicates().reset_index(drop=True)
    positive = boxes["target"] == "1"
    table = pd.DataFrame({"path": "stage_2_train_images/" + ids + ".dcm"})
    table["boxes"] = ids.map(positive.groupby(boxes["patientid"]).sum()).astype(int)
    table["label"] = table["boxes"].gt(0).map({True: "lung_opacity", False: "without_opacity"})
    details = root / "stage_2_detailed_class_info.csv"
    if not details.is_file():
        raise InputError(f"{details}: missing; it tells normal from other images without opacity")
    info = layout.read_table(details, ("patientid", "class"), FACTS).drop_duplicates("patientid").set_index("patientid")
    published = ids.map(info["class"]).fillna("")
    table["published_label"], table["label"] = published, published.str.lower().map(_CLASSES).fillna(UNKNOWN)
    table["nih_image"] = ids.map(_nih_images(root / MAPPING))
    table["patient"] = table["nih_image"].map(lambda n: n.split("_")[0].lstrip("0") or "0", na_action="ignore")
    if headers == "read":
        table = table.join(_headers(root, table["path"]))
    return layout.made(table.join(known_from_labels(table["label"], _SETTLED)), root, FACTS)


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


def _headers(root: Path, paths: pd.Series) -> pd.DataFrame:
    """Age, sex and view by file; None where a file or an element is missing."""
    with ThreadPoolExecutor(2) as pool:
        found = list(
            tqdm(pool.map(_header, (root / p for p in paths)), "rsna: headers", len(paths), unit="file", leave=False)
        )
    return pd.DataFrame(found, columns=["age", "sex", "view"])


def _header(path: Path):
    import pydicom

    try:
        dataset = pydicom.dcmread(
            path, specific_tags=["PatientAge", "PatientSex", "ViewPosition"], stop_before_pixels=True
        )
    except Exception:  # a damaged file is the check's business
        return None, None, None
    found = [str(dataset.get(k, "")) for k in ("PatientAge", "PatientSex", "ViewPosition")]
    return layout.years(found[0]), layout.sex(found[1]), layout.view(found[2])
