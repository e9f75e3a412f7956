"""Recipe files: bases, what they say about themselves, and messages for the ones that cannot be read."""

import pytest

from covidcxnet import recipes
from covidcxnet.training import load_recipe, save_recipe
from covidcxnet.training.arguments import parse_recipe
from enhancement.errors import InputError

BOMB = "a0: &a0 [x, x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))
WORDS = ("1e5", "1e-3", "on", "no", "null", "0123", "1_000", "0x1f", "2020-01-01", ".5", "inf", "12:30")


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


def test_a_recipe_says_only_what_differs_from_its_base(tmp_path):
    write(tmp_path, "below.yaml", "epochs: 3\nseed: 5\ninput: {size: 64, channels: [raw]}\noptions: {dropout: 0.1}\n")
    path = write(tmp_path, "r.yaml", "base: below.yaml\nepochs: 7\ninput: {size: 96}\noptions: {hidden: [4]}\n")
    recipe = load_recipe(path)
    assert (recipe.epochs, recipe.seed, recipe.input.size, recipe.input.channels) == (7, 5, 96, ("raw",))
    assert recipe.options == {"hidden": [4]}


def test_a_base_may_be_a_packaged_recipe(tmp_path):
    recipe = load_recipe(write(tmp_path, "r.yaml", "base: covid-cxnet\nbatch_size: 2\n"))
    assert (recipe.model, recipe.batch_size, recipe.input.size) == ("covid-cxnet", 2, 320)


def test_what_a_recipe_says_about_itself_changes_no_training(tmp_path):
    said = load_recipe(write(tmp_path, "a.yaml", "seed: 2\nabout: {place: table 1, notes: [one]}\n"))
    assert said == load_recipe(write(tmp_path, "b.yaml", "seed: 2\n"))


def test_sentences_of_a_base_stand_before_those_of_the_recipe(tmp_path):
    write(tmp_path, "below.yaml", "about: {study: x, notes: [one], published: {f1: 0.5}}\n")
    about = recipes.read(write(tmp_path, "r.yaml", "base: below.yaml\nabout: {notes: [two], place: p}\n")).about
    assert about.notes == ("one", "two") and (about.study, about.place, about.published) == ("x", "p", {"f1": 0.5})


def test_bases_are_no_recipes_of_their_own():
    assert (recipes.FOLDER / "_pneumonia.yaml").is_file()
    assert not [name for name in recipes.names() if name.startswith("_")]


def test_flags_win_over_a_recipe_with_a_base():
    recipe = parse_recipe(["--recipe", "pneumonia-vgg16-raw", "--epochs", "2", "--input.size=64"])
    assert (recipe.epochs, recipe.input.size, recipe.input.channels) == (2, 64, ("raw",) * 3)
    assert recipe.learning_rate == 1e-3 and recipe.model == "vgg16"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("base: nothing\n", "r.yaml: base: 'nothing' is neither"),
        ("base: r.yaml\n", "leads back"),
        ("base: [a, b]\n", "base: .* one recipe expected"),
        ("base: phantom\nepoch: 3\n", "r.yaml: unknown key epoch"),
        ("epochs: 0\n", "epochs"),
        ("epochs: [1]\n", "epochs"),
        ("input: {sise: 3}\n", "r.yaml: unknown key input.sise"),
        ("augment: {rotate: 3}\n", r"augment\.rotate"),
        ("about: {palce: x}\n", "r.yaml: unknown key about.palce; there are study, place"),
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
        ("a: b: c\n", "r.yaml: not a recipe"),
        ("\x00\x01", "r.yaml"),
        ("erase_shortcuts: 5\n", "r.yaml: erase_shortcuts was removed; 0 or nothing .*experiments.md"),
        ("augment: {spectrum: 0.5}\n", "r.yaml: augment.spectrum was removed; 0 or nothing .*experiments.md"),
    ],
)
def test_a_bad_recipe_file_is_refused_by_name(tmp_path, text, words):
    with pytest.raises(InputError, match=words):
        load_recipe(write(tmp_path, "r.yaml", text))


def test_a_circle_of_two_bases_is_refused(tmp_path):
    write(tmp_path, "a.yaml", "base: b.yaml\n")
    with pytest.raises(InputError, match="leads back"):
        recipes.read(write(tmp_path, "b.yaml", "base: a.yaml\n"))


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


def test_a_name_cannot_leave_the_folder_of_recipes():
    with pytest.raises(InputError, match="neither"):
        recipes.read("../recipes/phantom")
