"""Pairs of a radiograph and its lung mask: from a CSV or from folders."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from enhancement.errors import InputError, RadiographError
from enhancement.files import find_images

from .unet import CONVENTIONS

SPLITS = ("train", "validation", "test")

ALIASES = {
    "image": ("image", "path", "filename", "file", "radiograph"),
    "mask": ("mask", "masks", "lung_mask", "mask_path"),
    "mask_left": ("mask_left", "left_mask", "left"),
    "mask_right": ("mask_right", "right_mask", "right"),
    "source": ("source", "dataset", "origin"),
    "convention": ("convention", "mask_convention"),
    "group": ("group_id", "patient", "patient_id", "patientid", "subject"),
    "split": ("split", "fold"),
}


@dataclass(frozen=True)
class Pair:
    """A radiograph, the files whose union is its lung mask, and where it comes from.

    `group` names the patient ("" if unknown); `convention` one of `CONVENTIONS`; `split` is "" or given by the table.
    """

    image: Path
    masks: tuple[Path, ...]
    source: str = ""
    convention: str = CONVENTIONS[0]
    group: str = ""
    split: str = ""


def pairs_from_csv(path: str | Path, root: str | Path | None = None, convention: str = CONVENTIONS[0]) -> list[Pair]:
    """Read a table of pairs.

    Parameters
    ----------
    path : str or path-like
        CSV with a column for the image and one for the mask (or ``mask_left`` and ``mask_right``); several masks in
        one cell are separated by ``;``. Optional: source, convention, patient (``group_id`` wins over ``patient_id``),
        split. Other names that are understood stand in `ALIASES`.
    root : str or path-like, optional
        Folder that the paths are relative to; without it the CSV's own folder, then that folder's parent.
    convention : str
        Mask convention where the table has no such column.

    Raises
    ------
    InputError
        If the table cannot be read, lacks a column, is empty, or the files of its first row are not there.
    """
    path = Path(path)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = _columns(path, reader.fieldnames or [])
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV ({error})") from None
    if not rows:
        raise InputError(f"{path}: no rows; one image and mask a row are expected")
    base = _base(path, root, rows[0][columns["image"]])
    pairs = []
    for number, row in enumerate(rows, 2):
        value = {name: (row[column] or "").strip() for name, column in columns.items()}
        masks = [m.strip() for key in ("mask", "mask_left", "mask_right") for m in value.get(key, "").split(";")]
        masks = [m for m in masks if m]
        if not value["image"] or not masks:
            raise InputError(f"{path}, line {number}: no image or no mask")
        kind = value.get("convention") or convention
        if kind not in CONVENTIONS:
            raise InputError(f"{path}, line {number}: convention {kind!r}, one of {', '.join(CONVENTIONS)} expected")
        if value.get("split", "") not in ("", *SPLITS):
            raise InputError(f"{path}, line {number}: split {value['split']!r}, one of {', '.join(SPLITS)} expected")
        pairs.append(
            Pair(
                base / value["image"],
                tuple(base / m for m in masks),
                value.get("source", ""),
                kind,
                value.get("group", ""),
                value.get("split", ""),
            )
        )
    return pairs


def pairs_from_folders(
    images: str | Path, masks: Sequence[str | Path], convention: str = CONVENTIONS[0], source: str = ""
) -> list[Pair]:
    """Pair files by name: an image with the mask of the same stem in each mask folder (``_mask`` may follow).

    With several mask folders (left and right lungs, say) the union of their masks counts; an image must have a mask
    in each. Images without a mask are left out.

    Raises
    ------
    InputError
        If a folder has no images or nothing matches.
    """
    by_stem = [{_stem(p): p for p in find_images(folder)} for folder in masks]
    pairs = []
    for image in find_images(images):
        found = [table[image.stem] for table in by_stem if image.stem in table]
        if found and len(found) == len(by_stem):
            pairs.append(Pair(image, tuple(found), source or Path(images).name, convention))
    if not pairs:
        raise InputError(f"{images}: no image has a mask of the same name in {', '.join(str(m) for m in masks)}")
    return pairs


def read_mask(paths: Sequence[str | Path]) -> np.ndarray:
    """The union of mask files (left and right lungs, say), ``bool [H, W]``.

    A pixel belongs to the lungs where its value passes half of the file's largest: 0/1, 0/255 and JPEG masks all work.

    Raises
    ------
    RadiographError
        If a file cannot be read or the files differ in size.
    """
    import cv2

    union = None
    for path in paths:
        try:
            data = np.fromfile(path, np.uint8)
        except OSError as error:
            raise RadiographError(path, f"mask cannot be read ({error.strerror})") from None
        image = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH) if data.size else None
        if image is None:
            raise RadiographError(path, "mask is not an image, or is damaged")
        mask = image > image.max() / 2
        if union is not None and union.shape != mask.shape:
            raise RadiographError(path, f"mask of shape {mask.shape}, {union.shape} expected like its other half")
        union = mask if union is None else union | mask
    if union is None:
        raise ValueError("no mask file given")
    return union


def _columns(path: Path, names: Sequence[str]) -> dict[str, str]:
    lowered = {name.strip().lower(): name for name in names if name}
    columns = {}
    for key, aliases in ALIASES.items():
        found = next((lowered[a] for a in aliases if a in lowered), None)
        if found is not None:
            columns[key] = found
    if "image" not in columns or not {"mask", "mask_left", "mask_right"} & set(columns):
        raise InputError(f"{path}: columns {', '.join(names) or '(none)'}; one named image and one named mask expected")
    return columns


def _base(path: Path, root: str | Path | None, first: str) -> Path:
    candidates = [Path(root)] if root is not None else [path.parent, path.resolve().parent.parent]
    for base in candidates:
        if (base / first).is_file():
            return base
    tried = " or ".join(str(c) for c in candidates)
    raise InputError(f"{path}: its first image {first!r} is not in {tried}; give the right folder with --root")


def _stem(path: Path) -> str:
    stem = path.stem
    for end in ("_mask", "-mask", "_left", "_right"):
        stem = stem.removesuffix(end)
    return stem
