"""Old weights files, written as Keras 2 did: CheXNet and its kin, the base CNN, the U-Nets, with random arrays."""

from __future__ import annotations

import json
from functools import cache

import h5py
import numpy as np

from segmentation.model import ARCHITECTURES

TINY = {"blocks": (2, 1), "growth": 4}
"""Of a DenseNet."""


def keras2_file(path, layers, *, config=None, whole=False, endings=True, split=False):
    """Write layers, ``[(name, [(array name, array), ...])]``, in the layout of Keras 2.

    `config` makes the description of a whole model, whose weights stand in a group of their own; `endings` are the ":0"
    of TensorFlow's variables, and a `split` list of names is that of a very deep network.
    """
    with h5py.File(path, "w") as file:
        if config is not None:
            file.attrs["model_config"] = json.dumps(config).encode()
        root = file.create_group("model_weights") if whole or config is not None else file
        names = [name.encode() for name, _ in layers]
        parts = {"layer_names0": names[:2], "layer_names1": names[2:]} if split else {"layer_names": names}
        root.attrs.update(parts)
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


@cache
def unet_shapes(width, imlab):
    """Shapes of kernel and bias of each layer, in the order of the old files, which is that of ours."""
    shapes = [w.shape for w in ARCHITECTURES["imlab-unet" if imlab else "unet"](width, size=16).weights]
    return list(zip(shapes[::2], shapes[1::2], strict=True))


def unet_layers(width=2, imlab=False, seed=0):
    r = Random(seed)
    shapes = enumerate(unet_shapes(width, imlab), start=1)
    return [("input_1", []), *((f"conv2d_{n}", [r.kernel(*kernel), r.bias(bias)]) for n, (kernel, bias) in shapes)]


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
        if name.startswith("conv_layer"):  # of a base CNN
            config = {"name": name, "activation": "relu", "strides": [2, 2]}
            described.append({"class_name": "Conv2D", "config": config})
        if name == "bn" and relu:
            described.append({"class_name": "Activation", "config": {"name": "relu", "activation": "relu"}})
    return {"class_name": "Model", "config": {"name": "m", "layers": described}}


def stacks_of(classifier, n=2, seed=0):
    size, channels = classifier.input.size, len(classifier.input.channels)
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, channels), dtype=np.uint8)
