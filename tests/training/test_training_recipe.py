"""Recipes and flags: one set of names, unknown keys refused, errors that name the key."""

import pytest
import yaml

from covidcxnet.cli import find_lr, prepare, sweep
from covidcxnet.cli.train import main
from covidcxnet.models import MODELS
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
    assert yaml.safe_load((tmp_path / "r.yaml").read_text()) == recipe.to_dict()


def test_the_phantom_recipe_is_the_default():
    assert load_recipe("phantom") == Recipe() == parse_recipe([])


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


def test_classes_and_values_of_columns_are_words_also_where_yaml_takes_them_for_something_else(tmp_path):
    for classes in ("0,1", "no,yes", "007,off", "null,true"):
        expected = tuple(classes.split(","))
        assert parse_recipe(["--classes", classes]).classes == expected
        (tmp_path / "r.yaml").write_text(
            f"classes: [{classes}]\nwhere: {{country: NO}}\nholdout: {{site: [007, off]}}\n"
        )
        recipe = load_recipe(tmp_path / "r.yaml")
        assert recipe.classes == expected
        assert recipe.where == {"country": "NO"} and recipe.holdout == {"site": ["007", "off"]}
        (tmp_path / "again.yaml").write_text(yaml.safe_dump(recipe.to_dict()))
        assert load_recipe(tmp_path / "again.yaml") == recipe
    for words in (["--where", "country=NO"], ["--where", "{country: [NO]}"], ["--where={country: [NO]}"]):
        assert parse_recipe(words).where == {"country": ["NO"]}


def test_row_filters_are_flags_too():
    recipe = parse_recipe(["--where", "source=nih,armiro", "--holdout={source: montgomery}"])
    assert recipe.where == {"source": ["nih", "armiro"]} and recipe.holdout == {"source": "montgomery"}
    recipe = parse_recipe(["--where.source", "[nih, armiro]", "--where.view", "PA", "--options.dropout", "0.3"])
    assert recipe.where == {"source": ["nih", "armiro"], "view": "PA"} and recipe.options == {"dropout": 0.3}


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        ("--foo 1", "--foo"),
        ("--epochs many", "epochs"),
        ("--epochs 0", "epochs"),
        ("--epochs", "epochs"),
        ("--model vgg", "small-cnn"),
        ("--trainable 1.5", "fraction"),
        ("--trainable conv4,", "trainable"),
        ("--input.size 1", r"input\.size"),
        ("--input.region half", r"input\.region"),
        ("--augment.rotation 400", r"augment\.rotation"),
        ("--augment.zoom 2,1", r"augment\.zoom"),
        ("--fractions 0.5,0.5", "fractions"),
        ("--fractions 0.5,0.5,0.5", "fractions"),
        ("--label_smoothing 1", "label_smoothing"),
        ("--learning_rate -1", "learning_rate"),
        ("--classes one", "classes"),
        ("--options.size 3", r"input\.size"),
        ("--recipe nothing.yaml", "covidcxnet recipes list"),
        ("stray", "stray"),
        ("--optimizer adagrad", "optimizer"),
        ("--schedule step", "schedule"),
        ("--class_weights sources", "class_weights"),
        ("--ema 1", "ema"),
        # settings that do not go together
        ("--weight_decay 0.1", "weight_decay"),
        ("--warmup 2", "warmup"),
        ("--warmup 5 --schedule cosine --epochs 5", "warmup"),
        ("--ema 0.9 --model logistic-regression", "ema"),
    ],
)
def test_bad_flags_are_refused_by_name(flags, word):
    with pytest.raises(InputError, match=word):
        parse_recipe(flags.split())


def test_retired_keys_load_at_the_value_that_they_had_by_default(tmp_path):
    text = Recipe().to_yaml().replace("augment: {", "augment: {spectrum: 0.0, ")
    (tmp_path / "r.yaml").write_text(f"{text}erase_shortcuts: 0\n")
    assert load_recipe(tmp_path / "r.yaml") == Recipe()
    assert Recipe.from_dict({"augment": {"spectrum": 0.0}, "erase_shortcuts": 0}) == Recipe()


