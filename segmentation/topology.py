"""The topology of a Keras network as plain data, and the same network built for OpenVINO from it, without Keras."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from weights.hdf5 import open_plain

if TYPE_CHECKING:
    import openvino

Arrays = Mapping[str, Sequence[np.ndarray]]

MAPS = "maps"
"""Name of the output of class activation maps."""


class Unsupported(ValueError):
    """A layer, or a setting of one, that cannot be built here."""


@dataclass(frozen=True)
class Layer:
    """A layer or operation: its Keras class, its name, the names of its inputs, and those settings that matter."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    settings: dict[str, Any]


@dataclass(frozen=True)
class Topology:
    """Layers in an order in which each follows its inputs; `outputs` names those that the network gives."""

    shape: tuple[int, ...]  # S, S, C of the stack
    layers: tuple[Layer, ...]
    outputs: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Topology:
        """Inverse of `to_dict`."""
        layers = (Layer(x["kind"], x["name"], tuple(x["inputs"]), dict(x["settings"])) for x in values["layers"])
        return cls(tuple(values["shape"]), tuple(layers), tuple(values["outputs"]))


# What of a layer's configuration decides what it computes; its arrays say the rest.
_SETTINGS = {
    "InputLayer": (),
    "Conv2D": ("strides", "padding", "dilation_rate", "groups", "activation"),
    "DepthwiseConv2D": ("strides", "padding", "dilation_rate", "depth_multiplier", "activation"),
    "Conv2DTranspose": ("strides", "padding", "output_padding", "dilation_rate", "kernel_size", "activation"),
    "Dense": ("activation",),
    "BatchNormalization": ("axis", "epsilon", "center", "scale"),
    "Activation": ("activation",),
    "ReLU": ("max_value", "negative_slope", "threshold"),
    "MaxPooling2D": ("pool_size", "strides", "padding"),
    "AveragePooling2D": ("pool_size", "strides", "padding"),
    "GlobalAveragePooling2D": ("keepdims",),
    "GlobalMaxPooling2D": ("keepdims",),
    "ZeroPadding2D": ("padding",),
    "Concatenate": ("axis",),
    "Flatten": (),
    "Add": (),
    "Dropout": (),
}
# Arithmetic with one number, which scales the stack.
_ARITHMETIC = {"Add": "add", "Subtract": "subtract", "Multiply": "multiply", "Divide": "divide", "TrueDivide": "divide"}
_PADDING = {"same": "same_upper", "valid": "valid"}
_ACTIVATIONS = ("linear", "relu", "relu6", "sigmoid", "softmax")


def topology_of(model: Any) -> Topology:
    """The topology of a functional `keras.Model` with one input of known size; `Unsupported` if it cannot be told."""
    config = model.get_config()
    if len(model.inputs) != 1 or None in model.inputs[0].shape[1:]:
        raise Unsupported("one input of known size expected")
    layers = []
    for entry in config["layers"]:
        nodes = entry["inbound_nodes"]
        if len(nodes) > 1:
            raise Unsupported(f"{entry['name']}: used twice")
        arguments = nodes[0]["args"] if nodes else []
        inputs, numbers = _tensors(arguments), [x for x in arguments if isinstance(x, int | float)]
        if len(numbers) + len(_tensors(arguments)) < len(arguments) or any(nodes and nodes[0]["kwargs"].values()):
            raise Unsupported(f"{entry['name']}: arguments that are no tensors")
        kind, given = entry["class_name"], entry["config"]
        if kind in _ARITHMETIC and numbers and len(inputs) == 1 and arguments[1] is numbers[0]:
            settings = {"operation": _ARITHMETIC[kind], "number": float(numbers[0])}
        elif kind not in _SETTINGS or numbers:
            raise Unsupported(f"{entry['name']}: {kind}")
        else:
            settings = {name: given[name] for name in _SETTINGS[kind]}
        if given.get("data_format", "channels_last") != "channels_last":
            raise Unsupported(f"{entry['name']}: channels first")
        if settings.get("activation", "linear") not in _ACTIVATIONS:
            raise Unsupported(f"{entry['name']}: activation {settings['activation']!r}")
        layers.append(Layer(kind, entry["name"], tuple(inputs), settings))
    makers = {id(op.output): op.name for op in model.operations if not isinstance(op.output, list | tuple)}
    return Topology(tuple(model.inputs[0].shape[1:]), tuple(layers), tuple(makers[id(x)] for x in model.outputs))


