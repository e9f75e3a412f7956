"""Sampling: what an epoch shows, and that nothing of the training split reaches validation or test."""

import dataclasses
import shutil

import numpy as np
import pandas as pd
import pytest

from covidcxnet.datasets import save_split
from covidcxnet.preparation import Store
from covidcxnet.preparation.batches import Batches
from covidcxnet.training import train
from covidcxnet.training.data import dataset_of, split_of
from covidcxnet.training.sampling import (
    FeatureBatches,
    Sampler,
    balanced_weights,
    sides,
    source_weights,
    targets_for,
)
from enhancement.errors import InputError

LABELS = np.array([0] * 7 + [1] * 3 + [2] * 2)


pytestmark = pytest.mark.usefixtures("quick_curves")


@pytest.mark.parametrize(("kind", "each"), [("oversample", 7), ("undersample", 2)])
def test_every_class_is_shown_as_often_as_the_largest_or_smallest_and_its_images_evenly(kind, each):
    sampler = Sampler(LABELS, kind, seed=4)
    for epoch in range(6):
        shown = sampler(epoch)
        assert len(shown) == len(sampler) == 3 * each
        assert np.bincount(LABELS[shown]).tolist() == [each] * 3
        times = np.bincount(shown, minlength=len(LABELS))
        assert all(np.ptp(times[label == LABELS]) <= 1 for label in range(3))
    other = Sampler(LABELS, kind, seed=4)  # a function of seed and epoch alone, and not of the epochs before
    np.testing.assert_array_equal(sampler(3), other(3))
    assert len({tuple(np.sort(sampler(epoch))) for epoch in range(6)}) > 1  # not the order alone
    assert not np.array_equal(sampler(3), Sampler(LABELS, kind, seed=2)(3))
    assert set(np.concatenate([sampler(epoch) for epoch in range(40)])) == set(range(len(LABELS)))
    for word, labels in (("smote", LABELS), (kind, [])):
        with pytest.raises(InputError, match=r"sampling: .*(smote|no training)"):
            Sampler(np.array(labels), word, 0)


def test_undersampling_once_shows_the_same_images_in_every_epoch_in_another_order():
    sampler = Sampler(LABELS, "undersample_once", seed=4)
    first, other = sampler(0), sampler(5)
    assert np.bincount(LABELS[first]).tolist() == [2] * 3 and len(set(first)) == 6
    assert sorted(first) == sorted(other) and not np.array_equal(first, other)
    assert sorted(first) != sorted(Sampler(LABELS, "undersample_once", seed=2)(0))


def test_targets_are_one_column_for_two_classes_and_one_hot_for_more():
    np.testing.assert_array_equal(targets_for(np.array([0, 1]), 2), [[0], [1]])
    np.testing.assert_array_equal(targets_for(np.array([2, 0]), 3), [[0, 0, 1], [1, 0, 0]])


def test_balanced_weights_give_each_class_the_same_sum_and_mean_1():
    weights = balanced_weights(LABELS, 3)
    np.testing.assert_allclose([weights[c == LABELS].sum() for c in range(3)], len(LABELS) / 3, rtol=1e-6)
    assert weights.mean() == pytest.approx(1)


def test_with_source_weights_classes_of_a_source_count_the_same_a_source_by_its_root_and_rare_classes_if_asked():
    labels = np.repeat([0, 1, 0, 1], [60, 4, 16, 16])
    sources = np.repeat(["both", "both", "one", "other"], [60, 4, 16, 16])
    weights = source_weights(labels, sources)
    sums = [weights[:60].sum(), weights[60:64].sum(), weights[64:80].sum(), weights[80:].sum()]
    np.testing.assert_allclose(sums, np.array([4, 4, 4, 4]) * 96 / 16, rtol=1e-5)  # roots 8, 4 and 4
    np.testing.assert_allclose(source_weights(labels, sources, rare=True), weights, rtol=1e-6)  # no class is rarer
    labels, sources = labels[:80], sources[:80]
    weights = source_weights(labels, sources, rare=True)
    sums = [weights[:60].sum(), weights[60:64].sum(), weights[64:].sum()]
    # by roots class 0 has 4 + 4 and class 1 has 4: "both" counts root 12/4 times, "one" root 12/8 times
    parts = np.array([4 * 3**0.5, 4 * 3**0.5, 4 * 1.5**0.5])
    np.testing.assert_allclose(sums, parts * 80 / parts.sum(), rtol=1e-5)


