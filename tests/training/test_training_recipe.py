"""Recipes, their files and bases, and flags: one set of names, unknown keys refused, errors that name the key."""

import pytest
import yaml

from covidcxnet import recipes
from covidcxnet.cli import find_lr, prepare, sweep
from covidcxnet.cli.train import main
from covidcxnet.models import MODELS
from covidcxnet.settings import InputSettings
from covidcxnet.training import Recipe, load_recipe, save_recipe
from covidcxnet.training.arguments import parse_recipe
from covidcxnet.training.recipe import AugmentSettings
from enhancement.errors import InputError
from weights import manifest


def test_a_recipe_survives_its_file_and_print_config_gives_one(tmp_path, capsys):
    recipe = Recipe(
        data="a.csv",
        classes=("normal", "x"),
        where={"source": ["nih"], "view": "PA"},
        options={"dropout": 0.3},
        input=InputSettings(size=64, channels=("raw",)),
        augment=AugmentSettings(zoom=(0.5, 2)),
        learning_rate=3e-5,
        trainable="conv4,conv5_block1",
    )
    assert load_recipe(save_recipe(recipe, tmp_path / "r.yaml")) == recipe
    assert yaml.safe_load((tmp_path / "r.yaml").read_text()) == recipe.to_dict()
    flags = ["--recipe", str(tmp_path / "r.yaml"), "--epochs", "3", "--input.size=32", "--trainable", "0.25"]
    changed = parse_recipe(flags)
    assert (changed.epochs, changed.input.size, changed.trainable) == (3, 32, "0.25")
    assert (changed.input.channels, changed.augment.zoom) == (("raw",), (0.5, 2))
    assert main(["--print-config", *flags]) == 0
    (tmp_path / "printed.yaml").write_text(capsys.readouterr().out)
    assert load_recipe(tmp_path / "printed.yaml") == changed
    assert load_recipe("phantom") == Recipe() == parse_recipe([])


def test_dashes_commas_and_bare_switches_are_understood():
    recipe = parse_recipe(
        ["--batch-size", "4", "--classes", "normal,covid19", "--augment.zoom", "0.8,1.2", "--tensorboard", "--seed=3"]
        + ["--input.channels=raw,clahe", "--augment.flip-horizontal", "--deterministic", "false"]
    )
    assert recipe.batch_size == 4 and recipe.classes == ("normal", "covid19") and recipe.tensorboard
    assert recipe.augment.zoom == (0.8, 1.2) and recipe.input.channels == ("raw", "clahe")
    assert recipe.augment.flip_horizontal and not recipe.deterministic and recipe.seed == 3


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
        ("--xyz", "--xyz(?!.*did you mean).*--help lists all"),
        ("--learning_rte=1", "--learning-rte.*did you mean --learning-rate"),
        ("--input.sze=64", "did you mean --input.size"),
        ("--augment.rotations=3", "did you mean --augment.rotation"),
        ("--epochs many", "epochs"),
        ("--epochs 0", "epochs"),
        ("--epochs 1:30", "epochs: '1:30' given, a number expected"),
        ("--epochs=1:30", "epochs: '1:30' given, a number expected"),
        ("--epochs", "epochs"),
        ("--model vgg", "did you mean vgg16"),
        ("--model densenet121", "covid-cxnet is DenseNet121"),
        ("--trainable 1.5", "fraction"),
        ("--trainable conv4,", "trainable"),
        ("--input.size 1", r"input\.size"),
        ("--input.region half", r"input\.region"),
        ("--augment.rotation 400", r"augment\.rotation"),
        ("--augment.zoom 2,1", r"augment\.zoom"),
        ("--fractions 0.5,0.5", r"fractions: .*0\.5, 0\.5.* given, 3 values separated by commas expected"),
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


def test_what_only_another_schedule_or_optimizer_needs_goes_with_it():
    flags = ["--recipe", "transfer", "--schedule", "constant", "--optimizer", "sgd"]
    recipe = parse_recipe(flags)
    assert recipe.schedule == "constant" and recipe.warmup == recipe.weight_decay == 0
    with pytest.raises(InputError, match="warmup"):
        parse_recipe([*flags, "--warmup", "1"])


def test_retired_keys_load_at_the_value_that_they_had_by_default(tmp_path):
    text = Recipe().to_yaml().replace("augment: {", "augment: {spectrum: 0.0, ")
    (tmp_path / "r.yaml").write_text(f"{text}erase_shortcuts: 0\n")
    assert load_recipe(tmp_path / "r.yaml") == Recipe()
    assert Recipe.from_dict({"augment": {"spectrum": 0.0}, "erase_shortcuts": 0}) == Recipe()


