"""The comparison sheet: one radiograph under every enhancement, with the histograms below."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from enhancement.bihistogram import beasf
from enhancement.checks import Gray, count_levels
from enhancement.errors import InputError, printable
from enhancement.files import whole_file
from enhancement.filters import adaptive_equalize, clahe, equalize
from enhancement.radiograph import as_gray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHEET_SUFFIXES = (".png", ".jpg", ".jpeg", ".pdf", ".svg", ".tif", ".tiff", ".webp")
GAMMAS = (0.5, 1.0, 1.5, 2.0)

_INK, _FAINT, _BARS, _MARK = "#1a1a1a", "#8a8a8a", "#4a6785", "#b5442e"
_STYLE: Any = {"font.family": "DejaVu Sans", "font.size": 7, "axes.linewidth": 0.5, "text.color": _INK}
# Inches: a column, the gap between columns, the frame, a histogram, and the room above, within and below a band.
_COLUMN, _GUTTER, _FRAME, _BARS_HEIGHT = 1.75, 0.12, 0.2, 0.55
_TITLE, _GAP, _TICKS, _NOTE = 0.5, 0.08, 0.2, 0.25
_LEVELS_PER_BAR = 4  # a table leaves some levels empty and fills their neighbours: a comb at one level a bar


def draw_sheet(
    images: Sequence[Gray],
    titles: Sequence[str],
    *,
    gammas: Sequence[float] = GAMMAS,
    histogram: Literal["levels", "range"] = "levels",
    clip_limit: float = 2.0,
    tile_grid: Sequence[int] = (8, 8),
    radius: int = 40,
) -> Figure:
    """Draw each radiograph as it is, equalised as a whole and locally, under CLAHE and under BEASF at several gammas.

    The layout follows figures 3 and 4 of the COVID-CXNet paper, with the grey-level histogram of each picture below it;
    a line marks its mean. Images are ``uint8 [H, W]`` of any sizes, with a title each.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    columns = 4 + len(gammas)
    heights = [min(max(image.shape[0] / image.shape[1], 0.4), 1.6) * _COLUMN for image in images]
    width = 2 * _FRAME + columns * (_COLUMN + _GUTTER) - _GUTTER
    height = sum(_TITLE + picture + _GAP + _BARS_HEIGHT + _TICKS for picture in heights) + _NOTE
    with rc_context(_STYLE):
        figure = Figure(figsize=(width, height), facecolor="white")
        y = height
        for image, title, picture in zip(images, titles, heights, strict=True):
            y -= _TITLE
            # As it is: matplotlib takes what stands between two dollar signs for a formula.
            plain: Any = {"parse_math": False, "fontsize": 8, "weight": "bold", "va": "bottom"}
            figure.text(_FRAME / width, (y + 0.22) / height, printable(title), **plain)
            image = as_gray(image)
            variants = [
                ("original", image),
                ("histogram equalisation", equalize(image)),
                (f"local equalisation, disk {radius}", adaptive_equalize(image, radius)),
                (f"CLAHE, clip {clip_limit:g}", clahe(image, clip_limit, tile_grid)),
                *((f"BEASF, \N{GREEK SMALL LETTER GAMMA} = {g:g}", beasf(image, g, histogram)) for g in gammas),
            ]
            # Black margins and saturated areas pile up at both ends: cut off, or nothing else would be seen.
            peak = max(float(_shares(pixels)[2:-2].max()) for _, pixels in variants) * 1.1 or 1.0
            for index, (name, pixels) in enumerate(variants):
                x = _FRAME + index * (_COLUMN + _GUTTER)
                _picture(_axes(figure, x, y - picture, _COLUMN, picture), pixels, f"({chr(97 + index)}) {name}")
                bottom = y - picture - _GAP - _BARS_HEIGHT
                _histogram(_axes(figure, x, bottom, _COLUMN, _BARS_HEIGHT), pixels, peak)
            y -= picture + _GAP + _BARS_HEIGHT + _TICKS
        note = "Below each picture: share of pixels by grey level, one scale per row, cut at the top; line: mean."
        figure.text(_FRAME / width, 0.09 / height, note, fontsize=6, color=_FAINT, va="bottom")
    return figure


def save_sheet(figure: Figure, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write the figure, whole or not at all, in the format that the name ends in."""
    path = check_sheet(path, overwrite=overwrite)
    from matplotlib import rc_context

    with whole_file(path) as partial, rc_context(_STYLE):
        figure.savefig(partial, dpi=200)
    return path


def check_sheet(path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Return the path if a sheet may be written there, before any work is done."""
    path = Path(path)
    if path.suffix.lower() not in SHEET_SUFFIXES:
        raise InputError(f"{path}: ending {path.suffix!r} cannot be drawn; {', '.join(SHEET_SUFFIXES)} expected")
    if path.exists() and not overwrite:
        raise InputError(f"{path}: exists already and was left as it is; --overwrite replaces it")
    return path


def _axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    w, h = figure.get_size_inches()
    return figure.add_axes((left / w, bottom / h, width / w, height / h))


def _picture(axes: Axes, pixels: Gray, name: str) -> None:
    scale = 500 / max(pixels.shape)
    if scale < 1:  # what the print shows, not more: vector formats embed every pixel
        size = max(round(pixels.shape[1] * scale), 1), max(round(pixels.shape[0] * scale), 1)
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
    axes.set_title(name, fontsize=7, pad=3, loc="left")
    axes.set_axis_off()


def _histogram(axes: Axes, pixels: Gray, peak: float) -> None:
    edges = np.arange(0, 257, _LEVELS_PER_BAR)
    axes.stairs(_shares(pixels), edges, fill=True, color=_BARS, linewidth=0)
    axes.axvline(float(pixels.mean()), color=_MARK, linewidth=0.8)
    axes.set(xlim=(0, 256), ylim=(0, peak), xticks=(0, 128, 255), yticks=())
    axes.tick_params(length=2, width=0.5, pad=1.5, labelsize=5.5, colors=_FAINT)
    first, _, last = axes.get_xticklabels()  # inwards, or 255 runs into the next column's 0
    first.set_horizontalalignment("left")
    last.set_horizontalalignment("right")
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_FAINT)


def _shares(pixels: Gray) -> NDArray[np.float64]:
    return count_levels(pixels).reshape(-1, _LEVELS_PER_BAR).sum(axis=1) / pixels.size
