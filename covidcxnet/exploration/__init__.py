"""Exploration: what a data set looks like before anything is trained on it, as one HTML page and PNG files.

`explore` reads every image once and keeps sums, never images; `save` draws them. Nothing here needs Keras.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from covidcxnet.exploration.survey import Survey, explore

_HOMES = {"Survey": "survey", "explore": "survey", "save": "page"}
__all__ = ["Survey", "explore", "save"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
