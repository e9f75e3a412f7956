"""Tables on disk: any CSV read as text or refused, its columns by their usual names, paths in cells; and written."""

from __future__ import annotations

import codecs
import csv
import os.path
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from covidcxnet.reporting.table import frame_csv, is_numeric
from enhancement.csv_cells import plain_cell
from enhancement.errors import InputError, listed
from enhancement.files import whole_file

ALIASES = {
    "path": ("path", "image", "filename", "file"),
    "label": ("label", "finding", "class"),
    # group_id before patient_id: where a table has both, the group is what must stay on one side of a split
    "patient": ("patient", "group_id", "patient_id", "patientid", "subject"),
    "source": ("source",),
    "view": ("view",),
    "mask": ("mask",),
    "lesion": ("lesion",),
}
_SHORT = 24  # characters of a cell that may be a category's
# words for a missing number; in a column of text they are text
_NO_NUMBER = {"", "NA", "N/A", "NaN", "nan", "None", "null"}
# spaces and joiners of no width, marks of direction, the byte order mark, the soft hyphen
_NO_WIDTH = re.compile("[\u200b-\u200f\u2060\ufeff\u00ad]")


def read_text(path: str | Path, what: str, *, lenient: bool = False) -> pd.DataFrame:
    """A CSV with its cells as text, as they were before `frame_csv`; `InputError` if there is none or it is not `what`.

    Commas, semicolons or tabs separate, as the header shows; UTF-8, UTF-16 or else Windows-1252, as spreadsheets save.
    A label None and a patient NA are words; only an empty cell is missing. With `lenient`, for published tables, cells
    that a row has too many are dropped, and bytes that are no text replaced.
    """
    try:
        encoding, separator, first = _dialect(Path(path), what)
        errors = "replace" if lenient else "strict"
        try:
            with open(path, encoding=encoding, errors=errors, newline="") as file:
                table = _rows(path, file, separator, first, lenient)
        except UnicodeDecodeError:
            with open(path, encoding="cp1252", newline="") as file:
                table = _rows(path, file, separator, first, lenient)
            print(f"{path}: not UTF-8; read as Windows-1252", file=sys.stderr)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: not {what} ({error.strerror})") from error
    except UnicodeError:
        raise InputError(f"{path}: not {what} in UTF-8, UTF-16 or Windows-1252; save it as UTF-8") from None
    if not len(table.columns):
        raise InputError(f"{path}: not {what} (it has no columns)")
    return plain_table(table)


def _dialect(path: Path, what: str) -> tuple[str, str, int]:
    """Encoding, separator and line of the header, as the first bytes of a table show them."""
    if path.is_fifo() or path.is_socket():  # a reader waits for ever
        raise InputError(f"{path}: not {what} (no regular file)")
    with open(path, "rb") as file:
        head = file.read(65536)
    if head.startswith(b"PK\x03\x04"):
        raise InputError(f"{path}: not {what} (a workbook or archive; save the workbook as CSV, or unpack the archive)")
    encoding = "utf-8-sig"
    if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        encoding = "utf-16"
    elif b"\0" in head[:2]:  # no mark, and a first letter of two bytes
        encoding = "utf-16-be" if head[:1] == b"\0" else "utf-16-le"
    text = head.decode(encoding, errors="replace")
    if "\0" in text.partition("\n")[0] or head.startswith((b"\x1f\x8b", b"%PDF")):
        raise InputError(
            f"{path}: not {what} (its header is not text in UTF-8, UTF-16 or Windows-1252; save it as CSV)"
        )
    lines = text.lstrip().splitlines() or [""]
    # Excel reads and writes such a line before the header.
    named = re.fullmatch(r"sep=(.)", lines[0])
    # Quoted names may hold any separator.
    header = re.sub(r'"[^"]*"', "", lines[0])
    return encoding, named[1] if named else max(",;\t", key=header.count), 2 if named else 1


def _rows(path: str | Path, file: Iterable[str], separator: str, first: int, lenient: bool) -> pd.DataFrame:
    """The rows of a CSV below its first line with text; `InputError` where cells would move to other rows or columns.

    A quotation mark that is never closed makes one cell of all lines up to the next mark. Cells may hold line breaks
    (report texts do), so what counts is a line inside one that is a row by itself: as many cells as the header.
    """
    lines: list[str] = []
    copied = _copied(file, lines)
    for _ in range(first - 1):
        next(copied)
    lines.clear()
    reader = csv.reader(copied, delimiter=separator, skipinitialspace=True)
    header: list[str] = []
    rows: list[list[str]] = []
    short: dict[str, str] = {}  # one object for equal cells: train and a source's name are not in memory for each row
    start = first
    while True:
        try:
            row = next(reader, None)
        except csv.Error:  # a cell of more than 128 KiB
            what = "is never closed, or it has a cell of more than 128 KiB"
            raise InputError(f"{path}: a quotation mark in line {start} {what}") from None
        if row is None:
            return pd.DataFrame(rows, columns=_names(header), dtype=str)
        width = len(header)
        # Only a row that is not over asks for a line after the last one.
        if lines[-1] == "" or (width and any(_is_row(line, lines[0], width, separator) for line in lines[1:])):
            raise InputError(f"{path}: a quotation mark in line {start} is never closed")
        if width and len(row) > width and not lenient:
            raise InputError(f"{path}: line {start} has {len(row)} cells, the header {width}")
        if not header:
            header = row if "".join(row).strip() else []
        elif len(row) > 1 or "".join(row).strip():
            cells = [*row, *[""] * (width - len(row))][:width]
            rows.append([short.setdefault(cell, cell) if len(cell) < _SHORT else cell for cell in cells])
        start += len(lines)
        lines.clear()


