"""Reading a store: any rows, any process, nothing held in memory."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest

from covidcxnet.datasets.bias import shortcuts
from covidcxnet.preparation import Store, stack_statistics
from enhancement import InputError


def test_rows_come_in_the_order_asked_for(store):
    every = store.stacks[:]
    assert every.shape == (12, 32, 32, 3) and every.dtype == np.uint8
    for rows in ([3, 1, 1, 11], [4, 5, 6, 2, 3], [], [-1], slice(2, 9), np.array([7])):
        np.testing.assert_array_equal(store.read(rows), every[np.arange(12)[rows] if len(np.r_[rows]) else []])
    with pytest.raises(IndexError):
        store.read([12])
    with pytest.raises(IndexError):
        store.read([-13])


def test_lungs_and_frames_are_row_aligned(store):
    assert store.lungs(3).shape == (32, 32) and store.lungs(3).dtype == bool and store.lungs(3).any()
    assert store.lungs([1, 2]).shape == (2, 32, 32) and store.lungs(slice(0, 5)).shape == (5, 32, 32)
    assert (store.frame(3).height, store.frame(3).width, store.frame(3).size) == (60, 80, 32)


def test_the_table_keeps_every_column_and_its_kind(store):
    table = store.table
    assert list(table["path"]) == [f"{i:02d}.png" for i in range(12)] and list(table["age"]) == list(range(40, 52))
    assert list(table["patient"]) == [f"p{i // 2}" for i in range(12)]
    assert table["lungs_trusted"].all() and str(table["lungs_trusted"].dtype) == "boolean"
    assert table["sha256"].str.len().eq(64).all() and (table["height"] == 60).all() and (table["width"] == 80).all()
    assert store.classes == ("normal", "flu") and store.root == store.path.parent / "data" and store.name == "small"
    assert list(store.targets) == [0, 1] * 6
    assert store.segmenter == {"name": "fake", "sha256": "f" * 64} and len(store.rejected) == 0


def test_a_store_can_be_pickled_and_opens_again_after_it_was_closed(store):
    again = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(again.read([3, 1]), store.read([3, 1]))
    again.close()
    assert again.read([0]).shape == (1, 32, 32, 3)
    again.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_opens_the_store_for_itself(store):
    code = (
        "import os, sys, hashlib; from covidcxnet.preparation import Store;"
        f"store = Store({str(store.path)!r}); sums = [int(store.read([i]).sum()) for i in range(12)];"
        "handle = store.stacks.id.id; child = os.fork();"
        "same = [int(store.read([i]).sum()) for i in reversed(range(12))] == sums[::-1];"
        "own = store._process == os.getpid();"
        "os._exit(0 if same and own else 1) if child == 0 else None;"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) or int(not same))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_what_is_no_store_or_of_a_later_format_is_refused(store, tmp_path):
    with pytest.raises(InputError, match="no such store"):
        Store(tmp_path / "missing.h5")
    (tmp_path / "text.h5").write_text("not HDF5")
    with pytest.raises(InputError, match="not a store"):
        Store(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(InputError, match="not a store"):
        Store(tmp_path / "other.h5")
    shutil.copy(store.path, tmp_path / "later.h5")
    with h5py.File(tmp_path / "later.h5", "r+") as file:
        file.attrs["covidcxnet"] = json.dumps({**json.loads(file.attrs["covidcxnet"]), "format": 99})
    with pytest.raises(InputError, match="format 99"):
        Store(tmp_path / "later.h5")


def test_statistics_are_those_of_the_raw_plane(store):
    expected = [shortcuts(np.ascontiguousarray(store.read([row])[0, ..., 2])) for row in (4, 2)]
    np.testing.assert_array_equal(stack_statistics(store, np.array([4, 2])), expected)
