"""One radiograph's explanation: the map, what it explains, and how to draw it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from enhancement.errors import InputError

if TYPE_CHECKING:
    from covidcxnet.classifier import Classifier
    from covidcxnet.explain.grid import Grid
    from covidcxnet.prediction import Prediction
    from segmentation.regions import Frame

METHODS = ("gradcam", "cam", "lime")

# Longer side of a panel's pictures.
_PANEL_PIXELS = 720


@dataclass(frozen=True)
class Explanation:
    """Where a classifier finds its evidence in one radiograph.

    Attributes
    ----------
    source : Path or uint8 [H, W]
        The radiograph, as it was given.
    prediction : Prediction
        What is explained; its `error` is set, and all below is None, for a file that could not be read.
    method : {"gradcam", "cam", "lime"}
    target : str or None
        The class that is explained.
    map : float32 [h, w] or None
        In the frame of the stack. Grad-CAM and CAM: 0..1 at the feature layer's resolution. LIME: signed weights
        ``[S, S]``.
    grid : Grid or None
        Where in the stack the map's cells look; None for LIME.
    frame : Frame or None
        The way from the stack back to the radiograph.
    lungs : bool [S, S] or None
        In the frame of the stack; None where they are unknown or can't be trusted.
    fit : float or None
        LIME's local R^2.
    """

    source: Path | np.ndarray = field(repr=False)
    prediction: Prediction
    method: str
    target: str | None = None
    map: np.ndarray | None = field(default=None, repr=False)
    grid: Grid | None = None
    frame: Frame | None = field(default=None, repr=False)
    lungs: np.ndarray | None = field(default=None, repr=False)
    fit: float | None = None

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
        return self._frame.to_radiograph(self._heat()).clip(0, 1)

    @property
    def weights(self) -> np.ndarray:
        """The map itself in the radiograph's frame, ``float32 [H, W]``: signed for LIME."""
        return self._frame.to_radiograph(self._map) if self.method == "lime" else self.heatmap

    @property
    def radiograph(self) -> np.ndarray:
        """The radiograph, ``uint8 [H, W]``, read again from its file."""
        if isinstance(self.source, np.ndarray):
            return self.source
        from enhancement import read_radiograph

        return read_radiograph(self.source)

    def overlay(self) -> np.ndarray:
        """The explanation and the lungs' outline on the radiograph at its full size, ``uint8 [H, W, 3]`` RGB."""
        return self._draw(self.radiograph)

    def panel(self) -> Any:
        """Radiograph and overlay side by side with a caption, a `matplotlib.figure.Figure`."""
        import cv2

        from covidcxnet.explain.overlay import panel

        radiograph = self.radiograph
        scale = _PANEL_PIXELS / max(radiograph.shape)
        height, width = (max(1, round(side * scale)) for side in radiograph.shape)
        # Small radiographs are enlarged, so that lines are drawn finer than their pixels.
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        radiograph = cv2.resize(radiograph, (width, height), interpolation=how)
        return panel(radiograph, self._draw(radiograph), self.caption, self.method)

    @property
    def caption(self) -> list[str]:
        """Lines for a figure: class and probability, what is drawn, the lungs, the file."""
        from covidcxnet.explain.grid import remark

        prediction = self.prediction
        lines = [f"{prediction.label}, probability {prediction.probability:.2f}"]
        text = f"{_NAMES[self.method]} for {self.target}"
        if self.target != prediction.label:
            text += f" (probability {prediction.probabilities[self.target or '']:.2f})"
        if self.fit is not None:
            text += f"; local fit R\N{SUPERSCRIPT TWO} {self.fit:.2f}"
        if said := remark(self._map):
            text += f"; {said}"
        lines.append(text)
        if prediction.lungs is not None and not prediction.lungs.trusted:
            lines.append("Lungs not found reliably: " + "; ".join(prediction.lungs.reasons))
        # the reason with its numbers stands in the table; a figure has room for the word
        if prediction.notes:
            problems = ", ".join(note.partition(":")[0] for note in prediction.notes)
            lines.append(f"Not like an upright frontal chest radiograph: {problems}")
        if self.path is not None:
            lines.append(_shorten(self.path.name))
        return lines

    def save_panel(self, path: str | Path) -> Path:
        """Write `panel` as PNG, whole or not at all."""
        from covidcxnet.explain.overlay import save_figure

        return save_figure(self.panel(), path)

    def save_overlay(self, path: str | Path) -> Path:
        """Write `overlay` as PNG of the radiograph's own size, whole or not at all."""
        from covidcxnet.explain.overlay import save_image

        return save_image(self.overlay(), path)

    def _draw(self, radiograph) -> np.ndarray:
        from covidcxnet.explain.overlay import overlay_heatmap, overlay_lime

        values = _fit(self.weights if self.method == "lime" else self.heatmap, radiograph.shape)
        lungs = None
        if self.lungs is not None and self.lungs.any():
            # Resized soft and cut at one half, the outline stays smooth at any size.
            lungs = _fit(self._frame.to_radiograph(self.lungs.astype("float32")), radiograph.shape) >= 0.5
        return (overlay_lime if self.method == "lime" else overlay_heatmap)(radiograph, values, lungs)

    def _heat(self) -> np.ndarray:
        """The positive part in 0..1, ``[S, S]``."""
        from covidcxnet.explain.grid import enlarge

        heat = np.maximum(self._map, 0)
        return enlarge(heat / max(float(heat.max()), _TINY), self._frame.size, self.grid)

    @property
    def _map(self) -> np.ndarray:
        if self.map is None:
            raise InputError(f"{self.path}: there is no explanation to draw: {self.error}")
        return self.map

    @property
    def _frame(self) -> Frame:
        if self.frame is None:
            raise InputError(f"{self.path}: there is no explanation to draw: {self.error}")
        return self.frame


