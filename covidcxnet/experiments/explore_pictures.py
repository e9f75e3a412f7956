"""The figures of an exploration: samples, mean and deviation images, differences of means.

Every function gives a matplotlib `Figure` of its own: no pyplot, no window, no state left behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from covidcxnet.experiments.explore import Survey
from enhancement.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 130
# Above this number of classes each is compared with all the others, not with every other.
_MOST_PAIRED = 4
# Fewer images than this in a class within a source make no mean worth subtracting.
_LEAST_WITHIN = 20
_TILE = 192
_WIDE = 4


def sample_grid(survey: Survey, label: str) -> Figure:
    """Samples of one class in their own proportions, each with its source; at most eight a row."""
    rows = survey.samples[label]
    columns = min(8, max(1, len(rows)))
    lines = -(-max(1, len(rows)) // columns)
    side = 1.45
    figure, axes = _grid(lines, columns, side, side + 0.22)
    for k, axis in enumerate(axes):
        axis.set_axis_off()
        if k >= len(rows):
            continue
        axis.imshow(_tile(survey.dataset.paths[rows[k]]), cmap="gray", vmin=0, vmax=255)
        if survey.sources:
            source = survey.dataset.table["source"].iloc[rows[k]]
            _title(axis, "unknown" if source is None or source != source else str(source), 7.5)
    return figure


def mean_images(survey: Survey) -> Figure:
    """Mean image of each class, black 0 to white 255."""
    figure, axes = _grid_of(len(survey.classes))
    for axis, label in zip(axes, survey.classes, strict=False):
        moments = survey.of_class(label)
        image = _show(axis, moments.mean, f"{label}\n{_images(moments.images)}", cmap="gray", vmin=0, vmax=255)
    _bar(figure, image, axes, "mean grey level")
    return figure


def deviation_images(survey: Survey) -> Figure:
    """Standard deviation at each pixel within each class, one scale for all."""
    moments = {label: survey.of_class(label) for label in survey.classes}
    top = max(float(m.deviation.max()) for m in moments.values()) or 1.0
    figure, axes = _grid_of(len(moments))
    for axis, (label, one) in zip(axes, moments.items(), strict=False):
        image = _show(axis, one.deviation, f"{label}\n{_images(one.images)}", cmap="magma", vmin=0, vmax=top)
    _bar(figure, image, axes, "standard deviation of grey levels")
    return figure


def differences(survey: Survey) -> Figure | None:
    """Difference of the mean images of classes; None for a single class."""
    pairs = _pairs(survey)
    if not pairs:
        return None
    return _difference_panels([(f"{a} \N{MINUS SIGN} {b}", difference) for a, b, difference in pairs])


def differences_within(survey: Survey) -> Figure | None:
    """The same within each source that has both classes, where the place cannot make the difference; None if none."""
    panels = []
    for source in survey.sources:
        own = {c: survey.moments[c, source] for c in survey.classes if (c, source) in survey.moments}
        enough = [label for label, moments in own.items() if moments.images >= _LEAST_WITHIN]
        for first, second in combinations(enough, 2):
            title = f"{second} \N{MINUS SIGN} {first}\nwithin {source}"
            panels.append((title, own[second].mean - own[first].mean))
    return _difference_panels(panels[:12]) if panels else None


def means_by_source(survey: Survey) -> Figure | None:
    """Mean image of each class in each source: rows classes, columns sources; None where sources are not several."""
    if len(survey.sources) < 2:
        return None
    side = 1.35
    figure, axes = _grid(len(survey.classes), len(survey.sources), side, side + 0.2)
    for k, axis in enumerate(axes):
        label, source = survey.classes[k // len(survey.sources)], survey.sources[k % len(survey.sources)]
        moments = survey.moments.get((label, source))
        if k < len(survey.sources):
            _title(axis, source, 8)
        if k % len(survey.sources) == 0:
            axis.set_ylabel(_short(label, 18), fontsize=8)
        axis.set_xticks([])
        axis.set_yticks([])
        if moments is None:
            axis.set_facecolor("#f4f6f8")
            axis.spines[:].set_color("#d5dae0")
            axis.set_aspect("equal")
            axis.set(xlim=(0, 1), ylim=(0, 1))
            axis.text(0.5, 0.5, "none", ha="center", va="center", fontsize=7.5, color="#56616d")
            continue
        axis.imshow(moments.mean, cmap="gray", vmin=0, vmax=255)
        axis.set_xlabel(f"{moments.images:,}", fontsize=7.5, labelpad=2)
    return figure


def _pairs(survey: Survey) -> list[tuple[str, str, np.ndarray]]:
    means = {label: survey.of_class(label).mean for label in survey.classes}
    if len(means) <= _MOST_PAIRED:
        return [(b, a, means[b] - means[a]) for a, b in combinations(means, 2)]
    everything = np.stack(list(means.values()))
    return [
        (label, "mean of the others", mean - (everything.sum(axis=0) - mean) / (len(means) - 1))
        for label, mean in means.items()
    ]


def _difference_panels(panels: Sequence[tuple[str, np.ndarray]]) -> Figure:
    # One range for all, the same on both sides of 0: a colour means the same everywhere, white means no difference.
    top = max(float(np.abs(difference).max()) for _, difference in panels) or 1.0
    figure, axes = _grid_of(len(panels))
    for axis, (title, difference) in zip(axes, panels, strict=False):
        image = _show(axis, difference, title, cmap="RdBu_r", vmin=-top, vmax=top)
    _bar(figure, image, axes, "difference of mean grey levels")
    return figure


def _tile(path) -> np.ndarray:
    """A radiograph within a square of `_TILE` pixels, in its own proportions; white around it."""
    import cv2

    from enhancement import read_radiograph

    tile = np.full((_TILE, _TILE), 255, np.uint8)
    try:
        image = read_radiograph(path)
    except InputError:  # gone since it was measured
        return tile
    scale = _TILE / max(image.shape)
    height, width = (max(1, round(side * scale)) for side in image.shape)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    top, left = (_TILE - height) // 2, (_TILE - width) // 2
    tile[top : top + height, left : left + width] = cv2.resize(image, (width, height), interpolation=how)
    return tile


def _grid_of(panels: int) -> tuple[Figure, list[Any]]:
    columns = min(_WIDE, panels)
    figure, axes = _grid(-(-panels // columns), columns, 2.5, 2.85, bar=1.1)
    for axis in axes[panels:]:
        axis.set_axis_off()
    return figure, axes


def _grid(rows: int, columns: int, width: float, height: float, bar: float = 0.0) -> tuple[Figure, list[Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(columns * width + bar, rows * height), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(rows, columns, squeeze=False).ravel())


def _show(axis, values: np.ndarray, title: str, **how):
    axis.set_axis_off()
    _title(axis, title, 9)
    return axis.imshow(values, **how)


def _title(axis, text: str, size: float) -> None:
    # Labels may hold a dollar sign, which is no formula.
    lines = "\n".join(_short(line, 30) for line in text.splitlines())
    axis.set_title(lines, fontsize=size, pad=3).set_parse_math(False)


def _bar(figure, image, axes, label: str) -> None:
    bar = figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02, shrink=0.9, aspect=24)
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}\N{HORIZONTAL ELLIPSIS}"


def _images(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"
