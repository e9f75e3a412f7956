"""A hospital's DICOM files as a table: radiographs chosen by modality, body part and view, patients as keyed hashes.

The files stay where they are, unchanged. Nothing that this module writes, prints or raises says who a patient is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from covidcxnet.datasets.vocabulary import UNKNOWN
from enhancement.dicom import Header, read_case
from enhancement.errors import InputError, RadiographError
from enhancement.files import find_images
from enhancement.progress import ProgressBar

MODALITIES = ("CR", "DX", "DR")
BODY_PARTS = ("CHEST", "THORAX", "LUNG", "")
VIEWS = ("PA", "AP", "")
COLUMNS = (
    *("path", "label", "patient", "view", "sex", "age", "modality", "body_part", "photometric", "syntax"),
    *("width", "height"),
)
_HIDDEN = "(not shown)"
_NAMED = "its path holds a patient's id, name or accession number; rename it"
_TERMS = frozenset(
    re.findall(
        r"\w+",
        "CT MR MG US NM PT XA RF OT SR PX IO ES CR DX DR ABDOMEN ANKLE ARM CLAVICLE CSPINE ELBOW FOOT FOREARM HAND "
        "HEAD HIP KNEE LEG LSPINE NECK PELVIS RIB SHOULDER SKULL SPINE TSPINE WRIST CHEST THORAX BREAST PA AP LL RL "
        "LLD LLO RLD RLO LATERAL OBLIQUE",
    )
)
_PHOTOMETRIC = ("MONOCHROME1", "MONOCHROME2", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT", "PALETTE COLOR")
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
    """Radiographs among DICOM files (files, folders, patterns or a DICOMDIR), the files left out, and their root.

    `key` hashes patients (`enhancement.dicom.patient_key`). `labels` is a CSV with columns ``label`` and one of `LINKS`
    in any spelling; its ids are compared and forgotten. Of modalities, body parts and views ``""`` takes files that say
    nothing. A radiograph without a label has the label ``unknown``.
    """
    files = [path.absolute() for path in find_images(inputs)]
    root = Path(os.path.commonpath([path.parent for path in files]))
    known, link = _labels(labels)
    if link == "path":
        # as its author saw them: from where the list lies, a folder that was given, or the files' common one
        given = [Path(path) for path in ([inputs] if isinstance(inputs, str | Path) else inputs)]
        folders = [root, *(path for path in given if path.is_dir()), *([Path(labels).parent] if labels else [])]
        known = {os.path.abspath(folder / name): label for name, label in known.items() for folder in folders}
    rows: list[dict[str, Any]] = []
    left: list[dict[str, str]] = []
    words: set[str] = set()
    for path in ProgressBar(files, "reading headers", unit="file", disable=not progress):
        name = path.relative_to(root).as_posix()
        try:
            case = read_case(path, key)
            header, reason = case.header, _unwanted(case.header, modalities, body_parts, views)
            words |= case.words
            if any(word in name.lower() for word in case.words):
                name, reason = _HIDDEN, _NAMED
            label = known.get(str(path) if link == "path" else case.links[link], UNKNOWN)
        except RadiographError as error:
            reason = error.reason
        if reason is not None:
            left.append({"path": name, "reason": reason})
            continue
        row: dict[str, Any] = {key: getattr(header, key) or None for key in ("patient", "sex", "body_part")}
        row |= {key: getattr(header, key) for key in ("age", "modality", "syntax", "width", "height")}
        row["view"] = header.view[:2] if header.view[:2] in ("PA", "AP") else None
        row["photometric"] = header.photometric if header.photometric in _PHOTOMETRIC else None
        rows.append({"path": name, "label": label, **row})
    # a file may be named after the patient of another, so paths are judged once all words are known
    left = [{**row, "path": _HIDDEN if _tells(row["path"], words) else row["path"]} for row in left]
    open_rows = [row for row in rows if not _tells(row["path"], words)]
    left += [{"path": _HIDDEN, "reason": _NAMED}] * (len(rows) - len(open_rows))
    rows = open_rows
    refused = pd.DataFrame(left, columns=["path", "reason"])
    if not rows:
        first = f", the first {left[0]['path']}: {left[0]['reason']}" if left else ""
        raise InputError(f"{len(files)} files, none a chest radiograph of the requested kind{first}")
    if labels is not None and all(row["label"] == UNKNOWN for row in rows):
        raise InputError(f"{labels}: gives none of {len(rows)} radiographs a label; is its {link} that of these files?")
    return pd.DataFrame(rows, columns=list(COLUMNS)), refused, root


def _tells(path: str, words: set[str]) -> bool:
    return not words.isdisjoint(re.split(r"[^0-9a-z]+", path.lower()))


def _unwanted(header: Header, modalities, body_parts, views) -> str | None:
    if header.kind.startswith(("Enhanced", "Legacy Converted")):
        return f"is of the kind {header.kind}; one projection radiograph expected"
    if header.frames > 1:
        return f"holds {header.frames} frames; one radiograph expected"
    if not header.width or not header.height:
        return "holds no image"
    body_part = ("body part", header.body_part, body_parts)
    for name, value, wanted in (("modality", header.modality, modalities), body_part, ("view", header.view, views)):
        if value not in {w.upper() for w in wanted}:
            # free text may hold anything, a name too: only the standard's own words are repeated
            shown = value if value in _TERMS else "another" if value else "not given"
            return f"{name} {shown}; {', '.join(w or 'none' for w in wanted)} expected"
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
