"""Train, validation and test: stratified by label, grouped by patient, kept as a CSV that can be used again."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from covidcxnet.datasets.dataset import Dataset
from covidcxnet.datasets.load import split_of_name
from covidcxnet.datasets.tables import listed_path, read_text, save_table
from covidcxnet.reporting.table import count
from enhancement.errors import InputError

SPLITS = ("train", "validation", "test")
UNUSED = "unused"  # on no side: training images beyond the number that a recipe asks for
BY = ("patient", "patient_where_known", "image")
COLUMNS = ("path", "split", "grouped_by")
ALONE = "image, patient unknown"


def split(
    dataset: Dataset,
    fractions: tuple[float, float, float] = (0.70, 0.15, 0.15),
    *,
    seed: int = 0,
    by: str = "patient",
    holdout: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Divide a data set into train, validation (chooses the checkpoint) and test (looked at once, at the end).

    Parameters
    ----------
    dataset : Dataset
        What to split.
    fractions : tuple of float
        Shares of images for train, validation and test; they are scaled to sum to 1. Train must be above 0. With
        `holdout` they are shares of the other images.
    seed : int
        The same rows in the same order and the same seed give the same split. Released splits and those of documented
        commands depend on the order, so images are not sorted first.
    by : {"patient", "patient_where_known", "image"}
        What stays together. ``"patient_where_known"`` takes every image without an id for a patient of its own;
        ``"image"`` lets images of one patient stand on both sides, which inflates every figure.
    holdout : mapping, optional
        Column to value or values: all such rows go to the test set (an external test, say one source), beside the test
        share of the others, so that both can be compared; with a test share of 0 they are the whole test set. Further
        images of a held-out patient go to the test set too.

    Returns
    -------
    pandas.DataFrame
        Columns ``path``, ``split`` and ``grouped_by``, row-aligned with ``dataset.table``. ``grouped_by`` says what
        was kept together: ``patient``, ``image``, or ``image, patient unknown``.

    Raises
    ------
    InputError
        If patients are asked for but not (all) known, fractions make no sense, or a side with a share stays empty.

    Notes
    -----
    Groups go from the largest to the smallest, equals in random order, each to the side that lacks its labels most
    (after Sechidis et al. 2011, iterative stratification, with groups for examples). Where the table has sources,
    their share in each label is balanced too, with less weight. Images of one ``duplicate_group`` (where the table has
    that column, see `covidcxnet.datasets.duplicates`) stay together whatever `by` says.
    """
    shares = np.asarray(fractions, float)
    if shares.shape != (3,) or not np.isfinite(shares).all() or (shares < 0).any() or shares[0] <= 0:
        raise InputError(
            f"fractions: {tuple(fractions)} given, three numbers expected (train, validation, test), "
            "none below 0 and train above 0"
        )
    shares = shares / shares.sum()
    groups = _groups(dataset, by)
    copies = _copies(dataset)
    if copies is not None and not copies.isna().all():
        # copies of an image join the groups that they stand in
        numbers, count = pd.factorize(copies)[0], groups.max() + 1
        copied = numbers >= 0
        groups = connected(groups[copied], count + numbers[copied], count + numbers.max() + 1)[groups]
    side = np.full(len(dataset), -1)
    if holdout is not None:
        held = dataset.rows(holdout)
        if not held.any() or held.all():
            which = "no" if not held.any() else "every"
            raise InputError(f"holdout: {which} image matches {dict(holdout)}; some must, and some must not")
        side[np.isin(groups, groups[held])] = SPLITS.index("test")
    free = side < 0
    if free.any():
        side[free] = _assign(groups[free], _strata(dataset)[free], shares, seed)
    for index, name in enumerate(SPLITS):
        if shares[index] > 0 and not (side[free] == index).any():
            beside = "" if holdout is None else " beside the held-out images"
            units = f"{len(np.unique(groups[free]))} {'images' if by == 'image' else 'patients'}"
            raise InputError(
                f"split: {name} would be empty{beside}; {units} are too few for fractions {tuple(fractions)}"
            )
    return _table(dataset, np.array(SPLITS)[side], by)


