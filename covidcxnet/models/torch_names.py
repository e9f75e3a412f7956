"""Names of tensors in files of PyTorch, and the layers here that they belong to: one table for each family.

A file fits a family only if each of its tensors has a layer and each weight of the model a tensor.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np

from enhancement.errors import InputError
from segmentation.backend import keras

from . import efficientnet
from .torchvision_layouts import VGG19

Tensors = Mapping[str, np.ndarray]

# Counters of batches, and operating points of torchxrayvision: no weights of a layer.
_NO_WEIGHTS = re.compile(r"(.*\.)?(num_batches_tracked|op_threshs)")
# What DataParallel and the classes of CheXNet and torchxrayvision put before every name.
_WRAPPERS = ("module.", "model.", "densenet121.")
_BATCH_NORM = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True)
class Family:
    """A network as PyTorch's files name it.

    `sign` is the name of a tensor that only this family has. `layers` pairs patterns of PyTorch's modules with names of
    layers here: ``{0}`` is the first number in the module's name, ``{0:next}`` one more, ``{0:letter}`` its letter.
    """

    model: str  # in `MODELS`
    sign: str
    stem: str  # its first convolution
    layers: tuple[tuple[str, str], ...]
    size: int = 224
    normalization: str = "imagenet"
    options: Mapping[str, Any] = field(default_factory=dict)  # of `create`, by which the file's network differs


class _Number(int):
    """A number in a module's name, as the template of a layer's name shows it."""

    def __format__(self, spec: str) -> str:
        match spec:
            case "next":
                return str(self + 1)
            case "letter":
                return chr(ord("a") + self)
            case "lite":  # counted through all stages
                return efficientnet.block_names(efficientnet.STAGES)[self]
        return super().__format__(spec)


def _conv_and_norm(conv: str, norm: str, layer: str) -> tuple[tuple[str, str], ...]:
    return (conv, f"{layer}_conv"), (norm, f"{layer}_bn")


_ALEXNET = (
    *((rf"features\.{index}", f"conv{n}") for n, index in enumerate((0, 3, 6, 8, 10), start=1)),
    *((rf"classifier\.{index}", name) for index, name in ((1, "fc1"), (4, "fc2"), (6, "pred"))),
)

# A convolution, its batch norm and its ReLU are three modules of a sequence, and so does each pooling count.
_VGG_STARTS = accumulate((3 * depth + 1 for depth, _ in VGG19[:-1]), initial=0)
_VGG = (
    *(
        (rf"features\.{start + 3 * conv + part}", f"block{block}_{kind}{conv + 1}")
        for block, (start, (depth, _)) in enumerate(zip(_VGG_STARTS, VGG19, strict=True), start=1)
        for conv in range(depth)
        for part, kind in enumerate(("conv", "bn"))
    ),
    *((rf"classifier\.{index}", name) for index, name in ((0, "fc1"), (3, "fc2"), (6, "pred"))),
)

_RESNET = (
    *_conv_and_norm("conv1", "bn1", "conv1"),
    (r"layer(\d+)\.(\d+)\.conv(\d)", "layer{0}_block{1:next}_{2}_conv"),
    (r"layer(\d+)\.(\d+)\.bn(\d)", "layer{0}_block{1:next}_{2}_bn"),
    (r"layer(\d+)\.(\d+)\.downsample\.0", "layer{0}_block{1:next}_short_conv"),
    (r"layer(\d+)\.(\d+)\.downsample\.1", "layer{0}_block{1:next}_short_bn"),
    (r"fc", "pred"),
)

# Files of before 2018 have a dot more: norm.1 for norm1, of layers that then were sequences of their own.
_DENSENET = (
    *_conv_and_norm(r"features\.conv0", r"features\.norm0", "conv1"),
    (r"features\.denseblock(\d+)\.denselayer(\d+)\.norm\.?1", "conv{0:next}_block{1}_0_bn"),
    (r"features\.denseblock(\d+)\.denselayer(\d+)\.conv\.?1", "conv{0:next}_block{1}_1_conv"),
    (r"features\.denseblock(\d+)\.denselayer(\d+)\.norm\.?2", "conv{0:next}_block{1}_1_bn"),
    (r"features\.denseblock(\d+)\.denselayer(\d+)\.conv\.?2", "conv{0:next}_block{1}_2_conv"),
    (r"features\.transition(\d+)\.norm", "pool{0:next}_bn"),
    (r"features\.transition(\d+)\.conv", "pool{0:next}_conv"),
    (r"features\.norm5", "bn"),
    (r"classifier(?:\.0)?", "pred"),
)

# The blocks of the first stage do not widen, so that their parts begin one earlier.
_B1 = (
    *_conv_and_norm(r"features\.0\.0", r"features\.0\.1", "stem"),
    *(
        (rf"features\.{stage}\.(\d+)\.block\.{index + first}{part}", f"block{number}{{0:letter}}_{name}")
        for stage, number, first in (("1", "1", -1), *((str(n), str(n), 0) for n in range(2, 8)))
        for index, part, name in (
            (0, r"\.0", "expand_conv"),
            (0, r"\.1", "expand_bn"),
            (1, r"\.0", "dwconv"),
            (1, r"\.1", "bn"),
            (2, r"\.fc1", "se_reduce"),
            (2, r"\.fc2", "se_expand"),
            (3, r"\.0", "project_conv"),
            (3, r"\.1", "project_bn"),
        )
    ),
    *_conv_and_norm(r"features\.8\.0", r"features\.8\.1", "top"),
    (r"classifier\.1", "pred"),
)

_LITE = (
    (r"_conv_stem", "stem_conv"),
    (r"_bn0", "stem_bn"),
    (r"_blocks\.(\d+)\._expand_conv", "block{0:lite}_expand_conv"),
    (r"_blocks\.(\d+)\._bn0", "block{0:lite}_expand_bn"),
    (r"_blocks\.(\d+)\._depthwise_conv", "block{0:lite}_dwconv"),
    (r"_blocks\.(\d+)\._bn1", "block{0:lite}_bn"),
    (r"_blocks\.(\d+)\._project_conv", "block{0:lite}_project_conv"),
    (r"_blocks\.(\d+)\._bn2", "block{0:lite}_project_bn"),
    (r"_conv_head", "top_conv"),
    (r"_bn1", "top_bn"),
    (r"_fc", "pred"),
)

# The first whose sign a file has: a ResNet50 has all tensors' names of a ResNet34.
FAMILIES = (
    Family("efficientnet-lite0", r"_blocks\.15\._project_conv\.weight", "_conv_stem", _LITE, 224, "lite"),
    Family("efficientnet-b1-torchvision", r"features\.7\.1\.block\.3\.0\.weight", "features.0.0", _B1, 240),
    Family("alexnet", r"classifier\.4\.weight", "features.0", _ALEXNET),
    Family("vgg19-bn", r"features\.49\.weight", "features.0", _VGG),
    Family("resnet50-torchvision", r"layer3\.5\.conv3\.weight", "conv1", _RESNET),
    Family("resnet34", r"layer3\.5\.conv2\.weight", "conv1", _RESNET),
    Family("covid-cxnet", r"features\.denseblock1\.denselayer1\.norm\.?1\.weight", "features.conv0", _DENSENET),
)


def without_wrappers(tensors: Tensors) -> dict[str, np.ndarray]:
    """Tensors without what wrappers put before all of their names, and without what are no weights."""
    tensors = {name: tensor for name, tensor in tensors.items() if not _NO_WEIGHTS.fullmatch(name)}
    while prefix := next((p for p in _WRAPPERS if tensors and all(name.startswith(p) for name in tensors)), ""):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def recognise(tensors: Tensors) -> Family:
    """The family of tensors without wrappers; `InputError` if it is none known here."""
    for family in FAMILIES:
        if any(re.fullmatch(family.sign, name) for name in tensors):
            return family
    known = ", ".join(family.model for family in FAMILIES)
    raise InputError(
        f"{len(tensors)} tensors, {next(iter(tensors), 'none'):.80} first; no network known here ({known})"
    )


def structure(family: Family, tensors: Tensors) -> tuple[int, dict[str, Any]]:
    """Outputs of the head, and options of `create` besides its size, as the shapes of tensors say them."""
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    channels = shapes.get(f"{family.stem}.weight", ())[1:2]
    widths = {
        _layer(name.removesuffix(".bias"), family): shape for name, shape in shapes.items() if name.endswith(".bias")
    }
    if "pred" not in widths or not channels or not widths["pred"]:
        raise InputError(
            f"no {family.stem} or no last dense layer among its {len(tensors)} tensors; a part of a network"
        )
    options: dict[str, Any] = {"channels": channels[0], "dropout": 0.0}
    hidden = [widths[name][0] for name in ("fc1", "fc2") if widths.get(name)]
    options |= {"hidden": hidden, "dropout": [0.0] * (len(hidden) + 1)}
    if family.model == "covid-cxnet":
        layers = [
            re.fullmatch(r"features\.denseblock(\d+)\.denselayer(\d+)\.conv\.?2\.weight", name) for name in shapes
        ]
        numbers = [int(match[1]) for match in layers if match and len(match[1]) < 3]
        growth = next(shape[0] for name, shape in shapes.items() if re.search(r"denselayer1\.conv\.?2\.weight$", name))
        # PyTorch's epsilon; that of the Keras files is another.
        options |= {"blocks": [numbers.count(n) for n in sorted(set(numbers))], "growth": growth, "epsilon": 1e-5}
    return widths["pred"][0], options


def is_head(family: Family, name: str) -> bool:
    """Whether a tensor belongs to the last dense layer."""
    return _layer(name.rpartition(".")[0], family) == "pred"


def fill(model: keras.Model, family: Family, tensors: Tensors) -> None:
    """Set all weights of a model from tensors without wrappers.

    Raises
    ------
    InputError
        If a tensor has no layer, a weight has no tensor, a shape differs or a number is not finite; nothing is set.
    """
    modules: dict[str, dict[str, np.ndarray]] = {}
    for name, tensor in tensors.items():
        module, _, kind = name.rpartition(".")
        modules.setdefault(module, {})[kind] = tensor
    layers = {layer.name: layer for layer in model.layers if layer.weights}
    arrays: dict[str, list[np.ndarray]] = {}
    for module, parts in modules.items():
        name = _layer(module, family) or ""
        if name not in layers:
            raise InputError(f"{module:.80}: no such part in {model.name}; another network of the family, or damaged")
        if name in arrays:
            raise InputError(f"{module:.80}: a second time the weights of layer {name}; damaged")
        arrays[name] = _converted(model, layers[name], module, parts)
    if missing := [name for name in layers if name not in arrays]:
        raise InputError(f"no tensors for {len(missing)} layers of {model.name}, {missing[0]} the first; damaged")
    for name, weights in arrays.items():
        layers[name].set_weights(weights)


def _layer(module: str, family: Family) -> str | None:
    for pattern, template in family.layers:
        if match := re.fullmatch(pattern, module):
            return template.format(*(_Number(text) if text.isdigit() else text for text in match.groups()))
    return None


def _converted(model: keras.Model, layer: Any, module: str, parts: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Arrays of one layer in the order and axes of Keras, float32."""
    norm = type(layer).__name__ == "BatchNormalization"
    names = _BATCH_NORM if norm else ("weight", "bias")[: len(layer.weights)]
    if set(parts) != set(names):
        raise InputError(f"{module:.80}: tensors {', '.join(sorted(parts))!s:.80}, {', '.join(names)} expected")
    arrays = []
    for name, weight in zip(names, layer.weights, strict=True):
        array = _axes(parts[name], type(layer).__name__, model, layer) if name == "weight" else parts[name]
        if array is None or array.shape != tuple(weight.shape):
            shape = tuple(weight.shape)
            raise InputError(f"{module:.80}.{name}: shape {parts[name].shape} does not fit {shape} of {layer.name}")
        array = np.asarray(array, "float32")
        if not np.isfinite(array).all() or (name == "running_var" and array.min() < 0):
            raise InputError(f"{module:.80}.{name}: numbers that no weights have; damaged")
        arrays.append(array)
    return arrays


def _axes(array: np.ndarray, kind: str, model: keras.Model, layer: Any) -> np.ndarray | None:
    """A kernel with its axes as Keras has them; None where it has another number of them."""
    match kind, array.ndim:
        case "Conv2D", 4:  # out, in, height, width
            return array.transpose(2, 3, 1, 0)
        case "DepthwiseConv2D", 4:  # planes, 1, height, width
            return array.transpose(2, 3, 0, 1)
        case "Dense", 2:
            maps = _flattened(model, layer)
            if maps and array.shape[1] == np.prod(maps):
                # PyTorch flattens plane by plane, Keras pixel by pixel.
                height, width, planes = maps
                array = array.reshape(-1, planes, height, width).transpose(0, 2, 3, 1).reshape(array.shape)
            return array.T
        case "BatchNormalization", 1:
            return array
    return None


def _flattened(model: keras.Model, layer: Any) -> tuple[int, int, int] | None:
    """Height, width and planes of the map whose pixels are this layer's inputs; None for any other layer."""
    weighted = [other.name for other in model.layers if other.weights or other.name == "flatten"]
    before = weighted[weighted.index(layer.name) - 1]
    return tuple(model.get_layer(before).input.shape[1:]) if before == "flatten" else None  # type: ignore[return-value]
