"""The register of public sets: addresses, options, facts that agree with datasets.md, and merging."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from miniatures import KERMANY, NIH_SET

from covidcxnet.datasets import Dataset, load, merge
from covidcxnet.datasets.load import address_of, folder_of, readdressed
from covidcxnet.datasets.named import NAMES, facts_of, load_named
from covidcxnet.datasets.named.facts import all_facts
from covidcxnet.datasets.vocabulary import DEFINITIONS, FINDINGS, SEVERAL, UNKNOWN, single_label
from enhancement.errors import InputError

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
