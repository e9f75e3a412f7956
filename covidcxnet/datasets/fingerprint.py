"""Perceptual hashes of radiographs, 64 bits of an image and of windows of it, and the search for near ones.

An image becomes an equalised thumbnail, which undoes gamma and windowing; a bit says whether one low frequency of its
cosine transform lies above what is usual in the collection (after Zauner 2010, pHash). A cropped copy has the hash of a
window of the original, so windows are hashed too: as the transform is linear, one pair of matrix products gives all.
Near hashes are found by bit sampling (Indyk and Motwani 1998): in each of some tables entries are sorted by a few bits
of their hash; what agrees in all of those is compared in full.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import cv2
import numpy as np

SIDE = 64  # of a thumbnail, in pixels
LOW = 8  # frequencies along an axis; more would not survive the misfit of a crop to the nearest window
# of width and of height; every pair of them is a window
INTERVALS = ((0.0, 1.0), (0.0, 0.9), (0.05, 0.95), (0.1, 1.0), (0.0, 0.8), (0.1, 0.9), (0.2, 1.0))
WINDOWS = tuple((top, bottom, left, right) for top, bottom in INTERVALS for left, right in INTERVALS)
CODE = 254.0  # length of a code
TABLES = 24  # of the search; more find more of the far copies and take longer
_BATCH = 256
_AT_ONCE = 1 << 21  # comparisons held in memory
_CROWD = 2000  # entries of one key; beyond it the key says nothing (blank or test images) and is passed over


def thumbnail(image: np.ndarray) -> np.ndarray | None:
    """Equalised ``uint8 [SIDE, SIDE]`` of an image ``uint8 [H, W]`` without its dark margins; None if it is blank."""
    inside = without_margins(image, 12, 0.05)
    if int(inside.max()) - int(inside.min()) < 8:
        return None
    return cv2.equalizeHist(cv2.resize(inside, (SIDE, SIDE), interpolation=cv2.INTER_AREA))


def without_margins(image: np.ndarray, level: int, share: float) -> np.ndarray:
    """An image ``uint8 [H, W]`` without margins of padding and collimation; itself where hardly anything remains."""
    bright = cv2.threshold(np.ascontiguousarray(image), level, 1, cv2.THRESH_BINARY)[1]
    sums = (cv2.reduce(bright, axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel() for axis in (1, 0))
    rows, columns = (np.flatnonzero(s > share * n) for s, n in zip(sums, image.shape[::-1], strict=True))
    if len(rows) < 8 or len(columns) < 8:
        return image
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def encode(thumbnails: np.ndarray, out: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Hash and code of every window of thumbnails uint8 [N, SIDE, SIDE]; `out` takes the codes, say a mapped file.

    Hashes are uint64 [N, len(WINDOWS) + 1], the first of the whole image, the last of its mirror image. Codes are int8
    [N, len(WINDOWS) + 1, LOW * LOW], what the bits are the signs of, `CODE` times unit vectors: their dot product is a
    correlation.
    """
    centre, spread = _usual(thumbnails)
    if out is None:
        out = np.empty((len(thumbnails), len(WINDOWS) + 1, LOW * LOW), np.int8)
    hashed = np.empty((len(thumbnails), len(WINDOWS) + 1), np.uint64)
    # a mirror image has the odd horizontal frequencies with the other sign
    flip = np.tile(np.where(np.arange(LOW) % 2, -1, 1), LOW).astype(np.float32)
    for start in range(0, len(thumbnails), _BATCH):
        part = slice(start, start + _BATCH)
        values = _coefficients(thumbnails[part])
        values = (np.concatenate([values, values[:, :1] * flip], axis=1) - centre) / spread
        values[..., 0] = 0
        hashed[part] = np.packbits(values > 0, axis=-1).view(np.uint64)[..., 0]
        length = np.linalg.norm(values, axis=-1, keepdims=True)
        out[part] = np.clip(np.round(values * (CODE / np.maximum(length, 1e-6))), -127, 127)
    return hashed, out


