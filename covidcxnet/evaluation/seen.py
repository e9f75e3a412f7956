"""Lists of what a training has seen, and which images of a data set stand on them, by file or by patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from covidcxnet.preparation.reuse import content_sha256
from enhancement.errors import InputError

TRAINING = ("train", "validation")
"""Parts of a split that leave a trace in the weights: validation chooses the epoch."""

_ALIASES = {
    "path": ("path", "image", "filename"),
    "file": ("file", "original"),
    "split": ("split",),
    # as for data sets: the group is what must stay on one side of a split
    "patient": ("patient", "group_id", "group", "patient_id", "patientid", "subject"),
    "source": ("source",),
    "label": ("label", "finding", "class"),
    "sha256": ("sha256",),
}
_SPLITS = {"training": "train", "val": "validation", "valid": "validation", "testing": "test"}


@dataclass(frozen=True)
class Marks:
    """What a list says about the images of a data set, row by row.

    Parameters
    ----------
    split : np.ndarray
        object [N]: the part that the image stands in (train, validation, test ...), "" where it is not listed.
    patient : np.ndarray
        bool [N]: not in train or validation itself, but an image of the same patient is.
    sources : frozenset of str or None
        Sources that train or validation has images of; None where nothing tells.
    """

    split: np.ndarray
    patient: np.ndarray
    sources: frozenset[str] | None

    @property
    def image(self) -> np.ndarray:
        """Stands in train or validation itself: bool [N]."""
        return np.isin(self.split.astype(str), TRAINING)

    @property
    def seen(self) -> np.ndarray:
        """Stands in train or validation itself, or its patient does: bool [N]."""
        return self.image | self.patient


@dataclass(frozen=True)
class Seen:
    """Lists of images with the part of the split that each was in.

    Parameters
    ----------
    table : pd.DataFrame
        Columns `split` and `list`, the number of the file; of `path`, `file`, `sha256`, at least one; `patient`,
        `source` and `label` where known. All else text, missing values "".
    names : tuple of str
        The files that were read.
    """

    table: pd.DataFrame
    names: tuple[str, ...]

    def marks(self, table: pd.DataFrame, root: Path, *, patients: bool = True) -> Marks:
        """Find the images of a data set on the lists.

        Parameters
        ----------
        table : pd.DataFrame
            The whole table of a data set, before any filter: a patient's other images tell about this one.
        root : Path
            What its paths are relative to; files are only opened where the lists hold SHA-256 sums.
        patients : bool
            Whether a patient's name on the lists counts although no image of the data is on them; without, names are
            believed only if some image is, as other data may use the same names for other people.
        """
        split = self._splits(table, root)
        trained = np.isin(split.astype(str), TRAINING)
        listed = self.table[self.table["split"].isin(TRAINING)]
        patient = np.zeros(len(table), bool)
        if "patient" in table:
            own = table["patient"].map(_text)
            names = set(own[trained])
            if "patient" in listed and (patients or (split != "").any()):
                names |= set(listed["patient"])
            patient = own.isin(names - {""}).to_numpy() & ~trained
        sources: set[str] = set(listed["source"]) if "source" in listed else set()
        if "source" in table:
            sources |= set(table["source"].map(_text)[trained])
        return Marks(split, patient, frozenset(sources - {""}) or None)

    def _splits(self, table: pd.DataFrame, root: Path) -> np.ndarray:
        """Part of the split of each row, object [N]; one list's test image may be another's training image."""
        content: list[str] = []
        if "sha256" in self.table and (self.table["sha256"] != "").any():
            content = [content_sha256(root / path) for path in table["path"]]
        found = np.full(len(table), "", dtype=object)
        for _, one in self.table.groupby("list", sort=False):
            own = _splits_by(one, table, content)
            found = np.where(np.isin(found.astype(str), TRAINING) | (own == ""), found, own)
        return found


def _splits_by(listed: pd.DataFrame, table: pd.DataFrame, content: list[str]) -> np.ndarray:
    """What one list says of each row, object [N]; an image is known by its path, source and name, or content."""
    found = np.full(len(table), "", dtype=object)

    def fill(own: list, keys: list, surely: bool = False) -> None:
        sides: dict = {}
        for key, side in zip(keys, listed["split"], strict=True):
            if sides.get(key) not in TRAINING:
                sides[key] = side
        for k, key in enumerate(own):
            if key and key in sides and (not found[k] or (surely and sides[key] in TRAINING)):
                found[k] = sides[key]

    if "path" in listed:
        fill([_path(p) for p in table["path"]], list(listed["path"]))
    if "file" in listed and "source" in listed and "source" in table:
        keys = [(s, PurePosixPath(f).name) for s, f in zip(listed["source"], listed["file"], strict=True)]
        own_sources = table["source"].map(_text)
        for name in ("path", "original"):
            if name in table:
                files = [PurePosixPath(_path(p)).name for p in table[name]]
                fill([(s, f) if f else None for s, f in zip(own_sources, files, strict=True)], keys)
    if content:
        fill(content, list(listed["sha256"]), surely=True)  # an exact copy of a training image, whatever it is called
    return found


def read_seen(files: Sequence[str | Path]) -> Seen:
    """Read lists such as a run's ``split.csv`` or the list that lies beside released weights.

    Parameters
    ----------
    files : sequence of path-like
        CSV tables with a column ``split`` and one that names the image: ``path``, ``source`` with ``file``, or
        ``sha256``; optionally ``patient`` or ``group_id``, ``source``, ``label``.

    Raises
    ------
    InputError
        If a file is no such table, or none of its rows is in train or validation.
    """
    tables = [_read(Path(file)).assign(list=k) for k, file in enumerate(files)]
    return Seen(pd.concat(tables, ignore_index=True).fillna(""), tuple(str(file) for file in files))


def training_list(weights: Path | None) -> Seen | None:
    """The list that lies beside a weights file (``NAME.csv`` by ``NAME.weights.h5``); None where there is none.

    Nobody named it: a table that happens to lie there and is no such list is no error.
    """
    if weights is None or not weights.name.endswith(".weights.h5"):
        return None
    path = weights.with_name(weights.name.removesuffix(".weights.h5") + ".csv")
    if not path.is_file():
        return None
    try:
        return read_seen([path])
    except InputError:
        return None


def _read(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype=str, skipinitialspace=True, keep_default_na=False)
    except FileNotFoundError:
        raise InputError(f"seen: {path}: no such file") from None
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"seen: {path}: not a CSV table that can be read ({reason})") from error
    lower = {str(c).strip().lower(): c for c in reversed(table.columns)}
    chosen = {ours: next((lower[a] for a in names if a in lower), None) for ours, names in _ALIASES.items()}
    there = ", ".join(map(str, table.columns)) or "none"
    if chosen["split"] is None:
        raise InputError(f"seen: {path}: no column split (train, validation, test); there are {there}")
    if chosen["path"] is None and chosen["sha256"] is None and not (chosen["file"] and chosen["source"]):
        raise InputError(f"seen: {path}: no column that names the images (path, source and file, or sha256): {there}")
    made = pd.DataFrame({ours: table[theirs].map(_text) for ours, theirs in chosen.items() if theirs is not None})
    made["split"] = made["split"].str.lower().replace(_SPLITS)
    if "path" in made:
        made["path"] = made["path"].map(_path)
    if not made["split"].isin(TRAINING).any():
        found = ", ".join(sorted(set(made["split"]))[:5]) or "no rows"
        raise InputError(f"seen: {path}: column split holds {found}; train or validation expected in some row")
    return made


def _path(value) -> str:
    text = _text(value).replace("\\", "/")
    return text.removeprefix("./")


def _text(value) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None or value is pd.NA or value != value else str(value).strip()
