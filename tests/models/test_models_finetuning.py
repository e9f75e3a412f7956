"""Fine-tuning depth: which layers train, batch norm below the cut, and what is refused."""

import numpy as np
import pytest

from covidcxnet.models import create, freeze
from covidcxnet.models.finetuning import check_depth
from enhancement.errors import InputError


def dense():
    return create("covid-cxnet", size=32, blocks=(1, 1), growth=4)


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
    changed = {
        name
        for name, old in before.items()
        if any((a != b).any() for a, b in zip(old, model.get_layer(name).get_weights(), strict=True))
    }
    assert "bn" in changed and changed <= {"bn", "fc", "pred"}


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
