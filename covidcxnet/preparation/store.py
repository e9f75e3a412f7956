"""A store: one HDF5 file of model-ready stacks with all that is known about each, read and written bit by bit."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from covidcxnet.datasets.bias import COUNT, shortcuts
from covidcxnet.datasets.dataset import Dataset
from covidcxnet.preparation.pipeline import Prepared
from covidcxnet.settings import InputSettings
from enhancement.errors import InputError
from enhancement.files import naming_full_disk, whole_file
from enhancement.lock import locked
from segmentation.regions import Frame

FORMAT = 1
_DEEP = int(pd.__version__.split(".")[0]) < 3  # from then on, pandas copies values when one of both tables changes
ARRAYS = ("stacks", "lungs", "frames")
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

    A store that a cluster made (see `join`) has its arrays in shards, files in a folder beside it, and virtual data
    sets in their place. HDF5 fills the rows of a shard that it cannot open with zeros and says nothing, so rows are
    read from the shards themselves here.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._file: h5py.File | None = None
        self._open_shards: dict[int, h5py.File] = {}
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
            raise InputError(f"{path}: is not a store of prepared radiographs, or a damaged one") from error
        if version != FORMAT:
            self.close()
            raise InputError(f"{path}: store format {version} found, {FORMAT} expected; prepare it again")
        shards = self._about.get("shards", {"plan": "", "rows": []})
        self._shards = shard_paths(self.path, shards["plan"], len(shards["rows"]))
        self._starts = np.concatenate([[0], np.cumsum(shards["rows"], dtype=np.int64)])
        for shard in self._shards:
            if not shard.is_file():
                self.close()
                raise InputError(
                    f"{shard}: missing; the store {self.path.name} needs all files of the folder {shard.parent.name} "
                    "beside it. Copy it there, or prepare again"
                )

    @property
    def stacks(self) -> h5py.Dataset:
        """All stacks, uint8 [N, S, S, C], for their shape and type; rows are read by `read`."""
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
        return self.take("stacks", self._rows(indices))

    def take(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Rows of one of `ARRAYS`, as they are in the file."""
        array = self._open()[name]
        out = np.empty((len(rows), *array.shape[1:]), array.dtype)
        # Runs of neighbours go as one slice, the rest row by row: a list index is a hundred times slower.
        starts = np.flatnonzero((np.diff(rows, prepend=-2) != 1) | np.isin(rows, self._starts))
        for start, stop in zip(starts, np.append(starts[1:], len(rows)), strict=len(rows) > 0):
            first = int(rows[start])
            if self._shards:
                shard = int(np.searchsorted(self._starts, first, side="right")) - 1
                array, first = self._shard(shard)[name], first - int(self._starts[shard])
            array.read_direct(out, np.s_[first : first + stop - start], np.s_[start:stop])
        return out

    def lungs(self, indices) -> np.ndarray:
        """Lung masks in the stacks' frame: bool [S, S] for an integer, else [n, S, S]; all False where unknown."""
        if isinstance(indices, int | np.integer):
            return self.lungs([indices])[0]
        size = self.settings.size
        bits = [np.unpackbits(packed, count=size * size) for packed in self.take("lungs", self._rows(indices))]
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
        return Frame.from_array(self.take("frames", self._rows([index]))[0])

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        if self._process == os.getpid():
            for file in (*self._open_shards.values(), *([self._file] if self._file else [])):
                file.close()
        self._file, self._open_shards = None, {}

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def __repr__(self) -> str:
        shape = (len(self), self.settings.size, self.settings.size, len(self.settings.channels))
        return f"Store({str(self.path)!r}, {shape}, rejected {len(self.rejected)})"

    def __getstate__(self):
        # An open HDF5 file cannot be pickled; the other process opens its own.
        return {**self.__dict__, "_file": None, "_open_shards": {}}

    def _open(self) -> h5py.File:
        # HDF5's state does not survive a fork: a child that used its parent's handle would read garbage.
        if self._file is None or self._process != os.getpid():
            self._file, self._process = h5py.File(self.path, "r"), os.getpid()
            self._open_shards = {}
        return self._file

    def _shard(self, number: int) -> h5py.File:
        if number not in self._open_shards:
            if len(self._open_shards) >= _most_open():
                self._open_shards.pop(next(iter(self._open_shards))).close()
            path, rows = self._shards[number], int(np.diff(self._starts)[number])
            try:
                file = h5py.File(path, "r")
                whole = all(len(file[name]) == rows for name in ARRAYS)
            except (OSError, KeyError) as error:
                raise InputError(f"{path}: this shard of {self.path.name} cannot be read; prepare again") from error
            if not whole:
                file.close()
                raise InputError(f"{path}: is not the shard that {self.path.name} was joined from; prepare again")
            self._open_shards[number] = file
        return self._open_shards[number]

    def _read_table(self, name: str) -> pd.DataFrame:
        if name not in self._tables:
            group, columns = self._open()[name], {}
            for column in json.loads(group.attrs["columns"]):
                data = group[column]
                if h5py.check_string_dtype(data.dtype):
                    # HDF5 strings know no missing value: an empty one stands for it.
                    # One object for equal texts: a source's name is not in memory once for each image.
                    texts: dict[str, str | None] = {"": None}
                    columns[column] = pd.Series([texts.setdefault(t, t) for t in data.asstr()[:]], dtype="str")
                elif data.attrs.get("kind") == "boolean":
                    flags = data[:]
                    columns[column] = pd.Series(pd.array(flags == 1, dtype="boolean")).mask(flags < 0)
                else:
                    columns[column] = data[:]
            self._tables[name] = pd.DataFrame(columns, index=range(int(group.attrs["rows"])))
        return self._tables[name].copy(deep=_DEEP)  # the caller's to change

    def _rows(self, indices) -> np.ndarray:
        n = len(self)
        rows = np.arange(n)[indices] if isinstance(indices, slice) else np.asarray(indices, np.int64).reshape(-1)
        rows = np.where(rows < 0, rows + n, rows)
        if rows.size and (rows.min() < 0 or rows.max() >= n):
            raise IndexError(f"{self.path}: row out of range; there are {n}")
        return rows


