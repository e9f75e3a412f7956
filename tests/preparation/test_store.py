"""Reading a store: any rows, any process; batches of everything once an epoch, ordered by seed and epoch."""

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
from covidcxnet.preparation import Batches, Store, stack_statistics
from enhancement import InputError


def test_rows_come_in_the_order_asked_for_with_their_lungs_and_frames(store):
    every = store.stacks[:]
    assert every.shape == (12, 32, 32, 3) and every.dtype == np.uint8
    for rows in ([3, 1, 1, 11], [4, 5, 6, 2, 3], [], [-1], slice(2, 9), np.array([7])):
        np.testing.assert_array_equal(store.read(rows), every[np.arange(12)[rows] if len(np.r_[rows]) else []])
    for row in (12, -13):
        with pytest.raises(IndexError):
            store.read([row])
    assert store.lungs(3).shape == (32, 32) and store.lungs(3).dtype == bool and store.lungs(3).any()
    assert store.lungs([1, 2]).shape == (2, 32, 32) and store.lungs(slice(0, 5)).shape == (5, 32, 32)
    assert (store.frame(3).height, store.frame(3).width, store.frame(3).size) == (60, 80, 32)


def test_the_table_keeps_every_column_and_its_kind(store):
    table = store.table
    assert list(table["path"]) == [f"{i:02d}.png" for i in range(12)] and list(table["age"]) == list(range(40, 52))
    assert list(table["patient"]) == [f"p{i // 2}" for i in range(12)]
    # one object for equal texts, and a table that is the caller's to change
    assert table["patient"].iloc[0] is table["patient"].iloc[1]
    table.loc[0, "patient"] = "another"
    assert store.table["patient"].iloc[0] == "p0"
    assert table["lungs_trusted"].all() and str(table["lungs_trusted"].dtype) == "boolean"
    assert table["sha256"].str.len().eq(64).all() and (table["height"] == 60).all() and (table["width"] == 80).all()
    assert store.classes == ("normal", "flu") and store.root == store.path.parent / "data" and store.name == "small"
    assert list(store.targets) == [0, 1] * 6
    assert store.segmenter == {"name": "fake", "sha256": "f" * 64} and len(store.rejected) == 0


def test_statistics_are_those_of_the_raw_plane(store):
    expected = [shortcuts(np.ascontiguousarray(store.read([row])[0, ..., 2])) for row in (4, 2)]
    np.testing.assert_array_equal(stack_statistics(store.read([4, 2]), store.settings.channels), expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_opens_the_store_for_itself_and_a_pickled_or_closed_one_opens_again(store):
    again = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(again.read([3, 1]), store.read([3, 1]))
    for _ in range(2):
        again.close()
        assert again.read([0]).shape == (1, 32, 32, 3)
    again.close()
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
    (tmp_path / "text.h5").write_text("not HDF5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    for name, reason in (("missing", "no such store"), ("text", "not a store"), ("other", "not a store")):
        with pytest.raises(InputError, match=reason) as caught:
            Store(tmp_path / f"{name}.h5")
        assert "Unable" not in str(caught.value)  # the library's words
    shutil.copy(store.path, tmp_path / "later.h5")
    with h5py.File(tmp_path / "later.h5", "r+") as file:
        file.attrs["covidcxnet"] = json.dumps({**json.loads(file.attrs["covidcxnet"]), "format": 99})
    with pytest.raises(InputError, match="format 99"):
        Store(tmp_path / "later.h5")


@pytest.fixture
def batches(store):
    def make(**options):
        return Batches(store, np.arange(1, 11), np.arange(10.0)[:, None], **{"batch_size": 4, **options})

    return make


def order(batches) -> list[int]:
    return [int(v) for i in range(len(batches)) for v in batches[i][1][:, 0]]


def test_stacks_and_targets_belong_together(batches, store):
    shuffled = batches(shuffle=True, weights=np.arange(10) * 2)
    assert len(shuffled) == 3 and [len(shuffled[i][0]) for i in range(3)] == [4, 4, 2]
    for i in range(3):
        x, y, weight = shuffled[i]
        assert x.dtype == np.uint8 and y.dtype == weight.dtype == np.float32 and y.shape == (len(x), 1)
        np.testing.assert_array_equal(x, store.read(y[:, 0].astype(int) + 1))
        np.testing.assert_array_equal(weight, 2 * y[:, 0])


def test_the_order_is_the_one_given_or_a_function_of_seed_and_epoch(batches):
    plain = batches()
    plain.set_epoch(1)
    assert order(plain) == list(range(10))
    left, right = batches(shuffle=True, seed=7), batches(shuffle=True, seed=7)
    first = order(left)
    assert sorted(first) == list(range(10)) and first != list(range(10))
    left.set_epoch(1)
    left.set_epoch(2)
    right.set_epoch(2)
    assert order(left) == order(right) != first
    right.set_epoch(0)
    assert order(right) == first
    assert order(batches(shuffle=True, seed=8)) != first


def test_negative_and_impossible_arguments_are_refused(store):
    wrong = {"indices": ([], [12], [-1]), "batch_size": (0,), "targets": ([1.0, 2.0],), "weights": ([1.0, 2.0],)}
    for bad in ({name: value} for name, values in wrong.items() for value in values):
        with pytest.raises(InputError):
            Batches(store, **{"indices": [0], "targets": [1.0], "batch_size": 1, **bad})
    with pytest.raises(IndexError):
        _ = Batches(store, [0], [1.0], batch_size=1)[1]
