"""The phantom's anatomy: how many centimetres of tissue, lung, blood and bone each ray passes through a torso.

Centimetres on the detector plane: x grows to the patient's left (right in the image), y downwards, y = 0 at the lung
apices. Rays are parallel, back to front (a PA radiograph taken from far away). Everything is float32 [H, W].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np


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
    ratio = np.clip(rng.normal(0.475, 0.045), 0.38, 0.6)  # cardiothoracic; above 0.5 a radiologist calls it enlarged
    # the order of the draws is part of the phantom: changing it changes every picture of a seed
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

    `x` and `y`, float32 [H, W], are where each pixel's ray crosses the detector plane, in cm; `scale` is in pixels per
    cm. `to_pixel` is the inverse of the grid, as tubes are drawn along curves, not per pixel.
    """
    a = anatomy
    side = np.where(x > 0, np.float32(1), np.float32(-1))
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

    blood = _vessels(a, x.shape, scale, to_pixel) * (lung > 0.5)
    lung = np.clip(lung - blood, 0, None)
    air = _airways(a, x, y) + _bubble(a, x, y, dome)
    tubes = _sweep(_ribs(a), x.shape, scale, to_pixel, a.rib_half, 0.55, shell=0.5)
    tubes += 1.25 * _sweep(_clavicles(a), x.shape, scale, to_pixel, 0.62, 0.62, shell=0.45)
    bone = _spine(a, x, y) + a.bone * (tubes + _shoulder(a, x.shape, scale, to_pixel))
    soft = np.clip(body - lung - air, 0, None) + _breasts(a, ax, y) * (body > 0)
    parts = (soft, lung, bone * (body > 0), lateral, vertical)
    soft, lung, bone, lateral, vertical = (part.astype(np.float32) for part in parts)
    return Torso(soft, lung, bone, lungs, side, lateral, vertical)


def _ellipse(x, y, cx, cy, rx, ry, thickness):
    """Chord through an ellipsoid that is `thickness` deep in its middle."""
    return thickness * np.sqrt(np.clip(1 - ((x - cx) / rx) ** 2 - ((y - cy) / ry) ** 2, 0, None))


def _fourth(x):
    return np.square(np.square(x))  # NumPy's x**4 goes through the general power, which is slow


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
    dome = top + np.where(across > 0, 4.6 * across**2, 1.6 * across**2)
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


def _vessels(a: Anatomy, shape, scale, to_pixel):
    """Vessels fanning out from both hila, each generation thinner; centimetres of blood along each ray."""
    rng = np.random.default_rng(a.vessels)  # a stream apart: the tree does not depend on pose or lesion
    total = np.zeros(shape, np.float32)
    hilum = 0.47 * a.height
    per_side = 11
    sides = np.repeat([-1.0, 1.0], per_side)
    px = sides * (2.6 + 0.3 * a.mirror) + a.rotation * 0.5
    py = hilum - 0.5 * (sides > 0) + rng.normal(0, 0.7, len(sides))
    angle = np.tile(np.linspace(-1.25, 1.45, per_side), 2) + rng.normal(0, 0.12, len(sides))
    s = np.linspace(0, 1, 70, dtype=np.float32)[None, :]
    for radius, length, density in ((0.34, 4.2, 1.5), (0.24, 3.4, 1.8), (0.17, 3.0, 2.0), (0.12, 2.6, 2.2)):
        n = len(px)
        reach = (length * rng.uniform(0.7, 1.3, n))[:, None]
        bend = rng.normal(0, 0.25, n)[:, None]
        heading = angle[:, None] + bend * s
        xs = px[:, None] + sides[:, None] * reach * s * np.cos(heading)
        ys = py[:, None] + reach * s * np.sin(heading)
        weight = np.broadcast_to(density * reach / s.shape[1], xs.shape)
        total += _sweep([v.ravel() for v in (xs, ys, weight)], shape, scale, to_pixel, radius, radius, shell=0.0)
        # two children each, one to either side
        px, py = np.repeat(xs[:, -1], 2), np.repeat(ys[:, -1], 2)
        angle = np.repeat(heading[:, -1], 2) + np.tile([-0.38, 0.38], n) + rng.normal(0, 0.2, 2 * n)
        sides = np.repeat(sides, 2)
    return total


