"""covidcxnet: chest radiographs in the COVID-CXNet style. A research tool, never a medical device.

Importing this package is light: TensorFlow loads only when a model is needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from covidcxnet.classifier import Classifier, Prediction
    from covidcxnet.datasets import Dataset, load_dataset
    from covidcxnet.evaluation import evaluate
    from covidcxnet.legacy import load_legacy
    from covidcxnet.models import create
    from covidcxnet.preparation import Store, prepare
    from covidcxnet.pretrained import load_model
    from covidcxnet.settings import InputSettings
    from covidcxnet.training import Recipe, Run, train

# Loaded on first use: most commands need few of them, and Keras takes seconds.
_HOMES = {
    "Classifier": "covidcxnet.classifier",
    "Prediction": "covidcxnet.classifier",
    "Dataset": "covidcxnet.datasets",
    "load_dataset": "covidcxnet.datasets",
    "evaluate": "covidcxnet.evaluation",
    "load_legacy": "covidcxnet.legacy",
    "create": "covidcxnet.models",
    "Store": "covidcxnet.preparation",
    "prepare": "covidcxnet.preparation",
    "load_model": "covidcxnet.pretrained",
    "InputSettings": "covidcxnet.settings",
    "Recipe": "covidcxnet.training",
    "Run": "covidcxnet.training",
    "train": "covidcxnet.training",
}
__all__ = ["Classifier", "Dataset", "InputSettings", "Prediction", "Recipe", "Run", "Store"]
__all__ += ["create", "evaluate", "load_dataset", "load_legacy", "load_model", "prepare", "train"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
