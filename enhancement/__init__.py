"""A radiograph as pixels: read it from any common file, enhance it (BEASF above all), never with Keras.

Every function takes and gives ``uint8 [H, W]`` and leaves its input as it was. Names load on first use, so that
``import enhancement`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module

from enhancement.errors import InputError, RadiographError

_HOMES = {
    "adaptive_equalize": "filters",
    "beasf": "bihistogram",
    "CHANNELS": "channels",
    "clahe": "filters",
    "equalize": "filters",
    "find_images": "files",
    "gaussian_blur": "filters",
    "IMAGE_SUFFIXES": "files",
    "match_histogram": "matching",
    "read_radiograph": "radiograph",
    "stack": "channels",
    "whole_file": "files",
}

__all__ = ["InputError", "RadiographError", *_HOMES]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
