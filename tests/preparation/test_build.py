"""Building a store: what is made, what is copied, what survives a kill, and what is said of bad files."""

from __future__ import annotations

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

from covidcxnet.datasets import Dataset
from covidcxnet.preparation import Store, build, prepare, prepare_files
from enhancement import InputError


def leftovers(folder):
    return sorted(p.name for p in folder.iterdir() if "partial" in p.name)


def test_a_store_holds_what_the_pipeline_makes(dataset, settings, tmp_path, fake_segmenter):
    store = prepare(dataset, settings, tmp_path / "deep" / "s.h5", segmenter=fake_segmenter(), progress=False)
    expected = list(prepare_files(dataset.paths, settings, segmenter=fake_segmenter()))
    for i, outcome in enumerate(expected):
        np.testing.assert_array_equal(store.read([i])[0], outcome.prepared.stack)
        np.testing.assert_array_equal(store.lungs(i), outcome.prepared.lungs)
        assert store.frame(i) == outcome.prepared.frame
    assert store.stacks.chunks == (1, 32, 32, 3) and store.stacks.compression is None
    assert not leftovers(tmp_path / "deep")


def test_the_same_call_again_makes_nothing_and_says_so(dataset, settings, tmp_path, counted, capsys):
    path = tmp_path / "s.h5"
    prepare(dataset, settings, path)
    stamp = path.stat().st_mtime_ns
    counted.clear()
    prepare(dataset, settings, path)
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


def test_a_moved_file_is_known_by_its_content(dataset, settings, tmp_path, counted):
    path = tmp_path / "s.h5"
    prepare(dataset, settings, path, progress=False)
    counted.clear()
    dataset.paths[0].rename(dataset.root / "moved.png")
    table = dataset.table.assign(path=["moved.png", *dataset.table["path"][1:]])
    store = prepare(Dataset(table, dataset.root, name="small"), settings, path, progress=False)
    assert counted == [] and store.table["path"][0] == "moved.png"


def test_labels_change_without_touching_a_pixel(dataset, settings, tmp_path, counted):
    path = tmp_path / "s.h5"
    stacks = prepare(dataset, settings, path, progress=False).read(slice(None))
    counted.clear()
    other = Dataset(dataset.table.assign(label=["normal", "cold", "flu"] * 4), dataset.root, name="small")
    store = prepare(other, settings, path, progress=False)
    assert counted == [] and store.classes == ("normal", "cold", "flu")
    assert list(store.table["label"]) == ["normal", "cold", "flu"] * 4
    np.testing.assert_array_equal(store.read(slice(None)), stacks)


