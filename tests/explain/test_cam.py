"""CAM against its definition and against Grad-CAM, whose closed form it is; layers that maps can be drawn of."""

from __future__ import annotations

import numpy as np
import pytest

from covidcxnet.explain.cam import CAM, linear_head
from covidcxnet.explain.gradcam import GradCAM
from covidcxnet.explain.layers import convolutions, cut_layers, require_cut
from enhancement.errors import InputError

keras = pytest.importorskip("keras")
layers = keras.layers


def _model(outputs=1, *, hidden=False, activation=None, apart=False, seed=0):
    stack = keras.Input((24, 24, 3))
    x = layers.Conv2D(5, 3, strides=2, activation="relu", name="first")(keras.ops.divide(stack, 255.0))
    x = layers.Conv2D(6, 3, name="last")(x)
    x = layers.GlobalAveragePooling2D()(layers.ReLU(name="maps")(x))
    if hidden:
        x = layers.Dense(4, activation="relu", name="fc")(x)
    activation = activation or ("sigmoid" if outputs == 1 else "softmax")
    x = layers.Dense(outputs, activation=None if apart else activation, name="pred")(layers.Dropout(0.3)(x))
    model = keras.Model(stack, layers.Activation(activation)(x) if apart else x, name="tiny")
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(0.05, 0.4, w.shape).astype("float32") for w in model.get_weights()])
    return model


def _stacks(count=5, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 24, 24, 3)).astype("uint8")


@pytest.mark.parametrize("outputs", [1, 2, 3])
@pytest.mark.parametrize("apart", [False, True])
def test_cam_equals_grad_cam_where_the_head_is_linear(outputs, apart):
    model, stacks = _model(outputs, apart=apart), _stacks()
    for target in range(max(2, outputs)):
        closed = CAM(model).explain(stacks, target, batch_size=2)
        gradient = GradCAM(model, "maps").explain(stacks, target)
        np.testing.assert_allclose(closed.maps, gradient.maps, atol=1e-5)
        np.testing.assert_allclose(closed.probabilities, gradient.probabilities, atol=1e-6)
        assert closed.targets.tolist() == [target] * 5
    assert any(CAM(model)(stacks, target).max() == pytest.approx(1) for target in range(max(2, outputs)))


@pytest.mark.parametrize("outputs", [1, 3])
def test_the_average_of_the_signed_map_and_the_bias_is_the_score(outputs):
    model, stacks = _model(outputs), _stacks(4)
    cam = CAM(model)
    scores = [cam.signed(stacks, c).mean(axis=(1, 2)) + cam.head.bias[c] for c in range(max(2, outputs))]
    output = np.asarray(model(stacks.astype("float32")))
    if outputs == 1:
        np.testing.assert_allclose(1 / (1 + np.exp(-scores[1])), output[:, 0], atol=1e-5)
        np.testing.assert_allclose(scores[0], -scores[1], atol=1e-5)
    else:
        exponents = np.exp(np.stack(scores, axis=1))
        np.testing.assert_allclose(exponents / exponents.sum(axis=1, keepdims=True), output, atol=1e-5)


def test_the_class_explained_is_the_predicted_one_where_none_is_given():
    model, stacks = _model(3), _stacks(6)
    found = CAM(model).explain(stacks)
    assert found.targets.tolist() == found.probabilities.argmax(axis=1).tolist()
    each = np.array([0, 1, 2, 0, 1, 2])
    np.testing.assert_allclose(CAM(model)(stacks, each)[1], CAM(model)(stacks[1:2], 1)[0], atol=1e-6)


def test_a_map_that_speaks_nowhere_for_the_class_is_all_zero_and_an_empty_batch_is_no_error():
    model, stacks = _model(1), _stacks(3)
    model.get_layer("pred").set_weights([np.full((6, 1), -1.0), np.zeros(1)])
    assert not CAM(model)(stacks, 1).any() and CAM(model)(stacks, 0).max() == pytest.approx(1)
    empty = CAM(model).explain(stacks[:0])
    assert empty.maps.shape == (0, 9, 9) and empty.probabilities.shape == (0, 2)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_stacks_may_be_bytes_or_floats(dtype):
    model = _model(2)
    np.testing.assert_allclose(CAM(model)(_stacks().astype(dtype)), CAM(model)(_stacks()), atol=1e-6)


def test_another_head_is_refused_with_what_to_do():
    model = _model(1, hidden=True)
    assert linear_head(model) is None
    with pytest.raises(InputError, match=r"use Grad-CAM \(gradcam\), or train with options\.head: linear"):
        CAM(model)


@pytest.mark.parametrize("given", [3, -1, 0.5, [0, 1]])
def test_a_class_that_the_model_does_not_have_is_refused(given):
    with pytest.raises(InputError, match="class_index"):
        CAM(_model(3))(_stacks(), given)


def test_stacks_of_another_shape_are_refused():
    with pytest.raises(InputError, match=r"\[n, 24, 24, 3\] expected"):
        CAM(_model())(np.zeros((2, 20, 20, 3), "uint8"))


def test_grad_cam_can_cut_at_every_layer_listed_and_only_there():
    """A residual block has no place to cut inside; before, between and after its blocks there is."""
    stack = keras.Input((16, 16, 1))
    x = start = layers.Conv2D(3, 3, padding="same", name="start")(stack)
    x = layers.Conv2D(3, 3, padding="same", name="inside")(x)
    x = layers.Add(name="sum")([start, x])
    x = layers.GlobalAveragePooling2D()(layers.ReLU(name="end")(x))
    model = keras.Model(stack, layers.Dense(1, activation="sigmoid")(x), name="residual")
    names = cut_layers(model)
    assert {"start", "sum", "end"} <= set(names) and "inside" not in names
    for name in names:
        if name not in {"start", "sum", "end"}:
            continue
        assert GradCAM(model, name)(np.zeros((1, 16, 16, 1), "uint8")).shape == (1, 16, 16)
    with pytest.raises(InputError):
        GradCAM(model, "inside")


def test_an_unknown_layer_is_refused_with_the_layers_there_are():
    model = _model()
    assert require_cut(model, "maps") == "maps"
    with pytest.raises(InputError, match=r"layer: 'map' is no layer of tiny; .*maps.*first, last"):
        require_cut(model, "map")
    with pytest.raises(InputError, match="'pred' is no place to cut tiny"):
        require_cut(model, "pred")


def test_convolutions_are_listed_from_input_to_output():
    assert convolutions(_model()) == ["first", "last"]
    stack = keras.Input((4,))
    with pytest.raises(InputError, match="no convolutional layer"):
        convolutions(keras.Model(stack, layers.Dense(1)(stack), name="flat"))
