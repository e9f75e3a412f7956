"""Whether a lung mask can be trusted: by its area, components, balance, position, shape, certainty."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from .postprocessing import component_areas
from .regions import box_of


@dataclass(frozen=True)
class Limits:
    """What a trustworthy mask of a frontal radiograph looks like; each is the lowest or highest value still trusted.

    Chosen by looking at the masks of 984 frontal radiographs of eight sources (children among them) and of 63 other
    pictures: lateral views, CT slices, other body parts, photographs.
    """

    area_fraction: tuple[float, float] = (0.06, 0.65)  # lungs' share of the radiograph
    components: int = 4  # pieces before cleaning that are larger than a speck
    balance: float = 0.35  # area of the smaller over that of the larger half of the mask, left and right of its middle
    # How far the mask's centre may lie from the radiograph's, horizontally and vertically, as a fraction of its size.
    position: tuple[float, float] = (0.2, 0.35)
    # Height of the mask at the lowest column of its middle third over its greatest height: lungs stand apart.
    joined: float = 0.5
    compactness: float = 0.7  # mask's share of the convex hulls of its two halves
    certainty: float = 0.78  # mean of |2p - 1| over the mask and a band around it
    aspect: tuple[float, float] = (0.6, 2.2)  # width over height of the mask's box
    agreement: float = 0.7  # Dice between the masks of the two conventions, where the network has both


@dataclass(frozen=True)
class Verdict:
    """Measurements of a lung mask, as in `Limits`, and whether it can be trusted."""

    trusted: bool
    reasons: tuple[str, ...]  # why not; empty where trusted
    area_fraction: float = 0.0
    components: int = 0
    balance: float = 0.0
    position: tuple[float, float] = (0.0, 0.0)  # centre (row, column) as fractions of height and width, 0..1
    joined: float = 0.0
    compactness: float = 0.0
    certainty: float = 0.0
    aspect: float = 0.0
    agreement: float | None = None  # None where the network knows one convention
    # Score of the rule that belongs to the network: below 0 it is no upright frontal chest radiograph, whatever the
    # mask; None where none belongs to it. It has no part in `trusted`, on which the crop and so predictions depend.
    frontal: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        values = dataclasses.asdict(self)
        return {**values, "reasons": list(self.reasons), "position": list(self.position)}


def judge(
    mask: np.ndarray,
    probability: np.ndarray,
    other: np.ndarray | None = None,
    *,
    threshold: float = 0.5,
    limits: Limits = Limits(),
) -> Verdict:
    """Judge a cleaned mask ``bool [H, W]`` by itself and by the soft map that it came from.

    Any resolution will do, with the radiograph's aspect ratio. `other` is the soft map of the other mask convention. An
    empty mask is not trusted, with the reason "no lungs found".
    """
    box = box_of(mask)
    if box is None:
        return Verdict(False, ("no lungs found",))
    raw = probability >= threshold
    height, width = mask.shape
    top, left, bottom, right = box
    areas = component_areas(raw)
    pieces = int(np.count_nonzero(areas >= max(0.05 * areas[0], 1e-3 * mask.size))) if areas.size else 0

    # The two lungs part at the column of the middle third that crosses the mask least, the nearest to its centre.
    third = (right - left) // 3
    crossing = mask[:, left + third : right - third].sum(axis=0)
    lowest = np.flatnonzero(crossing == crossing.min()) + left + third
    middle = int(lowest[np.argmin(np.abs(lowest - (left + right) / 2))])
    halves = mask[:, :middle], mask[:, middle:]
    smaller, larger = sorted(np.count_nonzero(half) for half in halves)

    pixels = mask.astype(np.uint8)
    rows, columns = (cv2.reduce(pixels, axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel() for axis in (1, 0))
    area = int(rows.sum())
    band = cv2.dilate(pixels, np.ones((3, 3), np.uint8), iterations=2).astype(bool) | raw
    measured: dict[str, Any] = {
        "area_fraction": area / mask.size,
        "components": pieces,
        "balance": float(smaller / larger),
        "position": (
            float((rows @ np.arange(height) / area + 0.5) / height),
            float((columns @ np.arange(width) / area + 0.5) / width),
        ),
        "joined": float(crossing.min() / columns.max()),
        "compactness": float(min(1.0, area / sum(map(_hull_area, halves)))),
        "certainty": float(np.abs(2 * probability[band] - 1).mean()),
        "aspect": (right - left) / (bottom - top),
    }
    if other is not None:
        both, sizes = np.count_nonzero(raw & (other >= threshold)), np.count_nonzero(raw)
        measured["agreement"] = float(2 * both / (sizes + np.count_nonzero(other >= threshold)))
    reasons = tuple(_reasons(measured, limits))
    return Verdict(not reasons, reasons, **measured)


def _reasons(measured: dict[str, Any], limits: Limits):
    """A line for each limit that is broken."""
    area, (row, column) = measured["area_fraction"], measured["position"]
    low, high = limits.area_fraction
    if not low <= area <= high:
        yield f"lungs cover {area:.0%} of the radiograph ({low:.0%} to {high:.0%} expected)"
    if measured["components"] > limits.components:
        yield f"{measured['components']} separate pieces (at most {limits.components} expected)"
    if measured["balance"] < limits.balance:
        yield f"one half has {measured['balance']:.0%} of the other's area (at least {limits.balance:.0%} expected)"
    if abs(column - 0.5) > limits.position[0] or abs(row - 0.5) > limits.position[1]:
        yield f"centre at {column:.0%} of the width and {row:.0%} of the height (near the middle expected)"
    if measured["joined"] > limits.joined:
        yield f"one piece: {measured['joined']:.0%} of its height in the middle (at most {limits.joined:.0%} expected)"
    if measured["compactness"] < limits.compactness:
        yield f"ragged: {measured['compactness']:.0%} of its convex hulls (at least {limits.compactness:.0%} expected)"
    if measured["certainty"] < limits.certainty:
        yield f"uncertain: {measured['certainty']:.2f} (at least {limits.certainty:.2f} expected)"
    narrow, wide = limits.aspect
    if not narrow <= measured["aspect"] <= wide:
        yield f"{measured['aspect']:.2f} times as wide as high ({narrow:g} to {wide:g} expected)"
    agreement = measured.get("agreement")
    if agreement is not None and agreement < limits.agreement:
        yield f"masks with and without the heart agree by {agreement:.2f} (at least {limits.agreement:.2f} expected)"


def _hull_area(mask: np.ndarray) -> int:
    """Pixels of the convex hull of a mask."""
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not outlines:
        return 0
    hull = np.zeros(mask.shape, np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(np.concatenate(outlines)), 1)
    return int(np.count_nonzero(hull))
