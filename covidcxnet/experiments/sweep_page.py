"""A sweep as files: one page, a row a cell as CSV and Markdown, a row a training as CSV, one plot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from covidcxnet.evaluation.metrics import NORMAL
from covidcxnet.experiments.compare_page import write_all
from covidcxnet.experiments.entries import Row
from covidcxnet.experiments.grid import cell_name, data_key, text_of
from covidcxnet.experiments.outcome import TEST, VALIDATION, Cell, Sweep
from covidcxnet.reporting import pages, plots, table
from covidcxnet.reporting.table import DASH, Estimate, Share, Table, count

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LOG = ("learning_rate", "weight_decay")  # drawn on a logarithmic axis
_REPEATED = (
    "Means over repeats, which share data and split. The seed of weights, order, augmentation and dropout differs. "
    "95% intervals are Student's t over repeats, cut at 0 and 1. They show what another training might give on these "
    "test images, not what other patients would."
)


def save(sweep: Sweep) -> None:
    """Write the page, the tables and the plot into the sweep's folder: all of them or none."""
    picture = draw(sweep)
    files = {"runs.csv": runs_csv(sweep), "sweep.csv": to_csv(sweep)}
    files |= {name: render(sweep, name, picture) for name in ("sweep.md", "sweep.html")}
    content = {name: text.encode() for name, text in files.items()}
    write_all(sweep.folder, content | ({} if picture is None else {"sweep.png": plots.png(picture)}))


def render(sweep: Sweep, template: str, picture: Figure | None) -> str:
    """The sweep as `sweep.html` or `sweep.md`."""
    model = "several models" if "model" in sweep.keys else sweep.recipe.model
    data = "" if "data" in sweep.keys else f", data {sweep.recipe.data}"
    size = f"{count(len(sweep.outcomes), 'training')} in {count(len(sweep.cells), 'cell')}"
    intervals = "One training each: there is nothing to take an interval over."
    if sweep.repeats > 1 or sweep.tested:
        patients = "95% intervals: bootstrap over patients, for one training each."
        intervals = _REPEATED if sweep.repeats > 1 else patients
    return pages.render(
        f"experiments/{template}",
        title=f"Sweep of {', '.join(sweep.keys)}" if sweep.keys else f"{sweep.repeats} repeats of one recipe",
        when=f"{size}: {model}{data}; {sweep.created}.",
        phantom=sweep.recipe.data == "phantom" and "data" not in sweep.keys,
        cautions=cautions(sweep),
        table=to_table(sweep),
        intervals=intervals,
        picture=None if picture is None else plots.data_uri(picture),
        failed=[(outcome.trial.name, outcome.reason) for outcome in sweep.failed],
        created=sweep.created,
    )


def cautions(sweep: Sweep) -> list[tuple[str, str]]:
    """What must be known before a value is chosen from these figures: title and text."""
    listed = []
    if sweep.failed:
        names = "; ".join(outcome.trial.name for outcome in sweep.failed)
        listed.append((f"{count(len(sweep.failed), 'training')} failed", f"{names}. The same command tries again."))
    if any(outcome.never_found for outcome in sweep.outcomes):
        cells = {cell.name: [note for note in cell.notes if "F1 0" in note] for cell in sweep.cells}
        names = "; ".join(f"{name} ({', '.join(notes)})" for name, notes in cells.items() if notes)
        listed.append(("A class is never found", f"{names}. A mean over classes or repeats hides that."))
    if len({data_key(outcome.trial.recipe) for outcome in sweep.outcomes}) > 1:
        text = "Data or split differ between cells, so their figures were not measured on the same images."
        listed.append(("Test images differ", text))
    if sweep.tested and sweep.keys:
        text = "A value chosen by its test figure has been fitted to the test set; choose by the validation figure."
        listed.append(("The test set was opened for every training", text))
    if sweep.repeats == 1:
        text = "Another seed changes figures too, often by more than the values differ here; --repeats shows how far."
        listed.append(("One training each", text))
    return listed


def to_table(sweep: Sweep) -> Table:
    """One row a cell: means and intervals over repeats."""
    figures = _shown(sweep)
    header = [*(sweep.keys or ["recipe"]), "Trainings", *figures.values()]
    rows = []
    for cell in sweep.cells:
        done, planned = len(cell.finished), len(cell.outcomes)
        means = [cell.values_of(name) for name in ("best_epoch", "seconds")]
        missed = [f"{name}: {Share(n, images)}" for name, (n, images) in cell.called_normal.items()]
        rows.append(
            [
                *([text_of(cell.values[key]) for key in sweep.keys] or ["unchanged"]),
                str(done) if done == planned else f"{done} of {planned}",
                *(cell.figure(name) for name in figures),
                *(f"{mean.mean():.3g}" if len(mean) else DASH for mean in means),
                table.Cell("", below=missed) if missed else DASH,
                table.Cell("", alert=cell.notes),
            ]
        )
    return Table([*header, "Best epoch", "s / epoch", f"Called {NORMAL}", ""], rows, class_="comparison")


