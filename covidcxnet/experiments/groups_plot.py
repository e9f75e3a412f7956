"""Figures of several runs side by side, each with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from enhancement.files import whole_file

if TYPE_CHECKING:
    from covidcxnet.evaluation.bootstrap import Estimate
    from covidcxnet.experiments.compare_rows import Row

_STYLES = (("o", "#1b4f72"), ("s", "#b9770e"), ("^", "#616a6b"), ("D", "#7d3c98"))


def draw_groups(rows: Sequence[Row], path: str | Path, *, title: str = "") -> Path:
    """Draw F1 (mean and of each class), accuracy and AUROC of each row as dots with intervals, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    classes = list(dict.fromkeys(name for row in rows for name in row.f1_by_class))
    names = ["F1, mean of classes", *(f"F1, {name}" for name in classes), "accuracy", "AUROC"]
    figure = Figure(figsize=(max(7.0, 1.5 * len(names) + 1), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for number, row in enumerate(rows):
        marker, colour = _STYLES[number % len(_STYLES)]
        shift = 0.18 * (number - (len(rows) - 1) / 2)
        found = [row.f1, *(row.f1_by_class.get(name) for name in classes), row.accuracy, row.auroc]
        for place, estimate in enumerate(found):
            _dot(axes, place + shift, estimate, marker, colour, row.name if place == 0 else None)
    axes.set_xticks(range(len(names)), names)
    axes.set(ylim=(-0.02, 1.02), title=title, ylabel="test images; lines: 95% intervals")
    axes.grid(alpha=0.25, axis="y")
    axes.legend(fontsize=8, loc="lower right")
    with whole_file(path) as partial:
        figure.savefig(partial, format="png", dpi=110)
    return Path(path)


def _dot(axes, place: float, estimate: Estimate | None, marker: str, colour: str, label: str | None) -> None:
    value = math.nan if estimate is None else estimate.value
    axes.plot([place], [value], marker, color=colour, markersize=6, label=label)
    if estimate is not None and not (math.isnan(estimate.low) or math.isnan(estimate.high)):
        axes.plot([place, place], [estimate.low, estimate.high], "-", color=colour, linewidth=1.5)
