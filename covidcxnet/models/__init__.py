"""Classifiers by name: `create("covid-cxnet")`. One module per family; a head is separate from a backbone."""

# Imported for their rows in `MODELS`.
from . import applications, densenet, efficientnet, hierarchical, logistic, small, torchvision_layouts  # noqa: F401
from .finetuning import freeze
from .heads import HEADS, split_head
from .registry import MODELS, NORMALIZATIONS, ModelSpec, Stage, create, feature_layer, outputs_for

__all__ = [
    "HEADS",
    "MODELS",
    "NORMALIZATIONS",
    "ModelSpec",
    "Stage",
    "create",
    "feature_layer",
    "freeze",
    "outputs_for",
    "split_head",
]
