"""One style for every plot: the palette of Okabe and Ito (2008), line styles that differ without it, one saver.

Every figure is a matplotlib `Figure` of its own: no pyplot, no window, no state left behind.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from enhancement.files import PathLike, whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, GRID_LINE = "#1d2733", "#8a94a0", "#e4e7ea"
# Darkest first, so that a gray print still tells the first three apart; the palette's yellow is too light for a line.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
STYLES: tuple = ("-", (0, (6, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (9, 3)), (0, (3, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P")
# Of what a curve is compared with: chance, perfect calibration.
REFERENCE: dict[str, Any] = {"color": FAINT, "linewidth": 0.8, "linestyle": (0, (2, 3))}
DPI = 130


def colour(k: int) -> str:
    """Colour of the k-th class or run."""
    return COLOURS[k % len(COLOURS)]


def marker(k: int) -> str:
    """Mark of the k-th class or run."""
    return MARKERS[k % len(MARKERS)]


def line(k: int, marker: bool = False) -> dict[str, Any]:
    """Colour, dashes and, if asked for, marker of the k-th line; a second round of colours has other dashes."""
    turn = k + k // len(COLOURS)
    styled = {"color": colour(k), "linestyle": STYLES[turn % len(STYLES)], "linewidth": 1.6}
    return styled | ({"marker": MARKERS[turn % len(MARKERS)], "markersize": 4} if marker else {})


def figure(
    width: float, height: float, rows: int = 1, columns: int = 1, *, ratios: Sequence[float] = (), dpi: int = DPI
) -> tuple[Figure, list[Axes]]:
    """A figure of `width` by `height` inches and its panels, row by row; `ratios` are relative heights of the rows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(width, height), dpi=dpi, facecolor="white", layout="constrained")
    FigureCanvasAgg(drawn)
    panels = drawn.subplots(rows, columns, squeeze=False, height_ratios=ratios or (1,) * rows).ravel()
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(FAINT)
        axes.tick_params(colors=INK, labelsize=8, color=FAINT)
        axes.xaxis.label.set(color=INK, fontsize=9)
        axes.yaxis.label.set(color=INK, fontsize=9)
        axes.title.set(color=INK, fontsize=9.5)
    return drawn, list(panels)


def panels(
    number: int, across: int, inches: tuple[float, float], margin: tuple[float, float] = (0, 0)
) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels, each so many inches wide and high, at most `across` in a row."""
    columns = min(across, number)
    rows = -(-number // columns)
    drawn, places = figure(inches[0] * columns + margin[0], inches[1] * rows + margin[1], rows, columns)
    for axes in places[number:]:
        axes.set_axis_off()
    return drawn, places[:number]


def grid(axes: Axes, axis: str = "both") -> None:
    """Faint lines below the data."""
    axes.grid(axis=axis, color=GRID_LINE, linewidth=0.6)  # type: ignore[arg-type]
    axes.set_axisbelow(True)


def unit_square(axes: Axes, legend: bool = False) -> None:
    """Both axes from 0 to 1, for ROC and precision-recall curves; a legend below them, as curves may lie anywhere."""
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02), aspect="equal")
    grid(axes)
    if legend:
        how: dict[str, Any] = {"fontsize": 8, "frameon": False, "handlelength": 3}
        axes.figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", **how)


def shortened(text: str, longest: int) -> str:
    """The text with an ellipsis where a line is longer."""
    return "\n".join(line if len(line) <= longest else f"{line[: longest - 1]}…" for line in text.splitlines())


def image(axes: Axes, pixels: np.ndarray, title: str = "", *, size: float = 9, pad: float = 3, **how: Any):
    """Show an image without axes under a title, whose text is never read as a formula."""
    axes.set_axis_off()
    # class names may hold a dollar sign
    axes.set_title(title, fontsize=size, pad=pad).set_parse_math(False)
    return axes.imshow(pixels, **how)


def resized(pixels: np.ndarray, side: int) -> np.ndarray:
    """An image ``[H, W]`` or ``[H, W, 3]`` in its own proportions, its longer side of so many pixels."""
    scale = side / max(pixels.shape[:2])
    size = [max(1, round(length * scale)) for length in pixels.shape[1::-1]]
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def corners(points: np.ndarray) -> np.ndarray:
    """A curve float [N, 2] without the points inside straight runs: it looks the same in a fraction of the file."""
    if len(points) < 3:
        return points
    before, after = np.diff(points[:-1], axis=0), np.diff(points[1:], axis=0)
    turns = np.abs(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]) > 1e-12
    return points[np.r_[True, turns, True]]


def svg(drawn: Figure) -> str:
    """The figure as SVG text; the same figure gives the same bytes."""
    import matplotlib

    stream = io.StringIO()
    # fixed salt and no date, or every file would differ
    with matplotlib.rc_context({"svg.hashsalt": "covidcxnet", "svg.fonttype": "path"}):
        drawn.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


def png(drawn: Figure) -> bytes:
    """The figure as PNG at its own resolution; the same figure gives the same bytes."""
    stream = io.BytesIO()
    drawn.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def save(drawn: Figure, path: PathLike) -> Path:
    """Write the figure, whole or not at all: SVG where the name ends so, else PNG."""
    content = svg(drawn).encode() if Path(path).suffix.lower() == ".svg" else png(drawn)
    with whole_file(path) as partial:
        partial.write_bytes(content)
    return Path(path)


def data_uri(content: Figure | str | bytes, kind: str = "") -> str:
    """A figure (as SVG), SVG text or the bytes of a PNG as a data URI, for a page without other files."""
    text = content if isinstance(content, (str, bytes)) else svg(content)
    raw, usual = (text.encode(), "image/svg+xml") if isinstance(text, str) else (text, "image/png")
    return f"data:{kind or usual};base64,{base64.b64encode(raw).decode()}"
