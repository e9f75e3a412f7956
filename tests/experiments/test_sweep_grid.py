"""The grid of a sweep: which trainings, with which values and seeds, in which folders; and what is refused."""

from __future__ import annotations

import pytest

from covidcxnet.cli.sweep import main
from covidcxnet.experiments.grid import parse_values, plan
from covidcxnet.training import Recipe
from enhancement.errors import InputError


def test_every_combination_is_trained_with_every_seed():
    trials = plan(Recipe(seed=7), {"learning_rate": [0.1, 0.01], "options.dropout": [0.0, 0.5]}, 3, "out")
    found = {(t.recipe.learning_rate, t.recipe.options["dropout"], t.recipe.seed) for t in trials}
    assert found == {(rate, drop, seed) for rate in (0.1, 0.01) for drop in (0.0, 0.5) for seed in (7, 8, 9)}
    assert len(trials) == len({t.folder for t in trials}) == 12
    assert [t.seed for t in trials] == [7] * 4 + [8] * 4 + [9] * 4


def test_nested_keys_change_their_part_and_nothing_else():
    base = Recipe(options={"dropout": 0.3})
    (first, second) = plan(base, {"input.size": [96, 128]}, 1, "out")
    assert (first.recipe.input.size, second.recipe.input.size) == (96, 128)
    assert first.recipe.options == {"dropout": 0.3} and first.recipe.input.channels == base.input.channels
    assert base.input.size == 128


def test_a_longer_sweep_keeps_the_folders_of_the_shorter():
    short = plan(Recipe(), {"learning_rate": [1e-3, 1 / 3]}, 1, "out")
    longer = plan(Recipe(), {"learning_rate": [0.7, 1 / 3, 1e-3]}, 2, "out")
    assert {t.folder for t in short} < {t.folder for t in longer}


def test_folders_differ_where_values_differ_by_what_a_name_cannot_show():
    values = {"learning_rate": [0.1, 0.1000000001], "where": [{"source": "a/b"}, {"source": "a b"}]}
    with pytest.raises(InputError, match=r"learning_rate has the value 0.1 twice"):
        plan(Recipe(), values, 1, "out")
    trials = plan(Recipe(), {"where": values["where"]}, 1, "out")
    assert len({t.folder for t in trials}) == 2
    assert all(len(part) < 110 and "/" not in part for t in trials for part in t.folder.parts)


def test_repeats_alone_are_a_sweep_of_one_cell():
    trials = plan(Recipe(), {}, 10, "out")
    assert [t.seed for t in trials] == list(range(10)) and len({t.cell for t in trials}) == 1


@pytest.mark.parametrize(
    "text, values",
    [
        ("learning_rate=1e-3,0.005", [1e-3, 0.005]),
        ("init=random,imagenet", ["random", "imagenet"]),
        ("input.channels=[raw],[clahe, raw]", [["raw"], ["clahe", "raw"]]),
        ("augment.flip_horizontal=true,false", [True, False]),
        ("where={source: nih},{source: [a, b]}", [{"source": "nih"}, {"source": ["a", "b"]}]),
        ("class_weights=none,balanced", ["none", "balanced"]),
    ],
)
def test_values_are_yaml_and_numbers_are_numbers(text, values):
    assert parse_values(text)[1] == values


@pytest.mark.parametrize(
    "over, repeats, message",
    [
        ({"learnin_rate": [1, 2]}, 1, "unknown key learnin_rate; there are data"),
        ({"input.sise": [1, 2]}, 1, "unknown key input.sise; there are size"),
        ({"epochs.x": [1, 2]}, 1, "unknown key epochs.x; epochs has no parts"),
        ({"augment": [{}, {}]}, 1, "augment is a group; name a part"),
        ({"seed": [1, 2]}, 1, "seed cannot be swept; give --seed for the first and --repeats"),
        ({"out": ["a", "b"]}, 1, "out cannot be swept"),
        ({"options.depth": [1, 2]}, 1, "small-cnn has no option 'depth'; it takes normalization, "),
        ({"learning_rate": [0.1, 20]}, 1, "learning_rate: 20 given, above 0.*in the sweep's learning_rate 20"),
        ({"learning_rate": ["x", "y"]}, 1, "learning_rate x is not a recipe"),
        ({"epochs": [1]}, 1, "one training is no sweep"),
        ({"epochs": []}, 2, "epochs has no values"),
        ({"epochs": [1, 2]}, 0, "repeats: 0 given"),
        ({"model": ["small-cnn", "nope"]}, 1, "model: 'nope' given, one of"),
    ],
)
def test_what_cannot_be_swept_is_refused_before_any_work(over, repeats, message):
    with pytest.raises(InputError, match=message):
        plan(Recipe(), over, repeats, "out")


def test_an_option_that_only_one_of_the_models_has_is_refused():
    with pytest.raises(InputError, match="resnet34 has no option 'filters'"):
        plan(Recipe(options={"filters": [4]}), {"model": ["small-cnn", "resnet34"]}, 1, "out")


def test_one_store_for_several_inputs_is_refused():
    with pytest.raises(InputError, match="store: one store cannot hold several inputs"):
        plan(Recipe(store="a.h5"), {"input.size": [96, 128]}, 1, "out")


def test_a_dry_run_lists_the_trainings_and_writes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["phantom", "--over", "learning_rate=1e-3,0.01", "--repeats", "2", "--epochs", "3", "--dry-run"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "learning_rate 0.001, seed 1" in printed and printed.count("to train") == 4
    assert "4 trainings, 4 left to do; swept: learning_rate" in printed
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "RECIPE: a packaged recipe's name or a YAML file expected first"),
        (["--over", "epochs=1,2"], "RECIPE"),
        (["no-recipe", "--repeats", "2"], "'no-recipe' is neither a file nor"),
        (["phantom", "--over", "learning_rate=abc,1"], "learning_rate: 'abc' given, a finite number expected"),
        (["phantom", "--over", "epochs"], "over: 'epochs' given, KEY=a,b,c expected"),
        (["phantom", "--over", "epochs=1,2", "--over", "epochs=3"], "epochs is given twice"),
        (["phantom", "--repeats", "2", "--resume", "x"], "--resume: is not for a sweep"),
        (["phantom", "--repeats", "2", "--nonsense", "3"], "unknown flag --nonsense"),
        (["phantom", "--over", "where={a", "--repeats", "2"], "is not a list of YAML values"),
    ],
)
def test_a_command_that_cannot_be_used_ends_in_one_line(arguments, message, capsys):
    assert main([*arguments, "--dry-run"] if arguments else []) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and len(error.splitlines()) == 1
