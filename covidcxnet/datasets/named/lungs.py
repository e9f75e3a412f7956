"""Sets with drawn lung masks: Shenzhen and Montgomery with readings as text files, JSRT with nodules."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

import covidcxnet.datasets.named.layout as layout
from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.named.facts import Facts

CONVENTION = "lung_field"  # the lungs as far as they are filled with air, the heart left out
_MASK = ("mask", "masks", "leftmask", "rightmask", "manualmask", "left", "right")
_JSRT = re.compile(r"JPC(LN|NN)\d{3}", re.I)


def read_nlm(folder: str | Path, facts: Facts, *, prefix: str, masks_each: int) -> Dataset:
    """Shenzhen and Montgomery: files begin with `prefix`; with fewer masks than `masks_each` an image has none."""
    name = re.compile(rf"{prefix}_(\d+)_([01])(_mask)?", re.I)

    def holds(place: Path) -> bool:
        return any(name.fullmatch(layout.stem(path)) for path in layout.files(place))

    root = layout.root_of(folder, facts, holds=holds)
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
    return layout.finish(pd.DataFrame(rows), root, facts)


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


def read_jsrt(folder: str | Path, facts: Facts) -> Dataset:
    """JSRT: radiographs with and without a nodule, raw files without a header, masks of SCR."""
    root = layout.root_of(folder, facts, holds=lambda place: any(_jsrt_images(place)))
    clinical = _clinical(root)
    halves: dict[str, dict[str, str]] = {}
    for path in layout.files(root, (".gif", ".png", ".bmp")):
        folders = (part.lower() for part in path.split("/")[:-1])
        side = next((part for part in folders if part.replace("_", " ") in ("left lung", "right lung")), "")
        if side and _JSRT.fullmatch(layout.stem(path)):
            halves.setdefault(layout.stem(path).upper(), {})[side] = path
    rows = []
    for name, path in sorted(_jsrt_images(root).items()):
        masks = halves.get(name, {})
        fold = re.search(r"fold(\d)", next(iter(masks.values()), ""))
        rows.append(
            {
                "path": path,
                "label": "nodule" if name.startswith("JPCLN") else "no_nodule",
                "patient": name,
                "view": "PA",
                "mask": ";".join(masks[side] for side in sorted(masks)) if len(masks) == 2 else None,
                "convention": CONVENTION,
                "fold": fold[1] if fold else None,
                **clinical.get(name, {}),
            }
        )
    return layout.finish(pd.DataFrame(rows), root, facts)


def _jsrt_images(place: Path) -> dict[str, str]:
    """Name to file; a raw file goes before a copy, and what lies in folders of masks is no image."""
    images: dict[str, str] = {}
    for path in sorted(layout.files(place, (".img", *layout.IMAGES)), key=lambda p: not p.lower().endswith(".img")):
        places = [part.lower() for part in path.split("/")[:-1]]
        masked = any(word in part for part in places for word in ("mask", "lung", "clavicle", "heart"))
        if _JSRT.fullmatch(layout.stem(path)) and not masked:
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
            if fields and _JSRT.match(fields[0]):
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
