"""A store: one HDF5 file of model-ready stacks with all that is known about each, read without loading it whole."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from tqdm import tqdm

from covidcxnet.datasets.bias import COUNT, shortcuts
from covidcxnet.datasets.dataset import Dataset
from covidcxnet.settings import InputSettings
from enhancement.errors import InputError
from segmentation.regions import Frame

FORMAT = 1
# Columns that preparation adds to those of the data set.
COLUMNS = ("sha256", "mask_sha256", "height", "width", "lungs_trusted", "lungs_reasons", "lungs_area")


class Store:
    """Read-only view of the HDF5 file `path` that `prepare` made; `InputError` where there is none.

    Row i of everything here is the same radiograph. The file is opened on first use, anew in every process, so a store
    can be pickled, sent to workers and used after a fork. Use it as a context manager, or `close` it.

    Notes
    -----
    In the file: ``stacks`` uint8 [N, S, S, C], one chunk an image, not compressed (a shuffled read of compressed chunks
    is ten times slower); ``lungs`` uint8 [N, ceil(S * S / 8)], packed bits; ``frames`` int32 [N, 11]; groups ``table``
    and ``rejected``, one array a column; everything else as JSON in the attribute ``covidcxnet``.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._file: h5py.File | None = None
        self._process = 0
        self._tables: dict[str, pd.DataFrame] = {}
        if not self.path.is_file():
            raise InputError(f"{path}: no such store; make one with prepare")
        try:
            self._about = json.loads(self._open().attrs["covidcxnet"])
            self.settings = InputSettings.from_dict(self._about["settings"])
            version = self._about["format"]
        except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
            self.close()
            raise InputError(f"{path}: is not a store of prepared radiographs ({error})") from error
        if version != FORMAT:
            self.close()
            raise InputError(f"{path}: store format {version} found, {FORMAT} expected; prepare it again")

    @property
    def stacks(self) -> h5py.Dataset:
        """All stacks, uint8 [N, S, S, C]; index it with an integer or a slice, never with a list (`read` does that)."""
        return self._open()["stacks"]

    @property
    def table(self) -> pd.DataFrame:
        """One row a stack: the data set's columns, then `COLUMNS`.

        ``lungs_trusted`` is missing where lungs were not looked for; ``lungs_area`` is a share of the radiograph.
        """
        return self._read_table("table")

    @property
    def rejected(self) -> pd.DataFrame:
        """Files that could not be prepared: the data set's columns, ``sha256`` and ``reason``."""
        return self._read_table("rejected")

    @property
    def classes(self) -> tuple[str, ...]:
        """Labels in the order of the model's outputs."""
        return tuple(self._about["classes"])

    @property
    def targets(self) -> np.ndarray:
        """Index into `classes`, int64 [N]."""
        return pd.Index(self.classes).get_indexer(pd.Index(self.table["label"])).astype(np.int64)

    @property
    def root(self) -> Path:
        """Folder of the data set that the table's paths are relative to."""
        return Path(os.path.normpath(self.path.absolute().parent / self._about["root"]))

    @property
    def name(self) -> str:
        """Name of the data set."""
        return self._about["name"]

    @property
    def segmenter(self) -> dict[str, str]:
        """``name`` and ``sha256`` of the lung segmenter; empty where there was none."""
        return dict(self._about["segmenter"])

    @property
    def about(self) -> dict[str, Any]:
        """Everything in the file's attribute."""
        return json.loads(json.dumps(self._about))

    def __len__(self) -> int:
        return int(self._about["rows"])

    def read(self, indices) -> np.ndarray:
        """Stacks of rows (integers or a slice; negative ones count from the end) in the order given: [n, S, S, C]."""
        rows = self._rows(indices)
        stacks = self.stacks
        out = np.empty((len(rows), *stacks.shape[1:]), np.uint8)
        # Runs of neighbours go as one slice, the rest row by row: a list index is a hundred times slower.
        starts = np.flatnonzero(np.diff(rows, prepend=-2) != 1)
        for start, stop in zip(starts, np.append(starts[1:], len(rows)), strict=len(rows) > 0):
            stacks.read_direct(out, np.s_[rows[start] : rows[start] + stop - start], np.s_[start:stop])
        return out

    def lungs(self, indices) -> np.ndarray:
        """Lung masks in the stacks' frame: bool [S, S] for an integer, else [n, S, S]; all False where unknown."""
        if isinstance(indices, int | np.integer):
            return self.lungs([indices])[0]
        size, packed = self.settings.size, self._open()["lungs"]
        bits = [np.unpackbits(packed[row], count=size * size) for row in self._rows(indices)]
        return np.array(bits, bool).reshape(-1, size, size)

    def select(self, dataset: Dataset) -> tuple[np.ndarray, pd.DataFrame, pd.DataFrame]:
        """Where the images of a data set stand in this store, which may hold others too: rows, table, rejected.

        Rows (int64 [n]) and their table (the data set's columns, and what preparation found) are in the data set's
        order and without the images that could not be read; those are in the last table, each with its ``reason``.
        """
        wanted = dataset.table[columns_of(dataset.table)]
        position = dict(zip(self.table["path"], range(len(self)), strict=True))
        present = wanted["path"].isin(position).to_numpy()
        rows = np.array([position[path] for path in wanted["path"][present]], dtype=np.int64)
        results = self.table[list(COLUMNS)].iloc[rows].reset_index(drop=True)
        table = pd.concat([wanted[present].reset_index(drop=True), results], axis=1)
        reasons = dict(zip(self.rejected["path"], self.rejected["reason"], strict=True))
        rejected = wanted[~present].reset_index(drop=True)
        rejected["reason"] = [reasons.get(path, "not prepared") for path in rejected["path"]]
        return rows, table, rejected

    def frame(self, index: int) -> Frame:
        """Where stack `index` lies on its radiograph."""
        return Frame.from_array(self._open()["frames"][self._rows([index])[0]])

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        if self._file is not None and self._process == os.getpid():
            self._file.close()
        self._file = None

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def __repr__(self) -> str:
        shape = (len(self), self.settings.size, self.settings.size, len(self.settings.channels))
        return f"Store({str(self.path)!r}, {shape}, rejected {len(self.rejected)})"

    def __getstate__(self):
        # An open HDF5 file cannot be pickled; the other process opens its own.
        return {**self.__dict__, "_file": None}

    def _open(self) -> h5py.File:
        # HDF5's state does not survive a fork: a child that used its parent's handle would read garbage.
        if self._file is None or self._process != os.getpid():
            self._file, self._process = h5py.File(self.path, "r"), os.getpid()
        return self._file

    def _read_table(self, name: str) -> pd.DataFrame:
        if name not in self._tables:
            self._tables[name] = read_table(self._open()[name])
        return self._tables[name].copy()  # the caller's to change

    def _rows(self, indices) -> np.ndarray:
        n = len(self)
        rows = np.arange(n)[indices] if isinstance(indices, slice) else np.asarray(indices, np.int64).reshape(-1)
        rows = np.where(rows < 0, rows + n, rows)
        if rows.size and (rows.min() < 0 or rows.max() >= n):
            raise IndexError(f"{self.path}: row out of range; there are {n}")
        return rows


