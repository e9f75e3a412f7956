"""Splits: balanced, grouped, reproducible, and checked when read back."""

import numpy as np
import pandas as pd
import pytest

from covidcxnet.datasets import Dataset, load, read_split, save_split, split
from covidcxnet.datasets.splits import unknown_patients, with_fewer
from enhancement.errors import InputError


def patients(sizes, labels, root="/nowhere", sources=None) -> Dataset:
    rows = [
        {"path": f"{i}_{k}.png", "label": label, "patient": f"p{i}", **({"source": sources[i]} if sources else {})}
        for i, (size, label) in enumerate(zip(sizes, labels, strict=True))
        for k in range(size)
    ]
    return Dataset(pd.DataFrame(rows), root)


@pytest.fixture(scope="module")
def mixed() -> Dataset:
    """600 patients, most with one image, some with twenty; one label in ten is rare."""
    rng = np.random.default_rng(0)
    sizes = np.where(rng.random(600) < 0.1, 20, rng.integers(1, 4, 600))
    return patients(sizes, rng.choice(["normal", "covid19", "flu"], 600, p=[0.6, 0.3, 0.1]))


def shares(dataset, table) -> pd.DataFrame:
    return pd.crosstab(dataset.table["label"], table["split"], normalize="index")


@pytest.mark.parametrize("fractions", [(0.7, 0.15, 0.15), (0.5, 0.25, 0.25), (8, 1, 1)])
def test_every_label_is_split_as_asked_even_with_big_groups(mixed, fractions):
    table = split(mixed, fractions, seed=3)
    wanted = np.array(fractions) / sum(fractions)
    got = shares(mixed, table)[["train", "validation", "test"]].to_numpy()
    assert np.abs(got - wanted).max() < 0.02


def test_patients_stay_on_one_side_unless_images_are_split(mixed):
    table = split(mixed)
    assert table.groupby(mixed.table["patient"])["split"].nunique().max() == 1
    assert list(table["path"]) == list(mixed.table["path"])
    by_image = split(mixed, by="image")
    assert by_image.groupby(mixed.table["patient"])["split"].nunique().max() > 1
    assert np.abs(shares(mixed, by_image)["test"] - 0.15).max() < 0.01


def test_sources_are_balanced_within_labels_the_seed_decides_and_a_side_without_a_share_stays_empty(mixed):
    sources = ["big"] * 260 + ["small"] * 40 + ["big"] * 100
    dataset = patients([1] * 400, ["normal"] * 300 + ["flu"] * 100, sources=sources)
    small = split(dataset, seed=1)["split"][dataset.table["source"] == "small"].value_counts()
    assert abs(small["test"] - 6) <= 1 and abs(small["validation"] - 6) <= 1
    first, again, other = split(mixed, seed=1), split(mixed, seed=1), split(mixed, seed=2)
    assert first.equals(again) and not first.equals(other)
    assert set(split(mixed, (0.8, 0.2, 0))["split"]) == {"train", "validation"}


def test_held_out_rows_are_the_test_set_with_all_of_their_patients():
    dataset = patients([2] * 40, ["normal", "flu"] * 20)
    table = dataset.table.assign(source=np.where(np.arange(80) < 20, "external", "own"))
    table.loc[20, "patient"] = table.loc[0, "patient"]  # one held-out patient has an image elsewhere
    dataset = Dataset(table, dataset.root)
    sides = split(dataset, (0.8, 0.2, 0), holdout={"source": "external"})
    assert set(sides["split"][:20]) == {"test"} and sides["split"][20] == "test"
    assert (sides["split"] == "test").sum() == 21
    assert set(sides["split"][21:]) == {"train", "validation"}
    for source, reason in (("nobody", "no image matches"), (["external", "own"], "every image matches")):
        with pytest.raises(InputError, match=reason):
            split(dataset, holdout={"source": source})


def test_the_test_share_of_the_others_stands_beside_the_held_out_rows(mixed):
    held = mixed.table["patient"].isin([f"p{i}" for i in range(100)])
    dataset = Dataset(mixed.table.assign(source=np.where(held, "external", "own")), mixed.root)
    sides = split(dataset, (0.7, 0.1, 0.2), holdout={"source": "external"})
    assert set(sides["split"][held]) == {"test"}
    others = shares(Dataset(dataset.table[~held].reset_index(drop=True), dataset.root), sides[~held].reset_index())
    assert np.abs(others[["train", "validation", "test"]].to_numpy() - [0.7, 0.1, 0.2]).max() < 0.02
    assert sides["split"].groupby(dataset.table["patient"]).nunique().max() == 1