def test_print_config_gives_a_recipe_file(capsys, tmp_path):
    assert main(["--print-config", "--epochs", "3", "--input.size=64"]) == 0
    (tmp_path / "r.yaml").write_text(capsys.readouterr().out)
    assert load_recipe(tmp_path / "r.yaml") == parse_recipe(["--epochs", "3", "--input.size=64"])


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("--holdout", "{source:x}", "COLUMN=VALUE[,VALUE] or {COLUMN: VALUE}, with a space after"),
        ("--learning_rate", "nan", "a finite number expected"),
        ("--epochs", "two", "a whole number expected"),
    ],
)
def test_values_of_a_wrong_kind_are_explained_in_words(flag, value, said, capsys):
    assert main([flag, value]) == 2
    error = capsys.readouterr().err
    assert f"'{value}' given, {said}" in error and "<class" not in error and len(error.splitlines()) == 1


def test_bad_input_is_one_line_and_exit_code_2(capsys):
    assert main(["--epochs", "0"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("train.py: error: epochs")
    assert main(["--epochs", "0", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err
    assert main(["--resume", "somewhere", "--seed", "3"]) == 2
    assert "--seed" in capsys.readouterr().err, "a resumed run takes no setting but its epochs"


def test_help_names_every_setting(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    printed = capsys.readouterr().out
    for flag in ("--learning-rate", "--input.size", "--augment.rotation", "--resume", "--recipe", "--print-config"):
        assert flag in printed


@pytest.mark.parametrize(
    ("main", "reasons", "flags"),
    [
        (prepare.main, prepare.REFUSED, ["resume", "print_config"]),
        (find_lr.main, find_lr.REFUSED, ["resume", "print_config"]),
        (sweep.groups, sweep.REFUSED, ["resume", "print_config", "sampling", "class_weights"]),
    ],
)
def test_what_a_command_has_no_use_for_is_not_offered_and_refused(main, reasons, flags, capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    offered = capsys.readouterr().out
    assert "--learning-rate" in offered
    for flag in flags:
        assert f"--{flag.replace('_', '-')}" not in offered
        for given in (f"--{flag}=x", f"--{flag.replace('_', '-')}"):
            assert main([given]) == 2
            assert f"--{flag.replace('_', '-')}: {reasons[flag]}" in capsys.readouterr().err


def test_a_recipe_may_have_the_keys_of_refused_flags(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("sampling: oversample\nepochs: 3\n", encoding="utf-8")
    assert parse_recipe(["--recipe", str(recipe)], refused={"sampling": "why"}).sampling == "oversample"
    with pytest.raises(InputError, match="--sampling: why"):
        parse_recipe(["--recipe", str(recipe), "--sampling", "none"], refused={"sampling": "why"})


@pytest.mark.parametrize(
    ("key", "value"),
    [("epochs", [1, 2]), ("epochs", {}), ("batch_size", "eight"), ("input", 8), ("input", [1]), ("augment", "none")],
)
def test_a_recipe_file_with_a_value_of_another_kind_is_refused_by_its_key(key, value):
    with pytest.raises(InputError, match=key):
        Recipe.from_dict({key: value}).to_dict()


def test_a_model_brings_its_published_input_unless_flags_or_a_recipe_say_otherwise():
    def seen(*flags):
        settings = parse_recipe(list(flags)).input
        return settings.size, settings.channels, settings.region

    planes = ("clahe", "beasf", "raw")
    assert seen() == seen("--model", "small-cnn") == (128, planes, "none")
    assert seen("--model", "base-cnn") == (400, ("raw",), "none")
    assert seen("--model=covid-cxnet") == (320, planes, "crop")
    flags = ["--input.size", "64", "--input.region", "none", "--input.channels", "raw,raw,raw"]
    assert seen(*flags, "--model", "covid-cxnet") == (64, ("raw",) * 3, "none")
    assert seen("--recipe", "covid-cxnet-base-v1", "--model", "small-cnn") == seen("--recipe", "covid-cxnet-base-v1")
    for name in MODELS:
        assert Recipe(model=name).input == parse_recipe(["--model", name]).input
    assert Recipe(model="base-cnn", input=InputSettings(size=128)).input == InputSettings(size=128)
    assert all(InputSettings(**spec.input).size == spec.size for spec in MODELS.values())