def _shown(sweep: Sweep) -> dict[str, str]:
    """Names and titles of the figures that some training has: the validation AUROC, then those of the test."""
    titles = {"val_auroc": VALIDATION["val_auroc"], **TEST} if sweep.tested else VALIDATION
    present = {name for outcome in sweep.outcomes for name in outcome.figures}
    return {name: title for name, title in titles.items() if name in present}


def to_csv(sweep: Sweep) -> str:
    """One line a cell: mean, standard deviation and interval of each figure."""
    lines = []
    for cell in sweep.cells:
        line: dict[str, Any] = {key: text_of(value) for key, value in cell.values.items()}
        line |= {"repeats": len(cell.outcomes), "finished": len(cell.finished)}
        for name in (*VALIDATION, *TEST, "best_epoch", "seconds"):
            values, figure = cell.values_of(name), cell.figure(name)
            if not len(values):
                continue
            line[name] = figure.value
            if name not in ("best_epoch", "seconds"):
                spread = float(values.std(ddof=1)) if len(values) > 1 else math.nan
                line |= {f"{name}_sd": spread, f"{name}_low": figure.low, f"{name}_high": figure.high}
        lines.append(line | _called(cell.called_normal) | {"notes": "; ".join(cell.notes)})
    return pd.DataFrame(lines).to_csv(index=False, float_format="%.6g")


def runs_csv(sweep: Sweep) -> str:
    """One line a training."""
    lines = []
    for outcome in sweep.outcomes:
        trial = outcome.trial
        line: dict[str, Any] = {key: text_of(value) for key, value in trial.values.items()}
        line |= {"seed": trial.seed, "run": trial.folder.relative_to(sweep.folder).as_posix()}
        for name, figure in outcome.figures.items():
            line[name] = figure.value
            if not math.isnan(figure.low):
                line |= {f"{name}_low": figure.low, f"{name}_high": figure.high}
        line |= _called(outcome.called_normal)
        lines.append(line | {"zero_f1_classes": ";".join(outcome.never_found), "failed": outcome.reason})
    return pd.DataFrame(lines).to_csv(index=False, float_format="%.6g")


def _called(pairs: Mapping[str, tuple[float, int]]) -> dict[str, float]:
    line: dict[str, float] = {}
    for name, (missed, images) in pairs.items():
        line |= {f"{name}_called_normal": missed, f"{name}_images": images}
    return line


def draw(sweep: Sweep) -> Figure | None:
    """One panel a figure, each training a dot, each cell its mean and interval; None where nothing was finished."""
    figures = {k: title for k, title in _shown(sweep).items() if not (sweep.tested and k.startswith("val_"))}
    cells = [cell for cell in sweep.cells if cell.finished]
    if not figures or not cells:
        return None
    along, series = _axes_of(sweep)
    names = list(dict.fromkeys(text_of(cell.values[series]) if series else "" for cell in cells))
    places = _places(cells, along, series, names)
    crowded = along is None and len(cells) > 3
    figure, panels = plots.figure(4.4 * len(figures), 4.9 if crowded else 3.9, 1, len(figures))
    for axes, (name, title) in zip(panels, figures.items(), strict=True):
        for k, label in enumerate(names):
            group = [cell for cell in cells if not series or text_of(cell.values[series]) == label]
            x = np.array([places[cell.name] for cell in group])
            _draw_series(axes, group, x, name, k, joined=along is not None and len(cells) > 1)
        axes.set_title(title if sweep.tested else title.replace(", validation", " (validation)"), fontsize=10)
        plots.grid(axes)
        _label_axis(axes, along, cells, places, crowded)
    if series:
        handles = panels[0].get_legend_handles_labels()[0]
        labels = [f"{series} {name}" for name in names]
        figure.legend(handles, labels, loc="outside upper center", ncols=min(4, len(names)), frameon=False, fontsize=8)
    note = "one training each"
    if sweep.repeats > 1:
        note = "dots: each training; open mark: mean with 95% t interval over repeats"
    elif sweep.tested:
        note += "; 95% interval over patients, not over trainings"
    if any(outcome.never_found for outcome in sweep.outcomes):
        note += "; cross: a class is never found (F1 0)"
    figure.supxlabel(note, fontsize=8, color=plots.INK)
    return figure


def _axes_of(sweep: Sweep) -> tuple[str | None, str | None]:
    """Key along the axis and key of the series; without a key along the axis each cell has a place of its own."""
    values = {key: [o.trial.values[key] for o in sweep.outcomes] for key in sweep.keys}
    numeric = [key for key in values if all(type(value) in (int, float) for value in values[key])]
    if not numeric or len(values) > 2:
        return None, None
    along = max(numeric, key=lambda key: len(set(values[key])))
    return along, next((key for key in values if key != along), None)


