"""One radiograph's explanation: the map, what it explains, and how to draw it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from covidcxnet.explain.grid import Grid, enlarge, remark
from covidcxnet.explain.lime import POOR_FIT
from covidcxnet.explain.overlay import outline_box, overlay_heatmap, overlay_lime, panel, save_image
from covidcxnet.preparation.pipeline import MARK, about_image
from covidcxnet.reporting import plots
from enhancement import read_radiograph
from enhancement.errors import InputError, printable
from enhancement.notebook import NotebookDisplay
from segmentation.regions import Frame

METHODS = {"gradcam": "Grad-CAM", "cam": "CAM", "lime": "LIME"}
"""Names of the methods, and how they are written."""

_PANEL_PIXELS = 720  # longer side of a panel's pictures
_LONGEST_NAME = 72  # of a file, in a caption
_TINY = float(np.finfo("float32").tiny)


@dataclass(frozen=True)
class Explanation(NotebookDisplay):
    """Where a classifier finds its evidence in one radiograph; of a file that could not be read only the error."""

    source: Path | np.ndarray = field(repr=False)  # the radiograph as it was given: a file, or uint8 [H, W]
    prediction: Any  # what is explained, a `covidcxnet.Prediction`
    method: str  # of `METHODS`
    target: str | None = None  # the class that is explained
    # In the frame of the stack. CAM, Grad-CAM: 0..1 at the feature layer's resolution; LIME: signed weights [S, S].
    map: np.ndarray | None = field(default=None, repr=False)
    grid: Grid | None = None  # where in the stack the map's cells look; None for LIME
    frame: Frame | None = field(default=None, repr=False)  # the way from the stack back to the radiograph
    lungs: np.ndarray | None = field(default=None, repr=False)  # bool [S, S]; None where unknown or not trusted
    fit: float | None = None  # LIME's local R^2
    samples: int | None = None  # LIME's predictions
    note: str = ""  # how the map was computed, where the method alone does not say

    def __repr__(self) -> str:
        target = f", {self.method} of {self.target!r}" if self.target else ""
        return f"Explanation({self.prediction!r}{target})"

    @property
    def path(self) -> Path | None:
        """The file; None for an array."""
        return self.prediction.path

    @property
    def error(self) -> str | None:
        """Why there is no explanation; None if there is one."""
        return self.prediction.error

    @property
    def heatmap(self) -> np.ndarray:
        """What speaks for the class, on the radiograph: ``float32 [H, W]`` in 0..1, 0 outside the region seen."""
        values, frame = self._drawable()
        heat = np.maximum(values, 0)
        heat = enlarge(heat / max(float(heat.max()), _TINY), frame.size, self.grid)
        return frame.to_radiograph(heat).clip(0, 1)

    @property
    def weights(self) -> np.ndarray:
        """The map itself in the radiograph's frame, ``float32 [H, W]``: signed for LIME."""
        values, frame = self._drawable()
        return frame.to_radiograph(values) if self.method == "lime" else self.heatmap

    @property
    def radiograph(self) -> np.ndarray:
        """The radiograph, ``uint8 [H, W]``, read again from its file."""
        return self.source if isinstance(self.source, np.ndarray) else read_radiograph(self.source)

    @property
    def caption(self) -> list[str]:
        """Lines for a figure: class and probability, what is drawn, the lungs, the file."""
        prediction = self.prediction
        drawn = f"{METHODS[self.method]} for {self.target}" + (f" ({self.note})" if self.note else "")
        if self.target != prediction.label:
            drawn += f" (probability {prediction.probabilities[self.target or '']:.2f})"
        if self.fit is not None:
            poor = " (poor: the map says little)" if self.fit < POOR_FIT else ""
            drawn += f"; {self.samples:,} samples" if self.samples else ""
            drawn += f"; local fit R\N{SUPERSCRIPT TWO} {self.fit:.2f}{poor}"
        values, frame = self._drawable()
        if note := remark(values, None if self.method == "lime" else self.lungs, self.grid):
            drawn += f"; {note}"
        if not frame.whole:
            drawn += "; corners: what the network sees"
        mark = MARK if prediction.notes else ""
        what = "highest probability" if len(prediction.findings or ()) > 1 else "probability"
        lines = [f"{prediction.label}{mark}, {what} {prediction.probability:.2f}", drawn]
        if prediction.lungs is not None and not prediction.lungs.trusted:
            lines.append("Lungs not found reliably: " + "; ".join(prediction.lungs.reasons))
        # the reason with its numbers stands in the table; a figure has room for the word
        if notes := about_image(prediction.notes):
            problems = ", ".join(note.partition(":")[0] for note in notes)
            lines.append(f"Image in doubt: {problems}")
        if self.path is not None:
            name, half = printable(self.path.name), _LONGEST_NAME // 2 - 1
            lines.append(name if len(name) <= _LONGEST_NAME else f"{name[:half]}...{name[-half:]}")
        return lines

    def overlay(self) -> np.ndarray:
        """The explanation and the lungs' outline on the radiograph at its full size, ``uint8 [H, W, 3]`` RGB."""
        return self.draw(self.radiograph)

    def panel(self) -> Any:
        """Radiograph and overlay side by side with a caption, a `matplotlib.figure.Figure`."""
        # Small radiographs are enlarged, so that lines are drawn finer than their pixels.
        radiograph = plots.resized(self.radiograph, _PANEL_PIXELS)
        return panel(radiograph, self.draw(radiograph), self.caption, METHODS[self.method])

    def save_panel(self, path: str | Path) -> Path:
        """Write `panel` as PNG, whole or not at all."""
        return plots.save(self.panel(), path)

    def save_overlay(self, path: str | Path) -> Path:
        """Write `overlay` as PNG of the radiograph's own size, whole or not at all."""
        return save_image(self.overlay(), path)

    def draw(self, radiograph: np.ndarray) -> np.ndarray:
        """The explanation on the radiograph resized to any ``uint8 [H, W]``; ``uint8 [H, W, 3]`` RGB."""
        values, frame = self._drawable()
        lungs = None
        if self.lungs is not None and self.lungs.any():
            # Resized soft and cut at one half, the outline stays smooth at any size.
            lungs = _fit(frame.to_radiograph(self.lungs.astype("float32")), radiograph.shape) >= 0.5
        if self.method == "lime":
            drawn = overlay_lime(radiograph, _fit(frame.to_radiograph(values), radiograph.shape), lungs)
        else:
            drawn = overlay_heatmap(radiograph, _fit(self.heatmap, radiograph.shape), lungs)
        return outline_box(drawn, frame)

    def _picture(self) -> bytes:
        return plots.png(self.panel())

    def _drawable(self) -> tuple[np.ndarray, Frame]:
        if self.map is None or self.frame is None:
            raise InputError(f"{self.path}: there is no explanation to draw: {self.error}")
        return self.map, self.frame


def _fit(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if values.shape == tuple(shape):
        return values
    how = cv2.INTER_AREA if shape[0] * shape[1] < values.size else cv2.INTER_LINEAR
    return cv2.resize(values, (shape[1], shape[0]), interpolation=how)
