"""Shenzhen and Montgomery, of the US National Library of Medicine: a text file of readings for each image."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

import covidcxnet.datasets.named.layout as layout
from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.named.facts import Facts

CONVENTION = "lung_field"  # the lungs as far as they are filled with air, the heart left out
_SETTLED = {"normal": {"normal": 1, "tuberculosis": 0}, "tuberculosis": {"tuberculosis": 1, "normal": 0}}
_MASK = ("mask", "masks", "leftmask", "rightmask", "manualmask", "left", "right")


def read_shenzhen(folder: str | Path, facts: Facts) -> Dataset:
    """Read the Shenzhen set as `facts` describe it, Stirenko's lung masks with it."""
    return _read(folder, facts, "CHNCXR", masks_each=1)


def read_montgomery(folder: str | Path, facts: Facts) -> Dataset:
    """Read the Montgomery set as `facts` describe it; left and right lung have a mask each."""
    return _read(folder, facts, "MCUCXR", masks_each=2)


def _read(folder: str | Path, facts: Facts, prefix: str, masks_each: int) -> Dataset:
    """A set whose file names begin with `prefix`; an image with fewer masks than `masks_each` counts as without."""
    name = re.compile(rf"{prefix}_(\d+)_([01])(_mask)?", re.I)
    root = layout.root_of(folder, facts, lambda p: any(name.fullmatch(layout.stem(f)) for f in layout.files(p)))
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
        rows.append(
            {
                "path": path,
                "label": "tuberculosis" if case.endswith("_1") else "normal",
                "patient": case.split("_")[1],
                "view": "PA",
                # several masks in one cell: their union counts
                "mask": ";".join(masks[case]) if len(masks.get(case, [])) == masks_each else None,
                "convention": CONVENTION,
                **(_reading(root / readings[case]) if case in readings else {}),
            }
        )
    return layout.finish(pd.DataFrame(rows), root, facts, _SETTLED)


def _reading(path: Path) -> dict:
    """Sex, age and finding from ``male 45yrs`` or ``Patient's Sex: F``, ``Patient's Age: 027Y``, and what follows."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return {}
    lines = [line for line in lines if line]
    head = "\n".join(lines[:2])
    if "patient's sex" in head.lower():
        sex, age, rest = re.search(r"sex:\s*(\w)", head, re.I), re.search(r"age:\s*(\w+)", head, re.I), lines[2:]
    else:
        head, rest = lines[0] if lines else "", lines[1:]
        # "femal" is how the set spells it
        sex, age = re.search(r"\b((?:fe)?mal)", head, re.I), re.search(r"(\d.*)", head)
    return {
        "sex": layout.sex(sex[1]) if sex else None,
        "age": layout.years(age[1]) if age else None,
        "published_label": " ".join(rest) or None,
    }
