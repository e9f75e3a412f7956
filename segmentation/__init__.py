"""Lungs of a frontal chest radiograph: the U-Net, its training, masks with a verdict, and regions of interest.

Names load on first use: ``import segmentation`` needs neither Keras nor OpenCV. The network itself is
`segmentation.model.unet`.
"""

from __future__ import annotations

from importlib import import_module

_HOMES = {
    "CONVENTIONS": "model",
    "Frame": "regions",
    "Limits": "verdict",
    "LungMask": "segmenter",
    "LungSegmenter": "segmenter",
    "Verdict": "verdict",
    "box_of": "regions",
    "dilate": "regions",
    "frame_for": "regions",
    "keep_inside": "regions",
}

__all__ = list(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