def test_bad_input_is_one_line_in_words_and_exit_code_2(capsys):
    for flag, value, message in (
        ("--holdout", "{source:x}", "COLUMN=VALUE[,VALUE] or {COLUMN: VALUE}, with a space after"),
        ("--learning_rate", "nan", "a finite number expected"),
        ("--epochs", "two", "a whole number expected"),
    ):
        assert main([flag, value]) == 2
        out, err = capsys.readouterr()
        assert f"'{value}' given, {message}" in err and "<class" not in err and (out, err.count("\n")) == ("", 1)
        assert err.startswith(f"train.py: error: {flag[2:]}")
    assert main(["--epochs", "0", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err
    assert main(["--resume", "somewhere", "--seed", "3"]) == 2
    assert "--seed" in capsys.readouterr().err, "a resumed run takes no setting but its epochs"


@pytest.mark.parametrize(
    ("main", "reasons", "flags"),
    [
        (prepare.main, prepare.REFUSED, ["resume", "print_config"]),
        (find_lr.main, find_lr.REFUSED, ["resume", "print_config"]),
        (sweep.groups, sweep.REFUSED, ["resume", "print_config", "sampling", "class_weights"]),
    ],
)
def test_what_a_command_has_no_use_for_is_not_offered_and_refused_but_recipes_may_hold_it(
    main, reasons, flags, capsys, tmp_path
):
    with pytest.raises(SystemExit):
        main(["--help"])
    offered = capsys.readouterr().out
    assert all(flag in offered for flag in ("--learning-rate", "--input.size", "--augment.rotation", "--recipe"))
    for flag in flags:
        assert f"--{flag.replace('_', '-')}" not in offered
        for given in (f"--{flag}=x", f"--{flag.replace('_', '-')}"):
            assert main([given]) == 2
            assert f"--{flag.replace('_', '-')}: {reasons[flag]}" in capsys.readouterr().err
    (tmp_path / "r.yaml").write_text("sampling: oversample\n")
    assert parse_recipe(["--recipe", str(tmp_path / "r.yaml")], refused=reasons).sampling == "oversample"


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


BOMB = "a0: &a0 [x, x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))
WORDS = ("1e5", "1e-3", "on", "no", "null", "0123", "1_000", "0x1f", "2020-01-01", ".5", "inf", "12:30")


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


def test_a_recipe_says_only_what_differs_from_its_base_which_may_be_packaged_and_flags_win_over_both(tmp_path):
    write(tmp_path, "below.yaml", "epochs: 3\nseed: 5\ninput: {size: 64, channels: [raw]}\noptions: {dropout: 0.1}\n")
    path = write(tmp_path, "r.yaml", "base: below.yaml\nepochs: 7\ninput: {size: 96}\noptions: {hidden: [4]}\n")
    recipe = load_recipe(path)
    assert (recipe.epochs, recipe.seed, recipe.input.size, recipe.input.channels) == (7, 5, 96, ("raw",))
    assert recipe.options == {"hidden": [4]}
    path = write(tmp_path, "r.yaml", "base: pneumonia-vgg16-raw\nbatch_size: 2\n")
    recipe = parse_recipe(["--recipe", str(path), "--epochs", "2", "--input.size=64"])
    assert (recipe.epochs, recipe.input.size, recipe.batch_size) == (2, 64, 2)
    assert (recipe.input.channels, recipe.learning_rate, recipe.model) == (("raw",) * 3, 1e-3, "vgg16")
    assert not [name for name in recipes.names() if name.startswith("_")], "a base alone is no recipe"


def test_sentences_of_a_base_stand_before_those_of_the_recipe_and_change_no_training(tmp_path):
    write(tmp_path, "below.yaml", "about: {study: x, notes: [one], published: {f1: 0.5}}\n")
    path = write(tmp_path, "r.yaml", "base: below.yaml\nabout: {notes: [two], place: p}\n")
    about = recipes.read(path).about
    assert load_recipe(path) == load_recipe("phantom")
    assert about.notes == ("one", "two") and (about.study, about.place, about.published) == ("x", "p", {"f1": 0.5})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("base: nothing\n", "r.yaml: base: 'nothing' is neither"),
        ("base: r.yaml\n", "leads back"),
        ("base: ../recipes/phantom\n", "neither"),
        ("base: [a, b]\n", "base: .* one recipe expected"),
        ("base: phantom\nepoch: 3\n", "r.yaml: unknown key epoch; did you mean epochs"),
        ("epochs: 0\n", "epochs"),
        ('out: "a\\0b"\n', "out: .* a path without NUL"),
        ("warmup: 1\n", "warmup: works with schedule cosine only"),
        ("min_learning_rate: 0.1\n", "min_learning_rate: 0.1 given, at most learning_rate, 0.0005, expected"),
        ("schedule: constant\nmin_learning_rate: 1.0e-6\n", "min_learning_rate: works with schedule plateau or cosine"),
        ("epochs: [1]\n", "epochs"),
        ("input: {sise: 3}\n", "r.yaml: unknown key input.sise; did you mean size"),
        ("augment: {rotate: 3}\n", r"augment\.rotate"),
        ("about: {palce: x}\n", "r.yaml: unknown key about.palce; did you mean place"),
        ("about: words\n", "about: 'words' given"),
        ("about: {published: [0.9]}\n", "about.published"),
        ("about: {published: {f1: high}}\n", "about.published"),
        ("about: {notes: one}\n", "about.notes"),
        ("about: {place: [1]}\n", "about.place"),
        ("- a\n", "not a recipe: keys and values expected"),
        ("just words\n", "r.yaml: not a recipe"),
        (BOMB, "r.yaml: not a recipe: its aliases make more than 10,000 values"),
        ("options: &a {b: *a}\n", "r.yaml: not a recipe: an alias in it leads back"),
        (f"epochs: {'9' * 5000}\n", "r.yaml: not a recipe: a number of it is too long"),
        ("seed: 2020-13-45\n", "r.yaml: not a recipe: .* a date does not exist"),
        ("[" * 5000, "r.yaml: not a recipe: nested too deep"),
        ("a: b: c\n", r"r.yaml: not a recipe: mapping values are not allowed here \(line 1, column 5\)"),
        ("\x00\x01", "r.yaml: not a recipe: .* save it as UTF-8"),
        ("epochs: 3\nseed: 1\nepochs: 4\n", r"r.yaml: not a recipe: the key 'epochs' is given twice \(line 3\)"),
        ("input: {size: 64, size: 96}\n", "the key 'size' is given twice"),
        ("seed: !!python/name:os.system x\n", "r.yaml: not a recipe: a tag or key that stands for no plain value"),
        ("epochs: 1:30\n", "r.yaml: epochs: '1:30' given, a number expected"),
        ("erase_shortcuts: 5\n", "r.yaml: erase_shortcuts was removed; 0 or nothing .*experiments.md"),
        ("augment: {spectrum: 0.5}\n", "r.yaml: augment.spectrum was removed; 0 or nothing .*experiments.md"),
    ],
)
def test_a_bad_recipe_file_is_refused_by_name(tmp_path, text, words):
    with pytest.raises(InputError, match=words):
        load_recipe(write(tmp_path, "r.yaml", text))


