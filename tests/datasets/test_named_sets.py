"""The register of public sets: addresses, options, facts that agree with datasets.md, and merging."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from covidcxnet.datasets import Dataset, load, merge
from covidcxnet.datasets.named import NAMES, address_of, facts_of, folder_of, load_address, load_named, readdressed
from covidcxnet.datasets.named.facts import all_facts
from covidcxnet.datasets.vocabulary import DEFINITIONS, FINDINGS, SEVERAL, UNKNOWN, single_label
from enhancement.errors import InputError

GUIDE = Path(__file__).parents[2] / "datasets.md"


@pytest.mark.parametrize("name", NAMES)
def test_every_set_stands_in_the_guide_as_its_facts_say(name):
    about = facts_of(name)
    assert about.name == name
    assert " ".join(about.markdown().split()) in " ".join(GUIDE.read_text(encoding="utf-8").split())
    for key, value in about.lines():
        assert value.strip(), f"{name} says nothing about {key}"


def test_every_set_has_facts_and_a_reader():
    assert tuple(all_facts()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_labels_are_of_the_common_vocabulary(name):
    own = {SEVERAL, UNKNOWN, "no_nodule", "not_normal", "covid_negative"}
    for label, kind in facts_of(name).labels.items():
        assert label in FINDINGS or label in own, f"{name} calls something {label}"
        assert kind in DEFINITIONS


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_that_holds_something_else_is_refused_and_the_layout_said(name, lay):
    root = lay({"holiday/beach.jpg": None, "notes.txt": "x"})
    with pytest.raises(InputError, match=f"does not hold {name}; expected"):
        load_named(name, root)
    with pytest.raises(InputError, match="no such folder"):
        load_named(name, root / "nowhere")


def test_an_address_has_name_options_and_folder(tmp_path):
    assert address_of("nih:/data/nih") == ("nih", {}, "/data/nih")
    assert address_of("chexpert,uncertain=positive,views=all:d") == (
        "chexpert",
        {"uncertain": "positive", "views": "all"},
        "d",
    )
    assert address_of("C:/data") is None and address_of(tmp_path) is None and address_of("table.csv") is None
    (tmp_path / "nope:x").mkdir()
    assert address_of(tmp_path / "nope:x") is None, "a path that exists is a path"
    assert str(folder_of("nih,labels=seven:a/b")) == "a/b" and str(folder_of("a/b.csv")) == "a/b.csv"
    assert readdressed("nih,labels=seven:a/b", "c") == "nih,labels=seven:c" and readdressed("a.csv", "c") == "c"


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("nhi:/data", r"'nhi' is not a set known by name; there are: covidcxnet, .*jsrt"),
        ("nih,seven:/data", "'seven' is not option=value"),
        ("nih,label=seven:/data", "no option 'label'; there are: labels"),
        ("chexpert,uncertain=1:/data", "uncertain='1' given, one of unknown, positive, negative"),
        ("hannover,a=b:/data", "there are: none"),
    ],
)
def test_addresses_that_make_no_sense_are_refused(address, said):
    with pytest.raises(InputError, match=said):
        load(address)


KERMANY = [f"train/{name}.jpeg" for name in ("NORMAL/IM-0115-0001", "PNEUMONIA/person1_bacteria_1")]
KERMANY += ["test/PNEUMONIA/person2_virus_6.jpeg"]
NIH = "Image Index,Finding Labels,Patient ID\n00000001_000.png,No Finding,1\n00000002_000.png,Pneumonia|Mass,2\n"


def test_a_set_is_loaded_by_its_address_like_any_other_data(lay):
    root = lay(dict.fromkeys(KERMANY))
    dataset = load(f"kermany,labels=two:{root}")
    assert dataset.classes == ("normal", "pneumonia") and dataset.definitions["normal"] == "read"
    narrowed = load(f"kermany:{root}", classes=("normal", "viral_pneumonia"), where={"population": "child"})
    assert len(narrowed) == 2 and narrowed.definitions
    assert load_address(str(root)) is None and load(root / "train").classes == ("NORMAL", "PNEUMONIA")


def test_merge_refuses_labels_that_rest_on_different_things_unless_told_so(lay):
    kermany = load_named("kermany", lay(dict.fromkeys(KERMANY), "kermany"))
    nih = load_named("nih", lay({"Data_Entry_2017.csv": NIH, "images/00000001_000.png": None}, "nih"))
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


def test_sets_without_definitions_merge_and_an_empty_source_is_filled(tmp_path):
    table = pd.DataFrame({"path": ["a", "b"], "label": ["normal", "flu"], "source": ["x", None]})
    one = Dataset(table, tmp_path / "1", (), "one")
    two = Dataset(pd.DataFrame({"path": ["a"], "label": ["normal"]}), tmp_path / "2", (), "two", {"normal": "mined"})
    assert list(merge(one, two).table["source"]) == ["x", "one", "two"]


def test_one_label_of_several_findings():
    nan = np.nan
    columns = {"normal": [1, 0, nan, 0, nan], "mass": [0, 1, 1, 0, nan], "nodule": [0, 0, 1, 0, nan]}
    findings = pd.DataFrame({**columns, "support_devices": [1, 1, 0, 1, 1]})
    assert list(single_label(findings)) == ["normal", "mass", SEVERAL, UNKNOWN, UNKNOWN]


@pytest.mark.real
def test_real_files_of_the_sets_load_under_their_published_names(real_data, tmp_path):
    import shutil

    shenzhen = tmp_path / "ChinaSet_AllFiles"
    (shenzhen / "CXR_png").mkdir(parents=True)
    (shenzhen / "mask").mkdir()
    for image in sorted((real_data / "segmentation" / "shenzhen" / "images").iterdir())[:6]:
        shutil.copy(image, shenzhen / "CXR_png" / image.name)
        mask = real_data / "segmentation" / "shenzhen" / "masks" / image.name
        shutil.copy(mask, shenzhen / "mask" / f"{image.stem}_mask.png")
    for place, folder in (("COVID", "covid19"), ("Normal", "normal"), ("Viral Pneumonia", None)):
        (tmp_path / "radiography" / place).mkdir(parents=True)
        if folder:
            (tmp_path / "radiography" / place / "images").symlink_to(
                real_data / "classification" / "radiography" / folder
            )
    radiography = load_named("radiography", tmp_path / "radiography", blocks="20")
    assert len(radiography) == 4660 and radiography.paths[-1].is_file()
    assert radiography.table["patient"].notna().all()
    shutil.rmtree(tmp_path / "radiography")
    dataset = load_named("shenzhen", tmp_path)
    assert len(dataset) == 6 and all(path.is_file() for path in dataset.paths)
    assert all(mask and mask[0].is_file() for mask in dataset.masks)