class PartialStore:
    """The unfinished store of `target`; `records` holds one dict for each radiograph dealt with, in order.

    A kill at any moment costs only what was not yet written down. Two files lie beside the target: the HDF5 file, which
    gets all its space when it is created, so that filling it changes pixels only, never its structure; and a journal. A
    row counts once its line stands in the journal, which is written after the pixels.

    `plan` says what is made (settings, segmenter, keys of all radiographs): a run with an equal plan continues what is
    left, any other begins anew. `capacity` is the number of radiographs if none is rejected. `InputError` if another
    process is at work on the same target, or the disk has not enough room.
    """

    def __init__(self, target: Path, plan: dict[str, Any], settings: InputSettings, capacity: int):
        self.target, self.settings, self._plan = target, settings, plan
        self.path = target.with_name(f".{target.name}.partial.h5")
        self._journal_path = target.with_name(f".{target.name}.partial.jsonl")
        self.records: list[dict[str, Any]] = []
        self._unsaved: list[dict[str, Any]] = []
        self._waiting: list[tuple[np.ndarray, ...]] = []  # rows that are written together: one by one takes 1 ms each
        target.parent.mkdir(parents=True, exist_ok=True)
        self._lock = ExitStack()
        lock = target.with_name(f".{target.name}.lock")
        self._lock.enter_context(locked(lock, f"is preparing {target.name}", target=target))
        try:
            self._file = self._resume() or self._create(capacity)
        except BaseException:
            self._lock.close()
            raise
        self._journal = open(self._journal_path, "a", encoding="utf-8")  # noqa: SIM115
        self.rows = sum(r["error"] is None for r in self.records)

    def add(self, prepared: Prepared, record: dict[str, Any]) -> None:
        """The next radiograph, prepared."""
        lungs = prepared.lungs
        bits = np.packbits(np.zeros(self.settings.size**2, bool) if lungs is None else lungs.ravel())
        self._waiting.append((prepared.stack, bits, prepared.frame.to_array()))
        self.note([record])

    def copy(self, source: Store, first: int, records: list[dict[str, Any]]) -> None:
        """Rows of another store, from row `first`, one a record."""
        self._write_waiting()
        self._write([source.take(name, np.arange(first, first + len(records))) for name in ARRAYS])
        self.note(records)

    def note(self, records: list[dict[str, Any]]) -> None:
        """What was recorded of the next radiographs, whose rows are given; alone for one that has none."""
        self.records += records
        self._unsaved += records
        if len(self._unsaved) >= 32:
            self.save()

    def save(self) -> None:
        """Write down all that was added: from here on a kill cannot take it."""
        self._write_waiting()
        # Emptied first: a Ctrl-C in between may lose lines at the journal's end, but never writes one twice.
        lines, self._unsaved = "".join(json.dumps(record) + "\n" for record in self._unsaved), []
        self._file.flush()
        with naming_full_disk(self._journal_path):
            self._journal.write(lines)
            self._journal.flush()

    def finish(self, about: dict[str, Any], tables: Mapping[str, pd.DataFrame]) -> None:
        """Add tables and attributes, and give the file its name."""
        self.save()
        file = self._file
        # HDF5 crashes where it cannot write; the pixels have their room since `_create`.
        check_room(self.target, _size_of(tables))
        try:
            for name in ARRAYS:
                file[name].resize(self.rows, axis=0)
            _write_tables(file, {**about, "rows": self.rows}, tables)
        except BaseException:
            for name in set(file) - set(ARRAYS):  # back to a store that is unfinished, not broken
                del file[name]
            raise
        self._close()
        with open(self.path, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(self.path, self.target)
        self.discard()

    def discard(self) -> None:
        """Give up, and leave nothing."""
        self._close()
        for path in (self.path, self._journal_path):
            path.unlink(missing_ok=True)
        self._lock.close()

    def close(self) -> None:
        """Save and let go; the files stay for the next run."""
        self._close()
        self._lock.close()

    def _close(self) -> None:
        if self._file:  # false once it is closed
            self.save()
            self._file.close()
        self._journal.close()

    def _write_waiting(self) -> None:
        if self._waiting:
            self._write([np.stack(values) for values in zip(*self._waiting, strict=True)])

    def _write(self, arrays: Sequence[np.ndarray]) -> None:
        stop = self.rows + len(arrays[0])
        for name, values in zip(ARRAYS, arrays, strict=True):
            self._file[name][self.rows : stop] = values
        self.rows, self._waiting = stop, []  # together: after a Ctrl-C before it, the same rows are written again

    def _resume(self) -> h5py.File | None:
        """Take up what a run with the same plan left."""
        try:
            # What follows the last line end was cut off by a kill.
            lines = self._journal_path.read_text(encoding="utf-8").split("\n")[:-1]
            plan, *records = map(json.loads, lines)
            file = h5py.File(self.path, "r+")
        except (OSError, ValueError):
            return None
        # With a table it was killed while finishing, the one moment at which the file's structure changes.
        if plan != self._plan or set(file) - set(ARRAYS):
            file.close()
            return None
        self.records = records
        with whole_file(self._journal_path) as temporary:  # a line that a kill cut off must not be written on
            temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return file

    def _create(self, capacity: int) -> h5py.File:
        rows = _rows_of(self.settings)
        check_room(self.target, capacity * bytes_a_row(self.settings))
        # The journal goes first: it must never vouch for pixels that are not there.
        self._journal_path.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
        with h5py.File(self.path, "w") as file:
            for name, (row, dtype) in rows.items():
                # h5py's own `create_dataset` leaves chunks to be placed when first written, which rewrites the file's
                # index: here all have their place from the start, one a row, not filled in.
                chunks = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
                chunks.set_chunk((1, *row))
                chunks.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
                chunks.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
                shape = (capacity, *row)
                kind = h5py.h5t.py_create(dtype)
                h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple(shape, shape), chunks)
        if hasattr(os, "posix_fallocate"):
            # Until here the file's places are empty; HDF5 crashes where the disk is full when it comes to fill them.
            with naming_full_disk(self.target), open(self.path, "rb+") as file:
                os.posix_fallocate(file.fileno(), 0, self.path.stat().st_size)
        with naming_full_disk(self._journal_path):
            self._journal_path.write_text(json.dumps(self._plan) + "\n", encoding="utf-8")
        return h5py.File(self.path, "r+")


