"""Plots of a report: curves, reliability, intervals of findings, learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from covidcxnet.evaluation.calibration import BINS
from covidcxnet.evaluation.metrics import ClassMetrics, Metrics
from covidcxnet.evaluation.ranking import GRID
from covidcxnet.reporting import plots as style
from covidcxnet.reporting.table import with_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANELS = (("auroc", "AUROC", 0.5), ("average_precision", "average precision", None), ("f1", "F1", None))


def drawn_classes(metrics: Metrics) -> tuple[str, ...]:
    """Exclusive classes that have a curve: with two, only the second, as the first is its mirror image.

    None where all images are of one class: a curve needs both sides.
    """
    if len(metrics.present) < 2:
        return ()
    return metrics.classes[1:] if len(metrics.classes) == 2 else metrics.present


def roc(metrics: Metrics) -> Figure:
    """ROC curves of each class against the rest with 95% bands."""
    drawn, axes = _curves(metrics, "auroc", "roc")
    axes.plot([0, 1], [0, 1], label="chance", **style.REFERENCE)
    axes.set(xlabel="1 − specificity", ylabel="sensitivity", title="ROC curve (AUROC, 95% interval)")
    style.unit_square(axes, legend=True)
    return drawn


def precision_recall(metrics: Metrics) -> Figure:
    """Precision-recall curves of each class against the rest with 95% bands."""
    drawn, axes = _curves(metrics, "average_precision", "precision_recall")
    for k, name in enumerate(drawn_classes(metrics)):
        share = metrics.by_class[name].present / metrics.images
        axes.axhline(share, **{**style.REFERENCE, "color": style.colour(k)})
    axes.plot([], [], label="chance: share of the class", **style.REFERENCE)
    title = "Precision-recall curve (average precision)"
    axes.set(xlabel="recall (sensitivity)", ylabel="precision (positive predictive value)", title=title)
    style.unit_square(axes, legend=True)
    return drawn


def _curves(metrics: Metrics, figure: str, curve: str) -> tuple[Figure, Axes]:
    """One curve of each class on one pair of axes, with its figure in the legend."""
    names = drawn_classes(metrics)
    drawn, (axes,) = style.figure(5.0, 5.45 + 0.17 * len(names))  # with the lines of the legend
    for k, name in enumerate(names):
        row = metrics.by_class[name]
        if row.curve is not None:
            points, band = getattr(row.curve, curve), getattr(row.curve, f"{curve}_band")
            _curve(axes, k, points, band, f"{name}  {with_interval(row.figures[figure])}")
    return drawn, axes


def finding_curves(metrics: Metrics) -> Figure | None:
    """ROC curve of each finding with its 95% band, in a grid; None where none is defined."""
    rows = [row for row in metrics.by_class.values() if row.curve is not None]
    if not rows:
        return None
    drawn, panels = style.panels(len(rows), 5, (2.3, 2.45), (0, 0.2))
    for axes, row in zip(panels, rows, strict=True):
        assert row.curve is not None
        axes.plot([0, 1], [0, 1], **style.REFERENCE)
        _curve(axes, 0, row.curve.roc, row.curve.roc_band, "")
        axes.plot(row.fp / row.absent, row.tp / row.present, "o", color=style.COLOURS[1], markersize=5)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        axes.set_title(f"{row.name}  {row.figures['auroc'].value:.3f}", fontsize=8.5)
        style.grid(axes)
    drawn.supxlabel("1 − specificity", fontsize=9, color=style.INK)
    drawn.supylabel("sensitivity", fontsize=9, color=style.INK)
    return drawn


def finding_intervals(metrics: Metrics) -> Figure:
    """AUROC, average precision and F1 of each finding with 95% intervals, the most frequent on top."""
    rows = sorted(metrics.by_class.values(), key=lambda row: row.present)
    drawn, panels = style.figure(11.4, 1.7 + 0.3 * len(rows), 1, len(_PANELS))
    heights = np.arange(len(rows))
    for k, (axes, (name, title, chance)) in enumerate(zip(panels, _PANELS, strict=True)):
        values, low, high = np.array([(e.value, e.low, e.high) for e in (row.figures[name] for row in rows)]).T
        axes.hlines(heights, low, high, color=style.COLOURS[0], linewidth=1.6)
        axes.plot(values, heights, "o", color=style.COLOURS[0], markersize=5)
        if name == "average_precision":
            shares = [row.present / max(1, row.present + row.absent) for row in rows]
            axes.plot(shares, heights, "|", color=style.INK, markersize=9)
        if chance is not None:
            axes.axvline(chance, **style.REFERENCE)
        lost = values == 0
        if name == "f1" and lost.any():  # an empty line that is not clipped would upset the layout
            axes.plot(values[lost], heights[lost], "X", color=style.COLOURS[1], markersize=9, clip_on=False, zorder=3)
        for height in heights[np.isnan(values)]:
            axes.text(0.5, height, "undefined", fontsize=7.5, color=style.FAINT, ha="center", va="center")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.7, len(rows) - 0.3), title=title)
        axes.set_xticks((0, 0.25, 0.5, 0.75, 1))
        axes.set_yticks(heights, [f"{r.name} ({r.present})" if k == 0 else "" for r in rows], fontsize=8)
        style.grid(axes, "x")
    return drawn


def reliability(metrics: Metrics) -> Figure:
    """Predicted against observed share, with 95% intervals, over the number of images in each bin."""
    names = drawn_classes(metrics) or metrics.present
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    drawn, panels = style.figure(3.9 * columns + 0.4, 4.5 * lines, 2 * lines, columns, ratios=(3, 1) * lines)
    for k in range(lines * columns):
        block, column = divmod(k, columns)
        top, bottom = panels[2 * block * columns + column], panels[(2 * block + 1) * columns + column]
        if k < len(names):
            _reliability_panel(top, bottom, metrics.by_class[names[k]], k)
        else:
            top.set_axis_off()
            bottom.set_axis_off()
    return drawn


def learning_curves(log: pd.DataFrame, best_epoch: int | None = None) -> Figure:
    """Loss and metrics of one training over its epochs; see `training_curves`."""
    return training_curves([("", log, best_epoch)], {name: name.replace("_", " ") for name in learned(log)[:3]})


def training_curves(runs: Sequence[tuple[str, pd.DataFrame | None, int | None]], titles: Mapping[str, str]) -> Figure:
    """A panel for each quantity of training logs: training thin and dotted, validation solid, a star at the weights.

    `runs` are names, logs and epochs of the weights; `titles` are those of the quantities.
    """
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    drawn, panels = style.figure(4.3 * len(titles), 3.6, 1, len(titles))
    logs = [(k, name, log, best) for k, (name, log, best) in enumerate(runs) if log is not None and len(log)]
    for axes, (column, title) in zip(panels, titles.items(), strict=True):
        for k, name, log, best in logs:
            epochs = log["epoch"].to_numpy() if "epoch" in log else np.arange(1, len(log) + 1)
            if column in log:
                axes.plot(epochs, log[column], color=style.colour(k), linestyle=(0, (1, 1.5)), linewidth=1.0)
            if (followed := log.get(f"val_{column}")) is not None:
                marker = style.marker(k) if len(log) <= 60 else ""
                how: dict[str, Any] = {"marker": marker, "markersize": 3.6, "linewidth": 1.6, "label": name}
                axes.plot(epochs, followed, color=style.colour(k), **how)
                at = epochs == (best or -1)
                axes.plot(epochs[at], followed[at], "*", color=style.colour(k), markersize=11, markeredgecolor="white")
        only = "" if any(column in log for _, _, log, _ in logs) else ", validation only"
        axes.set_title(title + only, fontsize=10)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        style.grid(axes)
    handles, labels = panels[0].get_legend_handles_labels()
    keys: dict[str, dict[str, Any]] = {
        "thin, dotted: training": {"color": style.FAINT, "linestyle": (0, (1, 2))},
        "solid: validation": {"color": style.INK, "marker": "o", "markersize": 4},
        "epoch of the weights": {"color": style.FAINT, "linestyle": "", "marker": "*", "markersize": 9},
    }
    handles += [Line2D([], [], **key) for key in keys.values()]
    labels += keys
    drawn.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)), frameon=False, fontsize=8)
    return drawn


def learned(log: pd.DataFrame) -> list[str]:
    """Quantities of a training log that were followed on the validation split, the loss first."""
    names = [c.removeprefix("val_") for c in log.columns if c.startswith("val_")]
    order = ("loss", "auroc", "accuracy")
    return sorted(names, key=lambda name: order.index(name) if name in order else len(order))


def _curve(axes: Axes, k: int, points: np.ndarray, band: tuple[np.ndarray, np.ndarray], label: str) -> None:
    axes.fill_between(GRID, *band, color=style.colour(k), alpha=0.16, linewidth=0)
    axes.plot(points[:, 0], points[:, 1], label=label, **style.line(k))


def _reliability_panel(top: Axes, bottom: Axes, row: ClassMetrics, k: int) -> None:
    bins = row.reliability
    assert bins is not None
    filled = bins.images > 0
    top.plot([0, 1], [0, 1], label="perfect", **style.REFERENCE)
    spread = np.abs(np.stack([bins.observed - bins.low, bins.high - bins.observed]))[:, filled]
    how = {**style.line(k, marker=True), "capsize": 2, "elinewidth": 1}
    top.errorbar(bins.predicted[filled], bins.observed[filled], np.nan_to_num(spread), **how)
    title = f"{row.name}: ECE {with_interval(row.figures['calibration_error'])}"
    top.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel="share that was true", title=title)
    style.grid(top)
    top.tick_params(labelbottom=False)
    centres = (np.arange(BINS) + 0.5) / BINS
    bars = bottom.bar(
        centres, bins.images, 0.9 / BINS, color=style.colour(k), alpha=0.35, edgecolor=style.colour(k), linewidth=0.8
    )
    bottom.bar_label(bars, [f"{int(n):,}" if n else "" for n in bins.images], fontsize=6.5, padding=1, color=style.INK)
    bottom.set(xlim=(-0.02, 1.02), xlabel=f"predicted probability of {row.name}", ylabel="images")
    bottom.margins(y=0.3)
    bottom.set_yticks([])