def _ribs(a: Anatomy):
    """Points of ten pairs of ribs and their weight (cm of curve, thinned where a rib turns to cartilage)."""
    t = np.linspace(0.06, 0.92, 260, dtype=np.float32)[None, :]
    phi = t * np.pi  # 0 at the spine, pi at the breastbone
    number = np.arange(10, dtype=np.float32)[:, None]
    start = -1.2 + 2.28 * number * a.height / 21.0
    reach = np.clip((start + 4.5) / (0.72 * a.height), 0.1, 1)
    half = 4.6 + (a.half_width + 0.35 - 4.6) * (1 - (1 - reach) ** 2.3) ** 0.62
    fall = a.rib_slope * (0.75 + 0.06 * number)
    x = half * np.sin(phi) ** 0.9 + 1.2 * (1 - t) * (np.cos(phi) > 0) * np.cos(phi)
    z = -0.5 * a.depth * np.cos(phi)
    # a little up from the spine, then down round the side and on down towards the front
    y = start - 1.1 * np.sin(np.clip(phi * 1.6, 0, np.pi)) + fall * (1 - np.cos(phi)) * 0.95
    weight = np.ones_like(x) * np.clip((0.80 - t) / 0.10, 0.06, 1)
    weight = weight * np.where(number > 7, np.clip((0.70 - t) / 0.1, 0, 1), 1)
    length = np.sqrt(
        np.diff(x, append=x[:, -1:]) ** 2 + np.diff(y, append=y[:, -1:]) ** 2 + np.diff(z, append=z[:, -1:]) ** 2
    )
    length = np.minimum(length, 0.36)
    points = []
    for side in (-1.0, 1.0):
        shift = 0.5 * a.rotation * (1 + z / (0.5 * a.depth))
        points.append((side * x * (1 + 0.03 * a.mirror * side) + shift, y + 0.25 * a.mirror * side, weight * length))
    return [np.concatenate([p[i].ravel() for p in points]) for i in range(3)]


def _clavicles(a: Anatomy):
    t = np.linspace(0, 1, 240, dtype=np.float32)
    x = 1.9 + (a.half_width + 2.0) * t
    y = 4.3 - 4.4 * t - 0.8 * np.sin(2 * np.pi * t)
    length = np.full_like(t, np.hypot(a.half_width + 2.0, 4.0) / len(t))
    xs = [side * x + a.rotation for side in (-1.0, 1.0)]
    return [np.concatenate(xs), np.concatenate([y, y]), np.concatenate([length, length])]


def _shoulder(a: Anatomy, shape, scale, to_pixel):
    """Shoulder blades as thin plates and the heads of the upper arms."""
    image = np.zeros(shape, np.float32)
    w = a.half_width
    for side in (-1, 1):
        corners = np.array([[w - 3.2, 1.0], [w + 2.6, -1.0], [w + 3.6, 1.6], [w - 0.2, 12.2], [w - 1.2, 11.5]])
        cols, rows = to_pixel(side * corners[:, 0], corners[:, 1])
        plate = np.zeros(shape, np.uint8)
        cv2.fillPoly(plate, [np.stack([cols * 8, rows * 8], 1).round().astype(np.int32)], 255, cv2.LINE_AA, 3)
        rim = cv2.GaussianBlur(plate, (0, 0), 0.35 * scale)
        inner = cv2.GaussianBlur(plate, (0, 0), 0.9 * scale)
        image += 0.35 * plate.astype(np.float32) / 255 + 0.8 * np.clip(rim.astype(np.float32) - inner, 0, None) / 255
    cols, rows = to_pixel(np.array([-w - 5.0, w + 5.0]), np.array([0.2, 0.2]))
    yy, xx = np.ogrid[: shape[0], : shape[1]]
    for col, row in zip(cols, rows, strict=True):
        image += 2.2 * np.sqrt(np.clip(1 - ((xx - col) ** 2 + (yy - row) ** 2) / (2.4 * scale) ** 2, 0, None))
    return image


def _sweep(points, shape, scale, to_pixel, half_height, half_width, shell):
    """Chords through a body swept along points: the curve's length per pixel, convolved with the body's own chord.

    `shell` in 0..1 hollows the body out, as bone is dense only at its surface.
    """
    x, y, weight = points
    cols, rows = to_pixel(x, y)
    c0, r0 = np.floor(cols).astype(np.int32), np.floor(rows).astype(np.int32)
    fc, fr = (cols - c0).astype(np.float32), (rows - r0).astype(np.float32)
    h, w = shape
    line = np.zeros((h + 1) * (w + 1), np.float32)
    ok = (c0 >= 0) & (c0 < w) & (r0 >= 0) & (r0 < h)
    c0, r0, fc, fr, weight = c0[ok], r0[ok], fc[ok], fr[ok], weight[ok]
    at = r0 * (w + 1) + c0
    for step, share in ((0, (1 - fc) * (1 - fr)), (1, fc * (1 - fr)), (w + 1, (1 - fc) * fr), (w + 2, fc * fr)):
        line += np.bincount(at + step, weight * share, len(line)).astype(np.float32)
    line = line.reshape(h + 1, w + 1)[:h, :w]
    ry, rx = half_height * scale, half_width * scale
    n = int(np.ceil(max(ry, rx))) + 1
    ky, kx = np.mgrid[-n : n + 1, -n : n + 1].astype(np.float32)
    solid = _dot(kx, ky, rx, ry)
    kernel = solid - shell * _dot(kx, ky, 0.7 * rx, 0.7 * ry)
    # a unit of curve carries the body's cross section, pi * rx * ry; the kernel spreads it over its area in cm
    kernel *= np.pi * half_height * half_width * scale**2 / solid.sum()
    return cv2.filter2D(line, -1, kernel, borderType=cv2.BORDER_CONSTANT)


def _dot(kx, ky, rx, ry):
    """Ellipse with a soft edge of one pixel; it fades out below one pixel's size instead of vanishing."""
    rx, ry = max(rx, 0.6), max(ry, 0.6)
    return np.clip(0.5 + min(rx, ry) * (1 - np.sqrt((kx / rx) ** 2 + (ky / ry) ** 2)), 0, 1)
