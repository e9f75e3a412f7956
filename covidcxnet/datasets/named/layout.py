"""What the readers of published sets share: finding files, reading tables, one notation for age, sex and view."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.named.facts import Facts
from covidcxnet.datasets.tables import is_text, read_text
from covidcxnet.datasets.vocabulary import UNKNOWN, findings_of, known_from_labels
from enhancement.errors import InputError, printable
from enhancement.files import walk
from enhancement.progress import note

IMAGES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".tif", ".tiff", ".bmp")
OLDEST = 120  # years; ages above are typing errors (NIH has 414)


def root_of(
    folder: str | Path,
    facts: Facts,
    *parts: str,
    depth: int = 2,
    holds: Callable[[Path], bool] | None = None,
) -> Path:
    """The folder, or one up to `depth` below it (archives unpack into folders), that has all `parts` or `holds`."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; {facts.name} expects {facts.layout}")
    holds = holds or (lambda place: all((place / part).exists() for part in parts))
    level = [folder]
    for _ in range(depth + 1):
        root = next((place for place in level if holds(place)), None)
        if root is not None:
            return root
        level = [child for place in level for child in _folders(place)]
    raise InputError(f"{folder}: does not hold {facts.name}; expected {facts.layout}")


def files(root: Path, suffixes: Iterable[str] = IMAGES) -> Iterator[str]:
    """Files below `root` by ending: sorted relative paths with ``/``, without hidden files and archive leftovers.

    None where there is no such folder: many archives come in parts.
    """
    wanted = tuple(suffixes)
    for here, names in walk(root) if root.exists() else ():
        relative = here.relative_to(root)
        if any(map(_leaving, relative.parts)):
            continue
        if names is None:
            note(f"{printable(here)}: left out: this folder cannot be read")
        place = relative.as_posix()
        for name in names or ():
            if name.lower().endswith(wanted) and not _leaving(name) and is_text(name):
                yield name if place == "." else f"{place}/{name}"


def by_name(paths: Iterable[str]) -> dict[str, str]:
    """File name to path; of files that bear one name the one nearest to the root counts."""
    nearest: dict[str, str] = {}
    for path in sorted(paths, key=lambda p: (p.count("/"), p)):
        nearest.setdefault(path.rpartition("/")[2], path)
    return nearest


def stem(path: str) -> str:
    """File name without folder and ending."""
    return path.rpartition("/")[2].rpartition(".")[0]


def read_table(path: Path, needed: Iterable[str], facts: Facts) -> pd.DataFrame:
    """A CSV as text, column names stripped and in lower case; `InputError` if it lacks a column that the set has."""
    # lenient: some rows end in a comma too many
    table = read_text(path, f"the table of {facts.name}", lenient=True)
    table.columns = [str(c).strip().lower() for c in table.columns]
    missing = [column for column in needed if column not in table]
    if missing:
        raise InputError(f"{path}: no column {missing[0]!r}, which {facts.name} has; found {', '.join(table.columns)}")
    return table.apply(lambda column: column.str.strip())


def finish(table: pd.DataFrame, root: Path, facts: Facts, *, unlabelled: str = "drop") -> Dataset:
    """The data set: with columns of the findings that labels settle, without empty columns and rows of no label."""
    table = table.reset_index(drop=True)
    if not len(table):
        raise InputError(f"{root}: no image of {facts.name}; expected {facts.layout}")
    if facts.settles and not findings_of(table):
        table = table.join(known_from_labels(table["label"], facts.settles))
    blank = table["label"] == UNKNOWN
    if blank.any() and unlabelled == "drop":
        count = f"{int(blank.sum())} of {len(table)} images"
        print(f"{facts.name}: {count} have no label and are left out", file=sys.stderr)
        table = table[~blank]
        if not len(table):
            raise InputError(f"{root}: no image of {facts.name} has a label")
    table = table.assign(source=facts.name)
    empty = [c for c in table if c not in ("path", "label") and (table[c].isna() | table[c].eq("")).all()]
    table = table.drop(columns=empty)
    labels = set(table["label"])
    definitions = {label: kind for label, kind in facts.labels.items() if label in labels}
    return Dataset(table, root, (), facts.name, definitions)


def years(text) -> float:
    """Age in years from ``58``, ``058Y``, ``16month``, ``64days``, ``60s`` or ``50+``; NaN where it makes no sense."""
    match = re.search(r"(\d+(?:\.\d+)?)\s*(d|w|mo|m(?!ale))?", str(text).strip().lower())
    if match is None:
        return np.nan
    value = float(match[1]) / {"d": 365.25, "w": 52.18, "mo": 12.0, "m": 12.0}.get(match[2] or "", 1.0)
    return round(value, 2) if value <= OLDEST else np.nan


def sex(text) -> str | None:
    """``F``, ``M`` or None."""
    first = str(text).strip()[:1].upper()
    return first if first in ("F", "M") else None


def view(text) -> str | None:
    """``PA``, ``AP``, ``lateral`` or None; supine and erect are `position`."""
    word = str(text).strip().upper()
    if word[:2] in ("PA", "AP"):
        return word[:2]
    return "lateral" if word in ("L", "LL", "RL", "LATERAL", "LAT") else None


def position(text) -> str | None:
    """``supine``, ``erect`` or None."""
    return next((word for word in ("supine", "erect") if word in str(text).lower()), None)


def text(value) -> str | None:
    """The text, or None where it is empty."""
    return str(value).strip() or None


def described(table: pd.DataFrame, *columns: str) -> dict[str, pd.Series]:
    """Columns of a published table in our notation, those that it lacks left out."""
    notations = {"sex": sex, "age": years, "view": view}
    return {name: table[name].map(notations.get(name, text)) for name in columns if name in table}


def _folders(place: Path) -> list[Path]:
    try:
        return sorted(child for child in place.iterdir() if child.is_dir() and not _leaving(child.name))
    except OSError:
        return []


def _leaving(name: str) -> bool:
    # what macOS, Windows and notebooks leave in archives
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db")