def with_fewer(
    table: pd.DataFrame, dataset: Dataset, images: int, *, seed: int = 0, by: str = "patient"
) -> pd.DataFrame:
    """A split with at most `images` training images, whole patients and each class in its share; the rest is unused.

    A larger number keeps all that a smaller one does, as the points of a learning curve should.
    """
    train = np.flatnonzero(table["split"] == "train")
    if images > len(train):
        raise InputError(f"train_images: {images} given, the training split has {count(len(train), 'image')}")
    labels = dataset.table["label"].astype(str)
    strata = (
        labels.str.cat(dataset.table["source"].fillna("").astype(str), "\0") if "source" in dataset.table else labels
    )
    _, groups = np.unique(_groups(dataset, by)[train], return_inverse=True)
    shuffled = np.random.default_rng(seed).permutation(groups.max() + 1)[groups]
    # Each image's rank in its class and source, from 0 to 1; a patient has the rank of the first of its images.
    drawn = pd.DataFrame({"group": shuffled, "stratum": strata.to_numpy()[train]}).sort_values("group")
    drawn["rank"] = drawn.groupby("stratum").cumcount() / drawn.groupby("stratum")["group"].transform("size")
    patients = (
        drawn.groupby("group").agg(rank=("rank", "min"), size=("rank", "size")).sort_values("rank", kind="stable")
    )
    chosen = patients.index[patients["size"].cumsum() <= images]
    sides = table["split"].to_numpy(copy=True)
    sides[train[~np.isin(shuffled, chosen)]] = UNUSED
    return table.assign(split=sides)


def unknown_patients(dataset: Dataset) -> int:
    """Images whose patient is not known; all of them where the table has no patients."""
    return int(_unknown(dataset).sum())


def save_split(table: pd.DataFrame, path: str | Path) -> Path:
    """Write a split as CSV (`COLUMNS`), whole or not at all."""
    return save_table(table[[name for name in COLUMNS if name in table]], path)


def read_split(path: str | Path, dataset: Dataset, *, by: str = "patient") -> pd.DataFrame:
    """Read a split and check it against the data it is to be used on.

    Parameters
    ----------
    path : str or Path
        CSV with columns ``path`` (as in ``dataset.table``, or absolute) and ``split`` (train, validation or test).
        Rows about images that the data set does not have (say, after a filter) are passed over, and images that are
        ``unused`` stand on no side.
    dataset : Dataset
        Every image of it must stand in the file.
    by : {"patient", "patient_where_known", "image"}
        With ``"image"`` a patient may stand on two sides.

    Returns
    -------
    pandas.DataFrame
        As `split` returns it, in the order of ``dataset.table``.

    Raises
    ------
    InputError
        If the file is not such a table, an image is missing or is listed twice, or a patient or the copies of an image
        stand on two sides.
    """
    table = read_text(path, "a CSV table")
    if not {"path", "split"} <= set(table.columns):
        raise InputError(f"{path}: columns path and split expected, found {', '.join(table.columns)}")
    unknown = table.loc[~table["split"].isin([*SPLITS, UNUSED]), "split"]
    if len(unknown):
        raise InputError(f"{path}: split {unknown.iloc[0]!r} found, {', '.join(SPLITS)} expected")
    table["path"] = [listed_path(name, dataset.root) for name in table["path"]]
    twice = table["path"].duplicated()
    if twice.any():
        raise InputError(f"{path}: {table['path'][twice].iloc[0]} is listed twice")
    sides = dataset.table["path"].map(table.set_index("path")["split"])
    return given_split(dataset, sides, path, by=by)


def given_split(dataset: Dataset, sides: pd.Series, path: str | Path, *, by: str = "patient") -> pd.DataFrame:
    """A split from the side of each row of the data set, checked as `read_split` does; `path` is where it is from."""
    missing = dataset.table["path"][sides.isna()]
    if len(missing):
        raise InputError(
            f"{path}: {len(missing)} of the {len(dataset)} images of {dataset.name} have no split, the first "
            f"{missing.iloc[0]}; add a line for each, leave them out of the data (where, classes), or make a new split"
        )
    patients, copies = dataset.group if by != "image" else None, _copies(dataset)
    for group, what, way in (
        (patients, ("patient is", "patients are"), "give --split-by image (recipe key split_by: image)"),
        (copies, ("group of duplicates is", "groups of duplicates are"), "drop the copies"),
    ):
        counts = sides.groupby(group).nunique() if group is not None else pd.Series(dtype=int)
        straddling = counts[counts > 1]
        if len(straddling):
            raise InputError(
                f"{path}: {count(len(straddling), *what)} on two sides, the first {straddling.index[0]}; "
                f"make a new split, or {way}"
            )
    return _table(dataset, sides, by)


