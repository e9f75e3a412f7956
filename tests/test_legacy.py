"""Old weights files load exactly: compared layer by layer, and with the same networks written in NumPy."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

import covidcxnet
from covidcxnet.legacy import CHEXNET_LABELS, LEGACY
from covidcxnet.models import create
from covidcxnet.settings import InputSettings
from enhancement.errors import InputError
from segmentation.imlab_unet import imlab_unet
from segmentation.legacy_unet import legacy_metadata
from segmentation.segmenter import LungSegmenter
from segmentation.unet import unet
from segmentation.weight_files import save_weights
from weights import manifest

# --- Writing files as Keras 2 did -------------------------------------------------------------------------------------


def keras2_file(path, layers, *, config=None, whole=False, endings=True):
    """Write layers, ``[(name, [(array name, array), ...])]``, in the layout of Keras 2.

    `config` makes the description of a whole model, whose weights stand in a group of their own; `endings` are the ":0"
    of TensorFlow's variables.
    """
    with h5py.File(path, "w") as file:
        if config is not None:
            file.attrs["model_config"] = json.dumps(config).encode()
        root = file.create_group("model_weights") if whole or config is not None else file
        root.attrs["layer_names"] = [name.encode() for name, _ in layers]
        root.attrs["backend"], root.attrs["keras_version"] = b"tensorflow", b"2.1.4"
        for name, arrays in layers:
            group = root.create_group(name)
            full = [f"{name}/{short}{':0' if endings else ''}" for short, _ in arrays]
            group.attrs["weight_names"] = [text.encode() for text in full]
            for text, (_, array) in zip(full, arrays, strict=True):
                group[text] = array
    return path


class Random:
    """Arrays of random but tame values."""

    def __init__(self, seed=0):
        self.generator = np.random.default_rng(seed)

    def kernel(self, *shape):
        return ("kernel", self.generator.normal(0, 1 / np.sqrt(np.prod(shape[:-1])), shape).astype("float32"))

    def bias(self, n):
        return ("bias", self.generator.normal(0, 0.1, n).astype("float32"))

    def normalisation(self, n):
        draw = {"gamma": (0.5, 1.5), "beta": (-0.5, 0.5), "moving_mean": (-0.5, 0.5), "moving_variance": (0.5, 1.5)}
        return [(name, self.generator.uniform(*limits, n).astype("float32")) for name, limits in draw.items()]

    def dense(self, name, before, after):
        return (name, [self.kernel(before, after), self.bias(after)])

    def convolution(self, name, side, before, after):
        return (name, [self.kernel(side, side, before, after), self.bias(after)])


def densenet_layers(blocks=(6, 12, 24, 16), growth=32, heads=((14, "predictions"),), seed=0):
    """Layers of CheXNet under the names and in the order of Keras 2.1.4, the unweighted ones among them."""
    r = Random(seed)
    width = 2 * growth
    layers = [("input_1", []), ("zero_padding2d_1", [])]
    layers += [("conv1/conv", [r.kernel(7, 7, 3, width)]), ("conv1/bn", r.normalisation(width)), ("conv1/relu", [])]
    for number, depth in enumerate(blocks, start=2):
        for block in range(1, depth + 1):
            name = f"conv{number}_block{block}"
            layers += [(f"{name}_0_bn", r.normalisation(width)), (f"{name}_0_relu", [])]
            layers += [(f"{name}_1_conv", [r.kernel(1, 1, width, 4 * growth)])]
            layers += [(f"{name}_1_bn", r.normalisation(4 * growth)), (f"{name}_1_relu", [])]
            layers += [(f"{name}_2_conv", [r.kernel(3, 3, 4 * growth, growth)]), (f"{name}_concat", [])]
            width += growth
        if number < len(blocks) + 1:
            layers += [(f"pool{number}_bn", r.normalisation(width)), (f"pool{number}_relu", [])]
            layers += [(f"pool{number}_conv", [r.kernel(1, 1, width, width // 2)]), (f"pool{number}_pool", [])]
            width //= 2
    layers += [("bn", r.normalisation(width)), ("avg_pool", [])]
    for units, name in heads:
        layers.append(r.dense(name, width, units))
        width = units
    return layers


def base_layers(size=65, channels=1, filters=4, outputs=1, seed=0):
    r = Random(seed)
    layers = [("input_layer", []), r.convolution("conv_layer1", 5, channels, filters)]
    layers += [r.convolution(f"conv_layer{n}", 3, filters, filters) for n in (2, 3, 4, 5)]
    side = (size - 3) // 2
    for _ in range(4):
        side = (side - 1) // 2
    layers += [("flatten_layer", []), r.dense("fc_layer1", side * side * filters, 10)]
    return [*layers, r.dense("fc_layer2", 10, 10), r.dense("output_layer", 10, outputs)]


def config_of(layers, size, channels, *, relu=False, output="sigmoid"):
    """A whole model's description, as far as anything in it is read."""
    described = [
        {"class_name": "InputLayer", "config": {"name": "in", "batch_input_shape": [None, size, size, channels]}}
    ]
    dense = [name for name, arrays in layers if arrays and arrays[0][1].ndim == 2]
    for name, _ in layers:
        if name.endswith("bn"):
            described.append({"class_name": "BatchNormalization", "config": {"name": name}})
        if name in dense:
            activation = output if name == dense[-1] else "relu"
            described.append({"class_name": "Dense", "config": {"name": name, "activation": activation}})
        if name == "bn" and relu:
            described.append({"class_name": "Activation", "config": {"name": "relu", "activation": "relu"}})
    return {"class_name": "Model", "config": {"name": "m", "layers": described}}


