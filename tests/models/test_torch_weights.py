"""Weights of PyTorch's users: every name has its layer, axes are turned, and what does not fit is refused."""

from __future__ import annotations

import hashlib
import re

import numpy as np
import pytest
import torch_files
import torch_states as states
from numpy_networks import densenet_in_numpy

import covidcxnet
from covidcxnet import torch_weights
from covidcxnet.cli.weights import main as command
from covidcxnet.legacy import CHEXNET_LABELS
from covidcxnet.models import create
from covidcxnet.models.torch_names import fill, recognise, structure
from covidcxnet.training.initial_weights import brought_options, initialise
from enhancement.errors import InputError
from weights import manifest

CLASSES = ("normal", "covid19")
TINY = {"blocks": (2, 1), "growth": 4}

# Shapes; SHA-256 of the names and shapes that torchvision 0.28 has; our model; some tensors and their layers.
NETWORKS = {
    "alexnet": (states.alexnet, "935c1ea73a7869ee", "alexnet", {"features.10": "conv5", "classifier.4": "fc2"}),
    "vgg19_bn": (
        states.vgg19_bn,
        "8f342fea647d72df",
        "vgg19-bn",
        {"features.7": "block2_conv1", "features.8": "block2_bn1", "features.49": "block5_conv4"},
    ),
    "resnet34": (
        lambda: states.resnet((3, 3), 1),
        "b945021fb00b779b",
        "resnet34",
        {"layer2.0.downsample.0": "layer2_block1_short_conv", "layer4.2.bn2": "layer4_block3_2_bn"},
    ),
    "resnet50": (
        lambda: states.resnet((1, 3, 1), 4),
        "cf11dad974eadeaa",
        "resnet50-torchvision",
        {"layer1.0.downsample.1": "layer1_block1_short_bn", "layer3.5.conv3": "layer3_block6_3_conv"},
    ),
    "efficientnet_b1": (
        states.efficientnet_b1,
        "1f5cde5a1ed036f9",
        "efficientnet-b1-torchvision",
        {"features.1.1.block.0.0": "block1b_dwconv", "features.7.0.block.2.fc2": "block7a_se_expand"},
    ),
    "densenet121": (
        states.densenet,
        "222a58d1fd8d2818",
        "covid-cxnet",
        {"features.denseblock4.denselayer16.conv2": "conv5_block16_2_conv", "features.transition2.norm": "pool3_bn"},
    ),
}


def random_state(shapes, seed=0):
    """Random but tame arrays."""
    generator = np.random.default_rng(seed)
    tensors = {}
    for name, shape in shapes.items():
        limits = (0.5, 1.5) if name.endswith("running_var") or len(shape) == 1 else (-0.2, 0.2)
        tensors[name] = generator.uniform(*limits, shape).astype("float32")
    return tensors


def tiny(channels=3, outputs=14, **changes):
    return random_state(states.densenet((2, 1), 4, channels, outputs)) | changes


@pytest.mark.parametrize("name", NETWORKS)
def test_names_and_shapes_are_those_of_torchvision_and_each_tensor_fills_its_layer_with_its_axes_turned(name):
    shapes, digest, model, pairs = NETWORKS[name]
    lines = sorted(f"{tensor} {shape}" for tensor, shape in shapes().items())
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest().startswith(digest)
    flattens = name in ("alexnet", "vgg19_bn")
    state = shapes(8) if flattens else shapes()
    # Constants cost no memory; arrays are random where the test looks.
    tensors = {n: np.broadcast_to(np.float32(i), shape) for i, (n, shape) in enumerate(state.items())}
    tensors |= random_state({n: s for n, s in state.items() if n.rpartition(".")[0] in pairs})
    family = recognise(tensors)
    outputs, options = structure(family, tensors)
    assert (family.model, outputs, options["channels"]) == (model, 1000, 3)
    if name == "densenet121":
        assert (options["blocks"], options["growth"], options["epsilon"]) == ([6, 12, 24, 16], 32, 1e-5)
    network = create(model, size=224 if flattens else 32, classes=[str(n) for n in range(outputs)], **options)
    fill(network, family, tensors)
    for module, layer in pairs.items():
        first, *rest = network.get_layer(layer).get_weights()
        expected = tensors[f"{module}.weight"]
        axes = {1: (0,), 2: (1, 0), 4: (2, 3, 0, 1) if layer.endswith("dwconv") else (2, 3, 1, 0)}[expected.ndim]
        np.testing.assert_array_equal(first, expected.transpose(axes))
        for array, part in zip(rest, ("bias", "running_mean", "running_var"), strict=False):
            np.testing.assert_array_equal(array, tensors[f"{module}.{part}"])


