"""The COVID-19 Radiography Database (Qatar and Dhaka universities): four classes, each from other hospitals."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd

import covidcxnet.datasets.named.layout as layout
from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.named.facts import Facts
from enhancement.errors import InputError

_LARGEST_PART = 50_000_000  # bytes of one unpacked part of a workbook; the real ones have under one million
_CLASSES = {
    "covid": "covid19",
    "lung_opacity": "lung_opacity",
    "normal": "normal",
    "viral pneumonia": "viral_pneumonia",
}


def read(folder: str | Path, facts: Facts, *, blocks: str) -> Dataset:
    """Read the database as `facts` describe it."""
    root = layout.root_of(folder, facts, holds=lambda place: len(_classes_in(place)) >= 3)
    rows = []
    for place, label in _classes_in(root).items():
        inner = f"{place}/images" if (root / place / "images").is_dir() else place
        masks = set(layout.files(root / place / "masks")) if (root / place / "masks").is_dir() else set()
        origins = _origins(root / f"{place}.metadata.xlsx")
        for name in layout.files(root / inner):
            if "/" in name:
                continue
            number = re.search(r"(\d+)\D*$", layout.stem(name))
            rows.append(
                {
                    "path": f"{inner}/{name}",
                    "label": label,
                    "published_label": place,
                    "mask": f"{place}/masks/{name}" if name in masks else None,
                    "patient": f"{label}-block{int(number[1]) // 20}" if number and blocks == "20" else None,
                    "origin": origins.get(_key(layout.stem(name))),
                }
            )
    table = pd.DataFrame(rows, columns=["path", "label", "published_label", "mask", "patient", "origin"])
    return layout.finish(table, root, facts)


def _classes_in(place: Path) -> dict[str, str]:
    """Class folder, as it is spelled here, to label."""
    return {
        d.name: _CLASSES[d.name.lower()] for d in sorted(place.iterdir()) if d.is_dir() and d.name.lower() in _CLASSES
    }


def _origins(path: Path) -> dict[str, str]:
    """Image to the site that it was taken from."""
    rows = _workbook_rows(path) if path.is_file() else []
    header = [str(cell).strip().lower() for cell in rows[0]] if rows else []
    if "file name" not in header or "url" not in header:
        return {}
    name, url = header.index("file name"), header.index("url")
    sites = {}
    for row in rows[1:]:
        if len(row) > max(name, url) and row[name] and row[url]:
            site = re.sub(r"^(https?:)?/*(www\.)?", "", row[url].strip().lower())
            parts = site.split("/")
            # one host carries several of the sets
            sites[_key(row[name])] = "/".join(parts[:3]) if parts[0] in ("github.com", "kaggle.com") else parts[0]
    return sites


def _key(name: str) -> str:
    # "NORMAL-1" in the workbook, "Normal-1.png" on disk; "COVID (1)" in the first edition
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _workbook_rows(path: Path) -> list[list[str]]:
    """Cells of the first sheet of an .xlsx workbook, by the standard library: this set alone needs one."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            shared = _texts(archive, "xl/sharedStrings.xml") if "xl/sharedStrings.xml" in names else []
            sheets = sorted(name for name in names if re.fullmatch(r"xl/worksheets/sheet\d+\.xml", name))
            sheet = _part(archive, sheets[0])
    except (OSError, zipfile.BadZipFile, ElementTree.ParseError, IndexError) as error:
        raise InputError(f"{path}: not an .xlsx workbook that can be read ({error})") from error
    return [_cells(row, shared) for row in sheet.iter() if _tag(row) == "row"]


def _cells(row, shared: list[str]) -> list[str]:
    cells: list[str] = []
    for cell in row:
        letters = re.match(r"[A-Z]+", cell.get("r", ""))
        place = len(cells)
        if letters:
            place = 0
            for letter in letters[0]:
                place = place * 26 + ord(letter) - 64
            place -= 1
        cells += [""] * (place - len(cells))
        text = "".join(part.text or "" for part in cell.iter() if _tag(part) in ("v", "t"))
        cells.append(shared[int(text)] if cell.get("t") == "s" and text.isdigit() and int(text) < len(shared) else text)
    return cells


def _texts(archive: zipfile.ZipFile, name: str) -> list[str]:
    root = _part(archive, name)
    return ["".join(t.text or "" for t in item.iter() if _tag(t) == "t") for item in root if _tag(item) == "si"]


def _part(archive: zipfile.ZipFile, name: str):
    if archive.getinfo(name).file_size > _LARGEST_PART:
        raise zipfile.BadZipFile(f"{name} is larger than {_LARGEST_PART:,} bytes")
    data = archive.read(name)
    if b"<!DOCTYPE" in data[:2000]:  # entities could grow without end
        raise zipfile.BadZipFile(f"{name} has a document type")
    return ElementTree.fromstring(data)


def _tag(element) -> str:
    return element.tag.rpartition("}")[2]
