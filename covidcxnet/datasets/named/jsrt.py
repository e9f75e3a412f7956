"""The JSRT database: 247 radiographs with and without a lung nodule, as raw files without a header."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.named import layout
from covidcxnet.datasets.named.facts import Facts
from covidcxnet.datasets.vocabulary import known_from_labels

FACTS = Facts(
    name="jsrt",
    title="JSRT",
    origin="Japanese Society of Radiological Technology: 13 institutions in Japan and one in the USA.",
    licence="registration; research use.",
    access="register with the JSRT and unpack `All247images.zip` and `ClinicalInformation`; the masks are the SCR "
    "set (`scratch.zip`, van Ginneken), unpacked beside them.",
    size="247 images of 2048 x 2048 pixels, 12 bit: 154 with a nodule, 93 without.",
    layout="`All247images/JPCLN001.IMG` (or `Nodule154images`, `NonNodule93images`; PNG copies of the same names "
    "count too), `CLNDAT_EN.TXT`, `CNNDAT_EN.TXT`, `fold1/masks/left lung/JPCLN001.gif`.",
    labels={"nodule": "confirmed", "no_nodule": "confirmed"},
    meaning="`JPCLN` has a nodule, `JPCNN` has none, which is no statement about the rest of the chest, so these are "
    "not called normal. The text files give age, sex, and for nodules size in mm, subtlety (5 obvious to 1 extremely "
    "subtle), place and diagnosis.",
    patients="one image each.",
    problems=(
        "Raw big-endian `.IMG` files without a header, white where air is: they are read and inverted here, PNG "
        "copies are read as they are.",
        "Two folds of the SCR set are kept in `fold`; they are no split of patients by chance but odd and even "
        "numbers.",
    ),
    citation="Shiraishi et al., AJR 174 (2000); van Ginneken, Stegmann, Loog, Medical Image Analysis 10 (2006).",
    pixels=(2048, 2048),
    unlisted=("*lung/*", "*clavicle/*", "*heart/*", "*lung*/*"),
)

_NAME = re.compile(r"JPC(LN|NN)\d{3}", re.I)
_SETTLED = {"nodule": {"nodule": 1, "normal": 0}, "no_nodule": {"nodule": 0}}


def load(folder: str | Path) -> Dataset:
    """Read the set; see `FACTS`."""
    root = layout.root_of(folder, FACTS, lambda place: any(_images(place)))
    told = _clinical(root)
    halves: dict[str, dict[str, str]] = {}
    for path in layout.files(root, (".gif", ".png", ".bmp")):
        side = next(
            (p.lower() for p in path.split("/")[:-1] if p.lower().replace("_", " ") in ("left lung", "right lung")), ""
        )
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
                **told.get(name, {}),
            }
        )
    table = pd.DataFrame(rows)
    return layout.made(table.join(known_from_labels(table["label"], _SETTLED)), root, FACTS)


def _images(place: Path) -> dict[str, str]:
    """Name to file; a raw file goes before a copy, and what lies with masks is none."""
    found: dict[str, str] = {}
    for path in sorted(layout.files(place, (".img", *layout.IMAGES)), key=lambda p: not p.lower().endswith(".img")):
        places = [part.lower() for part in path.split("/")[:-1]]
        masked = any(word in part for part in places for word in ("mask", "lung", "clavicle", "heart"))
        if _NAME.fullmatch(layout.stem(path)) and not masked:
            found.setdefault(layout.stem(path).upper(), path)
    return found


def _clinical(root: Path) -> dict[str, dict]:
    """Age, sex, nodule size and so on by name; fields are told by what they look like, as editions differ."""
    told: dict[str, dict] = {}
    for path in layout.files(root, (".txt",)):
        if not re.match(r"C[LN]NDAT.*EN", layout.stem(path), re.I):
            continue
        for line in (root / path).read_text(encoding="utf-8", errors="replace").splitlines():
            fields = [f.strip() for f in re.split(r"\t|,|  +", line) if f.strip()]
            if fields and _NAME.match(fields[0]):
                told[fields[0][:8].upper()] = _fields(fields[1:])
    return told


def _fields(fields: list[str]) -> dict:
    sex = next((f for f in fields if f.lower() in ("male", "female")), "")
    at = fields.index(sex) if sex else len(fields)
    numbers = [float(f) for f in fields[:at] if re.fullmatch(r"\d+(\.\d+)?", f)]
    row = {"sex": layout.sex(sex), "age": layout.years(numbers[-1]) if numbers else None}
    if len(numbers) == 3:  # subtlety, size, age
        row |= {"subtlety": numbers[0], "nodule_mm": numbers[1]}
    words = [f for f in fields[at + 1 :] if not re.fullmatch(r"[\d. ]+", f)]
    return row | {"published_label": ", ".join(words) or None}
