"""Explanations drawn on the radiograph that the person knows: its own orientation, size and grey levels.

Colours are told apart with every common colour vision and on a gray print: heat is inferno, whose lightness rises
evenly; LIME's two signs are blue and orange, and each also has its own mark.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from covidcxnet.reporting import plots
from covidcxnet.reporting.pages import NOTICE
from enhancement.errors import InputError
from enhancement.files import whole_file
from segmentation.regions import Frame

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue


BLUE, ORANGE, SKY = (_rgb(plots.COLOURS[k]) for k in (0, 5, 4))

# Heat below this share of the peak is left out: it is everywhere, and would only fog the radiograph.
_FAINT = 0.1
_OPACITY = 0.6
# LIME regions weaker than this share of the strongest are tinted but not outlined.
_STRONG = 0.5
# Opacity of the dark rim of outlines.
_RIM = 0.45


def overlay_heatmap(radiograph: np.ndarray, heatmap: np.ndarray, lungs: np.ndarray | None = None) -> np.ndarray:
    """Heat on a radiograph, uint8 [H, W, 3]: the stronger, the less transparent; where there is none, it is untouched.

    `heatmap` is float [H, W] in 0..1, in the frame of `radiograph` uint8 [H, W]; `lungs` bool [H, W] are outlined.
    """
    _check(radiograph, heatmap, lungs)
    heat = np.clip(np.nan_to_num(heatmap), 0, 1).astype("float32")
    strength = np.clip((heat - _FAINT) / (1 - _FAINT), 0, 1)
    # The dark end of inferno would look like shadow on a radiograph: begin at its purple.
    index = (255 * (0.3 + 0.65 * heat)).astype("uint8")
    colours = cv2.cvtColor(cv2.applyColorMap(index, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    image = _blend(radiograph, colours, _OPACITY * np.sqrt(strength))
    return image if lungs is None else outline(image, lungs, SKY)


def overlay_lime(radiograph: np.ndarray, weights: np.ndarray, lungs: np.ndarray | None = None) -> np.ndarray:
    """LIME on a radiograph: what supports the class in blue marked +, what speaks against it in orange marked -.

    `weights` float [H, W] are those of the superpixels, in the radiograph's frame; the rest is as in `overlay_heatmap`.
    The strongest regions are outlined.
    """
    _check(radiograph, weights, lungs)
    weights = np.nan_to_num(weights).astype("float32")
    share = weights / max(float(np.abs(weights).max()), float(np.finfo("float32").tiny))
    colours = np.where((share >= 0)[..., None], np.array(BLUE, "uint8"), np.array(ORANGE, "uint8"))
    image = _blend(radiograph, colours, 0.45 * np.abs(share))
    for sign, colour in ((1, BLUE), (-1, ORANGE)):
        strong = sign * share >= _STRONG
        image = outline(image, strong, colour)
        image = _mark(image, strong, sign)
    return image if lungs is None else outline(image, lungs, (255, 255, 255))


def outline(image: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """The edge of a mask ``bool [H, W]`` on a copy of an RGB image, with a dark rim that shows on light and on dark."""
    edges, _ = cv2.findContours(np.ascontiguousarray(mask, "uint8"), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    drawn = np.ascontiguousarray(image).copy()
    width = _line(mask.shape)
    cv2.drawContours(drawn, edges, -1, (0, 0, 0), width + _rim(width), cv2.LINE_AA)
    drawn = cv2.addWeighted(drawn, _RIM, np.ascontiguousarray(image), 1 - _RIM, 0)
    cv2.drawContours(drawn, edges, -1, colour, width, cv2.LINE_AA)
    return drawn


def outline_box(image: np.ndarray, frame: Frame | None) -> np.ndarray:
    """Corners of the part that the network sees, on a copy of an RGB image of any size; nothing where it sees all."""
    if frame is None or frame.whole:
        return image
    drawn, (height, width) = np.ascontiguousarray(image).copy(), image.shape[:2]
    rows = [round(y * height / frame.height) for y in (frame.top, frame.bottom)]
    columns = [round(x * width / frame.width) for x in (frame.left, frame.right)]
    top, bottom = max(0, rows[0]), min(height - 1, rows[1] - 1)
    left, right = max(0, columns[0]), min(width - 1, columns[1] - 1)
    arm, line = max(3, min(bottom - top, right - left) // 10), _line(image.shape)
    for y, down in ((top, arm), (bottom, -arm)):
        for x, across in ((left, arm), (right, -arm)):
            corner = np.array([[x, y + down], [x, y], [x + across, y]])
            for tint, thickness in (((0, 0, 0), line + _rim(line)), ((255, 255, 255), line)):
                cv2.polylines(drawn, [corner], isClosed=False, color=tint, thickness=thickness)
    return drawn


def panel(radiograph: np.ndarray, drawn: np.ndarray, caption: Sequence[str], title: str = "Grad-CAM") -> Figure:
    """Radiograph and overlay side by side, with a scale, a caption and the notice that it is for research only.

    The first line of the caption stands out; the title, "LIME" or another, picks the scale.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width = radiograph.shape
    side = 4.6
    # Very wide or tall images are not worth a figure of their full aspect ratio.
    wide = side * min(max(width / height, 0.5), 2.0)
    total_wide = 2 * wide + 1.1
    # A letter of the bold first line is some 0.1 inch wide, one of the others 0.075.
    first, *rest = [*caption, f"{NOTICE}."]
    heading = textwrap.wrap(first, int((total_wide - 0.2) / 0.1))
    rest = [part for line in rest for part in textwrap.wrap(line, int((total_wide - 0.2) / 0.075))]
    lines = 0.24 * (len(heading) + len(rest)) + 0.2
    total_high = side + lines + 0.45
    figure = Figure(figsize=(total_wide, total_high), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)

    def place(left, bottom, w, h):
        return figure.add_axes((left / total_wide, bottom / total_high, w / total_wide, h / total_high))

    gray: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 255, "interpolation": "antialiased"}
    for picture, name, left in ((radiograph, "Radiograph", 0.1), (drawn, title, 0.2 + wide)):
        plots.image(place(left, lines, wide, side), picture, name, size=11, pad=6, **gray)
    _scale_bar(place(2 * wide + 0.3, lines + 0.15 * side, 0.13, 0.7 * side), title == "LIME")
    for number, text in enumerate([*heading, *rest]):
        bold = number < len(heading)
        style: dict[str, Any] = {"fontsize": 11, "fontweight": "bold"} if bold else {"fontsize": 9}
        y = (lines - 0.14 - 0.24 * number) / total_high
        # File names may hold a dollar sign, which is no formula.
        figure.text(0.1 / total_wide, y, text, va="top", parse_math=False, **style)
    return figure


