"""Findings of any table become columns of 1, 0 and unknown; splits hold their share of each, patients together."""

import numpy as np
import pandas as pd
import pytest

from covidcxnet.datasets import Dataset, load, split
from covidcxnet.datasets.vocabulary import finding_name
from covidcxnet.training import Recipe
from enhancement.errors import InputError


def findings(data, **options) -> Dataset:
    return load(data, task="independent", **options)


def table(tmp_path, **columns):
    rows = len(next(iter(columns.values())))
    path = tmp_path / "t.csv"
    pd.DataFrame({"path": [f"{i}.png" for i in range(rows)], **columns}).to_csv(path, index=False)
    return path


def test_columns_of_1_0_minus_1_and_nothing_are_present_absent_and_unknown(tmp_path):
    data = findings(table(tmp_path, Effusion=[1, 0, -1, None], mass=[0, 1, 1, 0], age=[1, 0, 1, 0]))
    assert data.classes == ("effusion", "mass") and data.targets.dtype == np.float32
    np.testing.assert_array_equal(data.targets, [[1, 0], [0, 1], [np.nan, 1], [np.nan, 0]])
    assert list(data.table["label"]) == ["effusion", "mass", "mass", "unknown"]


def test_a_list_says_what_is_present_and_nothing_said_is_unknown(tmp_path):
    lists = ["Effusion|Pleural_Thickening", "No Finding", None, "Effusion"]
    data = findings(table(tmp_path, labels=lists, label=["sick", "normal", "sick", "sick"]))
    assert set(data.classes) == {"effusion", "pleural_thickening"}
    named = dict(zip(data.classes, data.targets.T, strict=True))
    np.testing.assert_array_equal(named["effusion"], [1, 0, np.nan, 1])
    np.testing.assert_array_equal(named["pleural_thickening"], [1, 0, np.nan, 0])
    assert list(data.table["label"]) == ["several", "normal", "unknown", "effusion"]


def test_a_finding_that_no_list_names_is_unknown_not_absent(tmp_path):
    path = table(tmp_path, labels=["Effusion|Mass", "No Finding"])
    data = findings(path, classes=("Effusion", "Hernia"), for_training=False)
    np.testing.assert_array_equal(data.targets, [[1, np.nan], [0, np.nan]])
    with pytest.raises(InputError, match="hernia"):
        findings(path, classes=("Hernia", "Fibrosis"), for_training=False)


def test_names_of_the_classes_find_columns_outside_the_vocabulary(tmp_path):
    path = table(tmp_path, Scoliosis=[1, 0], Mass=[0, 1])
    assert findings(path, classes=("scoliosis", "mass")).classes == ("scoliosis", "mass")
    assert finding_name("No Finding") == "normal" and finding_name("finding_mass") == "mass"


@pytest.mark.parametrize(
    ("columns", "classes", "word"),
    [
        ({"mass": [1, 0], "effusion": [2, 0]}, (), "column effusion, row 1"),
        ({"mass": [1, 0]}, (), "two findings"),
        ({"mass": [1, 0], "effusion": [0, 0]}, ("mass", "effusion"), "effusion is present in 0"),
        ({"label": ["a", "b"]}, (), "two findings"),
        ({"mass": [1, 0], "effusion": [1, 0]}, ("mass", "hernia"), "no finding 'hernia'"),
    ],
)
def test_what_cannot_be_learned_is_refused(tmp_path, columns, classes, word):
    with pytest.raises(InputError, match=word):
        findings(table(tmp_path, **columns), classes=classes)


def test_the_phantom_and_folders_are_refused(tmp_path):
    for data in ("phantom", tmp_path):
        with pytest.raises(InputError, match="one label"):
            findings(data)


def test_a_split_keeps_patients_together_and_gives_each_side_its_share_of_each_finding(tmp_path):
    random = np.random.default_rng(0)
    images = 600
    columns = {name: (random.random(images) < share).astype(int) for name, share in (("mass", 0.3), ("hernia", 0.05))}
    data = findings(table(tmp_path, patient=random.integers(0, 200, images).astype(str), **columns))
    sides = split(data, (0.6, 0.2, 0.2), seed=1)["split"]
    assert sides.groupby(data.table["patient"]).nunique().max() == 1
    for name, share in (("train", 0.6), ("validation", 0.2), ("test", 0.2)):
        inside = (sides == name).to_numpy()
        shares = data.targets[inside].sum(axis=0) / data.targets.sum(axis=0)
        np.testing.assert_allclose(shares, share, atol=0.07)


def test_a_filter_and_verdicts_leave_a_data_set_of_findings(tmp_path):
    from covidcxnet.datasets.dataset import with_verdicts

    data = findings(table(tmp_path, mass=[1, 0, 1], effusion=[1, 0, 0], view=["PA", "PA", "AP"]))
    assert data.filter(view="PA").targets.shape == (2, 2)
    said = pd.DataFrame({"path": ["2.png"], "verdict": ["reject"], "reason": ["blank"]})
    assert with_verdicts(data, said).classes == data.classes


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"options": {"activation": "softmax"}}, "softmax"),
        ({"model": "logistic-regression"}, "multilabel"),
        ({"class_weights": "source"}, "class_weights"),
        ({"sampling": "oversample"}, "sampling"),
    ],
)
def test_a_recipe_that_does_not_go_with_findings_is_refused_before_any_work(changes, word):
    with pytest.raises(InputError, match=word):
        Recipe(multilabel=True, **changes)
