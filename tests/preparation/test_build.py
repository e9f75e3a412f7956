"""Building a store: what is made and copied, what is said of bad files, and what a broken-off building leaves."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import cv2
import h5py
import numpy as np
import pandas as pd
import pytest

from covidcxnet.datasets import Dataset, load
from covidcxnet.preparation import Store, prepare, prepare_files
from covidcxnet.preparation import build as building
from covidcxnet.settings import InputSettings
from enhancement import InputError


@pytest.fixture
def build(settings, tmp_path):
    """``build(dataset)`` prepares a store ``s.h5`` of it."""

    def call(dataset, settings=settings, name="s.h5", **options):
        return prepare(dataset, settings, tmp_path / name, **{"progress": False, **options})

    return call


def test_a_store_holds_what_the_pipeline_makes_and_the_same_call_again_makes_nothing(
    dataset, settings, build, fake_segmenter, counted, capsys
):
    store = build(dataset, name="deep/s.h5", segmenter=fake_segmenter())
    for i, outcome in enumerate(prepare_files(dataset.paths, settings, segmenter=fake_segmenter())):
        np.testing.assert_array_equal(store.read([i])[0], outcome.prepared.stack)
        np.testing.assert_array_equal(store.lungs(i), outcome.prepared.lungs)
        assert store.frame(i) == outcome.prepared.frame
    assert store.stacks.chunks == (1, 32, 32, 3) and store.stacks.compression is None
    assert [file.name for file in store.path.parent.iterdir()] == ["s.h5"], "nothing is left over"
    stamp = store.path.stat().st_mtime_ns
    counted.clear()
    build(dataset, name="deep/s.h5", segmenter=fake_segmenter(), progress=True)
    assert counted == [] and store.path.stat().st_mtime_ns == stamp
    assert "up to date, 12 stacks" in capsys.readouterr().err


def test_only_changed_and_new_files_are_prepared(dataset, build, counted, picture):
    before = build(dataset).read(slice(None))
    counted.clear()
    cv2.imwrite(str(dataset.paths[4]), picture(99))
    cv2.imwrite(str(dataset.root / "new.png"), picture(100))
    table = dataset.table.iloc[[7, 8, 4, 0]]
    table = pd.concat([table, pd.DataFrame({"path": ["new.png"], "label": ["flu"], "patient": ["p9"]})])
    store = build(Dataset(table, dataset.root, name="small"))
    assert sorted(counted) == ["04.png", "new.png"]
    np.testing.assert_array_equal(store.read([0, 1, 3]), before[[7, 8, 0]])
    assert (store.read([2]) != before[4]).any() and list(store.table["path"])[4] == "new.png"


def test_a_moved_file_is_known_by_its_content_and_labels_change_without_touching_a_pixel(dataset, build, counted):
    stacks = build(dataset).read(slice(None))
    counted.clear()
    dataset.paths[0].rename(dataset.root / "moved.png")
    labels = ["normal", "cold", "flu"] * 4
    table = dataset.table.assign(path=["moved.png", *dataset.table["path"][1:]], label=labels)
    store = build(Dataset(table, dataset.root, name="small"))
    assert counted == [] and store.table["path"][0] == "moved.png"
    assert store.classes == ("normal", "cold", "flu") and list(store.table["label"]) == labels
    np.testing.assert_array_equal(store.read(slice(None)), stacks)


def test_other_settings_or_another_segmenter_make_everything_anew(dataset, settings, build, counted, fake_segmenter):
    larger = dataclasses.replace(settings, size=40)
    other = fake_segmenter(sha256="e" * 64, name="elsewhere")
    for changed, segmenter in ((settings, None), (larger, None), (larger, fake_segmenter()), (larger, other)):
        counted.clear()
        assert build(dataset, changed, segmenter=segmenter).settings == changed and len(counted) == 12
    counted.clear()
    renamed = dataclasses.replace(larger, segmenter="elsewhere.weights.h5")
    build(dataset, renamed, segmenter=fake_segmenter(sha256="e" * 64))
    assert counted == [], "the same weights under another name"


def test_bad_files_are_rejected_with_their_reasons_and_nothing_readable_is_an_error(dataset, build, tmp_path, capsys):
    dataset.paths[1].unlink()
    dataset.paths[3].write_bytes(dataset.paths[3].read_bytes()[:150])
    dataset.paths[5].write_bytes(b"")
    dataset.paths[7].write_text("not an image")
    store = build(dataset, progress=True)
    assert list(store.rejected["path"]) == ["01.png", "03.png", "05.png", "07.png"]
    assert store.rejected["reason"].str.len().gt(5).all() and "no such file" in store.rejected["reason"][0]
    assert list(store.table["path"]) == [f"{i:02d}.png" for i in (0, 2, 4, 6, 8, 9, 10, 11)]
    assert len(store) == 8 and store.stacks.shape[0] == 8
    assert "4 of 12 files could not be used" in capsys.readouterr().err
    build(dataset, progress=True)
    assert "up to date" in capsys.readouterr().err
    for path in dataset.paths:
        path.write_bytes(b"rubbish")
    with pytest.raises(InputError, match="none of 12 radiographs"):
        build(dataset, name="out/s.h5")
    assert not list((tmp_path / "out").iterdir())


def test_masks_of_the_data_set_serve_and_their_content_counts(dataset, settings, build, counted, ellipses):
    mask = dataset.root / "mask.png"
    cv2.imwrite(str(mask), ellipses((60, 80)).astype(np.uint8) * 255)
    with_masks = Dataset(dataset.table.assign(mask=["mask.png"] * 11 + [None]), dataset.root, name="small")
    chosen = dataclasses.replace(settings, region="crop")
    store = build(with_masks, chosen)
    assert list(store.table["lungs_trusted"]) == [True] * 11 + [False]
    assert store.frame(0).top > 0 == store.frame(11).top and store.lungs(0).any()
    assert store.table["lungs_reasons"][11] == "no mask given"
    counted.clear()
    cv2.imwrite(str(mask), np.roll(ellipses((60, 80)), 5).astype(np.uint8) * 255)
    build(with_masks, chosen)
    assert len(counted) == 11


def test_untrusted_lungs_are_counted_and_the_whole_image_used(dataset, settings, build, fake_segmenter, capsys):
    chosen = dataclasses.replace(settings, region="crop+mask")
    store = build(dataset, chosen, segmenter=fake_segmenter(limit=300), progress=True)
    assert not store.table["lungs_trusted"].any() and (store.table["lungs_reasons"] == "too dark").all()
    assert store.frame(0).box == (0, 0, 60, 80) and store.table["lungs_area"].between(0.1, 0.9).all()
    assert "12 whole, as no lung mask was trusted (covidcxnet predict says why)" in capsys.readouterr().err


def test_lungs_must_come_from_somewhere_and_a_file_that_is_no_store_is_not_overwritten(
    dataset, settings, build, tmp_path
):
    with pytest.raises(InputError, match="needs lungs"):
        build(dataset, dataclasses.replace(settings, region="crop"))
    (tmp_path / "thesis.h5").write_text("ten years")
    for shared in (False, True):
        with pytest.raises(InputError, match="is no store"):
            build(dataset, name="thesis.h5", shared=shared)
    assert (tmp_path / "thesis.h5").read_text() == "ten years"
    with pytest.raises(InputError, match="is a folder"):
        build(dataset, name="")


def test_odd_columns_come_back_as_they_were(dataset, build):
    odd = {"flag": [True, False] * 6, "share": np.linspace(0, 1, 12), "note": ["", None, "ä, \n«"] * 4}
    odd = Dataset(dataset.table.assign(**odd, mixed=[1, "a", None, 2.5] * 3), dataset.root, name="small")
    store = build(odd)
    table = store.table
    assert list(table["flag"]) == [True, False] * 6 and table["flag"].dtype == bool
    np.testing.assert_array_equal(table["share"], np.linspace(0, 1, 12))
    assert table["note"][2] == "ä, \n«" and table["note"][:2].isna().all()
    stamp = store.path.stat().st_mtime_ns
    build(odd)
    assert store.path.stat().st_mtime_ns == stamp


def _part(dataset, rows, **columns):
    return Dataset(dataset.table.iloc[rows].assign(**columns), dataset.root, name=dataset.name)


def test_a_shared_store_is_completed_and_loses_nothing(dataset, build, counted, picture):
    build(_part(dataset, range(6)), shared=True).close()
    counted.clear()
    wanted = _part(dataset, [9, 4, 8])
    with build(wanted, shared=True) as store, build(wanted, name="fresh.h5") as fresh:
        assert counted[:2] == ["09.png", "08.png"] and len(store) == 8 and len(counted) == 5
        rows, table, rejected = store.select(wanted)
        assert table["path"].tolist() == ["09.png", "04.png", "08.png"] and rejected.empty
        np.testing.assert_array_equal(store.read(rows), fresh.read([0, 1, 2]))
    counted.clear()
    stamp = store.path.stat().st_mtime_ns
    wanted = _part(dataset, [3, 2], label="other", age=0)
    with build(wanted, shared=True) as store:
        rows, table, _ = store.select(wanted)
    assert counted == [] and store.path.stat().st_mtime_ns == stamp, "nothing is missing, nothing is written"
    assert rows.tolist() == [3, 2] and table["label"].tolist() == ["other", "other"] and table["sha256"].notna().all()
    cv2.imwrite(str(dataset.paths[5]), picture(99))
    for row in (10, 11):
        dataset.paths[row].write_bytes(b"no image")
    with build(_part(dataset, [5, 10]), shared=True) as store:
        assert counted == ["05.png", "10.png"] and len(store) == 8, "a changed file is prepared again"
    with build(_part(dataset, [0, 11]), shared=True) as store:
        rows, table, rejected = store.select(_part(dataset, [0, 11]))
    assert len(rows) == 1 and table["path"].tolist() == ["00.png"]
    assert rejected["path"].tolist() == ["11.png"] and rejected["reason"].iloc[0], "and not 10.png"


def test_a_shared_store_of_other_settings_or_another_folder_is_not_written_over(dataset, settings, build, tmp_path):
    with build(dataset, shared=True) as store:
        before = store.path.read_bytes()
    with pytest.raises(InputError, match="other input settings or another segmenter"):
        build(dataset, dataclasses.replace(settings, size=24), shared=True)
    dataset.root.rename(tmp_path / "moved")
    with pytest.raises(InputError, match=r"holds images under .*data, these are under .*moved"):
        build(Dataset(dataset.table, tmp_path / "moved", dataset.classes), shared=True)
    assert store.path.read_bytes() == before


@pytest.mark.real
def test_real_radiographs_are_prepared(real_data, build):
    dataset = load(real_data / "classification" / "metadata.csv")
    some = Dataset(dataset.table.iloc[:: len(dataset) // 4], dataset.root, dataset.classes, "real")
    store = build(some, InputSettings(size=96), jobs=1)
    assert len(store) == len(some) and not len(store.rejected)
    assert store.root.samefile(real_data) and (store.root / store.table["path"][0]).is_file()
    assert store.read(slice(None)).std(axis=(1, 2, 3)).min() > 10


def leftovers(folder):
    return sorted(p.name for p in folder.iterdir() if "partial" in p.name)


def assert_whole(store, dataset):
    """It is what an undisturbed preparation makes, and nothing else lies beside it."""
    assert not leftovers(store.path.parent)
    with prepare(dataset, store.settings, store.path.parent / "whole.h5", progress=False) as whole:
        np.testing.assert_array_equal(store.read(slice(None)), whole.read(slice(None)))
        pd.testing.assert_frame_equal(store.table, whole.table)


@pytest.fixture
def break_off(dataset, build, monkeypatch):
    """``break_off(settings)`` prepares with a Ctrl-C after seven images."""
    real = building._add

    def interrupted(partial, outcome, key):
        if len(partial.records) == 7:
            raise KeyboardInterrupt
        real(partial, outcome, key)

    def call(*settings):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(building, "_add", interrupted)
            build(dataset, *settings)

    return call


def test_ctrl_c_keeps_the_work_and_the_next_call_goes_on(dataset, build, tmp_path, counted, break_off, capsys):
    dataset.paths[2].write_bytes(b"rubbish")
    break_off()
    assert "broken off at 7 of 12" in capsys.readouterr().err and not (tmp_path / "s.h5").exists()
    assert leftovers(tmp_path) == [".s.h5.partial.h5", ".s.h5.partial.jsonl"]
    counted.clear()
    store = build(dataset)
    assert sorted(counted) == [f"{i:02d}.png" for i in range(7, 12)]
    assert_whole(store, dataset)


def test_work_broken_off_is_not_used_for_other_settings_or_data_and_an_old_store_stays_until_the_new_one_is_whole(
    dataset, settings, build, tmp_path, counted, break_off, picture
):
    old = build(dataset).read(slice(None))
    break_off(dataclasses.replace(settings, beasf_gamma=3.0))
    np.testing.assert_array_equal(Store(tmp_path / "s.h5").read(slice(None)), old)
    counted.clear()
    build(dataset, dataclasses.replace(settings, beasf_gamma=4.0))
    assert len(counted) == 12 and not leftovers(tmp_path)
    break_off()
    cv2.imwrite(str(dataset.paths[3]), picture(77))
    counted.clear()
    build(dataset)
    assert len(counted) == 12 and not leftovers(tmp_path)


@pytest.mark.parametrize("damage", ["journal", "pixels", "line"])
def test_damaged_remains_are_never_trusted(dataset, build, tmp_path, break_off, damage):
    break_off()
    remains = tmp_path / f".s.h5.partial.{'h5' if damage == 'pixels' else 'jsonl'}"
    content = remains.read_bytes()
    remains.write_bytes({"journal": b"{", "pixels": content[:700], "line": content[:-40]}[damage])
    assert_whole(build(dataset), dataset)


SLOW_PREPARE = """
import sys, time
from pathlib import Path
import pandas as pd
from covidcxnet.datasets import Dataset
from covidcxnet.preparation import build, prepare
from covidcxnet.settings import InputSettings

