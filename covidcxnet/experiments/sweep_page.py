"""A sweep as files: one page, a row a cell as CSV and Markdown, a row a training as CSV, one plot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from covidcxnet.evaluation.metrics import NORMAL
from covidcxnet.experiments.compared_runs import Row
from covidcxnet.experiments.sweep_plan import cell_name, data_key, text_of
from covidcxnet.experiments.sweep_table import MISSED, PROBES, TEST, VALIDATION, Sweep, to_csv
from covidcxnet.reporting import pages, plots
from covidcxnet.reporting.table import DASH, Cell, Estimate, Share, Table, count
from enhancement.files import write_all

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LOG = ("learning_rate", "weight_decay")  # drawn on a logarithmic axis
_BAR: dict[str, Any] = {"linestyle": "", "capsize": 4, "elinewidth": 1.4, "zorder": 3}
_MEAN: dict[str, Any] = {"markerfacecolor": "white", "markersize": 7, "markeredgewidth": 1.6}
_TRAINING: dict[str, Any] = {"markersize": 4, "alpha": 0.75, "zorder": 4}
_LEGEND: dict[str, Any] = {"frameon": False, "fontsize": 8}
_ZERO: dict[str, Any] = {"markersize": 7, "markeredgewidth": 1.2, "zorder": 5}
_REPEATED = (
    "Means over repeats, which share data and split. The seed of weights, order, augmentation and dropout differs. "
    "95% intervals are Student's t over repeats, cut at 0 and 1. They show what another training might give on these "
    "test images, not what other patients would."
)


def save(sweep: Sweep) -> None:
    """Write the page, the tables and the plot into the sweep's folder: all of them or none."""
    picture = draw(sweep)
    texts = {"runs.csv": to_csv(sweep.runs), "sweep.csv": to_csv(sweep.cells)}
    texts |= {name: render(sweep, name, picture) for name in ("sweep.md", "sweep.html")}
    files = {name: text.encode() for name, text in texts.items()}
    write_all(sweep.folder, files | ({} if picture is None else {"sweep.png": plots.png(picture)}))


def render(sweep: Sweep, template: str, picture: Figure | None) -> str:
    """The sweep as `sweep.html` or `sweep.md`."""
    model = "several models" if "model" in sweep.keys else sweep.recipe.model
    data = "" if "data" in sweep.keys else f", data {sweep.recipe.data}"
    size = f"{count(len(sweep.runs), 'training')} in {count(len(sweep.cells), 'cell')}"
    resampled = (
        "95% intervals: bootstrap over patients (over images where patients are unknown), for one training each."
    )
    single = resampled if sweep.tested else "One training each: there is nothing to take an interval over."
    return pages.render(
        f"experiments/{template}",
        title=f"Sweep of {', '.join(sweep.keys)}" if sweep.keys else f"{sweep.repeats} repeats of one recipe",
        when=f"{size}: {model}{data}; {sweep.created}.",
        phantom=sweep.recipe.data == "phantom" and "data" not in sweep.keys,
        cautions=cautions(sweep),
        table=to_table(sweep),
        intervals=_REPEATED if sweep.repeats > 1 else single,
        picture=None if picture is None else plots.data_uri(picture),
        failed=sweep.failed,
        created=sweep.created,
    )


