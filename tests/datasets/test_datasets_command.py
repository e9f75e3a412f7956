"""`covidcxnet datasets` from the command line."""

from __future__ import annotations

import pandas as pd
import pytest
from miniatures import KERMANY, NIH_SET

from covidcxnet.cli import main
from covidcxnet.datasets import load
from covidcxnet.datasets.named import NAMES
from covidcxnet.datasets.phantom import phantom


@pytest.fixture
def kermany(lay):
    return lay({name: phantom("normal", i, 96).image for i, name in enumerate(KERMANY)}, "kermany")


def test_list_and_show(capsys):
    assert main(["datasets", "list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in NAMES)
    assert main(["datasets", "show", "nih"]) == 0
    assert "Wang et al." in capsys.readouterr().out


def test_summary_counts_classes_and_findings(kermany, capsys):
    assert main(["datasets", "summary", f"kermany:{kermany}"]) == 0
    out = capsys.readouterr().out
    assert "bacterial_pneumonia" in out and "published_split: train 2, test 1" in out and "present" in out


def test_check_writes_verdicts_and_its_exit_code_tells_of_rejects(kermany, tmp_path, capsys):
    out = tmp_path / "verdicts.csv"
    arguments = ["datasets", "check", f"kermany:{kermany}", "--out", str(out), "--quiet"]
    assert main(arguments) == 0
    assert "3 images listed; use 3, look 0, reject 0" in capsys.readouterr().out
    (kermany / KERMANY[0]).write_bytes(b"")
    before = out.read_bytes()
    assert main(arguments) == 2 and "exists" in capsys.readouterr().err
    assert out.read_bytes() == before, "verdicts edited by hand are not lost"
    assert main([*arguments, "--overwrite"]) == 1
    assert "unreadable: 1" in capsys.readouterr().out
    assert list(pd.read_csv(out)["verdict"]).count("reject") == 1


def test_convert_writes_a_table_that_loads_from_elsewhere(kermany, lay, tmp_path, capsys):
    nih = lay(NIH_SET, "nih")
    out = tmp_path / "tables" / "both.csv"
    data = [f"kermany,labels=two:{kermany}", f"nih:{nih}"]
    assert main(["datasets", "convert", *data, "--out", str(out)]) == 2
    assert "accept" in capsys.readouterr().err and not out.exists()
    assert main(["datasets", "convert", *data, "--out", str(out), "--accept", "normal", "--accept", "pneumonia"]) == 0
    before = out.read_bytes()
    assert main(["datasets", "convert", str(out), "--out", str(out), "--classes", "normal"]) == 2
    assert "exists" in capsys.readouterr().err and out.read_bytes() == before, "no table is written over itself"
    dataset = load(out, for_training=False)
    assert [p.is_file() for p in dataset.paths] == [True, True, True, True, False]
    assert not dataset.table["path"].str.startswith("/").any()
    assert list(dataset.table["source"].unique()) == ["kermany", "nih"]
    assert dataset.table["patient"].nunique() == 5 and dataset.findings["mass"].isna().sum() == 3


def test_convert_carries_masks_and_verdicts_along(lay, tmp_path, capsys):
    files = {
        "MontgomerySet/CXR_png/MCUCXR_0001_0.png": None,
        "MontgomerySet/CXR_png/MCUCXR_0104_1.png": phantom("normal", 1, 96).image,
    }
    files |= {f"MontgomerySet/ManualMask/{side}Mask/MCUCXR_0001_0.png": None for side in ("left", "right")}
    root, out, verdicts = lay(files), tmp_path / "t.csv", tmp_path / "v.csv"
    assert main(["datasets", "check", f"montgomery:{root}", "--out", str(verdicts), "--quiet"]) == 1
    assert main(["datasets", "convert", f"montgomery:{root}", "--out", str(out), "--verdicts", str(verdicts)]) == 0
    dataset = load(out, for_training=False)
    assert all(file.is_file() for file in dataset.masks[0]) and len(dataset.masks[0]) == 2
    assert dataset.rejected[0] and dataset.rejected[1] is None

    from segmentation.pairs import pairs_from_csv

    table = pd.read_csv(out)
    table[table["mask"].notna()].to_csv(out, index=False)
    assert len(pairs_from_csv(out)[0].masks) == 2, "the lung U-Net's training takes the same table"
