"""`covidcxnet prepare`: the store of a training, without the training."""

import shutil

import pandas as pd

from covidcxnet import Store
from covidcxnet.cli import main

INPUT = ["--input.size", "32", "--input.channels", "raw", "--jobs", "1"]


def test_prepare_makes_the_store_it_names(phantoms, tmp_path, capsys):
    path = tmp_path / "p.h5"
    assert main(["prepare", "--data", str(phantoms), "--store", str(path), *INPUT]) == 0
    assert capsys.readouterr().out.strip() == str(path)
    with Store(path) as store:
        assert store.stacks.shape == (36, 32, 32, 1)


def test_a_damaged_file_is_listed_and_the_rest_prepared(phantoms, tmp_path, capsys):
    folder = tmp_path / "data"
    shutil.copytree(phantoms.parent, folder)
    broken = pd.read_csv(folder / "phantom.csv")["path"][5]
    (folder / broken).write_bytes(b"\x89PNG\r\n\x1a\n, and then nothing")
    path = tmp_path / "p.h5"
    assert main(["prepare", "--data", str(folder / "phantom.csv"), "--store", str(path), *INPUT]) == 1
    assert broken in capsys.readouterr().err
    with Store(path) as store:
        assert len(store) == 35
        assert list(store.rejected["path"]) == [broken]