def cautions(sweep: Sweep) -> list[tuple[str, str]]:
    """What must be known before a value is chosen from these figures: title and text."""
    listed = []
    if sweep.failed:
        names = "; ".join(name for name, _ in sweep.failed)
        listed.append((f"{count(len(sweep.failed), 'training')} failed", f"{names}. The same command tries again."))
    if sweep.runs["zero_f1_classes"].any():
        notes = sweep.cells.set_index("cell")["notes"].str.split("; ").explode()
        zeros = notes[notes.str.contains("F1 0")].groupby(level=0, sort=False).agg(", ".join)
        names = "; ".join(f"{name} ({text})" for name, text in zeros.items())
        listed.append(("A class is never found", f"{names}. A mean over classes or repeats hides that."))
    if len({data_key(trial.recipe) for trial in sweep.trials}) > 1:
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
    rows = []
    for record in sweep.cells.to_dict("records"):
        cell = {str(key): value for key, value in record.items()}
        done, planned = cell["finished"], cell["repeats"]
        means = [cell.get(name, math.nan) for name in ("best_epoch", "seconds")]
        missed = []
        for column in (column for column in cell if column.endswith(MISSED) and not math.isnan(cell[column])):
            name = column.removesuffix(MISSED)
            missed.append(f"{name}: {Share(cell[column], int(cell[f'{name}_images']))}")
        row = [cell[key] for key in sweep.keys] or ["unchanged"]
        row += [str(done) if done == planned else f"{done} of {planned}", *(_estimate(cell, name) for name in figures)]
        row += [DASH if math.isnan(mean) else f"{mean:.3g}" for mean in means]
        row += [Cell("", below=missed) if missed else DASH, Cell("", alert=[cell["notes"]] if cell["notes"] else [])]
        rows.append(row)
    header = [*(sweep.keys or ["recipe"]), "Trainings", *figures.values()]
    probes = [
        f"{title} {' to '.join(dict.fromkeys(f'{value:.3f}' for value in (values.min(), values.max())))}"
        for name, title in PROBES.items()
        if name in sweep.cells and (values := sweep.cells[name]).notna().any()
    ]
    note = f"Intensity probe, which sees simple statistics of the same images: {', '.join(probes)}." if probes else ""
    return Table([*header, "Best epoch", "s / epoch", f"Called {NORMAL}", ""], rows, note=note, class_="comparison")


def _estimate(cell: Mapping[str, Any], name: str) -> Estimate:
    parts = [cell.get(column, math.nan) for column in (name, f"{name}_low", f"{name}_high")]
    counts = [cell.get(column, math.nan) for column in (f"{name}_undefined", "resamples")]
    return Estimate(*parts, *(0 if math.isnan(n) else int(n) for n in counts))


def _shown(sweep: Sweep) -> dict[str, str]:
    """Names and titles of the figures that some training has: the validation AUROC, then those of the test."""
    titles = {"val_auroc": VALIDATION["val_auroc"], **TEST} if sweep.tested else VALIDATION
    return {name: title for name, title in titles.items() if name in sweep.runs}


def draw(sweep: Sweep) -> Figure | None:
    """One panel a figure, each training a dot, each cell its mean and interval; None where nothing was finished."""
    figures = {k: title for k, title in _shown(sweep).items() if not (sweep.tested and k.startswith("val_"))}
    cells = sweep.cells[sweep.cells["finished"] > 0].reset_index(drop=True)
    if not figures or cells.empty:
        return None
    along, series = _axes_of(sweep)
    values = {trial.cell: trial.values for trial in sweep.trials}
    cells["series"] = [text_of(values[cell][series]) if series else "" for cell in cells["cell"]]
    names = list(cells["series"].unique())
    # Without a numeric key each cell has a place of its own.
    ticks = np.array([values[cell][along] if along else k for k, cell in enumerate(cells["cell"])], float)
    logarithmic = along is not None and along.rpartition(".")[2] in _LOG and ticks.min() > 0 and len(set(ticks)) > 1
    # series stand side by side, so that their dots do not cover each other
    shifts = 0.055 * (cells["series"].map(names.index).to_numpy() - (len(names) - 1) / 2)
    if logarithmic:
        cells["x"] = ticks * np.exp(shifts * np.log(ticks.max() / ticks.min()))
    else:
        cells["x"] = ticks + shifts * (np.ptp(ticks) or 1.0)
    crowded = along is None and len(cells) > 3
    figure, panels = plots.panels(len(figures), 2 if len(figures) == 4 else 3, (4.4, 4.9 if crowded else 3.9))
    for axes, (name, title) in zip(panels, figures.items(), strict=True):
        for k, label in enumerate(names):
            group = cells[cells["series"] == label].sort_values("x", kind="stable")
            _draw_series(axes, group, sweep.runs, name, k, joined=along is not None and len(cells) > 1)
        axes.set_title(title if sweep.tested else title.replace(", validation", " (validation)"), fontsize=10)
        plots.grid(axes)
        if along is None:
            turned: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
            labels = [
                text_of(*values[c].values()) if len(sweep.keys) == 1 else cell_name(values[c]) for c in cells["cell"]
            ]
            axes.set_xticks(ticks, labels, **turned)
            axes.set_xlim(-0.6, len(cells) - 0.4)
            continue
        if logarithmic:
            axes.set_xscale("log")
            axes.minorticks_off()
        if len(unique := np.unique(ticks)) <= 8:
            axes.set_xticks(unique, [text_of(float(value)) for value in unique])
        axes.set_xlabel(along)
    if series:
        handles, labels = panels[0].get_legend_handles_labels()[0], [f"{series} {name}" for name in names]
        figure.legend(handles, labels, loc="outside upper center", ncols=min(4, len(names)), **_LEGEND)
    note = "one training each" + (
        "; 95% interval over test patients (images where unknown), not over trainings" if sweep.tested else ""
    )
    if sweep.repeats > 1:
        note = "dots: each training; open mark: mean with 95% t interval over repeats"
    if sweep.runs["zero_f1_classes"].any():
        note += "; cross: a class is never found (F1 0)"
    figure.supxlabel(note, fontsize=8, color=plots.INK)
    return figure


