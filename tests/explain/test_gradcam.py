"""Grad-CAM against a plain eager implementation over the whole model, and at its edges."""

from __future__ import annotations

import numpy as np
import pytest

from covidcxnet.explain.gradcam import GradCAM
from enhancement.errors import InputError

keras = pytest.importorskip("keras")
layers = keras.layers


def _features(x):
    x = layers.Conv2D(6, 3, strides=2, activation="relu")(keras.ops.divide(x, 255.0))
    return layers.BatchNormalization()(layers.Conv2D(5, 3)(x))


def _seeded(model, seed=0):
    """Weights of one seed; batch norm statistics and biases other than their starts show what is left out."""
    rng = np.random.default_rng(seed)
    kinds = [(rng.normal(0, 0.4, w.shape), w) for w in model.get_weights()]
    model.set_weights([draw if w.ndim > 1 else w + draw**2 / 10 for draw, w in kinds])
    return model


def _model(head="pool", outputs=1, activation=None, seed=0):
    """A small network with every kind of head that the registry has."""
    stack = keras.Input((20, 20, 3))
    x = layers.ReLU(name="maps")(_features(stack))
    x = layers.GlobalAveragePooling2D()(x) if head == "pool" else layers.Flatten()(layers.MaxPooling2D(2)(x))
    x = layers.Dropout(0.2)(layers.Dense(7, activation="relu", name="fc")(x))
    activation = activation or ("sigmoid" if outputs == 1 else "softmax")
    output = layers.Dense(outputs, activation=activation, name="pred")(x)
    return _seeded(keras.Model(stack, output, name="tiny"), seed)


def _stacks(count=5, seed=0, size=20):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3)).astype("uint8")


def _plain(model, layer, stacks, target, score=None):
    """Grad-CAM as in the paper: one image at a time, an eager tape over the whole model, a copy without activation."""
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the plain implementation is TensorFlow's")

    def linear(one):
        settings = one.get_config()
        return one.from_config({**settings, "activation": "linear"} if one.name == "pred" else settings)

    whole = model
    if score is None:
        whole = keras.models.clone_model(model, clone_function=linear)
        whole.set_weights(model.get_weights())
    both = keras.Model(whole.inputs, [whole.get_layer(layer).output, whole.output])
    maps = []
    for stack in stacks:
        image = tf.constant(stack[None].astype("float32"))
        with tf.GradientTape() as tape:
            tape.watch(image)
            features, output = both(image, training=False)
            if score is not None:
                value = score(output)
            elif output.shape[-1] == 1:
                value = output[0, 0] if target == 1 else -output[0, 0]
            else:
                value = output[0, target]
        gradient = tape.gradient(value, features).numpy()[0]
        total = np.maximum((features.numpy()[0] * gradient.mean((0, 1))).sum(-1), 0)
        maps.append(total / total.max() if total.max() > 0 else total)
    return np.stack(maps)


@pytest.mark.parametrize("head", ["pool", "flatten"])
@pytest.mark.parametrize(("outputs", "target"), [(1, 0), (1, 1), (3, 0), (3, 2)])
def test_gradcam_agrees_with_a_plain_tape_over_the_whole_model(head, outputs, target):
    model, stacks = _model(head, outputs), _stacks()
    expected = _plain(model, "maps", stacks, target)
    assert expected.max() > 0
    np.testing.assert_allclose(GradCAM(model, "maps")(stacks, target, batch_size=2), expected, atol=1e-4)


def test_gradcam_agrees_with_a_plain_tape_at_an_inner_layer():
    model, stacks = _model("pool"), _stacks()
    name = model.layers[1].name
    np.testing.assert_allclose(GradCAM(model, name)(stacks, 1), _plain(model, name, stacks, 1), atol=1e-4)