def test_unknown_patients_need_a_word_and_the_split_says_whose_they_are(mixed, tmp_path):
    table = patients([3] * 20, ["normal", "flu"] * 10).table
    table.loc[::3, "patient"] = [None, ""] * 10
    dataset = Dataset(table, "/nowhere")
    with pytest.raises(InputError, match="20 of 60 images have no patient"):
        split(dataset)
    sides = split(dataset, by="patient_where_known")
    assert sides.groupby(dataset.table["patient"])["split"].nunique().max() == 1
    assert set(sides["grouped_by"][::3]) == {"image, patient unknown"} and unknown_patients(dataset) == 20
    assert set(sides["grouped_by"].drop(range(0, 60, 3))) == {"patient"}
    path = save_split(sides, tmp_path / "split.csv")
    assert list(pd.read_csv(path)["grouped_by"]) == list(sides["grouped_by"])
    assert list(read_split(path, dataset, by="image")["grouped_by"][:2]) == ["image, patient unknown", "image"]
    alone = Dataset(table.drop(columns="patient"), "/nowhere")
    with pytest.raises(InputError, match="--split-by image"):
        split(alone)
    assert set(split(alone, by="image")["grouped_by"]) == {"image, patient unknown"} and unknown_patients(alone) == 60


def test_fractions_units_and_numbers_of_patients_that_make_no_sense_are_refused(mixed):
    for fractions in ((0, 0.5, 0.5), (0.5, -0.1, 0.6), (1, 1), (float("nan"), 1, 1)):
        with pytest.raises(InputError, match="fractions"):
            split(mixed, fractions)
    with pytest.raises(InputError, match="would be empty"):
        split(patients([10, 10], ["normal", "flu"]))
    with pytest.raises(InputError, match="split_by"):
        split(patients([1] * 9, ["normal", "flu", "x"] * 3), by="hospital")
    few = patients([1] * 12, ["normal", "flu"] * 6, sources=["own"] * 2 + ["external"] * 10)
    with pytest.raises(InputError, match="beside the held-out images; 2 patients are too few"):
        split(few, holdout={"source": "external"})
    assert set(split(few, (1, 0, 0), holdout={"source": "external"})["split"][:2]) == {"train"}


def test_a_saved_split_is_read_back_in_the_tables_order_and_refused_where_it_does_not_fit(mixed, tmp_path):
    table = split(mixed)
    path = save_split(table, tmp_path / "deep" / "split.csv")
    assert read_split(path, mixed).equals(table.astype({"split": "str"}))
    part = mixed.filter(label="flu")
    assert list(read_split(path, part)["path"]) == list(part.table["path"]), "rows about other images are passed over"
    cases = {
        r"5 of the \d+ images of .* have no split, the first .*; add a line for each": table.iloc[5:],
        "is listed twice": pd.concat([table, table.iloc[:1]]),
        "split 'holdout' found": table.assign(split=["holdout", *table["split"][1:]]),
        "columns path and split expected": table.rename(columns={"split": "side"}),
    }
    for reason, bad in cases.items():
        bad.to_csv(path, index=False)
        with pytest.raises(InputError, match=reason):
            read_split(path, mixed)
    with pytest.raises(InputError, match="no such file"):
        read_split(tmp_path / "missing.csv", mixed)
    row = int(np.flatnonzero(mixed.table["patient"].duplicated(keep=False))[0])
    table.loc[row, "split"] = "test" if table["split"][row] != "test" else "train"
    save_split(table, path)
    with pytest.raises(InputError, match="1 patient is on two sides"):
        read_split(path, mixed)
    assert len(read_split(path, mixed, by="image")) == len(mixed)


@pytest.mark.real
def test_the_real_table_is_read_from_its_own_folder_and_splits_evenly(real_data):
    dataset = load(real_data / "classification" / "metadata.csv")
    assert dataset.root == real_data and dataset.classes == ("normal", "covid19", "pneumonia")
    assert dataset.paths[0].is_file() and dataset.table["patient"].nunique() == 2127
    wanted = pd.Series({"train": 0.7, "validation": 0.15, "test": 0.15})
    assert (shares(dataset, split(dataset)) - wanted).abs().max().max() < 0.01


def test_fewer_training_images_are_whole_patients_in_the_same_shares_and_a_learning_curve_is_nested(mixed, tmp_path):
    table = split(mixed)
    small, large = (with_fewer(table, mixed, images, seed=4) for images in (200, 600))
    train = {name: set(t["path"][t["split"] == "train"]) for name, t in (("all", table), ("s", small), ("l", large))}
    assert train["s"] < train["l"] < train["all"]
    assert 170 < len(train["s"]) <= 200 and 570 < len(train["l"]) <= 600
    others = table["split"] != "train"
    assert small[others].equals(table[others])
    patients_used = small.groupby(mixed.table["patient"])["split"].nunique()
    assert patients_used.max() == 1
    labels = mixed.table.set_index("path")["label"]
    all_shares = labels[sorted(train["all"])].value_counts(normalize=True)
    assert (labels[sorted(train["l"])].value_counts(normalize=True) - all_shares).abs().max() < 0.05
    assert not with_fewer(table, mixed, 200, seed=5).equals(small)
    assert read_split(save_split(small, tmp_path / "split.csv"), mixed)["split"].equals(small["split"])
    with pytest.raises(InputError, match="train_images: 100000 given, the training split has"):
        with_fewer(table, mixed, 100_000)