def shard_paths(path: Path, plan: str, count: int) -> list[Path]:
    """Files of a sharded store, in a folder beside it; a plan has files of its own, which are never changed."""
    return [path.with_name(f"{path.name}.shards") / f"{plan}-{k:05d}.h5" for k in range(count)]


def shard_records(path: Path) -> list[dict[str, Any]] | None:
    """The records of a finished shard; None where it is not there or damaged."""
    try:
        with h5py.File(path, "r") as file:
            return [json.loads(line) for line in file["records"]["json"].asstr()]
    except (OSError, KeyError, ValueError):
        return None


def finish_shard(partial: PartialStore) -> None:
    """Keep the records in the shard: what it has instead of the tables of a store."""
    partial.finish({}, {"records": pd.DataFrame({"json": [json.dumps(record) for record in partial.records]})})


def join(
    path: Path,
    settings: InputSettings,
    about: dict[str, Any],
    tables: Mapping[str, pd.DataFrame],
    plan: str,
    rows: Sequence[int],
) -> None:
    """Write a store whose arrays are virtual data sets over the shards of a plan, of so many rows each.

    Shards have relative paths: store and folder can be moved together. Shards of other plans are removed.
    """
    shards = shard_paths(path, plan, len(rows))
    check_room(path, _size_of(tables))
    with whole_file(path) as temporary, h5py.File(temporary, "w") as file:
        for name, (row, dtype) in _rows_of(settings).items():
            layout = h5py.VirtualLayout((sum(rows), *row), dtype)
            first = 0
            for shard, count in zip(shards, rows, strict=True):
                if count:
                    relative = f"{shard.parent.name}/{shard.name}"
                    layout[first : first + count] = h5py.VirtualSource(relative, name, (count, *row), dtype)
                first += count
            file.create_virtual_dataset(name, layout)
        shared = {"shards": {"plan": plan, "rows": list(rows)}, "rows": sum(rows)}
        _write_tables(file, {**about, **shared}, tables)
    remove_shards(path, keep=shards)


