"""Training: a `Recipe` holds all settings of an experiment, a `Run` is the folder that records what happened."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Keras loads with the trainer, not with the flags that `train.py --help` shows.
_HOMES = {
    "AugmentSettings": "recipe",
    "Recipe": "recipe",
    "Run": "run_folder",
    "load_recipe": "arguments",
    "save_recipe": "recipe",
    "train": "trainer",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
