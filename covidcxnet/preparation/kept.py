"""A store that is kept for several evaluations: it grows by what it lacks and never loses a row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from covidcxnet.datasets.dataset import Dataset
from covidcxnet.preparation.build import about_of, prepare
from covidcxnet.preparation.outcome import Segmenter
from covidcxnet.preparation.reuse import OWN_COLUMNS, content_keys, reusable
from covidcxnet.preparation.store import Store
from covidcxnet.settings import InputSettings
from enhancement.errors import InputError


def keep(
    dataset: Dataset,
    settings: InputSettings,
    path: str | Path,
    *,
    segmenter: Segmenter | None = None,
    jobs: int | None = None,
    progress: bool = True,
) -> Store:
    """Like `prepare`, but what the store holds of other images stays there.

    Parameters
    ----------
    dataset, settings, segmenter, jobs, progress
        As in `prepare`.
    path : str or Path
        The store; made where there is none.

    Returns
    -------
    Store
        With the images of `dataset` among its rows, see `rows_in`. Its other columns may be those of an earlier call.

    Raises
    ------
    InputError
        If the store that stands there was made with other settings, another segmenter or of files under another
        folder: it is not written over.
    """
    path = Path(path)
    if not path.is_file():
        return prepare(dataset, settings, path, segmenter=segmenter, jobs=jobs, progress=progress)
    old = reusable(path, about_of(dataset, settings, segmenter, path))
    if old is None:
        raise InputError(
            f"store: {path} holds stacks of other input settings or another segmenter than these weights ask for; "
            "name another file (one store serves all weights with the same input)"
        )
    with old:
        if old.root.resolve() != dataset.root.resolve():
            raise InputError(
                f"store: {path} holds images under {old.root}, these are under {dataset.root}; name another file"
            )
        masks = dataset.table["mask"] if "mask" in dataset.table and segmenter is None else None
        if _holds(old, dataset, content_keys(dataset, masks, progress)):
            return Store(path)
        union = _union(old, dataset)
    return prepare(union, settings, path, segmenter=segmenter, jobs=jobs, progress=progress)


def rows_in(store: Store, dataset: Dataset) -> tuple[np.ndarray, pd.DataFrame, pd.DataFrame]:
    """Where the images of a data set stand in a store that may hold others too.

    Returns
    -------
    rows : np.ndarray
        Rows of the store, int64 [n], in the data set's order; images that could not be read are not among them.
    table : pd.DataFrame
        The data set's columns of these, and what the store found of each.
    rejected : pd.DataFrame
        The data set's columns of those that could not be read, and ``reason``.
    """
    own, out = store.table, store.rejected
    place = dict(zip(own["path"], range(len(own)), strict=True))
    kept = dataset.table["path"].isin(set(own["path"])).to_numpy()
    columns = [c for c in dataset.table if c not in (*OWN_COLUMNS, "reason")]
    rows = np.array([place[path] for path in dataset.table["path"][kept]], dtype=np.int64)
    table = dataset.table.loc[kept, columns].reset_index(drop=True)
    found = own[list(OWN_COLUMNS)].iloc[rows].reset_index(drop=True)
    reasons = dict(zip(out["path"], out["reason"], strict=True))
    rejected = dataset.table.loc[~kept, columns].reset_index(drop=True)
    rejected["reason"] = [reasons.get(path, "not prepared") for path in rejected["path"]]
    return rows, pd.concat([table, found], axis=1), rejected


def _holds(old: Store, dataset: Dataset, keys: list[str]) -> bool:
    """Whether every image of the data set is in the store as its file is now."""
    known: dict[str, str] = {}
    for table in (old.table, old.rejected):
        for path, sha, mask in zip(table["path"], table["sha256"], table["mask_sha256"], strict=True):
            known[path] = ("" if pd.isna(sha) else sha) + ("" if pd.isna(mask) else f":{mask}")
    return all(known.get(path) == key for path, key in zip(dataset.table["path"], keys, strict=True))


def _union(old: Store, dataset: Dataset) -> Dataset:
    """All images of both, old ones first; what the data set says of an image replaces what the store says."""
    before = pd.concat([old.table, old.rejected.drop(columns="reason")], ignore_index=True)
    before = before.drop(columns=list(OWN_COLUMNS))
    order = list(dict.fromkeys([*before["path"], *dataset.table["path"]]))
    rest = before[~before["path"].isin(set(dataset.table["path"]))]
    table = pd.concat([dataset.table, rest], ignore_index=True).set_index("path").reindex(order)
    classes = tuple(dict.fromkeys([*old.classes, *dataset.classes]))
    return Dataset(table.rename_axis("path").reset_index(), dataset.root, classes, old.name)