def _places(cells: Sequence[Cell], along: str | None, series: str | None, names: Sequence[str]) -> dict[str, float]:
    """Where each cell is on the axis. Series are side by side, so that their dots do not cover each other."""
    if along is None:
        return {cell.name: float(k) for k, cell in enumerate(cells)}
    x = sorted({float(cell.values[along]) for cell in cells})
    step = 0.055 * (len(names) - 1) / 2
    shifts = dict(zip(names, np.linspace(-step, step, len(names)), strict=True))
    places = {}
    for cell in cells:
        shift, value = shifts[text_of(cell.values[series]) if series else ""], float(cell.values[along])
        if _is_log(along, x):
            places[cell.name] = value * float(np.exp(shift * (np.log(x[-1] / x[0]) or 1.0)))
        else:
            places[cell.name] = value + shift * ((x[-1] - x[0]) or 1.0)
    return places


def _is_log(key: str, values: Sequence[float]) -> bool:
    return key.rpartition(".")[2] in _LOG and min(values) > 0 and len(values) > 1


def _draw_series(axes: Axes, cells: Sequence[Cell], x: np.ndarray, name: str, k: int, joined: bool) -> None:
    from matplotlib.transforms import ScaledTranslation

    colour, means = plots.colour(k), [cell.figure(name) for cell in cells]
    centre = np.array([mean.value for mean in means])
    spread = np.abs(np.array([[m.value - m.low, m.high - m.value] for m in means])).T
    order = np.argsort(x)
    if joined:
        axes.plot(x[order], centre[order], color=colour, linewidth=1.0, alpha=0.6)
    mark: dict[str, Any] = {"marker": plots.MARKERS[k % len(plots.MARKERS)], "markersize": 7, "markeredgewidth": 1.6}
    bars: dict[str, Any] = {"capsize": 4, "elinewidth": 1.4, "zorder": 3, "label": str(k)}
    axes.errorbar(x, centre, np.nan_to_num(spread), color=colour, linestyle="", markerfacecolor="white", **mark, **bars)
    # beside the bar, which would hide them
    beside = axes.transData + ScaledTranslation(6 / 72, 0, axes.figure.dpi_scale_trans)
    for cell, place in zip(cells, x, strict=True):
        values, several = cell.values_of(name), len(cell.outcomes) > 1
        if several:
            dots: dict[str, Any] = {"markersize": 4, "alpha": 0.75, "zorder": 4, "transform": beside}
            axes.plot([place] * len(values), values, "o", color=colour, **dots)
        zeros = [o.figures[name].value for o in cell.finished if o.never_found and name in o.figures]
        cross: dict[str, Any] = {"markersize": 7, "markeredgewidth": 1.2, "zorder": 5}
        cross["transform"] = beside if several else axes.transData
        axes.plot([place] * len(zeros), zeros, "x", color=plots.INK, **cross)


def _label_axis(axes: Axes, along: str | None, cells: Sequence[Cell], places: dict[str, float], crowded: bool) -> None:
    if along is None:
        turned: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
        single = all(len(cell.values) == 1 for cell in cells)
        labels = [text_of(next(iter(c.values.values()))) if single else cell_name(c.values) for c in cells]
        axes.set_xticks([places[cell.name] for cell in cells], labels, **turned)
        axes.set_xlim(-0.6, len(cells) - 0.4)
        return
    x = sorted({float(cell.values[along]) for cell in cells})
    if _is_log(along, x):
        axes.set_xscale("log")
        axes.minorticks_off()
    if len(x) <= 8:
        axes.set_xticks(x, [text_of(value) for value in x])
    axes.set_xlabel(along)


def draw_groups(rows: Sequence[Row], title: str = "") -> Figure:
    """F1 (mean and of each class), accuracy and AUROC of each row as dots with intervals."""
    classes = list(dict.fromkeys(name for row in rows for name in row.f1_by_class))
    names = ["F1, mean of classes", *(f"F1, {name}" for name in classes), "accuracy", "AUROC"]
    figure, (axes,) = plots.figure(max(7.0, 1.5 * len(names) + 1), 4.2)
    for k, row in enumerate(rows):
        values = [row.f1, *(row.f1_by_class.get(name) for name in classes), row.accuracy, row.auroc]
        known = [(place, e) for place, e in enumerate(values) if isinstance(e, Estimate) and not math.isnan(e.value)]
        x = [place + 0.18 * (k - (len(rows) - 1) / 2) for place, _ in known]
        spread = [[e.value - e.low for _, e in known], [e.high - e.value for _, e in known]]
        mark: dict[str, Any] = {
            "marker": plots.MARKERS[k % len(plots.MARKERS)],
            "markersize": 6,
            "linestyle": "",
            "label": row.name,
        }
        axes.errorbar(x, [e.value for _, e in known], np.nan_to_num(np.abs(spread)), color=plots.colour(k), **mark)
    axes.set_xticks(range(len(names)), names)
    axes.set(ylim=(-0.02, 1.02), title=title, ylabel="test images; lines: 95% intervals")
    plots.grid(axes, "y")
    axes.legend(fontsize=8, loc="lower right")
    return figure
