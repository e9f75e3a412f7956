"""An analytic torso for the phantom: how many centimetres of tissue, lung and bone each ray passes.

Centimetres on the detector plane: x grows to the patient's left (right in the image), y downwards, y = 0 at the lung
apices. Rays are parallel, back to front (a PA radiograph taken from far away). Everything is float32 [H, W].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from covidcxnet.datasets.tubes import bones, vessels


@dataclass(frozen=True)
class Anatomy:
    """One patient's measures in centimetres, drawn by `draw_anatomy`; nothing in it depends on a label."""

    half_width: float  # of the rib cage inside, at its widest
    depth: float  # of the chest inside, front to back
    height: float  # apex to the top of the right diaphragm dome: how deep the breath was
    left_dome: float  # how much lower the left dome stands
    wall: float  # thickness of the chest wall at the side
    heart: float  # half width of the heart's widest part
    heart_shift: float  # of its middle to the patient's left
    mediastinum: float  # half width of the vessels' pedicle
    knob: float  # radius of the aortic knob
    breast: float  # thickness of the breast shadows, 0 for none
    bone: float  # mineral content, 1 on average
    rib_slope: float  # fall of a rib from spine to side
    rib_half: float  # half height of a rib
    bubble: float  # half width of the stomach's gas bubble, 0 for none
    rotation: float  # of the patient about the long axis: shift of what lies in front, in cm
    vessels: int  # seed of the vessel tree
    mirror: float  # asymmetry of the two sides, -1..1


@dataclass(frozen=True)
class Torso:
    """Path lengths in cm along each ray, and the true shapes on the detector."""

    soft: np.ndarray
    lung: np.ndarray
    bone: np.ndarray
    lungs: np.ndarray  # bool: air-filled lung field, heart and mediastinum excluded
    side: np.ndarray  # -1 in the patient's right half (left in the image), 1 in the left
    lateral: np.ndarray  # 0 at the mediastinum to 1 at the chest wall
    vertical: np.ndarray  # 0 at the apex to 1 at the dome


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """A patient: build, breath, heart and bones drawn independently."""
    build = rng.normal(0, 1)
    half_width = 13.0 + 0.9 * build + rng.normal(0, 0.5)
    ratio = np.clip(rng.normal(0.475, 0.045), 0.38, 0.6)  # cardiothoracic ratio
    measures: dict[str, Any] = {
        "half_width": half_width,
        "depth": 17.0 + 1.2 * build + rng.normal(0, 0.8),
        "height": np.clip(rng.normal(20.0, 1.9), 15.5, 24.5),
        "left_dome": rng.normal(1.2, 0.5),
        "wall": np.clip(rng.normal(2.4, 0.7) + 0.4 * build, 1.2, 4.5),
        "heart": half_width * ratio,
        "heart_shift": rng.normal(1.9, 0.5),
        "mediastinum": np.clip(rng.normal(2.9, 0.35), 2.1, 3.8),
        "knob": rng.uniform(1.3, 2.1),
        "breast": rng.uniform(0.8, 3.5) if rng.random() < 0.45 else 0.0,
        "bone": np.clip(rng.normal(1.0, 0.15), 0.6, 1.4),
        "rib_slope": rng.normal(4.6, 0.9),
        "rib_half": rng.uniform(0.55, 0.75),
        "bubble": rng.uniform(1.5, 3.2) if rng.random() < 0.6 else 0.0,
        "rotation": rng.normal(0, 0.5),
        "vessels": int(rng.integers(2**31)),
        "mirror": rng.normal(0, 0.35),
    }
    # plain numbers: a float64 scalar of NumPy's would turn every array it meets into float64
    plain: dict[str, Any] = {name: value if name == "vessels" else float(value) for name, value in measures.items()}
    return Anatomy(**plain)


