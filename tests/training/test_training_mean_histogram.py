"""`match_to: training`: from training images alone, each source the same, the same again, kept by the run."""

import dataclasses
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest

from covidcxnet.cli import main
from covidcxnet.datasets import load_dataset, save_split
from covidcxnet.preparation import Store
from covidcxnet.settings import InputSettings
from covidcxnet.training import Run, save_recipe, statistics, train
from covidcxnet.training.data import dataset_of, split_of
from covidcxnet.training.statistics import TOTAL, base_histogram, counts_of, draw, with_histogram
from covidcxnet.training.statistics import mean_histogram as mean_of
from enhancement.errors import InputError

SETTINGS = InputSettings(size=32, channels=("clahe",))


@pytest.fixture(autouse=True)
def quick_curves(monkeypatch):
    monkeypatch.setattr("covidcxnet.training.fitting.draw_curves", lambda history, path, **_: path.write_bytes(b""))


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
    return mean_of(dataset, split, settings, segmenter, jobs=1, progress=False, **options)


def histogram(recipe):
    dataset = dataset_of(recipe)
    return with_histogram(recipe, dataset, split_of(recipe, dataset))


def shares(path):
    return np.bincount(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).ravel(), minlength=256) / 32**2


def test_each_source_counts_the_same_and_each_image_within_it(table):
    dataset, split = table
    train = (split["split"] == "train").to_numpy()
    sources = dataset.table["source"].to_numpy()
    means = []
    for source in ("large", "small"):
        own = [shares(path) for path, chosen in zip(dataset.paths, train & (sources == source)) if chosen]
        means.append(np.mean(own, axis=0))
    found = mean(dataset, split)
    assert found == counts_of(np.mean(means, axis=0)) and abs(sum(found) - TOTAL) < 128
    bright = sum(found[110:]) / sum(found)
    assert bright == pytest.approx(0.5, abs=0.01), "4 images of 16 count as much as the other 12"


def test_images_without_a_source_column_are_of_one_source(table):
    dataset, split = table
    alone = dataclasses.replace(dataset, table=dataset.table.drop(columns="source"))
    assert sum(mean(alone, split)[110:]) / TOTAL == pytest.approx(4 / 16, abs=0.01)
    unknown = dataclasses.replace(dataset, table=dataset.table.assign(source=None))
    assert mean(unknown, split) == mean(alone, split)


def test_no_pixel_of_a_validation_or_test_image_changes_it(table):
    dataset, split = table
    before = mean(dataset, split)
    outside = [path for path, side in zip(dataset.paths, split["split"]) if side != "train"]
    for path in outside:
        cv2.imwrite(str(path), np.full((32, 32), 250, np.uint8))
    assert mean(dataset, split) == before
    inside = next(path for path, side in zip(dataset.paths, split["split"]) if side == "train")
    cv2.imwrite(str(inside), np.full((32, 32), 250, np.uint8))
    assert mean(dataset, split) != before


def test_a_training_file_that_is_a_copy_of_a_test_image_is_left_out(table):
    dataset, split = table
    tests = [row for row, side in enumerate(split["split"]) if side == "test"]
    trains = [row for row, side in enumerate(split["split"]) if side == "train"]
    copy = trains[0]
    without = split.assign(split=["validation" if row == copy else side for row, side in enumerate(split["split"])])
    expected = mean(dataset, without)
    shutil.copy(dataset.paths[tests[0]], dataset.paths[copy])
    assert mean(dataset, split) == expected


def test_the_same_seed_draws_the_same_images_in_whatever_order_the_table_is(table, monkeypatch):
    monkeypatch.setattr(statistics, "A_SOURCE", 3)
    dataset, split = table
    names = dataset.table["path"]

    def drawn(dataset, split, seed):
        return [(dataset.table["path"][row], source) for row, source in draw(dataset, split, seed)]

    first = drawn(dataset, split, 5)
    assert [source for _, source in first] == ["large"] * 3 + ["small"] * 3
    assert {path for path, _ in first} <= set(names[split["split"] == "train"])
    assert first == drawn(dataset, split, 5) != drawn(dataset, split, 6)
    order = np.random.default_rng(1).permutation(len(dataset))
    turned = dataclasses.replace(dataset, table=dataset.table.iloc[order])
    assert drawn(turned, split.iloc[order].reset_index(drop=True), 5) == first
    assert mean(dataset, split, seed=5) == mean(dataset, split, seed=5) != mean(dataset, split, seed=6)


