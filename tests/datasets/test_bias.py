"""Shortcuts in a data set, found."""

import json

import cv2
import numpy as np
import pandas as pd
import pytest

from covidcxnet.cli import main
from covidcxnet.datasets import Dataset
from covidcxnet.datasets.bias import COUNT, FEATURES, bias_page, confounding, find_bias, shortcuts
from enhancement.errors import InputError


@pytest.fixture(scope="module")
def biased(tmp_path_factory) -> Dataset:
    """Noise whose source is told by a bright corner and whose label is told by nothing within a source."""
    root = tmp_path_factory.mktemp("biased")
    random = np.random.default_rng(0)
    rows = []
    for i in range(120):
        image = cv2.resize(random.integers(20, 200, (20, 20)).astype(np.uint8), (96, 96))
        source = "north" if i % 2 else "south"
        if source == "north":
            image[:12, :12] = 255
        cv2.imwrite(str(root / f"{i}.png"), image)
        label = "covid19" if source == "north" and i % 4 == 1 else "normal"
        rows.append((f"{i}.png", label, source, f"p{i // 2}", 8 if i < 60 else 50, "<b>" if i % 3 else None))
    rows.append(("none.png", "normal", "south", *[None] * 3))
    table = pd.DataFrame(rows, columns=["path", "label", "source", "patient", "age", "sex"])
    return Dataset(table, root, name="bi<ased")


@pytest.fixture(scope="module")
def found(biased):
    return find_bias(biased, jobs=1, progress=False)


def test_a_source_with_a_mark_is_told_chance_is_not_and_a_bad_file_is_left_out(found):
    assert (found.images, found.unreadable) == (120, 1)
    probes = {probe.target: probe for probe in found.probes}
    assert probes["source"].accuracy > 0.95 and probes["source"].alone["corners"] > 0.95
    assert probes["source"].alone["aspect"] == pytest.approx(0.5)
    assert probes["label within north"].accuracy < 0.75 and "label within south" not in probes
    assert probes["children or adults"].accuracy < 0.75, "ages stand for the population"


def test_it_warns_and_the_page_escapes_names_and_stands_alone(found):
    assert any(w.startswith("source can be predicted") for w in found.warnings)
    assert any(w.startswith("covid19: 30 of 30 images have source north") for w in found.warnings)
    page = bias_page(found)
    assert "bi&lt;ased" in page and "bi<ased" not in page and "&lt;b&gt;" in page
    assert "<link" not in page and "<script" not in page and "Label by age band" in page


def test_features_are_as_many_as_named_and_finite_for_odd_images_and_some_file_must_be_readable(tmp_path):
    assert sum(map(len, FEATURES.values())) == COUNT
    for image in (np.zeros((64, 64), np.uint8), np.full((3, 5), 255, np.uint8), np.eye(70, 200, dtype=np.uint8)):
        values = shortcuts(image)
        assert values.shape == (COUNT,) and np.isfinite(values).all()
    table = pd.DataFrame({"path": ["gone.png"], "label": ["normal"]})
    with pytest.raises(InputError, match="no file can be read"):
        find_bias(Dataset(table, tmp_path), jobs=1, progress=False)


def test_the_command_writes_page_and_json_and_names_a_value_of_too_few_images(biased, tmp_path, capsys):
    table, out = tmp_path / "set.csv", tmp_path / "bias.html"
    rows = biased.table.drop(columns=["patient", "age"]).head(50)
    rows.loc[rows.index[:5], "source"] = "west"
    rows.to_csv(table, index=False)
    data = [str(table), "--root", str(biased.root)]
    assert main(["datasets", "bias", *data, "--out", str(out), "--quiet", "--jobs", "2"]) == 0
    assert "source: north, south (without west: too few): balanced accuracy" in capsys.readouterr().out
    assert "source without west" in out.read_text(encoding="utf-8")
    values = json.loads(out.with_suffix(".json").read_text())
    assert values["images"] == 50 and values["probes"][0]["target"] == "source" and values["tables"]["source"]


def test_confounding_of_a_table_of_counts():
    counts = pd.DataFrame({"a": [95, 0, 0], "b": [5, 50, 0], "c": [0, 50, 7], "unknown": [9, 0, 0]}, ["x", "y", "z"])
    result = confounding(counts)
    assert result.single == (("x", "a", 95, 100), ("z", "c", 7, 7)) and result.unshared == (("x", "z"),)
    assert result.lonely == ("a",)
    assert result.guessed == pytest.approx(204 / 216) and result.commonest == pytest.approx(109 / 216)