def stack_statistics(store: Store, rows: np.ndarray, progress: bool = False) -> np.ndarray:
    """Border, grey levels, sharpness and corners of stacks as a network gets them, after crop and resizing.

    Of the plane of the radiograph itself ("raw"), or else the first; float32 [n, COUNT], in the order of
    `covidcxnet.datasets.bias.FEATURES`.
    """
    channels = store.settings.channels
    plane = channels.index("raw") if "raw" in channels else 0
    statistics = np.zeros((len(rows), COUNT), np.float32)
    for i in tqdm(range(len(rows)), "measuring inputs", unit="image", leave=False, disable=not progress):
        statistics[i] = shortcuts(np.ascontiguousarray(store.read([rows[i]])[0, ..., plane]))
    return statistics


def columns_of(table: pd.DataFrame) -> list[str]:
    """A data set's columns that a store takes over: all but those that preparation writes itself."""
    return [str(column) for column in table if column not in (*COLUMNS, "reason")]


def write_table(group: h5py.Group, table: pd.DataFrame) -> None:
    """One array a column: numbers and truth values as they are, everything else as text ("" where missing)."""
    group.attrs["columns"] = json.dumps([str(c) for c in table.columns])
    group.attrs["rows"] = len(table)
    for column in table.columns:
        values = table[column]
        nullable = isinstance(values.dtype, pd.api.extensions.ExtensionDtype)
        if pd.api.types.is_numeric_dtype(values) and not nullable:  # bool is numeric too
            group.create_dataset(str(column), data=values.to_numpy())
        elif str(values.dtype) == "boolean":
            flags = values.astype("Int8").fillna(-1).to_numpy(np.int8)
            group.create_dataset(str(column), data=flags).attrs["kind"] = "boolean"
        else:
            text = ["" if pd.isna(v) else str(v) for v in values]
            group.create_dataset(str(column), data=text, dtype=h5py.string_dtype())


def read_table(group: h5py.Group) -> pd.DataFrame:
    columns: dict[str, Any] = {}
    for name in json.loads(group.attrs["columns"]):
        data = group[name]
        if h5py.check_string_dtype(data.dtype):
            text = data.asstr()[:]
            # HDF5 strings know no missing value: an empty one stands for it.
            columns[name] = pd.Series([t or None for t in text], dtype="str")
        elif data.attrs.get("kind") == "boolean":
            flags = data[:]
            columns[name] = pd.Series(pd.array(flags == 1, dtype="boolean")).mask(flags < 0)
        else:
            columns[name] = data[:]
    return pd.DataFrame(columns, index=range(int(group.attrs["rows"])))
