"""Building a store: what is made, what is copied, and what is said of bad files."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pandas as pd
import pytest

from covidcxnet.datasets import Dataset
from covidcxnet.preparation import prepare, prepare_files
from enhancement import InputError


def test_a_store_holds_what_the_pipeline_makes_and_the_same_call_again_makes_nothing(
    dataset, settings, tmp_path, fake_segmenter, counted, capsys
):
    path = tmp_path / "deep" / "s.h5"
    store = prepare(dataset, settings, path, segmenter=fake_segmenter(), progress=False)
    expected = list(prepare_files(dataset.paths, settings, segmenter=fake_segmenter()))
    for i, outcome in enumerate(expected):
        np.testing.assert_array_equal(store.read([i])[0], outcome.prepared.stack)
        np.testing.assert_array_equal(store.lungs(i), outcome.prepared.lungs)
        assert store.frame(i) == outcome.prepared.frame
    assert store.stacks.chunks == (1, 32, 32, 3) and store.stacks.compression is None
    assert [file.name for file in path.parent.iterdir()] == ["s.h5"], "nothing is left over"
    stamp = path.stat().st_mtime_ns
    counted.clear()
    prepare(dataset, settings, path, segmenter=fake_segmenter())
    assert counted == [] and path.stat().st_mtime_ns == stamp
    assert "up to date, 12 stacks" in capsys.readouterr().err


def test_only_changed_and_new_files_are_prepared(dataset, settings, tmp_path, counted, picture):
    path = tmp_path / "s.h5"
    before = prepare(dataset, settings, path, progress=False).read(slice(None))
    counted.clear()
    cv2.imwrite(str(dataset.paths[4]), picture(99))
    cv2.imwrite(str(dataset.root / "new.png"), picture(100))
    table = dataset.table.iloc[[7, 8, 4, 0]]
    table = pd.concat([table, pd.DataFrame({"path": ["new.png"], "label": ["flu"], "patient": ["p9"]})])
    store = prepare(Dataset(table, dataset.root, name="small"), settings, path, progress=False)
    assert sorted(counted) == ["04.png", "new.png"]
    np.testing.assert_array_equal(store.read([0, 1, 3]), before[[7, 8, 0]])
    assert (store.read([2]) != before[4]).any() and list(store.table["path"])[4] == "new.png"


def test_a_moved_file_is_known_by_its_content_and_labels_change_without_touching_a_pixel(
    dataset, settings, tmp_path, counted
):
    path = tmp_path / "s.h5"
    stacks = prepare(dataset, settings, path, progress=False).read(slice(None))
    counted.clear()
    dataset.paths[0].rename(dataset.root / "moved.png")
    labels = ["normal", "cold", "flu"] * 4
    table = dataset.table.assign(path=["moved.png", *dataset.table["path"][1:]], label=labels)
    store = prepare(Dataset(table, dataset.root, name="small"), settings, path, progress=False)
    assert counted == [] and store.table["path"][0] == "moved.png"
    assert store.classes == ("normal", "cold", "flu") and list(store.table["label"]) == labels
    np.testing.assert_array_equal(store.read(slice(None)), stacks)


def test_other_settings_or_another_segmenter_make_everything_anew(dataset, settings, tmp_path, counted, fake_segmenter):
    path = tmp_path / "s.h5"
    for changed, segmenter in [
        (settings, None),
        (dataclasses.replace(settings, size=40), None),
        (dataclasses.replace(settings, size=40), fake_segmenter()),
        (dataclasses.replace(settings, size=40), fake_segmenter(sha256="e" * 64)),
    ]:
        counted.clear()
        store = prepare(dataset, changed, path, segmenter=segmenter, progress=False)
        assert len(counted) == 12 and store.settings == changed
    counted.clear()
    renamed = dataclasses.replace(settings, size=40, segmenter="elsewhere.weights.h5")
    prepare(dataset, renamed, path, segmenter=fake_segmenter(sha256="e" * 64, name="elsewhere"), progress=False)
    assert counted == [], "the same weights under another name"


def test_bad_files_are_rejected_with_their_reasons(dataset, settings, tmp_path, capsys):
    dataset.paths[1].unlink()
    dataset.paths[3].write_bytes(dataset.paths[3].read_bytes()[:150])
    dataset.paths[5].write_bytes(b"")
    dataset.paths[7].write_text("not an image")
    store = prepare(dataset, settings, tmp_path / "s.h5")
    assert list(store.rejected["path"]) == ["01.png", "03.png", "05.png", "07.png"]
    assert store.rejected["reason"].str.len().gt(5).all() and "no such file" in store.rejected["reason"][0]
    assert list(store.table["path"]) == [f"{i:02d}.png" for i in (0, 2, 4, 6, 8, 9, 10, 11)]
    assert len(store) == 8 and store.stacks.shape[0] == 8
    assert "4 files rejected" in capsys.readouterr().err
    prepare(dataset, settings, tmp_path / "s.h5")
    assert "up to date" in capsys.readouterr().err


def test_nothing_readable_is_an_error_and_leaves_nothing(dataset, settings, tmp_path):
    for path in dataset.paths:
        path.write_bytes(b"rubbish")
    with pytest.raises(InputError, match="none of 12 radiographs"):
        prepare(dataset, settings, tmp_path / "out" / "s.h5", progress=False)
    assert not list((tmp_path / "out").iterdir())


def test_masks_of_the_data_set_serve_and_their_content_counts(dataset, settings, tmp_path, counted, ellipses):
    mask = tmp_path / "data" / "mask.png"
    cv2.imwrite(str(mask), ellipses((60, 80)).astype(np.uint8) * 255)
    with_masks = Dataset(dataset.table.assign(mask=["mask.png"] * 11 + [None]), dataset.root, name="small")
    chosen = dataclasses.replace(settings, region="crop")
    store = prepare(with_masks, chosen, tmp_path / "s.h5", progress=False)
    assert list(store.table["lungs_trusted"]) == [True] * 11 + [False]
    assert store.frame(0).top > 0 == store.frame(11).top and store.lungs(0).any()
    assert store.table["lungs_reasons"][11] == "no mask given"
    counted.clear()
    cv2.imwrite(str(mask), np.roll(ellipses((60, 80)), 5).astype(np.uint8) * 255)
    prepare(with_masks, chosen, tmp_path / "s.h5", progress=False)
    assert len(counted) == 11


def test_untrusted_lungs_are_counted_and_the_whole_image_used(dataset, settings, tmp_path, fake_segmenter, capsys):
    chosen = dataclasses.replace(settings, region="crop+mask")
    store = prepare(dataset, chosen, tmp_path / "s.h5", segmenter=fake_segmenter(limit=300))
    assert not store.table["lungs_trusted"].any() and (store.table["lungs_reasons"] == "too dark").all()
    assert store.frame(0).box == (0, 0, 60, 80) and store.table["lungs_area"].between(0.1, 0.9).all()
    assert "12 without a lung mask that can be trusted" in capsys.readouterr().err


def test_lungs_must_come_from_somewhere_and_a_file_that_is_no_store_is_not_overwritten(dataset, settings, tmp_path):
    with pytest.raises(InputError, match="needs lungs"):
        prepare(dataset, dataclasses.replace(settings, region="crop"), tmp_path / "s.h5", progress=False)
    path = tmp_path / "thesis.h5"
    path.write_text("ten years")
    for shared in (False, True):
        with pytest.raises(InputError, match="is no store"):
            prepare(dataset, settings, path, progress=False, shared=shared)
    assert path.read_text() == "ten years"
    with pytest.raises(InputError, match="is a folder"):
        prepare(dataset, settings, tmp_path, progress=False)


def test_odd_columns_come_back_as_they_were(dataset, settings, tmp_path):
    table = dataset.table.assign(
        flag=[True, False] * 6,
        share=np.linspace(0, 1, 12),
        note=["", None, "ä, \n«"] * 4,
        mixed=[1, "a", None, 2.5] * 3,
    )
    odd = Dataset(table, dataset.root, name="small")
    store = prepare(odd, settings, tmp_path / "s.h5", progress=False)
    table_read = store.table
    assert list(table_read["flag"]) == [True, False] * 6 and table_read["flag"].dtype == bool
    np.testing.assert_array_equal(table_read["share"], table["share"])
    assert table_read["note"][2] == "ä, \n«" and table_read["note"][:2].isna().all()
    stamp = store.path.stat().st_mtime_ns
    prepare(odd, settings, tmp_path / "s.h5", progress=False)
    assert store.path.stat().st_mtime_ns == stamp


def _part(dataset, rows, **columns):
    return Dataset(dataset.table.iloc[rows].assign(**columns), dataset.root, name=dataset.name)


def test_a_shared_store_is_completed_and_loses_nothing(dataset, settings, tmp_path, counted, picture):
    path, options = tmp_path / "s.h5", {"shared": True, "progress": False}
    prepare(_part(dataset, range(6)), settings, path, **options).close()
    counted.clear()
    wanted = _part(dataset, [9, 4, 8])
    with prepare(wanted, settings, path, **options) as store:
        assert counted == ["09.png", "08.png"] and len(store) == 8
        rows, table, rejected = store.select(wanted)
        assert table["path"].tolist() == ["09.png", "04.png", "08.png"] and rejected.empty
        with prepare(wanted, settings, tmp_path / "fresh.h5", progress=False) as fresh:
            np.testing.assert_array_equal(store.read(rows), fresh.read([0, 1, 2]))
    counted.clear()
    stamp = path.stat().st_mtime_ns
    wanted = _part(dataset, [3, 2], label="other", age=0)
    with prepare(wanted, settings, path, **options) as store:
        rows, table, _ = store.select(wanted)
    assert counted == [] and path.stat().st_mtime_ns == stamp, "nothing is missing, nothing is written"
    assert rows.tolist() == [3, 2] and table["label"].tolist() == ["other", "other"] and table["sha256"].notna().all()
    cv2.imwrite(str(dataset.paths[5]), picture(99))
    with prepare(_part(dataset, [5]), settings, path, **options) as store:
        assert counted == ["05.png"] and len(store) == 8, "a changed file is prepared again"


def test_unreadable_files_are_told_from_others_of_a_shared_store(dataset, settings, tmp_path):
    dataset.paths[1].write_bytes(b"no image")
    dataset.paths[7].write_bytes(b"no image")
    wanted = _part(dataset, [0, 1])
    prepare(dataset, settings, tmp_path / "s.h5", progress=False).close()
    with prepare(wanted, settings, tmp_path / "s.h5", progress=False, shared=True) as store:
        rows, table, rejected = store.select(wanted)
    assert rows.tolist() == [0] and table["path"].tolist() == ["00.png"]
    assert rejected["path"].tolist() == ["01.png"] and rejected["reason"].iloc[0]


def test_a_shared_store_of_other_settings_or_another_folder_is_not_written_over(dataset, settings, tmp_path):
    path, options = tmp_path / "s.h5", {"shared": True, "progress": False}
    prepare(dataset, settings, path, **options).close()
    before = path.read_bytes()
    with pytest.raises(InputError, match="other input settings or another segmenter"):
        prepare(dataset, dataclasses.replace(settings, size=24), path, **options)
    moved = tmp_path / "moved"
    dataset.root.rename(moved)
    with pytest.raises(InputError, match=r"holds images under .*data, these are under .*moved"):
        prepare(Dataset(dataset.table, moved, dataset.classes), settings, path, **options)
    assert path.read_bytes() == before


@pytest.mark.real
def test_real_radiographs_are_prepared(real_data, tmp_path):
    from covidcxnet.datasets import load
    from covidcxnet.settings import InputSettings

    dataset = load(real_data / "classification" / "metadata.csv")
    some = Dataset(dataset.table.iloc[:: len(dataset) // 60], dataset.root, dataset.classes, "real")
    store = prepare(some, InputSettings(size=96), tmp_path / "s.h5", jobs=1, progress=False)
    assert len(store) == len(some) and not len(store.rejected)
    assert store.root.samefile(real_data) and (store.root / store.table["path"][0]).is_file()
    assert store.read(slice(None)).std(axis=(1, 2, 3)).min() > 10