# --- The same networks in NumPy ---------------------------------------------------------------------------------------


def convolve(x, kernel, stride=1, padding=0):
    """Convolution of ``[N, H, W, C]`` as Keras does it."""
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], axis=(1, 2))[:, ::stride, ::stride]
    return np.einsum("nhwcij,ijco->nhwo", windows, kernel, optimize=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    x = np.exp(x - x.max(axis=1, keepdims=True))
    return x / x.sum(axis=1, keepdims=True)


def base_cnn_in_numpy(stacks, layers):
    """Five strided valid convolutions with ReLU, and three dense layers."""
    arrays = [[array.astype("float64") for _, array in named] for _, named in layers if named]
    x = stacks / 255.0
    for kernel, bias in arrays[:5]:
        x = np.maximum(convolve(x, kernel, stride=2) + bias, 0)
    x = x.reshape(len(x), -1)
    for kernel, bias in arrays[5:-1]:
        x = np.maximum(x @ kernel + bias, 0)
    return sigmoid(x @ arrays[-1][0] + arrays[-1][1])


def densenet_in_numpy(stacks, layers, *, proper):
    """CheXNet as trained (`proper`: ImageNet scaling, no final ReLU, sigmoids) or as COVID-CXNet used it."""
    arrays = {name: [a.astype("float64") for _, a in named] for name, named in layers if named}
    x = stacks / 255.0
    if proper:
        x = (x - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]

    def norm(x, name, relu=True):
        gamma, beta, mean, variance = arrays[name]
        x = gamma * (x - mean) / np.sqrt(variance + 1.001e-5) + beta
        return np.maximum(x, 0) if relu else x

    x = norm(convolve(x, arrays["conv1/conv"][0], 2, 3), "conv1/bn")
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    x = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))[:, ::2, ::2].max(axis=(-2, -1))
    for name in [name for name in arrays if name.endswith(("_0_bn", "_conv")) and "/" not in name]:
        if name.endswith("_0_bn"):
            block = name.removesuffix("_0_bn")
            new = convolve(norm(x, name), arrays[f"{block}_1_conv"][0])
            new = convolve(norm(new, f"{block}_1_bn"), arrays[f"{block}_2_conv"][0], padding=1)
            x = np.concatenate([x, new], axis=-1)
        elif name.startswith("pool"):
            x = convolve(norm(x, name.replace("_conv", "_bn")), arrays[name][0])
            n, h, w, c = x.shape
            x = x[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))
    x = norm(x, "bn", relu=not proper).mean(axis=(1, 2))
    kernel, bias = arrays["predictions"]
    return (sigmoid if proper else softmax)(x @ kernel + bias)


