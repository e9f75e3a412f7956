"""Figures of the report as SVG text: colours of Okabe and Ito (2008), line styles that differ without them.

Every function makes its own matplotlib `Figure`: no pyplot, no window, no state left behind.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from covidcxnet.evaluation.bootstrap import Estimate
from covidcxnet.evaluation.calibration import BINS
from covidcxnet.evaluation.metrics import Metrics
from covidcxnet.evaluation.ranking import GRID

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT = "#1d2733", "#8a94a0"
# Okabe and Ito, darkest first, so that a gray print still tells the first three apart; yellow is too light for a line.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
STYLES: tuple = ("-", (0, (6, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (9, 3)), (0, (3, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P")


def drawn_classes(metrics: Metrics) -> tuple[str, ...]:
    """Classes that have a curve of their own: with two, only the second, as the first is its mirror image.

    None where all images are of one class: a curve needs both sides.
    """
    if len(metrics.present) < 2:
        return ()
    return metrics.classes[1:] if len(metrics.classes) == 2 else metrics.present


def roc(metrics: Metrics) -> str:
    """ROC curves of each class against the rest with 95% bands; SVG."""
    figure, (axes,) = _figure(1, 5.0, 4.8)
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8, linestyle=(0, (2, 3)), label="chance")
    for k, name in enumerate(drawn_classes(metrics)):
        curve = metrics.curves[name]
        label = f"{name}  {_said(metrics.by_class[name]['auroc'])}"
        _curve(axes, k, curve.roc, curve.roc_band, label)
    axes.set(xlabel="1 − specificity", ylabel="sensitivity", title="ROC curve (AUROC, 95% interval)")
    _unit_square(axes, "lower right")
    return _svg(figure)


def precision_recall(metrics: Metrics) -> str:
    """Precision-recall curves of each class against the rest with 95% bands; SVG."""
    figure, (axes,) = _figure(1, 5.0, 4.8)
    shares = metrics.confusion.sum(axis=1) / max(1, metrics.images)
    for k, name in enumerate(drawn_classes(metrics)):
        curve = metrics.curves[name]
        label = f"{name}  {_said(metrics.by_class[name]['average_precision'])}"
        share = shares[metrics.classes.index(name)]
        axes.axhline(share, color=COLOURS[k % len(COLOURS)], linewidth=0.8, linestyle=(0, (2, 3)))
        _curve(axes, k, curve.precision_recall, curve.precision_recall_band, label)
    axes.plot([], [], color=FAINT, linewidth=0.8, linestyle=(0, (2, 3)), label="chance: share of the class")
    title = "Precision-recall curve (average precision)"
    axes.set(xlabel="recall (sensitivity)", ylabel="precision (positive predictive value)", title=title)
    _unit_square(axes, "lower left")
    return _svg(figure)


def reliability(metrics: Metrics) -> str:
    """Predicted against observed share, with 95% intervals, over the number of images in each bin; SVG."""
    names = drawn_classes(metrics) or metrics.present
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    figure, panels = _figure(2 * lines * columns, 3.9 * columns + 0.4, 4.5 * lines, 2 * lines, (3, 1) * lines)
    for k, name in enumerate(names):
        line, column = divmod(k, columns)
        top = panels[2 * line * columns + column]
        bottom = panels[(2 * line + 1) * columns + column]
        _reliability_panel(top, bottom, metrics, name, k)
    for k in range(len(names), lines * columns):
        line, column = divmod(k, columns)
        panels[2 * line * columns + column].set_axis_off()
        panels[(2 * line + 1) * columns + column].set_axis_off()
    return _svg(figure)


def learning_curves(log: pd.DataFrame, best_epoch: int | None = None) -> str:
    """Loss and each metric of training and validation over epochs, the epoch of the saved weights marked; SVG."""
    from matplotlib.ticker import MaxNLocator

    names = learned(log)[:3]
    figure, panels = _figure(len(names), 3.9 * len(names) + 0.4, 3.1)
    epochs = log["epoch"].to_numpy() if "epoch" in log else np.arange(1, len(log) + 1)
    for axes, name in zip(panels, names, strict=True):
        for k, (column, label) in enumerate(((name, "training"), (f"val_{name}", "validation"))):
            if column in log:
                marker = MARKERS[k] if len(log) <= 40 else ""
                axes.plot(epochs, log[column], color=COLOURS[k], linestyle=STYLES[k], marker=marker, markersize=3.5,
                          linewidth=1.5, label=label)  # fmt: skip
        if best_epoch is not None:
            axes.axvline(best_epoch, color=FAINT, linewidth=1, linestyle=(0, (2, 3)), label="weights used")
        axes.set(title=name.replace("_", " "), xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(frameon=False, fontsize=8)
    return _svg(figure)


def learned(log: pd.DataFrame) -> list[str]:
    """Quantities of a training log that were followed on the validation split, the loss first."""
    names = [c.removeprefix("val_") for c in log.columns if c.startswith("val_")]
    order = ("loss", "auroc", "accuracy")
    return sorted(names, key=lambda name: order.index(name) if name in order else len(order))


def data_uri(content: str | bytes, kind: str) -> str:
    """`content` as a data URI of media type `kind`, for a page without other files."""
    raw = content.encode() if isinstance(content, str) else content
    return f"data:{kind};base64,{base64.b64encode(raw).decode()}"


def svg_uri(content: str) -> str:
    """A drawing as a data URI."""
    return data_uri(content, "image/svg+xml")


def _figure(
    panels: int, width: float, height: float, rows: int = 1, ratios: tuple[float, ...] = (1,)
) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, panels // rows, squeeze=False, gridspec_kw={"height_ratios": ratios}).ravel()
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color(FAINT)
        axis.tick_params(colors=INK, labelsize=8, color=FAINT)
        axis.xaxis.label.set(color=INK, fontsize=9)
        axis.yaxis.label.set(color=INK, fontsize=9)
        axis.title.set(color=INK, fontsize=9.5)
    return figure, list(axes)


def _curve(axes: Axes, k: int, points: np.ndarray, band: tuple[np.ndarray, np.ndarray], label: str) -> None:
    colour = COLOURS[k % len(COLOURS)]
    axes.fill_between(GRID, *band, color=colour, alpha=0.16, linewidth=0)
    points = _corners(points)
    axes.plot(points[:, 0], points[:, 1], color=colour, linestyle=STYLES[k % len(STYLES)], linewidth=1.7, label=label)


def _corners(points: np.ndarray) -> np.ndarray:
    """Without the points inside straight runs: the same curve in a fraction of the file."""
    if len(points) < 3:
        return points
    before, after = np.diff(points[:-1], axis=0), np.diff(points[1:], axis=0)
    turns = np.abs(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]) > 1e-12
    return points[np.r_[True, turns, True]]


def _unit_square(axes: Axes, legend: Literal["lower left", "lower right"]) -> None:
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02), aspect="equal")
    axes.grid(color="#e4e7ea", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(loc=legend, fontsize=8, frameon=True, framealpha=0.9, edgecolor="none", handlelength=3)


def _reliability_panel(top: Axes, bottom: Axes, metrics: Metrics, name: str, k: int) -> None:
    bins, colour = metrics.reliability[name], COLOURS[k % len(COLOURS)]
    filled = bins.images > 0
    top.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8, linestyle=(0, (2, 3)), label="perfect")
    spread = np.abs(np.stack([bins.observed - bins.low, bins.high - bins.observed]))[:, filled]
    top.errorbar(bins.predicted[filled], bins.observed[filled], np.nan_to_num(spread), color=colour, linewidth=1.4,
                 linestyle=STYLES[k % len(STYLES)], marker=MARKERS[k % len(MARKERS)], markersize=5, capsize=2,
                 elinewidth=1)  # fmt: skip
    error = _said(metrics.by_class[name]["calibration_error"])
    top.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel="share that was true", title=f"{name}: ECE {error}")
    top.grid(color="#e4e7ea", linewidth=0.6)
    top.tick_params(labelbottom=False)
    centres = (np.arange(BINS) + 0.5) / BINS
    bars = bottom.bar(centres, bins.images, 0.9 / BINS, color=colour, alpha=0.35, edgecolor=colour, linewidth=0.8)
    bottom.bar_label(bars, [f"{int(n):,}" if n else "" for n in bins.images], fontsize=6.5, padding=1, color=INK)
    bottom.set(xlim=(-0.02, 1.02), xlabel=f"predicted probability of {name}", ylabel="images")
    bottom.margins(y=0.3)
    bottom.set_yticks([])


def _said(estimate: Estimate) -> str:
    if np.isnan(estimate.value):
        return "undefined"
    interval = "" if np.isnan(estimate.low) else f" ({estimate.low:.3f} to {estimate.high:.3f})"
    return f"{estimate.value:.3f}{interval}"


def _svg(figure: Figure) -> str:
    import matplotlib

    stream = io.StringIO()
    # fixed salt and no date: the same figures give the same bytes
    with matplotlib.rc_context({"svg.hashsalt": "covidcxnet", "svg.fonttype": "path"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()
