"""What a DICOM header says that is needed to choose radiographs; of who the patient is, only a keyed hash.

Names, numbers and dates are read to make the hash and the age, and leave this module in no other form.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import pydicom

from enhancement.errors import InputError, RadiographError

OLDEST_TOLD = 89  # years; ages above are given as 90, as they alone can tell who somebody is
_TAGS = (
    *("SOPClassUID", "Modality", "BodyPartExamined", "ViewPosition", "PhotometricInterpretation", "Rows", "Columns"),
    *(
        "NumberOfFrames",
        "PatientID",
        "IssuerOfPatientID",
        "PatientName",
        "PatientSex",
        "PatientAge",
        "PatientBirthDate",
    ),
    *("StudyDate", "AccessionNumber", "SOPInstanceUID", "StudyInstanceUID", "OtherPatientIDs"),
)


_LINKS = ("SOPInstanceUID", "StudyInstanceUID", "AccessionNumber", "PatientID")


@dataclass(frozen=True)
class Header:
    """A DICOM file without its pixels and without its patient.

    Parameters
    ----------
    modality, body_part, view, photometric, kind, syntax : str
        As in the file, upper case where that is the custom; empty where not given. `kind` is the name of the SOP class.
    width, height, frames : int
        0 where not given; one frame unless told otherwise.
    sex : str
        ``F``, ``M`` or empty.
    age : float or None
        Years; 90 for everybody above 89.
    patient : str
        Keyed hash of the patient's id, 16 hexadecimal digits; empty where there is no id or no key was given.
    """

    modality: str = ""
    body_part: str = ""
    view: str = ""
    photometric: str = ""
    kind: str = ""
    syntax: str = ""
    width: int = 0
    height: int = 0
    frames: int = 1
    sex: str = ""
    age: float | None = None
    patient: str = ""


@dataclass(frozen=True)
class Case:
    """A header, and what tells who it is about: to be compared in memory and forgotten, never written or shown.

    Parameters
    ----------
    header : Header
        What may be passed on.
    words : frozenset of str
        Id, names and accession number in lower case, of four letters and more.
    links : dict
        Values by which a hospital's list may name the file: sopinstanceuid, studyinstanceuid, accessionnumber,
        patientid.
    """

    header: Header
    words: frozenset[str] = field(default=frozenset(), repr=False)
    links: dict[str, str] = field(default_factory=dict, repr=False)


def read_header(path: str | os.PathLike[str], key: bytes | None = None) -> Header:
    """Read the header of one file.

    Parameters
    ----------
    path : path-like
        The file.
    key : bytes, optional
        Of the hash that stands for the patient; see `patient_key`.

    Raises
    ------
    RadiographError
        If it is no DICOM file or is damaged. The message never quotes the header.
    """
    return read_case(path, key).header


def read_case(path: str | os.PathLike[str], key: bytes | None = None) -> Case:
    """The same together with what must not be passed on."""
    dataset = _read(path)
    try:
        links = {name.lower(): str(dataset.get(name) or "").strip() for name in _LINKS}
        return Case(_header(dataset, key), frozenset(_words(dataset)), links)
    except Exception:  # whatever a hostile header holds, its words stay here
        raise RadiographError(path, "its DICOM header is damaged") from None


def patient_key(path: str | os.PathLike[str]) -> bytes:
    """The key in a file, made (32 random bytes, readable by its owner alone) where there is none.

    Whoever has the key and a list of ids can undo the hash: keep it apart from what is passed on. Another key gives
    other hashes.

    Raises
    ------
    InputError
        If the file holds no such key or cannot be made.
    """
    path = Path(path)
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
                file.write(secrets.token_hex(32) + "\n")
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: no key of patient hashes can be read or made there ({type(error).__name__})"
        ) from None
    if len(key) < 16:
        raise InputError(f"{path}: holds a key of {len(key)} bytes; 16 or more expected")
    return key


def files_of_dicomdir(path: str | os.PathLike[str]) -> list[Path]:
    """Images that a DICOMDIR lists, as paths beside it; such as are not there are left as they are named.

    Raises
    ------
    RadiographError
        If it is no DICOMDIR.
    """
    path = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            records = pydicom.dcmread(path).DirectoryRecordSequence
            names = [
                r.ReferencedFileID
                for r in records
                if r.get("DirectoryRecordType") == "IMAGE" and "ReferencedFileID" in r
            ]
    except Exception:
        raise RadiographError(path, "is no DICOMDIR that can be read") from None
    found = []
    for name in names:
        parts = [name] if isinstance(name, str) else [str(part) for part in name]
        if any(part in ("", ".", "..") or "/" in part or "\\" in part for part in parts):
            continue  # a medium's files lie below its index
        there = path.parent.joinpath(*parts)
        lower = path.parent.joinpath(*(part.lower() for part in parts))
        found.append(lower if not there.exists() and lower.exists() else there)
    return found


def _read(path: str | os.PathLike[str]) -> pydicom.Dataset:
    try:
        with warnings.catch_warnings():  # pydicom's warnings quote values
            warnings.simplefilter("ignore")
            return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS))
    except FileNotFoundError:
        raise RadiographError(path, "no such file") from None
    except Exception:
        raise RadiographError(path, "is no DICOM file, or its header is damaged") from None


def _header(dataset: pydicom.Dataset, key: bytes | None) -> Header:
    def text(name: str) -> str:
        return str(dataset.get(name) or "").strip().upper()

    number = str(dataset.get("PatientID") or "").strip()
    patient = ""
    if key is not None and number:
        whole = f"{str(dataset.get('IssuerOfPatientID') or '').strip()}\0{number}"
        patient = hmac.new(key, whole.encode(), hashlib.sha256).hexdigest()[:16]
    return Header(
        text("Modality"),
        text("BodyPartExamined"),
        text("ViewPosition"),
        text("PhotometricInterpretation"),
        getattr(dataset.get("SOPClassUID"), "name", ""),
        getattr(dataset.file_meta.get("TransferSyntaxUID"), "name", ""),
        int(dataset.get("Columns") or 0),
        int(dataset.get("Rows") or 0),
        int(dataset.get("NumberOfFrames") or 1),
        text("PatientSex")[:1] if text("PatientSex")[:1] in ("F", "M") else "",
        _age(dataset),
        patient,
    )


def _age(dataset: pydicom.Dataset) -> float | None:
    said = str(dataset.get("PatientAge") or "").strip().upper()
    digits = "".join(c for c in said if c.isdigit())
    age = None
    if digits:
        age = float(digits) / {"D": 365.25, "W": 52.18, "M": 12.0}.get(said[-1:], 1.0)
    else:
        born, seen = (str(dataset.get(k) or "").replace(".", "")[:8] for k in ("PatientBirthDate", "StudyDate"))
        if len(born) == len(seen) == 8 and born.isdigit() and seen.isdigit():
            age = float((int(seen) - int(born)) // 10000)
    if age is None or not 0 <= age <= 120:
        return None
    return 90.0 if age > OLDEST_TOLD else round(age, 2)


def _words(dataset: pydicom.Dataset) -> set[str]:
    """Words that tell who it is, in lower case; those of three letters and fewer would be found everywhere."""
    words = {str(dataset.get("PatientID") or ""), str(dataset.get("AccessionNumber") or "")}
    words |= set(str(dataset.get("PatientName") or "").replace("^", " ").replace("=", " ").split())
    return {word.strip().lower() for word in words if len(word.strip()) > 3}
