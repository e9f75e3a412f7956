"""A store that is not finished yet, made so that a kill at any moment costs only what was not yet written down.

Two files beside the target: the HDF5 file and a journal. The HDF5 file gets all its space when it is created and is
then closed; filling it changes pixels only, never its structure, so it stays readable whatever happens. A row counts
once its line stands in the journal, which is written after the pixels. The finished file takes the target's name.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from covidcxnet.preparation.pipeline import Prepared
from covidcxnet.preparation.store import write_table
from covidcxnet.settings import InputSettings
from enhancement.errors import InputError
from enhancement.files import whole_file

ARRAYS = ("stacks", "lungs", "frames")


class PartialStore:
    """The unfinished store of `target`; `records` holds one dict for each radiograph dealt with, in order.

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
        target.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._resume() or self._create(capacity)
        self._journal = open(self._journal_path, "a", encoding="utf-8")  # noqa: SIM115
        self.rows = sum(r["error"] is None for r in self.records)

    def add(self, prepared: Prepared, record: dict[str, Any]) -> None:
        """The next radiograph, prepared."""
        lungs = prepared.lungs
        bits = np.packbits(np.zeros(self.settings.size**2, bool) if lungs is None else lungs.ravel())
        self._write((prepared.stack[None], bits[None], prepared.frame.to_array()[None]), [record])

    def copy(self, source: h5py.File, first: int, records: list[dict[str, Any]]) -> None:
        """Rows of another store, from row `first`, one a record."""
        self._write([source[name][first : first + len(records)] for name in ARRAYS], records)

    def note(self, records: list[dict[str, Any]]) -> None:
        """What was recorded of the next radiographs, whose rows are written; alone for one that has none."""
        self.records += records
        self._unsaved += records
        if len(self._unsaved) >= 32:
            self.save()

    def save(self) -> None:
        """Write down all that was added: from here on a kill cannot take it."""
        # Emptied first: a Ctrl-C in between may lose lines at the journal's end, but never writes one twice.
        lines, self._unsaved = "".join(json.dumps(record) + "\n" for record in self._unsaved), []
        self._file.flush()
        self._journal.write(lines)
        self._journal.flush()

    def finish(self, about: dict[str, Any], table: pd.DataFrame, rejected: pd.DataFrame) -> None:
        """Add tables and attributes, and give the file its name."""
        self.save()
        file = self._file
        try:
            for name in ARRAYS:
                file[name].resize(self.rows, axis=0)
            for name, frame in (("table", table), ("rejected", rejected)):
                write_table(file.create_group(name), frame)
            file.attrs["covidcxnet"] = json.dumps({**about, "rows": self.rows})
        except BaseException:
            for name in {"table", "rejected"} & set(file):  # back to a store that is unfinished, not broken
                del file[name]
            raise
        self.close()
        with open(self.path, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(self.path, self.target)
        self.discard()

    def discard(self) -> None:
        """Give up, and leave nothing."""
        self.close()
        for path in (self.path, self._journal_path):
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Save and let go; the files stay for the next run."""
        if self._file:  # false once it is closed
            self.save()
            self._file.close()
        self._journal.close()

    def _write(self, arrays: Sequence[np.ndarray], records) -> None:
        stop = self.rows + len(records)
        for name, values in zip(ARRAYS, arrays, strict=True):
            self._file[name][self.rows : stop] = values
        self.rows = stop
        self.note(records)

    def _resume(self) -> h5py.File | None:
        """Take up what a run with the same plan left."""
        try:
            # What follows the last line end was cut off by a kill.
            lines = self._journal_path.read_text(encoding="utf-8").split("\n")[:-1]
            plan, *records = map(json.loads, lines)
            file = _open_locked(self.path)
        except InputError:
            raise
        except (OSError, ValueError):
            return None
        # With a table it was killed while finishing, the one moment at which the file's structure changes.
        if plan != self._plan or "table" in file:
            file.close()
            return None
        self.records = records
        with whole_file(self._journal_path) as temporary:  # a line that a kill cut off must not be written on
            temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return file

    def _create(self, capacity: int) -> h5py.File:
        size, channels = self.settings.size, len(self.settings.channels)
        shapes = {"stacks": (size, size, channels), "lungs": ((size * size + 7) // 8,), "frames": (11,)}
        types = {"stacks": np.uint8, "lungs": np.uint8, "frames": np.int32}
        need = capacity * sum(int(np.prod(shapes[n])) * np.dtype(types[n]).itemsize for n in ARRAYS)
        free = shutil.disk_usage(self.target.parent).free
        if need > free:
            raise InputError(f"{self.target}: needs {need / 1e9:.1f} GB, {free / 1e9:.1f} GB are free on that disk")
        if self.path.exists():
            with contextlib.suppress(OSError):  # whatever it is, it makes way, unless another process writes to it
                _open_locked(self.path).close()
        # The journal goes first: it must never vouch for pixels that are not there.
        self._journal_path.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
        with h5py.File(self.path, "w") as file:
            for name in ARRAYS:
                # h5py's own `create_dataset` leaves chunks to be placed when first written, which rewrites the file's
                # index: here all have their place from the start, one a row, not filled in.
                chunks = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
                chunks.set_chunk((1, *shapes[name]))
                chunks.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
                chunks.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
                shape = (capacity, *shapes[name])
                kind = h5py.h5t.py_create(np.dtype(types[name]))
                h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple(shape, shape), chunks)
        self._journal_path.write_text(json.dumps(self._plan) + "\n", encoding="utf-8")
        return _open_locked(self.path)


def _open_locked(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r+")
    except BlockingIOError as error:
        raise InputError(f"{path}: another process is preparing this store; wait for it or stop it") from error
