"""Recipes and flags: one set of names, unknown keys refused, errors that name the key."""

import subprocess
import sys

import pytest
import yaml

from covidcxnet import recipes
from covidcxnet.cli.train import main
from covidcxnet.settings import InputSettings
from covidcxnet.training import Recipe, load_recipe, save_recipe
from covidcxnet.training.arguments import parse_recipe
from covidcxnet.training.recipe import AugmentSettings
from enhancement.errors import InputError


def test_a_recipe_survives_its_file(tmp_path):
    recipe = Recipe(
        data="a.csv",
        classes=("normal", "x"),
        where={"source": ["nih"], "view": "PA"},
        options={"dropout": 0.3},
        input=InputSettings(size=64, channels=("raw",)),
        augment=AugmentSettings(zoom=(0.5, 2)),
        learning_rate=3e-5,
    )
    assert load_recipe(save_recipe(recipe, tmp_path / "r.yaml")) == recipe


def test_the_file_of_a_recipe_names_every_key(tmp_path):
    text = yaml.safe_load(save_recipe(Recipe(), tmp_path / "r.yaml").read_text())
    assert text == Recipe().to_dict()


def test_the_phantom_recipe_is_the_default():
    assert load_recipe("phantom") == Recipe() == parse_recipe([])


@pytest.mark.parametrize("name", ["base-cnn", "covid-cxnet", "covid-cxnet-scratch"])
def test_packaged_recipes_load(name):
    assert name in recipes.names() and load_recipe(name).model in name


def test_covid_cxnet_recipe_holds_the_papers_settings():
    recipe = load_recipe("covid-cxnet")
    assert (recipe.input.size, recipe.batch_size, recipe.epochs) == (320, 16, 10)
    assert (recipe.learning_rate, recipe.label_smoothing, recipe.class_weights) == (1e-3, 0.1, "balanced")
    assert recipe.augment.rotation == 170 and recipe.augment.brightness == (0.5, 1.3)


def test_flags_win_over_the_recipe_and_keep_the_rest_of_it(tmp_path):
    (tmp_path / "r.yaml").write_text("epochs: 3\ninput: {size: 64}\naugment: {rotation: 5}\n")
    recipe = parse_recipe(["--recipe", str(tmp_path / "r.yaml"), "--epochs", "7", "--augment.shift=0.3"])
    assert (recipe.epochs, recipe.input.size, recipe.augment.rotation, recipe.augment.shift) == (7, 64, 5, 0.3)
    assert recipe.input.channels == InputSettings().channels


def test_dashes_commas_and_bare_switches_are_understood():
    recipe = parse_recipe(
        ["--batch-size", "4", "--classes", "normal,covid19", "--augment.zoom", "0.8,1.2", "--tensorboard", "--seed=3"]
        + ["--input.channels=raw,clahe", "--augment.flip-horizontal", "--deterministic", "false"]
    )
    assert recipe.batch_size == 4 and recipe.classes == ("normal", "covid19") and recipe.tensorboard
    assert recipe.augment.zoom == (0.8, 1.2) and recipe.input.channels == ("raw", "clahe")
    assert recipe.augment.flip_horizontal and not recipe.deterministic and recipe.seed == 3


@pytest.mark.parametrize("text", ["0.25", "head", "conv4", "conv4,conv5_block1"])
def test_fine_tuning_depth_is_the_same_as_flag_and_in_yaml(tmp_path, text):
    (tmp_path / "r.yaml").write_text(f"trainable: {text}\n")
    assert parse_recipe(["--trainable", text]).trainable == text == load_recipe(tmp_path / "r.yaml").trainable