def near(
    queries: np.ndarray, entries: np.ndarray, radius: int, *, bits: int | None = None, seed: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Indices of queries uint64 [Q] and entries uint64 [E] that differ in at most `radius` bits, and in how many.

    A key of a table has `bits`: by default as many as keep the comparisons at about a million a table. A pair that
    differs in a share p of its bits is met with probability 1 - (1 - (1 - p) ** bits) ** `TABLES`; it may come again.
    """
    if not len(queries) or not len(entries):
        return
    bits = bits or int(np.clip(np.log2(len(queries) * float(len(entries))) - 20, 8, 24))
    random = np.random.default_rng(seed)
    for _ in range(TABLES):
        # bit 7 of the first byte is the constant coefficient and says nothing
        chosen = random.permutation([bit for bit in range(64) if bit != 7])[:bits]
        keys = _key(entries, chosen)
        order = np.argsort(keys, kind="stable")
        keys, wanted = keys[order], _key(queries, chosen)
        first = np.searchsorted(keys, wanted, "left")
        count = np.searchsorted(keys, wanted, "right") - first
        count[count > _CROWD] = 0
        ends, start = np.cumsum(count), 0
        while start < len(queries):
            done = ends[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, done + _AT_ONCE, "right")))
            number = count[start:stop]
            if total := int(number.sum()):
                query = np.repeat(np.arange(start, stop), number)
                within = np.arange(total) - np.repeat(np.cumsum(number) - number, number)
                entry = order[np.repeat(first[start:stop], number) + within]
                distance = np.bitwise_count(queries[query] ^ entries[entry])
                keep = distance <= radius
                yield query[keep], entry[keep], distance[keep]
            start = stop


def _key(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    key = np.zeros(len(values), np.uint32)
    for bit in chosen:
        key = (key << np.uint32(1)) | ((values >> np.uint64(bit)) & np.uint64(1)).astype(np.uint32)
    return key


def _coefficients(thumbnails: np.ndarray) -> np.ndarray:
    """Cosine coefficients of every window, float32 [N, len(WINDOWS), LOW * LOW], of length 1, the constant one 0."""
    basis, count = _basis(), len(INTERVALS)
    values = basis @ thumbnails.astype(np.float32) @ basis.T
    values = values.reshape(-1, count, LOW, count, LOW).transpose(0, 1, 3, 2, 4).reshape(-1, count**2, LOW * LOW)
    values[..., 0] = 0
    return values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-6)


def _usual(thumbnails: np.ndarray, sample: int = 4096) -> tuple[np.ndarray, np.ndarray]:
    """Median and spread of each coefficient of whole images, float32 [LOW * LOW] each; 0 and 1 of too few to say."""
    if len(thumbnails) < 32:
        return np.zeros(LOW * LOW, np.float32), np.ones(LOW * LOW, np.float32)
    rows = np.unique(np.linspace(0, len(thumbnails) - 1, sample).astype(int))
    parts = [_coefficients(thumbnails[rows[i : i + _BATCH]])[:, 0] for i in range(0, len(rows), _BATCH)]
    every = np.concatenate(parts)
    centre = np.median(every, axis=0)
    return centre, np.percentile(np.abs(every - centre), 68, axis=0) + 1e-4


@cache
def _basis() -> np.ndarray:
    """Cosines over each interval, float32 [len(INTERVALS) * LOW, SIDE]; pixels count by their share in it."""
    edges = np.arange(SIDE + 1) / SIDE
    rows = []
    for start, stop in INTERVALS:
        share = np.clip(np.minimum(edges[1:], stop) - np.maximum(edges[:-1], start), 0, None) * SIDE
        place = np.clip(((edges[1:] + edges[:-1]) / 2 - start) / (stop - start), 0, 1)
        rows += [share * np.cos(np.pi * k * place) / share.sum() for k in range(LOW)]
    return np.array(rows, np.float32)