def _copied(file: Iterable[str], lines: list[str]) -> Iterator[str]:
    """The lines of a file, each of which is appended to `lines` when it is read; after the last one an empty text."""
    for line in file:
        lines.append(line)
        yield line
    lines.append("")


def _names(header: Sequence[str]) -> list[str]:
    """Names of columns, each once, spelt as pandas would."""
    names: dict[str, int] = {}
    for k, name in enumerate(header):
        first = name = name or f"Unnamed: {k}"
        while name in names:
            names[first] += 1
            name = f"{first}.{names[first]}"
        names[name] = 0
    return list(names)


def _is_row(line: str, first: str, width: int, separator: str) -> bool:
    """Whether a line inside a cell is a row; a space follows commas of a text, but not those of the row's `first`."""
    cells = next(csv.reader([line], delimiter=separator), [])
    quoted = first.lstrip().startswith('"')
    # the end of a first cell of several lines brings all the other cells with it
    if quoted and cells and cells[0].endswith('"'):
        return False
    spaced = not quoted and first.partition(separator)[2][:1].isspace()
    return len(cells) == width > 1 and (spaced or not any(cell[:1].isspace() for cell in cells[1:]))


def plain_table(table: pd.DataFrame) -> pd.DataFrame:
    """A table as it was before `frame_csv` escaped it."""
    for name in table:
        if not is_numeric(table[name].dtype) and table[name].astype(str).str.startswith("'").any():
            table[name] = table[name].map(plain_cell)
    plain = table.rename(columns=plain_cell)
    return plain if plain.columns.is_unique else table


def as_numbers(cells: pd.Series) -> pd.Series:
    """A column of text as numbers if all its cells are; else as text, and only an empty cell is missing."""
    filled = cells.where(~cells.str.strip().isin(_NO_NUMBER))
    # 30,5 is a decimal comma; 1,234 may be thousands and stays text
    numbers = pd.to_numeric(filled.str.replace(r"^(\s*-?\d+),(\d{1,2})\s*$", r"\1.\2", regex=True), errors="coerce")
    # 007 is an id, and 19 digits are more than a float holds
    ids = filled.str.contains(r"^\s*0\d|\d{16}", na=False).any()
    if ids or (numbers.isna() & filled.notna()).any():
        return cells.where(cells.str.strip() != "", None)
    return numbers


def named_columns(
    table: pd.DataFrame, columns: dict[str, str], csv: Path, needed: Sequence[str] = ("path", "label")
) -> pd.DataFrame:
    lower = {str(c).strip().lower(): c for c in reversed(table.columns)}
    rename = {}
    for ours, aliases in ALIASES.items():
        if ours in columns:
            if columns[ours] not in table:
                raise InputError(f"{csv}: no column {columns[ours]!r}; there are {listed(table.columns, 12)}")
            rename[columns[ours]] = ours
        else:
            column = next((lower[a] for a in aliases if a in lower and lower[a] not in rename), None)
            if column is not None:
                rename[column] = ours
            elif ours in needed:
                raise InputError(
                    f"{csv}: no column for the {ours}; expected one of {', '.join(aliases)}, "
                    f"found {listed(table.columns, 12)}"
                )
    # a column that already bears our name but was not chosen would stand twice
    table = table.drop(columns=[c for c in rename.values() if c in table and c not in rename])
    return table.rename(columns=rename)


def save_table(table: pd.DataFrame, path: str | Path) -> Path:
    """Write a table as CSV, whole or not at all."""
    with whole_file(Path(path)) as temporary:
        temporary.write_text(frame_csv(table), encoding="utf-8", newline="")
    return Path(path)


def listed_path(path: Any, root: str | Path) -> str:
    """A path of a table as `Dataset` has it, however it is written: ``./a.png``, or absolute and under `root`."""
    text = os.path.normpath(as_text(path).replace("\\", "/"))
    for base in (Path(root).absolute(), Path(root).resolve()) if os.path.isabs(text) else ():
        if Path(text).is_relative_to(os.path.normpath(base)):
            text = os.path.relpath(text, base)
            break
    return Path(text).as_posix()


def is_text(path: Any) -> bool:
    """Whether a file's name is text; one with bytes that are no UTF-8 stands in no table."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def cell_paths(cell: Any) -> tuple[str, ...]:
    """Paths in one cell of a table, which ``;`` separates; none in an empty one."""
    return tuple(part.strip() for part in as_text(cell).split(";") if part.strip())


def moved(cell: Any, change: Callable[[str], str]) -> Any:
    """A cell of paths with each of them changed; an empty cell stays."""
    return ";".join(change(part) for part in cell_paths(cell)) if cell_paths(cell) else cell


def as_text(value) -> str:
    """Label, patient or filter value as text: 1.0 (a pandas column with gaps) and 1 are the same thing."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = "" if value is None or value is pd.NA or value != value else str(value).strip()
    # No system opens a name with a NUL, nor does HDF5 keep one; with its symbol the file is merely not there.
    return text.replace("\0", "\u2400")


def plain_word(value) -> str:
    """A label or patient as text that equals whatever looks the same: NFC, without characters of no width."""
    text = as_text(value)
    return text if text.isascii() else unicodedata.normalize("NFC", _NO_WIDTH.sub("", text)).strip()
