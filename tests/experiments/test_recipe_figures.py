"""What a recipe does before any training: versions by its augmentation, class counts before and after its sampling."""

from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest

from covidcxnet.cli import main
from covidcxnet.datasets import Dataset
from covidcxnet.experiments.figure_inputs import from_files
from covidcxnet.experiments.recipe_figures import augmented, class_counts, draw_augmented, draw_counts
from covidcxnet.settings import InputSettings
from covidcxnet.training import AugmentSettings, Recipe

pytestmark = pytest.mark.usefixtures("coarse")
INPUT = InputSettings(size=32, channels=("raw", "raw", "raw"))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    """12 images of one class and 4 of another; all are for training but the last of each."""
    root, random = tmp_path_factory.mktemp("recipe"), np.random.default_rng(0)
    rows = [(f"{k}.png", "normal" if k < 12 else "pneumonia") for k in range(16)]
    for path, _ in rows:
        cv2.imwrite(str(root / path), random.integers(40, 200, (40, 48)).astype(np.uint8))
    return Dataset(pd.DataFrame(rows, columns=["path", "label"]), root, ("normal", "pneumonia"))


def test_versions_are_the_radiograph_under_the_recipes_own_augmentation_and_seed(dataset):
    mirrored = AugmentSettings(rotation=0, zoom=(1, 1), shift=0, brightness=(1, 1), flip_horizontal=True)
    files = from_files([dataset.paths[0], dataset.root / "none.png"])
    (row,), unread = augmented(Recipe(input=INPUT, augment=mirrored), files, 8)
    assert list(unread) == [str(dataset.root / "none.png")] and row.stack.shape == (32, 32, 3)
    as_it_is = [np.allclose(version, row.stack, atol=0.1) for version in row.augmented]
    flipped = [np.allclose(version, row.stack[:, ::-1], atol=0.1) for version in row.augmented]
    assert any(as_it_is) and any(flipped) and all(np.logical_xor(as_it_is, flipped))
    # scaled as the network sees them: ImageNet's statistics differ by plane, and so the picture has a tint
    recipe = Recipe(input=INPUT, augment=mirrored, model="resnet50", options={"normalization": "imagenet"})
    figure = draw_augmented(recipe, [row])
    assert [axes.get_title() for axes in figure.axes][:3] == ["radiograph", "stack", "version 1"]
    tinted = figure.axes[1].images[0].get_array()
    assert tinted.shape == (32, 32, 3) and (tinted[..., 2] > tinted[..., 0]).all()
    assert all(words in figure._supxlabel.get_text() for words in ("-2.12 (black)", "flip horizontal"))


def test_class_counts_are_those_of_the_training_split_and_of_an_epoch_under_the_sampling(dataset):
    split = pd.DataFrame({"path": dataset.table["path"], "split": "train"})
    split.loc[[11, 15], "split"] = "validation"
    for sampling, shown in (("none", [11, 3]), ("oversample", [11, 11]), ("undersample", [3, 3])):
        counts = class_counts(Recipe(sampling=sampling, classes=dataset.classes), dataset, split)
        assert counts["images"].tolist() == [11, 3, 14] and counts["shown"].tolist() == [*shown, sum(shown)]
        panels = draw_counts(counts, sampling).axes
        assert [[bar.get_width() for bar in axes.patches] for axes in panels][-1] == shown
        assert len(panels) == (1 if sampling == "none" else 2)


def test_findings_are_counted_in_images_that_may_show_several_or_none(dataset):
    table = dataset.table.assign(finding_mass=[1] * 8 + [0] * 8, finding_edema=[1] * 4 + [0] * 12)
    findings = replace(dataset, table=table, classes=("mass", "edema"), task="independent")
    split = pd.DataFrame({"path": table["path"], "split": "train"})
    counts = class_counts(Recipe(multilabel=True, classes=("mass", "edema")), findings, split)
    assert counts["images"].tolist() == [8, 4, 16]
    (axes,) = draw_counts(counts, "none").axes
    assert axes.get_title() == "training images: 16" and [t.get_text() for t in axes.texts] == [" 8 (50%)", " 4 (25%)"]


def test_recipes_draw_takes_flags_of_train_and_writes_both_pictures_or_of_files_one(dataset, tmp_path, capsys):
    table, root = tmp_path / "table.csv", str(dataset.root)
    dataset.table.assign(patient=range(16)).to_csv(table, index=False)
    flags = ["phantom", "--input.size", "32", "--augment.rotation", "5", "--versions", "2"]
    out = tmp_path / "both"
    data = ["--data", str(table), "--root", root, "--sampling", "oversample"]
    assert main(["recipes", "draw", *flags, *data, "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["augmentation.png", "sampling.png"]
    out = tmp_path / "one"
    assert main(["recipes", "draw", *flags, "--images", str(dataset.paths[0]), "--out", str(out)]) == 0
    assert [path.name for path in out.iterdir()] == ["augmentation.png"]
    assert main(["recipes", "draw"]) == 2 and "name of a recipe" in capsys.readouterr().err
