"""A comparison as files: one page, its table as CSV and Markdown, ROC and learning curves as PNG."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from covidcxnet.evaluation.bootstrap import Bootstrap
from covidcxnet.evaluation.metrics import NORMAL
from covidcxnet.evaluation.plots import training_curves
from covidcxnet.evaluation.ranking import rank
from covidcxnet.experiments.compare import Comparison
from covidcxnet.experiments.compared_runs import ComparedRun, Row
from covidcxnet.reporting import pages, plots
from covidcxnet.reporting.table import DASH, Cell, Estimate, Share, Table, count, large, with_interval
from enhancement.files import write_all

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_PANELS = 6
_LONGEST_NAME = 26  # of a run in the legend of a ROC panel, which also holds the figure and its interval
_PUBLISHED = "Published: printed in the papers, not measured here"
_NEVER = ["never recognised"]
# below the panel, as curves may lie anywhere
_ROC_LEGEND: dict[str, Any] = {
    "loc": "upper center",
    "bbox_to_anchor": (0.5, -0.12),
    "fontsize": 8,
    "frameon": False,
    "handlelength": 3,
}
_LEARNED = {"loss": "loss", "f1": "F1 (mean over classes)", "auroc": "AUROC", "accuracy": "accuracy"}


def save(comparison: Comparison, folder: str | Path) -> Path:
    """Write `comparison.html`, `.csv`, `.md`, `roc.png` and `learning.png` into a folder, all or none; the page."""
    drawn = {"roc": draw_roc(comparison.runs), "learning": draw_learning(comparison.runs)}
    pictures = {name: figure for name, figure in drawn.items() if figure is not None}
    files = {f"{name}.png": plots.png(figure) for name, figure in pictures.items()}
    files["comparison.csv"] = to_csv(comparison.rows).encode()
    files["comparison.md"] = render(comparison, "comparison.md").encode()
    files["comparison.html"] = render(comparison, "comparison.html", pictures).encode()
    write_all(Path(folder), files)
    return Path(folder) / "comparison.html"


def render(comparison: Comparison, template: str, pictures: Mapping[str, Figure] | None = None) -> str:
    """The comparison as `comparison.html` or `comparison.md`."""
    rows = comparison.rows
    measured, published = [r for r in rows if not r.published], [r for r in rows if r.published]
    tested = count(len(measured), "run") + (f" and {count(len(published), 'published row')}" if published else "")
    sources = [(r.name, f"{r.published}, {r.source}", r.split, r.note or DASH) for r in published]
    return pages.render(
        f"experiments/{template}",
        title=f"Comparison of {tested}",
        comparison=comparison,
        cautions=[(caution.title, caution.text) for caution in comparison.cautions],
        phantoms=[run.name for run in comparison.runs if run.report["data"].get("phantom")],
        tables=[*tables(rows), *within_table(comparison)],
        aurocs=", ".join(f"{row.name} {row.auroc.value:.3f}" for row in measured if row.auroc),
        pictures={name: plots.data_uri(figure) for name, figure in (pictures or {}).items()},
        single=len(roc_classes(comparison.runs)) == 1,
        sources=Table(["Published row", "Source", "Split", "Note"], sources, class_="text"),
    )


def tables(rows: Sequence[Row]) -> tuple[Table, Table]:
    """The figures of each row, and F1 by class; what was published stands below, under a title of its own."""
    classes, differs = classes_of(rows), any(row.difference is not None for row in rows)
    figures: list[Any] = []
    by_class: list[Any] = []
    for published in (False, True):
        part = [row for row in rows if bool(row.published) == published]
        figures += [_PUBLISHED] if published and part else []
        by_class += [_PUBLISHED] if published and any(row.f1_by_class for row in part) else []
        for row in part:
            lost, facts = row.never_found, _facts(row)
            name = Cell(row.name, below=[f"published: {row.published}, {row.source}" if published else row.model])
            f1 = Cell(row.f1, alert=[f"F1 0: {label}" for label in lost])
            # a paper's range over several trainings is not a confidence interval, hence `spread`
            accuracy = Cell(row.accuracy, percent=True, spread=published)
            difference = [Cell(row.difference, signed=True)] if differs else []
            figures.append([name, row.images, f1, accuracy, row.auroc, *difference, row.loss, *facts])
            if row.f1_by_class:
                f1s = [Cell(row.f1_by_class.get(c), alert=_NEVER if c in lost else []) for c in classes]
                by_class.append([name, *f1s])
    header = ["Run", "Test images", "F1, mean over classes", "Accuracy", "AUROC"]
    header += [*(["AUROC − first run's"] if differs else []), "Loss", "Parameters", "FLOPs", "s / epoch", "Best epoch"]
    wide = Table([*header, f"Called {NORMAL}"], figures, class_="comparison")
    return wide, Table(["F1 by class", *classes], by_class, class_="comparison")


def within_table(comparison: Comparison) -> list[Table]:
    """AUROC within each source, and how far each run is from the first; empty where no source has both."""
    if not comparison.within:
        return []
    several = len(comparison.runs) > 1
    header = ["AUROC within one source"]
    for part in comparison.within:
        title = f"{part.source} ({count(part.images, 'image')})"
        header += [title, f"{part.source} − first run's"] if several else [title]
    rows: list[Any] = []
    for run in comparison.runs:
        line: list[Any] = [run.name]
        for part in comparison.within:
            difference = [Cell(part.differences.get(run.name), signed=True)] if several else []
            line += [Cell(part.aurocs.get(run.name)), *difference]
        rows.append(line)
    return [Table(header, rows, class_="comparison")]


def classes_of(rows: Sequence[Row]) -> tuple[str, ...]:
    """Every class that some row has a figure of, "normal" first."""
    names = dict.fromkeys(name for row in rows for name in (*row.f1_by_class, *row.called_normal))
    return tuple(sorted(names, key=lambda name: name != NORMAL))


def _facts(row: Row) -> list[Any]:
    seconds = DASH if row.seconds is None else f"{row.seconds:,.0f}" if row.seconds >= 10 else f"{row.seconds:.1f}"
    epochs = " ".join([str(row.best_epoch or ""), f"of {row.epochs}" if row.epochs is not None else ""]).strip()
    missed = [f"{name}: {Share(n, images)}" for name, (n, images) in row.called_normal.items()]
    shown = Cell("", below=missed) if missed else DASH
    return [large(row.parameters), large(row.flops), seconds, epochs or DASH, shown]


def to_csv(rows: Sequence[Row]) -> str:
    """One line a row and the same columns whatever the row: fractions in 0..1, nothing where unknown."""
    classes, unknown = classes_of(rows), Estimate(float("nan"))
    lines = []
    for row in rows:
        line = {
            "name": row.name,
            "kind": "published, not measured here" if row.published else "measured",
            "study": row.published,
            "model": row.model,
            "test_images": row.images,
            **{name: getattr(row, name) or unknown for name in ("f1", "accuracy", "auroc")},
            "auroc_difference": row.difference or unknown,
            "loss": row.loss or unknown,
            "zero_f1_classes": ";".join(row.never_found),
            "validation_auroc": row.validation_auroc,
            "parameters": row.parameters,
            "flops": None if row.flops is None else int(row.flops),
            "seconds_per_epoch": row.seconds,
            "best_epoch": row.best_epoch,
            "epochs": row.epochs,
        }
        for name in classes:
            missed, images = row.called_normal.get(name, (None, None))
            line[f"f1_{name}"] = row.f1_by_class.get(name, unknown)
            line |= {f"{name}_called_normal": missed, f"{name}_images": images}
        lines.append(line | {"source": row.source, "split": row.split, "note": row.note})
    return Table(list(lines[0]), [list(line.values()) for line in lines]).csv()


def roc_classes(runs: Sequence[ComparedRun]) -> list[str]:
    """Classes that get a panel: those with a ROC curve in some run; the second alone where a run has only two."""
    # of two classes that exclude each other, one curve is the mirror image of the other
    wanted = [run.classes[len(run.classes) == 2 and not run.independent :] for run in runs]
    labels = dict.fromkeys(itertools.chain(*wanted))
    return [label for label in labels if any(_targets(run, label) for run in runs)][:_MOST_PANELS]


def _targets(run: ComparedRun, label: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Scores float [n] and truth bool [n] of a class where it is known; None unless some have it and some do not."""
    if label not in run.classes:
        return None
    k, truth = run.classes.index(label), run.truth[:, run.classes.index(label)]
    scores, positive = run.scores[~np.isnan(truth), k], truth[~np.isnan(truth)] == 1
    return (scores, positive) if positive.any() and not positive.all() else None


