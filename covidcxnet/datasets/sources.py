"""Where data sets come from: a set known by name, a folder per class, a CSV, or the phantom; all become a `Dataset`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from covidcxnet.datasets.dataset import Dataset, cell_paths, moved
from enhancement.errors import InputError


def load_dataset(
    data: str | Path,
    *,
    root: str | Path | None = None,
    classes: Sequence[str] = (),
    where: Mapping[str, Any] | None = None,
    columns: Mapping[str, str] | None = None,
    phantom_images: int = 600,
    phantom_size: int = 256,
    seed: int = 0,
) -> Dataset:
    """The data set that a command line or a recipe names.

    Parameters
    ----------
    data : str or Path
        ``"phantom"``; ``NAME:FOLDER`` for a published set (``NAME,option=value:FOLDER`` with options, see
        `covidcxnet.datasets.named`); a folder with one folder per class; or a CSV file.
    root : str or Path, optional
        What the CSV's paths are relative to; for the phantom the folder to keep it under (default: the user's cache).
    classes : sequence of str
        Classes to keep, in the order of the model's outputs; none: all there are.
    where : mapping, optional
        Column to value or list of values: only such rows are kept.
    columns : mapping, optional
        For a CSV: our column name to the table's own, where `from_csv` would not guess it.
    phantom_images, phantom_size, seed : int
        Number, side in pixels and seed of the phantoms.

    Raises
    ------
    InputError
        If there is no such data, nothing is left, a class is unknown, or there is only one class.
    """
    if str(data) == "phantom":
        from covidcxnet.datasets.phantom import CLASSES, cached_phantoms

        dataset = cached_phantoms(phantom_images, seed, phantom_size, tuple(classes) or CLASSES, root)
    else:
        dataset = open_dataset(data, root, columns)
    if where:
        dataset = dataset.filter(**where)
    if classes:
        unknown = [c for c in classes if c not in set(dataset.table["label"])]
        if unknown:
            raise InputError(f"{data}: no image is labelled {unknown[0]!r}; labels are {', '.join(dataset.classes)}")
        kept = dataset.table[dataset.table["label"].isin(list(classes))]
        dataset = Dataset(kept, dataset.root, tuple(classes), dataset.name, dataset.definitions)
    present = dataset.table["label"].unique()
    if len(present) < 2:
        raise InputError(f"{data}: only one class, {present[0]!r}; a classifier needs at least two")
    classes = tuple(c for c in dataset.classes if c in set(present))
    return Dataset(dataset.table, dataset.root, classes, dataset.name, dataset.definitions)


def open_dataset(
    data: str | Path,
    root: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    *,
    label: str | None = None,
) -> Dataset:
    """The images that an address, a folder or a CSV names, all of them, were it of a single class.

    Parameters
    ----------
    data, root, columns
        As in `load_dataset`, the phantom excepted.
    label : str, optional
        Of images without one in a CSV, which are otherwise refused: a table of findings needs no label.

    Raises
    ------
    InputError
        If there is no such data; for an unknown set's name with the list of those there are.
    """
    from covidcxnet.datasets.named import NAMES, load_address

    found = load_address(data)
    if found is not None:
        return found
    if Path(data).is_dir():
        return from_folder(data)
    if Path(data).is_file():
        return from_csv(data, root, columns, label=label)
    raise InputError(
        f"{data}: no such folder or CSV file (nor the word phantom, "
        f"nor a set as NAME:FOLDER with one of {', '.join(NAMES)})"
    )


def from_folder(folder: str | Path, classes: Sequence[str] = ()) -> Dataset:
    """Images under one folder per class; folders inside a class are searched too.

    Where the first level is named after splits (``train``, ``test``, ``val``...), the second is the class and the
    column ``published_split`` keeps the first. There is no patient column: file names do not reliably tell.

    Raises
    ------
    InputError
        If `folder` is missing or holds no image inside a class folder.
    """
    from enhancement.files import find_images

    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder")
    paths = [Path(p).relative_to(root) for p in find_images(root, recursive=True)]
    paths = [p for p in paths if len(p.parts) > 1 and not any(part.startswith(".") for part in p.parts)]
    if not paths:
        raise InputError(f"{root}: no images in class folders; expected one folder per class, e.g. {root}/normal/*.png")
    table = pd.DataFrame({"path": [p.as_posix() for p in paths], "label": [p.parts[0] for p in paths]})
    if {p.parts[0].lower() for p in paths} <= _SPLIT_FOLDERS and all(len(p.parts) > 2 for p in paths):
        table["published_split"] = table["label"]
        table["label"] = [p.parts[1] for p in paths]
    return Dataset(table, root, tuple(classes), root.absolute().name)


def from_files(folder: str | Path, exclude: Sequence[str] = ()) -> Dataset:
    """Every image below a folder, whatever it is, for questions that need no labels.

    Parameters
    ----------
    folder : str or Path
        Searched all the way down; hidden files and folders are passed over.
    exclude : sequence of str
        Patterns of paths below it that are left out, as in ``*/masks/*``; ``*`` stands for slashes too.

    Returns
    -------
    Dataset
        Label and source are the path's first folder; ``unknown`` for images that lie in the folder itself.

    Raises
    ------
    InputError
        If there is no such folder, or no image is left in it.
    """
    import fnmatch

    from enhancement.files import find_images

    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder")
    paths = [Path(p).relative_to(root) for p in find_images(root, recursive=True)]
    paths = [p for p in paths if not any(part.startswith(".") for part in p.parts)]
    kept = [p for p in paths if not any(fnmatch.fnmatch(p.as_posix(), pattern) for pattern in exclude)]
    if not kept:
        raise InputError(f"{root}: {len(paths)} images, none left after leaving out {', '.join(exclude) or 'nothing'}")
    first = [p.parts[0] if len(p.parts) > 1 else "unknown" for p in kept]
    table = pd.DataFrame({"path": [p.as_posix() for p in kept], "label": first, "source": first})
    return Dataset(table, root, (), root.absolute().name)


def from_csv(
    csv: str | Path,
    root: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    classes: Sequence[str] = (),
    *,
    label: str | None = None,
) -> Dataset:
    """A table of images.

    Parameters
    ----------
    csv : str or Path
        File with a header. Columns are found by name, in this order of preference: path, image, filename, file; label,
        finding, class; patient, group_id, patient_id, patientid, subject; mask; lesion. Others are kept as they are.
    root : str or Path, optional
        What the paths are relative to. None: the CSV's folder, or its parent where only that holds the files.
    columns : mapping, optional
        Our name to the table's own, e.g. ``{"label": "diagnosis"}``; goes before the names above.
    classes : sequence of str
        Labels in the order of the model's outputs.
    label : str, optional
        Of images without one, as in `open_dataset`.

    Raises
    ------
    InputError
        If the file is not a table with paths and labels, or a path stands twice.
    """
    csv = Path(csv)
    try:
        table = pd.read_csv(csv, dtype=dict.fromkeys(_TEXT_COLUMNS, str), skipinitialspace=True)
    except FileNotFoundError:
        raise InputError(f"{csv}: no such file") from None
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        raise InputError(f"{csv}: not a CSV table that can be read ({str(error).strip().splitlines()[0]})") from error
    table = _named_columns(table, dict(columns or {}), csv, needed=("path",) if label else ("path", "label"))
    if label:
        given = table["label"] if "label" in table else pd.Series(None, table.index, dtype=object)
        table["label"] = given.where(given.notna() & (given.astype(str).str.strip() != ""), label)
    if table.empty:
        raise InputError(f"{csv}: no rows")
    table["path"] = table["path"].map(_posix)
    for column in ("mask", "lesion"):
        if column in table:
            table[column] = table[column].map(_posix)
    root = Path(root) if root is not None else _root_of(csv, table["path"])
    return Dataset(_relative(table, root), root, tuple(classes), csv.stem)


_ALIASES = {
    "path": ("path", "image", "filename", "file"),
    "label": ("label", "finding", "class"),
    # group_id before patient_id: where a table has both, the group is what must stay on one side of a split
    "patient": ("patient", "group_id", "patient_id", "patientid", "subject"),
    "source": ("source",),
    "view": ("view",),
    "mask": ("mask",),
    "lesion": ("lesion",),
}
_TEXT_COLUMNS = {v for names in _ALIASES.values() for name in names for v in (name, name.capitalize(), name.upper())}
_SPLIT_FOLDERS = {"train", "training", "val", "valid", "validation", "test", "testing"}


def _named_columns(
    table: pd.DataFrame, columns: dict[str, str], csv: Path, needed: Sequence[str] = ("path", "label")
) -> pd.DataFrame:
    lower = {str(c).strip().lower(): c for c in reversed(table.columns)}
    rename = {}
    for ours, aliases in _ALIASES.items():
        if ours in columns:
            if columns[ours] not in table:
                raise InputError(f"{csv}: no column {columns[ours]!r}; there are {', '.join(map(str, table.columns))}")
            rename[columns[ours]] = ours
        else:
            found = next((lower[a] for a in aliases if a in lower and lower[a] not in rename), None)
            if found is not None:
                rename[found] = ours
            elif ours in needed:
                raise InputError(
                    f"{csv}: no column for the {ours}; expected one of {', '.join(aliases)}, "
                    f"found {', '.join(map(str, table.columns))}"
                )
    # a column that already bears our name but was not chosen would stand twice
    table = table.drop(columns=[c for c in rename.values() if c in table and c not in rename])
    return table.rename(columns=rename)


def _root_of(csv: Path, paths: pd.Series) -> Path:
    """The CSV's folder, or its parent where only that holds the files (judged by a sample, first to last row)."""
    folder = csv.absolute().parent
    sample = [p for p in paths.dropna() if p]
    sample = sample[:: max(1, len(sample) // 50)]
    hits = [sum((place / p).is_file() for p in sample) for place in (folder, folder.parent)]
    if hits[1] > hits[0]:
        print(f"{csv}: paths are relative to {folder.parent}, not to the table's own folder", file=sys.stderr)
        return folder.parent
    return folder


def _relative(table: pd.DataFrame, root: Path) -> pd.DataFrame:
    """Absolute paths brought under `root`; one outside it is refused: the table could not move with its files."""

    def below(text: str) -> str:
        if not Path(text).is_absolute():
            return text
        try:
            return Path(text).relative_to(root.absolute()).as_posix()
        except ValueError:
            raise InputError(f"{text}: is not under {root}; name a root that holds all files (root=...)") from None

    for column in {"path", "mask", "lesion"} & set(table.columns):
        absolute = table[column].map(lambda cell: any(Path(part).is_absolute() for part in cell_paths(cell)))
        for i in np.flatnonzero(absolute):
            table.at[i, column] = moved(table.at[i, column], below)
    return table


def _posix(path):
    return path.strip().replace("\\", "/") if isinstance(path, str) else path
