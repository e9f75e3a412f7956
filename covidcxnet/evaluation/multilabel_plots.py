"""Figures of a report on independent findings, as SVG text: intervals of all findings in a row, and a curve of each."""

from __future__ import annotations

import numpy as np

from covidcxnet.evaluation import plots
from covidcxnet.evaluation.multilabel_metrics import FindingFigures, FindingMetrics
from covidcxnet.evaluation.ranking import GRID

_PANELS = (("auroc", "AUROC", 0.5), ("average_precision", "average precision", None), ("f1", "F1", None))


def intervals(metrics: FindingMetrics) -> str:
    """AUROC, average precision and F1 of each finding with 95% intervals, the most frequent on top; SVG."""
    rows = sorted(metrics.findings, key=lambda f: f.present)
    figure, panels = plots._figure(len(_PANELS), 11.4, 1.7 + 0.3 * len(rows))
    places = np.arange(len(rows))
    for k, (axes, (name, title, chance)) in enumerate(zip(panels, _PANELS, strict=True)):
        values = np.array([f.figures[name].value for f in rows])
        low = np.array([f.figures[name].low for f in rows])
        high = np.array([f.figures[name].high for f in rows])
        axes.hlines(places, low, high, color=plots.COLOURS[0], linewidth=1.6)
        axes.plot(values, places, "o", color=plots.COLOURS[0], markersize=5)
        if name == "average_precision":
            shares = [f.present / max(1, f.present + f.absent) for f in rows]
            axes.plot(shares, places, "|", color=plots.INK, markersize=9)
        if chance is not None:
            axes.axvline(chance, color=plots.FAINT, linewidth=0.8, linestyle=(0, (2, 3)))
        if name == "f1":
            lost = values == 0
            if lost.any():  # an empty line that is not clipped would upset the layout
                axes.plot(
                    values[lost], places[lost], "X", color=plots.COLOURS[1], markersize=9, clip_on=False, zorder=3
                )
        for place in places[np.isnan(values)]:
            axes.text(0.5, place, "undefined", fontsize=7.5, color=plots.FAINT, ha="center", va="center")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.7, len(rows) - 0.3), title=title)
        axes.set_xticks((0, 0.25, 0.5, 0.75, 1))
        axes.set_yticks(places, [f"{f.name} ({f.present})" for f in rows] if k == 0 else [""] * len(rows), fontsize=8)
        axes.grid(axis="x", color="#e4e7ea", linewidth=0.6)
        axes.set_axisbelow(True)
    return plots._svg(figure)


def curves(metrics: FindingMetrics) -> str:
    """ROC curve of each finding with its 95% band, in a grid; SVG. Empty where none is defined."""
    drawn = [f for f in metrics.findings if len(f.roc)]
    if not drawn:
        return ""
    columns = min(5, len(drawn))
    lines = -(-len(drawn) // columns)
    figure, panels = plots._figure(columns * lines, 2.3 * columns, 2.45 * lines + 0.2, lines, (1,) * lines)
    for axes, finding in zip(panels, drawn, strict=False):
        _roc(axes, finding)
    for axes in panels[len(drawn) :]:
        axes.set_axis_off()
    figure.supxlabel("1 − specificity", fontsize=9, color=plots.INK)
    figure.supylabel("sensitivity", fontsize=9, color=plots.INK)
    return plots._svg(figure)


def _roc(axes, finding: FindingFigures) -> None:
    axes.plot([0, 1], [0, 1], color=plots.FAINT, linewidth=0.8, linestyle=(0, (2, 3)))
    axes.fill_between(GRID, *finding.roc_band, color=plots.COLOURS[0], alpha=0.16, linewidth=0)
    points = plots._corners(finding.roc)
    axes.plot(points[:, 0], points[:, 1], color=plots.COLOURS[0], linewidth=1.5)
    calls = finding.hits + finding.misses, finding.alarms + finding.passes
    axes.plot(finding.alarms / calls[1], finding.hits / calls[0], "o", color=plots.COLOURS[1], markersize=5)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    axes.set_title(f"{finding.name}  {finding.figures['auroc'].value:.3f}", fontsize=8.5)
    axes.grid(color="#e4e7ea", linewidth=0.6)
