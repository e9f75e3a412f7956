"""`covidcxnet models`: the list, one model, and one counted at other settings."""

import json

import pytest

from covidcxnet.cli.models import main
from covidcxnet.models import MODELS


def test_list_has_every_model_with_size_parameters_operations_and_weights(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[0] for line in lines[1:]) == sorted(MODELS)
    resnet = next(line for line in lines if line.startswith("resnet50"))
    assert all(text in resnet for text in ("224 x 224 x 3", "23,608,213", "7.71", "ImageNet", "MIT"))


def test_every_model_says_what_the_list_needs(capsys):
    assert main(["list", "--json"]) == 0
    for one in json.loads(capsys.readouterr().out):
        assert one["parameters"] > 0 and one["flops"] > 0 and one["summary"] and one["weights"]
        assert bool(one["licence"]) == bool(MODELS[one["name"]].application)


def test_show_says_where_the_scaling_is_and_where_grad_cam_looks(capsys):
    assert main(["show", "vgg16"]) == 0
    out = capsys.readouterr().out
    assert all(text in out for text in ("caffe", "block5_conv3", "CC BY 4.0", "14,719,829"))


def test_show_counts_a_model_at_other_settings(capsys):
    assert main(["show", "small-cnn", "--size", "94", "--classes", "3", "--head", "linear", "--json"]) == 0
    known = json.loads(capsys.readouterr().out)
    assert known["stack"] == [94, 94, 3] and known["outputs"] == 3
    assert known["parameters"] != MODELS["small-cnn"].parameters and known["learned"] == known["parameters"] - 1088


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["show", "resnet"], "resnet50"),
        (["show", "small-cnn", "--size", "9"], "94"),
        (["show", "vgg16", "--classes", "1"], "2"),
    ],
)
def test_what_there_is_not_is_one_line_and_exit_code_2(capsys, arguments, word):
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert word in message and message.count("\n") == 1