def trace(anatomy: Anatomy, x: np.ndarray, y: np.ndarray, scale: float, to_pixel) -> Torso:
    """Line integrals through the torso.

    Parameters
    ----------
    anatomy : Anatomy
        The patient.
    x, y : float32 [H, W]
        Where each pixel's ray crosses the detector plane, in cm.
    scale : float
        Pixels in a centimetre.
    to_pixel : callable
        Inverse of the grid: arrays x, y in cm to columns and rows (tubes are drawn along curves, not per pixel).
    """
    a = anatomy
    left = x > 0
    side = np.where(left, np.float32(1), np.float32(-1))
    ax = np.abs(x)
    # the two halves differ a little in width, and turning the patient widens one and narrows the other
    width = a.half_width * (1 + 0.03 * a.mirror * side) + 0.5 * a.rotation * side

    body = _body(a, ax, y, width)
    outer, inner, middle = _outline(a, ax, y, side, width)
    q = np.where(ax > middle, (ax - middle) / np.maximum(outer - middle, 0.2), (middle - ax) / (middle - inner + 0.2))
    q2 = np.square(np.clip(q, 0, 1))
    blunt = np.where(ax > middle, q2 * np.sqrt(np.sqrt(q2)), q2 * q2 * q2)  # the lung ends bluntly at the mediastinum
    rise = np.sqrt(np.clip(1 - (1 - np.clip(y / (0.55 * a.height), 0, 1)) ** 2, 0, 1))
    cavity = a.depth * (0.30 + 0.70 * rise) * np.sqrt(1 - blunt) * (y > 0)

    dome, below = _diaphragm(a, ax, y, side, width)
    cavity = np.clip(cavity - 2 * below, 0, None)
    heart, central = _mediastinum(a, x, y)
    lung = np.clip(cavity - np.maximum(heart, central), 0, None)
    vertical = np.clip(y / np.maximum(dome, 1), 0, 1.2)
    lateral = np.clip((ax - inner) / np.maximum(outer - inner, 0.5), 0, 1)
    inside = (ax > inner) & (ax < outer) & (y < dome) & (y > 0) & (cavity > 1.0)
    lungs = inside & (np.maximum(heart, central) < 1.0)
    lungs = cv2.morphologyEx(lungs.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)).astype(bool)

    blood = vessels(a, x.shape, scale, to_pixel) * (lung > 0.5)
    lung = np.clip(lung - blood, 0, None)
    air = _airways(a, x, y) + _bubble(a, x, y, dome)
    bone = _spine(a, x, y) + a.bone * bones(a, x.shape, scale, to_pixel)
    soft = np.clip(body - lung - air, 0, None) + _breasts(a, ax, y) * (body > 0)
    return Torso(
        soft=soft.astype(np.float32),
        lung=lung.astype(np.float32),
        bone=(bone * (body > 0)).astype(np.float32),
        lungs=lungs,
        side=side,
        lateral=lateral.astype(np.float32),
        vertical=vertical.astype(np.float32),
    )


def _ellipse(x, y, cx, cy, rx, ry, thickness):
    """Chord through an ellipsoid that is `thickness` deep in its middle."""
    return thickness * np.sqrt(np.clip(1 - ((x - cx) / rx) ** 2 - ((y - cy) / ry) ** 2, 0, None))


def _fourth(x):
    return np.square(np.square(x))


def _body(a: Anatomy, ax, y, width):
    """Trunk, shoulders and neck; the largest of the three chords along each ray."""
    trunk_half = width + a.wall + 1.0 + 0.06 * np.clip(y - 12, 0, None)
    trunk_depth = a.depth + 2 * a.wall + 0.12 * np.clip(y - 0.8 * a.height, 0, None)
    top = np.sqrt(np.clip((y + 3.2) / 7.0, 0, 1))
    trunk = trunk_depth * np.sqrt(np.clip(1 - _fourth(ax / trunk_half), 0, None)) * (0.55 + 0.45 * top)
    # the upper edge of the shoulder falls from the neck outwards; the armpit closes it from below
    edge = -4.2 + 0.30 * np.clip(ax - 5.0, 0, None) + 0.006 * ax**2
    shoulder = 10.0 * np.sqrt(np.clip((y - edge) / 5.0, 0, 1)) * np.sqrt(np.clip((11.5 - y) / 8, 0, 1))
    trunk = trunk * np.sqrt(np.clip((y - edge) / 3.5, 0, 1))
    neck = 11.0 * np.sqrt(np.clip(1 - (ax / 6.2) ** 2, 0, None)) * (y < 4)
    return cv2.GaussianBlur(np.maximum(np.maximum(trunk, shoulder), neck).astype(np.float32), (0, 0), 1.2)


def _outline(a: Anatomy, ax, y, side, width):
    """Outer and inner edge of the lung at height y, and the line between the two on which it is deepest."""
    apex = 4.6 + 0.2 * a.mirror * side
    u = np.clip(y / (0.72 * a.height), 0, 1)
    outer = apex + (width - apex) * (1 - (1 - u) ** 2.3) ** 0.62
    outer = outer - 0.9 * np.clip(y / a.height - 1, 0, None) ** 2 * 10
    v = np.clip(y / 3.5, 0, 1)
    inner = apex + (2.0 - apex) * np.sqrt(1 - (1 - v) ** 2)
    middle = np.clip(0.45 * inner + 0.55 * outer, inner + 0.1, apex + 2.2)
    return outer, inner, middle


