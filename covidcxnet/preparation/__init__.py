"""Files in, model-ready stacks out, once: decode, find lungs, enhance, resize, keep in one HDF5 store."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from covidcxnet.preparation.build import prepare
    from covidcxnet.preparation.loader import Batches
    from covidcxnet.preparation.pipeline import Outcome, Prepared, prepare_files, prepare_image
    from covidcxnet.preparation.store import Store, stack_statistics

# Names load on first use: a worker process needs the pipeline only, and never Keras.
_HOMES = {
    "Batches": "loader",
    "Outcome": "pipeline",
    "Prepared": "pipeline",
    "Store": "store",
    "prepare": "build",
    "prepare_files": "pipeline",
    "prepare_image": "pipeline",
    "stack_statistics": "store",
}

__all__ = ["Batches", "Outcome", "Prepared", "Store", "prepare", "prepare_files", "prepare_image", "stack_statistics"]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
