"""`covidcxnet models` and `recipes`: what they list and show; what a command cannot do is one line and exit code 2."""

import json

import pytest
import yaml

from covidcxnet import recipes
from covidcxnet.cli import main
from covidcxnet.cli.models import main as models
from covidcxnet.cli.recipes import main as show_recipes
from covidcxnet.models import MODELS


def test_the_list_has_every_model_with_size_parameters_operations_and_weights(capsys):
    assert models(["list"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()[1:]}
    assert sorted(lines) == sorted(MODELS)
    assert all(text in lines["resnet50"] for text in ("224 x 224 x 3", "23,608,213", "7.71", "ImageNet", "MIT"))
    assert models(["list", "--json"]) == 0
    for model in json.loads(capsys.readouterr().out):
        assert model["parameters"] > 0 and model["flops"] > 0 and model["summary"] and model["weights"]
        assert 0 < model["weighted_layers"] <= model["layers"]
        assert model["imagenet_accuracy"] is None or MODELS[model["name"]].licence
        assert bool(model["licence"]) == bool(MODELS[model["name"]].application or MODELS[model["name"]].imagenet)


def test_show_says_where_the_scaling_is_and_where_grad_cam_looks_and_counts_at_other_settings(capsys):
    assert models(["show", "vgg16"]) == 0
    out = capsys.readouterr().out
    assert all(text in out for text in ("caffe", "block5_conv3", "CC BY 4.0", "14,719,829"))
    assert "top-1 71.3%, top-5 90.1% (keras.io/api/applications)" in out and "weighted_layers   15" in out
    assert models(["show", "small-cnn", "--size", "94", "--classes", "3", "--head", "linear", "--json"]) == 0
    model = json.loads(capsys.readouterr().out)
    assert model["stack"] == [94, 94, 3] and model["outputs"] == 3
    assert model["parameters"] != MODELS["small-cnn"].parameters and model["learned"] == model["parameters"] - 1088


def test_recipes_are_listed_all_or_those_of_a_paper(capsys):
    assert show_recipes(["list"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()[1:]}
    assert sorted(lines) == recipes.names()
    for words in ("pneumonia", "xception (pneumonia head) from imagenet", "128 raw", "accuracy 0.9519", "table 3"):
        assert words in lines["pneumonia-xception-balanced"]
    assert "320 clahe+beasf+raw, lungs" in lines["covid-cxnet-v2"]
    assert show_recipes(["list", "--paper", "group-q", "--json"]) == 0
    assert [recipe["study"] for recipe in json.loads(capsys.readouterr().out)] == ["group-q"] * 12
    assert show_recipes(["show", "--paper", "radiography"]) == 0
    assert capsys.readouterr().out.count("Not reproduced:") == 8


def test_show_says_what_is_reproduced_and_what_not_and_ends_with_yaml_that_is_the_recipe(tmp_path, capsys):
    assert show_recipes(["show", "covid-cxnet-multiclass"]) == 0
    text = capsys.readouterr().out
    for words in ("Reproduced:", "Not reproduced:", "base image", "accuracy 0.942"):
        assert words in text
    assert yaml.safe_load(text[text.index("\nclasses:") :]) == recipes.read("covid-cxnet-multiclass").values
    path = tmp_path / "mine.yaml"
    path.write_text("base: phantom\nseed: 4\nabout: {study: ours, place: desk}\n")
    assert show_recipes(["show", str(path)]) == 0
    text = capsys.readouterr().out
    assert "seed: 4" in text and "paper      ours" in text


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("trian", "unknown command 'trian'; did you mean train?"),
        ("models show resnet", "did you mean resnet"),
        ("models show small-cnn --size 9", "94"),
        ("models show vgg16 --classes 1", "from 2 to 100000"),
        ("recipes show covid-cxnet-v3", "did you mean covid-cxnet-v2"),
        ("recipes show", "--paper"),
        ("recipes show phantom --paper group-q", "--paper"),
        ("recipes list --paper lancet", "one of covid-cxnet, pneumonia, radiography, group-q"),
        ("recipes draw", "draw"),
        ("datasets show nhi", "there are: covidcxnet"),
        ("prepare --data phantom --input.channels purple", "purple"),
        ("evaluate covid-cxnet", "covid-cxnet: weights need images to evaluate"),
        ("evaluate covid-cxnt --out x", "no released weights of that name; did you mean covid-cxnet?"),
        ("evaluate covid-cxnet --data nih:/nowhere/at/all", "no such folder /nowhere/at/all"),
        ("weights show chexnett", "did you mean chexnet"),
    ],
)
def test_it_is_one_line_that_says_what_is_expected(command, words, capsys):
    assert main(command.split()) == 2
    error = capsys.readouterr().err
    assert all(part in error for part in words.split("; ")) and error.count("\n") == 1 and "Traceback" not in error


@pytest.mark.parametrize("command", ["train", "explore"])
def test_help_says_that_normal_comes_first_whatever_order_classes_are_given_in(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert "in this order but normal always first" in " ".join(capsys.readouterr().out.split())