def test_row_filters_are_flags_too():
    recipe = parse_recipe(["--where.source", "[nih, armiro]", "--where.view", "PA", "--options.dropout", "0.3"])
    assert recipe.where == {"source": ["nih", "armiro"], "view": "PA"} and recipe.options == {"dropout": 0.3}


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--foo", "1"], "--foo"),
        (["--epochs", "many"], "epochs"),
        (["--epochs", "0"], "epochs"),
        (["--epochs"], "epochs"),
        (["--model", "vgg"], "small-cnn"),
        (["--trainable", "1.5"], "fraction"),
        (["--trainable", "conv4,"], "trainable"),
        (["--input.size", "1"], "input.size"),
        (["--input.region", "half"], "input.region"),
        (["--augment.rotation", "400"], "augment.rotation"),
        (["--augment.zoom", "2,1"], "augment.zoom"),
        (["--fractions", "0.5,0.5"], "fractions"),
        (["--fractions", "0.5,0.5,0.5"], "fractions"),
        (["--label_smoothing", "1"], "label_smoothing"),
        (["--learning_rate", "-1"], "learning_rate"),
        (["--classes", "one"], "classes"),
        (["--options.size", "3"], "input.size"),
        (["--recipe", "nothing.yaml"], "covidcxnet recipes list"),
        (["stray"], "stray"),
    ],
)
def test_bad_flags_are_refused_by_name(arguments, word):
    with pytest.raises(InputError, match=word):
        parse_recipe(arguments)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("epoch: 3\n", "r.yaml: unknown key epoch"),
        ("epochs: 0\n", "epochs"),
        ("input: {sise: 3}\n", "r.yaml: unknown key input.sise"),
        ("augment: {rotate: 3}\n", "rotate"),
        ("epochs: [1]\n", "epochs"),
        ("just words\n", "r.yaml"),
        ("a: b: c\n", "r.yaml"),
        ("\x00\x01", "r.yaml"),
    ],
)
def test_bad_recipe_files_are_refused_by_name(text, word, tmp_path):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(InputError, match=word):
        load_recipe(tmp_path / "r.yaml")


def test_from_dict_refuses_unknown_keys():
    with pytest.raises(InputError, match=r"augment\.rotate"):
        Recipe.from_dict({"augment": {"rotate": 1}})
    with pytest.raises(InputError, match="epoch"):
        Recipe.from_dict({"epoch": 1})


def test_retired_keys_load_at_the_value_that_they_had_by_default(tmp_path):
    text = Recipe().to_yaml().replace("augment: {", "augment: {spectrum: 0.0, ")
    (tmp_path / "r.yaml").write_text(f"{text}erase_shortcuts: 0\n")
    assert load_recipe(tmp_path / "r.yaml") == Recipe()
    assert Recipe.from_dict({"augment": {"spectrum": 0.0}, "erase_shortcuts": 0}) == Recipe()


@pytest.mark.parametrize("text", ["erase_shortcuts: 5\n", "augment: {spectrum: 0.5}\n"])
def test_retired_keys_are_refused_at_any_other_value(text, tmp_path):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(
        InputError, match=r"r.yaml: (erase_shortcuts|augment.spectrum) was removed; 0 or nothing .*experiments.md"
    ):
        load_recipe(tmp_path / "r.yaml")


def test_print_config_gives_a_recipe_file(capsys, tmp_path):
    assert main(["--print-config", "--epochs", "3", "--input.size=64"]) == 0
    (tmp_path / "r.yaml").write_text(capsys.readouterr().out)
    assert load_recipe(tmp_path / "r.yaml") == parse_recipe(["--epochs", "3", "--input.size=64"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--holdout", "{source:x}"],
            "'{source:x}' given, COLUMN=VALUE[,VALUE] or {COLUMN: VALUE}, with a space after",
        ),
        (["--learning_rate", "nan"], "'nan' given, a finite number expected"),
        (["--epochs", "two"], "'two' given, a whole number expected"),
    ],
)
def test_values_of_a_wrong_kind_are_told_in_words(arguments, said, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error and "<class" not in error and len(error.splitlines()) == 1


def test_bad_input_is_one_line_and_exit_code_2(capsys):
    assert main(["--epochs", "0"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("train.py: error: epochs")


def test_debug_shows_the_traceback(capsys):
    assert main(["--epochs", "0", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_resume_takes_no_other_setting_than_epochs(capsys):
    assert main(["--resume", "somewhere", "--seed", "3"]) == 2
    assert "--seed" in capsys.readouterr().err


def test_help_names_every_setting_and_loads_no_keras():
    code = (
        "import sys; from covidcxnet.cli.train import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: assert end.code in (0, None)\n"
        "assert not {'keras', 'tensorflow', 'sklearn', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for flag in ("--learning-rate", "--input.size", "--augment.rotation", "--resume", "--recipe", "--print-config"):
        assert flag in done.stdout


def test_rows_can_be_chosen_as_column_equals_values():
    recipe = parse_recipe(["--where", "source=nih,armiro", "--holdout={source: montgomery}"])
    assert recipe.where == {"source": ["nih", "armiro"]}
    assert recipe.holdout == {"source": "montgomery"}
