"""A kept store grows by what it lacks, loses nothing, and is not written over by what does not fit."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from covidcxnet.datasets import Dataset
from covidcxnet.preparation import prepare
from covidcxnet.preparation.kept import keep, rows_in
from enhancement import InputError


def _part(dataset, rows, **columns):
    return Dataset(dataset.table.iloc[rows].assign(**columns), dataset.root, name=dataset.name)


def test_what_it_lacks_is_added_and_the_rest_stays(dataset, settings, tmp_path, counted):
    path = tmp_path / "s.h5"
    keep(_part(dataset, range(6)), settings, path, progress=False).close()
    counted.clear()
    asked = _part(dataset, [9, 4, 8])
    with keep(asked, settings, path, progress=False) as store:
        assert counted == ["09.png", "08.png"]
        assert len(store) == 8
        rows, table, rejected = rows_in(store, asked)
        assert table["path"].tolist() == ["09.png", "04.png", "08.png"] and rejected.empty
        with prepare(asked, settings, tmp_path / "fresh.h5", progress=False) as fresh:
            np.testing.assert_array_equal(store.read(rows), fresh.read([0, 1, 2]))


def test_what_is_there_is_not_written_again(dataset, settings, tmp_path, counted):
    path = tmp_path / "s.h5"
    keep(dataset, settings, path, progress=False).close()
    stamp = path.stat().st_mtime_ns
    counted.clear()
    asked = _part(dataset, [3, 2], label="other", age=0)
    with keep(asked, settings, path, progress=False) as store:
        rows, table, _ = rows_in(store, asked)
    assert counted == [] and path.stat().st_mtime_ns == stamp
    assert rows.tolist() == [3, 2]
    assert table["label"].tolist() == ["other", "other"] and table["sha256"].notna().all()


def test_a_changed_file_is_prepared_again(dataset, settings, tmp_path, counted, picture):
    path = tmp_path / "s.h5"
    keep(dataset, settings, path, progress=False).close()
    counted.clear()
    cv2.imwrite(str(dataset.paths[5]), picture(99))
    with keep(_part(dataset, [5]), settings, path, progress=False) as store:
        assert counted == ["05.png"] and len(store) == 12


def test_unreadable_files_are_told_from_others_of_the_store(dataset, settings, tmp_path):
    dataset.paths[1].write_bytes(b"no image")
    dataset.paths[7].write_bytes(b"no image")
    path = tmp_path / "s.h5"
    keep(dataset, settings, path, progress=False).close()
    asked = _part(dataset, [0, 1])
    with keep(asked, settings, path, progress=False) as store:
        rows, table, rejected = rows_in(store, asked)
    assert rows.tolist() == [0] and table["path"].tolist() == ["00.png"]
    assert rejected["path"].tolist() == ["01.png"] and rejected["reason"].iloc[0]


def test_a_store_of_other_settings_or_another_folder_is_not_written_over(dataset, settings, tmp_path):
    path = tmp_path / "s.h5"
    keep(dataset, settings, path, progress=False).close()
    before = path.read_bytes()
    with pytest.raises(InputError, match="other input settings or another segmenter"):
        keep(dataset, dataclasses.replace(settings, size=24), path, progress=False)
    moved = tmp_path / "moved"
    dataset.root.rename(moved)
    with pytest.raises(InputError, match=r"holds images under .*data, these are under .*moved"):
        keep(Dataset(dataset.table, moved, dataset.classes), settings, path, progress=False)
    assert path.read_bytes() == before
    (tmp_path / "text.h5").write_text("no store")
    with pytest.raises(InputError, match="exists and is no store"):
        keep(Dataset(dataset.table, moved, dataset.classes), settings, tmp_path / "text.h5", progress=False)
