"""A radiograph as pixels: read it from any common file, enhance it (BEASF above all), never with Keras.

Every function takes and gives ``uint8 [H, W]`` and leaves its input as it was. Names load on first use, so that
``import enhancement`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from enhancement.errors import InputError, RadiographError

if TYPE_CHECKING:
    from enhancement.bihistogram import beasf
    from enhancement.channels import CHANNELS, stack
    from enhancement.files import IMAGE_SUFFIXES, find_images, whole_file
    from enhancement.filters import adaptive_equalize, clahe, equalize, gaussian_blur
    from enhancement.matching import match_histogram
    from enhancement.radiograph import read_radiograph

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

__all__ = [
    "CHANNELS",
    "IMAGE_SUFFIXES",
    "InputError",
    "RadiographError",
    "adaptive_equalize",
    "beasf",
    "clahe",
    "equalize",
    "find_images",
    "gaussian_blur",
    "match_histogram",
    "read_radiograph",
    "stack",
    "whole_file",
]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