def _tensors(value: Any) -> list[str]:
    """Names of the layers whose tensors stand in the arguments of a call."""
    if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        return [value["config"]["keras_history"][0]]
    if isinstance(value, list | tuple):
        return [name for part in value for name in _tensors(part)]
    return []


def arrays_of(topology: Topology, path: Path) -> dict[str, list[np.ndarray]]:
    """Arrays of each layer from a ``.weights.h5`` file that Keras wrote; `KeyError` if one is missing."""
    arrays, counts = {}, Counter[str]()
    with open_plain(path) as file:
        for layer in topology.layers:
            if "operation" in layer.settings:
                continue
            # Keras names what it saves by the class, and counts.
            name = re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", layer.kind)).lower()
            number, counts[name] = counts[name], counts[name] + 1
            group = file.get(f"layers/{name}{f'_{number}' if number else ''}/vars")
            arrays[layer.name] = (
                [] if group is None else [group[str(k)][()].astype("float32") for k in range(len(group))]
            )
    return arrays


def build(topology: Topology, arrays: Arrays) -> openvino.Model:
    """The network for OpenVINO, of stacks ``uint8 [n, S, S, C]``; `Unsupported` if a layer cannot be had.

    Behind a head of global pooling and dense layers it has one more output, `MAPS` ``float32 [n, h, w, classes]``: for
    each class, what each cell of the pooled maps adds to its score. That is CAM, and Grad-CAM up to a factor.
    """
    import openvino

    stack = openvino.opset13.parameter([-1, *topology.shape], np.uint8, name="stack")
    builder = _Builder(openvino.opset13, topology, arrays)
    tensors = builder.run(stack)
    results = [builder.result(tensors[name], name) for name in topology.outputs]
    if maps := builder.maps():
        results.append(builder.result(maps, MAPS))
    return openvino.Model(results, [stack], "network")


def maps_layer(topology: Topology) -> str | None:
    """Name of the layer whose maps `build` weighs in its output `MAPS`; None where the network has no such head."""
    head = _head(topology)
    return head[0] if head else None


def _head(topology: Topology) -> tuple[str, list[Layer], list[Layer]] | None:
    """Pooled layer, pooling layers and dense layers, first to last, of a head that `build` can explain."""
    layers = {layer.name: layer for layer in topology.layers}
    if len(topology.outputs) != 1:
        return None
    layer = layers[topology.outputs[0]]
    dense: list[Layer] = []
    while layer.kind in ("Dense", "Dropout", "Activation"):
        # Behind the last dense layer any activation is left out: maps explain the score before it.
        if layer.kind == "Dense":
            if dense and layer.settings["activation"] not in ("linear", "relu"):
                return None
            dense.insert(0, layer)
        elif layer.kind == "Activation" and dense:
            return None
        layer = layers[layer.inputs[0]]
    pools = [layers[name] for name in layer.inputs] if layer.kind == "Concatenate" else [layer]
    pooled = {pool.inputs for pool in pools if pool.kind in ("GlobalAveragePooling2D", "GlobalMaxPooling2D")}
    if not dense or len(pooled) != 1 or any(not pool.kind.startswith("Global") for pool in pools):
        return None
    return pooled.pop()[0], pools, dense


