"""Classifiers by name: `create("covid-cxnet")`. One module per family; a head is separate from a backbone."""

from . import base_cnn, densenet, small_cnn
from .heads import split_head
from .registry import MODELS, NORMALIZATIONS, ModelSpec, create, feature_layer, outputs_for

__all__ = [
    "MODELS",
    "NORMALIZATIONS",
    "ModelSpec",
    "base_cnn",
    "create",
    "densenet",
    "feature_layer",
    "outputs_for",
    "small_cnn",
    "split_head",
]