def unet_in_numpy(x, layers, *, imlab):
    arrays = iter([[a.astype("float64") for _, a in named] for _, named in layers if named])

    def step(x, activation=lambda x: np.maximum(x, 0)):
        kernel, bias = next(arrays)
        return activation(convolve(x, kernel, padding=kernel.shape[0] // 2) + bias)

    def pool(x):
        n, h, w, c = x.shape
        return x.reshape(n, h // 2, 2, w // 2, 2, c).max(axis=(2, 4))

    def up(x):
        if imlab:
            return x.repeat(2, axis=1).repeat(2, axis=2)
        kernel, bias = next(arrays)  # [2, 2, out, in], stride 2: each pixel becomes a 2 x 2 block
        n, h, w, _ = x.shape
        blocks = np.einsum("nhwc,ijoc->nhiwjo", x, kernel)
        return blocks.reshape(n, 2 * h, 2 * w, -1) + bias

    skips = []
    for _ in range(4):
        x = step(step(x))
        skips.append(x)
        x = pool(x)
    x = step(x) if imlab else step(step(x))
    for skip in reversed(skips):
        x = up(x)
        if imlab:
            x = step(np.concatenate([skip, step(step(x))], axis=-1))
        else:
            x = step(step(np.concatenate([x, skip], axis=-1)))
    return step(x, sigmoid)


def unet_layers(width=2, imlab=False, seed=0):
    r = Random(seed)
    if imlab:
        times = [1, 1, 2, 2, 2, 2, 4, 4, 8, 8, 8, 8, 8, 8, 8, 4, 4, 4, 2, 2, 2]
        before = [1, *(t * width for t in times)]
        for at, skip in ((11, 4), (14, 2), (17, 2), (20, 1)):  # behind a concatenation
            before[at] += skip * width
        layers = [
            r.convolution(f"conv2d_{i + 1}", 3, b, t * width)
            for i, (b, t) in enumerate(zip(before[:-1], times, strict=True))
        ]
        return [("input_1", []), *layers, r.convolution("conv2d_22", 3, 2 * width, 1)]
    layers, before, number = [("input_1", [])], 1, 1

    def add(after):
        nonlocal before, number
        layers.append(r.convolution(f"conv2d_{number}", 3, before, after))
        before, number = after, number + 1

    for level in (1, 2, 4, 8, 16):
        add(level * width)
        add(level * width)
    for level in (8, 4, 2, 1):
        name, after = f"conv2d_transpose_{level}", level * width
        layers.append((name, [r.kernel(2, 2, after, before), r.bias(after)]))
        before = 2 * after
        add(after)
        add(after)
    return [*layers, r.convolution("conv2d_19", 1, before, 1)]


def stacks_of(classifier, n=2, seed=0):
    size, channels = classifier.input.size, len(classifier.input.channels)
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, channels), dtype=np.uint8)


TINY = {"blocks": (2, 1), "growth": 4}

# --- DenseNet121 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocks", [(2, 1), (6, 12, 24, 16)])
def test_every_layer_of_a_densenet_gets_the_arrays_of_its_old_name(tmp_path, blocks):
    layers = densenet_layers(blocks, 4 if len(blocks) == 2 else 32)
    model = covidcxnet.load_legacy(keras2_file(tmp_path / "old.h5", layers), "chexnet", size=64).model
    weighted = [(name, arrays) for name, arrays in layers if arrays]
    assert len([layer for layer in model.layers if layer.weights]) == len(weighted)
    for old, arrays in weighted:
        name = {"predictions": "pred"}.get(old, old.replace("/", "_"))
        for found, (_, expected) in zip(model.get_layer(name).get_weights(), arrays, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_chexnet_has_the_published_size(tmp_path):
    path = keras2_file(tmp_path / "old.h5", densenet_layers())
    model = covidcxnet.load_legacy(path, "chexnet").model
    assert model.count_params() == 7_051_854 and model.input_shape == (None, 224, 224, 3)
    assert len([layer for layer in model.layers if layer.weights]) == 242


@pytest.mark.parametrize("name", ["chexnet", "covid-cxnet-chexnet"])
def test_both_forms_of_chexnet_predict_what_numpy_does(tmp_path, name):
    layers = densenet_layers(**TINY)
    path = keras2_file(tmp_path / "old.h5", layers)
    classifier = covidcxnet.load_legacy(path, name, size=45)
    proper = name == "chexnet"
    expected = densenet_in_numpy(stacks_of(classifier), layers, proper=proper)
    np.testing.assert_allclose(classifier.predict_stacks(stacks_of(classifier)), expected, atol=1e-5)
    assert classifier.classes == CHEXNET_LABELS
    assert ("relu" in [layer.name for layer in classifier.model.layers]) is not proper
    assert covidcxnet.load_legacy(path, name).input.size == (224 if proper else 320)


def test_a_14_class_densenet_without_a_description_must_be_named(tmp_path):
    path = keras2_file(tmp_path / "old.h5", densenet_layers(**TINY))
    with pytest.raises(InputError, match=r"chexnet, covid-cxnet-chexnet"):
        covidcxnet.load_legacy(path)
    with pytest.raises(InputError, match="chexnet"):
        covidcxnet.load_model(path)


@pytest.mark.parametrize("relu", [False, True])
def test_a_whole_model_file_says_itself_which_chexnet_it_is(tmp_path, relu):
    layers = densenet_layers(**TINY)
    config = config_of(layers, 40, 3, relu=relu, output="softmax" if relu else "sigmoid")
    path = keras2_file(tmp_path / "old.weights", layers, config=config)
    classifier = covidcxnet.load_model(path)
    assert classifier.metadata["legacy"]["architecture"] == ("covid-cxnet-chexnet" if relu else "chexnet")
    assert classifier.input.size == 40
    expected = densenet_in_numpy(stacks_of(classifier), layers, proper=not relu)
    np.testing.assert_allclose(classifier.predict_stacks(stacks_of(classifier)), expected, atol=1e-5)


def test_a_14_class_head_is_loaded_then_replaced_where_labels_ask_for_another(tmp_path):
    layers = densenet_layers(**TINY)
    path = keras2_file(tmp_path / "old.h5", layers)
    classifier = covidcxnet.load_legacy(path, "covid-cxnet-chexnet", size=32, classes=("normal", "covid19"))
    names = [layer.name for layer in classifier.model.layers]
    assert names[-5:] == ["relu", "pooling_layer", "fc", "dropout", "pred"]
    assert classifier.predict_stacks(stacks_of(classifier)).shape == (2, 2)
    np.testing.assert_array_equal(classifier.model.get_layer("bn").get_weights()[0], dict(dict(layers)["bn"])["gamma"])
    assert "random" in classifier.metadata["legacy"]["head"]
    damaged = [*layers[:-1], ("predictions", [layers[-1][1][0], ("bias", np.zeros(13, "float32"))])]
    with pytest.raises(InputError, match="predictions"):
        covidcxnet.load_legacy(keras2_file(path, damaged), "chexnet", classes=("normal", "covid19"))


@pytest.mark.parametrize(("outputs", "classes"), [(1, 2), (3, 3)])
def test_a_fine_tuned_covid_cxnet_needs_no_name(tmp_path, outputs, classes):
    path = keras2_file(tmp_path / "old.h5", densenet_layers(**TINY, heads=((10, "fc"), (outputs, "pred"))))
    classifier = covidcxnet.load_legacy(path)
    assert len(classifier.classes) == classes and classifier.input == LEGACY["covid-cxnet"].input
    assert classifier.model.get_layer("pred").activation.__name__ == ("sigmoid" if outputs == 1 else "softmax")


def test_a_backbone_without_a_head_gets_one_when_labels_are_given(tmp_path):
    path = keras2_file(tmp_path / "old.h5", densenet_layers(**TINY, heads=()))
    with pytest.raises(InputError, match="classes"):
        covidcxnet.load_legacy(path, "imagenet")
    classifier = covidcxnet.load_legacy(path, "imagenet", classes=("a", "b", "c"))
    assert classifier.model.output_shape == (None, 3)


def test_hidden_activations_that_are_not_known_here_are_refused(tmp_path):
    layers = densenet_layers(**TINY, heads=((10, "fc1"), (1, "out")))
    config = config_of(layers, 32, 3, relu=True)
    config["config"]["layers"][-2]["config"]["activation"] = "sigmoid"
    with pytest.raises(InputError, match="fc1"):
        covidcxnet.load_legacy(keras2_file(tmp_path / "old.h5", layers, config=config))


def test_a_legacy_model_saved_as_ours_loads_and_predicts_the_same(tmp_path):
    classifier = covidcxnet.load_legacy(
        keras2_file(tmp_path / "old.h5", densenet_layers(**TINY)), "chexnet", size=33, input={"channels": ["raw"] * 3}
    )
    path = save_weights(classifier.model, tmp_path / "new.weights.h5", classifier.metadata)
    again = covidcxnet.load_model(path)
    assert again.input == classifier.input and again.classes == classifier.classes
    expected = classifier.predict_stacks(stacks_of(classifier))
    np.testing.assert_allclose(again.predict_stacks(stacks_of(classifier)), expected, atol=1e-6)


# --- The base CNN -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "channels"), [(65, 1), (96, 1), (101, 3)])
def test_a_base_cnn_of_any_size_predicts_what_numpy_does(tmp_path, size, channels):
    layers = base_layers(size, channels)
    path = keras2_file(tmp_path / "old.hdf5", layers, config=config_of(layers, size, channels))
    classifier = covidcxnet.load_legacy(path)
    assert classifier.input.size == size and len(classifier.input.channels) == channels
    expected = base_cnn_in_numpy(stacks_of(classifier), layers)
    np.testing.assert_allclose(classifier.predict_stacks(stacks_of(classifier))[:, 1:], expected, atol=1e-5)


def test_a_base_cnn_of_weights_alone_has_a_published_size_or_must_be_told(tmp_path):
    assert covidcxnet.load_legacy(keras2_file(tmp_path / "a.h5", base_layers(400))).input.size == 400
    assert covidcxnet.load_legacy(keras2_file(tmp_path / "b.h5", base_layers(300, 3))).input.size == 300
    path = keras2_file(tmp_path / "c.h5", base_layers(200))
    with pytest.raises(InputError, match=r"193 to 224 pixels"):
        covidcxnet.load_legacy(path)
    assert covidcxnet.load_legacy(path, size=200).model.input_shape == (None, 200, 200, 1)
    with pytest.raises(InputError, match="shapes"):
        covidcxnet.load_legacy(path, size=225)


def test_two_channels_must_be_said(tmp_path):
    path = keras2_file(tmp_path / "c.h5", base_layers(65, 2))
    with pytest.raises(InputError, match="2 channels"):
        covidcxnet.load_legacy(path, size=65)
    classifier = covidcxnet.load_legacy(path, size=65, input={"channels": ["raw", "clahe"]})
    assert classifier.input.channels == ("raw", "clahe")


@pytest.mark.real
@pytest.mark.parametrize("version", ["v1.0", "v1.2"])
def test_genuine_base_cnns_predict_on_real_radiographs_what_numpy_does(real_data, version):
    path = real_data.parent / "legacy" / f"covid-cxnet-base-{version}.hdf5"
    if not path.is_file():
        pytest.skip(f"no {path.name} beside the real radiographs")
    from covidcxnet.preparation.pipeline import prepare_files

    files = sorted((real_data / "classification").rglob("*.*g"))[::900][:3]
    assert files
    classifier = covidcxnet.load_legacy(path)
    assert classifier.model.count_params() == {"v1.0": 76_675, "v1.2": 78_275}[version]
    with h5py.File(path) as file:
        group = file["model_weights"]
        names = [name.decode() for name in group.attrs["layer_names"]]
        layers = [(n, [(w, group[n][w][()]) for w in group[n].attrs["weight_names"]]) for n in names]
    stacks = np.stack([outcome.prepared.stack for outcome in prepare_files(files, classifier.input)])
    expected = base_cnn_in_numpy(stacks, layers)[:, 0]
    found = [prediction.probabilities["covid19"] for prediction in classifier.predict(files)]
    np.testing.assert_allclose(found, expected, atol=1e-5)


# --- U-Nets -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("imlab", [False, True])
def test_an_old_unet_predicts_what_numpy_does(tmp_path, imlab):
    layers = unet_layers(imlab=imlab)
    segmenter = covidcxnet.load_legacy(keras2_file(tmp_path / "old.hdf5", layers, whole=imlab), size=32)
    assert isinstance(segmenter, LungSegmenter)
    x = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 1), dtype=np.uint8)
    scaled = (x / 255 - 0.5) * np.sqrt(12) if imlab else (x - 127.0) / 127.0
    expected = unet_in_numpy(scaled, layers, imlab=imlab)
    np.testing.assert_allclose(np.asarray(segmenter.model(x)), expected, atol=1e-5)
    assert segmenter.predict(x[0, ..., 0])[0].mask.shape == (32, 32)