def test_other_settings_or_another_segmenter_make_everything_anew(dataset, settings, tmp_path, counted, fake_segmenter):
    path = tmp_path / "s.h5"
    for changed, segmenter in [
        (settings, None),
        (dataclasses.replace(settings, beasf_gamma=2.0), None),
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


def test_distrusted_lungs_are_counted_and_the_whole_image_used(dataset, settings, tmp_path, fake_segmenter, capsys):
    chosen = dataclasses.replace(settings, region="crop+mask")
    store = prepare(dataset, chosen, tmp_path / "s.h5", segmenter=fake_segmenter(limit=300))
    assert not store.table["lungs_trusted"].any() and (store.table["lungs_reasons"] == "too dark").all()
    assert store.frame(0).box == (0, 0, 60, 80) and store.table["lungs_area"].between(0.1, 0.9).all()
    assert "12 without a lung mask that can be trusted" in capsys.readouterr().err


def test_lungs_must_come_from_somewhere(dataset, settings, tmp_path):
    with pytest.raises(InputError, match="needs lungs"):
        prepare(dataset, dataclasses.replace(settings, region="crop"), tmp_path / "s.h5", progress=False)


def test_a_file_that_is_no_store_is_not_overwritten(dataset, settings, tmp_path):
    path = tmp_path / "thesis.h5"
    path.write_text("ten years")
    with pytest.raises(InputError, match="is no store"):
        prepare(dataset, settings, path, progress=False)
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
    got = store.table
    assert list(got["flag"]) == [True, False] * 6 and got["flag"].dtype == bool
    np.testing.assert_array_equal(got["share"], table["share"])
    assert got["note"][2] == "ä, \n«" and got["note"][:2].isna().all()
    stamp = store.path.stat().st_mtime_ns
    prepare(odd, settings, tmp_path / "s.h5", progress=False)
    assert store.path.stat().st_mtime_ns == stamp


def _broken_off(dataset, settings, path, after, monkeypatch):
    """Prepare, with a Ctrl-C after so many images."""
    real = build._add

    def interrupted(partial, outcome, key):
        if len(partial.records) == after:
            raise KeyboardInterrupt
        real(partial, outcome, key)

    with monkeypatch.context() as patch:
        patch.setattr(build, "_add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare(dataset, settings, path, progress=False)


def test_ctrl_c_keeps_the_work_and_the_next_call_goes_on(dataset, settings, tmp_path, counted, monkeypatch, capsys):
    path = tmp_path / "s.h5"
    dataset.paths[2].write_bytes(b"rubbish")
    _broken_off(dataset, settings, path, 7, monkeypatch)
    assert "broken off at 7 of 12" in capsys.readouterr().err and not path.exists()
    assert leftovers(tmp_path) == [".s.h5.partial.h5", ".s.h5.partial.jsonl"]
    counted.clear()
    store = prepare(dataset, settings, path, progress=False)
    assert sorted(counted) == [f"{i:02d}.png" for i in range(7, 12)]
    whole = prepare(dataset, settings, tmp_path / "whole.h5", progress=False)
    np.testing.assert_array_equal(store.read(slice(None)), whole.read(slice(None)))
    pd.testing.assert_frame_equal(store.table, whole.table)
    assert not leftovers(tmp_path)


def test_work_broken_off_serves_even_when_the_data_changed(dataset, settings, tmp_path, counted, monkeypatch, picture):
    path = tmp_path / "s.h5"
    _broken_off(dataset, settings, path, 7, monkeypatch)
    cv2.imwrite(str(dataset.paths[3]), picture(77))
    counted.clear()
    store = prepare(dataset, settings, path, progress=False)
    assert sorted(counted) == ["03.png", *(f"{i:02d}.png" for i in range(7, 12))]
    whole = prepare(dataset, settings, tmp_path / "whole.h5", progress=False)
    np.testing.assert_array_equal(store.read(slice(None)), whole.read(slice(None)))
    assert not leftovers(tmp_path)


def test_work_broken_off_under_other_settings_is_not_used(dataset, settings, tmp_path, counted, monkeypatch):
    path = tmp_path / "s.h5"
    _broken_off(dataset, settings, path, 7, monkeypatch)
    counted.clear()
    prepare(dataset, dataclasses.replace(settings, beasf_gamma=3.0), path, progress=False)
    assert len(counted) == 12 and not leftovers(tmp_path)


def test_an_old_store_stays_until_the_new_one_is_whole(dataset, settings, tmp_path, monkeypatch):
    path = tmp_path / "s.h5"
    old = prepare(dataset, settings, path, progress=False).read(slice(None))
    _broken_off(dataset, dataclasses.replace(settings, beasf_gamma=3.0), path, 7, monkeypatch)
    np.testing.assert_array_equal(Store(path).read(slice(None)), old)


@pytest.mark.parametrize("damage", ["journal", "pixels", "both", "line"])
def test_damaged_remains_are_never_trusted(dataset, settings, tmp_path, monkeypatch, damage):
    path = tmp_path / "s.h5"
    _broken_off(dataset, settings, path, 7, monkeypatch)
    journal, pixels = tmp_path / ".s.h5.partial.jsonl", tmp_path / ".s.h5.partial.h5"
    if damage in ("journal", "both"):
        journal.write_text("{")
    if damage in ("pixels", "both"):
        pixels.write_bytes(pixels.read_bytes()[:700])
    if damage == "line":
        journal.write_text(journal.read_text()[:-40])
    store = prepare(dataset, settings, path, progress=False)
    whole = prepare(dataset, settings, tmp_path / "whole.h5", progress=False)
    np.testing.assert_array_equal(store.read(slice(None)), whole.read(slice(None)))
    assert not leftovers(tmp_path)


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
    """Prepare 200 files in another process, slowly; returns the process once some were written down."""
    for i in range(12, 200):
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


def everything(dataset) -> Dataset:
    """The small data set and whatever else lies in its folder by now."""
    files = sorted(p.name for p in dataset.root.glob("*.png"))
    table = pd.DataFrame({"path": files, "label": ["normal", "flu"] * (len(files) // 2)})
    return Dataset(table, dataset.root, name="small")


def test_a_kill_costs_only_what_was_not_yet_written_down(slow_prepare, dataset, settings, tmp_path, counted):
    for lines in (40, 90):  # killed twice, resumed twice
        process = slow_prepare(lines)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "s.h5").exists()
        with h5py.File(tmp_path / ".s.h5.partial.h5") as file:
            assert file["stacks"].shape == (200, 32, 32, 3), "readable at any moment"
    written = (tmp_path / ".s.h5.partial.jsonl").read_text().count("\n") - 1
    assert written >= 64
    all_files = everything(dataset)
    store = prepare(all_files, settings, tmp_path / "s.h5", progress=False)
    assert len(counted) == 200 - written
    whole = prepare(all_files, settings, tmp_path / "whole.h5", progress=False)
    np.testing.assert_array_equal(store.read(slice(None)), whole.read(slice(None)))
    pd.testing.assert_frame_equal(store.table, whole.table)


def test_a_signal_ends_it_cleanly_and_two_at_once_are_refused(slow_prepare, dataset, settings, tmp_path):
    process = slow_prepare(40)
    with pytest.raises(InputError, match="another process"):
        prepare(everything(dataset), settings, tmp_path / "s.h5", progress=False)
    process.send_signal(signal.SIGINT)
    assert "the same command goes on from there" in process.communicate()[1]
    plan, *records = (tmp_path / ".s.h5.partial.jsonl").read_text().splitlines()
    assert json.loads(plan)["made"] and len(records) >= 39


@pytest.mark.real
def test_real_radiographs_are_prepared(real_data, tmp_path):
    from covidcxnet.datasets import load_dataset
    from covidcxnet.settings import InputSettings

    dataset = load_dataset(real_data / "classification" / "metadata.csv")
    some = Dataset(dataset.table.iloc[:: len(dataset) // 60], dataset.root, dataset.classes, "real")
    store = prepare(some, InputSettings(size=96), tmp_path / "s.h5", jobs=1, progress=False)
    assert len(store) == len(some) and not len(store.rejected)
    assert store.root.samefile(real_data) and (store.root / store.table["path"][0]).is_file()
    assert store.read(slice(None)).std(axis=(1, 2, 3)).min() > 10
