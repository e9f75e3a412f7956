"""Heads and fine-tuning depth: layer names, which layers train, batch norm below the cut, and what is refused."""

import keras
import numpy as np
import pytest

from covidcxnet.models import create, freeze, split_head
from covidcxnet.models.finetuning import check_depth, head_layers
from enhancement.errors import InputError


def dense():
    return create("covid-cxnet", size=32, blocks=(1, 1), growth=4)


def changed_layers(model, before):
    pairs = {name: zip(old, model.get_layer(name).get_weights(), strict=True) for name, old in before.items()}
    return {name for name, arrays in pairs.items() if any((a != b).any() for a, b in arrays)}


def weighted(model):
    return [layer.name for layer in model.layers if layer.weights]


def test_all_head_a_fraction_and_names_train_what_they_say():
    model = dense()
    names = weighted(model)
    backbone = len(names) - 2
    assert freeze(model, "head") == ["fc", "pred"] and len(model.trainable_variables) == 4
    assert freeze(model, "0.25") == names[-(round(0.25 * backbone) + 2) :]
    trained = freeze(model, "conv3, bn")
    assert trained[-3:] == ["bn", "fc", "pred"]
    assert trained[:-3] and all(name.startswith("conv3_") for name in trained[:-3])
    assert freeze(model, "all") == names and all(layer.trainable for layer in model.layers)


def test_a_batch_norm_below_the_cut_keeps_its_moving_averages_and_one_above_does_not():
    model = dense()
    freeze(model, "bn")
    before = {name: model.get_layer(name).get_weights() for name in weighted(model)}
    model.compile("sgd", "binary_crossentropy")
    stacks = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype("float32")
    model.fit(stacks, np.array([[0], [1], [0], [1]], "float32"), verbose=0)
    assert {"bn"} <= changed_layers(model, before) <= {"bn", "fc", "pred"}


def test_frozen_batch_norms_stay_as_they_are_while_the_layers_around_them_train():
    model = dense()
    norms = {layer.name for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)}
    assert set(freeze(model, "all", frozen_norms=True)) == set(weighted(model)) - norms
    before = {name: model.get_layer(name).get_weights() for name in weighted(model)}
    model.compile("sgd", "binary_crossentropy")
    stacks = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype("float32")
    model.fit(stacks, np.array([[0], [1], [0], [1]], "float32"), verbose=0)
    changed = changed_layers(model, before)
    assert not changed & norms and any(name.startswith("conv2_") for name in changed)


def test_a_network_without_batch_norms_has_none_to_keep_frozen():
    model = create("vgg16", size=32)
    with pytest.raises(InputError, match="frozen_norms: vgg16 has no batch norms"):
        freeze(model, "all", frozen_norms=True)
    assert all(layer.trainable for layer in model.layers)


@pytest.mark.parametrize("depth", ["", "0", "1.5", "1", "-0.25", "nan", "inf", "conv1,", "[conv1]", "everything else"])
def test_what_is_no_depth_of_any_model_is_refused(depth):
    with pytest.raises(InputError, match="trainable"):
        check_depth(depth)


@pytest.mark.parametrize(("depth", "word"), [("conv9", "conv2_block1"), ("conv3,layer4", "layer4"), ("0.01", "none")])
def test_a_cut_that_the_model_has_not_is_refused_and_nothing_is_frozen(depth, word):
    model = dense()
    with pytest.raises(InputError, match=word):
        freeze(model, depth)
    assert all(layer.trainable for layer in model.layers)


@pytest.mark.parametrize(
    ("name", "options", "features"),
    [
        ("covid-cxnet", {"blocks": (1, 1), "growth": 4, "size": 32}, 10),
        ("small-cnn", {"filters": (4, 4), "size": 32}, 144),
    ],
)
def test_backbone_then_head_is_the_model_and_to_train_the_head_changes_it_alone(name, options, features):
    model = create(name, **options)
    backbone, head = split_head(model)
    stack = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    assert backbone.output_shape == (None, features)
    np.testing.assert_allclose(np.asarray(head(backbone(stack))), np.asarray(model(stack)), rtol=1e-5)
    before = {layer.name: layer.get_weights() for layer in model.layers}
    head.compile("sgd", "binary_crossentropy")
    head.fit(np.ones((4, features), "float32"), np.ones((4, 1), "float32"), verbose=0)
    assert changed_layers(model, before) == {"fc", "pred"} <= head_layers(model)
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


def test_averages_and_maxima_of_a_map_stand_side_by_side_and_the_head_behind_them_trains_alone():
    model = create("small-cnn", size=32, filters=(4, 4), head="linear", pool="average+max")
    backbone, head = split_head(model)
    stack = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")
    maps = np.asarray(keras.Model(model.input, model.get_layer("pooling_average").input)(stack))
    pooled = np.asarray(backbone(stack))
    np.testing.assert_allclose(pooled, np.c_[maps.mean(axis=(1, 2)), maps.max(axis=(1, 2))], rtol=1e-5)
    assert head.input_shape[1] == pooled.shape[1] and freeze(model, "head") == ["pred"]
    with pytest.raises(InputError, match=r"options.pool: covid-cxnet-hierarchical takes"):
        create("covid-cxnet-hierarchical", size=32, classes=("a", "b", "c"), pool="average+max", blocks=(1,), growth=4)


def test_an_option_goes_before_the_head_that_is_named():
    model = create("small-cnn", size=32, filters=(4, 4), head="covid-cxnet", hidden=(6, 5), dropout=(0.1, 0, 0.3))
    names = [layer.name for layer in model.layers]
    assert names[-6:] == ["pooling_layer", "dropout_fc1", "fc1", "fc2", "dropout", "pred"]
    assert (model.get_layer("dropout_fc1").rate, model.get_layer("dropout").rate) == (0.1, 0.3)
    for activation in ("relu", "hard_swish"):
        model = create("small-cnn", size=32, filters=(4, 4), hidden=(6,), hidden_activation=activation)
        values = model.get_layer("fc").activation(np.array([-6.0, -1.0, 3.0]))
        np.testing.assert_allclose(values, [0, 0, 3] if activation == "relu" else [0, -1 / 3, 3], atol=1e-6)
    # several findings are independent even if there are only two
    for classes, options in (("abc", {"activation": "sigmoid"}), ("ab", {"multilabel": True})):
        model = create("small-cnn", size=32, filters=(4, 4), classes=classes, **options)
        assert model.get_layer("pred").activation.__name__ == "sigmoid"
        assert model.output_shape == (None, len(classes))