def test_unets_have_the_published_sizes():
    assert unet().count_params() == 7_759_521 and len([layer for layer in unet().layers if layer.weights]) == 23
    assert len([layer for layer in imlab_unet().layers if layer.weights]) == 22


def test_a_segmenter_takes_an_old_file_by_itself(tmp_path):
    path = keras2_file(tmp_path / "old.hdf5", unet_layers())
    segmenter = LungSegmenter(path)
    assert segmenter.input.size == 512 and segmenter.conventions == ("lung_field",)
    assert len(segmenter.model.get_weights()) == 46


@pytest.mark.parametrize("change", ["a layer less", "another width", "a forged width"])
def test_an_old_unet_that_does_not_fit_is_refused(tmp_path, change):
    layers = unet_layers()
    if change == "a layer less":
        layers = layers[:-1]
    r = Random()
    if change == "another width":
        layers[5] = r.convolution(layers[5][0], 3, 4, 5)
    if change == "a forged width":
        layers[1] = r.convolution("conv2d_1", 3, 1, 40_000)
    with pytest.raises(InputError, match=r"old\.h5"):
        covidcxnet.load_legacy(keras2_file(tmp_path / "old.h5", layers))


# --- By name, and what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["chexnet", "covid-cxnet-chexnet", "imagenet"])
def test_manifest_and_code_agree_on_how_a_classifier_is_built_and_fed(name):
    entry, known = manifest.read()[name], LEGACY[name]
    assert InputSettings.from_dict(entry.input) == known.input
    options = entry.architecture["options"]
    assert options["normalization"] == known.normalization and options["final_relu"] == known.options["final_relu"]
    assert options.get("activation") == known.options["activation"]
    assert entry.labels == (() if name == "imagenet" else CHEXNET_LABELS)