def remove_shards(path: Path, keep: Sequence[Path] = ()) -> None:
    """Remove the shards of a store, finished or not, but for those to keep; the folder too once it is empty."""
    folder = path.with_name(f"{path.name}.shards")
    if not folder.is_dir():
        return
    for file in {*folder.glob("*.h5"), *folder.glob(".*.partial.*")} - set(keep):
        file.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


@cache
def _most_open() -> int:
    """Shards to keep open: to open one takes as long as reading fifty rows, but a system allows so many files only."""
    try:
        import resource
    except ImportError:  # Windows
        return 256
    return min(512, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)


def bytes_a_row(settings: InputSettings) -> int:
    """Bytes of a prepared radiograph in a store."""
    return sum(int(np.prod(row)) * dtype.itemsize for row, dtype in _rows_of(settings).values())


def _rows_of(settings: InputSettings) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Shape and type of a row of each of `ARRAYS`."""
    size, channels = settings.size, len(settings.channels)
    byte = np.dtype(np.uint8)
    lungs = ((size * size + 7) // 8,)
    return {"stacks": ((size, size, channels), byte), "lungs": (lungs, byte), "frames": ((11,), np.dtype(np.int32))}


def _size_of(tables: Mapping[str, pd.DataFrame]) -> int:
    return sum(int(table.memory_usage(deep=True).sum()) for table in tables.values()) + (1 << 20)


def check_room(path: Path, need: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if need > free:
        raise InputError(f"{path}: needs {need / 1e9:.1f} GB, {free / 1e9:.1f} GB are free on that disk")


def stack_statistics(stacks: np.ndarray, channels: Sequence[str]) -> np.ndarray:
    """Border, grey levels, sharpness and corners of stacks ``uint8 [n, S, S, C]``, as a network gets them.

    Of the plane of the radiograph itself ("raw"), or else the first; float32 [n, COUNT], in the order of
    `covidcxnet.datasets.bias.FEATURES`.
    """
    plane = channels.index("raw") if "raw" in channels else 0
    planes = (np.ascontiguousarray(stack[..., plane]) for stack in stacks)
    return np.array([shortcuts(plane) for plane in planes], np.float32).reshape(len(stacks), COUNT)


def columns_of(table: pd.DataFrame) -> list[str]:
    """A data set's columns that a store takes over: all but those that preparation writes itself."""
    return [str(column) for column in table if column not in (*COLUMNS, "reason")]


def _write_tables(file: h5py.File, about: dict[str, Any], tables: Mapping[str, pd.DataFrame]) -> None:
    for name, table in tables.items():
        _write_table(file.create_group(name), table)
    file.attrs["covidcxnet"] = json.dumps(about)


def _write_table(group: h5py.Group, table: pd.DataFrame) -> None:
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