root, path = Path(sys.argv[1]), Path(sys.argv[2])
files = sorted(p.name for p in root.glob("*.png"))
dataset = Dataset(pd.DataFrame({"path": files, "label": ["normal", "flu"] * (len(files) // 2)}), root, name="small")
real = build._add

def slow(*args):
    time.sleep(0.01)
    real(*args)

if __name__ == "__main__":
    build._add = slow
    prepare(dataset, InputSettings(size=32, clahe_tile_grid=(2, 2)), path, progress=False)
"""


@pytest.fixture
def slow_prepare(tmp_path, dataset, picture):
    """Prepare 120 files in another process, slowly; returns the process once some were written down."""
    for i in range(12, 120):
        cv2.imwrite(str(dataset.root / f"{i:03d}.png"), picture(i, (20, 20)))
    script = tmp_path / "slow_prepare.py"
    script.write_text(SLOW_PREPARE)
    journal = tmp_path / ".s.h5.partial.jsonl"

    def start(lines: int) -> subprocess.Popen:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, str(script), str(dataset.root), str(tmp_path / "s.h5")]
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        until = time.monotonic() + 60
        while not journal.exists() or journal.read_text().count("\n") < lines:
            assert process.poll() is None and time.monotonic() < until, process.stderr.read()
            time.sleep(0.02)
        return process

    return start


@pytest.mark.usefixtures("interrupts")
def test_a_kill_costs_what_was_not_written_down_a_signal_nothing_and_two_at_once_are_refused(
    slow_prepare, dataset, build, tmp_path, counted
):
    process = slow_prepare(40)
    files = sorted(p.name for p in dataset.root.glob("*.png"))
    all_files = Dataset(pd.DataFrame({"path": files, "label": ["normal", "flu"] * 60}), dataset.root, name="small")
    with pytest.raises(InputError, match=rf"s\.h5: process {process.pid} is preparing s\.h5"):
        build(all_files)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    assert not (tmp_path / "s.h5").exists()
    with h5py.File(tmp_path / ".s.h5.partial.h5") as file:
        assert file["stacks"].shape == (120, 32, 32, 3), "readable at any moment"
    process = slow_prepare(80)
    process.send_signal(signal.SIGINT)
    assert "the same command goes on from there" in process.communicate()[1]
    plan, *records = (tmp_path / ".s.h5.partial.jsonl").read_text().splitlines()
    assert json.loads(plan)["made"] and len(records) >= 79
    counted.clear()
    store = build(all_files)
    assert len(counted) == 120 - len(records)
    assert_whole(store, all_files)
