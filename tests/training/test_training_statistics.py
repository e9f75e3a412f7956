"""`normalization: training` and `match_to`: measured once, on the right images, and kept with the weights."""

import dataclasses
import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest

from covidcxnet.cli import main
from covidcxnet.datasets import load_dataset, save_split
from covidcxnet.preparation import prepare_image
from covidcxnet.pretrained import load_model
from covidcxnet.settings import InputSettings
from covidcxnet.training import Run, load_recipe, save_recipe, statistics, train
from covidcxnet.training.data import dataset_of, split_of
from covidcxnet.training.statistics import (
    TOTAL,
    base_histogram,
    channel_statistics,
    counts_of,
    draw,
    mean_histogram,
    with_histogram,
)
from enhancement import match_histogram
from enhancement.errors import InputError
from weights.format import read_metadata

SETTINGS = InputSettings(size=32, channels=("clahe",))

pytestmark = pytest.mark.usefixtures("quick_curves")


class Lungs:
    """Finds lungs in the left half of radiographs that are dark enough, and none in the others."""

    def __init__(self, darker_than=256):
        self.darker_than = darker_than

    def predict(self, images):
        return [self.mask(image) for image in images]

    def mask(self, image):
        mask = np.zeros(image.shape, bool)
        mask[:, : image.shape[1] // 2] = image.mean() < self.darker_than
        verdict = SimpleNamespace(trusted=bool(mask.any()), reasons=("the mask is empty",))
        return SimpleNamespace(mask=mask, box=(0, 0, image.shape[0], image.shape[1] // 2), verdict=verdict, error=None)


def read(path):
    return cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)


@pytest.fixture(scope="module")
def scaled_run(base, tmp_path_factory):
    """A finished run of one epoch that scales by its training images."""
    options = base.options | {"normalization": "training"}
    folder = tmp_path_factory.mktemp("scaled") / "run"
    return train(dataclasses.replace(base, options=options, epochs=1, out=str(folder)))


def test_statistics_are_those_of_all_pixels_at_once_and_those_of_nothing_or_of_one_grey_level_refused(trained):
    rows = trained.rows("train")
    found = channel_statistics(trained.store, rows, batch=7, progress=False)
    pixels = trained.store.read(rows) / 255
    np.testing.assert_allclose(found["mean"], pixels.mean(axis=(0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(found["std"], pixels.std(axis=(0, 1, 2)), atol=1e-6)
    with pytest.raises(InputError, match="no training image"):
        channel_statistics(trained.store, np.array([], np.int64))
    store = SimpleNamespace(settings=trained.store.settings, read=lambda rows: np.full((1, 4, 4, 2), 9, "u1"))
    with pytest.raises(InputError, match="channel raw have one value"):
        channel_statistics(store, np.array([0]), progress=False)


def test_weights_hold_statistics_of_training_images_by_which_prediction_and_resumption_scale(scaled_run, tmp_path):
    statistics = scaled_run.status["options"]["normalization"]
    assert statistics == channel_statistics(scaled_run.store, scaled_run.rows("train"), progress=False)
    assert statistics != channel_statistics(scaled_run.store, np.arange(len(scaled_run.store)), progress=False)
    for path in (scaled_run.best_weights, scaled_run.last_weights):
        assert read_metadata(path)["architecture"]["options"]["normalization"] == statistics
    assert scaled_run.recipe.options["normalization"] == "training"
    classifier = load_model(scaled_run.best_weights)
    stacks = scaled_run.store.read(scaled_run.rows("validation"))
    probabilities = classifier.predict_stacks(stacks)[:, 1]
    targets = scaled_run.store.table["label"].to_numpy()[scaled_run.rows("validation")] == "covid19"
    clipped = np.clip(probabilities, 1e-7, 1 - 1e-7)
    loss = -np.mean(np.where(targets, np.log(clipped), np.log(1 - clipped)))
    assert loss == pytest.approx(scaled_run.log["val_loss"][0], rel=1e-4)

    shutil.copytree(scaled_run.path, tmp_path / "run")
    copied = Run(tmp_path / "run")
    copied.update(store=str(scaled_run.store.path.resolve()))
    more = train(resume=copied.path, epochs=2)
    assert more.status["options"]["normalization"] == statistics and len(more.log) == 2


@pytest.fixture(scope="module")
def radiograph(phantoms):
    """One phantom's file."""
    return sorted(phantoms.parent.rglob("*.png"))[0]


def test_the_base_histogram_is_that_of_the_pixels_which_are_matched(radiograph):
    # not square, so that the stack has padding, which must not be counted
    image = read(radiograph)[4:20]
    settings = InputSettings(size=24, channels=("clahe",))
    path = radiograph.parent / "part.png"
    cv2.imwrite(str(path), image)
    counts = base_histogram(path, settings)
    path.unlink()
    assert sum(counts) == 24 * 12
    # an image matched to its own histogram does not change
    plain = dataclasses.replace(settings, channels=("raw",))
    plainly = prepare_image(image, None, None, plain).stack
    matched = prepare_image(image, None, None, dataclasses.replace(plain, histogram=counts)).stack
    np.testing.assert_array_equal(plainly, matched)
    np.testing.assert_array_equal(match_histogram(plainly[6:18, :, 0], np.array(counts)), plainly[6:18, :, 0])


@pytest.mark.parametrize("region", ["crop", "crop+mask", "mask"])
def test_the_region_of_the_base_radiograph_is_cut_as_the_others_are(radiograph, region):
    image = read(radiograph)

    settings = InputSettings(size=32, margin=0, region=region)
    counts = base_histogram(radiograph, settings, Lungs() if "crop" in region else None)
    expected = image[:, :16] if "crop" in region else image
    assert sum(counts) == expected.size
    np.testing.assert_array_equal(counts, np.bincount(expected.ravel(), minlength=256))


def test_a_base_is_not_needed_again_and_one_without_lungs_or_that_is_no_radiograph_is_refused(
    base, radiograph, tmp_path, tiny, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    shutil.copy(radiograph, "training")  # a file of that name is given with its folder
    recipe = with_histogram(dataclasses.replace(base, match_to="./training"), None, None)
    assert recipe.match_to == "" and recipe.input.histogram == base_histogram(radiograph, base.input)
    assert with_histogram(recipe, None, None) == recipe == load_recipe(save_recipe(recipe, tmp_path / "matched.yaml"))
    with pytest.raises(InputError, match=r"match_to: .*lungs are not found \(the mask is empty\).*input.region none"):
        base_histogram(radiograph, InputSettings(size=32, region="crop"), Lungs(darker_than=0))
    (tmp_path / "text.png").write_text("no picture")
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((40, 40), 77, np.uint8))
    for name, reason in (("none", "no such file"), ("text", "text.png"), ("grey", "one grey level")):
        with pytest.raises(InputError, match=f"match_to: .*{reason}"):
            base_histogram(tmp_path / f"{name}.png", SETTINGS)
    with pytest.raises(InputError, match=r"match_to: .*not both"):
        tiny(match_to="a.png", input=InputSettings(size=32, histogram=tuple(range(256))))


@pytest.fixture
def table(tmp_path):
    """24 images of noise, darker in the larger of two sources, and a split in which every third does not train."""
    random, rows = np.random.default_rng(0), []
    for i in range(24):
        source, level = ("small", 180) if i % 4 == 0 else ("large", 40)
        image = random.normal(level, 12, (32, 32)).clip(0, 255).astype(np.uint8)
        cv2.imwrite(str(tmp_path / f"{i:02}.png"), image)
        side = "train" if i % 3 else ("validation", "test")[i % 2]
        rows.append((f"{i:02}.png", ("normal", "covid19")[i // 2 % 2], source, side))
    frame = pd.DataFrame(rows, columns=["path", "label", "source", "split"])
    frame.drop(columns="split").to_csv(tmp_path / "table.csv", index=False)
    return load_dataset(tmp_path / "table.csv"), frame[["path", "split"]]


def mean(dataset, split, settings=SETTINGS, segmenter=None, **options):
    return mean_histogram(dataset, split, settings, segmenter, jobs=1, progress=False, **options)


def histogram(recipe):
    dataset = dataset_of(recipe)
    return with_histogram(recipe, dataset, split_of(recipe, dataset))


def shares(path):
    return np.bincount(read(path).ravel(), minlength=256) / 32**2


def test_each_source_counts_the_same_and_each_image_within_it(table):
    dataset, split = table
    train = (split["split"] == "train").to_numpy()
    sources = dataset.table["source"].to_numpy()
    means = []
    for source in ("large", "small"):
        images = [shares(path) for path, chosen in zip(dataset.paths, train & (sources == source)) if chosen]
        means.append(np.mean(images, axis=0))
    found = mean(dataset, split)
    assert found == counts_of(np.mean(means, axis=0)) and abs(sum(found) - TOTAL) < 128
    bright = sum(found[110:]) / sum(found)
    assert bright == pytest.approx(0.5, abs=0.01), "4 images of 16 count as much as the other 12"
    alone = dataclasses.replace(dataset, table=dataset.table.drop(columns="source"))
    assert sum(mean(alone, split)[110:]) / TOTAL == pytest.approx(4 / 16, abs=0.01), "without the column"
    unknown = dataclasses.replace(dataset, table=dataset.table.assign(source=None))
    assert mean(unknown, split) == mean(alone, split)


def test_the_same_seed_draws_the_same_images_in_whatever_order_the_table_is(table, monkeypatch):
    monkeypatch.setattr(statistics, "A_SOURCE", 3)
    dataset, split = table

    def drawn(dataset, split, seed):
        return [(dataset.table["path"][row], source) for row, source in draw(dataset, split, seed)]

    first = drawn(dataset, split, 5)
    assert [source for _, source in first] == ["large"] * 3 + ["small"] * 3
    assert {path for path, _ in first} <= set(split["path"][split["split"] == "train"])
    assert first == drawn(dataset, split, 5) != drawn(dataset, split, 6)
    order = np.random.default_rng(1).permutation(len(dataset))
    turned = dataclasses.replace(dataset, table=dataset.table.iloc[order])
    assert drawn(turned, split.iloc[order].reset_index(drop=True), 5) == first
    assert mean(dataset, split, seed=5) == mean(dataset, split, seed=5) != mean(dataset, split, seed=6)


def test_images_of_other_sides_copies_of_them_and_what_cannot_be_used_are_left_out(table):
    dataset, split = table
    tests, trains = (np.flatnonzero(split["split"] == side) for side in ("test", "train"))
    copy, bad, refused = trains[:3]
    sides = [("validation" if row in (copy, bad, refused) else side) for row, side in enumerate(split["split"])]
    expected = mean(dataset, split.assign(split=sides))
    for row in np.flatnonzero(split["split"] != "train"):
        cv2.imwrite(str(dataset.paths[row]), np.full((32, 32), 250 - row, np.uint8))
    shutil.copy(dataset.paths[tests[0]], dataset.paths[copy])
    dataset.paths[bad].write_bytes(b"no picture")
    reasons = ["a lateral" if row == refused else None for row in range(len(dataset))]
    dataset = dataclasses.replace(dataset, table=dataset.table.assign(rejected=reasons))
    assert mean(dataset, split) == expected
    cv2.imwrite(str(dataset.paths[trains[3]]), np.full((32, 32), 250, np.uint8))
    assert mean(dataset, split) != expected
    for row in trains:
        dataset.paths[row].write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"match_to: training: none of 15 training images can be used; .*png"):
        mean(dataset, split)


def test_images_are_cropped_as_the_pipeline_does_and_those_without_lungs_left_out(table):
    dataset, split = table
    for path in dataset.paths:
        image = read(path)
        image[:, 16:] = 90  # what the crop leaves out
        cv2.imwrite(str(path), image)
    cropped = mean(dataset, split, InputSettings(size=32, margin=0, region="crop+mask"), Lungs(darker_than=110))
    assert sum(cropped[:75]) > 0.99 * TOTAL, "neither the right halves nor the bright source are in it"
    whole = mean(dataset, split, InputSettings(size=32, region="mask"))
    assert sum(whole[75:]) > 0.5 * TOTAL
    with pytest.raises(InputError, match=r"lungs are not found \(the mask is empty\)"):
        nowhere = dataclasses.replace(dataset, table=dataset.table[dataset.table["source"] == "small"])
        few = split[split["path"].isin(nowhere.table["path"])].reset_index(drop=True)
        mean(nowhere, few, InputSettings(size=32, region="crop"), Lungs(darker_than=110))


def test_the_mean_is_smoothed_by_four_grey_levels_and_goes_on_at_the_edges():
    flat = counts_of(np.full(256, 1 / 256))
    assert set(flat) == {round(TOTAL / 256)}
    peak = np.zeros(256)
    peak[100] = 1
    found = np.array(counts_of(peak)) / TOTAL
    levels = np.arange(256)
    assert np.flatnonzero(found).tolist() == list(range(88, 113))
    assert (found * levels).sum() == pytest.approx(100, abs=0.01)
    assert found[104] / found[100] == pytest.approx(np.exp(-0.5), abs=0.001)
    step = np.array(counts_of(np.repeat([2.0, 0.0], 128) / 256))
    assert step[0] == step[50], "no level is darkened by what would lie below 0"


def test_a_run_keeps_the_counts_prepare_finds_the_same_and_a_resumed_run_does_not_measure_again(
    tiny, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    recipe = tiny(match_to="training", epochs=1, store="")
    save_recipe(dataclasses.replace(recipe, out=""), tmp_path / "recipe.yaml")
    assert main(["prepare", "--recipe", "recipe.yaml"]) == 0
    prepared = tmp_path / capsys.readouterr().out.strip()
    run = train(recipe)
    counts = run.recipe.input.histogram
    assert run.recipe.match_to == "" and len(counts) == 256
    assert run.store.settings.histogram == counts and run.store.path.resolve() == prepared.resolve()
    assert counts == mean(run.dataset, run.split, recipe.input, seed=recipe.seed)
    assert counts != mean(run.dataset, run.split.assign(split="train"), recipe.input, seed=recipe.seed)
    monkeypatch.setattr(statistics, "mean_histogram", lambda *_, **__: pytest.fail("measured again"))
    resumed = train(resume=run.path, epochs=2)
    assert len(resumed.log) == 2 and Run(run.path).recipe.input.histogram == counts


def test_nothing_of_a_held_out_source_goes_in(table, base, tmp_path):
    dataset, _ = table
    changes = {"data": str(tmp_path / "table.csv"), "split_by": "image", "holdout": {"source": "small"}}
    recipe = dataclasses.replace(base, match_to="training", input=SETTINGS, **changes)
    found = histogram(recipe)
    assert found.match_to == "" and sum(found.input.histogram[110:]) == 0
    assert found == with_histogram(recipe, dataset, split_of(recipe, dataset))
    save_split(split_of(recipe, dataset), tmp_path / "split.csv")
    assert histogram(dataclasses.replace(recipe, split=str(tmp_path / "split.csv"))).input == found.input
