"""Backbones from `keras.applications`: one row each, built into our graph under names that are always the same.

VGG (Simonyan and Zisserman 2015), ResNet50 (He et al. 2016), InceptionV3 (Szegedy et al. 2016), Xception (Chollet
2017), NASNet-A Mobile (Zoph et al. 2018), MobileNetV3 (Howard et al. 2019) and EfficientNet (Tan and Le 2019).
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from segmentation.backend import keras

from .registry import check_side, register
from .scaling import IMAGENET_MEAN, IMAGENET_STD

# Of the moving mean and variance that prediction uses. MobileNetV3 comes with 0.999 and NASNet with 0.9997, meant for
# millions of images: after the hundreds of steps of a small set they have hardly moved, and a network that has learnt
# its training images predicts noise. PyTorch's MobileNetV3, which Group-Q trained, has 0.99 too.
MOMENTUM = 0.99

_RESEARCH = "trained on ImageNet, for non-commercial research"
_VGG: dict[str, Any] = {
    "normalization": "caffe",
    "origin": "ImageNet, ported from the Visual Geometry Group, Oxford, through keras.applications",
    "licence": f"CC BY 4.0; {_RESEARCH}",
}
_RESNET: dict[str, Any] = {
    "normalization": "caffe",
    "origin": "ImageNet, ported from He et al., through keras.applications",
    "licence": f"MIT; {_RESEARCH}",
}
_XCEPTION: dict[str, Any] = {
    "normalization": "symmetric",
    "origin": "ImageNet, by its author, through keras.applications",
    "licence": f"MIT; {_RESEARCH}",
}
_GOOGLE: dict[str, Any] = {
    "normalization": "symmetric",
    "origin": "ImageNet, by Google, through keras.applications",
    "licence": f"Apache 2.0; {_RESEARCH}",
}
_MOBILENET = _GOOGLE | {"licence": f"Apache 2.0 at tensorflow/models, Keras states none; {_RESEARCH}"}
# EfficientNet scales by layers of its own, so that its stack stays 0..255; statistics of other images are put ahead.
_EFFICIENTNET = _GOOGLE | {
    "normalization": "none",
    "scalings": ("none", "radiograph"),
    "scales": True,
    "licence": f"Apache 2.0 at tensorflow/tpu, Keras states none; {_RESEARCH}",
}

# Name, class in keras.applications, size, smallest size, feature layer, parameters, flops, other facts.
# The feature layer of VGG is that before its last pooling: twice as fine, and the same features.
_ROWS: list[tuple[str, str, int, int, str, int, int, dict[str, Any]]] = [
    ("vgg16", "VGG16", 224, 32, "block5_conv3", 14_719_829, 30_693_271_572, _VGG),
    ("vgg19", "VGG19", 224, 32, "block5_conv4", 20_029_525, 39_016_867_860, _VGG),
    ("resnet50", "ResNet50", 224, 32, "conv5_block3_out", 23_608_213, 7_711_891_476, _RESNET),
    ("inception-v3", "InceptionV3", 299, 75, "mixed10", 21_823_285, 11_422_377_172, _GOOGLE),
    ("xception", "Xception", 299, 71, "block14_sepconv2_act", 20_881_981, 16_710_751_972, _XCEPTION),
    ("nasnet-mobile", "NASNetMobile", 224, 32, "activation_187", 4_280_297, 1_125_186_772, _GOOGLE),
    ("mobilenet-v3-large", "MobileNetV3Large", 224, 32, "activation_19", 3_005_973, 428_181_140, _MOBILENET),
    ("efficientnet-b1", "EfficientNetB1", 240, 32, "top_activation", 6_588_060, 1_371_071_284, _EFFICIENTNET),
]
_SUMMARIES = {
    "vgg16": "13 convolutions in five blocks",
    "vgg19": "16 convolutions in five blocks",
    "resnet50": "50 layers with identity shortcuts; blocks conv2 to conv5",
    "inception-v3": "eleven inception modules, mixed0 to mixed10",
    "xception": "36 convolutions, most of them separable; block1 to block14",
    "nasnet-mobile": "cells found by search, for small machines",
    "mobilenet-v3-large": "inverted residuals with squeeze and excitation",
    "efficientnet-b1": "compound scaling of depth, width and size; block1 to block7",
}
# Layers, and those of them that convolve or are dense, with the head of `create`; then the accuracy on ImageNet of the
# weights in percent, first and five best guesses, as Keras publishes it; of MobileNetV3, in another table, the first.
_LAYERS = {
    "vgg16": (23, 15),
    "vgg19": (26, 18),
    "resnet50": (179, 55),
    "inception-v3": (315, 96),
    "xception": (136, 42),
    "nasnet-mobile": (773, 198),
    "mobilenet-v3-large": (190, 64),
    "efficientnet-b1": (343, 117),
}
_ACCURACY = {
    "vgg16": (71.3, 90.1),
    "vgg19": (71.3, 90.0),
    "resnet50": (74.9, 92.1),
    "inception-v3": (77.9, 93.7),
    "xception": (79.0, 94.5),
    "nasnet-mobile": (74.4, 91.9),
    "mobilenet-v3-large": (75.6, None),
    "efficientnet-b1": (79.1, 94.4),
}
# The scaling layer that stands in MobileNetV3 itself is an operation of our graph, like every model's here.
_BUILD = {"MobileNetV3Large": {"include_preprocessing": False}}


def _backbone(name: str, application: str, least: int, scales: bool = False):
    """Function from the scaled stack to the feature map of one network."""

    def backbone(stack):
        check_side(name, stack, least)
        options = {"input_tensor": stack, "input_shape": tuple(stack.shape[1:]), **_BUILD.get(application, {})}
        network = build(application, weights=None, **options)
        if scales:  # by a layer whose mean and variance are 0 and 1 until weights are loaded
            set_statistics(network.get_layer("normalization"), IMAGENET_MEAN, np.square(IMAGENET_STD))
        return network.output

    return backbone


def build(application: str, **options: Any) -> keras.Model:
    """A network of `keras.applications` without its top, every layer under a name of its own."""
    network = getattr(keras.applications, application)(include_top=False, **options)
    _rename(network)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = min(layer.momentum, MOMENTUM)
    return network


def set_statistics(layer, mean, variance) -> None:
    """Give a normalization layer the mean and variance of each plane, on a scale of 0..1."""
    layer.set_weights([np.asarray(mean, "float32"), np.asarray(variance, "float32"), *layer.get_weights()[2:]])
    layer.finalize_state()


def _rename(model: keras.Model) -> None:
    """Number the layers that Keras names by a counter of the process: `conv2d_94` becomes what it is in a first model.

    Weights go from model to model by name, and blocks to train are chosen by name.
    """
    numbered: dict[str, list[tuple[int, Any]]] = {}
    for layer in model.layers:
        match = re.fullmatch(r"([a-z_]+(?:\dd)?(?:_[a-z]+)*)(?:_(\d+))?", layer.name)
        if match is None or isinstance(layer, keras.layers.InputLayer):
            continue
        if match[1].replace("_", "") == type(layer).__name__.lower():
            numbered.setdefault(match[1], []).append((int(match[2] or 0), layer))
    for base, layers in numbered.items():
        for number, (_, layer) in enumerate(sorted(layers, key=lambda pair: pair[0])):
            layer.name = f"{base}_{number}" if number else base


for _name, _application, _size, _least, _layer, _parameters, _flops, _facts in _ROWS:
    register(
        _name,
        size=_size,
        channels=3,
        planes=3,
        feature_layer=_layer,
        application=_application,
        head={"pool": "average", "hidden": (10,), "dropout": 0.2},
        summary=_SUMMARIES[_name],
        parameters=_parameters,
        layers=_LAYERS[_name],
        accuracy=(*_ACCURACY[_name], f"keras.io/api/applications{'/mobilenet' if 'mobilenet' in _name else ''}"),
        flops=_flops,
        **_facts,
    )(_backbone(_name, _application, _least, _facts.get("scales", False)))
