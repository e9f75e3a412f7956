"""The backbones: published counts, scaling, layers and names, weights from keras.applications, bad input."""

import keras
import numpy as np
import pytest

from covidcxnet.explain.cam import GradCAM
from covidcxnet.models import MODELS, create, feature_layer, freeze
from covidcxnet.models.applications import set_statistics
from covidcxnet.models.counts import flops, layers, parameters
from covidcxnet.models.finetuning import head_layers
from covidcxnet.models.scaling import IMAGENET_MEAN, IMAGENET_STD
from covidcxnet.training.initial_weights import initialise
from enhancement.errors import InputError

CLASSES = ("normal", "covid19")
THOUSAND = tuple(str(number) for number in range(1000))
VGG_TOP = 25_088 * 4096 + 4096 + 4096 * 4096 + 4096 + 4096 * 1000 + 1000

# Parameters with 1000 classes in the table of keras.io/api/applications, and those of the top there.
PUBLISHED = {
    "covid-cxnet": (8_062_504, 1024 * 1000 + 1000),
    "resnet50": (25_636_712, 2048 * 1000 + 1000),
    "vgg16": (138_357_544, VGG_TOP),
    "vgg19": (143_667_240, VGG_TOP),
    "inception-v3": (23_851_784, 2048 * 1000 + 1000),
    "xception": (22_910_480, 2048 * 1000 + 1000),
    "mobilenet-v3-large": (5_507_432, 960 * 1280 + 1280 + 1280 * 1000 + 1000),
    "efficientnet-b1": (7_856_239, 1280 * 1000 + 1000),
    "nasnet-mobile": (5_326_716, 1056 * 1000 + 1000),
}
APPLICATIONS = {
    "covid-cxnet": "densenet",
    "resnet50": "resnet50",
    "vgg16": "vgg16",
    "vgg19": "vgg19",
    "inception-v3": "inception_v3",
    "xception": "xception",
    "mobilenet-v3-large": "mobilenet_v3",
    "efficientnet-b1": "efficientnet",
    "nasnet-mobile": "nasnet",
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_backbone_and_published_top_have_the_published_parameters(built, name):
    model, (total, top) = built(name), PUBLISHED[name]
    assert sum(layer.count_params() for layer in model.layers if layer.name not in head_layers(model)) + top == total
    if name == "covid-cxnet":
        assert len(model.layers) == 431 and model.count_params() == 7_047_765
    if name == "xception":  # a number in a layer's name ends where it ends: not block10
        assert all(layer.startswith("block1_") for layer in freeze(model, "block1")[:-2])
        freeze(model, "all")
    # Learned parameters in millions, from the comparison of small networks.
    if millions := {"mobilenet-v3-large": 5.5, "efficientnet-b1": 7.8}.get(name):
        everything, learned = parameters(model)
        assert round((total - (everything - learned)) / 1e6, 1) == millions


@pytest.mark.parametrize(
    ("name", "learned", "multiply_adds"),
    [
        ("alexnet", 61_100_840, 0.714),
        ("resnet34", 21_797_672, 3.664),
        pytest.param("resnet50-torchvision", 25_557_032, 4.089, marks=pytest.mark.slow),
        ("efficientnet-lite0", 4_652_008, 0.385),
        pytest.param("efficientnet-b1-torchvision", 7_794_184, 0.687, marks=pytest.mark.slow),
        pytest.param("vgg19-bn", 143_678_248, 19.632, marks=pytest.mark.slow),
    ],
)
def test_ours_have_the_learned_parameters_and_operations_of_the_originals(name, learned, multiply_adds):
    head = {"head": "linear"} if name.startswith("efficientnet") else {}
    model = create(name, classes=THOUSAND, **head)
    assert parameters(model)[1] == learned
    assert round(flops(model) / 2e9, 3) == multiply_adds


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MODELS))
def test_parameters_and_operations_of_the_list_are_those_of_the_published_stack(name):
    model = create(name)
    assert (model.count_params(), flops(model)) == (MODELS[name].parameters, MODELS[name].flops)
    assert layers(model) == MODELS[name].layers


def test_a_backbone_is_flat_explained_and_gives_a_probability_for_a_stack_of_whole_numbers(built, backbone):
    model = built(backbone)
    if MODELS[backbone].head["pool"] != "flatten":
        assert model.count_params() == MODELS[backbone].parameters
    assert not any(hasattr(layer, "layers") for layer in model.layers)
    assert feature_layer(model) == MODELS[backbone].feature_layer
    assert len(model.get_layer(feature_layer(model)).output.shape) == 4
    assert GradCAM(model).layer == MODELS[backbone].feature_layer
    stack = np.random.default_rng(0).integers(0, 256, (1, *model.input_shape[1:]), dtype=np.uint8)
    out = np.asarray(model(stack))
    assert out.shape == (1, 1) and 0 <= out[0, 0] <= 1
    moved = [layer.momentum**500 for layer in model.layers if type(layer).__name__ == "BatchNormalization"]
    assert all(share < 0.01 for share in moved), "statistics do not follow a few hundred steps"