def test_a_dense_layer_behind_maps_sees_them_plane_by_plane_as_in_pytorch():
    import keras

    state = random_state(states.alexnet(8))
    family = recognise(state)
    _, options = structure(family, state)
    network = create("alexnet", size=224, classes=[str(n) for n in range(1000)], **options)
    fill(network, family, state)
    layer = network.get_layer("fc1")
    maps = np.random.default_rng(0).normal(size=(1, 6, 6, 256)).astype("float32")
    expected = maps.transpose(0, 3, 1, 2).reshape(1, -1) @ state["classifier.1.weight"].T + state["classifier.1.bias"]
    outputs = keras.ops.convert_to_numpy(layer(keras.layers.Flatten()(maps)))
    np.testing.assert_allclose(outputs, np.maximum(expected, 0), rtol=1e-4, atol=1e-4)


def as_layers(state):
    """A state dictionary as `densenet_in_numpy` takes it."""
    family = recognise(state)
    _, options = structure(family, state)
    network = create("covid-cxnet", size=32, classes=[str(n) for n in range(14)], multilabel=True, **options)
    fill(network, family, state)
    names = {"conv1_conv": "conv1/conv", "conv1_bn": "conv1/bn", "pred": "predictions"}
    weighted = [layer for layer in network.layers if layer.weights]
    return [(names.get(layer.name, layer.name), [("", array) for array in layer.get_weights()]) for layer in weighted]


def old(tensors):
    """CheXNet's names: wrapped twice, with dots of before 2018, and a sequence for a classifier."""
    renamed = {re.sub(r"\.(norm|conv)([12])\.", r".\1.\2.", name): array for name, array in tensors.items()}
    renamed = {name.replace("classifier.", "classifier.0."): array for name, array in renamed.items()}
    return {f"module.densenet121.{name}": array for name, array in renamed.items()}


def test_chexnet_as_pytorch_users_have_it_is_a_classifier_of_14_findings(tmp_path):
    state = tiny()
    path = torch_files.save(tmp_path / "model.pth.tar", old(state), "legacy")
    classifier = covidcxnet.load_model(path)
    assert classifier.classes == CHEXNET_LABELS and classifier.task == "independent"
    assert classifier.input.channels == ("raw", "raw", "raw") and classifier.input.size == 224
    # The network of the test in NumPy, with PyTorch's ReLU at its end; its epsilon is that of Keras.
    stacks = np.random.default_rng(1).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8)
    expected = densenet_in_numpy(stacks, as_layers(state), proper=True, final_relu=True, epsilon=1e-5)
    np.testing.assert_allclose(classifier.predict_stacks(stacks), expected, atol=1e-5)


def test_a_module_of_torchxrayvision_keeps_labels_scaling_and_operating_points(tmp_path):
    entry = manifest.read()["xrv-densenet121"]
    state = tiny(1, 18)
    path = tmp_path / entry.file
    keyed = {str(i): array for i, array in enumerate(state.values())}
    tensors = {n: torch_files.tensor(k, keyed[k], True) for n, k in zip(state, keyed, strict=True)}

    def nested(prefix):
        parts = {n.removeprefix(prefix): value for n, value in tensors.items() if n.startswith(prefix)}
        inner = dict.fromkeys(n.partition(".")[0] for n in parts if "." in n)
        leaves = {n: value for n, value in parts.items() if "." not in n}
        return torch_files.module(leaves, {n: nested(f"{prefix}{n}.") for n in inner})

    torch_files.write_legacy(path, nested(""), keyed)
    classifier = covidcxnet.load_model(path)
    assert classifier.classes == entry.labels and classifier.input.channels == ("raw",)
    assert classifier.thresholds[entry.labels.index("Effusion")] == pytest.approx(0.103246614)
    assert brought_options(str(path), "covid-cxnet") == {
        "normalization": {"mean": [0.5], "std": [0.5 / 1024]},
        "epsilon": 1e-5,
    }
    assert command(["convert", str(path), str(tmp_path / "x.weights.h5")], "covidcxnet weights") == 0
    again = covidcxnet.load_model(tmp_path / "x.weights.h5")
    assert again.classes == classifier.classes and list(again.thresholds) == list(classifier.thresholds)
    stacks = np.random.default_rng(1).integers(0, 256, (1, 224, 224, 1), dtype=np.uint8)
    np.testing.assert_allclose(again.predict_stacks(stacks), classifier.predict_stacks(stacks), atol=1e-6)


