"""`covidcxnet prepare`: the store of a training, without the training."""

import shutil

import pandas as pd

from covidcxnet import Store
from covidcxnet.cli import main


def test_prepare_makes_the_store_it_names_and_lists_a_damaged_file(phantoms, tmp_path, capsys):
    folder, path = tmp_path / "data", tmp_path / "p.h5"
    shutil.copytree(phantoms.parent, folder)
    command = ["prepare", "--data", str(folder / "phantom.csv"), "--store", str(path), "--input.size", "32"]
    command += ["--input.channels", "raw", "--jobs", "1"]
    assert main(command) == 0
    assert capsys.readouterr().out.strip() == str(path)
    with Store(path) as store:
        assert store.stacks.shape == (36, 32, 32, 1)
    broken = pd.read_csv(folder / "phantom.csv")["path"][5]
    (folder / broken).write_bytes(b"\x89PNG\r\n\x1a\n, and then nothing")
    assert main(command) == 1
    assert broken in capsys.readouterr().err
    with Store(path) as store:
        assert len(store) == 35 and list(store.rejected["path"]) == [broken]