def test_gradcam_agrees_with_a_plain_tape_on_models_of_the_registry():
    from covidcxnet.models import create

    for name, size, channels in (("base-cnn", 96, 1), ("small-cnn", 96, 3)):
        model = create(name, size=size, channels=channels)
        stacks = _stacks(3, size=size)[..., :channels]
        gradcam = GradCAM(model)
        for target in (0, 1):
            expected = _plain(model, gradcam.layer, stacks, target)
            np.testing.assert_allclose(gradcam(stacks, target), expected, atol=1e-4)


def test_the_layer_of_covid_cxnet_is_its_last_relu():
    from covidcxnet.models import create

    gradcam = GradCAM(create("covid-cxnet", size=64))
    assert gradcam.layer == "relu"
    assert gradcam(_stacks(1, size=64)).shape == (1, 2, 2)


def test_a_saturated_sigmoid_still_has_a_map():
    model = _model()
    kernel, bias = model.get_layer("pred").get_weights()
    model.get_layer("pred").set_weights([np.abs(kernel) * 1e4, bias])
    heatmaps = GradCAM(model, "maps").explain(_stacks(), 1)
    assert (heatmaps.probabilities[:, 1] == 1).all()
    assert heatmaps.maps.max(axis=(1, 2)) == pytest.approx(1)


def test_a_map_that_is_all_negative_is_all_zero():
    model = _model()
    features = model.get_layer("fc")
    features.set_weights([np.abs(w) for w in features.get_weights()])
    kernel, bias = model.get_layer("pred").get_weights()
    model.get_layer("pred").set_weights([-np.abs(kernel), bias])
    heatmaps = GradCAM(model, "maps")
    assert (heatmaps(_stacks(), 1) == 0).all()
    np.testing.assert_allclose(heatmaps(_stacks(), 0).max(axis=(1, 2)), 1, rtol=1e-6)


def test_a_network_with_constant_output_gives_zeros_and_no_nan():
    model = _model()
    model.get_layer("pred").set_weights([np.zeros((7, 1), "float32"), np.zeros(1, "float32")])
    assert (GradCAM(model, "maps")(_stacks(), 1) == 0).all()


def test_weights_that_overflow_give_zeros_and_no_nan():
    model = _model()
    model.get_layer("pred").set_weights([np.full((7, 1), 3e38, "float32"), np.zeros(1, "float32")])
    assert np.isfinite(GradCAM(model, "maps")(_stacks(), 1)).all()


def test_the_predicted_class_is_explained_by_default_with_the_models_own_probabilities():
    model, stacks = _model(outputs=3, seed=2), _stacks(8)
    heatmaps = GradCAM(model, "maps").explain(stacks)
    expected = model.predict(stacks.astype("float32"), verbose=0)
    np.testing.assert_allclose(heatmaps.probabilities, expected, atol=1e-5)
    assert (heatmaps.targets == expected.argmax(1)).all()
    each = GradCAM(model, "maps")(stacks, heatmaps.targets)
    np.testing.assert_allclose(heatmaps.maps, each, atol=1e-6)


def test_maps_do_not_depend_on_the_batch_or_on_the_type_of_the_stacks():
    gradcam, stacks = GradCAM(_model(), "maps"), _stacks(5)
    whole = gradcam(stacks, 1)
    np.testing.assert_allclose(gradcam(stacks, 1, batch_size=2), whole, atol=1e-5)
    np.testing.assert_allclose(gradcam(stacks.astype("float32"), 1), whole, atol=1e-5)
    np.testing.assert_allclose(gradcam(stacks[3:4], 1), whole[3:4], atol=1e-5)
    assert gradcam(stacks[:0]).shape == (0, 7, 7)


def test_batches_of_every_size_are_traced_once(monkeypatch):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("counts TensorFlow traces")
    traces = []
    original = GradCAM._explain_batch
    monkeypatch.setattr(GradCAM, "_explain_batch", lambda self, *a: traces.append(1) or original(self, *a))
    gradcam = GradCAM(_model(), "maps")
    for count in (1, 4, 7):
        gradcam(_stacks(count), batch_size=4)
    assert len(traces) == 1


