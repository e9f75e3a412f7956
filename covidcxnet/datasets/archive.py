"""A hospital's DICOM files as a table: radiographs chosen by modality, body part and view, patients as keyed hashes.

The files stay where they are, unchanged. Nothing that this module writes, prints or raises says who a patient is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from covidcxnet.datasets.findings import UNKNOWN
from enhancement.dicom_header import Header, linked_values, read_header, tells_who
from enhancement.errors import InputError, RadiographError
from enhancement.files import find_images

MODALITIES = ("CR", "DX", "DR")
BODY_PARTS = ("CHEST", "THORAX", "LUNG", "")
VIEWS = ("PA", "AP", "")
COLUMNS = (
    "path",
    "label",
    "patient",
    "view",
    "sex",
    "age",
    "modality",
    "body_part",
    "photometric",
    "syntax",
    "width",
    "height",
)
LINKS = ("path", "sopinstanceuid", "studyinstanceuid", "accessionnumber", "patientid")


def read_archive(
    inputs: str | Path | Sequence[str | Path],
    key: bytes,
    *,
    labels: str | Path | None = None,
    modalities: Sequence[str] = MODALITIES,
    body_parts: Sequence[str] = BODY_PARTS,
    views: Sequence[str] = VIEWS,
    progress: bool = True,
) -> tuple[pd.DataFrame, pd.DataFrame, Path]:
    """Look through DICOM files.

    Parameters
    ----------
    inputs : path or sequence of path
        Files, folders, patterns or a DICOMDIR.
    key : bytes
        Of the hash that stands for a patient (`enhancement.dicom_header.patient_key`).
    labels : path, optional
        CSV with a column ``label`` and one of `LINKS` in any spelling. Its ids are compared and forgotten.
    modalities, body_parts, views : sequence of str
        Values to take; ``""`` takes files that say nothing.
    progress : bool
        Show a progress bar.

    Returns
    -------
    (DataFrame, DataFrame, Path)
        Radiographs (`COLUMNS`; label ``unknown`` where no list gives one), files left out (path, reason), and the
        folder that paths are relative to.

    Raises
    ------
    InputError
        If there are no files, the list of labels is none, or no file is a radiograph of the kind asked for.
    """
    import os.path

    files = [path.absolute() for path in find_images(inputs)]
    root = Path(os.path.commonpath([path.parent for path in files]))
    known, link = _labels(labels)
    rows, left = [], []
    for path in tqdm(files, "reading headers", unit="file", disable=not progress):
        name = path.relative_to(root).as_posix()
        try:
            header = read_header(path, key)
            reason = _unwanted(header, modalities, body_parts, views)
            if reason is None and tells_who(path, name):
                name, reason = "(not told)", "its path holds the patient's id, name or accession number; rename it"
            label = known.get(name if link == "path" else linked_values(path)[link], UNKNOWN) if known else UNKNOWN
        except RadiographError as error:
            reason = error.reason
        if reason is not None:
            left.append({"path": name, "reason": reason})
            continue
        rows.append(
            {
                "path": name,
                "label": label,
                "patient": header.patient or None,
                "view": header.view[:2] if header.view[:2] in ("PA", "AP") else None,
                "sex": header.sex or None,
                "age": header.age,
                "modality": header.modality,
                "body_part": header.body_part or None,
                "photometric": header.photometric,
                "syntax": header.syntax,
                "width": header.width,
                "height": header.height,
            }
        )
    refused = pd.DataFrame(left, columns=["path", "reason"])
    if not rows:
        first = f", the first {left[0]['path']}: {left[0]['reason']}" if left else ""
        raise InputError(f"{len(files)} files, none a chest radiograph of the kind asked for{first}")
    return pd.DataFrame(rows, columns=list(COLUMNS)), refused, root


def _unwanted(header: Header, modalities, body_parts, views) -> str | None:
    if header.kind.startswith(("Enhanced", "Legacy Converted")):
        return f"is of the kind {header.kind}; one projection radiograph expected"
    if header.frames > 1:
        return f"holds {header.frames} frames; one radiograph expected"
    if not header.width or not header.height:
        return "holds no image"
    asked = (("modality", header.modality, modalities), ("body part", header.body_part, body_parts))
    for name, value, wanted in (*asked, ("view", header.view, views)):
        if value not in {w.upper() for w in wanted}:
            # a value outside the standard's own words could be anything, a name too
            said = value if value.isalpha() and len(value) <= 10 else "another"
            return f"{name} {said or 'not given'}; {', '.join(w or 'none' for w in wanted)} expected"
    return None


def _labels(path: str | Path | None) -> tuple[dict[str, str], str]:
    if path is None:
        return {}, "path"
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a table of labels ({type(error).__name__})") from None
    table.columns = ["".join(c for c in str(name).lower() if c.isalnum()) for name in table.columns]
    link = next((name for name in LINKS if name in table), None)
    if link is None or "label" not in table:
        raise InputError(
            f"{path}: a column label and one of path, SOPInstanceUID, StudyInstanceUID, "
            "AccessionNumber, PatientID expected"
        )
    table = table[(table[link].str.strip() != "") & (table["label"].str.strip() != "")]
    twice = table.groupby(table[link].str.strip())["label"].nunique()
    if (twice > 1).any():
        raise InputError(
            f"{path}: {int((twice > 1).sum())} values of {link} have two different labels; each may have one"
        )
    return dict(zip(table[link].str.strip(), table["label"].str.strip(), strict=True)), link
