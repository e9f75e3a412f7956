"""Pictures to look at: lung outlines on radiographs, and contact sheets of them."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

# Okabe and Ito's palette, told apart without colour vision by lightness too.
FOUND = (230, 159, 0)
TRUE = (86, 180, 233)


def draw_outline(
    image: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int] = FOUND, thickness: int | None = None
) -> np.ndarray:
    """Draw the outline of a mask ``bool [H, W]`` on a radiograph, or on what an earlier call returned.

    Returns RGB, ``uint8 [H, W, 3]``; the input is not changed. By default the line is a 300th of the longer side thick.
    """
    if mask.shape != image.shape[:2]:
        raise ValueError(f"mask of shape {mask.shape} for an image of shape {image.shape}")
    drawn = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if image.ndim == 2 else image.copy()
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    width = thickness or max(1, round(max(mask.shape) / 300))
    cv2.drawContours(drawn, contours, -1, colour, width)
    return drawn


def contact_sheet(
    images: Sequence[np.ndarray],
    captions: Sequence[str] = (),
    columns: int = 8,
    side: int = 256,
    legend: Sequence[tuple[str, tuple[int, int, int]]] = (),
) -> np.ndarray:
    """Many pictures (gray or RGB ``uint8``) on one sheet of squares, with captions below; ``uint8 [H, W, 3]``.

    `legend` are words and the colours that they explain, for a line on top.
    """
    lines = max((c.count("\n") + 1 for c in captions), default=0)
    cell = np.full((side + 14 * lines, side, 3), 24, np.uint8)
    rows = -(-len(images) // columns)
    sheet = np.full((rows * cell.shape[0], columns * side, 3), 24, np.uint8)
    # OpenCV's letters have fixed sizes: 14 pixels a line, 0.38 of the font's.
    for i, image in enumerate(images):
        scale = side / max(image.shape[:2])
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        small = cv2.cvtColor(small, cv2.COLOR_GRAY2RGB) if small.ndim == 2 else small
        picture = cell.copy()
        top, left = (side - size[1]) // 2, (side - size[0]) // 2
        picture[top : top + size[1], left : left + size[0]] = small
        for n, line in enumerate(captions[i].split("\n") if i < len(captions) else ()):
            where = (3, side + 11 + 14 * n)
            cv2.putText(picture, line, where, cv2.FONT_HERSHEY_SIMPLEX, 0.38, (255, 255, 255), 1, cv2.LINE_AA)
        row, column = divmod(i, columns)
        top, left = row * cell.shape[0], column * side
        sheet[top : top + cell.shape[0], left : left + side] = picture
    if not legend:
        return sheet
    strip, left = np.full((20, sheet.shape[1], 3), 24, np.uint8), 3
    for text, colour in legend:
        cv2.putText(strip, text, (left, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)
        left += cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.45, 1)[0][0] + 16
    return np.vstack([strip, sheet])