def test_new_weights_are_seen_after_compilation():
    model, stacks = _model(), _stacks()
    gradcam = GradCAM(model, "maps")
    before = gradcam.explain(stacks).probabilities
    model.get_layer("pred").set_weights([w + 1 for w in model.get_layer("pred").get_weights()])
    after = gradcam.explain(stacks).probabilities
    np.testing.assert_allclose(after[:, 1:], model.predict(stacks.astype("float32"), verbose=0), atol=1e-5)
    assert np.abs(after - before).max() > 1e-3


def test_the_model_is_left_as_it_was():
    model, stacks = _model(), _stacks()
    names, weights, tensor = [one.name for one in model.layers], model.get_weights(), model.get_layer("maps").output
    expected = GradCAM(model, "maps")(stacks, 1)
    assert [one.name for one in model.layers] == names
    assert model.get_layer("maps").output is tensor
    assert all((a == b).all() for a, b in zip(weights, model.get_weights(), strict=True))
    copy = keras.models.clone_model(model)
    copy.set_weights(weights)
    np.testing.assert_allclose(GradCAM(copy, "maps")(stacks, 1), expected, atol=1e-6)


def test_an_output_that_is_an_operation_is_explained_by_its_logarithm():
    tf = pytest.importorskip("tensorflow")
    stack = keras.Input((20, 20, 3))
    maps = layers.ReLU(name="maps")(_features(stack))
    pooled = layers.GlobalAveragePooling2D()(maps)
    model = keras.Model(stack, keras.ops.softmax(layers.Dense(3)(pooled)), name="tiny")
    _seeded(model)
    stacks = _stacks()
    expected = _plain(model, "maps", stacks, 2, score=lambda output: tf.math.log(output[0, 2]))
    np.testing.assert_allclose(GradCAM(model, "maps")(stacks, 2), expected, atol=1e-4)


def test_an_activation_layer_at_the_end_counts_as_the_models_activation():
    stack = keras.Input((20, 20, 3))
    maps = layers.ReLU(name="maps")(_features(stack))
    dense = layers.Dense(3, name="pred")
    scores = dense(layers.GlobalAveragePooling2D()(maps))
    together = layers.Dense(3, activation="softmax")
    whole = _seeded(keras.Model(stack, together(layers.GlobalAveragePooling2D()(maps))))
    dense.set_weights(together.get_weights())
    stacks = _stacks()
    expected = GradCAM(whole, "maps")(stacks, 1)
    for end in (layers.Activation("softmax"), layers.Softmax()):
        np.testing.assert_allclose(GradCAM(keras.Model(stack, end(scores)), "maps")(stacks, 1), expected, atol=1e-6)


def test_a_layer_that_a_later_one_bypasses_is_refused():
    stack = keras.Input((20, 20, 3))
    first = layers.Conv2D(4, 3, padding="same", name="first")(stack)
    second = layers.Conv2D(4, 3, padding="same", name="second")(first)
    joined = layers.Add()([first, second])
    output = layers.Dense(1, activation="sigmoid")(layers.GlobalAveragePooling2D()(joined))
    with pytest.raises(InputError, match="can't be split at 'second'"):
        GradCAM(keras.Model(stack, output, name="tiny"), "second")


@pytest.mark.parametrize("layer", ["fc", "nothing"])
def test_a_layer_without_maps_is_refused(layer):
    with pytest.raises(InputError, match=f"no feature layer '{layer}'.*maps"):
        GradCAM(_model(), layer)


@pytest.mark.parametrize("target", [2, -1, 0.5, [0, 1], "normal"])
def test_a_class_that_does_not_exist_is_refused(target):
    with pytest.raises(InputError, match="class_index"):
        GradCAM(_model(), "maps")(_stacks(3), target)


@pytest.mark.parametrize("shape", [(20, 20, 3), (2, 20, 20, 1), (2, 24, 20, 3)])
def test_stacks_of_another_shape_are_refused(shape):
    with pytest.raises(InputError, match="expected"):
        GradCAM(_model(), "maps")(np.zeros(shape, "uint8"))
