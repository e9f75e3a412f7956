"""What `predict` and `explain` write: a line a file for people or programs, a CSV, and names of pictures."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from covidcxnet.preparation.pipeline import MARK, about_image
from enhancement.csv_cells import csv_cell
from enhancement.errors import InputError, printable
from enhancement.files import IMAGE_SUFFIXES, fitting_name

EXPECTED = "an upright frontal chest radiograph"
_OVERLAY = ".overlay"


class Lines:
    """Rows for people, printed as they come."""

    def __init__(self, paths: list[Path]):
        # One long name must not push all other columns off the screen.
        self.width = min(max([4, *(len(str(path)) for path in paths)]), 100)
        print(f"{'file':<{self.width}}  {'label':<16}  probability  lungs")

    def __call__(self, row: dict[str, Any]) -> None:
        file = printable(row["file"]).ljust(self.width)
        if row["error"] is not None:
            print(f"{file}  not read: {printable(row['error'])}", flush=True)
            return
        lungs = row["lungs"]
        if lungs is None:
            verdict = "not looked for"
        else:
            verdict = "found" if lungs["trusted"] else f"not trusted: {_short(lungs['reasons'])}"
        label = f"{row['label']}{MARK if row['notes'] else ''}"
        cells = [file, f"{label:<16}", f"{row['probability']:11.3f}", verdict]
        # What speaks against the lungs stands in their column.
        if notes := about_image(row["notes"]):
            # Measurements behind the colon would fill the line; CSV and JSON have them.
            cells.append(f"image: {', '.join(text.partition(':')[0] for text in notes)}")
        if "explanation" in row:
            fit = row["explanation"]["fit"]
            cells += [] if fit is None else [f"fit R\N{SUPERSCRIPT TWO} {fit:.2f}"]
            cells.append(printable(row["explanation"]["panel"]))
        print("  ".join(cells), flush=True)


def _short(reasons: Sequence[str]) -> str:
    """The first reason without its measurements, and how many more there are."""
    first, more = re.split(r": | \(", next(iter(reasons), ""))[0], len(reasons) - 1
    return f"{first} and {more} more" if more > 0 else first


def print_json(row: dict[str, Any]) -> None:
    """One JSON object a line, flushed, so that a program can read it before the last file is done."""
    from covidcxnet.evaluation.report import plain

    # JSON knows no NaN: null stands for a number that is none.
    print(json.dumps(plain(row), allow_nan=False), flush=True)


class Csv:
    """A table for a spreadsheet or pandas, with one probability column a class."""

    def __init__(self, path: Path, classes: Sequence[str], stack: ExitStack, method: str | None = None):
        from covidcxnet.prediction import columns, table_row

        self.cells = lambda row: map(csv_cell, table_row(row, classes).values())
        # of the pictures: the class explained, LIME's local fit, and the file
        self.explained = ["target", "fit", "panel"] if method else []
        file = open(path, "w", newline="", encoding="utf-8")  # noqa: SIM115
        self.writer = csv.writer(stack.enter_context(file))
        self.writer.writerow([csv_cell(name) for name in (*columns(classes), *self.explained)])

    def __call__(self, row: dict[str, Any]) -> None:
        explained = [row.get("explanation", {}).get(name) for name in self.explained]
        self.writer.writerow([*self.cells(row), *map(csv_cell, explained)])


def panel_paths(files: list[tuple[Path, Path]], out: Path, method: str) -> dict[Path, Path]:
    """A path below `out` for the panel of each radiograph, in the tree in which the radiographs lie."""
    panels: dict[Path, Path] = {}
    taken: set[Path] = set()
    for path, relative in files:
        # "1.2.840.10008.5" is the whole name of a DICOM file, not a name and its ending.
        stem = relative.stem if relative.suffix.lower() in IMAGE_SUFFIXES else relative.name
        # chest.png and chest.jpg in one folder, or one name in two: each keeps a panel.
        # With room for the longer name of the overlay.
        ending, room = f".{method}.png", len(_OVERLAY)
        panel, number = relative.with_name(fitting_name(stem, ending, room)), 1
        while panel in taken:
            number += 1
            panel = relative.with_name(fitting_name(f"{stem}-{number}", ending, room))
        taken.add(panel)
        panels[path] = out / panel
    return panels


def overlay_path(panel: Path) -> Path:
    """Where the overlay at full size stands, beside its panel."""
    return panel.with_name(f"{panel.stem}{_OVERLAY}.png")


def refuse_loss(outputs: list[Path], inputs: list[Path], overwrite: bool) -> None:
    """`InputError` before the work where it would overwrite a file unasked, or a radiograph in any case."""
    # All of them, before the first is written: half of the pictures would be new otherwise.
    existing = [path for path in outputs if path.exists()]
    if existing and not overwrite:
        more = f" (and {len(existing) - 1} more)" if len(existing) > 1 else ""
        raise InputError(f"{existing[0]}{more}: exists; give another path or --overwrite")
    originals = {path.resolve() for path in inputs} if existing else set()
    for path in existing:
        if path.resolve() in originals:
            raise InputError(f"{path}: is one of the radiographs and is never overwritten; give another --out")
