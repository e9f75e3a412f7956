"""Tubes of the torso: ribs, collarbones and vessels, swept along curves; shoulder blades and upper arms with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from covidcxnet.datasets.torso import Anatomy


def bones(a: Anatomy, shape, scale, to_pixel):
    """Ribs, collarbones, shoulder blades and upper arms as tubes swept along curves."""
    ribs = _ribs(a)
    clavicles = _clavicles(a)
    image = _sweep(ribs, shape, scale, to_pixel, a.rib_half, 0.55, shell=0.5)
    image += 1.25 * _sweep(clavicles, shape, scale, to_pixel, 0.62, 0.62, shell=0.45)
    return image + _shoulder(a, shape, scale, to_pixel)


def vessels(a: Anatomy, shape, scale, to_pixel):
    """Vessels fanning out from both hila, each generation thinner; centimetres of blood along each ray."""
    rng = np.random.default_rng(a.vessels)
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
        points = [v.ravel() for v in (xs, ys, weight)]
        total += _sweep(points, shape, scale, to_pixel, radius, radius, shell=0.0)
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
    heads = [np.array([-w - 5.0, w + 5.0]), np.array([0.2, 0.2]), np.array([0.0, 0.0])]
    cols, rows = to_pixel(heads[0], heads[1])
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