def draw_roc(runs: Sequence[ComparedRun]) -> Figure | None:
    """ROC curves of every run, one panel a class; None where no run has one."""
    labels = roc_classes(runs)
    if not labels:
        return None
    side = 5.6 if len(labels) == 1 else 4.9
    figure, panels = plots.panels(len(labels), 3, (side, side + 0.4 + 0.17 * len(runs)))  # with the lines of the legend
    # the plain constrained layout measures a square panel too late and cuts its title off
    figure.set_layout_engine("compressed")
    for axes, label in zip(panels, labels, strict=True):
        axes.plot([0, 1], [0, 1], **plots.REFERENCE, label="chance")
        for k, run in enumerate(runs):
            if (targets := _targets(run, label)) is None:
                continue
            points = plots.corners(rank(*targets, Bootstrap(None, len(targets[0]), resamples=0)).roc_points)
            name = run.name if len(run.name) <= _LONGEST_NAME else f"…{run.name[1 - _LONGEST_NAME :]}"
            # the figure of this class, so that the number belongs to the curve; of two classes it is that of the table
            auroc = with_interval(run.figure("auroc", label))
            axes.plot(points[:, 0], points[:, 1], label=f"{name}  {auroc}", **plots.line(k))
        axes.set(xlabel="1 − specificity", ylabel="sensitivity")
        axes.set_title(fill(f"{label} against the rest", 48), fontsize=10).set_parse_math(False)
        plots.unit_square(axes)
        axes.legend(title="AUROC (95% interval)", title_fontsize=8, **_ROC_LEGEND)
    return figure


def draw_learning(runs: Sequence[ComparedRun]) -> Figure | None:
    """Loss, F1 and AUROC over epochs of every run; None where no run followed one of them on validation."""
    columns = {column for run in runs if run.log is not None and len(run.log) for column in run.log}
    titles = [(name, title) for name, title in _LEARNED.items() if f"val_{name}" in columns]
    if not titles:
        return None
    return training_curves([(run.name, run.log, run.best_epoch) for run in runs], dict(titles[:3]))
