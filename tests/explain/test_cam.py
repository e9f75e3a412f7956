"""CAM and Grad-CAM against their definitions, against each other, and at their edges."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from covidcxnet.explain.cam import CAM, GradCAM, linear_head
from covidcxnet.explain.grid import Grid
from covidcxnet.explain.layers import convolutions, cut_layers, require_cut
from covidcxnet.models import create
from enhancement.errors import InputError

keras = pytest.importorskip("keras")
layers = keras.layers


def fresh(head="pool", outputs=1, end="together"):
    """A small network: its head is "linear", or "pool" or "flatten" before a hidden layer; its activation may be a
    layer or an operation of its own. `network` is the same, shared by all tests that leave its weights alone."""
    stack = keras.Input((20, 20, 3))
    x = layers.Conv2D(6, 3, strides=2, activation="relu", name="first")(keras.ops.divide(stack, 255.0))
    x = layers.ReLU(name="maps")(layers.BatchNormalization()(layers.Conv2D(5, 3, name="last")(x)))
    x = layers.Flatten()(layers.MaxPooling2D(2)(x)) if head == "flatten" else layers.GlobalAveragePooling2D()(x)
    if head != "linear":
        x = layers.Dense(7, activation="relu", name="fc")(x)
    activation = "sigmoid" if outputs == 1 else "softmax"
    dense = layers.Dense(outputs, activation=activation if end == "together" else None, name="pred")
    x = dense(layers.Dropout(0.2)(x))
    if end == "layer":
        x = layers.Activation(activation)(x) if outputs == 1 else layers.Softmax()(x)
    elif end == "operation":
        x = getattr(keras.ops, activation)(x)
    model = keras.Model(stack, x, name="tiny")
    # Biases and batch norm statistics other than their starts show what is left out.
    rng = np.random.default_rng(0)
    draws = [(rng.normal(0, 0.4, w.shape), w) for w in model.get_weights()]
    model.set_weights([draw if w.ndim > 1 else w + draw**2 / 10 for draw, w in draws])
    return model


network = cache(fresh)


@cache
def gradcam(head="pool", outputs=1, end="together", layer="maps"):
    """Grad-CAM of `network`, compiled once for all tests."""
    return GradCAM(network(head, outputs, end), layer)


@cache
def cam(outputs=1, end="together"):
    return CAM(network("linear", outputs, end))


# Both, by name: of a network whose head is linear.
METHODS = {"CAM": cam, "Grad-CAM": lambda outputs=1: gradcam("linear", outputs)}


def stacks(count=3, seed=0, size=20):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3)).astype("uint8")


def plain_gradcam(model, layer, images, target, score=None):
    """Grad-CAM as in the paper: an eager tape over the whole model, of a copy without the last activation."""
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the plain implementation is TensorFlow's")

    def linear(layer):
        settings = layer.get_config()
        return layer.from_config({**settings, "activation": "linear"} if layer.name == "pred" else settings)

    whole = model
    if score is None:
        whole = keras.models.clone_model(model, clone_function=linear)
        whole.set_weights(model.get_weights())
    both = keras.Model(whole.inputs, [whole.get_layer(layer).output, whole.output])
    with tf.GradientTape() as tape:
        pixels = tf.constant(images.astype("float32"))
        tape.watch(pixels)
        features, output = both(pixels, training=False)
        if score is not None:
            value = score(output)
        elif output.shape[-1] == 1:
            value = output[:, 0] if target == 1 else -output[:, 0]
        else:
            value = output[:, target]
    # An image's score depends on its maps alone, so one gradient serves all images.
    weights = tape.gradient(value, features).numpy().mean((1, 2), keepdims=True)
    maps = np.maximum((features.numpy() * weights).sum(-1), 0)
    return maps / np.maximum(maps.max((1, 2), keepdims=True), 1e-30)


@pytest.mark.parametrize("layer", ["maps", "first"])
@pytest.mark.parametrize(
    ("head", "outputs", "targets"),
    [("pool", 1, (0, 1)), ("flatten", 1, (0, 1)), ("flatten", 3, (2,)), ("pool", 3, (2,))],
)
def test_gradcam_agrees_with_a_plain_tape_over_the_whole_model(head, outputs, targets, layer):
    for target in targets:
        expected = plain_gradcam(network(head, outputs), layer, stacks(), target)
        assert expected.max() > 0
        maps = gradcam(head, outputs, layer=layer)(stacks(), target, batch_size=2)
        np.testing.assert_allclose(maps, expected, atol=1e-4)


def test_gradcam_agrees_with_a_plain_tape_on_models_of_the_registry():
    for name, channels in (("base-cnn", 1), ("small-cnn", 3)):
        model, images = create(name, size=100, channels=channels), stacks(2, size=100)[..., :channels]
        explainer = GradCAM(model)
        expected = plain_gradcam(model, explainer.layer, images, 1)
        np.testing.assert_allclose(explainer(images, 1), expected, atol=1e-4)


def test_the_layer_of_covid_cxnet_is_its_last_relu():
    explainer = GradCAM(create("covid-cxnet", size=64, blocks=[1, 1, 1, 1], growth=4))
    assert explainer.layer == "relu" and explainer.grid == Grid(14.0, 14.0, 32.0, 32.0)
    assert explainer(stacks(1, size=64)).shape == (1, 2, 2)


@pytest.mark.parametrize(("outputs", "end"), [(1, "together"), (2, "together"), (1, "layer"), (3, "layer")])
def test_cam_equals_gradcam_where_the_head_is_linear(outputs, end):
    peaks = []
    for target in range(max(2, outputs)):
        closed = cam(outputs, end).explain(stacks(), target, batch_size=2)
        gradient = gradcam("linear", outputs, end).explain(stacks(), target)
        np.testing.assert_allclose(closed.maps, gradient.maps, atol=1e-5)
        np.testing.assert_allclose(closed.probabilities, gradient.probabilities, atol=1e-6)
        assert closed.targets.tolist() == [target] * 3
        peaks.append(closed.maps.max())
    assert max(peaks) == pytest.approx(1)


@pytest.mark.parametrize(("outputs", "end"), [(1, "layer"), (1, "operation"), (3, "layer")])
def test_an_activation_of_its_own_at_the_end_changes_nothing(outputs, end):
    expected = gradcam("linear", outputs)(stacks(), 1)
    np.testing.assert_allclose(gradcam("linear", outputs, end)(stacks(), 1), expected, atol=1e-5)


def test_an_output_that_is_an_operation_is_explained_by_its_logarithm():
    tf = pytest.importorskip("tensorflow")
    model = network("linear", 3, "operation")
    expected = plain_gradcam(model, "maps", stacks(), 2, score=lambda output: tf.math.log(output[:, 2]))
    np.testing.assert_allclose(gradcam("linear", 3, "operation")(stacks(), 2), expected, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_the_predicted_class_is_explained_by_default_with_the_models_own_probabilities(method):
    maps, images = METHODS[method](3), stacks(6)
    heatmaps = maps.explain(images)
    expected = np.asarray(network("linear", 3)(images.astype("float32")))
    np.testing.assert_allclose(heatmaps.probabilities, expected, atol=1e-5)
    assert heatmaps.targets.tolist() == expected.argmax(1).tolist()
    np.testing.assert_allclose(heatmaps.maps, maps(images, heatmaps.targets), atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_maps_do_not_depend_on_the_batch_or_on_the_type_of_the_stacks(method):
    maps, images = METHODS[method](), stacks(5)
    whole = maps(images, 1)
    np.testing.assert_allclose(maps(images, 1, batch_size=2), whole, atol=1e-5)
    np.testing.assert_allclose(maps(images.astype("float32"), 1), whole, atol=1e-5)
    np.testing.assert_allclose(maps(images[3:4], 1), whole[3:4], atol=1e-5)
    empty = maps.explain(images[:0])
    assert empty.maps.shape == (0, 7, 7) and empty.probabilities.shape == (0, 2)


def test_the_model_is_left_as_it_was_traced_once_and_its_new_weights_are_seen(monkeypatch):
    traces, trace = [], GradCAM.weights
    monkeypatch.setattr(GradCAM, "weights", lambda self, *a: traces.append(1) or trace(self, *a))
    model = fresh()
    names, arrays, tensor = [layer.name for layer in model.layers], model.get_weights(), model.get_layer("maps").output
    explainer = GradCAM(model, "maps")
    for count in (1, 4, 7):
        before = explainer.explain(stacks(count), batch_size=4).probabilities
    assert len(traces) == 1 or keras.backend.backend() != "tensorflow"
    assert [layer.name for layer in model.layers] == names and model.get_layer("maps").output is tensor
    assert all((a == b).all() for a, b in zip(arrays, model.get_weights(), strict=True))

    model.get_layer("pred").set_weights([w + 1 for w in model.get_layer("pred").get_weights()])
    after = explainer.explain(stacks(7)).probabilities
    np.testing.assert_allclose(after[:, 1:], np.asarray(model(stacks(7).astype("float32"))), atol=1e-5)
    assert np.abs(after - before).max() > 1e-3


@pytest.mark.parametrize("method", [CAM, lambda model: GradCAM(model, "maps")])
def test_a_map_that_speaks_nowhere_for_the_class_is_all_zero(method):
    model = fresh("linear")
    model.get_layer("pred").set_weights([np.full((5, 1), -1.0), np.zeros(1)])
    maps = method(model)
    assert not maps(stacks(), 1).any()
    np.testing.assert_allclose(maps(stacks(), 0).max(axis=(1, 2)), 1, rtol=1e-6)


def test_constant_saturated_and_overflowing_outputs_give_no_nan():
    model = fresh()
    explainer, (kernel, bias) = GradCAM(model, "maps"), model.get_layer("pred").get_weights()
    for scale, peak in ((0, 0), (1e4, 1), (3e38, None)):
        with np.errstate(over="ignore"):
            model.get_layer("pred").set_weights([np.abs(kernel) * np.float32(scale), bias * (scale > 0)])
        heatmaps = explainer.explain(stacks(), 1)
        assert np.isfinite(heatmaps.maps).all()
        if peak is not None:
            np.testing.assert_allclose(heatmaps.maps.max(axis=(1, 2)), peak, rtol=1e-6)
        if peak == 1:
            assert (heatmaps.probabilities[:, 1] == 1).all()


def test_another_head_is_refused_with_what_to_do():
    assert linear_head(network("pool")) is None and linear_head(network("linear")).layer == "maps"
    with pytest.raises(InputError, match=r"use Grad-CAM \(gradcam\), or train with options\.head: linear"):
        CAM(network("pool"))


@pytest.mark.parametrize("target", [3, -1, 0.5, [0, 1], "normal"])
def test_a_class_that_the_model_does_not_have_is_refused(target):
    with pytest.raises(InputError, match="class_index"):
        cam(3)(stacks(3), target)


@pytest.mark.parametrize("shape", [(20, 20, 3), (2, 20, 20, 1), (2, 24, 20, 3)])
def test_stacks_of_another_shape_are_refused(shape):
    with pytest.raises(InputError, match=r"\[n, 20, 20, 3\] expected"):
        gradcam()(np.zeros(shape, "uint8"))


def test_a_layer_that_is_not_there_or_has_no_maps_is_refused_with_the_layers_there_are():
    assert require_cut(network(), "maps") == "maps"
    for layer in ("fc", "nothing"):
        with pytest.raises(InputError, match=f"no feature layer '{layer}'.*maps"):
            GradCAM(network(), layer)
    for layer, message in (
        ("map", r"layer: 'map' is no layer of tiny; .*maps.*first.*last"),
        ("pred", "'pred' is no place to cut tiny"),
    ):
        with pytest.raises(InputError, match=message):
            require_cut(network(), layer)


def test_gradcam_can_cut_at_every_layer_listed_and_only_there():
    """A residual block has no place to cut inside; before, between and after its blocks there is."""
    stack = keras.Input((16, 16, 1))
    start = layers.Conv2D(3, 3, padding="same", name="start")(stack)
    x = layers.Add(name="sum")([start, layers.Conv2D(3, 3, padding="same", name="inside")(start)])
    x = layers.GlobalAveragePooling2D()(layers.ReLU(name="end")(x))
    model = keras.Model(stack, layers.Dense(1, activation="sigmoid")(x), name="residual")
    names = cut_layers(model)
    assert {"start", "sum", "end"} <= set(names) and "inside" not in names
    explainers = {name: GradCAM(model, name) for name in names}
    # The gradient of "start" runs through all the others.
    assert explainers["start"](np.zeros((1, 16, 16, 1), "uint8")).shape == (1, 16, 16)
    with pytest.raises(InputError, match="can't be split at 'inside'"):
        GradCAM(model, "inside")


def test_convolutions_are_listed_from_input_to_output():
    assert convolutions(network()) == ["first", "last"]
    stack = keras.Input((4,))
    with pytest.raises(InputError, match="no convolutional layer"):
        convolutions(keras.Model(stack, layers.Dense(1)(stack), name="flat"))