@pytest.mark.parametrize("kind", ["stacks", "features"])
def test_batches_follow_the_sampler(trained, kind):
    sampler = Sampler(np.array([0, 0, 0, 0, 1]), "oversample", seed=0)
    targets = np.arange(5.0)
    if kind == "stacks":
        batches = Batches(trained.store, [3, 4, 5, 6, 7], targets, batch_size=2, sampler=sampler)
    else:
        batches = FeatureBatches(targets[:, None], targets, batch_size=2, seed=0, sampler=sampler)
    assert len(batches) == 4
    for epoch in (0, 1):
        batches.set_epoch(epoch)
        np.testing.assert_array_equal(np.concatenate([batches[i][1] for i in range(4)]), sampler(epoch))


@pytest.fixture
def lopsided(phantoms, tmp_path):
    """CSV of 18 normal and 12 covid19 images; every sixth has an exact copy under another name and patient."""
    shutil.copytree(phantoms.parent, tmp_path / "data")
    table = pd.read_csv(phantoms)
    table = pd.concat([table[table["label"] == "normal"].head(18), table[table["label"] == "covid19"].head(12)])
    copies = table.iloc[::6]
    copies = copies.assign(path=copies["path"] + "-copy.png", patient=copies["patient"] + "-other")
    for path in copies["path"]:
        shutil.copy(tmp_path / "data" / path.removesuffix("-copy.png"), tmp_path / "data" / path)
    pd.concat([table, copies])[["path", "label", "patient"]].to_csv(tmp_path / "data" / "data.csv", index=False)
    return tmp_path / "data" / "data.csv"


def test_no_copy_of_a_training_image_reaches_validation_or_test(tiny, lopsided, tmp_path, monkeypatch):
    shown = set()
    get = Batches.__getitem__

    def recorded(self, index):
        if self.sampler is not None:
            order = self._order[range(len(self))[index] * self.batch_size :][: self.batch_size]
            shown.update(self.indices[order].tolist())
        return get(self, index)

    monkeypatch.setattr(Batches, "__getitem__", recorded)
    run = train(tiny(data=str(lopsided), sampling="oversample", epochs=1, store=str(tmp_path / "s.h5")))
    table = run.store.table
    assert shown == set(run.rows("train")) and shown
    copies = run.split[run.split["copy_of"] != ""]
    assert len(copies)  # the data do hold copies that the split has parted
    for path, other in zip(copies["path"], copies["copy_of"], strict=True):
        assert path.removesuffix("-copy.png") == other.removesuffix("-copy.png") and path not in set(
            table["path"][list(shown)]
        )
    for side in ("validation", "test"):
        rows = run.rows(side)
        assert len(rows)
        for column in ("path", "patient", "sha256"):
            assert not set(table[column][sorted(shown)]) & set(table[column][rows]), (side, column)


def test_on_top_of_sampling_balanced_weights_are_one_and_source_weights_balance_within_a_class_only(
    base, trained, monkeypatch
):
    for class_weights in ("balanced", "none"):
        recipe = dataclasses.replace(base, sampling="oversample", class_weights=class_weights)
        side, validation = sides(recipe, trained.store, trained.split)
        assert side.weights is None and validation.sampler is None
        assert side.shown == len(side.sampler) >= len(side.rows)
    table = trained.store.table.copy()
    table["source"] = np.where(np.arange(len(table)) % 3 == 0, "small", "large")
    monkeypatch.setattr(Store, "table", table)
    recipe = dataclasses.replace(base, sampling="oversample", class_weights="source")
    side, _ = sides(recipe, trained.store, trained.split)
    for target in (0, 1):
        assert side.weights[side.targets[:, 0] == target].mean() == pytest.approx(1)
    assert len(np.unique(side.weights)) > 1


def test_a_class_without_images_in_a_side_is_refused_before_anything_is_prepared(base, tmp_path):
    dataset, path = dataset_of(base), tmp_path / "split.csv"
    split = split_of(base, dataset)
    split.loc[dataset.table["label"].to_numpy() == "covid19", "split"] = "test"
    save_split(split, path)
    with pytest.raises(InputError, match=r"no covid19 image in train .*leave covid19 out of classes"):
        split_of(dataclasses.replace(base, split=str(path)), dataset)
    single = dataset.table[~dataset.table["label"].duplicated() | (dataset.table["label"] == "normal")]
    with pytest.raises(InputError, match=r"classes: covid19 has 1 image, 2 or more expected.*leave covid19 out"):
        split_of(base, dataclasses.replace(dataset, table=single))
