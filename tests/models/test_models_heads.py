"""Heads: layer names, and the cut between backbone and head."""

import numpy as np
import pytest

from covidcxnet.models import create, split_head
from covidcxnet.models.finetuning import head_layers
from enhancement.errors import InputError


@pytest.mark.parametrize(
    ("name", "options", "features"),
    [
        ("covid-cxnet", {"blocks": (1, 1), "growth": 4, "size": 32}, 10),
        ("small-cnn", {"filters": (4, 4), "size": 32}, 144),
    ],
)
def test_backbone_then_head_is_the_model(name, options, features):
    model = create(name, **options)
    backbone, head = split_head(model)
    stack = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    assert backbone.output_shape == (None, features)
    np.testing.assert_allclose(np.asarray(head(backbone(stack))), np.asarray(model(stack)), rtol=1e-5)


def test_training_the_head_changes_the_whole_model_and_nothing_but_its_head():
    model = create("small-cnn", size=32, filters=(4, 4))
    head = split_head(model)[1]
    before = {layer.name: layer.get_weights() for layer in model.layers}
    head.compile("sgd", "binary_crossentropy")
    head.fit(np.ones((4, 144), "float32"), np.ones((4, 1), "float32"), verbose=0)
    changed = {
        layer.name
        for layer in model.layers
        if any((a != b).any() for a, b in zip(before[layer.name], layer.get_weights(), strict=True))
    }
    assert changed == {"fc", "pred"} <= head_layers(model)


def test_a_model_without_a_pooling_layer_cannot_be_cut():
    import keras

    x = keras.Input((4,))
    with pytest.raises(InputError, match="pooling_layer"):
        split_head(keras.Model(x, keras.layers.Dense(1)(x)))


@pytest.mark.parametrize(
    ("head", "names"),
    [
        (None, ["pooling_layer", "fc", "dropout", "pred"]),
        ("covid-cxnet", ["pooling_layer", "fc", "dropout", "pred"]),
        ("pneumonia", ["pooling_layer", "fc", "pred"]),
        ("linear", ["pooling_layer", "pred"]),
    ],
)
def test_heads_by_name_go_on_any_backbone(head, names):
    backbones = {"covid-cxnet": {"blocks": (1, 1), "growth": 4}} | ({"small-cnn": {"filters": (4, 4)}} if head else {})
    for name, options in backbones.items():
        model = create(name, size=32, head=head, **options)
        assert [layer.name for layer in model.layers[-len(names) :]] == names
    if head == "pneumonia":
        assert type(model.get_layer("pooling_layer")).__name__ == "GlobalMaxPooling2D"
        assert model.get_layer("fc").units == 128 and model.get_layer("pred").activation.__name__ == "sigmoid"


def test_an_option_goes_before_the_head_that_is_named():
    model = create("small-cnn", size=32, filters=(4, 4), head="covid-cxnet", hidden=(6, 5), dropout=(0.1, 0, 0.3))
    names = [layer.name for layer in model.layers]
    assert names[-6:] == ["pooling_layer", "dropout_fc1", "fc1", "fc2", "dropout", "pred"]
    assert (model.get_layer("dropout_fc1").rate, model.get_layer("dropout").rate) == (0.1, 0.3)


def test_several_findings_are_independent_even_if_there_are_only_two():
    tiny = {"size": 32, "filters": (4, 4)}
    for classes, options in ((("a", "b", "c"), {"activation": "sigmoid"}), (("a", "b"), {"multilabel": True})):
        model = create("small-cnn", classes=classes, **tiny, **options)
        assert model.get_layer("pred").activation.__name__ == "sigmoid"
        assert model.output_shape == (None, len(classes))
