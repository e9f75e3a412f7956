"""The picture of a sweep: each training a dot, each cell its mean and interval; learning rates on a log axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from covidcxnet.evaluation.plots import COLOURS, FAINT, INK, MARKERS, _figure
from covidcxnet.experiments.grid import cell_name, text_of
from covidcxnet.experiments.outcome import Cell, cells_of
from covidcxnet.experiments.sweep_tables import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from covidcxnet.experiments.sweep import Sweep

_LOG = ("learning_rate", "weight_decay")


def draw(found: Sweep) -> Figure | None:
    """One panel a figure; None where nothing was finished."""
    figures = [(name, title) for name, title in shown(found) if not (found.tested and name.startswith("val_"))]
    cells = [group for group in cells_of(found.outcomes) if group.finished]
    if not figures or not cells:
        return None
    along, series = _axes_of(found)
    names = list(dict.fromkeys(_series(group, series) for group in cells))
    positions = _positions(cells, along, names, series)
    crowded = along is None and len(cells) > 3
    figure, panels = _figure(len(figures), 4.4 * len(figures), 4.9 if crowded else 3.9)
    for axes, (name, title) in zip(panels, figures, strict=True):
        for k, own in enumerate(names):
            groups = [group for group in cells if _series(group, series) == own]
            _draw_series(axes, groups, [positions[id(group)] for group in groups], name, k, _joined(along, cells))
        axes.set_title(title if found.tested else title.replace(", validation", " (validation)"), fontsize=10)
        axes.grid(color="#e4e7ea", linewidth=0.6)
        axes.set_axisbelow(True)
        _scale(axes, along, cells, positions, crowded)
    if series:
        handles = [_handle(k) for k in range(len(names))]
        figure.legend(handles, [f"{series} {name}" for name in names], loc="outside upper center",
                      ncols=min(4, len(names)), frameon=False, fontsize=8)  # fmt: skip
    figure.supxlabel(_note(found), fontsize=8, color=INK)
    return figure


def _axes_of(found: Sweep) -> tuple[str | None, str | None]:
    """Key along the axis and key of the series; None along the axis for one place a cell."""
    values = {key: [o.trial.values[key] for o in found.outcomes] for key in found.keys}
    numeric = [key for key in found.keys if all(_is_number(value) for value in values[key])]
    if len(found.keys) == 1:
        return (numeric[0] if numeric else None), None
    if len(found.keys) == 2 and numeric:
        along = max(numeric, key=lambda key: len(set(values[key])))
        return along, next(key for key in found.keys if key != along)
    return None, None


def _positions(cells: list[Cell], along: str | None, names: list[str], series: str | None) -> dict[int, float]:
    if along is None:
        return {id(group): float(k) for k, group in enumerate(cells)}
    x = sorted({float(group.values[along]) for group in cells})
    # Series stand side by side, so that dots of one do not cover those of another.
    step = 0.055 * (len(names) - 1)
    shifts = dict(zip(names, np.linspace(-step, step, len(names)), strict=True))
    if _is_log(along, x):
        width = np.log(x[-1] / x[0]) or 1.0
        return {id(g): float(g.values[along]) * float(np.exp(shifts[_series(g, series)] * width / 2)) for g in cells}
    width = (x[-1] - x[0]) or 1.0
    return {id(g): float(g.values[along]) + shifts[_series(g, series)] * width / 2 for g in cells}


def _draw_series(axes: Axes, groups: list[Cell], x: list[float], name: str, k: int, joined: bool) -> None:
    colour, marker = COLOURS[k % len(COLOURS)], MARKERS[k % len(MARKERS)]
    means = [group.figure(name) for group in groups]
    centre = np.array([mean.value for mean in means])
    spread = np.abs(np.array([[m.value - m.low, m.high - m.value] for m in means])).T
    order = np.argsort(x)
    if joined:
        axes.plot(np.array(x)[order], centre[order], color=colour, linewidth=1.0, alpha=0.6)
    axes.errorbar(x, centre, np.nan_to_num(spread), color=colour, linestyle="", marker=marker, markersize=7,
                  markerfacecolor="white", markeredgewidth=1.6, capsize=4, elinewidth=1.4, zorder=3)  # fmt: skip
    from matplotlib.transforms import ScaledTranslation

    assert axes.figure is not None
    # Beside the bar, where it does not hide them.
    beside = axes.transData + ScaledTranslation(6 / 72, 0, axes.figure.dpi_scale_trans)
    for group, place in zip(groups, x, strict=True):
        values = group.values_of(name)
        if len(group.outcomes) > 1:
            axes.plot([place] * len(values), values, "o", color=colour, markersize=4, alpha=0.75, zorder=4,
                      transform=beside)  # fmt: skip
        lost = [o.figures[name].value for o in group.finished if o.collapsed and name in o.figures]
        axes.plot([place] * len(lost), lost, "x", color=INK, markersize=7, markeredgewidth=1.2, zorder=5,
                  transform=beside if len(group.outcomes) > 1 else axes.transData)  # fmt: skip


def _scale(axes: Axes, along: str | None, cells: list[Cell], positions: dict[int, float], crowded: bool) -> None:
    if along is None:
        axes.set_xticks([positions[id(group)] for group in cells])
        turned: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
        axes.set_xticklabels([_label(group) for group in cells], **turned)
        axes.set_xlim(-0.6, len(cells) - 0.4)
        return
    x = sorted({float(group.values[along]) for group in cells})
    if _is_log(along, x):
        axes.set_xscale("log")
        axes.minorticks_off()
    if len(x) <= 8:
        axes.set_xticks(x)
        axes.set_xticklabels([text_of(value) for value in x])
    axes.set_xlabel(along)


def _label(group: Cell) -> str:
    """The values alone where one key is swept."""
    return text_of(next(iter(group.values.values()))) if len(group.values) == 1 else cell_name(group.values)


def _note(found: Sweep) -> str:
    if found.repeats > 1:
        note = "dots: each training; open mark: mean with 95% t interval over repeats"
    elif found.tested:
        note = "one training each; 95% interval over patients, not over trainings"
    else:
        note = "one training each"
    return note + ("; cross: a class is never found (F1 0)" if any(o.collapsed for o in found.outcomes) else "")


def _series(group: Cell, series: str | None) -> str:
    return text_of(group.values[series]) if series else ""


def _joined(along: str | None, cells: list[Cell]) -> bool:
    return along is not None and len(cells) > 1


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_log(key: str, values: list[float]) -> bool:
    return key.rpartition(".")[2] in _LOG and min(values) > 0 and len(values) > 1


def _handle(k: int):
    from matplotlib.lines import Line2D

    colour = COLOURS[k % len(COLOURS)]
    return Line2D([], [], color=colour, marker=MARKERS[k % len(MARKERS)], markerfacecolor="white", markeredgewidth=1.6,
                  linewidth=1.0, markeredgecolor=colour if colour else FAINT)  # fmt: skip