def test_what_cannot_be_read_or_is_not_to_be_used_is_left_out(table):
    dataset, split = table
    trains = [row for row, side in enumerate(split["split"]) if side == "train"]
    bad, refused = trains[1], trains[2]
    sides = [("validation" if row in (bad, refused) else side) for row, side in enumerate(split["split"])]
    expected = mean(dataset, split.assign(split=sides))
    dataset.paths[bad].write_bytes(b"no picture")
    reasons = ["a lateral" if row == refused else None for row in range(len(dataset))]
    dataset = dataclasses.replace(dataset, table=dataset.table.assign(rejected=reasons))
    assert mean(dataset, split) == expected
    for row in trains:
        dataset.paths[row].write_bytes(b"no picture")
    with pytest.raises(
        InputError, match=r"match_to: training: none of 15 training images can be used; the last, .*png"
    ):
        mean(dataset, split)


class Halves:
    """Finds lungs in the left half of dark radiographs, and none in bright ones."""

    def predict(self, images):
        return [self.one(image) for image in images]

    def one(self, image):
        mask = np.zeros(image.shape, bool)
        mask[:, : image.shape[1] // 2] = image.mean() < 110
        verdict = type("V", (), {"trusted": bool(mask.any()), "reasons": ("the mask is empty",)})
        box = (0, 0, image.shape[0], image.shape[1] // 2)
        return type("M", (), {"mask": mask, "box": box, "verdict": verdict, "error": None})


def test_images_are_cropped_as_the_pipeline_does_and_those_without_lungs_left_out(table):
    dataset, split = table
    for path in dataset.paths:
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        image[:, 16:] = 90  # what the crop leaves out
        cv2.imwrite(str(path), image)
    cropped = mean(dataset, split, InputSettings(size=32, margin=0, region="crop+mask"), Halves())
    assert sum(cropped[:75]) > 0.99 * TOTAL, "neither the right halves nor the bright source are in it"
    whole = mean(dataset, split, InputSettings(size=32, region="mask"))
    assert sum(whole[75:]) > 0.5 * TOTAL
    with pytest.raises(InputError, match=r"lungs are not found \(the mask is empty\)"):
        nowhere = dataclasses.replace(dataset, table=dataset.table[dataset.table["source"] == "small"])
        few = split[split["path"].isin(nowhere.table["path"])].reset_index(drop=True)
        mean(nowhere, few, InputSettings(size=32, region="crop"), Halves())


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


def test_a_run_keeps_the_counts_and_does_not_find_them_again(tiny, tmp_path, monkeypatch, capsys):
    store = str(tmp_path / "p.h5")
    recipe = tiny(match_to="training", epochs=1, store=store)
    run = train(recipe)
    counts = run.recipe.input.histogram
    assert run.recipe.match_to == "" and len(counts) == 256
    assert run.store.settings.histogram == counts
    dataset = run.dataset
    assert counts == mean(dataset, run.split, recipe.input, seed=recipe.seed)
    assert counts != mean(dataset, run.split.assign(split="train"), recipe.input, seed=recipe.seed)

    again = train(dataclasses.replace(recipe, out=str(tmp_path / "again"), store=str(tmp_path / "again.h5")))
    assert again.recipe.input.histogram == counts
    monkeypatch.setattr(statistics, "mean_histogram", lambda *_, **__: pytest.fail("found again"))
    resumed = train(resume=run.path, epochs=2)
    assert len(resumed.log) == 2 and Run(run.path).recipe.input.histogram == counts


def test_prepare_makes_the_store_that_the_training_reads(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    recipe = tiny(match_to="training", epochs=1, store="")
    save_recipe(dataclasses.replace(recipe, out=""), tmp_path / "recipe.yaml")
    assert main(["prepare", "--recipe", "recipe.yaml"]) == 0
    made = capsys.readouterr().out.strip()
    with Store(made) as store:
        assert len(store.settings.histogram) == 256
    assert train(recipe).store.path.resolve() == (tmp_path / made).resolve()


def test_nothing_of_a_held_out_source_goes_in(table, base, tmp_path):
    dataset, _ = table
    held = {"source": "small"}
    recipe = dataclasses.replace(
        base, data=str(tmp_path / "table.csv"), split_by="image", holdout=held, match_to="training", input=SETTINGS
    )
    found = histogram(recipe)
    assert found.match_to == "" and sum(found.input.histogram[110:]) == 0
    assert found == with_histogram(recipe, dataset, split_of(recipe, dataset))
    save_split(split_of(recipe, dataset), tmp_path / "split.csv")
    assert histogram(dataclasses.replace(recipe, split=str(tmp_path / "split.csv"))).input == found.input


def test_a_file_called_training_is_given_with_its_folder(base, phantoms, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(sorted(phantoms.parent.rglob("*.png"))[0], "training")
    found = histogram(dataclasses.replace(base, match_to="./training"))
    assert found.input.histogram == base_histogram("training", base.input)
    assert found.input.histogram != histogram(dataclasses.replace(base, match_to="training")).input.histogram
