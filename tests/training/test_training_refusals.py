"""What a training refuses before any work: by the recipe alone, and before images of the phantom are made."""

import pytest

from covidcxnet.cli.train import main
from covidcxnet.settings import InputSettings
from covidcxnet.training import Recipe, data, initial_weights, train
from enhancement.errors import InputError

ONE, TWO = InputSettings(size=64, channels=("raw",)), InputSettings(size=64, channels=("raw", "clahe"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"model": "vgg16", "input": TWO},
            r"input\.channels: 'raw,clahe' given, 3 planes for vgg16, as in raw,raw,raw, or 1 plane, expected",
        ),
        ({"input": ONE, "options": {"normalization": "imagenet"}}, r"options\.normalization: .*raw,raw,raw"),
        (
            {"model": "covid-cxnet", "input": ONE, "init": "imagenet"},
            r"input\.channels: .*3 planes for init imagenet, .*init random",
        ),
        (
            {"model": "covid-cxnet", "input": TWO, "init": "chexnet"},
            r"input\.channels: .*3 planes for init chexnet, as in raw,raw,raw",
        ),
        ({"init": "imagenet"}, "init: .*small-cnn has no ImageNet weights, only .*covid-cxnet"),
        (
            {"model": "covid-cxnet", "init": "imagenet", "options": {"blocks": [6, 12]}},
            r"options\.blocks: \[6, 12\] given, \(6, 12, 24, 16\) for init imagenet, as covid-cxnet is published",
        ),
        (
            {"model": "covid-cxnet-hierarchical", "init": "imagenet", "options": {"growth": 16}},
            r"options\.growth: 16 given, 32 for init imagenet",
        ),
        ({"options": {"droput": 0.3}}, "options: small-cnn has no option 'droput'; it takes normalization, .*dropout"),
    ],
)
def test_a_model_that_cannot_take_it_is_refused_by_the_recipe_alone(changes, said):
    with pytest.raises(InputError, match=said):
        Recipe(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "vgg16", "input": ONE},
        {"model": "resnet34", "input": ONE},
        {"model": "vgg16", "input": ONE, "init": "imagenet"},
        {"model": "covid-cxnet", "init": "imagenet", "options": {"blocks": [6, 12, 24, 16], "growth": 32}},
        {"model": "covid-cxnet", "input": ONE},
        {"input": ONE, "options": {"normalization": "training", "dropout": 0.1}},
    ],
)
def test_what_a_model_can_take_is_not_refused(changes):
    assert Recipe(**changes).model


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"init": "nowhere"}, "nowhere"),
        ({"split": "nowhere.csv"}, r"split: nowhere\.csv: no such file"),
        ({"verdicts": "nowhere.csv"}, r"verdicts: nowhere\.csv: no such file"),
        ({"match_to": "nowhere.png"}, r"match_to: nowhere\.png: no such file"),
        ({"input": InputSettings(size=64, region="crop", segmenter="nowhere")}, r"input\.region"),
    ],
)
def test_it_is_refused_before_a_phantom_is_made(changes, said, tmp_path, monkeypatch):
    monkeypatch.setattr("covidcxnet.training.data.dataset_of", lambda _: pytest.fail("images were made"))
    with pytest.raises(InputError, match=said):
        train(Recipe(out=str(tmp_path / "run"), **changes))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("normalization", ["unit", "training"])
def test_a_run_reads_its_data_and_builds_its_network_once(normalization, tiny, monkeypatch):
    calls = []

    def counted(module, name):
        original = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, **options: (calls.append(name), original(*args, **options))[1])

    counted(data, "load")
    counted(data, "prepare")
    counted(initial_weights, "create")
    options = {"filters": [4, 4], "hidden": [4], "normalization": normalization}
    assert train(tiny(options=options, epochs=1)).status["status"] == "finished"
    assert sorted(calls) == ["create", "load", "prepare"]


def test_a_class_without_images_is_refused_before_anything_is_prepared(phantoms, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["--data", str(phantoms), "--classes", "normal,tuberculosis"]) == 2
    assert "no image is labelled 'tuberculosis'; labels are " in capsys.readouterr().err
    assert main(["--classes", "normal,tuberculosis"]) == 2
    assert "classes from normal, pneumonia, covid19" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flag", "meant"),
    [
        ("--learning_rte=1", "--learning-rate"),
        ("--input.sze=64", "--input.size"),
        ("--augment.rotations=3", "--augment.rotation"),
        ("--xyz", ""),
    ],
)
def test_unknown_flags_are_refused_by_name_with_the_one_that_is_near(flag, meant, capsys):
    assert main([flag]) == 2
    said = capsys.readouterr().err
    assert flag.partition("=")[0].replace("_", "-") in said and said.count("\n") == 1 and "--help lists all" in said
    assert (f"did you mean {meant}?" in said) if meant else "did you mean" not in said
