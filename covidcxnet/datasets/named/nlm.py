"""What Shenzhen and Montgomery share: a text file of readings for each image, named like it."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.named import layout
from covidcxnet.datasets.named.facts import Facts
from covidcxnet.datasets.vocabulary import known_from_labels

CONVENTION = "lung_field"  # the lungs as far as they are filled with air, the heart left out
_SETTLED = {"normal": {"normal": 1, "tuberculosis": 0}, "tuberculosis": {"tuberculosis": 1, "normal": 0}}
_MASK = ("mask", "masks", "leftmask", "rightmask", "manualmask", "left", "right")


def load(folder: str | Path, facts: Facts, prefix: str, halves: bool) -> Dataset:
    """Read a set of this make.

    Parameters
    ----------
    prefix : str
        Beginning of the file names, ``CHNCXR`` or ``MCUCXR``.
    halves : bool
        Whether left and right lung are two masks; an image must have both or counts as without.
    """
    name = re.compile(rf"{prefix}_(\d+)_([01])(_mask)?", re.I)
    root = layout.root_of(folder, facts, lambda place: any(layout.files(place)) and _has(place, name))
    images: dict[str, str] = {}
    masks: dict[str, list[str]] = {}
    for path in layout.files(root):
        match = name.fullmatch(layout.stem(path))
        if match is None:
            continue
        case = f"{prefix}_{match[1]}_{match[2]}"
        places = {part.lower() for part in path.split("/")[:-1]}
        if match[3] or places & set(_MASK):
            masks.setdefault(case, []).append(path)
        else:
            images.setdefault(case, path)
    readings = {layout.stem(p): p for p in layout.files(root, (".txt",))}
    rows = []
    for case, path in sorted(images.items()):
        found = masks.get(case, [])
        told = _reading(root / readings[case]) if case in readings else {}
        rows.append(
            {
                "path": path,
                "label": "tuberculosis" if case.endswith("_1") else "normal",
                "patient": case.split("_")[1],
                "view": "PA",
                # several masks in one cell: their union counts
                "mask": ";".join(found) if len(found) == (2 if halves else 1) else None,
                "convention": CONVENTION,
                **told,
            }
        )
    table = pd.DataFrame(rows)
    if len(table):
        table = table.join(known_from_labels(table["label"], _SETTLED))
    return layout.made(table, root, facts)


def _has(place: Path, name: re.Pattern) -> bool:
    return any(name.fullmatch(layout.stem(path)) for path in layout.files(place))


def _reading(path: Path) -> dict:
    """Sex, age and finding from ``male 45yrs`` or ``Patient's Sex: F``, ``Patient's Age: 027Y``, and what follows."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return {}
    lines = [line for line in lines if line]
    told = "\n".join(lines[:2])
    if "patient's sex" in told.lower():
        sex = re.search(r"sex:\s*(\w)", told, re.I)
        age = re.search(r"age:\s*(\w+)", told, re.I)
        return {
            "sex": layout.sex(sex[1]) if sex else None,
            "age": layout.years(age[1]) if age else None,
            "published_label": " ".join(lines[2:]) or None,
        }
    first = lines[0] if lines else ""
    sex = re.search(r"\b(fe)?mal", first, re.I)
    age = re.search(r"\d.*", first)
    return {
        "sex": ("F" if sex[1] else "M") if sex else None,
        "age": layout.years(age[0]) if age else None,
        "published_label": " ".join(lines[1:]) or None,
    }