def test_manifest_and_code_agree_on_the_old_unet(tmp_path):
    entry = manifest.read()["covid-cxnet-unet"]
    found = legacy_metadata(keras2_file(tmp_path / "old.h5", unet_layers(width=2)))
    found["architecture"]["options"]["width"] = 32
    assert entry.metadata() == found


@pytest.mark.parametrize("name", ["chexnet", "covid-cxnet-chexnet"])
def test_a_name_loads_the_verified_file_with_its_settings(tmp_path, monkeypatch, name):
    import dataclasses

    monkeypatch.setenv("COVIDCXNET_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()  # a folder of that name in the working directory does not matter
    (tmp_path / "weights").mkdir()
    entries = manifest.read()
    layers = densenet_layers(**TINY)
    path = keras2_file(tmp_path / "weights" / entries[name].file, layers)
    blob = manifest.git_blob_id(path)
    changed = {**entries, name: dataclasses.replace(entries[name], git_blob=blob)}
    monkeypatch.setattr(manifest, "PATH", manifest.write(changed, tmp_path / "m.json"))
    for classifier in (covidcxnet.load_model(name), covidcxnet.load_legacy(name), covidcxnet.load_legacy(path)):
        assert classifier.input == LEGACY[name].input and classifier.classes == CHEXNET_LABELS


def test_our_own_file_is_not_a_legacy_one_and_a_name_that_is_none_is_refused(tmp_path):
    model = create("small-cnn", size=32, filters=(4, 4))
    path = save_weights(model, tmp_path / "m.weights.h5", {"kind": "classifier"})
    with pytest.raises(InputError, match="load_model"):
        covidcxnet.load_legacy(path)
    with pytest.raises(InputError, match="no-such-name"):
        covidcxnet.load_legacy("no-such-name")


def test_the_content_tells_an_old_file_from_ours_and_not_its_ending(tmp_path):
    old = keras2_file(tmp_path / "old.weights.h5", base_layers(400))
    assert covidcxnet.load_model(old).input.size == 400


@pytest.mark.parametrize("architecture", ["base-cnn", "unet", "vgg"])
def test_an_architecture_that_the_arrays_contradict_is_refused(tmp_path, architecture):
    path = keras2_file(tmp_path / "old.h5", densenet_layers(**TINY))
    with pytest.raises(InputError, match=r"old\.h5"):
        covidcxnet.load_legacy(path, architecture)


def test_arrays_of_a_layer_are_taken_by_name_where_a_file_lists_them_in_another_order(tmp_path):
    layers = densenet_layers(**TINY)
    turned = [(name, arrays[::-1]) for name, arrays in layers]
    one, two = (
        covidcxnet.load_legacy(keras2_file(tmp_path / f"{n}.h5", which, endings=bool(n)), "chexnet", size=32)
        for n, which in enumerate((layers, turned))
    )
    for a, b in zip(one.model.get_weights(), two.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("change", ["layer missing", "layer more", "shape", "stem", "not finite", "no weights"])
def test_a_densenet_that_does_not_fit_is_refused(tmp_path, change):
    layers = densenet_layers(**TINY)
    if change == "layer missing":
        layers = [layer for layer in layers if layer[0] != "conv2_block2_1_bn"]
    if change == "layer more":
        layers.insert(8, ("more", Random().normalisation(8)))
    if change == "shape":
        layers = [(n, a if n != "conv3_block1_2_conv" else [Random().kernel(5, 5, 16, 4)]) for n, a in layers]
    if change == "stem":
        layers = [(n, a if n != "conv1/conv" else [Random().kernel(7, 7, 3, 10_000)]) for n, a in layers]
    if change == "not finite":
        layers[3][1][0][1][0] = np.nan
    if change == "no weights":
        layers = [(name, []) for name, _ in layers]
    with pytest.raises(InputError, match=r"old\.h5"):
        covidcxnet.load_legacy(keras2_file(tmp_path / "old.h5", layers), "chexnet")
