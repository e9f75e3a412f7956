"""Evaluation: predictions in, figures with intervals out, as one HTML page, one JSON file and one CSV.

Importing this package is light; scikit-learn is never needed, matplotlib and Keras only when a report is made.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from covidcxnet.evaluation.bootstrap import Bootstrap, Estimate
    from covidcxnet.evaluation.evaluator import evaluate
    from covidcxnet.evaluation.metrics import Metrics, measure
    from covidcxnet.evaluation.predictions import Predictions
    from covidcxnet.evaluation.report import Report

_HOMES = {
    "Bootstrap": "bootstrap",
    "Estimate": "bootstrap",
    "Metrics": "metrics",
    "measure": "metrics",
    "Predictions": "predictions",
    "Report": "report",
    "evaluate": "evaluator",
}
__all__ = ["Bootstrap", "Estimate", "Metrics", "Predictions", "Report", "evaluate", "measure"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
