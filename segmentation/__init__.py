"""Lungs of a frontal chest radiograph: the U-Net, its training, masks with a verdict, and regions of interest.

Names load on first use: ``import segmentation`` needs neither Keras nor OpenCV. The network itself is
`segmentation.unet.unet`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .lung_mask import LungMask
    from .regions import Frame, box_of, cut_region, dilate, frame_for, keep_inside
    from .segmenter import LungSegmenter
    from .unet import CONVENTIONS
    from .verdict import Limits, Verdict

_HOMES = {
    "CONVENTIONS": "unet",
    "Frame": "regions",
    "Limits": "verdict",
    "LungMask": "lung_mask",
    "LungSegmenter": "segmenter",
    "Verdict": "verdict",
    "box_of": "regions",
    "cut_region": "regions",
    "dilate": "regions",
    "frame_for": "regions",
    "keep_inside": "regions",
}

__all__ = [
    "CONVENTIONS",
    "Frame",
    "Limits",
    "LungMask",
    "LungSegmenter",
    "Verdict",
    "box_of",
    "cut_region",
    "dilate",
    "frame_for",
    "keep_inside",
]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
