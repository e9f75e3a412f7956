"""A store whose building was broken off: what was written down serves, nothing half-written is trusted."""

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
from covidcxnet.preparation import Store, build, prepare
from enhancement import InputError


def leftovers(folder):
    return sorted(p.name for p in folder.iterdir() if "partial" in p.name)


def assert_whole(store, dataset):
    """It is what an undisturbed preparation makes, and nothing else lies beside it."""
    assert not leftovers(store.path.parent)
    with prepare(dataset, store.settings, store.path.parent / "whole.h5", progress=False) as whole:
        np.testing.assert_array_equal(store.read(slice(None)), whole.read(slice(None)))
        pd.testing.assert_frame_equal(store.table, whole.table)


@pytest.fixture
def break_off(dataset, tmp_path, monkeypatch):
    """``break_off(settings)`` prepares with a Ctrl-C after seven images."""
    real = build._add

    def interrupted(partial, outcome, key):
        if len(partial.records) == 7:
            raise KeyboardInterrupt
        real(partial, outcome, key)

    def call(settings):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(build, "_add", interrupted)
            prepare(dataset, settings, tmp_path / "s.h5", progress=False)

    return call


def test_ctrl_c_keeps_the_work_and_the_next_call_goes_on(dataset, settings, tmp_path, counted, break_off, capsys):
    path = tmp_path / "s.h5"
    dataset.paths[2].write_bytes(b"rubbish")
    break_off(settings)
    assert "broken off at 7 of 12" in capsys.readouterr().err and not path.exists()
    assert leftovers(tmp_path) == [".s.h5.partial.h5", ".s.h5.partial.jsonl"]
    counted.clear()
    store = prepare(dataset, settings, path, progress=False)
    assert sorted(counted) == [f"{i:02d}.png" for i in range(7, 12)]
    assert_whole(store, dataset)


def test_work_broken_off_is_not_used_for_other_settings_or_data_and_an_old_store_stays_until_the_new_one_is_whole(
    dataset, settings, tmp_path, counted, break_off, picture
):
    path, other = tmp_path / "s.h5", dataclasses.replace(settings, beasf_gamma=3.0)
    old = prepare(dataset, settings, path, progress=False).read(slice(None))
    break_off(other)
    np.testing.assert_array_equal(Store(path).read(slice(None)), old)
    counted.clear()
    prepare(dataset, dataclasses.replace(settings, beasf_gamma=4.0), path, progress=False)
    assert len(counted) == 12 and not leftovers(tmp_path)
    break_off(settings)
    cv2.imwrite(str(dataset.paths[3]), picture(77))
    counted.clear()
    prepare(dataset, settings, path, progress=False)
    assert len(counted) == 12 and not leftovers(tmp_path)


@pytest.mark.parametrize("damage", ["journal", "pixels", "line"])
def test_damaged_remains_are_never_trusted(dataset, settings, tmp_path, break_off, damage):
    break_off(settings)
    remains = tmp_path / f".s.h5.partial.{'h5' if damage == 'pixels' else 'jsonl'}"
    content = remains.read_bytes()
    remains.write_bytes({"journal": b"{", "pixels": content[:700], "line": content[:-40]}[damage])
    assert_whole(prepare(dataset, settings, tmp_path / "s.h5", progress=False), dataset)


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
    slow_prepare, dataset, settings, tmp_path, counted
):
    process = slow_prepare(40)
    files = sorted(p.name for p in dataset.root.glob("*.png"))
    all_files = Dataset(pd.DataFrame({"path": files, "label": ["normal", "flu"] * 60}), dataset.root, name="small")
    with pytest.raises(InputError, match=rf"process {process.pid} is preparing s\.h5"):
        prepare(all_files, settings, tmp_path / "s.h5", progress=False)
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
    store = prepare(all_files, settings, tmp_path / "s.h5", progress=False)
    assert len(counted) == 120 - len(records)
    assert_whole(store, all_files)