def explain_each(
    classifier: Classifier,
    batches: Iterable[tuple[list, list]],
    method: str = "gradcam",
    target: str | None = None,
    batch_size: int = 16,
    **options: Any,
) -> Iterator[Explanation]:
    """Explain prepared radiographs, one after the other.

    Parameters
    ----------
    classifier : Classifier
    batches : iterable of (items, outcomes)
        From `Classifier.batches`.
    method, target, batch_size, **options
        As in `Classifier.explain`.

    Raises
    ------
    InputError
        If the method, the target or an option is unknown, or the network has no such maps; before anything is read.
    """
    if method not in METHODS:
        raise InputError(f"method: {method!r} given, one of {', '.join(METHODS)} expected")
    if target is not None and target not in classifier.classes:
        raise InputError(f"target: {target!r} given, one of {', '.join(classifier.classes)} expected")
    allowed = _LIME_OPTIONS if method == "lime" else ()
    if unknown := sorted(set(options) - set(allowed)):
        raise InputError(f"options: {_NAMES[method]} takes no {unknown[0]!r}; it takes {', '.join(allowed) or 'none'}")
    if method == "cam":
        _ = classifier.cam  # refuses a network without such maps
    index = None if target is None else classifier.classes.index(target)
    return _explain_each(classifier, batches, method, index, batch_size, options)


def _explain_each(classifier, batches, method, index, batch_size, options):
    for items, outcomes in batches:
        stacks = [outcome.prepared.stack for outcome in outcomes if outcome.prepared is not None]
        if method == "lime":
            maps = _lime_maps(classifier, stacks, index, batch_size, options)
        else:
            maps = _activation_maps(classifier, method, stacks, index)
        for item, outcome in zip(items, outcomes, strict=True):
            if outcome.prepared is None:
                yield Explanation(item, classifier.prediction(item, outcome, None), method)
                continue
            values, row, chosen, fit, grid = next(maps)
            yield Explanation(
                item,
                classifier.prediction(item, outcome, row),
                method,
                target=classifier.classes[chosen],
                map=values,
                grid=grid,
                frame=outcome.prepared.frame,
                lungs=outcome.prepared.lungs if outcome.trusted else None,
                fit=fit,
            )


def _activation_maps(classifier, method, stacks, index):
    if not stacks:
        return
    result = getattr(classifier, method).explain(np.stack(stacks), index, batch_size=len(stacks))
    classifier.check_finite(result.probabilities)
    for values, row, chosen in zip(result.maps, result.probabilities, result.targets, strict=True):
        yield values, row, int(chosen), None, result.grid


def _lime_maps(classifier, stacks, index, batch_size, options):
    from covidcxnet.explain.lime import explain_lime

    channels = classifier.input.channels
    plane = channels.index("raw") if "raw" in channels else -1
    for stack in stacks:
        result = explain_lime(classifier, stack, index, plane=plane, batch_size=batch_size, **options)
        yield result.weights, result.probabilities, result.target, result.score, None


_NAMES = {"gradcam": "Grad-CAM", "cam": "CAM", "lime": "LIME"}
_LIME_OPTIONS = ("samples", "segments", "fill", "seed")
_TINY = float(np.finfo("float32").tiny)


def _fit(values: np.ndarray, shape) -> np.ndarray:
    import cv2

    if values.shape == tuple(shape):
        return values
    how = cv2.INTER_AREA if shape[0] * shape[1] < values.size else cv2.INTER_LINEAR
    return cv2.resize(values, (shape[1], shape[0]), interpolation=how)


def _shorten(name: str, longest: int = 72) -> str:
    half = longest // 2 - 1
    return name if len(name) <= longest else f"{name[:half]}...{name[-half:]}"
