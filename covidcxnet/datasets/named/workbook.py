"""The first sheet of an .xlsx workbook as rows of text, by the standard library alone: one set needs no more of it."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from xml.etree import ElementTree

from enhancement.errors import InputError

_LARGEST = 50_000_000  # bytes of one unpacked part; the real ones have under one million


def rows(path: Path) -> list[list[str]]:
    """Cells of the first sheet, numbers as they are written; gaps are empty.

    Raises
    ------
    InputError
        If it is no such workbook.
    """
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
    if archive.getinfo(name).file_size > _LARGEST:
        raise zipfile.BadZipFile(f"{name} is larger than {_LARGEST:,} bytes")
    data = archive.read(name)
    if b"<!DOCTYPE" in data[:2000]:  # entities could grow without end
        raise zipfile.BadZipFile(f"{name} has a document type")
    return ElementTree.fromstring(data)


def _tag(element) -> str:
    return element.tag.rpartition("}")[2]
