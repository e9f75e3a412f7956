"""The three data groups: what differs between them, one split for all, and going on where it was stopped."""

import dataclasses
import json
from pathlib import Path

import pandas as pd
import pytest

from covidcxnet.cli.sweep import groups as main
from covidcxnet.datasets import make_phantoms
from covidcxnet.evaluation.bootstrap import Estimate
from covidcxnet.experiments import sweep as module
from covidcxnet.experiments.compare import Comparison
from covidcxnet.experiments.entries import Row
from covidcxnet.experiments.sweep import STUDY_AUGMENT, group_recipes, train_groups
from covidcxnet.experiments.sweep_page import draw_groups
from covidcxnet.settings import InputSettings
from covidcxnet.training import AugmentSettings, Recipe
from enhancement.errors import InputError


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("groups") / "data"
    make_phantoms(folder, 24, seed=1, size=32, classes=("normal", "covid19"), progress=False)
    return str(folder / "phantom.csv")


@pytest.fixture
def recipe(phantoms):
    return Recipe(data=phantoms, classes=("normal", "covid19"), input=InputSettings(size=32), jobs=1)


@pytest.fixture
def trained(monkeypatch):
    """Stands in for training and comparing: notes what was asked for and leaves a run's files behind."""
    asked = []

    def train(recipe=None, *, resume=None):
        asked.append(recipe or resume)
        folder = Path(recipe.out if recipe else resume)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "run.json").write_text(json.dumps({"status": "finished"}))
        (folder / "recipe.yaml").touch()

    row = Row("raw", "small-cnn", f1=Estimate(0.5, 0.4, 0.6), f1_by_class={"normal": Estimate(0.5)})
    monkeypatch.setattr(module, "train", train)
    monkeypatch.setattr(module, "compare", lambda runs, **options: Comparison((), (row, row, row)))
    return asked


def test_the_groups_differ_in_augmentation_and_sampling_alone():
    recipe = Recipe(augment=AugmentSettings(rotation=7), class_weights="balanced", sampling="undersample")
    made = group_recipes(recipe)
    assert list(made) == ["raw", "augmented", "balanced"]
    assert [one.augment for one in made.values()] == [AugmentSettings.none(), recipe.augment, recipe.augment]
    assert [one.sampling for one in made.values()] == ["none", "none", "oversample"]
    assert {one.class_weights for one in made.values()} == {"none"}
    same = [dataclasses.replace(one, augment=recipe.augment, sampling="none") for one in made.values()]
    assert same[0] == same[1] == same[2] == dataclasses.replace(recipe, class_weights="none", sampling="none")


def test_a_recipe_without_augmentation_gets_the_studys():
    made = group_recipes(Recipe(augment=AugmentSettings.none()))
    assert made["raw"].augment == AugmentSettings.none()
    assert made["augmented"].augment == made["balanced"].augment == STUDY_AUGMENT
    assert (STUDY_AUGMENT.rotation, STUDY_AUGMENT.zoom, STUDY_AUGMENT.shift) == (10, (0.9, 1.1), 0.1)
    assert STUDY_AUGMENT.brightness == (1, 1) and not STUDY_AUGMENT.flip_horizontal


def test_the_majority_can_be_undersampled_instead():
    assert group_recipes(Recipe(), sampling="undersample")["balanced"].sampling == "undersample"
    with pytest.raises(InputError, match="sampling"):
        group_recipes(Recipe(), sampling="none")