def _diaphragm(a: Anatomy, ax, y, side, width):
    """Height of the dome's upper edge, and how much of each ray runs below the dome's surface (half of it)."""
    top = a.height + np.where(side > 0, np.float32(a.left_dome), np.float32(0))
    centre = 0.48 * width
    across = (ax - centre) / (width - centre)
    fall = np.where(across > 0, 4.6 * across**2, 1.6 * across**2)
    dome = top + fall
    # the dome curves down to front and back as it does to the side: rays just under its top soon meet only abdomen
    below = 0.5 * a.depth * np.sqrt(np.clip((y - dome) / 2.2, 0, None))
    return dome, below


def _mediastinum(a: Anatomy, x, y):
    """Chords through the heart and through the vessels and gullet above it."""
    floor = a.height + 0.5 * a.left_dome + 1.6
    x = x - a.rotation
    tilt = 0.45
    hx, hy = a.heart_shift, floor - 0.62 * a.heart - 1.0
    dx, dy = x - hx, y - hy
    along, across = dx * np.cos(tilt) + dy * np.sin(tilt), -dx * np.sin(tilt) + dy * np.cos(tilt)
    chambers = 13.0 * np.sqrt(np.clip(1 - (along / a.heart) ** 2 - (across / (0.78 * a.heart)) ** 2, 0, None))
    atrium = _ellipse(x, y, -0.9, hy - 0.6, 0.46 * a.heart, 0.80 * a.heart, 12.0)
    trunk = _ellipse(x, y, 1.5, hy - 0.80 * a.heart, 2.6, 3.4, 9.0)
    heart = np.maximum(np.maximum(chambers, atrium), trunk)

    half = a.mediastinum * (0.80 + 0.20 * np.clip((6 - np.abs(y - 5)) / 6, 0, 1)) + 0.6 * np.clip(-y / 4, 0, 1)
    column = 9.0 * np.sqrt(np.clip(1 - _fourth(x / half), 0, None))
    knob = _ellipse(x, y, a.mediastinum - 0.45 * a.knob + 0.5, 5.6, a.knob, a.knob * 1.1, 6.0)
    aorta = 2.6 * np.sqrt(np.clip(1 - ((x - 1.6) / 1.35) ** 2, 0, None)) * (y > 5.6) * 1.6
    return heart, np.maximum(np.maximum(column, knob), aorta)


def _airways(a: Anatomy, x, y):
    """Windpipe down to the carina and the two main bronchi."""
    carina = 0.36 * a.height
    x = x - 0.6 * a.rotation + 0.25
    trachea = 1.6 * np.sqrt(np.clip(1 - (x / 0.85) ** 2, 0, None)) * np.clip((carina - y) / 0.8, 0, 1)
    down = np.clip(y - carina, 0, None)
    open_ = np.clip((3.2 - down) / 1.5, 0, 1) * (y > carina - 0.4)
    right = np.sqrt(np.clip(1 - ((x + 0.4 + 0.75 * down) / 0.65) ** 2, 0, None))
    left = np.sqrt(np.clip(1 - ((x - 0.4 - 1.25 * down) / 0.75) ** 2, 0, None))
    return trachea + 1.1 * np.maximum(right, left) * open_


def _bubble(a: Anatomy, x, y, dome):
    if not a.bubble:
        return np.float32(0)
    cy = a.height + a.left_dome + 2.6
    return _ellipse(x, y, 6.0, cy, a.bubble, 0.65 * a.bubble, 2.2 * a.bubble) * (y > dome + 0.6)


def _breasts(a: Anatomy, ax, y):
    if not a.breast:
        return np.float32(0)
    cy = 0.70 * a.height
    lower = _ellipse(ax, y, 0.62 * a.half_width, cy, 6.2, 5.2, a.breast)
    return lower * np.clip((y - cy + 5) / 5, 0, 1)


def _spine(a: Anatomy, x, y):
    """Vertebral bodies with their discs, pedicles and the spinous processes."""
    pitch = 2.35
    phase = (y / pitch) % 1.0
    body = 1 - 0.45 * np.exp(-(((phase - 0.5) / 0.13) ** 2))
    half = 1.45 + 0.03 * np.clip(y, 0, None)
    bodies = 2.6 * np.sqrt(np.clip(1 - _fourth(x / half), 0, None)) * body
    spinous = 1.1 * np.exp(-(((x - 0.25 * a.rotation) / 0.32) ** 2) - ((phase - 0.9) / 0.22) ** 2)
    pedicles = 0.8 * np.exp(-(((np.abs(x) - 0.75 * half) / 0.3) ** 2) - ((phase - 0.05) / 0.16) ** 2)
    return a.bone * (bodies + spinous + pedicles) * 0.30
