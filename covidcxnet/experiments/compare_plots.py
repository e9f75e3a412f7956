"""Pictures of a comparison: ROC curves of all runs on one axis, and their learning curves side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from covidcxnet.evaluation.bootstrap import Bootstrap
from covidcxnet.evaluation.plots import (
    COLOURS,
    FAINT,
    INK,
    MARKERS,
    STYLES,
    _corners,
    _figure,
    _said,
    _svg,
    _unit_square,
)
from covidcxnet.evaluation.ranking import rank
from covidcxnet.experiments.compare_checks import targets
from covidcxnet.experiments.compare_entry import Entry

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_PANELS = 6
# Logged names, what they are called, and whether they lie in 0..1.
_LEARNED = (
    ("loss", "loss"),
    ("f1", "F1 (mean over classes)"),
    ("auroc", "AUROC"),
    ("accuracy", "accuracy"),
)


def roc_classes(entries: Sequence[Entry]) -> list[str]:
    """Classes that get a panel: those with a ROC curve in some run; the second alone where a run has only two."""
    wanted = {label: None for entry in entries for label in _drawn(entry)}
    return [label for label in wanted if any(targets(entry, label) is not None for entry in entries)][:_MOST_PANELS]


def _drawn(entry: Entry) -> tuple[str, ...]:
    """Of two classes that exclude each other the curve of the first is the mirror image of the second's."""
    return entry.classes[1:] if len(entry.classes) == 2 and not entry.multilabel else entry.classes


def draw_roc(entries: Sequence[Entry]) -> Figure | None:
    """ROC curves of every run, one panel a class; None where no run has one."""
    labels = roc_classes(entries)
    if not labels:
        return None
    columns = min(3, len(labels))
    rows = -(-len(labels) // columns)
    width, height = (6.4, 5.6) if len(labels) == 1 else (4.9 * columns, 4.9 * rows)
    figure, panels = _figure(rows * columns, width, height, rows, (1,) * rows)
    for axes, label in zip(panels, labels, strict=False):
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8, linestyle=(0, (2, 3)), label="chance")
        for k, entry in enumerate(entries):
            found = targets(entry, label)
            if found is None:
                continue
            points = _corners(rank(*found, Bootstrap(None, len(found[0]), resamples=0)).roc_points)
            # By class, so that the number belongs to the curve; with two classes it is the AUROC of the table.
            figures = entry.figure("auroc", label)
            axes.plot(points[:, 0], points[:, 1], color=COLOURS[k % len(COLOURS)], linestyle=STYLES[k % len(STYLES)],
                      linewidth=1.7, label=f"{entry.name}  {_said(figures)}")  # fmt: skip
        axes.set(xlabel="1 − specificity", ylabel="sensitivity")
        axes.set_title(f"{label} against the rest: AUROC (95% interval)", fontsize=10)
        _unit_square(axes, "lower right")
    for axes in panels[len(labels) :]:
        axes.set_axis_off()
    return figure


def draw_learning(entries: Sequence[Entry]) -> Figure | None:
    """Loss, F1 and AUROC over epochs of every run: training dotted and thin, validation solid with marks."""
    logged = [entry for entry in entries if entry.log is not None and len(entry.log)]
    followed = {column for entry in logged if entry.log is not None for column in entry.log}
    names = [(name, title) for name, title in _LEARNED if f"val_{name}" in followed][:3]
    if not names:
        return None
    figure, panels = _figure(len(names), 4.6 * len(names), 3.9)
    for axes, (name, title) in zip(panels, names, strict=True):
        trained = False
        for k, entry in enumerate(entries):
            if entry in logged:
                trained |= _learning(axes, k, entry, name)
        axes.set_title(title if trained else f"{title}, validation only", fontsize=10)
        axes.set_xlabel("epoch")
        _integer_epochs(axes)
    handles, labels = panels[0].get_legend_handles_labels()
    kinds = [_line(FAINT, (0, (1, 2)), ""), _line(INK, "-", "o"), _line(FAINT, "", "*")]
    figure.legend([*handles, *kinds], [*labels, "thin, dotted: training", "solid: validation", "epoch of the weights"],
                  loc="outside lower center", ncols=min(4, len(labels) + 3), frameon=False, fontsize=8)  # fmt: skip
    return figure


def svg(figure: Figure) -> str:
    """The figure as SVG text, the same bytes for the same figures."""
    return _svg(figure)


def _learning(axes: Axes, k: int, entry: Entry, name: str) -> bool:
    """Draw one run's curves into a panel; whether training was followed too."""
    log = entry.log
    assert log is not None
    epochs = log["epoch"].to_numpy() if "epoch" in log else np.arange(1, len(log) + 1)
    colour, column = COLOURS[k % len(COLOURS)], f"val_{name}"
    if name in log:
        axes.plot(epochs, log[name], color=colour, linestyle=(0, (1, 1.5)), linewidth=1.0)
    if column in log:
        marker = MARKERS[k % len(MARKERS)] if len(log) <= 60 else ""
        axes.plot(epochs, log[column], color=colour, linestyle="-", marker=marker, markersize=3.6, linewidth=1.6,
                  label=entry.name)  # fmt: skip
        best = epochs == (entry.best_epoch or -1)
        axes.plot(epochs[best], log[column][best], "*", color=colour, markersize=11, markeredgecolor="white")
    return name in log


def _integer_epochs(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color="#e4e7ea", linewidth=0.6)
    axes.set_axisbelow(True)


def _line(colour: str, style, marker: str):
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, linestyle=style, marker=marker, markersize=4 if marker == "o" else 9)
