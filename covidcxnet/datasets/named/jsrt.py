"""The JSRT database: 247 radiographs with and without a lung nodule, as raw files without a header."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

import covidcxnet.datasets.named.layout as layout
from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.named.facts import Facts

_NAME = re.compile(r"JPC(LN|NN)\d{3}", re.I)
_SETTLED = {"nodule": {"nodule": 1, "normal": 0}, "no_nodule": {"nodule": 0}}


def read(folder: str | Path, facts: Facts) -> Dataset:
    """Read the set as `facts` describe it."""
    root = layout.root_of(folder, facts, lambda place: any(_images(place)))
    clinical = _clinical(root)
    halves: dict[str, dict[str, str]] = {}
    for path in layout.files(root, (".gif", ".png", ".bmp")):
        folders = (part.lower() for part in path.split("/")[:-1])
        side = next((part for part in folders if part.replace("_", " ") in ("left lung", "right lung")), "")
        if side and _NAME.fullmatch(layout.stem(path)):
            halves.setdefault(layout.stem(path).upper(), {})[side] = path
    rows = []
    for name, path in sorted(_images(root).items()):
        masks = halves.get(name, {})
        fold = re.search(r"fold(\d)", next(iter(masks.values()), ""))
        rows.append(
            {
                "path": path,
                "label": "nodule" if name.startswith("JPCLN") else "no_nodule",
                "patient": name,
                "view": "PA",
                "mask": ";".join(masks[side] for side in sorted(masks)) if len(masks) == 2 else None,
                "convention": "lung_field",
                "fold": fold[1] if fold else None,
                **clinical.get(name, {}),
            }
        )
    return layout.finish(pd.DataFrame(rows), root, facts, _SETTLED)


def _images(place: Path) -> dict[str, str]:
    """Name to file; a raw file goes before a copy, and what lies in folders of masks is no image."""
    images: dict[str, str] = {}
    for path in sorted(layout.files(place, (".img", *layout.IMAGES)), key=lambda p: not p.lower().endswith(".img")):
        places = [part.lower() for part in path.split("/")[:-1]]
        masked = any(word in part for part in places for word in ("mask", "lung", "clavicle", "heart"))
        if _NAME.fullmatch(layout.stem(path)) and not masked:
            images.setdefault(layout.stem(path).upper(), path)
    return images


def _clinical(root: Path) -> dict[str, dict]:
    """Age, sex, nodule size and so on by name; fields are recognised by their form, as their order differs."""
    rows: dict[str, dict] = {}
    for path in layout.files(root, (".txt",)):
        if not re.match(r"C[LN]NDAT.*EN", layout.stem(path), re.I):
            continue
        for line in (root / path).read_text(encoding="utf-8", errors="replace").splitlines():
            fields = [f.strip() for f in re.split(r"\t|,|  +", line) if f.strip()]
            if fields and _NAME.match(fields[0]):
                rows[fields[0][:8].upper()] = _fields(fields[1:])
    return rows


def _fields(fields: list[str]) -> dict:
    sex = next((f for f in fields if f.lower() in ("male", "female")), "")
    at = fields.index(sex) if sex else len(fields)
    numbers = [float(f) for f in fields[:at] if re.fullmatch(r"\d+(\.\d+)?", f)]
    row = {"sex": layout.sex(sex), "age": layout.years(numbers[-1]) if numbers else None}
    if len(numbers) == 3:  # subtlety, size, age
        row |= {"subtlety": numbers[0], "nodule_mm": numbers[1]}
    words = [f for f in fields[at + 1 :] if not re.fullmatch(r"[\d. ]+", f)]
    return row | {"published_label": ", ".join(words) or None}