def _axes_of(sweep: Sweep) -> tuple[str | None, str | None]:
    """Key along the axis and key of the series, where there are such."""
    values = {key: [trial.values[key] for trial in sweep.trials] for key in sweep.keys}
    numeric = [key for key in values if all(type(value) in (int, float) for value in values[key])]
    if not numeric or len(values) > 2:
        return None, None
    along = max(numeric, key=lambda key: len(set(values[key])))
    return along, next((key for key in values if key != along), None)


def _draw_series(axes: Axes, cells: pd.DataFrame, runs: pd.DataFrame, name: str, k: int, joined: bool) -> None:
    """Means, intervals and trainings of one series, from left to right."""
    from matplotlib.transforms import ScaledTranslation

    colour, columns = plots.colour(k), [name, f"{name}_low", f"{name}_high"]
    centre, low, high = cells.reindex(columns=columns).to_numpy(float).T
    if joined:
        axes.plot(cells["x"], centre, color=colour, linewidth=1.0, alpha=0.6)
    spread = np.nan_to_num(np.abs([centre - low, high - centre]))
    axes.errorbar(cells["x"], centre, spread, color=colour, marker=plots.marker(k), label=str(k), **_BAR, **_MEAN)
    # beside the bar, which would hide them
    beside = axes.transData + ScaledTranslation(6 / 72, 0, axes.figure.dpi_scale_trans)
    for cell, x in zip(cells["cell"], cells["x"], strict=True):
        repeats = runs[runs["cell"] == cell].dropna(subset=name)
        shift = beside if (runs["cell"] == cell).sum() > 1 else axes.transData
        if shift is beside:
            axes.plot([x] * len(repeats), repeats[name], "o", color=colour, transform=beside, **_TRAINING)
        zeros = repeats.loc[repeats["zero_f1_classes"] != "", name]
        axes.plot([x] * len(zeros), zeros, "x", color=plots.INK, transform=shift, **_ZERO)


def draw_groups(rows: Sequence[Row], title: str = "") -> Figure:
    """F1 (mean and of each class), accuracy and AUROC of each row as dots with intervals."""
    classes = list(dict.fromkeys(name for row in rows for name in row.f1_by_class))
    names = ["F1, mean of classes", *(f"F1, {name}" for name in classes), "accuracy", "AUROC"]
    figure, (axes,) = plots.figure(max(7.0, 1.5 * len(names) + 1), 4.2)
    for k, row in enumerate(rows):
        values = [row.f1, *(row.f1_by_class.get(name) for name in classes), row.accuracy, row.auroc]
        known = [(place, e) for place, e in enumerate(values) if isinstance(e, Estimate) and not math.isnan(e.value)]
        # Side by side, as intervals of one figure would cover each other.
        x = [place + 0.18 * (k - (len(rows) - 1) / 2) for place, _ in known]
        value, low, high = np.array([(e.value, e.low, e.high) for _, e in known]).reshape(-1, 3).T
        style: dict[str, Any] = {"color": plots.colour(k), "marker": plots.marker(k), "markersize": 6, "linestyle": ""}
        axes.errorbar(x, value, np.nan_to_num(np.abs([value - low, high - value])), label=row.name, **style)
    axes.set_xticks(range(len(names)), names)
    axes.set(ylim=(-0.02, 1.02), title=title, ylabel="test images; lines: 95% intervals")
    plots.grid(axes, "y")
    # Below the axes, where it covers no interval.
    figure.legend(loc="outside lower center", ncols=max(1, len(rows)), fontsize=8, frameon=False)
    return figure
