"""`covidcxnet models`: the list, one model, and one counted at other settings."""

import json

from covidcxnet.cli.models import main
from covidcxnet.models import MODELS


def test_the_list_has_every_model_with_size_parameters_operations_and_weights(capsys):
    assert main(["list"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()[1:]}
    assert sorted(lines) == sorted(MODELS)
    assert all(text in lines["resnet50"] for text in ("224 x 224 x 3", "23,608,213", "7.71", "ImageNet", "MIT"))
    assert main(["list", "--json"]) == 0
    for model in json.loads(capsys.readouterr().out):
        assert model["parameters"] > 0 and model["flops"] > 0 and model["summary"] and model["weights"]
        assert bool(model["licence"]) == bool(MODELS[model["name"]].application)


def test_show_says_where_the_scaling_is_and_where_grad_cam_looks(capsys):
    assert main(["show", "vgg16"]) == 0
    out = capsys.readouterr().out
    assert all(text in out for text in ("caffe", "block5_conv3", "CC BY 4.0", "14,719,829"))


def test_show_counts_a_model_at_other_settings(capsys):
    assert main(["show", "small-cnn", "--size", "94", "--classes", "3", "--head", "linear", "--json"]) == 0
    model = json.loads(capsys.readouterr().out)
    assert model["stack"] == [94, 94, 3] and model["outputs"] == 3
    assert model["parameters"] != MODELS["small-cnn"].parameters and model["learned"] == model["parameters"] - 1088
