"""Which classifier the arrays of an old weights file belong to: family, depth, widths and head, from shapes alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from enhancement.errors import InputError
from weights.legacy_h5 import LegacyLayer

# Sides of the published base CNNs, by the side of the last feature map; 31 other sides lead to the same.
BASE_SIZES = {11: 400, 8: 300}


@dataclass(frozen=True)
class Structure:
    """What shapes say of a classifier.

    Attributes
    ----------
    model : str
        Name in `covidcxnet.models.MODELS`.
    options : dict
        Of its backbone.
    channels : int
        Planes of the stack.
    hidden : tuple of int
        Units of the head's layers before the last.
    outputs : int
        Units of the last layer; 0 where the file has no head.
    side : int
        Side of the last feature map where the head flattens it; else 0.
    """

    model: str
    options: dict[str, Any] = field(default_factory=dict)
    channels: int = 3
    hidden: tuple[int, ...] = ()
    outputs: int = 0
    side: int = 0

    @property
    def sizes(self) -> range:
        """Sides of the stack that lead to this head; empty where any does."""
        if not self.side:
            return range(0)
        least = 2 * (16 * self.side + 15) + 3  # one 5 x 5 and four 3 x 3 convolutions of stride 2, backwards
        return range(least, least + 32)


def recognise(layers: Sequence[LegacyLayer], path: str | Path) -> Structure:
    """The structure of a classifier from its layers in order.

    Raises
    ------
    InputError
        If it is none that is known here, or a layer breaks the pattern; the message names it.
    """
    first = layers[0].shapes[0] if layers and layers[0].shapes else ()
    if len(first) == 4 and first[:2] == (7, 7):
        return _densenet(_Walk(layers, path))
    if len(first) == 4 and first[:2] == (5, 5):
        return _base_cnn(_Walk(layers, path))
    raise InputError(
        f"{path}: {len(layers)} layers with weights, the first of shape {first}: neither a DenseNet, nor the base CNN "
        "of COVID-CXNet, nor a lung U-Net known here"
    )


class _Walk:
    """Layers one after the other, each compared with what must stand there."""

    def __init__(self, layers: Sequence[LegacyLayer], path: str | Path):
        self.layers, self.path, self.at = layers, path, 0

    def sees(self, *shapes: tuple[int, ...], ahead: int = 0) -> bool:
        at = self.at + ahead
        return at < len(self.layers) and self.layers[at].shapes == list(shapes)

    def take(self, *shapes: tuple[int, ...]) -> None:
        if not self.sees(*shapes):
            if self.at >= len(self.layers):
                found = f"it ends after {len(self.layers)} layers"
            else:
                found = f"layer {self.layers[self.at].name} has shapes {self.layers[self.at].shapes}"
            raise InputError(f"{self.path}: {found} where {list(shapes)} belongs; damaged, or another architecture")
        self.at += 1

    def normalisation(self, width: int) -> None:
        self.take(*[(width,)] * 4)

    def head(self, width: int) -> tuple[tuple[int, ...], int]:
        """Dense layers up to the end: units of the hidden ones, and of the last."""
        units: list[int] = []
        while self.at < len(self.layers):
            shapes = self.layers[self.at].shapes
            out = shapes[0][1] if shapes and len(shapes[0]) == 2 else 0
            self.take((width, out), (out,))
            units.append(out)
            width = out
        return tuple(units[:-1]), units[-1] if units else 0


def _densenet(walk: _Walk) -> Structure:
    channels, width = walk.layers[0].shapes[0][2:]
    growth = width // 2
    walk.take((7, 7, channels, 2 * growth))
    walk.normalisation(width)
    blocks = [0]
    while True:
        walk.normalisation(width)
        if walk.sees((3, 3, 4 * growth, growth), ahead=2):
            walk.take((1, 1, width, 4 * growth))
            walk.normalisation(4 * growth)
            walk.take((3, 3, 4 * growth, growth))
            width += growth
            blocks[-1] += 1
        elif walk.sees((1, 1, width, width // 2)):
            walk.take((1, 1, width, width // 2))
            width //= 2
            blocks.append(0)
        else:
            break
    if not all(blocks):
        walk.take((3, 3, 4 * growth, growth))
    hidden, outputs = walk.head(width)
    return Structure("covid-cxnet", {"blocks": blocks, "growth": growth}, channels, hidden, outputs)


def _base_cnn(walk: _Walk) -> Structure:
    channels, filters = walk.layers[0].shapes[0][2:]
    walk.take((5, 5, channels, filters), (filters,))
    for _ in range(4):
        walk.take((3, 3, filters, filters), (filters,))
    shapes = walk.layers[walk.at].shapes if walk.at < len(walk.layers) else []
    flat = shapes[0][0] if shapes and len(shapes[0]) == 2 else 0
    side = math.isqrt(flat // filters)
    if side * side * filters != flat or not flat:
        raise InputError(f"{walk.path}: {flat} features reach the first dense layer: no square of {filters} maps")
    hidden, outputs = walk.head(flat)
    return Structure("base-cnn", {"filters": filters}, channels, hidden, outputs, side)