class _Builder:
    """Builds layer by layer; images are ``[n, C, h, w]`` on the way, as OpenVINO's convolutions want them."""

    def __init__(self, ops: Any, topology: Topology, arrays: Arrays):
        self.ops, self.topology, self.arrays = ops, topology, arrays
        self.tensors: dict[str, Any] = {}

    def run(self, stack: Any) -> dict[str, Any]:
        """The tensor of every layer."""
        images = self.ops.transpose(self.ops.convert(stack, np.float32), _ints(0, 3, 1, 2))
        for layer in self.topology.layers:
            inputs = [self.tensors[name] for name in layer.inputs]
            if "operation" in layer.settings:
                number = np.float32(layer.settings["number"])
                tensor = getattr(self.ops, layer.settings["operation"])(inputs[0], number)
            elif layer.kind == "InputLayer":
                tensor = images
            else:
                tensor = getattr(self, f"_{layer.kind}")(layer, *inputs)
            self.tensors[layer.name] = self._activated(tensor, layer.settings.get("activation", "linear"))
        return self.tensors

    def result(self, tensor: Any, name: str) -> Any:
        """An output of this name, images with channels last."""
        if tensor.get_output_partial_shape(0).rank.get_length() == 4:
            tensor = self.ops.transpose(tensor, _ints(0, 2, 3, 1))
        tensor.output(0).get_tensor().set_names({name})
        return self.ops.result(tensor)

    def maps(self) -> Any:
        """Maps ``[n, classes, h, w]`` of each class; None where the head is another."""
        head = _head(self.topology)
        if head is None:
            return None
        ops, (pooled, pools, dense) = self.ops, head
        # Weights [n or 1, units, classes] of a layer's inputs, from the last layer to the first.
        weights: Any = self.arrays[dense[-1].name][0]
        if weights.shape[1] == 1:
            weights = np.hstack([-weights, weights])  # one sigmoid counts as two classes
        weights = ops.constant(weights[None].astype("float32"))
        for layer in reversed(dense[:-1]):
            if layer.settings["activation"] == "relu":
                active = ops.convert(ops.greater(self.tensors[layer.name], np.float32(0)), np.float32)
                weights = ops.multiply(weights, ops.unsqueeze(active, _ints(2)))
            weights = ops.matmul(ops.constant(self.arrays[layer.name][0][None]), weights, False, False)
        if len(pools) > 1:
            parts = ops.split(weights, _ints(1)[0], len(pools))
            weights = parts.output(0)
            for k in range(1, len(pools)):
                weights = ops.add(weights, parts.output(k))
        features = self.tensors[pooled]
        shape = ops.shape_of(features)
        flat = ops.reshape(features, _ints(0, 0, -1), True)
        cells = ops.matmul(weights, flat, True, False)
        classes = _ints(max(2, self.arrays[dense[-1].name][0].shape[1]))
        size = ops.gather(shape, _ints(2, 3), np.int64(0))
        return ops.reshape(cells, ops.concat([_ints(0), classes, size], 0), True)

    def _activated(self, tensor: Any, name: str) -> Any:
        if name == "relu6":
            return self.ops.clamp(tensor, 0.0, 6.0)
        if name == "softmax":
            return self.ops.softmax(tensor, 1)
        return tensor if name == "linear" else getattr(self.ops, name)(tensor)

    def _conv(self, layer: Layer, images: Any, kernel: np.ndarray, groups: int) -> Any:
        """A convolution by a kernel ``[groups, out, in, h, w]``; `groups` 0 stands for one without that axis."""
        settings = layer.settings
        padding = _PADDING[settings["padding"]]
        operation = self.ops.group_convolution if groups else self.ops.convolution
        none = [0, 0]
        tensor = operation(
            images, self._constant(kernel), settings["strides"], none, none, settings["dilation_rate"], padding
        )
        return self._biased(layer, tensor)

    def _Conv2D(self, layer: Layer, images: Any) -> Any:
        kernel, groups = self.arrays[layer.name][0].transpose(3, 2, 0, 1), layer.settings["groups"]
        if groups == 1:
            return self._conv(layer, images, kernel, 0)
        return self._conv(layer, images, kernel.reshape(groups, -1, *kernel.shape[1:]), groups)

    def _DepthwiseConv2D(self, layer: Layer, images: Any) -> Any:
        kernel = self.arrays[layer.name][0].transpose(2, 3, 0, 1)
        return self._conv(layer, images, kernel[:, :, None], len(kernel))

    def _Conv2DTranspose(self, layer: Layer, images: Any) -> Any:
        settings = layer.settings
        if list(settings["kernel_size"]) != list(settings["strides"]) or settings["output_padding"]:
            raise Unsupported(f"{layer.name}: windows that overlap")
        kernel = self._constant(self.arrays[layer.name][0].transpose(3, 2, 0, 1))
        return self._biased(layer, self.ops.convolution_backprop_data(images, kernel, settings["strides"]))

    def _Dense(self, layer: Layer, values: Any) -> Any:
        kernel, *bias = self.arrays[layer.name]
        tensor = self.ops.matmul(values, self._constant(kernel), False, False)
        return self.ops.add(tensor, self._constant(bias[0])) if bias else tensor

    def _BatchNormalization(self, layer: Layer, images: Any) -> Any:
        if layer.settings["axis"] not in (-1, 3):
            raise Unsupported(f"{layer.name}: axis {layer.settings['axis']}")
        *learnt, mean, variance = (values.astype("float64") for values in self.arrays[layer.name])
        gamma = learnt.pop(0) if layer.settings["scale"] else 1.0
        beta = learnt.pop(0) if layer.settings["center"] else 0.0
        scale = gamma / np.sqrt(variance + layer.settings["epsilon"])
        scaled = self.ops.multiply(images, self._constant(scale[:, None, None]))
        return self.ops.add(scaled, self._constant((beta - mean * scale)[:, None, None]))

    def _MaxPooling2D(self, layer: Layer, images: Any) -> Any:
        from openvino.opset1 import max_pool  # which gives no indices beside the maxima

        none, settings = [0, 0], layer.settings
        padding = _PADDING[settings["padding"]]
        return max_pool(images, settings["strides"], none, none, settings["pool_size"], auto_pad=padding)

    def _AveragePooling2D(self, layer: Layer, images: Any) -> Any:
        none, settings = [0, 0], layer.settings
        padding = _PADDING[settings["padding"]]
        # Keras leaves the padding out of the average.
        return self.ops.avg_pool(images, settings["strides"], none, none, settings["pool_size"], True, auto_pad=padding)

    def _GlobalAveragePooling2D(self, layer: Layer, images: Any) -> Any:
        return self.ops.reduce_mean(images, _ints(2, 3), layer.settings["keepdims"])

    def _GlobalMaxPooling2D(self, layer: Layer, images: Any) -> Any:
        return self.ops.reduce_max(images, _ints(2, 3), layer.settings["keepdims"])

    def _ZeroPadding2D(self, layer: Layer, images: Any) -> Any:
        (top, bottom), (left, right) = layer.settings["padding"]
        return self.ops.pad(images, _ints(0, 0, top, left), _ints(0, 0, bottom, right), "constant", np.float32(0))

    def _Concatenate(self, layer: Layer, *tensors: Any) -> Any:
        rank = tensors[0].get_output_partial_shape(0).rank.get_length()
        if layer.settings["axis"] not in (-1, rank - 1):
            raise Unsupported(f"{layer.name}: axis {layer.settings['axis']}")
        return self.ops.concat(list(tensors), 1)

    def _Flatten(self, layer: Layer, images: Any) -> Any:
        if images.get_output_partial_shape(0).rank.get_length() == 4:
            images = self.ops.transpose(images, _ints(0, 2, 3, 1))
        return self.ops.reshape(images, _ints(0, -1), True)

    def _Add(self, layer: Layer, first: Any, *others: Any) -> Any:
        for other in others:
            first = self.ops.add(first, other)
        return first

    def _ReLU(self, layer: Layer, tensor: Any) -> Any:
        if any(layer.settings.values()):
            raise Unsupported(f"{layer.name}: a ReLU that is cut, leaks or starts elsewhere")
        return self.ops.relu(tensor)

    def _Activation(self, layer: Layer, tensor: Any) -> Any:
        return tensor

    _Dropout = _Activation  # which does nothing when predicting

    def _biased(self, layer: Layer, images: Any) -> Any:
        bias = self.arrays[layer.name][1:]
        return self.ops.add(images, self._constant(bias[0][:, None, None])) if bias else images

    def _constant(self, values: np.ndarray) -> Any:
        return self.ops.constant(np.ascontiguousarray(values, np.float32))


def _ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)