def test_all_groups_have_one_split_and_the_same_call_goes_on(recipe, trained, tmp_path):
    out = tmp_path / "out"
    train_groups(recipe, out)
    assert [Path(one.out).name for one in trained] == ["raw", "augmented", "balanced"]
    assert {one.split for one in trained} == {str(out / "split.csv")}
    assert set(pd.read_csv(out / "split.csv")["split"]) == {"train", "validation", "test"}
    # the second was stopped within an epoch, the third before its first
    (out / "augmented" / "run.json").write_text(json.dumps({"status": "interrupted"}))
    (out / "augmented" / "state.h5").write_bytes(b"")
    (out / "balanced" / "run.json").unlink()
    before = (out / "split.csv").read_bytes()
    del trained[:]
    found = train_groups(dataclasses.replace(recipe, jobs=2), out)
    assert trained[0] == out / "augmented" and trained[1].sampling == "oversample" and len(trained) == 2
    assert (out / "split.csv").read_bytes() == before
    assert found.picture.is_file()


def test_another_recipe_in_the_same_folder_is_refused(recipe, trained, tmp_path):
    train_groups(recipe, tmp_path / "out")
    del trained[:]
    with pytest.raises(InputError, match="holds groups with epochs 16, not 3; name another folder"):
        train_groups(dataclasses.replace(recipe, epochs=3), tmp_path / "out")
    with pytest.raises(InputError, match="holds groups with sampling oversample, not undersample"):
        train_groups(recipe, tmp_path / "out", sampling="undersample")
    (tmp_path / "out" / "groups.json").write_text("{")
    with pytest.raises(InputError, match=r"groups.json: damaged"):
        train_groups(recipe, tmp_path / "out")
    assert not trained


def test_a_call_that_was_refused_does_not_bind_the_next(recipe, trained, tmp_path, monkeypatch):
    def refuse(recipe):
        raise InputError("model: too small a stack")

    with monkeypatch.context() as patch, pytest.raises(InputError, match="too small"):
        patch.setattr(module, "train", refuse)
        train_groups(recipe, tmp_path / "out")
    train_groups(dataclasses.replace(recipe, fractions=(0.5, 0.25, 0.25), epochs=3), tmp_path / "out")
    assert {one.epochs for one in trained} == {3}
    assert (pd.read_csv(tmp_path / "out" / "split.csv")["split"] == "train").mean() < 0.6


def test_a_folder_of_something_else_is_refused(recipe, trained, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        train_groups(recipe, tmp_path)
    with pytest.raises(InputError, match="is a file"):
        train_groups(recipe, tmp_path / "notes.txt")
    assert not trained


def test_ctrl_c_says_how_to_go_on(recipe, trained, tmp_path, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "train", stopped)
    with pytest.raises(KeyboardInterrupt, match="the same command goes on"):
        train_groups(recipe, tmp_path / "out")


def test_the_plot_shows_values_and_intervals_and_leaves_out_what_is_missing():
    def row(name, f1):
        return Row(name, "m", f1=f1, f1_by_class={"normal": f1}, accuracy=Estimate(0.7), auroc=None)

    rows = [row("raw", Estimate(0.5, 0.4, 0.6)), row("augmented", Estimate(0.6))]
    (axes,) = draw_groups(rows, "t").axes
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        "F1, mean of classes",
        "F1, normal",
        "accuracy",
        "AUROC",
    ]
    places = [line.get_xdata() for line in axes.lines]
    bars = [collection.get_segments() for collection in axes.collections]
    assert [len(x) for x in places] == [3, 3], "AUROC is not known"
    assert bars[0][0][:, 1].tolist() == pytest.approx([0.4, 0.6]) and bars[1][0][:, 1].tolist() == [0.6, 0.6]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--sampling", "none"], "the groups decide it"),
        (["--class-weights=none"], "the groups decide it"),
        (["--balance", "smote"], "balance"),
        (["--resume", "x"], "same command"),
        (["--print-config"], "train --print_config"),
        (["no-such-recipe"], "no-such-recipe"),
        (["--epochs", "0"], "epochs"),
    ],
)
def test_the_command_refuses_in_one_line_before_any_work(argv, said, capsys, tmp_path):
    out = tmp_path / "out"
    assert main([*argv, "--out", str(out)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and said in lines[0] and not out.exists()