def save_image(image: np.ndarray, path: str | Path) -> Path:
    """Write ``uint8 [H, W, 3]`` RGB as PNG at its full size, whole or not at all."""
    good, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not good:
        raise InputError(f"{path}: an image of shape {image.shape} can't be written as PNG")
    with whole_file(path) as partial:
        partial.write_bytes(data.tobytes())
    return Path(path)


def heat_colours() -> np.ndarray:
    """The part of inferno that heat is drawn in, from weak to strong: float [128, 4]."""
    from matplotlib import colormaps

    return colormaps["inferno"](np.linspace(0.3, 0.95, 128))


def _scale_bar(axes, signed: bool) -> None:
    if signed:
        blend = np.linspace(-1, 1, 129)[:, None, None]
        side = np.where(blend >= 0, np.array(BLUE) / 255, np.array(ORANGE) / 255)
        ramp = 1 - np.abs(blend) * (1 - side)
        labels = {0: "\N{MINUS SIGN} against", 64: "0", 128: "+ supports"}
    else:
        ramp = heat_colours()[:, None]
        labels = {0: "low", 127: "high"}
    axes.imshow(ramp, aspect="auto", origin="lower")
    axes.set_xticks([])
    turned: dict[str, Any] = {"rotation": 90, "va": "center"} if signed else {}
    axes.set_yticks(list(labels), list(labels.values()), fontsize=8, **turned)
    axes.yaxis.tick_right()
    axes.tick_params(length=0)


def _check(radiograph, values, lungs) -> None:
    if radiograph.dtype != np.uint8 or radiograph.ndim != 2:
        raise InputError(f"overlay: a radiograph of {radiograph.dtype} {radiograph.shape} given, uint8 [H, W] expected")
    for name, array in (("heatmap", values), ("lungs", lungs)):
        if array is not None and array.shape != radiograph.shape:
            raise InputError(f"overlay: {name} of shape {array.shape} given, {radiograph.shape} expected")


def _blend(radiograph, colours, alpha) -> np.ndarray:
    alpha = alpha[..., None]
    return np.round(radiograph[..., None] * (1 - alpha) + colours * alpha).astype("uint8")


def _mark(image, regions, sign: int) -> np.ndarray:
    """A + or - at the innermost point of each large region."""
    count, numbers = cv2.connectedComponents(regions.astype("uint8"))
    arm = max(2, round(max(regions.shape) / 60))
    for number in range(1, count):
        # Padded, so that a region at the edge has its innermost point inside.
        depth = cv2.distanceTransform(np.pad((numbers == number).astype("uint8"), 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
        if depth.max() < 1.3 * arm:
            continue
        y, x = (int(v) for v in np.unravel_index(int(depth.argmax()), depth.shape))
        width = _line(regions.shape) + 1
        for tint, thickness in (((0, 0, 0), width + 3), ((255, 255, 255), width)):
            cv2.line(image, (x - arm, y), (x + arm, y), tint, thickness, cv2.LINE_AA)
            if sign > 0:
                cv2.line(image, (x, y - arm), (x, y + arm), tint, thickness, cv2.LINE_AA)
    return image


def _line(shape) -> int:
    # Reports and notebooks show a picture at less than half its size: a line has to be some pixels wide to survive.
    return max(1, max(shape) // 280)


def _rim(width: int) -> int:
    return 2 * max(1, round(width / 4))
