"""Old weights files of lung U-Nets: which network a file is of, told by its arrays, and how it was fed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from enhancement.errors import InputError
from weights.legacy_h5 import LegacyLayer, read_legacy

from .unet import CONVENTIONS

# How each published network saw radiographs in its training.
_INPUTS: dict[str, dict[str, Any]] = {
    "unet": {"size": 512, "enhancement": "none", "fit": "stretch"},
    "imlab-unet": {"size": 256, "enhancement": "equalize", "fit": "stretch"},
}
_SCALINGS = {"unet": "centred", "imlab-unet": "uniform"}
_LAYERS = {23: "unet", 22: "imlab-unet"}


def recognise(layers: list[LegacyLayer]) -> tuple[str, dict[str, int]] | None:
    """Name and options of the U-Net that layers belong to, as far as their first and widest ones tell; else None."""
    name = _LAYERS.get(len(layers))
    if name is None or any(len(layer.arrays) != 2 or layer.arrays[0].ndim != 4 for layer in layers):
        return None
    kernels = [layer.shapes[0] for layer in layers]
    width, channels, outputs = kernels[0][3], kernels[0][2], kernels[-1][3]
    # The widest layer too: a forged first one must not make us build a network of any size.
    bottom = (3, 3, 16 * width, 16 * width) if name == "unet" else (3, 3, 8 * width, 8 * width)
    if kernels[9] != bottom or kernels[0][:2] != (3, 3):
        return None
    return name, {"width": width, "channels": channels, "outputs": outputs}


def legacy_metadata(path: str | Path) -> dict[str, Any]:
    """What a legacy U-Net file would say of itself, had it metadata.

    Raises
    ------
    InputError
        If it is not a legacy file, or not of a U-Net that is known.
    """
    layers = read_legacy(path)
    found = recognise(layers)
    if found is None or found[1]["outputs"] > len(CONVENTIONS):
        raise InputError(f"{path}: {len(layers)} layers with weights that are not those of a lung U-Net known here")
    name, options = found
    return {
        "format": 1,
        "kind": "segmenter",
        "architecture": {"name": name, "options": {**options, "scaling": _SCALINGS[name]}},
        "conventions": list(CONVENTIONS[: options["outputs"]]),
        "input": dict(_INPUTS[name]),
    }
