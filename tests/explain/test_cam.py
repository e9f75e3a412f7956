"""CAM and Grad-CAM against their definitions, against each other, and at their edges."""

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


def stacks(count=3, size=20):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3)).astype("uint8")


def plain_gradcam(model, layer, images, target, logarithm=False):
    """Grad-CAM as in the paper: an eager tape over the whole model, up to its output before the last activation."""
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the plain implementation is TensorFlow's")
    dense = next(layer for layer in reversed(model.layers) if isinstance(layer, layers.Dense))
    parts = keras.Model(model.inputs, [model.get_layer(layer).output, dense.input, model.output])
    with tf.GradientTape() as tape:
        features, x, output = parts(images.astype("float32"), training=False)
        linear = tf.math.log(output) if logarithm else x @ dense.kernel + dense.bias
        if linear.shape[-1] == 1:
            linear = tf.concat([-linear, linear], axis=1)
        score = linear[:, target]
    # An image's score depends on its maps alone, so one gradient serves all images.
    weights = tape.gradient(score, features).numpy().mean((1, 2), keepdims=True)
    maps = np.maximum((features.numpy() * weights).sum(-1), 0)
    return maps / np.maximum(maps.max((1, 2), keepdims=True), 1e-30)


@pytest.mark.parametrize(
    ("head", "outputs", "layer", "targets"), [("flatten", 1, "first", (0, 1)), ("pool", 3, "maps", (2,))]
)
def test_gradcam_agrees_with_a_plain_tape_over_the_whole_model(head, outputs, layer, targets):
    for target in targets:
        expected = plain_gradcam(network(head, outputs), layer, stacks(), target)
        assert expected.max() > 0
        maps = gradcam(head, outputs, layer=layer)(stacks(), target, batch_size=2)
        np.testing.assert_allclose(maps, expected, atol=1e-4)


def test_gradcam_looks_at_the_last_relu_of_covid_cxnet():
    explainer = GradCAM(create("covid-cxnet", size=64, blocks=[1, 1, 1, 1], growth=4))
    assert explainer.layer == "relu" and explainer.grid == Grid(14.0, 14.0, 32.0, 32.0)
    assert explainer(stacks(1, size=64)).shape == (1, 2, 2)


@pytest.mark.parametrize(("outputs", "end"), [(2, "together"), (1, "layer"), (3, "layer")])
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


@pytest.mark.parametrize("pool", [layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D])
@pytest.mark.parametrize("activation", ["relu", "linear"])
def test_cam_folds_dense_layers_at_the_units_that_are_active(pool, activation):
    stack = keras.Input((12, 12, 3))
    x = layers.ReLU(name="maps")(layers.Conv2D(5, 3, name="last")(keras.ops.divide(stack, 255.0)))
    hidden = [layers.Dense(7, activation=activation, name=f"fc{k}") for k in (1, 2)]
    pred = layers.Dense(3, activation="softmax", name="pred")
    model = keras.Model(stack, pred(hidden[1](layers.Dropout(0.2)(hidden[0](pool()(x))))), name="deep")
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(0, 0.4, w.shape) for w in model.get_weights()])
    images = stacks(4, 12)
    features = np.asarray(keras.Model(stack, x)(images.astype("float32")))
    signal = features.mean((1, 2)) if pool is layers.GlobalAveragePooling2D else features.max((1, 2))
    weights = np.broadcast_to(np.eye(5), (4, 5, 5))
    for layer in hidden:
        kernel, bias = (np.asarray(w) for w in layer.get_weights())
        active = signal @ kernel + bias > 0 if activation == "relu" else np.ones((4, 7))
        weights, signal = weights @ kernel * active[:, None], (signal @ kernel + bias) * active
    weights = (weights @ pred.get_weights()[0])[..., 2]
    expected = np.maximum(np.einsum("nhwk,nk->nhw", features, weights), 0)
    expected /= np.maximum(expected.max((1, 2), keepdims=True), 1e-30)
    explainer = CAM(model)
    np.testing.assert_allclose(explainer(images, 2), expected, atol=1e-4)
    assert explainer.layer == "maps" and ("folded" in explainer.note) == (activation == "relu")
    assert ("maxima" in explainer.note) == (pool is layers.GlobalMaxPooling2D)
    if activation == "relu":
        np.testing.assert_allclose(GradCAM(model, "maps")(images, 2), expected, atol=1e-4)


def test_an_activation_of_its_own_at_the_end_changes_nothing_but_a_softmax_operation_is_explained_by_its_logarithm():
    for outputs, end in ((1, "operation"), (3, "layer")):
        expected = gradcam("linear", outputs)(stacks(), 1)
        np.testing.assert_allclose(gradcam("linear", outputs, end)(stacks(), 1), expected, atol=1e-5)
    expected = plain_gradcam(network("linear", 3, "operation"), "maps", stacks(), 2, logarithm=True)
    np.testing.assert_allclose(gradcam("linear", 3, "operation")(stacks(), 2), expected, atol=1e-4)