def test_a_number_of_leading_zeros_is_what_it_looks_like_and_utf_16_is_to_be_saved_anew(tmp_path):
    path = write(tmp_path, "r.yaml", "epochs: 010\nseed: 0x1f\n")
    assert (load_recipe(path).epochs, load_recipe(path).seed) == (10, 31)
    path.write_text("epochs: 3\n", encoding="utf-16")
    with pytest.raises(InputError, match=r"r\.yaml: not a recipe: .*save it as UTF-8$"):
        load_recipe(path)


def test_a_misspelt_name_is_answered_with_the_nearest():
    with pytest.raises(InputError, match="did you mean covid-cxnet-multiclass") as caught:
        load_recipe("covid-cxnet-multiclas")
    assert "covidcxnet recipes list" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("word", WORDS)
def test_a_class_or_folder_of_a_recipe_or_flag_stays_the_word_that_it_is(tmp_path, word):
    text = f"classes: [normal, {word}]\nwhere: {{source: [{word}]}}\nout: '{word}'\nlearning_rate: 3e-5\n"
    flags = ["--classes", f"normal,{word}", "--where", f"source={word}", "--out", word, "--learning-rate", "3e-5"]
    recipe = parse_recipe(flags)
    assert load_recipe(write(tmp_path, "r.yaml", text)) == recipe
    assert load_recipe(save_recipe(recipe, tmp_path / "saved.yaml")) == recipe
    assert (recipe.classes, list(recipe.where["source"]), recipe.out) == (("normal", word), [word], word)


def test_recipes_of_released_weights_have_the_network_and_the_input_of_the_files():
    released = [entry for name, entry in manifest.read().items() if f"released-{name}" in recipes.names()]
    assert len(released) == 5
    for entry in released:
        recipe = load_recipe(f"released-{entry.name}")
        assert recipe.model == entry.architecture["name"] and recipe.input == InputSettings.from_dict(dict(entry.input))