@pytest.mark.parametrize("name", APPLICATIONS)
def test_imagenet_weights_give_the_features_of_keras_applications_on_its_own_scaling(built, monkeypatch, name):
    model = built(name)
    function = MODELS[name].application
    source = getattr(keras.applications, function)(
        include_top=False, weights=None, input_shape=model.input_shape[1:], name=function
    )
    weighted = [layer.name for layer in source.layers if layer.weights]
    if name == "covid-cxnet":
        assert [layer.name for layer in model.layers if layer.weights][: len(weighted)] == weighted
    generator = np.random.default_rng(1)
    for layer in source.layers:  # moving averages too: a batch norm left out would show
        if type(layer).__name__ == "BatchNormalization":
            layer.set_weights([generator.uniform(0.9, 1.1, w.shape) for w in layer.weights])
    statistics = None
    if name == "efficientnet-b1":
        # Keras has the deviation itself for variance here, and divides once more by its root behind it.
        statistics = next(layer for layer in source.layers if type(layer).__name__ == "Normalization")
        set_statistics(statistics, IMAGENET_MEAN, IMAGENET_STD)
    monkeypatch.setattr(keras.applications, function, lambda **_: source)
    text = initialise(model, "imagenet", CLASSES)
    assert "random: fc, pred" in text
    if statistics is not None:
        set_statistics(statistics, IMAGENET_MEAN, np.square(IMAGENET_STD))
    stack = generator.integers(0, 256, (1, *model.input_shape[1:])).astype("float32")
    scaled = getattr(keras.applications, APPLICATIONS[name]).preprocess_input(stack.copy())
    expected = np.asarray(source(scaled))
    pooled = next(layer for layer in model.layers if layer.name == "pooling_layer")
    found = np.asarray(keras.Model(model.input, pooled.input)(stack))
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_imagenet_weights_that_cannot_be_had_say_where_to_put_them(built, monkeypatch, tmp_path):
    def offline(**options):
        assert options["weights"] == "imagenet" and not options["include_top"]
        raise Exception("URL fetch failure on https://example.org/a/notop.h5: None -- no route")

    monkeypatch.setattr(keras.applications, "VGG16", offline)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"example\.org") as error:
        initialise(built("vgg16"), "imagenet", CLASSES)
    assert str(tmp_path / "models" / "notop.h5") in str(error.value)
    monkeypatch.undo()
    monkeypatch.setenv("COVIDCXNET_OFFLINE", "1")
    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path))
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("the network was asked"))
    with pytest.raises(InputError, match=r"COVIDCXNET_OFFLINE is set; fetch https://"):
        initialise(built("vgg16"), "imagenet", CLASSES)
    with pytest.raises(InputError, match=r"torchvision-alexnet.*fetch https://download\.pytorch\.org/"):
        initialise(built("alexnet"), "imagenet", CLASSES)


def test_one_plane_is_three_alike_under_names_that_do_not_depend_on_what_was_built_before(built, tmp_path):
    three = built("mobilenet-v3-large")
    one = create("mobilenet-v3-large", size=32, channels=1)
    names, again = ([layer.name for layer in model.layers if layer.weights] for model in (three, one))
    assert names == again
    one.set_weights(three.get_weights())
    stack = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 1), dtype=np.uint8)
    np.testing.assert_allclose(np.asarray(one(stack)), np.asarray(three(stack.repeat(3, axis=-1))), rtol=1e-5)
    # Under its names it survives its config and its weights file.
    twin = keras.Model.from_config(one.get_config())
    one.save_weights(tmp_path / "m.weights.h5")
    twin.load_weights(tmp_path / "m.weights.h5")
    np.testing.assert_allclose(np.asarray(one(stack)), np.asarray(twin(stack)), rtol=1e-6)


def test_two_planes_and_a_stack_too_small_are_refused_with_what_is_needed(built, backbone):
    least = built(backbone).input_shape[1]
    with pytest.raises(InputError, match=r"1 or 3|needs 3 channels"):
        create(backbone, channels=2)
    with pytest.raises(InputError, match=f"{least} or more"):
        create(backbone, size=least - 1)


def test_operations_of_a_small_graph_are_those_counted_by_hand():
    x = stack = keras.Input((8, 8, 4))
    x = keras.layers.Conv2D(6, 3, padding="same", groups=2)(x)  # 64 places, 3 x 3 x 2 x 6
    x = keras.layers.DepthwiseConv2D(3, strides=2, padding="same")(x)  # 16 places, 3 x 3 x 6
    x = keras.layers.SeparableConv2D(5, 3, padding="same")(x)  # 16 places, 3 x 3 x 6 + 6 x 5
    x = keras.layers.Dense(7)(keras.layers.Flatten()(x))  # 80 x 7
    assert flops(keras.Model(stack, x)) == 2 * (64 * 108 + 16 * 54 + 16 * (54 + 30) + 560)
