"""Classifiers by name: `create("covid-cxnet")`. One module per family; a head is separate from a backbone."""

from . import (
    alexnet,
    base_cnn,
    densenet,
    efficientnet,
    hierarchical,
    inception,
    logistic,
    mobilenet,
    nasnet,
    resnet34,
    resnet50,
    small_cnn,
    vgg,
    vgg_bn,
    xception,
)
from .finetuning import freeze
from .heads import HEADS, split_head
from .registry import MODELS, NORMALIZATIONS, ModelSpec, create, feature_layer, outputs_for

__all__ = [
    "HEADS",
    "MODELS",
    "NORMALIZATIONS",
    "ModelSpec",
    "alexnet",
    "base_cnn",
    "create",
    "densenet",
    "efficientnet",
    "feature_layer",
    "freeze",
    "hierarchical",
    "inception",
    "logistic",
    "mobilenet",
    "nasnet",
    "outputs_for",
    "resnet34",
    "resnet50",
    "small_cnn",
    "split_head",
    "vgg",
    "vgg_bn",
    "xception",
]
