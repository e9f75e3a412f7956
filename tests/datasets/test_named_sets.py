"""The register of public sets and its commands: addresses, options, facts that agree with datasets.md, merging."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from miniatures import KERMANY, NIH_SET

from covidcxnet.cli import main
from covidcxnet.datasets import Dataset, load, merge
from covidcxnet.datasets.load import address_of, folder_of, readdressed
from covidcxnet.datasets.named import NAMES, facts_of, load_named
from covidcxnet.datasets.named.facts import all_facts
from covidcxnet.datasets.phantom import phantom
from covidcxnet.datasets.vocabulary import DEFINITIONS, FINDINGS, SEVERAL, UNKNOWN, single_label
from enhancement.errors import InputError
from segmentation.pairs import pairs_from_csv

GUIDE = Path(__file__).parents[2] / "datasets.md"


@pytest.mark.parametrize("name", NAMES)
def test_every_set_stands_in_the_guide_as_its_facts_say_with_labels_of_the_common_vocabulary(name):
    about = facts_of(name)
    assert about.name == name and tuple(all_facts()) == NAMES
    assert " ".join(about.markdown().split()) in " ".join(GUIDE.read_text(encoding="utf-8").split())
    for key, value in about.lines():
        assert value.strip(), f"{name} says nothing about {key}"
    assert set(about.labels) <= {*FINDINGS, SEVERAL, UNKNOWN, "no_nodule", "not_normal", "covid_negative"}
    assert set(about.labels.values()) <= set(DEFINITIONS)


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_that_holds_something_else_is_refused_and_the_layout_named(name, lay):
    root = lay({"holiday/beach.jpg": None, "notes.txt": "x"})
    for folder, reason in ((root, f"does not hold {name}; expected"), (root / "nowhere", "no such folder")):
        with pytest.raises(InputError, match=reason):
            load_named(name, folder)


def test_an_address_has_name_options_and_folder(tmp_path):
    assert address_of("nih:/data/nih") == ("nih", {}, "/data/nih")
    options = {"uncertain": "positive", "views": "all"}
    assert address_of("chexpert,uncertain=positive,views=all:d") == ("chexpert", options, "d")
    assert address_of("C:/data") is None and address_of(tmp_path) is None and address_of("table.csv") is None
    (tmp_path / "nope:x").mkdir()
    assert address_of(tmp_path / "nope:x") is None, "a path that exists is a path"
    assert str(folder_of("nih,labels=seven:a/b")) == "a/b" and str(folder_of("a/b.csv")) == "a/b.csv"
    assert readdressed("nih,labels=seven:a/b", "c") == "nih,labels=seven:c" and readdressed("a.csv", "c") == "c"


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("nhi:/data", r"'nhi' is not a set known by name; there are: covidcxnet, .*jsrt"),
        ("nih,seven:/data", "'seven' is not option=value"),
        ("nih,label=seven:/data", "no option 'label'; there are: labels"),
        ("chexpert,uncertain=1:/data", "uncertain='1' given, one of unknown, positive, negative"),
        ("hannover,a=b:/data", "there are: none"),
    ],
)
def test_addresses_that_make_no_sense_are_refused(address, reason):
    with pytest.raises(InputError, match=reason):
        load(address)


def test_a_set_is_loaded_by_its_address_like_any_other_data(lay):
    root = lay(dict.fromkeys(KERMANY))
    dataset = load(f"kermany,labels=two:{root}")
    assert dataset.classes == ("normal", "pneumonia") and dataset.definitions["normal"] == "read"
    narrowed = load(f"kermany:{root}", classes=("normal", "viral_pneumonia"), where={"population": "child"})
    assert len(narrowed) == 2 and narrowed.definitions
    assert address_of(str(root)) is None and load(root / "train").classes == ("NORMAL", "PNEUMONIA")


def test_merge_refuses_labels_that_rest_on_different_things_unless_told_so(lay):
    kermany = load_named("kermany", lay(dict.fromkeys(KERMANY), "kermany"))
    nih = load_named("nih", lay(NIH_SET, "nih"))
    reason = r"'normal' of kermany is meant as read .*that of nih, as mined .*accept normal"
    with pytest.raises(InputError, match=reason):
        merge(kermany, nih)
    both = merge(kermany, nih, accept=["normal"])
    assert list(both.table["source"]) == ["kermany"] * 3 + ["nih"] * 2
    assert both.definitions["normal"] == "read+mined" and both.classes[0] == "normal"
    assert both.findings["mass"].isna()[:3].all(), "what a set does not say is unknown"
    assert list(both.findings["mass"][3:]) == [0, 1] and both.findings["bacterial_pneumonia"].isna()[3:].all()
    other = load_named("kermany", lay(dict.fromkeys(KERMANY), "other")).filter(label="normal")
    with pytest.raises(InputError, match="normal"):
        merge(both, merge(other, nih, accept=["normal"]))


def test_sets_without_definitions_merge_an_empty_source_is_filled_and_several_findings_are_one_label(tmp_path):
    table = pd.DataFrame({"path": ["a", "b"], "label": ["normal", "flu"], "source": ["x", None]})
    one = Dataset(table, tmp_path / "1", (), "one")
    two = Dataset(table[["path", "label"]].head(1), tmp_path / "2", (), "two", {"normal": "mined"})
    assert list(merge(one, two).table["source"]) == ["x", "one", "two"]
    columns = {"normal": [1, 0, np.nan, 0, np.nan], "mass": [0, 1, 1, 0, np.nan], "nodule": [0, 0, 1, 0, np.nan]}
    findings = pd.DataFrame({**columns, "support_devices": [1, 1, 0, 1, 1]})
    assert list(single_label(findings)) == ["normal", "mass", SEVERAL, UNKNOWN, UNKNOWN]


@pytest.fixture
def kermany(lay):
    return lay({name: phantom("normal", i, 96).image for i, name in enumerate(KERMANY)}, "kermany")


def test_list_show_and_summary(kermany, capsys):
    assert main(["datasets", "list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in NAMES)
    assert main(["datasets", "show", "nih"]) == 0
    assert "Wang et al." in capsys.readouterr().out
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
    table = pd.read_csv(out)
    table[table["mask"].notna()].to_csv(out, index=False)
    assert len(pairs_from_csv(out)[0].masks) == 2, "the lung U-Net's training takes the same table"