def split_of_folders(
    dataset: Dataset, folder: str | Path, fractions: tuple[float, float, float], *, seed: int, by: str
) -> pd.DataFrame:
    """The split that the folders train, val and test stand for; without val, some of train validates."""
    folders = dataset.table["published_split"]
    sides = folders.map(split_of_name)
    names = ", ".join(sorted(set(folders), key=lambda name: SPLITS.index(split_of_name(name))))
    if not sides.eq("train").any():
        raise InputError(f"{folder}: there is no folder train beside {names}; --split new makes another split")
    note = ""
    if sides.eq("validation").any():
        table = given_split(dataset, sides, str(folder), by=by)
    else:
        train, validation, _ = fractions
        held = {"published_split": sorted(set(folders[sides == "test"]))} if sides.eq("test").any() else None
        # train / (train + validation), so that the size of the given test folder plays no part
        table = split(dataset, (train, validation, 0.0), seed=seed, by=by, holdout=held)
        note = "; validation images are drawn from train"
    print(f"split: the folders {names} are used as they are{note} (--split new makes another)", file=sys.stderr)
    return table


def _table(dataset: Dataset, sides, by: str) -> pd.DataFrame:
    known = "image" if by == "image" else "patient"
    grouped = pd.Series(np.where(_unknown(dataset), ALONE, known), dtype="str")
    return pd.DataFrame({"path": dataset.table["path"], "split": sides, "grouped_by": grouped})


def _unknown(dataset: Dataset) -> np.ndarray:
    patients = dataset.group
    return np.ones(len(dataset), bool) if patients is None else patients.isna().to_numpy()


def _groups(dataset: Dataset, by: str) -> np.ndarray:
    """Number of the group of each row, int [N]."""
    if by not in BY:
        raise InputError(f"split_by: {by!r} given, one of {', '.join(BY)} expected")
    if by == "image":
        return np.arange(len(dataset))
    patients = dataset.group
    if patients is None:
        raise InputError(
            f"{dataset.name}: no patient column, so images of one patient could end up on both sides "
            "of the split; add a column patient, or accept that with --split-by image (recipe key split_by: image)"
        )
    unknown = _unknown(dataset)
    if unknown.any() and by == "patient":
        raise InputError(
            f"{dataset.name}: {int(unknown.sum())} of {len(dataset)} images have no patient; fill the "
            "column, or take each for a patient of its own with --split-by patient_where_known"
        )
    return numbered(patients)


def numbered(patients: pd.Series) -> np.ndarray:
    """Number of each row's patient, int [N]; a row without one has a number of its own."""
    groups = pd.factorize(patients)[0]
    unknown = groups < 0
    groups[unknown] = groups.max(initial=-1) + 1 + np.arange(unknown.sum())
    return groups


def connected(a: np.ndarray, b: np.ndarray, count: int) -> np.ndarray:
    """Component of each of `count` nodes, int [count], where a node of `a` is linked with that of `b`."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(a)), (a, b)), shape=(count, count))
    return connected_components(links, directed=False)[1]


def _copies(dataset: Dataset) -> pd.Series | None:
    """Column ``duplicate_group`` with None for images without a copy; None where there is no such column."""
    if "duplicate_group" not in dataset.table:
        return None
    copies = dataset.table["duplicate_group"]
    return copies.where(copies.notna() & (copies.astype(str).str.strip() != ""), None)


def _strata(dataset: Dataset) -> np.ndarray:
    """What each side should hold its share of: a label (or finding, or none of them), and less so within a source."""
    if dataset.task == "independent":
        present = dataset.targets == 1
        strata = np.column_stack([present, ~present.any(axis=1)]).astype(float)
    else:
        strata = pd.get_dummies(dataset.table["label"]).to_numpy(float)
    if "source" in dataset.table and dataset.table["source"].nunique(dropna=False) > 1:
        sources = pd.get_dummies(dataset.table["source"].fillna("").astype(str)).to_numpy(float)
        both = (strata[:, :, None] * sources[:, None]).reshape(len(strata), -1)
        strata = np.hstack([strata, 0.5 * both])
    return strata


def _assign(groups: np.ndarray, strata: np.ndarray, shares: np.ndarray, seed: int) -> np.ndarray:
    """Side of each row, int [N]: greedy, largest group first."""
    numbers, row_group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    counts = np.zeros((len(numbers), strata.shape[1]))
    np.add.at(counts, row_group, strata)
    total = counts.sum(axis=0)
    counts, scale = counts[:, total > 0], total[total > 0]
    # rarer labels weigh more than their size alone would give them, or the rare class would go where the common fits
    weights = 1.0 / scale
    order = np.random.default_rng(seed).permutation(len(numbers))
    order = order[np.argsort(-sizes[order], kind="stable")]
    open_sides = np.flatnonzero(shares > 0)
    target = shares[open_sides, None] * scale
    lack = target.copy()
    side = np.empty(len(numbers), int)
    for number in order:
        group = counts[number]
        # fall in the squared, share-relative lack over all strata if the group went there
        gain = ((2 * lack - group) * group * weights / shares[open_sides, None]).sum(axis=1)
        best = int(np.argmax(gain))
        lack[best] -= group
        side[number] = open_sides[best]
    return side[row_group]
