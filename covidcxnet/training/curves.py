"""Learning curves of a run as one picture, readable without colour vision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from enhancement.files import whole_file

NAMES = {
    "val_auroc": "AUROC",
    "val_average_precision": "average precision",
    "val_accuracy": "accuracy",
    "val_f1": "macro F1",
    "val_loss": "loss",
}
STYLES = (("-", "o", "#1b4f72"), ("--", "s", "#b9770e"), (":", "^", "#616a6b"))


def draw_curves(history: list[dict[str, float]], path: str | Path, *, best_epoch: int = 0, monitor: str = "") -> Path:
    """Draw loss and F1 of training and validation, validation figures and learning rate over epochs.

    Parameters
    ----------
    history : list of dict
        Rows of the log.
    path : path-like
        PNG to write.
    best_epoch : int
        Marked by a line; 0 for none.
    monitor : str
        Name of the figure that picked it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    epochs = [row["epoch"] for row in history]
    figure = Figure(figsize=(14, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    both = ("training", "validation")
    figures = [name for name in ("val_auroc", "val_average_precision", "val_accuracy") if _any(history, name)]
    panels = (
        ("loss", dict(zip(("loss", "val_loss"), both, strict=True))),
        ("macro F1", dict(zip(("f1", "val_f1"), both, strict=True))),
        ("validation figures", {name: NAMES[name] for name in figures}),
        ("learning rate", {"learning_rate": "learning rate"}),
    )
    for axes, (title, names) in zip(figure.subplots(1, 4), panels, strict=True):
        for (name, label), (line, marker, colour) in zip(names.items(), STYLES, strict=False):
            values = [row.get(name, float("nan")) for row in history]
            axes.plot(epochs, values, line, marker=marker, color=colour, label=label, markersize=4, linewidth=1.6)
        if best_epoch:
            mark: dict[str, Any] = {"color": "#7f8c8d", "linewidth": 0.9, "linestyle": (0, (1, 2))}
            axes.axvline(best_epoch, **mark)
            if title == "validation figures":
                axes.plot([], [], **mark, label=f"epoch {best_epoch}: best {NAMES.get(monitor, monitor)}")
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
        if title == "learning rate" and any(row.get("learning_rate", 0) > 0 for row in history):
            axes.set_yscale("log")
        if axes.get_legend_handles_labels()[0] and title != "learning rate":
            axes.legend(fontsize=8)
    with whole_file(path) as partial:
        figure.savefig(partial, format="png", dpi=110)
    return Path(path)


def _any(history: list[dict[str, float]], name: str) -> bool:
    return any(name in row for row in history)