def test_init_takes_the_backbone_of_a_file_and_its_epsilon(tmp_path):
    path = str(torch_files.save(tmp_path / "m.pt", tiny(outputs=5), "zip"))
    options = brought_options(path, "covid-cxnet")
    assert options == {"epsilon": 1e-5}  # five outputs: nobody knows how its stacks were scaled
    assert brought_options(path, "small-cnn") == {}
    model = create("covid-cxnet", size=32, **TINY, **options)
    assert "random: fc, pred" in initialise(model, path, CLASSES)
    assert model.get_layer("bn").epsilon == 1e-5
    both = create("covid-cxnet-hierarchical", size=32, classes=("normal", "CAP", "COVID-19"), **TINY, **options)
    assert "level2_fc" in initialise(both, path, CLASSES)
    with pytest.raises(InputError, match=r"holds a covid-cxnet, the recipe's model is small-cnn"):
        initialise(create("small-cnn"), path, CLASSES)


def test_two_scores_become_one_sigmoid_and_labels_must_be_given(tmp_path, capsys):
    path = torch_files.save(tmp_path / "m.safetensors", tiny(outputs=2), "safetensors")
    with pytest.raises(InputError, match="2 outputs whose labels are not known; give classes"):
        covidcxnet.load_model(path)
    out = str(tmp_path / "m.weights.h5")
    assert command(["convert", str(path), out, "--classes", "normal,covid19"], "covidcxnet weights") == 0
    assert "normal, covid19" in capsys.readouterr().out
    assert command(["convert", str(path), out, "--classes", "covid19,normal"], "covidcxnet weights") == 2
    assert "exists; give another place or --overwrite" in capsys.readouterr().err
    assert covidcxnet.load_model(out).classes == CLASSES
    assert command(["convert", str(path), out, "--classes", "normal,covid19", "--overwrite"], "weights") == 0
    stacks = np.random.default_rng(1).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8)
    two = torch_weights.load_torch(path, CLASSES, multilabel=True)  # a sigmoid for each score
    scores = np.log(two.predict_stacks(stacks)) - np.log1p(-two.predict_stacks(stacks))
    expected = 1 / (1 + np.exp(scores[:, 0] - scores[:, 1]))
    np.testing.assert_allclose(covidcxnet.load_model(out).predict_stacks(stacks)[:, 1], expected, rtol=1e-3)
    with pytest.raises(InputError, match="3 classes given for 2 outputs"):
        torch_weights.load_torch(path, ("a", "b", "c"))


ONES = np.ones((4, 4, 3, 3), "float32")
REFUSALS = {
    "a tensor more": ({"features.denseblock9.extra.weight": np.ones(3, "float32")}, "no such part"),
    "a tensor less": ({"features.norm5.bias": None}, "features.norm5: tensors running_mean"),
    "a layer less": ({"features.transition1.conv.weight": None}, "no tensors for 1 layers of covid-cxnet, pool2_conv"),
    "another shape": ({"features.norm5.bias": np.ones(7, "float32")}, r"shape \(7,\) does not fit"),
    "not a number": ({"features.norm0.bias": np.full(8, np.nan, "float32")}, "numbers that no weights have"),
    "negative variance": ({"features.norm0.running_var": np.full(8, -1, "float32")}, "numbers that no weights have"),
    "no head": ({"classifier.weight": None, "classifier.bias": None}, "a part of a network"),
    "another network": (dict.fromkeys(tiny()) | {"layer1.0.conv1.weight": ONES}, r"no network known here \(.*resnet34"),
    "huge growth": (
        {"features.denseblock1.denselayer1.conv2.weight": np.zeros((10**6, 0, 3, 3))},
        "damaged or hostile",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_does_not_fit_is_refused_with_its_name(tmp_path, name):
    changes, message = REFUSALS[name]
    state = {n: array for n, array in tiny(**changes).items() if array is not None}
    path = torch_files.save(tmp_path / "m.pt", state, "legacy")
    with pytest.raises(InputError, match=rf"m\.pt: .*{message}"):
        covidcxnet.load_model(path)