@pytest.mark.parametrize("method", [cam, lambda outputs: gradcam("linear", outputs)])
def test_the_predicted_class_is_explained_by_default_and_neither_batch_nor_type_of_the_stacks_matter(method):
    images, maps = stacks(5), method(3)
    heatmaps = maps.explain(images)
    expected = np.asarray(network("linear", 3)(images.astype("float32")))
    np.testing.assert_allclose(heatmaps.probabilities, expected, atol=1e-5)
    assert heatmaps.targets.tolist() == expected.argmax(1).tolist()
    whole = maps(images, heatmaps.targets)
    np.testing.assert_allclose(heatmaps.maps, whole, atol=1e-6)
    np.testing.assert_allclose(maps(images, heatmaps.targets, batch_size=2), whole, atol=1e-5)
    np.testing.assert_allclose(maps(images.astype("float32"), heatmaps.targets), whole, atol=1e-5)
    np.testing.assert_allclose(maps(images[3:4], heatmaps.targets[3:4]), whole[3:4], atol=1e-5)
    empty = method(1).explain(images[:0])
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


def test_a_map_that_speaks_nowhere_is_all_zero_and_constant_saturated_and_overflowing_outputs_give_no_nan():
    model = fresh("linear")
    model.get_layer("pred").set_weights([np.full((5, 1), -1.0), np.zeros(1)])
    for maps in (CAM(model), GradCAM(model, "maps")):
        assert not maps(stacks(), 1).any()
        np.testing.assert_allclose(maps(stacks(), 0).max(axis=(1, 2)), 1, rtol=1e-6)
    kernel = np.random.default_rng(0).random((5, 1), "float32")
    for scale, peak in ((0, 0), (1e4, 1), (3e38, None)):
        with np.errstate(over="ignore"):
            model.get_layer("pred").set_weights([kernel * np.float32(scale), np.zeros(1)])
        heatmaps = maps.explain(stacks(), 1)
        assert np.isfinite(heatmaps.maps).all()
        if peak is not None:
            np.testing.assert_allclose(heatmaps.maps.max(axis=(1, 2)), peak, rtol=1e-6)
        if peak == 1:
            assert (heatmaps.probabilities[:, 1] == 1).all()


@pytest.mark.parametrize(
    ("work", "message"),
    [
        *[
            (lambda target=target: cam(3)(stacks(3), target), "class_index")
            for target in (3, -1, 0.5, [0, 1], "normal")
        ],
        *[
            (lambda shape=shape: gradcam()(np.zeros(shape, "uint8")), r"\[n, 20, 20, 3\] expected")
            for shape in ((20, 20, 3), (2, 20, 20, 1), (2, 24, 20, 3))
        ],
        (lambda: CAM(network("flatten")), r"use Grad-CAM \(gradcam\), or train with options\.head: linear"),
        (lambda: GradCAM(network(), "fc"), "no feature layer 'fc'.*maps"),
        (lambda: GradCAM(network(), "nothing"), "no feature layer 'nothing'.*maps"),
        (lambda: require_cut(network(), "map"), r"layer: 'map' is no layer of tiny; .*maps.*first.*last"),
        (lambda: require_cut(network(), "pred"), "'pred' is no place to cut tiny"),
        (lambda: convolutions(keras.Sequential([keras.Input((4,)), layers.Dense(1)])), "no convolutional layer"),
    ],
)
def test_a_class_shape_head_or_layer_that_the_model_does_not_have_is_refused_with_what_to_do(work, message):
    with pytest.raises(InputError, match=message):
        work()


def test_gradcam_can_cut_at_every_layer_listed_and_only_there():
    """A residual block has no place to cut inside; before, between and after its blocks there is."""
    start = layers.Conv2D(3, 3, padding="same", name="start")(stack := keras.Input((16, 16, 1)))
    x = layers.Add(name="sum")([start, layers.Conv2D(3, 3, padding="same", name="inside")(start)])
    x = layers.GlobalAveragePooling2D()(layers.ReLU(name="end")(x))
    model = keras.Model(stack, layers.Dense(1, activation="sigmoid")(x), name="residual")
    names = cut_layers(model)
    assert convolutions(model) == ["start", "inside"] and linear_head(network("flatten")) is None
    assert {"start", "sum", "end"} <= set(names) and "inside" not in names
    explainers = {name: GradCAM(model, name) for name in names}
    # The gradient of "start" runs through all the others.
    assert explainers["start"](np.zeros((1, 16, 16, 1), "uint8")).shape == (1, 16, 16)
    with pytest.raises(InputError, match="can't be split at 'inside'"):
        GradCAM(model, "inside")
